"""A folder of pictures, one folder for each class, with or without splits above.

Either photos/cat/1.jpg, photos/dog/deep/2.png; or photos/train/cat/1.jpg, photos/valid/cat/2.jpg, photos/test/cat/3.jpg.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from epochal.data.cache import content_hash
from epochal.data.examples import Found, Part, subset
from epochal.data.exclude import NOTHING, Exclusion
from epochal.data.ingest import Wanted, ingest
from epochal.data.pictures import SUFFIXES
from epochal.data.spec import SPLITS, DataSpec, Fit
from epochal.data.targets import natural
from epochal.errors import DataError

_SPLIT_NAMES = {"train": "train", "valid": "valid", "val": "valid", "validation": "valid", "test": "test"}

# Left behind by systems and archives; they are never meant.
_LITTER = ("__macosx", "thumbs.db", "desktop.ini")

# Of 16-bit pictures no brighter than that (12 bits, say), the high byte keeps little.
_DARK = 32

_LAYOUT = "Put the pictures of each class into a folder of their own: FOLDER/cat/1.jpg, or FOLDER/train/cat/1.jpg with FOLDER/test/..."


@dataclass(frozen=True)
class Listed:
    """The picture files of a folder by split and class, each relative to it with slashes; and the files that are not used."""

    root: Path
    splits: Mapping[str, Mapping[str, Sequence[str]]]
    unused: Sequence[str]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of all classes, in natural order ("2" before "10")."""
        return tuple(sorted({name for classes in self.splits.values() for name in classes}, key=natural))

    def files(self, split: str) -> list[str]:
        """The pictures of a split, class by class, those of each in alphabetical order."""
        return [file for name in self.classes for file in self.splits[split].get(name, ())]

    def targets(self, split: str) -> torch.Tensor:
        """The numbers of their classes: int64 [n]."""
        counts = torch.tensor([len(self.splits[split].get(name, ())) for name in self.classes])
        return torch.arange(len(counts)).repeat_interleave(counts)

    def without(self, exclusion: Exclusion, *, needs_train: bool = True) -> Listed:
        """Return the listing without some files. Raises `DataError` where one is not there, or a class would have none to train on."""
        if not exclusion.names:
            return self
        exclusion.check((file for split in self.splits for file in self.files(split)), str(self.root))
        left: dict[str, dict[str, list[str]]] = {}
        for split, classes in self.splits.items():
            left[split] = {}
            for name, files in classes.items():
                kept = [file for file in files if file not in exclusion.names]
                if needs_train and split == "train" and files:
                    exclusion.spared(len(kept), f"the pictures of the class '{name}'")
                if kept or not files:
                    left[split][name] = kept
            exclusion.spared(len(left[split]), f"the pictures of {split}")
        return Listed(self.root, left, self.unused)


def read(
    path: Path,
    *,
    size: int | tuple[int, int] | None = None,
    fit: Fit | None = None,
    memory: float | None = None,
    like: DataSpec | None = None,
    exclusion: Exclusion = NOTHING,
) -> Found:
    """Read a folder of pictures: uint8 inputs [n, 1 or 3, height, width], int64 targets, files relative to the folder.

    Classes are in natural order ("2" before "10"), the files of each in alphabetical order. `size` and `fit` are those of
    `choose_rule`; beyond `memory` bytes, pictures are streamed. Pictures for a model that was trained already are read as those
    that `like` describes; only some of its classes, or only a test split, will do. Files of the `exclusion` are not read. Raises
    `DataError` where the layout is not clear or a picture cannot be read.
    """
    listed = list_folder(path, needs_train=like is None).without(exclusion, needs_train=like is None)
    if like is None:
        for problem in problems(listed):
            raise problem
    files = {split: listed.files(split) for split in listed.splits}
    # Only training pictures decide how pictures are read: the others stand for those to come.
    names = [file for split in files.values() for file in split]
    known = like.picture if like is not None else None
    found = ingest(Wanted(path, names, len(files["train"]), rule=known, size=size, fit=fit, memory=memory))
    parts, begin = {}, 0
    for split in listed.splits:
        end = begin + len(files[split])
        hashes = found.hashes[begin:end]
        digest = content_hash(found.rule.model_dump_json().encode(), hashes.tobytes())
        inputs = found.inputs[begin:end] if isinstance(found.inputs, torch.Tensor) else subset(found.inputs, torch.arange(begin, end))
        parts[split] = Part(inputs, listed.targets(split), files[split], digest, hashes)
        begin = end
    notes = [*_told(listed.unused), *found.notes]
    brightest = int(pictures.amax()) if found.is_deep and isinstance(pictures := parts["train"].inputs, torch.Tensor) else 255
    if brightest < _DARK:
        notes.append(f"16-bit pictures keep their high byte, which in these is at most {brightest}: rescale them to 0-65535")
    return Found(path.resolve().name, parts, classes=listed.classes, picture=found.rule, notes=tuple(notes))


def list_folder(path: Path, *, needs_train: bool = True) -> Listed:
    """List a folder of pictures. Raises `DataError` where its layout is not clear."""
    folders = _splits(path, needs_train=needs_train)
    unused = [] if path in folders.values() else _entries(path)[1]
    splits = {}
    for split, folder in folders.items():
        classes, others = _list(folder, path)
        splits[split] = {name: _relative(files, path) for name, files in classes.items()}
        unused += others
    return Listed(path, splits, _relative(unused, path))


def problems(listed: Listed) -> Iterator[DataError]:
    """Yield what keeps the pictures of a folder from being trained on."""
    root, trained = listed.root, listed.splits["train"]
    for split, classes in listed.splits.items():
        for name, files in classes.items():
            if name not in trained:
                yield DataError(f"{root}: the class '{name}' is in {split}, but not in train.", "Add pictures of it, or remove it.")
            elif not files:
                yield DataError(f"{root}: the folder of the class '{name}' has no pictures ({split}).", "Fill it or remove it.")
    if len(trained) < 2:
        (name,) = trained
        yield DataError(f"{root} has only one class folder, '{name}'.", "Add another class; or if that folder has the classes, name it.")


def inner(root: Path) -> Path:
    """Return the folder in which there is more than one other: archives often have one around all."""
    folders, files = _entries(root)
    return inner(folders[0]) if len(folders) == 1 and not files else root


def _splits(root: Path, *, needs_train: bool) -> dict[str, Path]:
    """Find the folder of each split; all of `root` is "train" where there are none."""
    if not root.exists():
        raise DataError(f"There is no folder {root}.", "Check the path.")
    if not root.is_dir():
        raise DataError(f"{root} is a file, not a folder of pictures.", _LAYOUT)
    if root.resolve() == Path(root.resolve().anchor):
        raise DataError(f"{root} is the folder of all files.", "Give the folder of the pictures.")
    folders, _ = _entries(root)
    named = [folder for folder in folders if folder.name.lower() in _SPLIT_NAMES]
    # A class may be called "train" too; but then others stand beside it, and pictures lie in it.
    if not named or (len(named) < len(folders) and not any(_entries(folder)[0] for folder in named)):
        return {"train": root}
    splits: dict[str, Path] = {}
    for folder in named:
        split = _SPLIT_NAMES[folder.name.lower()]
        if split in splits:
            raise DataError(f"{splits[split]} and {folder} are both the split '{split}'.", "Remove or rename one of them.")
        splits[split] = folder
    if "train" not in splits and not needs_train:
        return {"train": splits.get("test") or splits["valid"]}
    if "train" not in splits:
        raise DataError(f"{root} has {' and '.join(sorted(splits))}, but no train.", f"Put training pictures into {root / 'train'}.")
    for folder in folders:
        if folder not in named and any(map(_is_picture, _walk(folder, {_identity(root)}))):
            raise DataError(f"{folder} has pictures, but is no split.", "Name it train, valid or test, or move it away.")
    return {split: splits[split] for split in SPLITS if split in splits}


def _list(folder: Path, root: Path) -> tuple[dict[str, list[str]], list[str]]:
    """List the files below the folder of a split: the pictures of each class, and the others."""
    folders, unused = _entries(folder)
    if not folders:
        what = "has pictures, but no class folders" if any(map(_is_picture, unused)) else "has no pictures" if unused else "is empty"
        raise DataError(f"{folder} {what}.", _LAYOUT)
    classes: dict[str, list[str]] = {}
    for inner in folders:
        files = sorted(_walk(inner, {_identity(root), _identity(folder)}))
        classes[inner.name] = [file for file in files if _is_picture(file)]
        if len(classes[inner.name]) < len(files):
            unused += [file for file in files if not _is_picture(file)]
    return classes, unused


def _told(unused: Sequence[str]) -> Iterator[str]:
    if unused:
        what = "1 file is" if len(unused) == 1 else f"{len(unused):,} files are"
        first = unused[0] + ", ..." * (len(unused) > 1)
        yield f"{what} not used, being no picture in a class folder: {first}"


def _walk(folder: Path, seen: set[tuple[int, int]]) -> Iterator[str]:
    """Yield all files below a folder. A link to a folder that was `seen` already leads nowhere, so that loops end."""
    if _identity(folder) in seen:
        return
    seen.add(_identity(folder))
    folders, files = _entries(folder)
    yield from files
    for inner in folders:
        yield from _walk(inner, seen)


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _entries(folder: Path) -> tuple[list[Path], list[str]]:
    """List the folders and the files in a folder, in alphabetical order, without hidden ones and litter.

    Files are text: there may be millions, and a `Path` takes fifty times as long as listing one.
    """
    folders: list[Path] = []
    files: list[str] = []
    prefix = _prefix(folder)
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name.lower() in _LITTER:
                    continue
                path = prefix + entry.name
                # A link in a circle is neither, and only Path says so without an error.
                if Path(path).is_dir() if entry.is_symlink() else entry.is_dir():
                    folders.append(Path(path))
                else:
                    files.append(path)
    except PermissionError as error:
        raise DataError(f"{folder} may not be read.", "Change its permissions.") from error
    except OSError as error:
        raise DataError(f"{folder} cannot be listed: {error.strerror}.", "Check the path.") from error
    return sorted(folders), sorted(files)


def _prefix(folder: Path) -> str:
    """What the names of files in a folder begin with; that of the current folder is empty."""
    return "" if folder == Path() else f"{folder}{os.sep}"


def _relative(files: Sequence[str], root: Path) -> list[str]:
    """The names of files below `root`, with slashes."""
    prefix = _prefix(root)
    return [file.removeprefix(prefix).replace(os.sep, "/") for file in files]


def _is_picture(file: str) -> bool:
    return file.lower().endswith(SUFFIXES)
