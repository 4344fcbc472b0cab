// What people give becomes the model's raw input, by the same arithmetic as in Python: see epochal/data/inputs.

import { t } from "./language.js";
import { decode } from "./sound.js";
import { Hashed } from "./hashed.js";
import { BytePairs, WordPiece } from "./pieces.js";
import { fitted } from "./resize.js";
import { resample } from "./resample.js";

/** What went wrong, with what to do: shown as they are. */
export class Problem extends Error {
  constructor(message, fix = "") {
    super(message);
    this.fix = fix;
  }
}

const ARRAYS = { uint8: Uint8Array, int16: Int16Array, int32: Int32Array, float32: Float32Array, float64: Float64Array, int64: BigInt64Array };

export const shapeOf = ({ card }) => card.input.shape;
const sizeOf = (about) => shapeOf(about).reduce((product, side) => product * side, 1);

/** Return the raw inputs in one item: one, or one for each row of a table. */
export async function encode(item, about) {
  const { kind, input } = about.card;
  if (Array.isArray(item)) return [numbers(item.flat(Infinity), about)];
  if (kind === "table") return item instanceof Blob ? rows(await item.text(), about) : [row(item, about.columns)];
  if (kind === "picture") return [await picture(item, input)];
  if (kind === "sound") return [await sound(item, input)];
  if (kind === "text") return [textInput(await textOf(item), about)];
  throw new Problem(t("noArrays", item), t("noArraysFix"));
}

function numbers(values, about) {
  const { dtype } = about.card.input;
  if (values.length !== sizeOf(about)) throw new Problem(t("wrongCount", { given: values.length, n: sizeOf(about) }), "");
  return dtype === "int64" ? BigInt64Array.from(values, BigInt) : ARRAYS[dtype].from(values);
}

/** A picture of any size: grey or RGB, without transparency, fitted into the size of the model. */
async function picture(file, input) {
  const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" }).catch(() => {
    throw new Problem(t("notPictures", file), t("notPicturesFix"));
  });
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  const planes = Array.from({ length: input.channels }, (_, channel) => {
    const plane = new Uint8Array(width * height);
    for (let pixel = 0; pixel < plane.length; pixel++) {
      const [red, green, blue] = [data[4 * pixel], data[4 * pixel + 1], data[4 * pixel + 2]];
      plane[pixel] = input.channels === 1 ? (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16 : data[4 * pixel + channel];
    }
    return { data: plane, width, height };
  });
  const made = new Uint8Array(input.channels * input.size[0] * input.size[1]);
  fitted(planes, input.size, input.fit).forEach((plane, channel) => made.set(plane, channel * plane.length));
  return made;
}

const SPLITTERS = { ngrams: Hashed, words: Hashed, wordpiece: WordPiece, bpe: BytePairs };

/** The numbers of a text's n-grams, with their counts, or of its words or their pieces; then zeros. */
export function textInput(text, about) {
  about.splitter ??= new SPLITTERS[about.text.tokens](about.text);
  const [made, length] = [new Int32Array(sizeOf(about)), shapeOf(about).at(-1)];
  about.splitter.encode(text, length).forEach((numbers, row) => made.set(numbers, row * length));
  return made;
}

/** Return a text, or that in a file: in UTF-8, or in UTF-16 if the file says so. */
export async function textOf(item) {
  if (typeof item === "string") return item;
  const content = new Uint8Array(await item.arrayBuffer());
  const mark = (content[0] << 8) | content[1];
  const code = mark === 0xfffe ? "utf-16le" : mark === 0xfeff ? "utf-16be" : "utf-8";
  const text = new TextDecoder(code).decode(content);
  const lineOf = (sign) => text.slice(0, text.indexOf(sign)).split("\n").length;
  try {
    new TextDecoder(code, { fatal: true }).decode(content);
  } catch {
    throw new Problem(t("notText", { name: item.name, line: lineOf("\ufffd"), code: code.slice(0, 6).toUpperCase() }), t("notTextFix"));
  }
  if (text.includes("\0")) throw new Problem(t("zeroByte", { name: item.name, line: lineOf("\0") }), t("notTextFix"));
  return text;
}

/** A sound: silence around it does not count; what is too long loses both ends alike, or is cut into windows. */
async function sound(file, { shape, rate }) {
  const found = wavOf(await file.arrayBuffer()) ?? (await decode(file).catch(() => {
    throw new Problem(t("undecodable", file), t("undecodableFix"));
  }));
  const [length, windows] = [shape.at(-1), shape.length === 2 ? shape[0] : 1];
  const made = new Int16Array(length * windows);
  const frames = found.samples.length;
  const needed = Math.min(frames, Math.ceil((length * found.rate) / rate));
  const count = Math.min(windows, Math.ceil((2 * (frames - needed)) / needed) + 1);
  for (let number = 0; number < count; number++) {
    const first = count > 1 ? Math.floor(((frames - needed) * number) / (count - 1)) : Math.floor((frames - needed) / 2);
    let part = found.samples.subarray(first, first + needed);
    if (needed === frames && part.some(Boolean)) {
      part = part.subarray(part.findIndex(Boolean), part.findLastIndex(Boolean) + 1);
    }
    const samples = resample(part, found.rate, rate).subarray(0, length);
    const begin = number * length + Math.floor((length - samples.length) / 2);
    samples.forEach((sample, index) => (made[begin + index] = Math.min(Math.max(even(sample * 32768), -32768), 32767)));
  }
  return made;
}

/** Round as Python and NumPy do: halves to the even neighbour. */
export function even(value) {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2) ? floor + 1 : floor;
}

/** Return the samples (-1 to 1) of a WAV file with 16 bits, averaged over its channels; null for others. */
function wavOf(content) {
  const view = new DataView(content);
  const name = (at) => String.fromCharCode(...new Uint8Array(content, at, 4));
  if (content.byteLength < 44 || name(0) !== "RIFF") return null;
  let layout = null;
  for (let at = 12; at + 8 <= content.byteLength; ) {
    const length = view.getUint32(at + 4, true);
    if (name(at) === "fmt ") layout = { code: view.getUint16(at + 8, true), channels: view.getUint16(at + 10, true), rate: view.getUint32(at + 12, true), bits: view.getUint16(at + 22, true) };
    if (name(at) === "data") {
      if (layout?.code !== 1 || layout.bits !== 16) return null;
      const frames = Math.floor(Math.min(length, content.byteLength - at - 8) / (2 * layout.channels));
      const samples = new Float32Array(frames);
      for (let frame = 0; frame < frames; frame++) {
        for (let channel = 0; channel < layout.channels; channel++) {
          samples[frame] += view.getInt16(at + 8 + 2 * (frame * layout.channels + channel), true) / 32768 / layout.channels;
        }
      }
      return { samples, rate: layout.rate };
    }
    at += 8 + length + (length % 2);
  }
  return null;
}

const MISSING = new Set(["", "?", "NA", "N/A", "n/a", "#N/A", "nan", "NaN", "NAN", "null", "NULL", "None", "<NA>", "NaT"]);

/** One row, by the names of its columns: numbers less an offset, the places of words, NaN where something is missing. */
function row(values, columns) {
  return Float32Array.from(columns, (column) => {
    const value = values[column.name];
    const text = String(value ?? "").trim();
    if (MISSING.has(text)) return NaN;
    if (column.kind === "category") return column.words.indexOf(text) + 1;
    const number = column.kind === "date" ? day(text) : Number(text);
    if (Number.isNaN(number)) throw new Problem(t("wrongCell", { text, column: column.name }), t(column.kind === "date" ? "wrongDateFix" : "wrongNumberFix"));
    return number - column.offset;
  });
}

/** A date as days since 1970. */
function day(text) {
  const german = /^(\d{1,2})\.(\d{1,2})\.(\d{4})$/.exec(text);
  const [, year, month, date, time = ""] = german ? [null, german[3], german[2], german[1]] : (/^(\d{4})[-/](\d{1,2})[-/](\d{1,2})(?:[ T](.+))?$/.exec(text) ?? []);
  return year ? Date.parse(`${year}-${month.padStart(2, "0")}-${date.padStart(2, "0")}T${time || "00:00"}Z`) / 86_400_000 : NaN;
}

/** The rows of a CSV file with a header. */
function rows(text, { columns }) {
  const first = text.slice(0, text.search(/[\r\n]|$/));
  const separator = [",", ";", "\t"].sort((a, b) => first.split(b).length - first.split(a).length)[0];
  const [header, ...cells] = cellsOf(text.replace(/^\ufeff/, ""), separator);
  if (!cells.length || !header.some((name) => columns.some((column) => column.name === name.trim()))) throw new Problem(t("noTable"), t("noTableFix"));
  return cells.map((line) => row(Object.fromEntries(header.map((name, index) => [name.trim(), line[index]])), columns));
}

function cellsOf(text, separator) {
  const lines = [[]];
  const cell = new RegExp(`(?:"((?:[^"]|"")*)"|([^${separator}\\r\\n]*))(${separator}|\\r?\\n|\\r|$)`, "y");
  for (let found; cell.lastIndex < text.length && (found = cell.exec(text)); ) {
    lines.at(-1).push(found[1]?.replaceAll('""', '"') ?? found[2]);
    if (found[3] !== separator) lines.push([]);
  }
  return lines.filter((line) => line.some((value) => value.trim()));
}
