"""WAV files of plain samples, read without any library, which `wave` of Python could only do for some of them.

A file is a list of chunks, each with a name and a length: "fmt " says how samples are stored, "data" has them. What these say
is compared with the file before anything is read or allocated for it.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from epochal.data.inputs.sound.refused import UnfitError

# Enough of a file for `find_samples`, unless it has large chunks of other data first.
HEAD = 4096

# Sounds of other rates or more channels are no recordings.
MIN_RATE, MAX_RATE, MAX_CHANNELS = 1000, 384_000, 64

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_OTHERS = {2: "ADPCM", 6: "A-law", 7: "µ-law", 17: "IMA ADPCM", 49: "GSM", 80: "MPEG", 85: "MP3", 255: "AAC"}
_WIDTHS = {_PCM: (8, 16, 24, 32), _FLOAT: (32, 64)}

# Programs that write to a pipe do not know how much will follow.
_UNKNOWN = 0xFFFFFFFF


class Stored(NamedTuple):
    """How a WAV file stores its samples: whether as floats, in how many bits, from which byte on; and what they are."""

    is_float: bool
    bits: int
    channels: int
    rate: int
    start: int
    frames: int

    @property
    def step(self) -> int:
        """Bytes of a frame, which has one sample of each channel."""
        return self.channels * self.bits // 8


class CompressedError(UnfitError):
    """The samples are not stored as plain numbers."""


class TooShortError(UnfitError):
    """The chunk of samples begins after the part of the file that was given."""


def is_wav(head: bytes) -> bool:
    """Whether a file that begins like this is a WAV file."""
    return head[:4] == b"RIFF" and head[8:12] == b"WAVE"


def find_samples(head: bytes, size: int) -> Stored:
    """Return how a WAV file of `size` bytes, which begins with `head`, stores its samples. Raises `UnfitError`.

    Raises `TooShortError` if `head` ends before the samples begin.
    """
    place, layout = 12, None
    while place + 8 <= size:
        if place + 8 > len(head):
            raise TooShortError("is truncated")
        name, length = head[place : place + 4], int.from_bytes(head[place + 4 : place + 8], "little")
        begin = place + 8
        if name == b"data":
            if layout is None:
                raise UnfitError('has samples before it says how they are stored (no chunk "fmt ")')
            return _counted(layout, begin, size - begin if length == _UNKNOWN else length, size)
        if begin + length > size:
            raise UnfitError("is truncated")
        if name == b"fmt ":
            if begin + length > len(head):
                raise TooShortError("is truncated")
            layout = _layout(head[begin : begin + length])
        place = begin + length + length % 2
    raise UnfitError("has no samples" if layout is not None else 'has no chunk "fmt " and no samples')


def read_samples(content: bytes, stored: Stored, first: int, count: int) -> NDArray[Any]:
    """Return `count` frames from `first` on, [frames, channels]: those of 16 bits as int16, others as float32 from -1 to 1."""
    begin, size = stored.start + first * stored.step, count * stored.step
    if stored.is_float:
        found = np.frombuffer(content, f"<f{stored.bits // 8}", count * stored.channels, begin)
        if not np.isfinite(found).all():
            raise UnfitError("has a sample that is NaN or infinite", "Fix or remove it.")
        samples: NDArray[Any] = found.clip(-1, 1).astype(np.float32)
    elif stored.bits == 16:
        samples = np.frombuffer(content, "<i2", count * stored.channels, begin)
    elif stored.bits == 8:
        samples = (np.frombuffer(content, np.uint8, size, begin).astype(np.float32) - 128) / 128
    elif stored.bits == 24:
        wide = np.zeros((size // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(content, np.uint8, size, begin).reshape(-1, 3)
        samples = (wide.view("<i4")[:, 0] / 2.0**31).astype(np.float32)
    else:
        samples = (np.frombuffer(content, "<i4", count * stored.channels, begin) / 2.0**31).astype(np.float32)
    return samples.reshape(-1, stored.channels)


def check_format(rate: int, channels: int) -> None:
    """Raise `UnfitError` for a rate or a number of channels that no recording has."""
    if not MIN_RATE <= rate <= MAX_RATE:
        raise UnfitError(f"says that it has {rate:,} samples per second, which are not {MIN_RATE:,} to {MAX_RATE:,}")
    if not 1 <= channels <= MAX_CHANNELS:
        raise UnfitError(f"says that it has {channels:,} channels, which are not 1 to {MAX_CHANNELS}")


@lru_cache(64)  # Most files of a folder are stored alike.
def _layout(chunk: bytes) -> Stored:
    """Read the chunk that says how samples are stored."""
    if len(chunk) < 16:
        raise UnfitError(f'has a chunk "fmt " of {len(chunk)} bytes, which should have 16 or more')
    kind, channels, rate, _, step, bits = struct.unpack_from("<HHIIHH", chunk)
    if kind == _EXTENSIBLE and len(chunk) >= 26:
        kind = int.from_bytes(chunk[24:26], "little")
    if kind not in _WIDTHS:
        raise CompressedError(f"is compressed ({_OTHERS.get(kind, f'format {kind}')})", "Save it as plain WAV (PCM) of 16 bits.")
    if bits not in _WIDTHS[kind]:
        what = "floats" if kind == _FLOAT else "samples"
        raise UnfitError(f"says that it has {what} of {bits} bits", "Save it as plain WAV (PCM) of 16 bits.")
    check_format(rate, channels)
    found = Stored(kind == _FLOAT, bits, channels, rate, 0, 0)
    if step != found.step:
        raise UnfitError(f"says that {channels} samples of {bits} bits take {step} bytes, not {found.step}")
    return found


def _counted(layout: Stored, begin: int, length: int, size: int) -> Stored:
    if begin + length > size:
        raise UnfitError(f"is truncated: it says that it has {length:,} bytes of samples, but {size - begin:,} are there")
    if length < layout.step:
        raise UnfitError("has no samples", "Remove it.")
    return Stored(*layout[:4], begin, length // layout.step)
