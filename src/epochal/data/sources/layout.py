"""The layout of a folder of pictures, texts or sounds: a folder per class, optionally below folders of splits, and inside enclosing ones.

    photos/cat/1.jpg                photos/train/cat/1.jpg  photos/test/cat/2.jpg
    photos/images/cat/1.jpg         photos/seg_train/seg_train/cat/1.jpg  photos/seg_test/seg_test/cat/2.jpg

Split folders are recognized by name (see `splits`). Two folders that contain the same subfolders are never two classes.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor

from epochal.data.examples import Part
from epochal.data.exclude import Exclusion
from epochal.data.inputs.base import InputRule
from epochal.data.inputs.values import Inputs, subset
from epochal.data.options import ReadOptions
from epochal.data.sources.splits import is_unlabelled, split_name
from epochal.data.spec import SPLITS
from epochal.data.storage.cache import content_hash
from epochal.data.walk import PICTURES, FileKind, Passed, entries, has_files, holds_files, identity, is_written, relative, walk
from epochal.errors import DataError
from epochal.shown import are, counted
from epochal.tasks.targets import natural


@dataclass(frozen=True)
class Listed:
    """The files of a folder, of one kind, by split and class, as relative paths with slashes; the unused files; and the classes that are
    left out because their folders have none of that kind."""

    root: Path
    splits: Mapping[str, Mapping[str, Sequence[str]]]
    unused: Sequence[str]
    empty: Sequence[str] = ()
    kind: FileKind = PICTURES

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of all classes, in natural order ("2" before "10")."""
        return tuple(sorted({name for classes in self.splits.values() for name in classes}, key=natural))

    def files(self, split: str) -> list[str]:
        """The files of a split, class by class, each in alphabetical order."""
        return [file for name in self.classes for file in self.splits[split].get(name, ())]

    def targets(self, split: str) -> torch.Tensor:
        """The class numbers of those files: int64 [n]."""
        counts = torch.tensor([len(self.splits[split].get(name, ())) for name in self.classes])
        return torch.arange(len(counts)).repeat_interleave(counts)

    def without(self, exclusion: Exclusion, *, needs_train: bool = True) -> Listed:
        """Return the listing without some files. Raises `DataError` if one does not exist, or a class has no training files left."""
        if not exclusion.names:
            return self
        exclusion.check((file for split in self.splits for file in self.files(split)), str(self.root))
        left: dict[str, dict[str, list[str]]] = {}
        for split, classes in self.splits.items():
            left[split] = {}
            for name, files in classes.items():
                kept = [file for file in files if file not in exclusion.names]
                if needs_train and split == "train" and files:
                    exclusion.check_remaining(len(kept), f"the {self.kind.noun}s of the class '{name}'")
                if kept or not files:
                    left[split][name] = kept
            exclusion.check_remaining(len(left[split]), f"the {self.kind.noun}s of {split}")
        return replace(self, splits=left)


def list_folder(root: Path, known: Collection[str] | None = None, kind: FileKind = PICTURES) -> Listed:
    """List a folder of files of a `kind`, for training or, if its classes are `known`, for a model.

    Raises `DataError` if the layout is unclear.
    """
    _check_root(root, kind)
    # A name has two Unicode spellings, with é as one character or two: macOS, and archives made there, use the second.
    spelled = None if known is None else {_normal(name): name for name in known}
    above, folders = _splits(root, spelled, kind)
    unused = _outside(root, above, folders, kind)
    splits: dict[str, dict[str, list[str]]] = {}
    empty: set[str] = set()
    # Other splits have the classes of the training split, even if they have only one of them.
    for split in sorted(folders, key=SPLITS.index):
        classes, others, without = _list(_inside(folders[split], root, spelled, kind), root, spelled or {}, kind)
        splits[split] = {name: relative(files, root) for name, files in classes.items()}
        spelled = {name: name for name in (*classes, *without)} if spelled is None else spelled
        unused += others
        empty |= without
    if not any(splits.values()):
        raise DataError(f"{root} has no {kind.noun}s.", _layout(kind))
    empty -= {name for classes in splits.values() for name in classes}
    return Listed(root, splits, relative(unused, root), sorted(empty, key=natural), kind)


def list_for(root: Path, options: ReadOptions, kind: FileKind = PICTURES) -> Listed:
    """List what `options` ask for in a folder of files of a `kind`, to train on or for a model. Raises `DataError` if it cannot be used."""
    like = options.like
    listed = list_folder(root, None if like is None else like.outputs, kind).without(options.exclusion, needs_train=like is None)
    if like is None:
        for problem in problems(listed):
            raise problem
    return listed


class ReadFiles(NamedTuple):
    """The inputs of files, split by split, with the rule by which they were read, the hash of each file's content, and notes.

    `key` is the same for rules that make the same inputs of the same files. `model` is the pre-trained one that pictures were read for.
    """

    inputs: Inputs
    hashes: NDArray[Any]
    rule: InputRule
    key: bytes
    notes: tuple[str, ...] = ()
    model: str | None = None

    def parts(self, files: Mapping[str, Sequence[str]], targets: Mapping[str, Tensor | Sequence[str]]) -> dict[str, Part]:
        """Return the splits, by the names and the raw targets of the files in each."""
        parts, begin = {}, 0
        for split, names in files.items():
            end = begin + len(names)
            some = self.hashes[begin:end]
            inputs, digest = subset(self.inputs, slice(begin, end)), content_hash(self.key, some.tobytes())
            parts[split] = Part(inputs, targets[split], names, digest, some)
            begin = end
        return parts


def problems(listed: Listed) -> Iterator[DataError]:
    """Yield the errors that prevent training on the files of a folder."""
    root, trained, noun = listed.root, listed.splits["train"], listed.kind.noun
    for split, classes in listed.splits.items():
        for name, files in classes.items():
            if not files:
                fix = f"Save them as {listed.kind.formats}, or remove that folder."
                yield DataError(f"{root}: the {noun}s of the class '{name}' ({split}) are all in formats that are not read.", fix)
            elif name not in trained:
                yield DataError(f"{root}: the class '{name}' is in {split}, but not in train.", f"Add {noun}s of it, or remove it.")
    if len(trained) < 2:
        only = (
            f"has only one class folder with {noun}s, '{next(iter(trained))}'" if trained else f"has no class folder with {noun}s in train"
        )
        yield DataError(f"{root} {only}.", "Add another class; or if that folder has the classes, name it.")


def unused(listed: Listed) -> Iterator[str]:
    """Yield notes on what is not used in a folder."""
    kind, noun = listed.kind, listed.kind.noun
    foreign = [file for file in listed.unused if kind.is_foreign(file)]
    others = [file for file in listed.unused if not kind.is_foreign(file)]
    if listed.empty:
        yield f"class folders without {noun}s are left out: {_first(listed.empty)}"
    if foreign:
        what = f"{counted(len(foreign), noun)} {are(len(foreign))}"
        yield f"{what} not used: unsupported format (save as {kind.formats}): {_first(foreign)}"
    if others:
        what = f"{counted(len(others), 'file')} {are(len(others))}"
        yield f"{what} not used: no {noun} in a class folder: {_first(others)}"


def inner(root: Path) -> Path:
    """Return the first folder, from `root` inwards, with more than a single folder in it: archives often have an enclosing one."""
    folders, files = entries(root)
    return inner(folders[0]) if len(folders) == 1 and not files else root


def _layout(kind: FileKind) -> str:
    file = f"cat/1{kind.suffixes[0]}"
    return f"Put the {kind.noun}s of each class into a folder of their own: FOLDER/{file}, or FOLDER/train/{file} with FOLDER/test/..."


def _check_root(root: Path, kind: FileKind) -> None:
    if not root.exists():
        raise DataError(f"There is no folder {root}.", "Check the path.")
    if not root.is_dir():
        raise DataError(f"{root} is a file, not a folder of {kind.noun}s.", _layout(kind))
    if root.resolve() == Path(root.resolve().anchor):
        raise DataError(f"{root} is the root of the file system.", f"Give the folder of the {kind.noun}s.")
    if is_written(root):
        raise DataError(f"{root} was written by Epochal: it is not data.", f"Give the folder of the {kind.noun}s.")


def _splits(root: Path, known: Mapping[str, str] | None, kind: FileKind) -> tuple[Path, dict[str, Path]]:
    """Find the folder of each split, and the one that contains them; without split folders, that of the classes is "train"."""
    folder: Path | None = root
    while folder is not None:
        above, found = folder, _named(folder, known, kind)
        if found:
            break
        folder = _only(folder, root, known, kind)
    else:
        return above, {"train": above}
    splits: dict[str, Path] = {}
    for split, named in found:
        if split in splits:
            raise DataError(f"{splits[split]} and {named} are both the split '{split}'.", "Remove or rename one of them.")
        splits[split] = named
    if "train" not in splits and known is not None:
        return above, {"train": splits.get("test") or splits["valid"]}
    if "train" not in splits:
        raise DataError(f"{above} has {' and '.join(sorted(splits))}, but no train.", f"Put training {kind.noun}s into {above / 'train'}.")
    return above, splits


def _named(folder: Path, known: Mapping[str, str] | None, kind: FileKind) -> list[tuple[str, Path]]:
    """Return the split folders in a folder, each with its split; none if the folders are classes."""
    folders = [inner for inner in entries(folder)[0] if _normal(inner.name) not in (known or ())]
    names = {inner: found for inner in folders if (found := split_name(inner.name))}
    sure = [inner for inner, found in names.items() if found.is_sure]
    # A class may be called "train" too; but then there are other classes beside it, and files in it.
    if sure and (len(sure) == len(entries(folder)[0]) or any(entries(inner)[0] for inner in sure)):
        return [(names[inner].split, inner) for inner in sure]
    # Names that contain such a word (seg_train, but also "train station") are splits if all folders have one, and folders but no
    # files in them.
    others = (inner for inner in folders if inner not in names and not is_unlabelled(inner.name))
    if len({found.split for found in names.values()}) < 2 or any(has_files(kind, inner, folder) for inner in others):
        return []
    full = [inner for inner in names if has_files(kind, inner, folder)]
    return [] if any(holds_files(kind, inner) for inner in full) else [(names[inner].split, inner) for inner in full]


def _only(folder: Path, root: Path, known: Mapping[str, str] | None, kind: FileKind) -> Path | None:
    """Return the only folder with files of the kind if it encloses others and has none itself; such a folder is not a class."""
    folders, files = entries(folder)
    full = list(islice((inner for inner in folders if has_files(kind, inner, root, folder)), 2))
    if len(full) != 1 or _normal(full[0].name) in (known or ()) or any(map(kind.matches, files)):
        return None
    return full[0] if entries(full[0])[0] and not holds_files(kind, full[0]) else None


def _inside(folder: Path, root: Path, known: Mapping[str, str] | None, kind: FileKind) -> Path:
    """Return the folder of the classes inside that of a split: seg_train/seg_train."""
    only = _only(folder, root, known, kind)
    return folder if only is None else _inside(only, root, known, kind)


def _outside(root: Path, above: Path, folders: Mapping[str, Path], kind: FileKind) -> list[str]:
    """Return the files above the class folders, and those in unlabelled folders beside splits. Raises `DataError` for others."""
    unused = entries(root)[1] if root not in folders.values() else []
    if above in folders.values():
        return unused
    unused += entries(above)[1] if above != root else []
    for folder in entries(above)[0]:
        if folder in folders.values():
            continue
        if is_unlabelled(folder.name):
            unused += walk(folder, {identity(root)})
        elif has_files(kind, folder, root):
            raise DataError(f"{folder} has {kind.noun}s, but is not a split.", "Name it train, valid or test, or move it away.")
    return unused


def _list(folder: Path, root: Path, known: Mapping[str, str], kind: FileKind) -> tuple[dict[str, list[str]], list[str], set[str]]:
    """List the files below the folder of a split: those of the kind by class, other files, and the classes without any."""
    folders, unused = entries(folder)
    if not folders:
        what = (
            f"has {kind.noun}s, but no class folders"
            if any(map(kind.matches, unused))
            else f"has no {kind.noun}s"
            if unused
            else "is empty"
        )
        raise DataError(f"{folder} {what}.", _layout(kind))
    classes: dict[str, list[str]] = {}
    empty: set[str] = set()
    for inner in folders:
        passed = Passed()
        files = sorted(walk(inner, {identity(root), identity(folder)}, passed))
        found, others = [file for file in files if kind.matches(file)], [file for file in files if not kind.matches(file)]
        unused += others
        name = known.get(_normal(inner.name), _normal(inner.name))
        if found or any(map(kind.is_foreign, others)):
            classes[name] = sorted([*classes.get(name, ()), *found])
        elif files or not passed.written:
            empty.add(name)
    _refuse_alike(folder, {name: relative(files, folder) for name, files in classes.items() if name not in known.values()})
    return classes, unused, empty


def _refuse_alike(folder: Path, classes: Mapping[str, Sequence[str]]) -> None:
    """Raise `DataError` if two classes, given by their files relative to `folder`, contain the same subfolders."""
    inner = {name: names for name, files in classes.items() if len(names := _inner_names(files)) > 1}
    for (one, names), (two, others) in combinations(inner.items(), 2):
        if len(same := sorted(names & others, key=natural)) > 1:
            shared = ", ".join(same[:3]) + ", ..." * (len(same) > 3)
            raise DataError(
                f"{folder / one} and {folder / two} contain the same folders ({shared}): are these the classes?",
                "If so, name the folders above them train, valid and test; else put the files of each class directly into its folder.",
            )


def _inner_names(files: Sequence[str]) -> set[str]:
    """Return the names of the subfolders that contain all files of a class; none if there are files beside them."""
    paths, level = [file.split("/") for file in files], 1
    while paths and all(len(path) > level + 1 for path in paths):
        names = {_normal(path[level]).casefold() for path in paths}
        if len(names) > 1:
            return names
        level += 1
    return set()


def _first(names: Sequence[str]) -> str:
    return names[0] + ", ..." * (len(names) > 1)


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", name)
