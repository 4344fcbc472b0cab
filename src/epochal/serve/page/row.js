// A form for one row of a table, made from the model's columns, with typical values.

import { make } from "./elements.js";
import { number, t } from "./language.js";

export const FEW = 24; // columns that are shown at first

/** Fill a form with a field for each column; `values` are those already given. */
export function makeForm(form, columns, values = {}) {
  const lists = [];
  const fields = columns.map((column, index) => {
    const value = values[column.name] ?? typical(column);
    const input = column.kind === "category" ? choice(column, index, value, lists) : amount(column, value);
    input.name = column.name;
    return make("label", { hidden: index >= FEW }, make("span", { className: "name", textContent: column.name, title: column.name }), input);
  });
  form.replaceChildren(...fields, ...lists);
}

const typical = (column) => String(column.kind === "number" ? Number(column.middle?.toPrecision?.(6) ?? column.middle ?? NaN) : (column.middle ?? column.words?.[0] ?? ""));

/** Few words are chosen from; of many, the commonest are proposed. */
function choice(column, index, value, lists) {
  if (column.words.length < 50) {
    const options = ["", ...column.words].map((word) => make("option", { value: word, textContent: word || t("missing"), selected: word === value }));
    return make("select", {}, ...options);
  }
  lists.push(make("datalist", { id: `words-${index}` }, ...column.words.map((word) => make("option", { value: word }))));
  const input = make("input", { value, placeholder: t("missing") });
  input.setAttribute("list", `words-${index}`);
  return input;
}

function amount(column, value) {
  const range = column.low == null ? "" : t("range", column.kind === "date" ? column : { low: number(column.low, 3), high: number(column.high, 3) });
  const input = make("input", { value: value === "NaN" ? "" : value, placeholder: t("missing"), title: range });
  if (column.kind === "number") input.inputMode = "decimal";
  return input;
}

/** Return the row in a form; empty fields are left out. */
export function readRow(form) {
  const row = {};
  for (const { name, value, inputMode } of form.elements) {
    if (!value.trim()) continue;
    const amount = Number(value.replace(",", "."));
    // What is not a number is sent as it is: the answer says what is wrong with it.
    row[name] = inputMode === "decimal" && Number.isFinite(amount) ? amount : value;
  }
  return row;
}

const AT_ONCE = 1000; // rows in one request

/** Return a table as files of so many rows, each with the header, and the number of its `first` row. */
export async function split(file) {
  const text = await file.text();
  // The server knows other formats and encodings better.
  if (!/\.(csv|tsv)$/i.test(file.name) || text.includes("\ufffd")) return [Object.assign(file, { first: 0 })];
  const lines = linesOf(text);
  const files = [];
  for (let first = 1; first < lines.length || !files.length; first += AT_ONCE) {
    const part = new File([lines[0], ...lines.slice(first, first + AT_ONCE)], file.name, { type: file.type });
    files.push(Object.assign(part, { first: first - 1 }));
  }
  return files;
}

/** The lines of a table with their ends, also those that go on within quotes. */
function linesOf(text) {
  const lines = [];
  let line = "";
  for (const piece of text.match(/[^\n]*\n|[^\n]+$/g) ?? [""]) {
    line += piece;
    if (line.split('"').length % 2) {
      if (line.trim()) lines.push(line);
      line = "";
    }
  }
  return line ? [...lines, line] : lines;
}
