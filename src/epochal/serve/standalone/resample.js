// The rate of a sound is changed by the same filter as in Python: a sinc under Kaiser's window (see epochal/data/inputs/sound/resample.py).

const [CROSSINGS, BETA] = [10, 5];

/** Return samples of `old` per second at `to` ones. */
export function resample(samples, old, to) {
  if (old === to) return samples;
  const shared = divisor(old, to);
  const [up, down] = [to / shared, old / shared];
  const half = CROSSINGS * Math.max(up, down);
  const filter = filterOf(half, up, Math.max(up, down));
  const made = new Float32Array(Math.ceil((samples.length * up) / down));
  // In a sound of `up` times the rate, sample n of the result is at n * down, and sample m of this one at m * up.
  made.forEach((_, n) => {
    const middle = n * down + half;
    let sum = 0;
    const last = Math.min(Math.floor(middle / up), samples.length - 1);
    for (let m = Math.max(Math.ceil((middle - 2 * half) / up), 0); m <= last; m++) sum += samples[m] * filter[middle - m * up];
    made[n] = sum;
  });
  return made;
}

function filterOf(half, up, widest) {
  const window = Float64Array.from({ length: 2 * half + 1 }, (_, at) => bessel(BETA * Math.sqrt(1 - (at / half - 1) ** 2)) / bessel(BETA));
  const whole = window.map((weight, at) => weight * sinc((at - half) / widest));
  const total = whole.reduce((sum, weight) => sum + weight, 0);
  return whole.map((weight) => (weight * up) / total);
}

const divisor = (a, b) => (b ? divisor(b, a % b) : a);
const sinc = (x) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));

/** The modified Bessel function of the first kind of order 0. */
function bessel(x) {
  let [sum, term] = [1, 1];
  for (let k = 1; term > 1e-12 * sum; k++) sum += term *= (x / (2 * k)) ** 2;
  return sum;
}
