"""Findings about the picture files of a folder, apart from copies: unreadable, mislabelled and unusual files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from epochal.checks.findings import Case, Finding, Severity
from epochal.data.inputs.picture.read import GIANT, survey_picture
from epochal.data.inputs.picture.rule import PictureRule
from epochal.data.walk import PICTURES
from epochal.errors import DataError
from epochal.shown import counted

_SUFFIXES = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
}

# A picture is unusual if it is this many times larger or smaller, or longer, than the median, and further from it than nearly all
# others: more than five times the median distance.
_SIZE, _ASPECT, _FAR = 4.0, 2.0, 5.0

# Pictures with a shorter side show little.
_SMALL_SIDE = 8

# At most this many files without the suffix of a picture are opened.
_LOOKED_INTO = 1000


def about_unreadable(wrong: Mapping[str, str], root: Path) -> Iterator[Finding]:
    """Yield the files that cannot be read, by their names relative to `root`, each with its reason."""
    if wrong:
        cases = []
        for name, problem in wrong.items():
            reason = problem.removeprefix(os.path.join(root, name)).lstrip(", ").rstrip(".")  # noqa: PTH118  as it was opened
            cases.append(Case((name,), reason, (name,)))
        fix = "Fix, replace or remove them; or leave them out: --quarantine FILE lists them."
        yield Finding("error", "unreadable", f"{counted(len(wrong), 'file')} cannot be read", fix, tuple(cases))


def about_unused(unused: Sequence[str], root: Path) -> Iterator[Finding]:
    """Yield the files that are not used: pictures in other formats, in no class folder or under other names, and the rest."""
    foreign, outside = [name for name in unused if PICTURES.is_foreign(name)], [name for name in unused if PICTURES.matches(name)]
    rest = [name for name in unused if not (PICTURES.is_foreign(name) or PICTURES.matches(name))]
    disguised = [name for name in rest[:_LOOKED_INTO] if _can_be_read(root / name)]
    others = [name for name in rest if name not in set(disguised)]
    kinds: tuple[tuple[Sequence[str], Severity, str, str, str, str], ...] = (
        (foreign, "warning", "format", "picture", "unsupported format", "Save them as JPEG or PNG."),
        (outside, "warning", "no class", "picture", "not in a class folder", "Move them to the folder of their class."),
        (disguised, "warning", "misnamed", "picture", "wrong suffix", "Give them the suffix of their format: .jpg, .png, ..."),
        (others, "note", "unused", "file", "no picture in a class folder", "Nothing needs to be done."),
    )
    for names, severity, kind, noun, why, fix in kinds:
        if names:
            yield _finding(severity, kind, f"{counted(len(names), noun)} {_is(names)} not used: {why}", fix, names)


def about_empty(classes: Sequence[str]) -> Iterator[Finding]:
    """Yield the class folders that have no pictures."""
    if classes:
        words = f"{counted(len(classes), 'class folder')} without pictures {_is(classes)} left out"
        yield _finding("warning", "empty class", words, "Fill or remove them.", classes)


def about_kinds(known: NDArray[Any], names: Sequence[str]) -> Iterator[Finding]:
    """Yield findings about formats, modes and depths of readable pictures (`SURVEYED` [n])."""
    formats, modes = known["format"].astype(str), known["mode"].astype(str)
    cases = [
        Case((name,), f"is {format_}")
        for name, format_ in zip(names, formats.tolist(), strict=True)
        if not name.lower().endswith(_SUFFIXES[format_])
    ]
    if cases:
        words = f"{counted(len(cases), 'picture')} {_is(cases)} not in the format of the suffix"
        yield Finding("warning", "suffix", words, "Rename them: other programs may refuse them.", tuple(cases))
    is_mixed = not known["grey"].all()
    for is_so, severity, kind, description, fix in _kinds(known, modes, is_mixed=is_mixed):
        found = [names[place] for place in np.flatnonzero(is_so).tolist()]
        if found:
            yield _finding(severity, kind, f"{counted(len(found), 'picture')} {_is(found)} {description}", fix, found)


def _kinds(known: NDArray[Any], modes: NDArray[Any], *, is_mixed: bool) -> Iterator[tuple[NDArray[Any], Severity, str, str, str]]:
    """Yield kinds of unusual pictures: which are of the kind (bool [n]), the severity, one word, a description, and a fix."""
    yield (
        known["orientation"] > 1,
        "note",
        "rotated",
        "stored rotated, with the orientation in EXIF",
        "Epochal turns them; others may not.",
    )
    fix = "Only the first frame is used: split them if others matter."
    yield known["animated"], "warning", "animated", "animated, or of several pages", fix
    yield known["deep"], "warning", "16 bits", "of 16 bits", "Their high byte is used: rescale them to 0-65535 if they are dark."
    size = known["height"].astype(np.int64) * known["width"]
    yield size >= GIANT, "note", "giant", f"of more than {GIANT / 1e6:.0f} million pixels", "They take seconds to read: save them smaller."
    fix = "They are converted; save them as RGB if the colours look wrong."
    yield np.isin(modes, ("CMYK", "YCbCr", "LAB", "HSV")), "note", "colours", "not in RGB, but in colours for print or video", fix
    yield known["transparent"], "note", "transparent", "transparent in places", "The background becomes white."
    yield known["grey"] & is_mixed, "note", "grey", "grey among coloured ones", "They are used as colours that are grey."


def about_sizes(known: NDArray[Any], names: Sequence[str]) -> Iterator[Finding]:
    """Yield pictures that are blank or tiny, or unlike the others in size or shape."""
    if not len(known):
        return
    height, width = known["height"].astype(float), known["width"].astype(float)
    blank = np.flatnonzero(known["blank"])
    if len(blank):
        words = f"{counted(len(blank), 'picture')} {_is(blank)} blank: one colour everywhere"
        yield _finding(
            "warning", "blank", words, "Remove them, unless that is a class of yours.", [names[place] for place in blank.tolist()]
        )
    for kind, is_so, description, fix in (
        ("tiny", np.minimum(height, width) < min(_SMALL_SIDE, float(np.median(np.minimum(height, width)))),
         f"less than {_SMALL_SIDE} pixels high or wide, and less than most", "Replace them by larger ones, or remove them."),
        ("size", _stands_out(np.sqrt(height * width), _SIZE), "far larger or smaller than most",
         "Check whether they belong here: their details are at another scale than those of the others."),
        ("shape", _stands_out(width / height, _ASPECT), "far wider or higher in shape than most",
         "Check whether they belong here; --fit decides how they are fitted."),
    ):  # fmt: skip
        cases = tuple(Case((names[place],), f"{height[place]:.0f}×{width[place]:.0f} pixels") for place in np.flatnonzero(is_so).tolist())
        if cases:
            middle = f"{np.median(height):.0f}×{np.median(width):.0f}"
            words = f"{counted(len(cases), 'picture')} {_is(cases)} {description} ({middle})"
            yield Finding("note" if kind == "shape" else "warning", kind, words, fix, cases)


def _stands_out(values: NDArray[Any], factor: float) -> NDArray[np.bool_]:
    """Return which values are further from the median than `factor` times, either way, and than nearly all others (log scale)."""
    distance = np.abs(np.log(values / np.median(values)))
    outlying: NDArray[np.bool_] = distance > max(np.log(factor), _FAR * float(np.median(distance)))
    return outlying


def _can_be_read(path: Path) -> bool:
    try:
        survey_picture(str(path), PictureRule(shape=(1, 1, 1), fit="squash"))
    except DataError:
        return False
    return True


def _finding(severity: Severity, kind: str, words: str, fix: str, names: Sequence[str]) -> Finding:
    return Finding(severity, kind, words, fix, tuple(Case((name,)) for name in names))


def _is(things: Sequence[object] | NDArray[Any]) -> str:
    return "is" if len(things) == 1 else "are"
