"""What was read from files, kept so that it is not read again as long as none of them changes.

    KEY.found    targets, names, the rule by which inputs were read, notes, ...; and the name of the pack with the inputs

The key is a hash of the files' content and names, of all options of reading, and of the code that reads.
"""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from epochal.data.examples import Found, Part
from epochal.data.inputs.kinds import KINDS
from epochal.data.inputs.values import View, in_memory, subset
from epochal.data.options import ReadOptions
from epochal.data.storage.cache import FILE, SIGNATURE, Cache, DamagedError, Pack, content_hash, hash_file, open_cache, signature
from epochal.data.storage.fill import PackedInputs, numbered, read_pack, write_pack
from epochal.tasks.words import Words

# What is read in less time is not kept.
QUICK_SECONDS = 0.5

_HASH = 16

# Rows that are written at once.
_ROWS = 1 << 16


def kept(
    root: Path, files: Mapping[str, Sequence[str]], options: ReadOptions, read: Callable[[], Found], known: NDArray[Any] | None = None
) -> Found:
    """Return what `read` makes of the files of each split below `root`, or what an earlier call has made of the same files.

    If `read` fills in what is known about them (`FILE` [n], in order), they are not read again to hash them.
    """
    cache, notes = open_cache(), list[str]()
    names = [name for some in files.values() for name in some]
    before = cache.recall(root, names)
    if before is not None:
        try:
            if (found := _find(cache, _key(root, files, options, before["hash"]), options.memory)) is not None:
                return reported(found, notes)
        except DamagedError as error:
            notes.append(f"{error.problem.rstrip('.')}; they were read again")
    began, signatures = time.time_ns(), _signatures(root, names) if known is None else None
    found = read()
    is_slow = time.time_ns() - began >= QUICK_SECONDS * 1e9
    if _pack_of(found) is not None or (is_slow and all(in_memory(part.inputs) is not None for part in found.parts.values())):
        try:
            known = _known(root, names, signatures) if known is None else known
            if known is not None:
                _keep(cache, _key(root, files, options, known["hash"]), found)
                cache.remember(root, names, known, began)
        except OSError as error:
            notes.append(f"what was read is not cached: {error.strerror}")
    return reported(found, notes)


def reported(found: Found, notes: Sequence[str] = ()) -> Found:
    """Add notes, and one on inputs that are not in memory."""
    pack, streamed = _pack_of(found), []
    if pack is not None and found.input is not None:
        size = f"{len(pack):,} {found.input.noun}s would take {pack.pack.size / 1e9:,.1f} GB of memory"
        streamed = [f"{size}: they are streamed from the cache (see data.memory)"]
    return replace(found, notes=(*notes, *found.notes, *streamed))


def _signatures(root: Path, names: Sequence[str]) -> NDArray[Any] | None:
    try:
        return np.array([signature(os.stat(os.path.join(root, name))) for name in names], SIGNATURE)  # noqa: PTH116, PTH118  a Path takes longer
    except OSError:
        return None  # Reading says what is wrong.


def _known(root: Path, names: Sequence[str], signatures: NDArray[Any] | None) -> NDArray[Any] | None:
    """Return what is known about files (`FILE` [n]); `None` if one has changed since it had its signature."""
    known = np.zeros(len(names), FILE)
    for place, name in enumerate(names):
        known["hash"][place] = hash_file(root / name)
    now = _signatures(root, names)
    if signatures is None or now is None or (now != signatures).any():
        return None
    known["signature"] = signatures
    return known


def _key(root: Path, files: Mapping[str, Sequence[str]], options: ReadOptions, hashes: NDArray[Any]) -> str:
    rules = [rule.model_dump_json() for rule in (options.like, options.input) if rule is not None and not isinstance(rule, str)]
    names = {split: tuple(some) for split, some in files.items()}
    asked = repr((str(root.resolve()), names, replace(options, memory=None, like=None, pretrained=None), rules))
    return content_hash(_code(), asked.encode("utf-8", "surrogateescape"), hashes.tobytes()).hex()


@functools.cache
def _code() -> bytes:
    """Return a hash of the code that reads data: what another version has read may be different."""
    files = sorted(Path(__file__).parents[1].rglob("*.py"))
    return content_hash(*(file.read_bytes() for file in files))


def _pack_of(found: Found) -> PackedInputs | None:
    """Return the pack that has the inputs of all splits, in order, if they are not in memory."""
    inputs = next(iter(found.parts.values())).inputs
    return inputs.inputs if isinstance(inputs, View) and isinstance(inputs.inputs, PackedInputs) else None


def _keep(cache: Cache, key: str, found: Found) -> None:
    packed, tensors = _pack_of(found), dict[str, Tensor]()
    described = {
        "pack": (_packed(found) if packed is None else packed.pack).path.stem,
        "counts": {split: len(part.inputs) for split, part in found.parts.items()},
        "parts": {split: _frozen(part, ("inputs",), split, tensors) for split, part in found.parts.items()},
        "found": _frozen(found, ("parts", "input"), "found", tensors),
        "input": None if found.input is None else found.input.model_dump(mode="json"),
    }
    head = json.dumps(described).encode()
    cache.write(_path(cache, key), len(head).to_bytes(8, "little") + head + save_tensors(tensors))


def _packed(found: Found) -> Pack:
    """Write inputs that are in memory to a pack."""
    inputs = [values for part in found.parts.values() if (values := in_memory(part.inputs)) is not None]
    blocks = (block.numpy() for values in inputs for block in values.split(_ROWS))
    shape, dtype = (sum(map(len, inputs)), *inputs[0].shape[1:]), inputs[0].dtype
    return write_pack(numbered(blocks), shape, dtype, found.name)


def _find(cache: Cache, key: str, memory: float | None) -> Found | None:
    """Return what was kept; `None` if that is not there, or is damaged. Raises `DamagedError` for its pack."""
    try:
        content = _path(cache, key).read_bytes()
        os.utime(_path(cache, key))
    except OSError:
        return None
    if content[:_HASH] != content_hash(content[_HASH:]):
        return None
    begin = _HASH + 8
    end = begin + int.from_bytes(content[_HASH:begin], "little")
    described, tensors = json.loads(content[begin:end]), load_tensors(content[end:])
    pack = cache.find(described["pack"])
    if pack is None:
        return None
    inputs, parts, first = read_pack(pack, memory), dict[str, Part](), 0
    for split, count in described["counts"].items():
        part = subset(inputs, slice(first, first + count))
        parts[split] = Part(part, **_thawed(Part, described["parts"][split], tensors))
        first += count
    rule = None if described["input"] is None else KINDS[described["input"]["kind"]].model_validate(described["input"])
    return Found(parts=parts, input=rule, **_thawed(Found, described["found"], tensors))


def _path(cache: Cache, key: str) -> Path:
    return cache.folder / f"{key}.found"


def _frozen(value: Part | Found, without: Sequence[str], name: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Return the fields of a value for JSON; arrays are added to `tensors`."""
    return {
        field.name: _frozen_value(getattr(value, field.name), f"{name}.{field.name}", tensors)
        for field in fields(value)
        if field.name not in without
    }


def _frozen_value(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, Tensor):
        tensors[name] = value.contiguous()
        return {"tensor": name}
    if isinstance(value, np.ndarray):
        tensors[name] = torch.from_numpy(np.ascontiguousarray(value).view(np.uint8).copy())
        return {"array": name, "dtype": value.dtype.str}
    if isinstance(value, tuple):
        return {"tuple": list(value)}
    if isinstance(value, BaseModel):
        return {"model": value.model_dump(mode="json")}
    words = Words.of(value)
    tensors[name] = torch.from_numpy(words.codes).contiguous()
    return {"words": words.words, "codes": name}


def _thawed(owner: type[Part | Found], values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    kinds = get_type_hints(owner)
    return {name: _thawed_value(value, kinds[name], tensors) if isinstance(value, dict) else value for name, value in values.items()}


def _thawed_value(value: Mapping[str, Any], kind: Any, tensors: Mapping[str, Tensor]) -> Any:
    match value:
        case {"model": described}:
            return kind.model_validate(described)
        case {"bytes": text}:
            return bytes.fromhex(text)
        case {"tensor": name}:
            return tensors[name]
        case {"array": name, "dtype": dtype}:
            return tensors[name].numpy().view(dtype)
        case {"tuple": items}:
            return tuple(items)
        case {"words": words, "codes": name}:
            return Words(words, tensors[name].numpy())
    raise AssertionError(value)
