"""Which examples were used in training: those a model was trained on, and those by which its epoch was chosen.

An example is recognized by its content, not its name or path: by the hash of its file, and by the input that the model gets; if inputs
are rows of numbers, which may be equal by chance, together with its target. A key of 8 bytes is saved for each of these, in the run folder
and not in the bundle: with them, anybody who has an example could find out whether it was trained on. Inputs that are read one by one
may change each time, and are not recognized.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from epochal.checks.duplicates import hash_keys, row_keys
from epochal.data.examples import Examples
from epochal.data.inputs.base import InputRule
from epochal.data.inputs.values import access, in_memory
from epochal.data.load import Data
from epochal.errors import BundleError, reason_of
from epochal.io.checksums import CHANGED
from epochal.io.files import write_bytes
from epochal.io.safe_read import read_file

SEEN = "seen.bin"

Keys = NDArray[np.uint64]

_DIGEST_BYTES = 32

# Examples that are not in memory are read so many at a time.
_ROWS = 1 << 14


def keys_of(data: Data) -> Keys:
    """Return the keys of all examples of the splits that training uses, train and valid: uint64, sorted."""
    parts = [data.train] if data.valid is None else [data.train, data.valid]
    found = [keys for part in parts for keys in _keys(part, data.input)]
    return np.unique(np.concatenate(found)) if found else np.zeros(0, np.uint64)


def are_seen(examples: Examples, rule: InputRule, seen: Keys) -> NDArray[np.bool_]:
    """Return which examples, with inputs by `rule`, have keys in `seen`: bool [n]."""
    known = np.zeros(len(examples), np.bool_)
    for keys in _keys(examples, rule):
        known |= np.isin(keys, seen)
    return known


def content_keys(examples: Examples, rule: InputRule) -> Keys | None:
    """Return a key of each example's content, uint64 [n]: of its file, if there is one, or else of its input; `None` without either."""
    return next(_keys(examples, rule), None)


def write_seen(folder: Path, seen: Keys) -> None:
    """Save keys in the folder of a run, atomically. Raises `OutputError`."""
    content = seen.astype("<u8").tobytes()
    write_bytes(folder / SEEN, content + hashlib.sha256(content).digest())


def read_seen(folder: Path) -> Keys | None:
    """Return the keys saved in a run, or `None` if there are none. Raises `BundleError` if they are damaged."""
    path = folder / SEEN
    if not path.exists():
        return None
    try:
        whole = read_file(path)
        content, digest = whole[:-_DIGEST_BYTES], whole[-_DIGEST_BYTES:]
        if len(content) % 8 or hashlib.sha256(content).digest() != digest:
            raise ValueError(CHANGED)
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} cannot be read: {reason_of(error)}.", "Restore it as it was, or remove it.") from error
    return np.frombuffer(content, "<u8").astype(np.uint64)


def _keys(examples: Examples, rule: InputRule) -> Iterator[Keys]:
    """Yield keys of all examples, uint64 [n]: of their files, and of their inputs, whichever are available."""
    if examples.hashes is not None:
        yield hash_keys(examples.hashes[examples.positions.numpy()])
    inputs = in_memory(examples.inputs)
    if inputs is not None or (examples.hashes is None and access(examples.inputs) == "file"):
        blocks = torch.arange(len(examples)).split(_ROWS)
        keys = row_keys(inputs) if inputs is not None else np.concatenate([row_keys(examples.inputs[some]) for some in blocks])
        yield keys if rule.is_distinct else keys ^ row_keys(examples.targets.double())
