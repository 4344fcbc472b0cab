// Several inputs: a card for each with its answer, and all answers as a CSV file.

import { $, make, show } from "./elements.js";
import { number, percent, t } from "./language.js";

const AT_ONCE = 16; // files in one request
const SHOWN = 240; // cards; the CSV file has all answers

/** Predict all files and show them; `open` is called with a file and its prediction when its card is chosen. */
export class Gallery {
  constructor(predict, open) {
    this.predict = predict;
    this.open = open;
    this.clear();
  }

  clear() {
    this.run?.abort();
    this.answers = [];
    for (const address of this.addresses ?? []) URL.revokeObjectURL(address);
    this.addresses = [];
    $("items").replaceChildren();
    show(false, $("gallery"));
  }

  /** Predict files in turn; errors among them stand for files that could not be read. Returns the answers. */
  async add(model, files) {
    this.clear();
    this.model = model;
    this.run = new AbortController();
    const { signal } = this.run;
    show(true, $("gallery"));
    // Each part of a table is a request of its own.
    const step = files.some(({ first }) => first !== undefined) ? 1 : AT_ONCE;
    for (let place = 0; place < files.length && !signal.aborted; place += step) {
      const part = files.slice(place, place + step);
      const some = part.filter((file) => file instanceof Blob);
      this.count(files.length);
      const { predictions } = some.length ? await this.predict(model, some, { signal }) : { predictions: [] };
      if (signal.aborted) break;
      // A table gives an answer for each of its rows; other files have one each.
      const isEach = predictions.length === some.length;
      this.hasFiles = isEach;
      for (const file of part) {
        if (file instanceof Error) this.put(null, { name: file.file, error: { message: file.message, fix: file.fix } });
        else if (isEach) this.put(file, predictions.shift());
      }
      if (!isEach) predictions.forEach((prediction, row) => this.put(null, { ...prediction, ...this.named(part[0], row) }));
    }
    this.count(this.answers.length);
    this.offer();
    return this.answers;
  }

  /** The name of a row in its whole table, if that was split. */
  named({ name, first }, row) {
    return first ? { name: `${name}[${first + row}]` } : {};
  }

  put(file, prediction) {
    this.answers.push(prediction);
    if (this.answers.length > SHOWN) return;
    const { name, label, probability, error } = prediction;
    const shown = make("span", { className: "name", textContent: name, title: name });
    const card = make("button", { type: "button", className: error ? "item failed" : "item" }, ...this.picture(file), shown);
    if (error) {
      card.append(make("span", { className: "said", textContent: error.message }), make("span", { className: "note", textContent: error.fix }));
    } else {
      const fill = make("span", { className: "fill" });
      fill.style.transform = `scaleX(${probability ?? 0})`;
      card.append(make("strong", { textContent: label || t("none") }));
      if (probability != null) card.append(make("span", { className: "percent", textContent: `${percent(probability)} %` }), make("span", { className: "track" }, fill));
    }
    card.disabled = Boolean(error);
    card.addEventListener("click", () => {
      $("items").querySelector("[aria-current]")?.removeAttribute("aria-current");
      card.setAttribute("aria-current", "true");
      this.open(file, prediction);
    });
    $("items").append(make("li", {}, card));
  }

  /** Choose the card of the first file, if it was read. */
  openFirst() {
    if (this.hasFiles) $("items").querySelector("button:enabled")?.click();
  }

  picture(file) {
    if (this.model.kind !== "picture" || !file) return [];
    const address = URL.createObjectURL(file);
    this.addresses.push(address);
    const picture = make("img", { src: address, alt: "", loading: "lazy", decoding: "async" });
    picture.classList.toggle("pixels", Math.max(...this.model.input.size) <= 64);
    picture.addEventListener("error", () => picture.remove());
    return [picture];
  }

  count(all) {
    const [n, bad] = [this.answers.length, this.answers.filter(({ error }) => error).length];
    const said = n < all ? t("galleryWorking", { n: number(n), all: number(all) }) : t(bad ? "galleryFailed" : "galleryCount", { n: number(n - bad), bad: number(bad) });
    $("gallery-count").textContent = n > SHOWN ? `${said}. ${t("galleryMore", { n: number(SHOWN) })}` : said;
  }

  offer() {
    const address = URL.createObjectURL(new Blob([csv(this.answers, this.model.outputs)], { type: "text/csv" }));
    this.addresses.push(address);
    $("csv").href = address;
  }
}

/** Return answers as CSV: name, label, probability, each output, and what was wrong. */
export function csv(answers, outputs) {
  const rows = answers.map(({ name, label, probability, values = {}, error }) => [
    name, label, probability, ...outputs.map((output) => values[output]), error ? `${error.message} ${error.fix}` : "",
  ]);
  return [["name", "label", "probability", ...outputs, "error"], ...rows].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}

function cell(value) {
  let text = String(value ?? "");
  // A spreadsheet would compute a text that begins so; numbers may begin with a minus.
  if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
