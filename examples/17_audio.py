"""Sounds: four kinds of tones are made, learned as spectrograms, and recognized in a WAV file of another rate and in a long recording."""

import tempfile
import wave
from pathlib import Path

import numpy as np

import epochal

RATE = 16_000
KINDS = {
    "sine": lambda phase: np.sin(phase),
    "square": lambda phase: np.sign(np.sin(phase)),
    "sawtooth": lambda phase: phase / np.pi % 2 - 1,
    "siren": lambda phase: np.sin(phase + 20 * np.sin(phase / 40)),
}
random = np.random.default_rng(0)


def tone(kind: str, rate: int) -> np.ndarray:
    """A quarter to half a second of a tone of any pitch and loudness, in noise: int16 [samples]."""
    times = np.arange(int(random.uniform(0.25, 0.5) * rate)) / rate
    sound = random.uniform(0.1, 0.8) * KINDS[kind](2 * np.pi * random.uniform(200, 600) * times)
    return (32767 * np.clip(sound + random.normal(0, 0.05, len(times)), -1, 1)).astype(np.int16)


labels = [kind for kind in KINDS for _ in range(100)]
data = epochal.load(([(tone(label, RATE), RATE) for label in labels], labels), input="sound")
print(*data.notes, data.spec.describe(), sep="\n")

with tempfile.TemporaryDirectory() as folder:
    run = epochal.train(data, time_mask=0.0, noise=0.0, quiet=True, out=Path(folder) / "run")  # masks and noise are for longer sounds
    print(run.test)
    print(run.bundle.model)  # samples go in: the first layer makes spectrograms, the others are a network for pictures

    file = Path(folder) / "unknown.wav"
    with wave.open(str(file), "wb") as written:
        written.setparams((1, 2, 44_100, 0, "NONE", "not compressed"))
        written.writeframes(tone("square", 44_100).tobytes())
    print(file.name, "is", run.predict(file)[0])

    # A recording of five seconds is cut into windows of half a second that overlap; what the model says of each is averaged.
    recording = np.zeros(5 * RATE, np.int16)
    for begin in (1, 3.2, 4):
        sound = tone("siren", RATE)
        recording[int(begin * RATE) :][: len(sound)] = sound
    print("the recording has a", run.bundle.with_windows(30).predict((recording, RATE))[0])

# epochal.train(data, model="ast", frequency_mask=0.2) trains a transformer on the same spectrograms, and silences bands of frequencies at
# random, so that it does not rely on a few; it needs more sounds than these.
