// The answer: the label, bars of probabilities that move, and how long it took.

import { $, debounced, make, show } from "./elements.js";
import { number, percent, t } from "./language.js";
import { isLocal } from "./engine.js";

const IN_ORDER = 12; // so few classes keep their order, which is calmer than bars that change places
const SHOWN = 8; // of more, the most probable are shown

let bars = new Map();

/** Show one prediction of a model. `times` are the milliseconds in all and of the model. */
export function showAnswer(model, prediction, times) {
  show(false, $("problem"), $("waiting"));
  show(true, $("answered"));
  const isQuantity = model.task === "regression";
  $("label").textContent = isQuantity ? quantities(prediction) : prediction.label || t("none");
  $("label").classList.toggle("long", $("label").textContent.length > 12);
  $("sure").textContent = prediction.probability != null ? t("sure", { percent: percent(prediction.probability) }) : isQuantity ? quantity(model) : "";
  isQuantity ? $("bars").replaceChildren() : showBars(model, prediction);
  show(Boolean(times), $("latency"));
  if (times) $("latency").textContent = t(isLocal ? "latencyLocal" : "latency", { total: number(times.total), model: number(times.model, 1) });
  speak(prediction);
}

/** Show that there is no answer, since there is no input. */
export function showNothing() {
  show(false, $("problem"), $("answered"), $("why"));
  show(true, $("waiting"));
  $("spoken").textContent = "";
}

/** Say the answer to those who listen, once it has settled. */
const speak = debounced(700, ({ label, probability }) => {
  if ($("answered").hidden) return;
  $("spoken").textContent = probability == null ? label || t("none") : t("spoken", { label, percent: percent(probability) });
});

/** The name of the only quantity; several are named with their values. */
const quantity = ({ outputs }) => (outputs.length === 1 ? outputs[0] : "");

function quantities({ values }) {
  const all = Object.entries(values);
  const digits = (value) => new Intl.NumberFormat(document.documentElement.lang, { maximumSignificantDigits: 5 }).format(value);
  return all.length === 1 ? digits(all[0][1]) : all.map(([name, value]) => `${name} ${digits(value)}`).join("\n");
}

function showBars(model, { label, values }) {
  const all = Object.entries(values);
  // An object puts names that are numbers first, whatever their order in the model.
  const place = new Map(model.outputs.map((name, index) => [name, index]));
  const isFew = all.length <= IN_ORDER;
  all.sort(isFew ? (a, b) => place.get(a[0]) - place.get(b[0]) : (a, b) => b[1] - a[1]);
  const shown = isFew ? all : all.slice(0, SHOWN);
  const chosen = new Set(model.task === "multi-label" ? label.split(", ") : [label]);
  const rows = shown.map(([name, value]) => {
    const bar = bars.get(name) ?? newBar(name);
    bar.classList.toggle("first", chosen.has(name));
    bar.querySelector(".fill").style.transform = `scaleX(${value})`;
    bar.querySelector(".percent").textContent = `${percent(value)} %`;
    return [name, bar];
  });
  bars = new Map(rows);
  const elements = rows.map(([, bar]) => bar);
  // Bars that stay where they are are not touched, so that their movement is not interrupted.
  if (elements.length !== $("bars").children.length || elements.some((bar, index) => bar !== $("bars").children[index])) {
    $("bars").replaceChildren(...elements);
  }
  show(!isFew, $("rest"));
  if (!isFew) $("rest").textContent = t("rest", { n: number(all.length - SHOWN), percent: percent(Math.max(all[SHOWN][1], 0.001)) });
}

function newBar(name) {
  const track = make("span", { className: "track" }, make("span", { className: "fill" }));
  return make("li", {}, make("span", { className: "name", textContent: name, title: name }), track, make("span", { className: "percent" }));
}
