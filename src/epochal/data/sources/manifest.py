"""Tables that list files with their labels: pictures, sounds or texts, one in each row.

    file,label,split
    cats/1.jpg,cat,train
    /data/more/7.jpg,dog,test

Names are relative to the folder of the table. What the files are is recognized by their suffixes. A file is one example: rows that repeat
one are left out, and an error if they say something else of it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from epochal.data.attributes import read_attributes
from epochal.data.examples import Found
from epochal.data.exclude import NOTHING
from epochal.data.inputs.table.files import about_encoding, is_table
from epochal.data.inputs.table.values import (
    Table,
    find_column,
    has_header,
    header_of,
    holds_table,
    names_of,
    read_table,
    title_of,
)
from epochal.data.options import ReadOptions, TableOptions, refuse_options
from epochal.data.sources.folder import read_pictures
from epochal.data.sources.labels import JOINED, Labels, complete_words
from epochal.data.sources.rows import grouped_by, read_groups, read_rows
from epochal.data.sources.sounds import read_sounds
from epochal.data.sources.table import splits_of, stem_of
from epochal.data.sources.texts import Texts, found_texts, read_texts
from epochal.data.spec import Listing
from epochal.data.storage.archives import is_archive
from epochal.data.storage.cache import FILE
from epochal.data.storage.kept import kept, reported
from epochal.data.walk import PICTURES, SOUNDS, TEXTS, FileKind
from epochal.errors import DataError, RecipeError, UnreadableError, suggest
from epochal.shown import are
from epochal.tasks.words import Words

_KINDS = {"picture": PICTURES, "sound": SOUNDS, "text": TEXTS}

# So many columns are named in a message.
_NAMED = 12

_Splits = dict[str, "_Listed"]


@dataclass(frozen=True)
class _Listed:
    """The rows of a split: the columns with files and targets, the files relative to the folder of the first table, the groups,
    and the attributes."""

    table: Table
    files: Sequence[str]
    groups: Sequence[str] | None
    attributes: Tensor | None = None

    def take(self, places: NDArray[np.int64]) -> _Listed:
        """Return some of the rows."""
        groups = None if self.groups is None else [self.groups[place] for place in places]
        attributes = None if self.attributes is None else self.attributes[torch.from_numpy(places)]
        return _Listed(self.table.take(places), [self.files[place] for place in places], groups, attributes)


def is_manifest(what: Any, options: ReadOptions) -> bool:
    """Whether `what` is a table with a column of files that the user named, or that a model was trained on."""
    if options.table.file is None and (options.like is None or not options.like.listing.file):
        return False
    if isinstance(what, str | Path):
        path = Path(what).expanduser()
        return path.is_file() and (is_table(path) or (options.table.file is not None and not is_archive(path)))
    return holds_table(splits_of(what)["train"])


def read(what: Any, options: ReadOptions) -> Found:
    """Read the files that a table lists, for training; or with `options.like`, for a trained model. Raises `DataError`."""
    like = options.like
    if like is not None:
        asked = options.table
        asked = replace(asked, file=asked.file or like.listing.file, targets=asked.targets or like.listing.target)
        options = replace(options, table=asked)
    tables = splits_of(Path(what).expanduser() if isinstance(what, str | Path) else what)
    others = {"valid": options.table.valid, "test": options.table.test}
    tables |= {split: Path(file).expanduser() for split, file in others.items() if file is not None}
    first, root = tables["train"], _folder(tables["train"])
    # Tables of further splits have a header if the first has one; those for a model, if that of training had one.
    named = header_of((options.table.file or "", *options.table.targets))
    header = named if named is not None else like is None and has_header(first)
    listing = _columns(first, options.table, joins=like is not None and like.listing.joins, header=header)
    rows = read_rows(first, options, (listing.file, *listing.target), [*tables][1:], header=header)
    groups = {split: rows.groups if split == "train" else read_groups(table, rows.group, header=header) for split, table in tables.items()}
    listed = {split: _list(table, listing, root, groups[split], header=header) for split, table in tables.items()}
    notes = [f"{title_of(table)}: {note}" for table in tables.values() for note in about_encoding(table)]
    notes += [] if listed["train"].table.has_header else [f"{title_of(first)} has no header: its columns are numbers"]
    notes += rows.notes
    used = {listing.file, *listing.target, *rows.columns, *grouped_by(like)}
    known, values = read_attributes(tables, used, notes, header=header)
    listed = {split: replace(one, attributes=values.get(split)) for split, one in listed.items()}
    if rows.splits is not None:
        listed |= {split: listed["train"].take(places) for split, places in rows.splits.items()}
    listed = _once(_without(listed, options, title_of(first)), listing, root, notes)
    _check_there(listed, root)
    labels = Labels.of({split: one.table for split, one in listed.items()}, listing.target, joins=listing.joins)
    targets, task = labels.read(notes) if like is None else (labels.like(like), None)
    if task == "regression" and options.pretrained is None:
        options = replace(options, pretrained=False)
    has_names = task is not None or len(listing.target) > 1 if like is None else like.task.name != "single-label"
    found = _read(stem_of(first) or "table", listed, targets, root, options)
    return replace(
        found,
        classes=listing.target if has_names else None,
        notes=(*notes, *found.notes),
        task=task,
        attributes=known,
        listing=listing.model_copy(update={"split": rows.split, "group": rows.group}),
    )


def listed_files(what: str | Path, column: str) -> list[str]:
    """Return the paths of the files that a table lists. Raises `DataError` if it has no such column, or a name is missing."""
    # Where the column is a number, the table of training had no header.
    header = not column.isdigit()
    names = names_of(what, header)
    if column not in names:
        raise DataError(f"{what} has no column '{column}', which has the files.", suggest(column, names))
    table = read_table(what, words={column}, skip={*names} - {column}, header=header)
    return [path_of(name, what) for name in _names(table, column)]


def path_of(name: str, what: Any) -> str:
    """Return the path of a file that a table lists."""
    return os.path.join(_folder(what), name)  # noqa: PTH118  a Path takes longer


def _folder(what: Any) -> Path:
    return Path(what).parent if isinstance(what, str | Path) else Path()


def _columns(what: Any, asked: TableOptions, *, joins: bool, header: bool) -> Listing:
    """Find the columns of files and targets. Raises `RecipeError` for settings that are not for lists of files."""
    names, title = names_of(what, header), title_of(what)
    file = find_column(asked.file or "", names, what)
    if not asked.targets:
        listed = ", ".join([name for name in names if name != file][:_NAMED])
        raise DataError(f"{title} lists files: which column is to be predicted?", f"Say so: --target NAME. There are {listed}.")
    target = tuple(find_column(name, names, what) for name in asked.targets)
    if file in target:
        raise RecipeError(f"The column {file} has the files, and cannot be the target.", "Choose another.")
    if asked.texts:
        raise RecipeError("The settings data.file and data.text exclude each other.", "Text is either in files, or in a column.")
    for name, kind in asked.kinds.items():
        if kind != JOINED or find_column(name, names, what) not in target:
            fix = f"Only a target can be given, as {JOINED}."
            raise RecipeError(f"The setting data.columns has {name} = {kind}: a list of files has no such columns.", fix)
    return Listing(file=file, target=target, joins=joins or bool(asked.kinds))


def _list(what: Any, listing: Listing, root: Path, groups: Sequence[str] | None, *, header: bool) -> _Listed:
    names, used = names_of(what, header), {listing.file, *listing.target}
    lacking = next((name for name in (listing.file, *listing.target) if name not in names), None)
    if lacking is not None:
        raise DataError(f"{title_of(what)} has no column '{lacking}'.", suggest(lacking, names))
    table = read_table(what, words=used, skip={*names} - used, header=header)
    table = replace(table, columns={name: values.as_words() for name, values in table.columns.items()})
    files = _names(table, listing.file)
    return _Listed(table, files if _folder(what) == root else [path_of(name, what) for name in files], groups)


def _names(table: Table, column: str) -> list[str]:
    return [*complete_words(table, column, f"the file in the column {column}", "Fill it in, or remove that line.")]


def _without(listed: _Splits, options: ReadOptions, title: str) -> _Splits:
    """Leave out the files that the user excludes."""
    exclusion = options.exclusion
    if not exclusion.names:
        return listed
    exclusion.check((file for one in listed.values() for file in one.files), title)
    left = {}
    for split, one in listed.items():
        kept = np.array([place for place, file in enumerate(one.files) if file not in exclusion.names], np.int64)
        exclusion.check_remaining(len(kept), f"the files of {split}")
        left[split] = one.take(kept)
    return left


def _once(listed: _Splits, listing: Listing, root: Path, notes: list[str]) -> _Splits:
    """Leave out rows that repeat a file. Raises `DataError` for one that says something else of it."""
    seen: dict[str, tuple[str, int]] = {}
    kept, repeated = dict[str, list[int]](), 0
    for split, one in listed.items():
        kept[split] = []
        for place, file in enumerate(one.files):
            before = seen.setdefault(os.path.normpath(os.path.join(root, file)), (split, place))  # noqa: PTH118  many files
            if before == (split, place):
                kept[split].append(place)
                continue
            other = listed[before[0]]
            if difference := _difference((split, place, one), (*before, other), listing):
                raise DataError(
                    f"{one.table.where(place)}: {file} is listed before, in {other.table.where(before[1])}, {difference}.",
                    "Keep one of them. For several labels of a file, give each a column of 0 and 1: --target NAME,NAME",
                )
            repeated += 1
    if not repeated:
        return listed
    notes.append(f"{repeated:,} {'row that repeats' if repeated == 1 else 'rows that repeat'} a file of another row: left out")
    return {split: one.take(np.array(kept[split], np.int64)) for split, one in listed.items()}


def _difference(row: tuple[str, int, _Listed], other: tuple[str, int, _Listed], listing: Listing) -> str:
    """Return what two rows say differently of one file; "" if nothing."""
    (split, place, one), (before, at, two) = row, other
    for name in listing.target:
        word, was = (table.columns[name] for table in (one.table, two.table))
        assert word.codes is not None
        assert was.codes is not None
        if (code := word.codes[place]) < 0 or (code_was := was.codes[at]) < 0 or word.words[code] != was.words[code_was]:
            return f"with another {name}"
    if one.groups is not None and two.groups is not None and one.groups[place] != two.groups[at]:
        return "in another group"
    return f"in {before} instead of {split}" if split != before else ""


def _check_there(listed: _Splits, root: Path) -> None:
    """Raise `UnreadableError` for files that do not exist, or are folders."""
    wrong = list[tuple[str, str, str]]()
    places, number = list[int](), 0
    for one in listed.values():
        for place, file in enumerate(one.files):
            path = os.path.join(root, file)  # noqa: PTH118  many files
            if "\0" in file or not os.path.isfile(path):  # noqa: PTH113
                wrong.append((one.table.where(place), file, path))
                places.append(number)
            number += 1
    if not wrong:
        return
    where, _, path = wrong[0]
    problem = f"{path} is a folder" if _is_folder(path) else f"there is no file {path!r}"
    if len(wrong) > 1:
        problem = f"{problem}; {len(wrong) - 1:,} of the {number:,} listed files {are(len(wrong) - 1)} missing too"
    near = next((other for other in _near(path) if os.path.isfile(other)), None)  # noqa: PTH113
    fix = (
        f"There is {near}: write its name so." if near is not None else f"Names are relative to the folder of the table, {root.resolve()}."
    )
    error = UnreadableError(
        f"{where}: {problem}.",
        fix,
        places,
        [f"{path} {'is a folder' if _is_folder(path) else 'does not exist'}" for *_, path in wrong],
    )
    error.names = tuple(file for _, file, _ in wrong)
    raise error


def _is_folder(path: str) -> bool:
    return "\0" not in path and os.path.isdir(path)  # noqa: PTH112


def _near(path: str) -> list[str]:
    """Return what may have been meant by the path of a file that is not there."""
    if "\0" in path:
        return []
    return [path.replace("\\", "/"), *(path + suffix for kind in _KINDS.values() for suffix in kind.suffixes), path.rpartition("/")[2]]


def _kind(listed: _Splits, options: ReadOptions, name: str) -> FileKind:
    """Return the kind of the files by their suffixes. Raises `DataError` for others, and for several kinds."""
    first: dict[str, tuple[str, str]] = {}
    for one in listed.values():
        for place, file in enumerate(one.files):
            suffix = os.path.splitext(file)[1].lower()  # noqa: PTH122  many files
            if suffix not in first:
                first[suffix] = (one.table.where(place), file)
    found: dict[str, tuple[str, str]] = {}
    for where, file in first.values():
        noun = next((noun for noun, kind in _KINDS.items() if kind.matches(file)), None)
        if noun is None:
            foreign = next((kind for kind in _KINDS.values() if kind.is_foreign(file)), None)
            what = (
                "has no suffix of a picture, a sound or a text" if foreign is None else f"is a {foreign.noun} in a format that is not read"
            )
            known = ", ".join(suffix for kind in _KINDS.values() for suffix in kind.suffixes)
            raise DataError(f"{where}: {file} {what}.", f"Save it as {known if foreign is None else foreign.formats}.")
        found.setdefault(noun, (where, file))
    if len(found) > 1:
        first_two = [f"{where}: {file} is a {noun}" for noun, (where, file) in found.items()][:2]
        raise DataError(f"{'; '.join(first_two)}.", "List files of one kind.")
    noun = next(iter(found))
    if options.like is not None and options.like.input.kind != noun:
        raise DataError(f"{name} lists {noun}s; the model takes {options.like.input.kind}s.", "Give what it was trained on.")
    return _KINDS[noun]


def _read(name: str, listed: _Splits, targets: Mapping[str, Tensor | Words], root: Path, options: ReadOptions) -> Found:
    """Read the files of all splits."""
    kind = _kind(listed, options, name)
    files = {split: one.files for split, one in listed.items()}
    if kind is not PICTURES:
        refuse_options(options, ("size", "fit"), name, "pictures")
    if kind is not SOUNDS:
        refuse_options(options, ("rate", "seconds", "windows"), name, "sounds")
    # What else the table says does not change how its files are read.
    asked = replace(options, table=TableOptions(), exclusion=NOTHING, group=None)
    known = np.zeros(sum(map(len, files.values())), FILE)

    def read_files() -> Found:
        if kind is TEXTS:
            texts = read_texts(root, [file for some in files.values() for file in some])
            return found_texts(
                name, {split: Texts([texts[file] for file in some], targets[split], some) for split, some in files.items()}, asked
            )
        read = read_pictures(root, files, asked) if kind is PICTURES else read_sounds(root, files, asked, known)
        return Found(name, read.parts(files, targets), None, read.rule, read.notes, model=read.model)

    # Decoded pictures are cached by themselves.
    found = reported(read_files()) if kind is PICTURES else kept(root, files, asked, read_files, known if kind is SOUNDS else None)
    parts = {
        split: replace(part, targets=targets[split], groups=listed[split].groups, attributes=listed[split].attributes)
        for split, part in found.parts.items()
    }
    return replace(found, name=name, parts=parts)
