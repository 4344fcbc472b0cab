"""Findings in sounds: silent and clipped ones, and files that are far shorter or longer than most, or of another rate."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from epochal.checks.copies import Loaded
from epochal.checks.findings import Case, Finding
from epochal.data.inputs.sound.read import Measured, measure_sound
from epochal.errors import DataError
from epochal.shown import counted

# A sound is silent if no sample is beyond so many steps of 65,536: what a converter adds to silence.
_SILENT = 16

# A sample of at least this is as loud as a file can hold. A sound is clipped if this share of its samples is.
_LOUDEST, _CLIPPED = 32_700, 0.002

# A sound is unusual if it is so many times longer or shorter than the median.
_FAR = 8.0


def sound_findings(data: Loaded) -> Iterator[Finding]:
    """Yield the silent and the clipped ones among sounds in memory, int16 [n, samples] or [n, windows, samples]."""
    levels = [part.flatten(1).int().abs() for values in data.inputs for part in values.split(256)]
    silent = torch.cat([part.amax(1) < _SILENT for part in levels]).nonzero().flatten().tolist()
    clipped = torch.cat([(part >= _LOUDEST).float().mean(1) > _CLIPPED for part in levels]).nonzero().flatten().tolist()
    loud = "Record them with less gain, or keep them if others are too."
    if silent:
        yield _finding("silent", f"{counted(len(silent), 'sound')}: silent", "Remove them, unless that is a class of yours.", silent, data)
    if clipped:
        yield _finding("clipped", f"{counted(len(clipped), 'sound')}: clipped, louder than the file can hold", loud, clipped, data)


def _finding(kind: str, words: str, fix: str, places: Sequence[int], data: Loaded) -> Finding:
    return Finding("warning", kind, words, fix, tuple(Case((data.among.name(place),)) for place in places))


def about_sound_files(root: Path, names: Sequence[str]) -> Iterator[Finding]:
    """Yield files that are far shorter or longer than most, and those of another rate than most."""
    known = dict[str, Measured]()
    for name in names:
        # What cannot be read is reported as that.
        with suppress(DataError):
            known[name] = measure_sound(os.path.join(root, name))  # noqa: PTH118  many files
    if not known:
        return
    middle = float(np.median([sound.seconds for sound in known.values()]))
    short = [name for name, sound in known.items() if sound.seconds * _FAR < middle]
    long = [name for name, sound in known.items() if sound.seconds > middle * _FAR]
    for kind, found in (("short", short), ("long", long)):
        cases = tuple(Case((name,), f"{known[name].seconds:.2f} s") for name in found)
        if cases:
            some = counted(len(cases), "sound")
            words = f"{some}: far shorter than most, {middle:.2f} s" if kind == "short" else f"{some}: far longer than most, {middle:.2f} s"
            yield Finding("warning", kind, words, "Check whether they were cut as the others were.", cases)
    rates = Counter(sound.rate for sound in known.values())
    usual = rates.most_common(1)[0][0]
    cases = tuple(Case((name,), f"{sound.rate:,} samples per second") for name, sound in known.items() if sound.rate != usual)
    if cases:
        words = f"{counted(len(cases), 'sound')}: not of the most common rate, {usual:,} samples per second"
        fix = "They are resampled. If one class has another rate than the others, a model may learn the rate instead."
        yield Finding("warning", "rates", words, fix, cases)
