// What is known about a model: what it takes and answers with, how good it is, and what it was trained on.

import { $, make, show } from "./elements.js";
import { list, number, percent, t } from "./language.js";

const MANY = { "single-label": "many", "multi-label": "manyLabels", regression: "manyQuantities" };

/** The sentence under the title: what to do with the model. */
export function lead(model, canDraw) {
  const { task, kind } = model;
  const outputs = list(model.outputs, MANY[task], task === "single-label" ? "list" : "listAll");
  if (task !== "single-label") return t(task === "regression" ? "leadQuantity" : "leadLabels", { outputs });
  const leads = { picture: canDraw ? "leadDraw" : "leadPicture", sound: "leadSound", text: "leadText", table: "leadTable", numbers: "leadNumbers" };
  return t(leads[kind] ?? "leadNumbers", { outputs });
}

/** Show the card of a model. */
export function showCard(model) {
  const outputs = list(model.outputs, MANY[model.task], model.task === "single-label" ? "list" : "listAll");
  const tasks = { "single-label": "taskSingle", "multi-label": "taskMulti", regression: "taskRegression" };
  const facts = [
    ["kind", takes(model)],
    ["task", t(tasks[model.task], { outputs })],
    ["test", tested(model.test)],
    ["labels", model.thresholds.length ? t("tuned") : ""],
    ["trained", model.trained_on],
    ["size", t("parameters", { n: number(model.parameters) })],
    ["version", `Epochal ${model.version}`],
    ["sha256", model.sha256],
  ];
  $("facts").replaceChildren(
    ...facts.filter(([, value]) => value).map(([key, value]) => make("div", { className: `fact ${key}` }, make("dt", { textContent: t(key) }), make("dd", { textContent: value }))),
  );
  show(true, $("card"));
}

function takes({ kind, input }) {
  if (kind === "picture") {
    const colour = { 1: t("grey"), 3: t("colour") }[input.channels] ?? t("channels", { n: input.channels });
    return t("kindPicture", { width: input.size[1], height: input.size[0], colour });
  }
  if (kind === "sound") return t("kindSound", { seconds: number(input.seconds, 2), rate: number(input.rate) });
  if (kind === "text") return t("kindText");
  if (kind === "table") return t("kindTable", { n: number(input.columns.length) });
  return t("kindNumbers", { shape: input.shape.join(" × ") });
}

/** The test result: the score, its interval, and on how many examples. */
function tested(test) {
  if (!test) return t("testNone");
  const { n, interval, accuracy } = test;
  const parts = accuracy != null ? [t("testAccuracy", { percent: percent(accuracy) })] : [];
  if (interval) parts.push(t("testInterval", { low: percent(interval[0]), high: percent(interval[1]) }));
  for (const name of ["mae", "r2", "f1"]) if (accuracy == null && test[name] != null) parts.push(t(name, { value: number(test[name], 3) }));
  if (n) parts.push(t("testCount", { n: number(n) }));
  return parts.join(" · ");
}
