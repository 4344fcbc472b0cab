"""Changing the rate of a sound: a windowed sinc, evaluated at the times of the new samples only (a polyphase filter)."""

from __future__ import annotations

from functools import lru_cache
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray

# The filter has so many zero crossings on each side; the window is Kaiser's with this shape (as `scipy.signal.resample_poly`).
_CROSSINGS = 10
_BETA = 5.0

# At most this many numbers are gathered at once.
_AT_ONCE = 1 << 20


def resample(samples: NDArray[Any], old: int, new: int) -> NDArray[np.float32]:
    """Return a sound [n] of `old` samples per second at `new` ones: float32 [ceil(n * new / old)], beginning at the same time.

    What lies above half the lower rate is removed. Beyond both ends there is silence.
    """
    if old == new:
        return samples.astype(np.float32, copy=False)
    up, down = new // gcd(old, new), old // gcd(old, new)
    phases = _filter(up, down)
    taps = phases.shape[1]
    count = -(-len(samples) * up // down)
    # In a signal of `up` times the rate, sample n of the result is at n * down, and sample m of this one at m * up.
    middle = np.arange(count) * down + _CROSSINGS * max(up, down)
    phase, last = middle % up, middle // up
    padded = np.zeros(int(last[-1]) + taps, np.float32)
    padded[taps - 1 : taps - 1 + len(samples)] = samples[: len(padded) - taps + 1]
    windows = np.lib.stride_tricks.sliding_window_view(padded, taps)
    made = np.empty(count, np.float32)
    step = max(1, _AT_ONCE // taps)
    for begin in range(0, count, step):
        some = slice(begin, begin + step)
        made[some] = np.einsum("nt,nt->n", windows[last[some]], phases[phase[some]])
    return made


@lru_cache(4)
def _filter(up: int, down: int) -> NDArray[np.float32]:
    """Return the low-pass filter of each phase, float32 [up, taps], in the order of the samples that it multiplies."""
    widest = max(up, down)
    half = _CROSSINGS * widest
    times = np.arange(-half, half + 1)
    whole = np.sinc(times / widest) * np.kaiser(2 * half + 1, _BETA)
    whole *= up / whole.sum()
    taps = -(-len(whole) // up)
    padded = np.zeros(taps * up)
    padded[: len(whole)] = whole
    return np.ascontiguousarray(padded.reshape(taps, up).T[:, ::-1]).astype(np.float32)
