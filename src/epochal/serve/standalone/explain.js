// What speaks for a prediction: how much it loses without each part of the input, as on the server (see epochal/serve/explain.py).

const [MOST, CELLS] = [64, 8];

// Words; in scripts without blanks between words, characters.
const SCRIPTS = "\\u2e80-\\u9fff\\uac00-\\ud7af\\uf900-\\ufaff";
const WORDS = new RegExp(`[${SCRIPTS}]|[^\\s${SCRIPTS}]+`, "g");

/** Return inputs that each lack a part, how their losses become a map, and the input as a picture. */
export function plan(input, about) {
  const { kind, input: described } = about.card;
  if (kind === "picture") return picturePlan(input, described);
  if (kind === "sound") return soundPlan(input);
  const usual = about.columns?.map(({ usual }) => usual ?? NaN) ?? described.mean;
  if (usual?.length !== input.length || input.length > MOST) return { inputs: [], draw: () => null, seen: null };
  const names = about.columns ?? Array.from(input, (_, index) => ({ name: String(index) }));
  const inputs = Array.from(input, (_, place) => input.map((value, index) => (index === place ? usual[index] : value)));
  const draw = (lost) => ({ kind: "columns", parts: names.map((column, index) => ({ name: column.name, value: words(column, input[index]), weight: lost[index] })) });
  return { inputs, draw, seen: null };
}

/** What each input after the first loses of the first's answer: shares of the largest loss, -1 to 1. */
export function losses([whole, ...others], isQuantity, best) {
  const lost = others.map((values) => whole[best] - values[best]).map((loss) => (isQuantity ? Math.abs(loss) : loss));
  const most = Math.max(...lost.map(Math.abs), 0);
  return lost.map((loss) => (most > 1e-6 ? loss / most : 0));
}

function words(column, value) {
  if (Number.isNaN(value)) return "–";
  if (column.kind === "category") return column.words[value - 1] ?? "?";
  const number = value + (column.offset ?? 0);
  return column.kind === "date" ? new Date(86_400_000 * number).toISOString().slice(0, 10) : String(Number(number.toPrecision(6)));
}

/** Patches of two cells to a side, which overlap, in the colour of the edges or else the mean of training pictures. */
function picturePlan(input, { channels, size: [height, width], mean }) {
  const [rows, columns] = [Math.min(CELLS, height), Math.min(CELLS, width)];
  const [high, wide] = [Math.min(2, rows), Math.min(2, columns)];
  const spans = [spansOf(rows, height), spansOf(columns, width)];
  const ground = groundOf(input, channels, height, width, mean);
  const places = [];
  for (let row = 0; row + high <= rows; row++) for (let column = 0; column + wide <= columns; column++) places.push([row, column]);
  const inputs = places.map(([row, column]) => {
    const made = input.slice();
    for (let channel = 0; channel < channels; channel++) {
      for (let y = spans[0][row]; y < spans[0][row + high]; y++) {
        made.fill(ground[channel], (channel * height + y) * width + spans[1][column], (channel * height + y) * width + spans[1][column + wide]);
      }
    }
    return made;
  });
  const draw = (lost) => {
    const [total, count] = [new Array(rows * columns).fill(0), new Array(rows * columns).fill(0)];
    places.forEach(([row, column], place) => {
      for (let y = row; y < row + high; y++) {
        for (let x = column; x < column + wide; x++) [total[y * columns + x], count[y * columns + x]] = [total[y * columns + x] + Math.max(lost[place], 0), count[y * columns + x] + 1];
      }
    });
    return { kind: "picture", width: columns, height: rows, values: total.map((sum, cell) => sum / count[cell]) };
  };
  return { inputs, draw, seen: [1, 3].includes(channels) && input instanceof Uint8Array ? seenPicture(input, channels, height, width) : null };
}

function groundOf(input, channels, height, width, mean) {
  const edge = [];
  for (let x = 0; x < width; x++) edge.push(x, (height - 1) * width + x);
  for (let y = 0; y < height; y++) edge.push(y * width, y * width + width - 1);
  const level = (channel, pixel) => Number(input[channel * height * width + pixel]);
  const middle = Array.from({ length: channels }, (_, channel) => edge.map((pixel) => level(channel, pixel)).sort((a, b) => a - b)[edge.length >> 1]);
  const close = edge.filter((pixel) => middle.every((value, channel) => Math.abs(level(channel, pixel) - value) <= 16));
  return close.length >= 0.75 * edge.length ? middle : middle.map((_, channel) => 255 * (mean[channel] ?? mean[0]));
}

function seenPicture(input, channels, height, width) {
  return drawn(width, height, (context) => {
    const picture = new ImageData(width, height);
    for (let pixel = 0; pixel < width * height; pixel++) {
      for (let channel = 0; channel < 3; channel++) picture.data[4 * pixel + channel] = input[(channels === 3 ? channel * height * width : 0) + pixel];
      picture.data[4 * pixel + 3] = 255;
    }
    context.putImageData(picture, 0, 0);
  });
}

/** Each word of a text is left out; of a long one, several together. */
export function textPlan(text, encode) {
  const words = Array.from(text.matchAll(WORDS), (found) => [found.index, found.index + found[0].length]);
  const step = Math.ceil(words.length / MOST);
  const spans = words.filter((_, place) => place % step === 0).map(([begin], part) => [begin, words[Math.min((part + 1) * step, words.length) - 1][1]]);
  const inputs = spans.map(([begin, end]) => encode(text.slice(0, begin) + text.slice(end)));
  const draw = (lost) => spans.length ? { kind: "words", parts: spans.map(([begin, end], part) => ({ text: text.slice(begin, end), weight: lost[part] })) } : null;
  return { inputs, draw, seen: null };
}

/** Moments are silent, all of the same length; the sound is seen as its waveform. */
function soundPlan(input) {
  const count = Math.min(MOST / 2, input.length);
  const spans = spansOf(count, input.length);
  const inputs = Array.from({ length: count }, (_, place) => input.slice().fill(0, spans[place], spans[place + 1]));
  const seen = drawn(512, 128, (context) => {
    context.fillRect(0, 0, 512, 128);
    context.fillStyle = "white";
    for (let x = 0; x < 512; x++) {
      const part = input.subarray(Math.floor((x * input.length) / 512), Math.max(Math.floor(((x + 1) * input.length) / 512), 1));
      const tall = Math.max(1, (124 * part.reduce((peak, sample) => Math.max(peak, Math.abs(sample)), 0)) / 32768);
      context.fillRect(x, (128 - tall) / 2, 1, tall);
    }
  });
  return { inputs, draw: (lost) => ({ kind: "picture", width: count, height: 1, values: lost.map((loss) => Math.max(loss, 0)) }), seen };
}

function drawn(width, height, draw) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  draw(canvas.getContext("2d"));
  return canvas.toDataURL();
}

const spansOf = (count, length) => Array.from({ length: count + 1 }, (_, place) => Math.round((place * length) / count));
