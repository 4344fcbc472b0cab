// What each kind of model takes, and how people give it that. Each kind has:
//   accept     the files that can be chosen
//   begin      called when a model is chosen, with what an input can do: ask(item), nothing(), fail(problem)
//   write      writes its texts, again in another language
//   read       turns a file into one that the server reads
//   isTable    whether a file has many items
//   split      turns such a file into several that the server takes, if that is needed
//   open       shows one file as the input, and asks for its answer

import { Paper } from "./draw.js";
import { $, debounced, show } from "./elements.js";
import { number, t } from "./language.js";
import { manner, raster } from "./raster.js";
import { FEW, makeForm, readRow, split } from "./row.js";
import { Recording, decode, drawWave, loudest, wav } from "./sound.js";

const SMALL = 64; // pixels a side: larger pictures are not drawn by hand
const READ = ["image/png", "image/jpeg", "image/webp", "image/bmp", "image/tiff", "image/gif"]; // by the server
const PAUSE = 150; // milliseconds after a key

const choosing = (...ids) => ids.forEach((id) => $(id).addEventListener("click", () => $("files").click()));
const hasTable = ({ name }) => /\.(csv|tsv|jsonl|ndjson|json|parquet|npy|npz)$/i.test(name);
const same = async (file) => file;

class PictureInput {
  accept = "image/*,.npy";
  isTable = hasTable;

  constructor() {
    this.paper = new Paper($("paper"), (strokes) => this.drawn(strokes));
    $("paper").addEventListener("pointerdown", () => this.preview(null), { capture: true });
    $("undo").addEventListener("click", () => (this.file ? this.preview(null) : this.paper.undo()));
    $("clear").addEventListener("click", () => this.clear());
    $("photo").addEventListener("click", () => $("camera").click());
    choosing("choose-pictures", "drop");
  }

  canDraw() {
    const { channels, dtype, size } = this.model.input;
    return channels === 1 && dtype === "uint8" && Math.max(...size) <= SMALL;
  }

  begin(model, to) {
    Object.assign(this, { model, to });
    this.manner = manner(this.model.input);
    this.clear();
    const canDraw = this.canDraw();
    show(canDraw, $("paper"), $("drawing"));
    show(!canDraw, $("drop"));
    show(matchMedia("(any-pointer: coarse)").matches, $("photo"));
    const { width, height, pen } = this.manner;
    this.paper.fit(width, height, Math.min((1.2 * pen) / width, 0.1));
  }

  write() {
    const { width, height, size, pen, centred } = this.manner;
    const values = { width, height, box: number(size, 1), pen: number(pen, 1), centred: t(centred) };
    $("how").textContent = t(this.canDraw() ? "how" : "howFiles", values);
    this.paper.show();
  }

  clear() {
    this.preview(null);
    this.paper.clear();
  }

  drawn(strokes) {
    show(!strokes.length && !this.file && this.canDraw(), $("draw-here"));
    if (!strokes.length) return this.to.nothing();
    const { width, height } = this.manner;
    const pixels = raster(strokes, this.manner);
    this.to.ask([Array.from({ length: height }, (_, row) => pixels.slice(row * width, (row + 1) * width))], pixels);
  }

  /** Show a file in place of the drawing; `null` takes it away. */
  preview(file) {
    if (file === null && !this.file) return;
    this.file = file;
    URL.revokeObjectURL($("picture").src);
    if (file) {
      this.paper.strokes = [];
      this.paper.show();
      $("picture").src = URL.createObjectURL(file);
      $("picture").alt = file.name;
      $("picture").classList.toggle("pixels", Math.max(...this.model.input.size) <= SMALL);
    } else {
      this.to.nothing();
    }
    show(Boolean(file), $("picture"));
    show(!file && this.canDraw(), $("draw-here"));
  }

  /** Pictures of kinds that only the browser reads become PNG. */
  async read(file) {
    if (READ.includes(file.type) || hasTable(file)) return file;
    const picture = await createImageBitmap(file).catch(() => {
      throw Object.assign(new Error(t("notPictures", file)), { fix: t("notPicturesFix") });
    });
    const canvas = new OffscreenCanvas(picture.width, picture.height);
    canvas.getContext("2d").drawImage(picture, 0, 0);
    return new File([await canvas.convertToBlob()], file.name, { type: "image/png" });
  }

  open(file) {
    this.preview(file);
    this.to.ask(file);
  }
}

class SoundInput {
  accept = "audio/*";
  isTable = hasTable;

  constructor() {
    $("record").addEventListener("click", () => (this.recording ? this.finish() : this.record()));
    choosing("choose-sounds");
  }

  begin(model, to) {
    Object.assign(this, { model, to });
    this.samples = new Float32Array();
    show(false, $("listen"));
  }

  write() {
    const { seconds, rate } = this.model.input;
    $("sound-note").textContent = t("soundNote", { seconds: number(seconds, 2), rate: number(rate) });
    drawWave($("wave"), this.samples);
  }

  async record() {
    this.to.nothing();
    const recording = new Recording();
    try {
      await recording.start();
    } catch (error) {
      return this.to.fail({ message: t("microphone", error), fix: t("microphoneFix") });
    }
    this.recording = recording;
    $("record").textContent = t("stop");
    $("record").classList.add("on");
    this.watch();
  }

  /** Show what is being recorded: the last two seconds or so move by. */
  watch() {
    if (!this.recording) return;
    $("sound-note").textContent = t("recording", { seconds: number(this.recording.seconds, 1) });
    drawWave($("wave"), this.recording.peaks.slice(-800));
    requestAnimationFrame(() => this.watch());
  }

  async finish() {
    const { recording } = this;
    this.recording = null;
    const { samples, rate } = await recording.stop();
    $("record").textContent = t("record");
    $("record").classList.remove("on");
    this.hear(wav(loudest(samples, rate, this.model.input.seconds), rate, "recording.wav"));
  }

  /** Sounds of kinds other than WAV are decoded by the browser, since not every server can. */
  async read(file) {
    if (/^audio\/(x-|vnd\.)?wave?$/.test(file.type) || hasTable(file)) return file;
    const { samples, rate } = await decode(file).catch(() => {
      throw Object.assign(new Error(t("undecodable", file)), { fix: t("undecodableFix") });
    });
    return wav(samples, rate, file.name.replace(/\.\w+$/, "") + ".wav");
  }

  async hear(file) {
    URL.revokeObjectURL($("listen").src);
    $("listen").src = URL.createObjectURL(file);
    show(true, $("listen"));
    this.samples = (await decode(file).catch(() => ({ samples: new Float32Array() }))).samples;
    this.write();
    this.to.ask(file);
  }

  open(file) {
    this.hear(file);
  }
}

class TextInput {
  accept = ".txt,.csv,.tsv,.jsonl,text/plain";
  isTable = hasTable;
  read = same;

  constructor() {
    $("text").addEventListener("input", debounced(PAUSE, () => this.typed()));
    $("clear-text").addEventListener("click", () => {
      $("text").value = "";
      $("text").focus();
      this.typed();
    });
    choosing("choose-texts");
  }

  begin(model, to) {
    Object.assign(this, { model, to });
    this.typed();
  }

  write() {}

  typed() {
    $("text").value.trim() ? this.to.ask($("text").value) : this.to.nothing();
  }

  /** Put the text of a file into the field. If it is not UTF-8, the server reads it instead. */
  async open(file) {
    const text = await file.text();
    const isReadable = !text.includes("\ufffd");
    $("text").value = isReadable ? text : "";
    this.to.ask(isReadable ? text : file);
  }
}

class RowInput {
  accept = ".csv,.tsv,.jsonl,.json,.parquet,text/csv";
  isTable = () => true;
  read = same;
  split = split;

  constructor() {
    $("row").addEventListener("submit", (event) => event.preventDefault());
    $("row").addEventListener("input", debounced(PAUSE, () => this.ask()));
    $("typical").addEventListener("click", () => {
      makeForm($("row"), this.model.input.columns);
      this.ask();
    });
    $("more").addEventListener("click", () => {
      show(true, ...$("row").querySelectorAll("label"));
      show(false, $("more"));
    });
    choosing("choose-tables");
  }

  begin(model, to) {
    Object.assign(this, { model, to });
    makeForm($("row"), this.model.input.columns);
    show(this.model.input.columns.length > FEW, $("more"));
    this.ask();
  }

  write() {
    const isWhole = $("more").hidden;
    makeForm($("row"), this.model.input.columns, Object.fromEntries([...$("row").elements].map(({ name, value }) => [name, value])));
    if (isWhole) show(true, ...$("row").querySelectorAll("label"));
    $("more").textContent = t("all", { n: number(this.model.input.columns.length) });
  }

  ask() {
    this.to.ask(readRow($("row")));
  }
}

class NumbersInput {
  accept = ".npy,.csv";
  isTable = hasTable;
  read = same;

  constructor() {
    $("numbers").addEventListener("input", debounced(PAUSE, () => this.typed()));
    choosing("choose-arrays");
  }

  begin(model, to) {
    Object.assign(this, { model, to });
    this.typed();
  }

  write() {
    const n = this.model.input.shape.reduce((product, side) => product * side, 1);
    const given = this.values().length;
    const isPart = given > 0 && given !== n;
    const values = { n: number(n), given: number(given), shape: this.model.input.shape.join(" × ") };
    $("numbers-note").textContent = t(isPart ? "numbersCount" : "numbersNote", values);
    return given === n;
  }

  values() {
    return ($("numbers").value.match(/[^\s,;[\]]+/g) ?? []).map(Number);
  }

  typed() {
    this.write() ? this.to.ask(shaped(this.values(), this.model.input.shape)) : this.to.nothing();
  }

  open(file) {
    this.to.ask(file);
  }
}

/** Return numbers as nested arrays of a shape. */
function shaped(values, shape) {
  if (shape.length < 2) return values;
  const step = values.length / shape[0];
  return Array.from({ length: shape[0] }, (_, index) => shaped(values.slice(index * step, (index + 1) * step), shape.slice(1)));
}

const kinds = { picture: PictureInput, sound: SoundInput, text: TextInput, table: RowInput, numbers: NumbersInput };

/** The inputs by kind; `model` is the one they are for, and `to` what they can do. */
export const inputs = Object.fromEntries(Object.entries(kinds).map(([kind, Kind]) => [kind, new Kind()]));
