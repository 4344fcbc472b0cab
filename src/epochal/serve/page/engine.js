// Answers, from the server that shows this page. Exported pages have another file of this name, which computes them in the browser.

import { current, t } from "./language.js";

const RETRIES = 3;

export const isLocal = false;

/** What went wrong, with what to do: shown as they are. */
export class Problem extends Error {
  constructor(message, fix = "") {
    super(message);
    this.fix = fix;
  }
}

/** Return the descriptions of all models. */
export async function models() {
  return (await call("model")).models;
}

/** Return the predictions of `items`: files, or values (texts, rows, arrays of numbers). Calls `onWait` with the seconds until it asks again. */
export function predict(model, items, { signal, onWait } = {}) {
  return call("predict", model, items, signal, onWait);
}

/** Return what speaks for the prediction of one item. */
export function explain(model, item, { signal } = {}) {
  return call("explain", model, [item], signal);
}

async function call(path, model, items, signal, onWait = () => {}) {
  const options = { signal, headers: { "Accept-Language": current() } };
  if (items) {
    options.method = "POST";
    if (items[0] instanceof Blob) {
      options.body = new FormData();
      for (const file of items) options.body.append("file", file, file.name);
    } else {
      options.body = JSON.stringify({ inputs: items });
      options.headers["Content-Type"] = "application/json";
    }
  }
  const address = model ? `${path}/${encodeURIComponent(model.name)}` : path;
  for (let tried = 0; ; tried++) {
    const response = await fetch(address, options).catch((error) => {
      throw error.name === "AbortError" ? error : new Problem(t("unreachable"), t("unreachableFix"));
    });
    if (response.status === 503 && tried < RETRIES) {
      const seconds = Number(response.headers.get("Retry-After")) || 1;
      onWait(seconds);
      await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
      continue;
    }
    return read(response);
  }
}

async function read(response) {
  const answer = await response.json().catch(() => ({}));
  // If no item could be read, the answer says so of each.
  if (response.ok || answer.predictions) return answer;
  const { message = `${response.status} ${response.statusText}`, fix } = answer.error ?? {};
  throw new Problem(message, fix);
}
