"""A folder of sounds, one folder for each class (see `layout`); and sounds that a program passes."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from epochal.data.examples import Found, Part
from epochal.data.inputs.base import MAX_NUMBERS
from epochal.data.inputs.picture.decoding import in_blocks, raise_all, shared_memory
from epochal.data.inputs.sound.read import (
    Measured,
    SoundFile,
    StreamedSounds,
    measure_sound,
    read_sound_file,
    sound_of,
    to_input,
    write_input,
)
from epochal.data.inputs.sound.refused import sound_errors
from epochal.data.inputs.sound.rule import SoundRule, window_shape
from epochal.data.inputs.values import Inputs
from epochal.data.options import NO_OPTIONS, ReadOptions
from epochal.data.sources.layout import ReadFiles, list_for, unused
from epochal.data.sources.targets import read_targets
from epochal.data.spec import SPLITS
from epochal.data.storage.cache import FILE
from epochal.data.storage.fill import NoRoomError, fill, fits
from epochal.data.storage.kept import kept
from epochal.data.walk import SOUNDS
from epochal.errors import DataError, RecipeError, UnreadableError
from epochal.progress import progress
from epochal.shown import are

# By default, sounds are read with at most so many samples per second, which keeps all of speech, and at most so many seconds.
_MOST_RATE, _MOST_SECONDS = 16_000, 10.0

# The length is such that this share of training sounds is read whole.
_WHOLE = 0.98

# Files per task of a process.
_BLOCK = 64

# Reading more files takes so long that it is shown.
_MANY = 10_000

# So many bytes of files are kept in memory from measuring to decoding; of the others, the header is read twice.
_HELD_BYTES = 100_000_000


def read(path: Path, options: ReadOptions = NO_OPTIONS) -> Found:
    """Read a folder of sounds: int16 inputs [n, samples], int64 targets, files relative to the folder.

    Rate and length are those of `choose_rule`, unless a rule is given as `input` or by the model that the sounds are for. Sounds that
    take more than `memory` bytes are streamed from the cache. Raises `DataError` if the layout is unclear or a sound cannot be read.
    """
    listed = list_for(path, options, SOUNDS)
    files = {split: listed.files(split) for split in listed.splits}
    known = np.zeros(sum(map(len, files.values())), FILE)

    def read_files() -> Found:
        found = read_sounds(path, files, options, known)
        parts = found.parts(files, {split: listed.targets(split) for split in files})
        return Found(path.resolve().name, parts, listed.classes, found.rule, (*unused(listed), *found.notes))

    return kept(path, files, options, read_files, known)


def read_sounds(root: Path, files: Mapping[str, Sequence[str]], options: ReadOptions, known: NDArray[Any]) -> ReadFiles:
    """Read the sounds of each split by their names relative to `root`: int16 inputs [n, samples].

    What is known about their files is written to `known` (`FILE` [n]). Raises `UnreadableError` naming those that cannot be read.
    """
    names = [file for split in files.values() for file in split]
    try:
        paths = [os.path.join(root, name) for name in names]  # noqa: PTH118  many files
        inputs, rule, notes = _read(paths, len(files["train"]), options, root.resolve().name, known)
    except UnreadableError as error:
        error.names = tuple(names[place] for place in error.places)
        raise
    return ReadFiles(inputs, known["hash"], rule, rule.key, notes)


def find_sounds(what: Any, options: ReadOptions) -> Found:
    """Return the sounds that a program passes: (x, y), or a mapping from split to such pairs.

    `x` has an array of samples or (samples, rate) for each sound; without a rate it is `options.rate`. Raises `DataError`.
    """
    parts = {name: _pair(part, name) for name, part in (what.items() if isinstance(what, Mapping) else [("train", what)])}
    if "train" not in parts or not parts.keys() <= set(SPLITS):
        raise DataError(f"The splits {', '.join(map(str, parts))} cannot be used.", "Name them train, and if there are any valid and test.")
    rule, notes = _known_rule(options), tuple[str, ...]()
    usual = rule.rate if rule is not None else options.rate
    opened = {name: [_opened(item, f"{name}[{place}]", usual) for place, item in enumerate(items)] for name, (items, _) in parts.items()}
    if rule is None:
        rule, notes = choose_rule([sound.measured for sound in opened["train"]], options)
    found = {}
    for name, sounds in opened.items():
        inputs = torch.empty((len(sounds), *rule.shape), dtype=torch.int16)
        for place, sound in enumerate(sounds):
            with sound_errors(f"{name}[{place}]"):
                inputs[place] = torch.from_numpy(to_input(sound, rule))
        found[name] = Part(inputs, read_targets(parts[name][1], name))
    return Found("sounds", found, None, rule, notes)


def choose_rule(measured: Sequence[Measured], options: ReadOptions) -> tuple[SoundRule, tuple[str, ...]]:
    """Return a suitable rule for the measured sounds, with notes on choices that matter.

    The rate is the most common one, but at most 16,000 samples per second; the length is that of nearly all, but at most 10 seconds.
    """
    rates = Counter(sound.rate for sound in measured)
    rate = options.rate or min(_MOST_RATE, max(rates, key=lambda one: (rates[one], one)))
    lengths = np.sort([sound.seconds for sound in measured])
    # A few sounds more than that are read whole if they are hardly longer.
    whole = float(lengths[min(len(lengths) - 1, int(len(lengths) * _WHOLE))])
    chosen = float(lengths[-1]) if lengths[-1] <= whole * 1.25 else whole
    seconds = options.seconds or min(_MOST_SECONDS, chosen)
    length = max(1, round(seconds * rate))
    windows = options.windows or 1
    if length * windows > MAX_NUMBERS:
        times = "" if windows == 1 else f" with data.windows = {windows}"
        raise RecipeError(
            f"The setting data.seconds = {seconds:g}{times} makes {length * windows:,} samples of a sound.",
            f"At most {MAX_NUMBERS:,} are read.",
        )
    rule = SoundRule(shape=window_shape(windows, length), rate=rate)
    longer = int((lengths > rule.seconds * 1.0001).sum())
    varies = options.seconds is None and lengths[-1] > lengths[0]
    other = options.rate is None and set(rates) != {rate}
    if not (varies or other or longer):
        return rule, ()
    spans = f"{lengths[0]:.2f} to {lengths[-1]:.2f}" if lengths[-1] > lengths[0] else f"{lengths[0]:.2f}"
    kinds = ", ".join(f"{one:,}" for one in sorted(rates))
    lost = f"; {longer:,} of {len(measured):,} {are(longer)} longer, and cut off at both ends" if longer else ""
    if longer and rule.windows > 1:
        lost = f"; {longer:,} of {len(measured):,} {are(longer)} longer, and cut into up to {rule.windows:,} windows"
    return rule, (
        f"sounds of {spans} s and {kinds if len(rates) < 4 else f'{min(rates):,} to {max(rates):,}'} samples per second are read as "
        f"{rule.seconds:.2f} s with {rate:,}{lost}; --data-seconds and --rate change it",
    )


class _Block(NamedTuple):
    samples: NDArray[np.int16]
    known: NDArray[Any]
    wrong: dict[int, DataError]


def _read(
    paths: Sequence[str], training: int, options: ReadOptions, name: str, known: NDArray[Any]
) -> tuple[Inputs, SoundRule, tuple[str, ...]]:
    """Return the inputs of files, the rule by which they were read, and notes; fill in what is known about the files."""
    rule, notes = _known_rule(options), tuple[str, ...]()
    measured, held = _measure(paths, 0 if rule is not None else training)
    if rule is None:
        rule, notes = choose_rule(measured, options)
    work, size = _Work(paths, held, rule), 2 * len(paths) * rule.size
    memory = _memory(size, is_shared=not work.is_quick) if fits(size, options.memory) else None
    if memory is not None:
        deque(_blocks(replace(work, memory=memory), known), maxlen=0)
        return torch.frombuffer(memory, dtype=torch.int16).view(-1, *rule.shape), rule, notes
    try:
        inputs = fill(_blocks(work, known), (len(paths), *rule.shape), torch.int16, options.memory, name)
    except NoRoomError as error:
        note = f"{error.problem.rstrip('.')}: sounds are read again in each epoch"
        deque(_blocks(work, known), maxlen=0)
        return StreamedSounds(paths, rule), rule, (*notes, note)
    return inputs, rule, notes


def _memory(size: int, *, is_shared: bool) -> memoryview | None:
    """Return memory of zeros, of this many bytes: shared with other processes, if that is possible, or for this one, which is faster."""
    shared = shared_memory(size) if is_shared else np.zeros(size, np.uint8).data
    return None if shared is None else memoryview(shared)


def _measure(paths: Sequence[str], training: int) -> tuple[list[Measured], dict[int, SoundFile]]:
    """Measure the first `training` files, and return also those that are held in memory, by place. What cannot be read is passed over.

    Raises the errors of all if none can.
    """
    measured, wrong, held = dict[int, Measured](), dict[int, DataError](), dict[int, SoundFile]()
    left = _HELD_BYTES

    def measure(places: range) -> int:
        nonlocal left
        for place in places:
            try:
                if left > 0:
                    held[place] = file = read_sound_file(paths[place])
                    left -= file.size
                    measured[place] = file.sound.measured
                elif place < training:
                    measured[place] = measure_sound(paths[place])
            except DataError as error:
                wrong[place] = error
        return len(places)

    # Two threads hide the latency of the disk, and hash at the same time; more would only wait for the GIL.
    with progress("Measuring sounds" if len(paths) > _MANY else "", len(paths)) as advance, ThreadPoolExecutor(2) as pool:
        for count in pool.map(measure, _in_ranges(len(paths))):
            advance(count)
    found = [measured[place] for place in range(training) if place in measured]
    if training and not found:
        raise_all(wrong, "sounds")
    return found, held


def _in_ranges(count: int) -> Iterator[range]:
    """Yield ranges of a few numbers each from 0 to `count`."""
    yield from (range(begin, min(begin + _BLOCK, count)) for begin in range(0, count, _BLOCK))


@dataclass(frozen=True)
class _Work:
    """Files to read by a rule: by their paths, or those that are `held`; into `memory` for all of them, if there is some."""

    paths: Sequence[str]
    held: Mapping[int, SoundFile]
    rule: SoundRule
    memory: memoryview | None = None

    def __call__(self, places: range) -> _Block:
        """Read the sounds at `places`."""
        step, own = 2 * self.rule.size, self.memory is None
        memory = bytearray(len(places) * step) if self.memory is None else self.memory[places.start * step : places.stop * step]
        samples = np.frombuffer(memory, np.int16).reshape(len(places), *self.rule.shape)
        block = _Block(samples if own else samples[:0], np.zeros(len(places), FILE), {})
        for number, place in enumerate(places):
            try:
                file = self.held.get(place) or read_sound_file(self.paths[place])
                block.known[number] = (file.signature, file.hash, 0, 0, False, False)
                with sound_errors(self.paths[place]):
                    write_input(file.sound, self.rule, samples[number])
            except DataError as error:
                block.wrong[place] = error
        return block

    @property
    def is_quick(self) -> bool:
        """Whether nothing has to be read, decoded or resampled."""
        sounds = [file.sound for file in self.held.values()]
        return len(sounds) == len(self.paths) and all(one.is_plain and one.measured.rate == self.rule.rate for one in sounds)


def _blocks(work: _Work, known: NDArray[Any]) -> Iterator[tuple[int, NDArray[np.int16]]]:
    """Do the work, on all cores if it takes long; yield the samples of files, if there is no memory for all.

    Raises the errors of all files at the end.
    """
    wrong, count = dict[int, DataError](), len(work.paths)
    alone = ((places, work(places)) for places in _in_ranges(count))
    for places, block in alone if work.is_quick else in_blocks(work, count, _BLOCK, "Reading sounds"):
        known[places.start : places.stop] = block.known
        wrong.update(block.wrong)
        yield places.start, block.samples
    raise_all(wrong, "sounds")


def _known_rule(options: ReadOptions) -> SoundRule | None:
    """Return the rule by which sounds are read, if the user gave one or a model has one."""
    known = options.input if options.like is None else options.like.input
    if isinstance(known, SoundRule):
        return known
    if known not in (None, "sound"):
        kind = known if isinstance(known, str) else f"{known.dtype} {known.kind} of shape {known.shape}"
        raise DataError(f"Sounds are not read as {kind}.", "Leave input out, or pass arrays.")
    return None


def _pair(part: Any, split: str) -> tuple[Sequence[Any], Any]:
    if isinstance(part, Sequence) and len(part) == 2 and hasattr(part[0], "__len__") and hasattr(part[0], "__getitem__") and len(part[0]):
        return part[0], part[1]
    raise DataError(f"The sounds of {split} are not a pair (sounds, targets).", "Pass a list of (samples, rate), and one of targets.")


def _opened(item: Any, name: str, usual: int | None) -> Any:
    with sound_errors(name):
        if isinstance(item, tuple) and len(item) == 2:
            return sound_of(item[0], int(item[1]))
        if usual is None:
            raise DataError(f"{name} has no rate.", "Pass (samples, rate) for each sound, or rate=16000 if that is the rate of all.")
        return sound_of(item, usual)
