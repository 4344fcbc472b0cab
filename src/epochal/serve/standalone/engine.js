// Answers without a server: the model runs in the browser, in ONNX Runtime. It stands for the page's engine.js in exported pages.

import { Problem, encode, shapeOf, textInput, textOf } from "./encode.js";
import { losses, plan, textPlan } from "./explain.js";
import * as ort from "./ort.js";

const AT_ONCE = 64;

export const isLocal = true;
export { Problem };

let session;
let about; // what model.json says: the card of the model, and how its inputs are read

/** Load the runtime and the model; return its description. */
export async function models() {
  const [described, model, runtime] = await Promise.all([content("model.json"), content("model.onnx"), content("runtime.wasm.gz")]);
  about = JSON.parse(new TextDecoder().decode(described));
  const unpacked = new Blob([runtime]).stream().pipeThrough(new DecompressionStream("gzip"));
  // One thread: more would need headers that not every host can send.
  Object.assign(ort.env.wasm, { numThreads: 1, wasmBinary: await new Response(unpacked).arrayBuffer(), wasmPaths: { wasm: "runtime.wasm" } });
  session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  return [about.card];
}

/** Return the predictions of `items`: files, or values (rows, arrays of numbers). */
export async function predict(_, items, { signal } = {}) {
  const began = performance.now();
  const predictions = [];
  const read = [];
  for (const [place, item] of items.entries()) {
    const name = item.name ?? String(place);
    try {
      const inputs = await encode(item, about);
      inputs.forEach((input, row) => {
        read.push([predictions.length, input]);
        predictions.push({ name: inputs.length > 1 ? `${name}[${row}]` : name });
      });
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      predictions.push({ name, error: { message: error.message, fix: error.fix } });
    }
  }
  for (let first = 0; first < read.length && !signal?.aborted; first += AT_ONCE) {
    const some = read.slice(first, first + AT_ONCE);
    const values = await run(some.map(([, input]) => input));
    some.forEach(([place], index) => Object.assign(predictions[place], answer(values[index])));
  }
  return { model: about.card.name, predictions, milliseconds: performance.now() - began };
}

/** Return what speaks for the prediction of one item, by what it loses without each part. */
export async function explain(_, item) {
  const [input] = await encode(item, about);
  const { inputs, draw, seen } = about.text ? textPlan(await textOf(item), (text) => textInput(text, about)) : plan(input, about);
  const values = [];
  for (let first = 0; first <= inputs.length; first += AT_ONCE) values.push(...(await run([input, ...inputs].slice(first, first + AT_ONCE))));
  const prediction = answer(values[0]);
  const { outputs, task } = about.card;
  const best = { "single-label": outputs.indexOf(prediction.label), "multi-label": values[0].indexOf(Math.max(...values[0])), regression: 0 }[task];
  return { seen, map: draw(losses(values, task === "regression", best)), prediction };
}

/** Compute a batch: return the values of each input. */
async function run(inputs) {
  const { length } = inputs[0];
  const all = new inputs[0].constructor(length * inputs.length);
  inputs.forEach((input, index) => all.set(input, index * length));
  const found = await session.run({ [session.inputNames[0]]: new ort.Tensor(about.card.input.dtype, all, [inputs.length, ...shapeOf(about)]) });
  const { data } = found[session.outputNames[0]];
  const count = data.length / inputs.length;
  return inputs.map((_, index) => Array.from(data.subarray(index * count, (index + 1) * count)));
}

function answer(values) {
  const { outputs, task, thresholds } = about.card;
  const named = Object.fromEntries(outputs.map((name, index) => [name, values[index]]));
  if (task === "regression") return { label: outputs.map((name, index) => `${outputs.length > 1 ? `${name} ` : ""}${values[index].toPrecision(5)}`).join(", "), probability: null, runner_up: null, values: named };
  if (task === "multi-label") return { label: outputs.filter((_, index) => values[index] >= (thresholds[index] ?? 0.5)).join(", "), probability: null, runner_up: null, values: named };
  const [first, second] = values.map((value, index) => [value / (thresholds[index] ?? 1), index]).sort((a, b) => b[0] - a[0] || a[1] - b[1]).map(([, index]) => index);
  return { label: outputs[first], probability: values[first], runner_up: { label: outputs[second], probability: values[second] }, values: named };
}

/** Return a file beside the page; or what the page itself has of it, where it is one file. */
async function content(name) {
  const embedded = document.getElementById(name);
  if (embedded) return (await fetch(`data:application/octet-stream;base64,${embedded.textContent}`)).arrayBuffer();
  const response = await fetch(new URL(name, import.meta.url));
  if (!response.ok) throw new Problem(`${name}: ${response.status}`, "");
  return response.arrayBuffer();
}
