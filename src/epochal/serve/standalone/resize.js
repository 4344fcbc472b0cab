// Pictures are fitted by the same integer arithmetic as in Pillow, so that the same picture gives the same pixels: but for one level where
// Pillow takes the axes in the other order.

import { even } from "./encode.js";

const BITS = 22; // of a weight
const GAP = 3; // pictures larger than this many times are first averaged over whole blocks

/** Fit planes (one for each channel) into [height, width] as a rule says: "pad", "crop" or "squash". */
export function fitted(planes, [height, width], fit) {
  const source = planes[0];
  if (source.width === width && source.height === height) return planes.map(({ data }) => data);
  const scales = [width / source.width, height / source.height];
  if (fit === "pad") {
    const scale = Math.min(...scales);
    const inner = [Math.max(1, even(source.width * scale)), Math.max(1, even(source.height * scale))];
    const small = planes.map((plane) => resized(plane, ...inner));
    const ground = edges(small, width, height);
    const [left, top] = [Math.floor((width - inner[0]) / 2), Math.floor((height - inner[1]) / 2)];
    return small.map((plane, channel) => {
      const made = new Uint8Array(width * height).fill(ground[channel]);
      for (let y = 0; y < inner[1]; y++) made.set(plane.data.subarray(y * inner[0], (y + 1) * inner[0]), (top + y) * width + left);
      return made;
    });
  }
  if (fit === "crop") {
    const scale = Math.max(...scales);
    const cut = [Math.min(source.width, Math.max(1, even(width / scale))), Math.min(source.height, Math.max(1, even(height / scale)))];
    planes = planes.map((plane) => cropped(plane, Math.floor((plane.width - cut[0]) / 2), Math.floor((plane.height - cut[1]) / 2), ...cut));
  }
  return planes.map((plane) => resized(plane, width, height).data);
}

function cropped(plane, left, top, width, height) {
  const data = new Uint8Array(width * height);
  for (let y = 0; y < height; y++) data.set(plane.data.subarray((top + y) * plane.width + left, (top + y) * plane.width + left + width), y * width);
  return { data, width, height };
}

/** The colour that most pixels are close to at the edges that will be padded, or black. */
function edges(planes, width, height) {
  const pixels = [];
  const { width: wide, height: high } = planes[0];
  if (high < height) for (let x = 0; x < wide; x++) pixels.push(x, (high - 1) * wide + x);
  if (wide < width) for (let y = 0; y < high; y++) pixels.push(y * wide, y * wide + wide - 1);
  if (!pixels.length) return planes.map(() => 0);
  const middle = planes.map(({ data }) => {
    const sorted = pixels.map((pixel) => data[pixel]).sort((a, b) => a - b);
    return (sorted[Math.floor((sorted.length - 1) / 2)] + sorted[Math.ceil((sorted.length - 1) / 2)]) / 2;
  });
  const close = pixels.filter((pixel) => planes.every(({ data }, channel) => Math.abs(data[pixel] - middle[channel]) <= 16));
  return close.length >= 0.75 * pixels.length ? middle.map(Math.floor) : middle.map(() => 0);
}

function resized(plane, width, height) {
  const factors = [Math.floor(plane.width / width / GAP) || 1, Math.floor(plane.height / height / GAP) || 1];
  const box = [plane.width / factors[0], plane.height / factors[1]];
  const small = factors[0] > 1 || factors[1] > 1 ? reduced(plane, ...factors) : plane;
  const wide = (picture) => across(picture, width, box[0]);
  const high = (picture) => turned(across(turned(picture), height, box[1]));
  // A picture that becomes wider and less high takes fewer steps in this order, which newer versions of Pillow choose, too.
  return width > small.width && height < small.height ? wide(high(small)) : high(wide(small));
}

const turned = ({ data, width, height }) => {
  const made = new Uint8Array(data.length);
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) made[x * height + y] = data[y * width + x];
  return { data: made, width: height, height: width };
};

/** Give a picture another width; `end` is where it ends, which may be within its last pixel. */
function across(picture, to, end) {
  const { data, width, height } = picture;
  if (to === width && end === width) return picture;
  const made = new Uint8Array(to * height);
  for (const [place, first, weights] of weightsOf(width, to, end)) {
    for (let y = 0; y < height; y++) {
      let sum = 1 << (BITS - 1);
      weights.forEach((weight, index) => (sum += weight * data[y * width + first + index]));
      made[y * to + place] = Math.min(Math.max(sum >> BITS, 0), 255);
    }
  }
  return { data: made, width: to, height };
}

/** Yield for each new pixel the first one it is made of, and the weights of that and the next ones: a triangle. */
function* weightsOf(from, to, end) {
  const scale = end / to;
  const support = Math.max(scale, 1);
  for (let place = 0; place < to; place++) {
    const centre = (place + 0.5) * scale;
    const first = Math.max(Math.trunc(centre - support + 0.5), 0);
    const last = Math.min(Math.trunc(centre + support + 0.5), from);
    const weights = Array.from({ length: last - first }, (_, index) => Math.max(1 - Math.abs((index + first - centre + 0.5) / support), 0));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    yield [place, first, weights.map((weight) => Math.trunc(0.5 + (weight / total) * (1 << BITS)))];
  }
}

/** Average blocks; those at the far edges may be smaller. */
function reduced(plane, wide, high) {
  const [width, height] = [Math.ceil(plane.width / wide), Math.ceil(plane.height / high)];
  const data = new Uint8Array(width * height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const [right, bottom] = [Math.min((x + 1) * wide, plane.width), Math.min((y + 1) * high, plane.height)];
      const count = (right - x * wide) * (bottom - y * high);
      let sum = Math.floor(count / 2);
      for (let row = y * high; row < bottom; row++) for (let column = x * wide; column < right; column++) sum += plane.data[row * plane.width + column];
      data[y * width + x] = Math.floor(sum / count);
    }
  }
  return { data, width, height };
}
