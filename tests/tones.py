"""Sounds that tests make: tones with noise, as samples and as WAV files."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FORMATS = {"pcm8": (1, 8), "pcm16": (1, 16), "pcm24": (1, 24), "pcm32": (1, 32), "float32": (3, 32), "float64": (3, 64)}


def tone(hertz: float, seconds: float = 0.3, rate: int = 8000, seed: int = 0, loud: float = 0.5) -> NDArray[np.float64]:
    """A tone in noise, from -1 to 1: float64 [samples]."""
    random = np.random.default_rng(seed)
    times = np.arange(round(seconds * rate)) / rate
    return loud * np.sin(2 * np.pi * hertz * (1 + random.uniform(-0.02, 0.02)) * times) + random.normal(0, 0.01, len(times))


def wav(samples: NDArray[np.float64], rate: int = 8000, kind: str = "pcm16", extra: bytes = b"", *, extensible: bool = False) -> bytes:
    """The content of a WAV file of samples from -1 to 1, [samples] or [samples, channels]; `extra` are chunks before the samples."""
    code, bits = FORMATS[kind]
    frames = samples[:, None] if samples.ndim == 1 else samples
    if code == 3:
        data = frames.astype(f"<f{bits // 8}").tobytes()
    elif bits == 8:
        data = (frames * 128 + 128).round().clip(0, 255).astype(np.uint8).tobytes()
    else:
        whole = (frames * 2.0 ** (bits - 1)).round().clip(-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1).astype("<i4")
        data = whole.reshape(-1, 1).view(np.uint8)[:, : bits // 8].tobytes()
    step = frames.shape[1] * bits // 8
    layout = struct.pack("<HHIIHH", 0xFFFE if extensible else code, frames.shape[1], rate, rate * step, step, bits)
    if extensible:
        layout += struct.pack("<HHI", 22, bits, 0) + struct.pack("<H", code) + bytes.fromhex("000000001000800000aa00389b71")
    body = b"WAVE" + b"fmt " + struct.pack("<I", len(layout)) + layout + extra + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def save(path: Path, samples: NDArray[np.float64], rate: int = 8000, kind: str = "pcm16") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(wav(samples, rate, kind))
    return path


def low_and_high(root: Path, count: int = 20, splits: tuple[str, ...] = ("train", "test")) -> Path:
    """A folder of sounds of two classes."""
    for number, split in enumerate(splits):
        for name, hertz in (("low", 400), ("high", 1200)):
            for index in range(count):
                seed = 1000 * number + index + hertz
                save(root / split / name / f"{index}.wav", tone(hertz, 0.2 + 0.002 * index, seed=seed))
    return root
