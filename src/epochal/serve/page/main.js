// The page: takes inputs of the model's kind, asks the engine, and shows what it says. What it asks is never older than what it shows:
// one request is under way at a time, then the newest input is asked for, and those between are skipped.

import { $, debounced, make, show, showProblem } from "./elements.js";
import * as engine from "./engine.js";
import { showAnswer, showNothing } from "./answer.js";
import { lead, showCard } from "./card.js";
import { Gallery } from "./gallery.js";
import { inputs } from "./inputs.js";
import { store, stored, t, translate } from "./language.js";
import { showPixels, showWhy } from "./why.js";

let all = [];
let model = null;
let input = null; // what is on the left side of the page, for this kind of model
let shown = null; // the last answer and explanation, to be shown again in another language

const asked = { next: null, busy: false, generation: 0, why: null };
const gallery = new Gallery(engine.predict, openItem);

/** Ask for the answer to one item, a file or a value, unless a newer one comes first. */
function ask(item, pixels) {
  asked.next = item;
  asked.why?.abort();
  $("why").classList.add("stale");
  if (pixels) {
    showPixels(pixels, model.input.size[1], model.input.size[0]);
    if ($("why").hidden) {
      $("why-title").textContent = t("seen");
      show(false, $("map-figure"), $("words"), $("columns"));
      show(true, $("why"), $("figures"), $("seen-figure"));
      $("why-note").textContent = "";
    }
  }
  if (!asked.busy) askNext();
}

async function askNext() {
  asked.busy = true;
  const { generation } = asked;
  let item;
  while ((item = asked.next) !== null) {
    asked.next = null;
    const began = performance.now();
    try {
      const answer = await engine.predict(model, [item], { onWait: (seconds) => showProblem({ message: t("busy", { seconds }) }) });
      if (generation !== asked.generation) break;
      const [prediction] = answer.predictions;
      if (prediction.error) fail(prediction.error);
      else answered(prediction, { total: performance.now() - began, model: answer.milliseconds });
    } catch (error) {
      if (generation === asked.generation) fail(error);
    }
    if (asked.next === null && generation === asked.generation && !$("answered").hidden) explainLater(item, generation);
  }
  asked.busy = false;
  if (asked.next !== null) askNext();
}

function answered(prediction, times) {
  shown = { prediction, times };
  showAnswer(model, prediction, times);
}

function fail(error) {
  shown = null;
  showNothing();
  show(false, $("waiting"));
  showProblem(error);
}

const explainLater = debounced(300, async (item, generation) => {
  if (generation !== asked.generation) return;
  const why = (asked.why = new AbortController());
  try {
    const found = await engine.explain(model, item, why);
    if (why.signal.aborted || !shown) return;
    shown.why = [found, item];
    await showWhy(model, found, item);
    $("why").classList.remove("stale");
  } catch {
    // Without an explanation the answer still stands.
    if (!why.signal.aborted) show(false, $("why"));
  }
});

/** Forget the input and its answer. */
function nothing() {
  asked.generation++;
  asked.next = null;
  asked.why?.abort();
  shown = null;
  showNothing();
}

/** Take files that were chosen, dropped, pasted or photographed. */
async function take(files) {
  files = [...files];
  if (!files.length || !model) return;
  try {
    const ready = await Promise.all(files.map((file) => input.read(file).catch((error) => Object.assign(error, { file: file.name }))));
    if (ready.length === 1 && ready[0] instanceof Error) throw ready[0];
    if (ready.length === 1 && !input.isTable(ready[0])) {
      gallery.clear();
      input.open(ready[0]);
      return;
    }
    nothing();
    const parts = await Promise.all(ready.map((file) => (input.split && file instanceof Blob ? input.split(file) : [file])));
    const answers = await gallery.add(model, parts.flat());
    if (answers.length === 1) openItem(null, answers[0]);
    // The first of several pictures or sounds is shown, unless people have gone on meanwhile.
    else if (!shown && asked.next === null && !asked.busy) gallery.openFirst();
  } catch (error) {
    if (error.name === "AbortError") return;
    gallery.clear();
    fail(error);
  }
}

/** Show an item of the gallery as if it were the only input. */
function openItem(file, prediction) {
  if (file && !input.isTable(file)) input.open(file);
  else if (!prediction.error) answered(prediction, null);
}

async function choose(name) {
  model = all.find((one) => one.name === name) ?? all[0];
  nothing();
  gallery.clear();
  for (const panel of document.querySelectorAll("[data-kind]")) show(panel.dataset.kind === model.kind, panel);
  input = inputs[model.kind] ?? inputs.numbers;
  $("name").textContent = document.title = model.name;
  // What was begun for another model, such as a pause after a key, comes to nothing.
  const chosen = model;
  const only = (act) => (...given) => chosen === model && act(...given);
  input.begin(model, { ask: only(ask), nothing: only(nothing), fail: only(fail) });
  $("files").accept = input.accept;
  writeTexts();
  show(true, $("work"));
}

/** Write all texts that depend on the language. */
function writeTexts() {
  translate();
  $("theme").textContent = t(isDark() ? "light" : "dark");
  if (engine.isLocal) document.querySelector("footer p").textContent = t("localBrowser");
  if (!model) return;
  $("lead").textContent = lead(model, input.canDraw?.());
  showCard(model);
  input.write();
  if (!shown) return;
  showAnswer(model, shown.prediction, shown.times);
  if (shown.why) showWhy(model, ...shown.why);
}

async function start() {
  try {
    all = await engine.models();
  } catch (error) {
    $("lead").textContent = "";
    show(true, $("work"));
    show(false, $("ask"), $("waiting"));
    return showProblem(error);
  }
  $("models").replaceChildren(...all.map(({ name }) => make("option", { value: name, textContent: name })));
  show(all.length > 1, document.querySelector(".models"));
  await choose($("models").value);
}

const isDark = () => (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";

$("models").addEventListener("change", () => choose($("models").value));
$("language").addEventListener("click", () => {
  translate(true);
  writeTexts();
});
$("theme").addEventListener("click", () => {
  store("theme", (document.documentElement.dataset.theme = isDark() ? "light" : "dark"));
  writeTexts();
});
$("close-gallery").addEventListener("click", () => gallery.clear());
for (const chooser of [$("files"), $("camera")]) {
  chooser.addEventListener("change", () => {
    take(chooser.files);
    chooser.value = "";
  });
}
document.addEventListener("paste", (event) => {
  if (!event.clipboardData.files.length) return;
  event.preventDefault();
  take(event.clipboardData.files);
});
const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
document.addEventListener("dragover", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  show(true, $("dropping"));
});
document.addEventListener("dragleave", (event) => event.relatedTarget || show(false, $("dropping")));
document.addEventListener("drop", (event) => {
  show(false, $("dropping"));
  if (!hasFiles(event)) return;
  event.preventDefault();
  take(event.dataTransfer.files);
});

if (stored("theme")) document.documentElement.dataset.theme = stored("theme");
writeTexts();
start();
