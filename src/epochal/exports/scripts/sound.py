"""A FILE is a WAV file of 16 bits that has as many samples per second as the model takes; ffmpeg makes one of any sound."""

import wave

import numpy as np


def read(path: str, rule: dict):
    """Yield the name and the samples of a sound: what is too long loses both ends alike, or is cut into windows that overlap."""
    with wave.open(path) as file:
        rate, bits, channels, frames = file.getframerate(), 8 * file.getsampwidth(), file.getnchannels(), file.getnframes()
        if (rate, bits) != (rule["rate"], 16):
            raise ValueError(
                f"it has {bits} bits at {rate} Hz, and the model takes 16 bits at {rule['rate']} Hz: "
                f"ffmpeg -i {path} -ar {rule['rate']} -c:a pcm_s16le NEW.wav"
            )
        samples = np.frombuffer(file.readframes(frames), np.int16).reshape(-1, channels)
    if not frames or len(samples) != frames:
        raise ValueError("it is truncated, or has no samples")
    sound = samples[:, 0] if channels == 1 else (samples / 32768).astype(np.float32).mean(1, dtype=np.float32) * 32768
    inputs, length = np.zeros(rule["shape"], np.int16), rule["shape"][-1]
    windows, needed = inputs.reshape(-1, length), min(frames, length)
    count = min(len(windows), -(-2 * (frames - needed) // needed) + 1)
    for number in range(count):
        first = (frames - needed) * number // (count - 1) if count > 1 else (frames - needed) // 2
        part = sound[first : first + needed]
        if needed == frames and part.any():
            # A sound is in the middle of its window, without silence of its own at its ends.
            there = np.flatnonzero(part)
            part = part[there[0] : there[-1] + 1]
        begin = (length - len(part)) // 2
        windows[number, begin : begin + len(part)] = part.round()
    yield path, inputs
