// What speaks for the answer: a map over the picture, shaded words, or columns.

import { $, make, show } from "./elements.js";
import { t } from "./language.js";

const SHOWN = 12; // columns
const SLIGHT = 0.02; // shares below this are not worth a colour

/** Show an explanation of a model's answer for an item. Weights are shares of the largest, from -1 to 1. */
export async function showWhy(model, { seen, map, prediction }, item) {
  const isQuantity = model.task === "regression";
  $("why-title").textContent = isQuantity ? t("whyQuantity") : t("why", { label: prediction.label || t("none") });
  const kind = map?.kind;
  show(Boolean(seen), $("seen-figure"));
  show(Boolean(seen) && kind === "picture", $("map-figure"));
  show(Boolean(seen), $("figures"));
  show(kind === "words", $("words"));
  show(kind === "columns", $("columns"));
  if (seen) {
    const picture = await load(seen);
    drawSeen($("seen"), picture);
    if (kind === "picture") drawMap($("map"), picture, map, prediction.label);
  }
  if (kind === "words") showWords(map.parts, typeof item === "string" ? item : map.parts.map(({ text }) => text).join(" "));
  if (kind === "columns") showColumns(map.parts);
  const notes = { picture: model.kind === "sound" ? "whySound" : "whyPicture", words: "whyText", columns: isQuantity ? "whyTableQuantity" : "whyTable" };
  $("why-note").textContent = kind ? t(notes[kind]) : "";
  show(Boolean(seen || kind), $("why"));
}

/** Show grey pixels (0 to 255) as what the network sees, at once. */
export function showPixels(pixels, width, height) {
  const picture = new ImageData(width, height);
  pixels.forEach((level, index) => picture.data.set([level, level, level, 255], 4 * index));
  const canvas = $("seen");
  fit(canvas, width, height);
  canvas.getContext("2d").putImageData(picture, 0, 0);
}

async function load(address) {
  const picture = new Image();
  picture.src = address;
  await picture.decode();
  return picture;
}

function fit(canvas, width, height) {
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  canvas.classList.toggle("pixels", Math.max(width, height) <= 96);
  canvas.classList.toggle("wide", width > 2 * height);
}

function drawSeen(canvas, picture) {
  fit(canvas, picture.naturalWidth, picture.naturalHeight);
  canvas.getContext("2d").drawImage(picture, 0, 0);
}

/** Draw the picture in faint grey, and over it, in a warm colour, what speaks for the answer. */
function drawMap(canvas, picture, { width, height, values }, label) {
  const times = Math.max(1, Math.round(400 / Math.max(picture.naturalWidth, picture.naturalHeight)));
  fit(canvas, picture.naturalWidth * times, picture.naturalHeight * times);
  canvas.classList.toggle("wide", picture.naturalWidth > 2 * picture.naturalHeight);
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.filter = "grayscale(1) contrast(0.75)";
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  context.filter = "none";
  const heat = make("canvas", { width, height });
  const colours = new ImageData(width, height);
  const most = Math.max(...values, 1e-9);
  values.forEach((value, index) => colours.data.set([255, 110, 20, 215 * (value / most)], 4 * index));
  heat.getContext("2d").putImageData(colours, 0, 0);
  context.imageSmoothingEnabled = true;
  context.imageSmoothingQuality = "high";
  context.drawImage(heat, 0, 0, canvas.width, canvas.height);
  canvas.setAttribute("aria-label", height === 1 ? t("mapLabelTime", { label }) : t("mapLabel", { label, where: where(width, height, values) }));
}

/** In which ninth of the picture most speaks for the answer, in words. */
function where(width, height, values) {
  const ninths = new Array(9).fill(0);
  values.forEach((value, index) => {
    const [x, y] = [index % width, Math.floor(index / width)];
    ninths[3 * Math.floor((3 * y) / height) + Math.floor((3 * x) / width)] += value;
  });
  return t("where").split(",")[ninths.indexOf(Math.max(...ninths))];
}

/** Shade the words of a text: those between parts, such as blanks, stay as they are. */
function showWords(parts, whole) {
  const shown = [];
  let at = 0;
  for (const { text, weight } of parts) {
    const begin = whole.indexOf(text, at);
    if (begin >= 0) shown.push(whole.slice(at, begin));
    if (Math.abs(weight) < SLIGHT) {
      shown.push(text);
    } else {
      const mark = make("mark", { textContent: text, className: weight > 0 ? "for" : "against", title: t(weight > 0 ? "wordsFor" : "wordsAgainst") });
      mark.style.setProperty("--share", Math.abs(weight));
      shown.push(mark);
    }
    at = begin < 0 ? at : begin + text.length;
  }
  $("words").replaceChildren(...shown, whole.slice(at));
}

function showColumns(parts) {
  const sorted = [...parts].sort((a, b) => Math.abs(b.weight) - Math.abs(a.weight)).slice(0, SHOWN);
  const telling = sorted.filter(({ weight }) => Math.abs(weight) >= SLIGHT);
  const rows = (telling.length ? telling : sorted).map(({ name, value, weight }) => {
    const fill = make("span", { className: weight >= 0 ? "fill for" : "fill against" });
    fill.style.setProperty("--share", Math.abs(weight));
    const said = make("span", { className: "unseen", textContent: t(weight > 0 ? "wordsFor" : weight < 0 ? "wordsAgainst" : "wordsNeither") });
    return make(
      "li", {}, make("span", { className: "name", textContent: name, title: name }), make("span", { className: "value", textContent: value, title: value }),
      make("span", { className: "track" }, fill, said),
    );
  });
  $("columns").replaceChildren(...rows);
}
