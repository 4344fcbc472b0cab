// Recording sounds, reading sound files, and writing both as WAV, which the server reads in any case.

const LIMIT = 60; // seconds of a recording

/** A recording that is being made: `peaks` has the loudest sample of each piece so far. */
export class Recording {
  constructor() {
    this.pieces = [];
    this.peaks = [];
    this.length = 0;
  }

  /** Ask for the microphone and begin. */
  async start() {
    this.stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, noiseSuppression: false, echoCancellation: false } });
    this.context = new AudioContext();
    await this.context.audioWorklet.addModule(import.meta.resolve("./recorder.js"));
    const node = new AudioWorkletNode(this.context, "recorder");
    node.port.onmessage = ({ data }) => {
      if (this.seconds >= LIMIT) return;
      this.pieces.push(data);
      this.peaks.push(data.reduce((peak, sample) => Math.max(peak, Math.abs(sample)), 0));
      this.length += data.length;
    };
    this.context.createMediaStreamSource(this.stream).connect(node);
    await this.context.resume();
  }

  get seconds() {
    return this.length / this.context.sampleRate;
  }

  /** Stop, and return the samples and their rate. */
  async stop() {
    for (const track of this.stream.getTracks()) track.stop();
    const { sampleRate } = this.context;
    await this.context.close();
    return { samples: joined(this.pieces, this.length), rate: sampleRate };
  }
}

function joined(pieces, length) {
  const samples = new Float32Array(length);
  let place = 0;
  for (const piece of pieces) {
    samples.set(piece, place);
    place += piece.length;
  }
  return samples;
}

/** Return the part of a recording, so many seconds long, in which it is loudest. */
export function loudest(samples, rate, seconds) {
  const length = Math.round(seconds * rate);
  if (samples.length <= length) return samples;
  let energy = 0;
  let most = -1;
  let best = 0;
  samples.forEach((sample, index) => {
    energy += sample * sample - (index >= length ? samples[index - length] ** 2 : 0);
    // A little more is needed to move the part: in silence it stays where it is.
    if (index >= length - 1 && energy > most * 1.0001) [most, best] = [energy, index - length + 1];
  });
  return samples.subarray(best, best + length);
}

/** Return a sound file as samples of its first channel and their rate. Raises an error if the browser cannot read it. */
export async function decode(file) {
  const context = new OfflineAudioContext(1, 1, 44100);
  const sound = await context.decodeAudioData(await file.arrayBuffer());
  const samples = new Float32Array(sound.length);
  for (let channel = 0; channel < sound.numberOfChannels; channel++) {
    sound.getChannelData(channel).forEach((sample, index) => (samples[index] += sample / sound.numberOfChannels));
  }
  return { samples, rate: sound.sampleRate };
}

/** Return samples (-1 to 1) as a WAV file of 16 bits. */
export function wav(samples, rate, name) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const write = (place, text) => [...text].forEach((letter, index) => view.setUint8(place + index, letter.charCodeAt(0)));
  write(0, "RIFF");
  view.setUint32(4, 36 + 2 * samples.length, true);
  write(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // plain samples
  view.setUint16(22, 1, true); // of one channel
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  write(36, "data");
  view.setUint32(40, 2 * samples.length, true);
  samples.forEach((sample, index) => view.setInt16(44 + 2 * index, Math.round(Math.min(Math.max(sample, -1), 1) * 32767), true));
  return new File([view.buffer], name, { type: "audio/wav" });
}

/** Draw the waveform of samples. */
export function drawWave(canvas, samples) {
  const width = (canvas.width = canvas.clientWidth * devicePixelRatio);
  const height = (canvas.height = canvas.clientHeight * devicePixelRatio);
  const context = canvas.getContext("2d");
  context.fillStyle = getComputedStyle(canvas).color;
  const bars = Math.max(1, Math.floor(width / (3 * devicePixelRatio)));
  for (let bar = 0; bar < bars; bar++) {
    let peak = 0;
    for (let at = Math.floor((bar * samples.length) / bars); at < ((bar + 1) * samples.length) / bars; at++) {
      peak = Math.max(peak, Math.abs(samples[at] ?? 0));
    }
    const tall = Math.max(peak * height * 0.92, devicePixelRatio);
    context.fillRect((bar * width) / bars, (height - tall) / 2, 2 * devicePixelRatio, tall);
  }
}
