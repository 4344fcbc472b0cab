"""`check` looks for problems in data before training, and returns a `Check`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from epochal.checks.files import about_unreadable
from epochal.checks.findings import SEVERITIES, Finding, about_notes
from epochal.checks.folder import folder_findings, layout_finding
from epochal.checks.loaded import loaded_findings
from epochal.checks.page import MARK, Show, render
from epochal.checks.sounds import about_sound_files
from epochal.cores import sharing_cores
from epochal.data.examples import Examples
from epochal.data.exclude import write_exclusion
from epochal.data.inputs.base import Cell
from epochal.data.inputs.picture.read import open_picture
from epochal.data.load import Data, load
from epochal.data.sources import Place, examples_folder
from epochal.data.sources.layout import list_folder
from epochal.data.walk import holds_sounds, holds_texts
from epochal.errors import DataError, UnreadableError
from epochal.io.files import check_output, write_text
from epochal.shown import Rows, Shown, counted
from epochal.tasks.single_label import SingleLabel
from epochal.user_code import concise

# The beginning of a list of examples to leave out.
_LIST = "What to leave out of"


@dataclass(frozen=True, repr=False)
class Check(Shown):
    """The findings in data, the worst first.

    `counts` are the numbers of examples by split; `classes` are the names of the outputs, and `nouns` the singular and plural of their
    noun. `show` returns what an example looks like by its name, for the page.
    """

    name: str
    counts: Mapping[str, int]
    classes: tuple[str, ...]
    findings: tuple[Finding, ...]
    nouns: tuple[str, str] = SingleLabel.nouns
    show: Show = field(default=lambda _: "", repr=False, compare=False)

    def number(self, severity: str) -> int:
        """Return the number of findings of a severity: "error", "warning" or "note"."""
        return sum(finding.severity == severity for finding in self.findings)

    def summary(self) -> str:
        """Return one line: what was checked, and how much was found."""
        counts = ", ".join(f"{number:,} {split}" for split, number in self.counts.items())
        found = ", ".join(counted(self.number(severity), severity) for severity in SEVERITIES if self.number(severity))
        return f"{self.name}: {counted(len(self.classes), *self.nouns)}; {counts}: {found or 'nothing found'}"

    def _title(self) -> str:
        return self.summary()

    def _rows(self) -> Rows:
        return [(finding.severity, finding.words) for finding in self.findings]

    def __str__(self) -> str:
        return "\n".join([self.summary(), *(f"{finding.severity}: {finding.words}" for finding in self.findings)])

    def to_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            "data": self.name,
            "examples": dict(self.counts),
            "classes": list(self.classes),
            **{f"{severity}s": self.number(severity) for severity in SEVERITIES},
            "findings": [finding.to_json() for finding in self.findings],
        }

    def quarantine(self) -> dict[str, str]:
        """Return the names of the examples to leave out, each with its reason: unreadable files, all copies but one, and those in
        two classes."""
        reasons: dict[str, str] = {}
        for finding in self.findings:
            for case in finding.cases:
                for name in case.leave_out:
                    others = [other for other in case.examples if other != name]
                    kept = [other for other in others if other not in case.leave_out]
                    reasons.setdefault(name, f"{finding.kind}: {case.words or f'see {(kept or others)[0]}'}")
        return reasons

    def write_quarantine(self, path: str | Path) -> int:
        """Write the list of those for `load(exclude=...)` and the setting `data.exclude`; return the number of names.

        Replaces such a list; raises `OutputError` if `path` is anything else.
        """
        reasons = self.quarantine()
        check_list_output(Path(path))
        write_exclusion(Path(path), reasons, f"{_LIST} {self.name}: epochal train DATA --exclude THIS-FILE")
        return len(reasons)

    def write_html(self, path: str | Path) -> None:
        """Write all findings as one self-contained page with thumbnails.

        Replaces such a page; raises `OutputError` if `path` is anything else.
        """
        check_page_output(Path(path))
        write_text(Path(path), render(self.name, self.summary(), self.findings, self.show))


def check_page_output(path: Path) -> None:
    """Raise `OutputError` if `Check.write_html` could not write to `path`, or would replace something else."""
    check_output(path, MARK.encode())


def check_list_output(path: Path) -> None:
    """Raise `OutputError` if `Check.write_quarantine` could not write to `path`, or would replace something else."""
    check_output(path, f"# {_LIST} ".encode())


@concise
@sharing_cores()
def check(
    what: Any,
    *,
    data_dir: str | Path | None = None,
    target: str | int | Sequence[str] = (),
    text: str | Sequence[str] = (),
    ignore: str | Sequence[str] = (),
    columns: Mapping[str, str] | None = None,
    valid_data: str | Path | None = None,
    test_data: str | Path | None = None,
    file: str | int | None = None,
    split_column: str | int | None = None,
    group: str | None = None,
) -> Check:
    """Look for problems in data before training.

    `what` is anything that `load` takes, with the same options for tables and groups. In a folder of pictures every file is read,
    even if others cannot be. Raises `DataError` if there is nothing to check, or if data other than a folder cannot be loaded.
    """
    if isinstance(what, str | Path) and not text and file is None:
        place = data_dir or os.environ.get("EPOCHAL_DATA")
        folder = examples_folder(what, Path(place) if place else None)
        if folder is not None:
            root = Path(folder.what).expanduser()
            if root.is_dir() and (holds_sounds(root) or holds_texts(root)):
                return _check_files(folder, root, group)
            return _check_folder(folder, root, group)
    options: dict[str, Any] = {
        "target": target,
        "text": text,
        "ignore": ignore,
        "columns": columns,
        "valid_data": valid_data,
        "test_data": test_data,
        "file": file,
        "split_column": split_column,
        "group": group,
    }
    return _check_readable(what, {"data_dir": data_dir, **options}, {})


def _check_readable(what: Any, options: Mapping[str, Any], wrong: Mapping[str, str]) -> Check:
    """Check loaded data without the files that are missing or cannot be read, which are findings: `wrong`, each with its reason."""
    try:
        data = load(what, exclude=[*wrong], pretrained=False, **options)
    except UnreadableError as error:
        if wrong.keys() >= {*error.names}:
            raise
        return _check_readable(what, options, {**wrong, **dict(zip(error.names, error.reasons, strict=True))})
    found = _check_data(data)
    place = Path(what).expanduser() if isinstance(what, str | Path) else Path()
    root = place if place.is_dir() else place.parent
    of_files = [*about_unreadable(wrong, root)]
    if data.input.kind == "sound" and data.train.files is not None:
        of_files += about_sound_files(root, [name for part in data.splits.values() for name in part.files or ()])
    return replace(found, findings=_worst_first([*of_files, *found.findings]))


def _check_folder(place: Place, root: Path, group: str | None) -> Check:
    name = root.resolve().name
    try:
        listed = list_folder(root)
    except DataError as error:
        return Check(name, {}, (), (_with_archive(layout_finding(error), place),))
    counts = {split: len(listed.files(split)) for split in listed.splits}
    findings = [_with_archive(finding, place) for finding in folder_findings(listed, group)]
    return Check(name, counts, listed.classes, _worst_first(findings), show=lambda file: open_picture(root / file))


def _check_files(place: Place, root: Path, group: str | None) -> Check:
    """Check a folder of sounds or texts."""
    try:
        found = _check_readable(root, {"group": group}, {})
    except DataError as error:
        return Check(root.resolve().name, {}, (), (_with_archive(layout_finding(error), place),))
    return replace(found, findings=tuple(_with_archive(finding, place) for finding in found.findings))


def _with_archive(finding: Finding, place: Place) -> Finding:
    return replace(finding, words=place.with_archive(finding.words), fix=place.with_archive(finding.fix))


def _check_data(data: Data) -> Check:
    counts = {split: len(part) for split, part in data.splits.items()}
    return Check(
        data.name,
        counts,
        data.outputs,
        _worst_first([*loaded_findings(data), *about_notes(data.notes)]),
        data.task.nouns,
        Examined(data),
    )


class Examined:
    """What the examples of loaded data look like, by their names."""

    def __init__(self, data: Data) -> None:
        """`data` are kept."""
        self.data = data

    @cached_property
    def _places(self) -> dict[str, tuple[Examples, int]]:
        return {part.where(index): (part, index) for part in self.data.splits.values() for index in range(len(part))}

    def __call__(self, name: str) -> Image.Image | str | Sequence[Cell]:
        """Return the picture of an example, its text, or its values by name."""
        if name not in self._places:
            return ""
        part, index = self._places[name]
        pixels = self.data.input.draw(part.input(index))
        if pixels is not None:
            return Image.fromarray(pixels)
        return part.text(index) or self.data.input.cells(part.input(index))


def _worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)))
