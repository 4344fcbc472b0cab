"""Reading sounds: files in any format, or samples from a program, as int16 samples of one rate and length.

    open_file(path), sound_of(samples) → Sound: int16, or float32 from -1 to 1, [frames, channels], with its rate
        to_input(sound) → int16 [length]: mixed down, resampled, padded or cropped in the middle; or [windows, length]

Training files and sounds to predict take the same path, so that the same sound always becomes the same input.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from epochal.data.inputs.picture.quiet import capture_messages
from epochal.data.inputs.sound.refused import UnfitError, sound_errors
from epochal.data.inputs.sound.resample import resample
from epochal.data.inputs.sound.wav import (
    HEAD,
    MAX_CHANNELS,
    CompressedError,
    TooShortError,
    check_format,
    find_samples,
    is_wav,
    read_samples,
)
from epochal.data.inputs.values import OneByOne
from epochal.data.storage.cache import content_hash, signature
from epochal.io.safe_read import open_file, read_whole

if TYPE_CHECKING:
    from epochal.data.inputs.sound.rule import SoundRule

# The most bytes of a file: an hour of two channels of 24 bits takes as much.
MAX_BYTES = 1_000_000_000

# Floats beyond this were not meant to be from -1 to 1; those a little beyond come from mixing or resampling, and are clipped.
_MOST_FLOAT = 4.0

# What libsndfile's decoder of MP3 prints about files that are not quite right.
_MPG123 = re.compile(rb"(Note|Warning): |\[src/libmpg123/|\s*$")

# Reads a part of a sound: `count` frames from `first` on, int16, or float32 from -1 to 1, [count, channels].
Reader: TypeAlias = Callable[[int, int], NDArray[Any]]


class Measured(NamedTuple):
    """What is known of a sound before its samples are read: samples per second, channels, and frames of one sample each."""

    rate: int
    channels: int
    frames: int

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.frames / self.rate


class Sound(NamedTuple):
    """A sound as it was opened; `is_plain` says that its samples are stored as numbers, which takes no time to decode."""

    measured: Measured
    read: Reader
    is_plain: bool = False


class SoundFile(NamedTuple):
    """A file that was read: the sound in it, its signature (see `cache`), the hash of its content, and its size in bytes."""

    sound: Sound
    signature: tuple[int, int, int, int]
    hash: bytes
    size: int


class StreamedSounds(OneByOne):
    """Sound files that are read one by one, each time they are needed, because they do not fit in memory."""

    def __init__(self, paths: Sequence[str], rule: SoundRule) -> None:
        self.paths = paths
        self.rule = rule

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, place: int) -> Tensor:
        """Read one sound."""
        return torch.from_numpy(read_sound(self.paths[place], self.rule))


def read_sound(path: str, rule: SoundRule) -> NDArray[np.int16]:
    """Return the samples of a file as `rule` asks.

    Raises `DataError` naming the file, what is wrong with it, and what to do.
    """
    found = read_sound_file(path)
    with sound_errors(path):
        return to_input(found.sound, rule)


def read_content(content: bytes, name: str, rule: SoundRule) -> NDArray[np.int16]:
    """Return the samples in the content of a file as `rule` asks; a `DataError` calls it `name`."""
    with sound_errors(name):
        return to_input(_open(content), rule)


def read_sound_file(path: str) -> SoundFile:
    """Read all of a sound file, and return the sound in it, not yet decoded. Raises `DataError` as `read_sound` does."""
    with sound_errors(path):
        status, content = read_whole(path, MAX_BYTES)
        return SoundFile(_open(content), signature(status), content_hash(content), len(content))


def measure_sound(path: str) -> Measured:
    """Return what a file says about itself, compared with its size. Raises `DataError`."""
    with sound_errors(path):
        with open_file(path) as file:
            head = file.read(HEAD)
            if is_wav(head):
                try:
                    stored = find_samples(head, os.fstat(file.fileno()).st_size)
                    return Measured(stored.rate, stored.channels, stored.frames)
                except (TooShortError, CompressedError):
                    pass
        return _open(read_whole(path, MAX_BYTES)[1]).measured


def sound_of(samples: Any, rate: int) -> Sound:
    """Return the sound in an array of a program: [samples], [samples, channels] or [channels, samples]. Raises `UnfitError`.

    int16 and int32 fill their range, uint8 is 0 to 255 with 128 in the middle, and floats are from -1 to 1.
    """
    array = np.asarray(samples.detach().cpu() if isinstance(samples, Tensor) else samples)
    check_format(rate, 1)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or not array.size:
        raise UnfitError(f"has samples of shape {array.shape}", "Pass [samples], or [samples, channels].")
    if array.shape[0] < array.shape[1]:
        array = array.T
    if array.shape[1] > MAX_CHANNELS:
        raise UnfitError(f"has {array.shape[1]:,} channels", f"Pass [samples, channels], with at most {MAX_CHANNELS} channels.")
    values = _fractions(array)
    return Sound(Measured(rate, values.shape[1], len(values)), lambda first, count: values[first : first + count])


def to_input(sound: Sound, rule: SoundRule) -> NDArray[np.int16]:
    """Return a sound as int16 of the shape of `rule`."""
    made = np.zeros(rule.shape, np.int16)
    write_input(sound, rule, made)
    return made


def write_input(sound: Sound, rule: SoundRule, silence: NDArray[np.int16]) -> None:
    """Write a sound into zeros of the shape of `rule`: channels are averaged, and what is too long loses both ends alike, or is cut
    into windows."""
    (rate, _, frames), windows = sound.measured, silence.reshape(-1, rule.length)
    needed = min(frames, -(-rule.length * rate // rule.rate))
    count = min(len(windows), -(-2 * (frames - needed) // needed) + 1)
    for number in range(count):
        first = (frames - needed) * number // (count - 1) if count > 1 else (frames - needed) // 2
        _fill(windows[number], sound, first, needed, rule.rate)


def _fill(window: NDArray[np.int16], sound: Sound, first: int, needed: int, rate: int) -> None:
    """Write the frames from `first` on into a window, in the middle if they are fewer. Silence before and after a sound is padding, too:
    whether a file has it or not, the window is the same."""
    samples = sound.read(first, needed)
    if len(samples) != needed:
        raise UnfitError("is truncated")
    mixed = samples[:, 0] if samples.shape[1] == 1 else _as_float(samples).mean(1, dtype=np.float32)
    if needed == sound.measured.frames and not (mixed[0] and mixed[-1]) and len(there := np.flatnonzero(mixed)):
        mixed = mixed[there[0] : there[-1] + 1]
    if mixed.dtype != np.int16 or sound.measured.rate != rate:
        mixed = (resample(_as_float(mixed), sound.measured.rate, rate) * 32768).round().clip(-32768, 32767)
    made = mixed[: len(window)]
    begin = (len(window) - len(made)) // 2
    window[begin : begin + len(made)] = made


def _as_float(samples: NDArray[Any]) -> NDArray[Any]:
    """Return what a `Reader` returned as float32 from -1 to 1."""
    return _fractions(samples) if samples.dtype == np.int16 else samples


def _fractions(array: NDArray[Any]) -> NDArray[Any]:
    """Return samples as float32 from -1 to 1."""
    if array.dtype == np.uint8:
        return (array.astype(np.float32) - 128) / 128
    if array.dtype in (np.int16, np.int32):
        return (array / 2.0 ** (8 * array.itemsize - 1)).astype(np.float32)
    if array.dtype.kind != "f":
        raise UnfitError(f"has samples of {array.dtype}", "Pass int16, or floats from -1 to 1.")
    largest = float(np.abs(array).max())
    if not np.isfinite(largest):
        raise UnfitError("has a sample that is NaN or infinite", "Fix or remove it.")
    if largest > _MOST_FLOAT:
        raise UnfitError(f"has samples up to {largest:,.4g}, but floats are from -1 to 1", "Scale them, or pass int16.")
    clipped: NDArray[Any] = array.astype(np.float32).clip(-1, 1)
    return clipped


def _open(content: bytes) -> Sound:
    if not content:
        raise UnfitError("is empty")
    if not is_wav(content):
        return _open_other(content, _named(content))
    try:
        stored = find_samples(content, len(content))
    except CompressedError as error:
        return _open_other(content, error)
    return Sound(Measured(stored.rate, stored.channels, stored.frames), partial(read_samples, content, stored), is_plain=True)


# How files of other formats begin.
_BEGINNINGS = ((b"fLaC", "FLAC"), (b"OggS", "OGG"), (b"ID3", "MP3"), (b"\xff\xfb", "MP3"), (b"\xff\xf3", "MP3"), (b"FORM", "AIFF"))


def _named(content: bytes) -> UnfitError:
    name = next((name for begin, name in _BEGINNINGS if content.startswith(begin)), "")
    if name:
        return UnfitError(f"is in {name}, which needs the package soundfile", 'Install it: pip install "epochal[sound]"')
    return UnfitError("is not a sound in WAV, FLAC, OGG or MP3", "Save it as one of these, or remove it.")


def _open_other(content: bytes, refused: UnfitError) -> Sound:
    """Open a file by libsndfile; without it, or if it does not know the format either, raise `refused`."""
    try:
        import soundfile
    except (ImportError, OSError):  # OSError: its library is missing
        raise refused from None
    try:
        with capture_messages(_MPG123), soundfile.SoundFile(io.BytesIO(content)) as file:
            found = Measured(file.samplerate, file.channels, file.frames)
    except soundfile.LibsndfileError:
        known = "needs the package" in refused.why
        raise (UnfitError("is damaged") if known else refused) from None
    check_format(found.rate, found.channels)
    if found.frames < 1:
        raise UnfitError("has no samples", "Remove it.")

    return Sound(found, partial(_decoded, content))


def _decoded(content: bytes, first: int, count: int) -> NDArray[Any]:
    """Read a part of a sound by libsndfile, whose open files take more memory than their content does."""
    import soundfile

    with capture_messages(_MPG123) as lines, soundfile.SoundFile(io.BytesIO(content)) as file:
        file.seek(first)
        samples = file.read(count, dtype="float32", always_2d=True)
    if any(b"error:" in line for line in lines):
        raise UnfitError("is damaged")
    if not np.isfinite(samples).all():
        raise UnfitError("has a sample that is NaN or infinite", "Fix or remove it.")
    clipped: NDArray[Any] = samples.clip(-1, 1)
    return clipped
