"""Arrays in files: .npz, .safetensors, or several .npy side by side.

Arrays are recognized by their names: inputs and targets for training as `x` and `y` (or `images` and `labels`, ...), and those of a
split with its name before or after: `x_train`, `train_images`, `y_val`, `test_labels`. Class names are in `classes`,
in a .safetensors file as a JSON list in the metadata.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor

from epochal.data.examples import Found, Part
from epochal.data.numbers import check_characters, from_array
from epochal.data.sources.splits import split_name
from epochal.data.sources.targets import read_targets
from epochal.data.spec import SPLITS
from epochal.data.storage.archives import open_zip
from epochal.data.storage.npy import ObjectsError, read_array, read_npy
from epochal.errors import DataError
from epochal.io.safe_read import open_file, parse_json, read_tensors

SUFFIXES = (".npz", ".npy", ".safetensors")

_WORDS = {
    "inputs": ("x", "input", "inputs", "image", "images", "data", "features"),
    "targets": ("y", "target", "targets", "label", "labels"),
}
_CLASSES = "classes"
_NAMED = 20
_WIDE = (torch.float64, torch.float32, torch.float16)
_WANTED = "Name arrays x and y, or x_train, y_train, x_test, ...; inputs and targets, images and labels, data and labels work too."
_AGAIN = "Save or copy it again."

# Arrays are read only when they are needed: others in the file need not be readable.
_Arrays = dict[str, Callable[[], NDArray[Any]]]


class _Meaning(NamedTuple):
    """The meaning of an array's name."""

    split: str
    role: str
    word: str


def read(path: Path) -> Found:
    """Read the arrays in a .npz, .npy or .safetensors file, or in the .npy files of a folder.

    Inputs and targets keep their values and types, up to 64 bits; targets may be text. Shapes and
    lengths are not checked. A .npy file is read with the files beside it that belong to it. Raises `DataError` with the names of
    the arrays that were found and of those that are needed.
    """
    arrays = _open(path)
    classes = _class_names(arrays.pop(_CLASSES)(), path) if _CLASSES in arrays else None
    chosen = _choose(arrays, path)
    parts = {
        split: Part(_inputs(arrays[inputs](), f"'{inputs}' in {path}"), read_targets(arrays[targets](), split))
        for split, (inputs, targets) in chosen.items()
    }
    unused = sorted(arrays.keys() - {name for pair in chosen.values() for name in pair})
    notes = (f"arrays that are not used: {', '.join(unused)}",) if unused else ()
    place = path.resolve()
    name = place.name if place.is_dir() else place.parent.name if place.suffix == ".npy" else place.stem
    return Found(name, parts, classes=classes, notes=notes)


def holds_arrays(folder: Path) -> bool:
    """Return whether a folder has .npy files named like inputs or targets."""
    return any(_parse(file.stem) for file in folder.glob("*.npy"))


def _open(path: Path) -> _Arrays:
    if path.is_dir():
        return _npy_files(path)
    if not path.exists():
        raise DataError(f"There is no file {path}.", "Check the path.")
    match path.suffix.lower():
        case ".npy":
            return _npy_beside(path)
        case ".npz":
            return _npz(path)
        case _:
            return _safetensors(path)


def _npy_files(folder: Path) -> _Arrays:
    return {file.stem: partial(_npy_array, file) for file in sorted(folder.glob("*.npy"))}


def _npy_beside(file: Path) -> _Arrays:
    """Return a .npy file with those beside it that may belong to it; if there are inputs under two names, only its own."""
    own = _parse(file.stem)
    if own is None:
        raise DataError(f"The name of {file} does not say what it contains.", _WANTED)
    found = {name: (_parse(name), read) for name, read in _npy_files(file.parent).items()}
    kept = {name: read for name, (one, read) in found.items() if one and (one.role != own.role or one.word == own.word)}
    return kept | {name: read for name, (_, read) in found.items() if name == _CLASSES}


def _npy_array(file: Path) -> NDArray[Any]:
    with _read_errors(str(file)):
        return read_npy(file)


def _npz(file: Path) -> _Arrays:
    with _read_errors(str(file)), open_zip(file) as (_, members):
        return {member.filename.removesuffix(".npy"): partial(_npz_array, file, member.filename) for member in members}


def _npz_array(file: Path, name: str) -> NDArray[Any]:
    with _read_errors(f"'{name.removesuffix('.npy')}' in {file}"), open_zip(file) as (archive, _), archive.open(name) as content:
        return read_array(content, archive.getinfo(name).file_size)


def _safetensors(file: Path) -> _Arrays:
    with _read_errors(str(file)), open_file(file) as content:
        stored = read_tensors(content)
    arrays: _Arrays = {name: partial(_safetensors_array, file, name) for name in stored.tensors}
    if _CLASSES in stored.metadata:
        arrays[_CLASSES] = partial(_json_array, stored.metadata[_CLASSES], f"'{_CLASSES}' in the metadata of {file}")
    return arrays


def _safetensors_array(file: Path, name: str) -> NDArray[Any]:
    with _read_errors(f"'{name}' in {file}"), safe_open(file, "pt") as content:
        tensor: Tensor = content.get_tensor(name)
        # NumPy has no bfloat16 and no float8.
        array: NDArray[Any] = (tensor if tensor.dtype in _WIDE or not tensor.is_floating_point() else tensor.float()).numpy()
        return array


def _json_array(text: str, where: str) -> NDArray[Any]:
    with _read_errors(where):
        return np.array(parse_json(text.encode()))


def _parse(name: str) -> _Meaning | None:
    """Parse names such as x, x_train and training_images."""
    word, split = name.lower(), "train"
    first, _, rest = word.partition("_")
    start, _, last = word.rpartition("_")
    for named, other in ((first, rest), (last, start)):
        found = split_name(named)
        if found is not None and found.is_sure:
            word, split = other, found.split
            break
    role = next((role for role, words in _WORDS.items() if word in words), None)
    return None if role is None else _Meaning(split, role, word)


def _choose(names: Iterable[str], path: Path) -> dict[str, tuple[str, str]]:
    """Return the names of inputs and targets of each split."""
    names = sorted(names)
    found = f"It has {', '.join(names[:_NAMED]) or 'no arrays'}{', ...' * (len(names) > _NAMED)}."
    roles: dict[tuple[str, str], str] = {}
    for name in names:
        meaning = _parse(name)
        if meaning is not None:
            other = roles.setdefault(meaning[:2], name)
            if other != name:
                raise DataError(
                    f"{path}: '{other}' and '{name}' both could be the {meaning.role} of {meaning.split}.", "Rename one of them."
                )
    chosen = {}
    for split in SPLITS:
        lacking = [role for role in _WORDS if (split, role) not in roles]
        if not lacking:
            chosen[split] = roles[split, "inputs"], roles[split, "targets"]
        elif split == "train" or len(lacking) == 1:
            raise DataError(f"{path} lacks the {' and '.join(lacking)} of {split}. {found}", _WANTED)
    return chosen


def _inputs(array: NDArray[Any], where: str) -> Tensor:
    if array.dtype.kind not in "buif" or array.ndim == 0:
        raise DataError(
            f"{where} contains {_content(array)}, which cannot be learned from.", "Save an array of numbers, an example per row."
        )
    return from_array(array, where)


def _words(array: NDArray[Any], where: str) -> list[str]:
    check_characters(array, f"{where} contains")
    return [str(word) for word in array.ravel()]


def _content(array: NDArray[Any]) -> str:
    if array.ndim == 0:
        return "a single value"
    kinds = {"U": "text", "S": "text", "c": "complex numbers", "M": "dates", "m": "durations"}
    return kinds.get(array.dtype.kind, f"values of type {array.dtype}")


def _class_names(array: NDArray[Any], path: Path) -> tuple[str, ...]:
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8", "backslashreplace")
    names = tuple(_words(array, f"'{_CLASSES}' in {path}")) if array.dtype.kind == "U" else ()
    if not names or array.ndim != 1 or len(set(names)) < len(names):
        raise DataError(
            f"'{_CLASSES}' in {path} is not a list of different words.", "Give the name of each class, in the order of the labels."
        )
    return names


@contextmanager
def _read_errors(name: str) -> Iterator[None]:
    """Turn any error of reading into a `DataError` that begins with a name."""
    try:
        yield
    except Exception as error:  # For damaged files NumPy, zipfile and safetensors raise nearly any exception.
        if isinstance(error, ObjectsError):
            raise DataError(
                f"{name} contains Python objects, which are not read: they could run any code.", "Save numbers or words."
            ) from error
        raise DataError(f"{name} is damaged: {str(error) or type(error).__name__}.", _AGAIN) from error
