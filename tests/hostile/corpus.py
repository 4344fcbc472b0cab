"""Files that strangers would make, each with a name: model and array files, archives, pictures."""

from __future__ import annotations

import binascii
import contextlib
import gzip
import hashlib
import io
import json
import lzma
import os
import pickle
import random
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from epochal.data.sources import cifar10
from epochal.io.checksums import text_with_checksum, with_checksum
from tests.hostile import tables
from tests.hostile.mutate import change_bytes
from tests.hostile.seeds import idx, npy, npz, photos, pictures, tarred, zipped
from tests.tones import tone, wav


class Case(NamedTuple):
    """A hostile file: its name, what it pretends to be, and how it is written; `make` returns what to load."""

    name: str
    kind: str
    make: Callable[[Path], Path]


class Payload:
    """What runs a command when it is unpickled: it leaves a canary."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.canary}",)


def pickles(canary: Path) -> dict[str, bytes]:
    """Pickles that leave a canary, by every opcode that calls something."""
    path = str(canary)
    command = f"touch {path}"
    found = {f"pickle protocol {protocol}": pickle.dumps(Payload(canary), protocol) for protocol in range(6)}
    found["pickle INST"] = f"(S'{command}'\nios\nsystem\n.".encode()
    found["pickle OBJ"] = f"(cos\nsystem\nS'{command}'\no.".encode()
    found["pickle BUILD"] = f"cos\nsystem\n(S'{command}'\ntR(dS'a'\nS'b'\nsb.".encode()
    found["pickle STACK_GLOBAL"] = b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c" + bytes([len(command)]) + command.encode() + b"\x85R."
    found["pickle NEWOBJ_EX"] = b"\x80\x04cbuiltins\nexec\n(V" + f"import os; os.system('{command}')".encode() + b"\ntR."
    with io.BytesIO() as file:
        torch.save({"x": Payload(canary)}, file)
        found["torch.save"] = file.getvalue()
    with io.BytesIO() as file:
        torch.save({"x": Payload(canary)}, file, _use_new_zipfile_serialization=False)
        found["torch.save of old"] = file.getvalue()
    return found


def tensors(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """A .safetensors file with any header."""
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(content) if length is None else length).to_bytes(8, "little") + content + data


def _entry(shape: Any, begin: Any, end: Any, dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def headers() -> dict[str, bytes]:
    """Headers of .safetensors files that lie."""
    good = {"x": _entry([12, 1], 0, 48), "y": _entry([12], 48, 144, "I64")}
    data = bytes(144)
    return {
        "a header of 2^63 bytes": tensors(good, data, 2**63),
        "a header of 2^64 - 1 bytes": tensors(good, data, 2**64 - 1),
        "a header of 10 GB": tensors(good, data, 10**10),
        "a header longer than the file": tensors(good, data, 10_000),
        "a header of no bytes": tensors(b"", data),
        "a header of 90 MB": tensors(b"{" + b" " * 90_000_000 + b"}"),
        "a header of 60,000 tensors of 0 bytes": tensors({f"t{number}": _entry([0], 0, 0) for number in range(60_000)}),
        "a header that is nested": tensors(b'{"a":' * 100_000),
        "a header that is a list": tensors([good], data),
        "a header that is a string": tensors('"' + "x" * 100 + '"'),
        "a header in UTF-16": tensors(json.dumps(good).encode("utf-16"), data),
        "a header with NaN": tensors(b'{"x":{"dtype":"F32","shape":[NaN],"data_offsets":[0,4]}}', bytes(4)),
        "names that come twice": tensors(
            b'{"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"0"
        ),
        "tensors that overlap": tensors({**good, "z": _entry([12], 0, 48)}, data),
        "tensors that overlap partly": tensors({"x": _entry([12, 1], 0, 48), "y": _entry([12], 44, 140, "I64")}, bytes(140)),
        "a gap between tensors": tensors({"x": _entry([12, 1], 0, 48), "y": _entry([12], 52, 148, "I64")}, bytes(148)),
        "a gap before": tensors({"x": _entry([12, 1], 4, 52), "y": _entry([12], 52, 148, "I64")}, bytes(148)),
        "data behind": tensors(good, data + b"#!/bin/sh\n"),
        "too little data": tensors(good, data[:-1]),
        "no data": tensors(good),
        "a shape of 4 TB": tensors({**good, "x": _entry([10**12], 0, 4 * 10**12)}, data),
        "a shape that overflows": tensors({**good, "x": _entry([2**32, 2**32], 0, 0)}, data),
        "a shape with 0 and 2^62": tensors({**good, "x": _entry([0, 2**62], 0, 48)}, data),
        "a negative side": tensors({**good, "x": _entry([-12, -1], 0, 48)}, data),
        "negative offsets": tensors({**good, "x": _entry([12, 1], -48, 0)}, data),
        "offsets that run backwards": tensors({**good, "x": _entry([12, 1], 48, 0)}, data),
        "offsets beyond 64 bits": tensors({**good, "x": _entry([12, 1], 2**70, 2**70 + 48)}, data),
        "offsets as text": tensors({**good, "x": _entry([12, 1], "0", "48")}, data),
        "a shape of fractions": tensors({**good, "x": _entry([12.0, 1.0], 0, 48)}, data),
        "a shape of truth": tensors({**good, "x": _entry([True] * 12, 0, 4)}, data),
        "a shape of 100,000 axes": tensors({**good, "x": _entry([1] * 100_000, 0, 4)}, data),
        "an unknown type": tensors({**good, "x": _entry([12, 1], 0, 48, "PICKLE")}, data),
        "a type that is a list": tensors({**good, "x": _entry([12, 1], 0, 48, ["F32"])}, data),
        "metadata that are numbers": tensors({**good, "__metadata__": {"a": 1}}, data),
        "metadata that are a list": tensors({**good, "__metadata__": ["a"]}, data),
        "more fields than there are": tensors({**good, "x": {**_entry([12, 1], 0, 48), "code": "import os"}}, data),
        "fewer fields than there are": tensors({**good, "x": {"dtype": "F32"}}, data),
    }


def json_bombs() -> dict[str, bytes]:
    """JSON that would take memory or time, or is none."""
    return {
        "lists in lists": b"[" * 1_000_000,
        "objects in objects": b'{"a":' * 1_000_000,
        "ten million lists": b"[" + b"[]," * 10_000_000 + b"1]",
        "ten million objects": b'{"a":[' + b"{}," * 10_000_000 + b"1]}",
        "many short texts": b'{"a":[' + b'"ab",' * 5_000_000 + b"1]}",
        "many numbers": b'{"a":[' + b"0.5," * 10_000_000 + b"1]}",
        "a text of 200 MB": b'{"a":"' + b"x" * 200_000_000 + b'"}',
        "wide letters": b'{"a":"' + "\U0001f600".encode() * 8_000_000 + b'"}',
        "an integer of a million digits": b'{"version":' + b"9" * 1_000_000 + b"}",
        "an infinite number": b'{"version": 1e999}',
        "NaN": b'{"version": NaN}',
        "UTF-16": json.dumps({"format": "epochal-bundle"}).encode("utf-16"),
        "no UTF-8": b'{"format": "\xff\xfe"}',
        "names that come twice": b'{"format": "epochal-bundle", "format": "epochal-bundle"}',
        "a list": b"[]",
        "nothing": b"",
        "zeros": bytes(1000),
        "a Python expression": b"__import__('os').system('touch canary')",
    }


def _npy_header(header: bytes, data: bytes = b"", version: bytes = b"\x01\x00", length: int | None = None) -> bytes:
    width = 2 if version == b"\x01\x00" else 4
    size = len(header) if length is None else length
    return b"\x93NUMPY" + version + size.to_bytes(width, "little") + header + data


def npys() -> dict[str, bytes]:
    """.npy files whose headers lie."""

    def described(descr: Any, shape: Any, order: Any = False) -> bytes:
        return repr({"descr": descr, "fortran_order": order, "shape": shape}).encode()

    data = bytes(96)
    lies: dict[str, tuple[Any, Any]] = {
        "a shape of 8 TB": ("<f8", (10**12,)),
        "a shape that overflows": ("<f8", (2**32, 2**32)),
        "a shape beyond 64 bits": ("<f8", (10**30,)),
        "a negative side": ("<f8", (-12,)),
        "two negative sides": ("<f8", (-3, -4)),
        "0 and 2^62": ("<f8", (0, 2**62)),
        "a thousand axes": ("<f8", (1,) * 1000),
        "a side that is text": ("<f8", ("12",)),
        "a side that is a fraction": ("<f8", (12.0,)),
        "a shape that is a number": ("<f8", 12),
        "a shape that is a list": ("<f8", [12]),
        "more than there is": ("<f8", (13,)),
        "less than there is": ("<f8", (11,)),
        "text of 4 GB": ("<U1000000000", (1,)),
        "text of no width": ("<U0", (10**9,)),
        "nothing of no width": ("|V0", (10**12,)),
        "objects": ("|O", (12,)),
        "objects in records": ([("a", "|O")], (12,)),
        "objects in arrays": (("|O", (2,)), (6,)),
        "objects behind numbers": ("i4,O", (8,)),
        "an unknown type": ("<q99", (12,)),
        "a type that is none": (None, (12,)),
        "a type that is a number": (8, (12,)),
        "a type with a letter that is half": ("\ud800", (12,)),
    }
    found = {
        name: _npy_header(described(*lie).replace(b"\xed\xa0\x80", b"\\ud800"), data)
        for name, lie in lies.items()
        if name != "a type with a letter that is half"
    }
    found |= {
        "a header of 4 GB": _npy_header(described("<f8", (12,)), data, b"\x02\x00", 2**32 - 1),
        "a header longer than the file": _npy_header(described("<f8", (12,)), data, length=9_000),
        "a header of version 3": _npy_header(described("<f8", (12,)), data, b"\x03\x00"),
        "a header of version 9": _npy_header(described("<f8", (12,)), data, b"\x09\x00"),
        "a header that calls": _npy_header(b"__import__('os').system('touch canary')", data),
        "a header that calls inside": _npy_header(
            b"{'descr': __import__('os').system('touch canary'), 'fortran_order': False, 'shape': (12,)}", data
        ),
        "a header of brackets": _npy_header(b"(" * 9_000, data),
        "a header of signs": _npy_header(b"-" * 9_000 + b"1", data),
        "a header of lists": _npy_header(b"[" * 4_000 + b"]" * 4_000, data),
        "a header of power": _npy_header(b"9**9**9**9", data),
        "a header of text times text": _npy_header(b"'a' * 10**10", data),
        "a header of a set": _npy_header(b"{1, 2}", data),
        "a header with more": _npy_header(b"{'descr': '<f8', 'fortran_order': False, 'shape': (12,), 'code': 1}", data),
        "a header with nothing": _npy_header(b"", data),
        "a header of zeros": _npy_header(bytes(100), data),
        "an order that is text": _npy_header(described("<f8", (12,), "yes"), data),
        "only a magic word": b"\x93NUMPY",
        "two arrays": npy(np.zeros((12, 2))) + npy(np.zeros((12, 2))),
        "a script": b"#!/bin/sh\ntouch canary\n",
    }
    return found


def npzs(canary: Path) -> dict[str, bytes]:
    """.npz files against the rules."""
    x, y = npy(np.zeros((12, 2))), npy(np.arange(12) % 2)
    objects = npy(np.array([Payload(canary), 1], dtype=object))
    good = zipped({"x.npy": x, "y.npy": y})
    return {
        "objects as inputs": zipped({"x.npy": objects, "y.npy": y}),
        "objects as targets": zipped({"x.npy": x, "y.npy": objects}),
        "objects as classes": zipped({"x.npy": x, "y.npy": y, "classes.npy": objects}),
        "a pickle as inputs": zipped({"x.npy": pickle.dumps(Payload(canary)), "y.npy": y}),
        "a pickle in front": pickle.dumps(Payload(canary)) + good,
        "a script in front": b"#!/bin/sh\ntouch canary\n" + good,
        "a member that comes twice": _twice(good),
        "members that share their data": _overlapping(),
        "a bomb of zeros": zipped(
            {
                "x.npy": _npy_header(
                    repr({"descr": "|u1", "fortran_order": False, "shape": (100, 2_000_000)}).encode(), bytes(200_000_000)
                ),
                "y.npy": y,
            }
        ),
        "a member packed by bzip2": _packed_by(zipfile.ZIP_BZIP2),
        "a member packed by LZMA": _packed_by(zipfile.ZIP_LZMA),
        "a member that is encrypted": _flagged(good, 1),
        "a member of 4 TB": _sized(good, 2**32 - 2),
        "a directory that is longer than the file": _directory(good, 2**32 - 2),
        "a directory of 200,000 names": _many_names(),
        "a checksum that is wrong": _other_checksum(good),
        "only the end": good[-22:],
        "an empty zip": zipped({}),
        "no targets": zipped({"x.npy": x}),
    }


def _twice(content: bytes) -> bytes:
    with io.BytesIO(content) as file, contextlib.ExitStack() as stack:
        archive = stack.enter_context(zipfile.ZipFile(file, "a"))
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            archive.writestr("x.npy", npy(np.ones((12, 2))))
        archive.close()
        return file.getvalue()


def _overlapping() -> bytes:
    """A zip of which all members have the same data (after Fifield, "A better zip bomb", 2019, in its simplest form)."""
    name, data = b"x.npy", zlib.compress(bytes(10_000_000), 9)[2:-4]
    check = binascii.crc32(bytes(10_000_000))
    local = struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 20, 0, 8, 0, 0, check, len(data), 10_000_000, len(name), 0) + name + data
    entries = b"".join(
        struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\1\2", 20, 20, 0, 8, 0, 0, check, len(data), 10_000_000, len(one), 0, 0, 0, 0, 0, 0) + one
        for one in (b"x.npy", b"y.npy", *(f"{number:05}".encode() for number in range(100)))
    )
    return local + entries + struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 102, 102, len(entries), len(local), 0)


def _packed_by(method: int) -> bytes:
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w", method) as archive:
            archive.writestr("x.npy", npy(np.zeros((12, 100_000))))
            archive.writestr("y.npy", npy(np.arange(12) % 2))
        return file.getvalue()


def _flagged(content: bytes, bit: int) -> bytes:
    data = bytearray(content)
    data[data.index(b"PK\1\2") + 8] |= bit
    data[data.index(b"PK\3\4") + 6] |= bit
    return bytes(data)


def _other_checksum(content: bytes) -> bytes:
    data = bytearray(content)
    for mark, place in ((b"PK\3\4", 14), (b"PK\1\2", 16)):
        data[data.index(mark) + place] ^= 1
    return bytes(data)


def _sized(content: bytes, size: int) -> bytes:
    data = bytearray(content)
    place = data.index(b"PK\1\2") + 24
    data[place : place + 4] = size.to_bytes(4, "little")
    return bytes(data)


def _directory(content: bytes, size: int) -> bytes:
    data = bytearray(content)
    place = data.rindex(b"PK\5\6") + 12
    data[place : place + 4] = size.to_bytes(4, "little")
    return bytes(data)


def _many_names(count: int = 300_000) -> bytes:
    entries = b"".join(
        struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0) + f"{number:07}".encode()
        for number in range(count)
    )
    local = struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 20, 0, 0, 0, 0, 0, 0, 0, 7, 0) + b"0000000"
    return local + entries + struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 65535, 65535, len(entries), len(local), 0)


def _write(name: str, content: bytes | Callable[[], bytes]) -> Callable[[Path], Path]:
    """What takes time to make is a function, which is called for the cases that are loaded."""

    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content())
        return folder / name

    return make


def _bundle(seed: Path, change: Callable[[Path], object], *, right: bool = True) -> Callable[[Path], Path]:
    """Copy a bundle and change it; `right` makes the sum of its weights right again."""

    def make(folder: Path) -> Path:
        path = folder / "bundle"
        shutil.copytree(seed, path)
        change(path)
        weights = path / "model.safetensors"
        if right and weights.is_file() and not weights.is_symlink() and weights.stat().st_size < 10**9:
            described = json.loads((path / "bundle.json").read_bytes())
            content = weights.read_bytes()
            described["weights"] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            (path / "bundle.json").write_text(json.dumps(with_checksum(described)))
        return path

    return make


def _described(**changes: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        described = json.loads((path / "bundle.json").read_bytes())
        for path_of, value in changes.items():
            *groups, name = path_of.split("__")
            group = described
            for outer in groups:
                group = group[outer]
            assert name in group, f"a bundle has no {path_of}: nothing would be tested"
            group[name] = value
        (path / "bundle.json").write_text(json.dumps(with_checksum(described)))

    return change


def _sparse(path: Path) -> None:
    with (path / "model.safetensors").open("r+b") as file:
        file.truncate(20 * 10**9)
    _described(weights={"bytes": 20 * 10**9, "sha256": "0" * 64})(path)


def _replace(name: str, by: Callable[[Path], object]) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        (path / name).unlink()
        by(path / name)

    return change


def _put(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda path: (path / name).write_bytes(content)


def _link_inside(folder: Path, name: str) -> None:
    """Leave a link where a file was: its content is right."""
    path = folder / name
    elsewhere = path.parent / f"elsewhere-{path.name}"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def waves() -> dict[str, bytes]:
    """WAV files whose headers lie."""
    plain = wav(tone(440))

    def with_number(place: int, value: int, size: int = 4) -> bytes:
        return plain[:place] + value.to_bytes(size, "little") + plain[place + size :]

    found = {f"{value:,} bytes of samples": with_number(40, value) for value in (0, 10**6, 2**31, 2**32 - 2)}
    found |= {f"a rate of {value:,}": with_number(24, value) for value in (0, 1, 2**31, 2**32 - 1)}
    found |= {f"{value:,} channels": with_number(22, value, 2) for value in (0, 2, 1000, 65535)}
    found |= {f"{value} bits": with_number(34, value, 2) for value in (0, 1, 12, 64, 65535)}
    found |= {f"format {value}": with_number(20, value, 2) for value in (0, 2, 3, 80, 65534)}
    found |= {f"a format of {value:,} bytes": with_number(16, value) for value in (0, 15, 2**31, 2**32 - 1)}
    found["a million empty chunks"] = plain[:36] + b"junk\0\0\0\0" * 1_000_000
    found["a chunk in a circle"] = plain[:36] + b"junk" + (2**32 - 44).to_bytes(4, "little") + plain[36:]
    found["NaN"] = wav(np.array([0.5, np.nan]), kind="float32")
    return found


def models(seeds: dict[str, list[Path]], canary: Path) -> Iterator[Case]:
    """Yield model and array files."""
    bundle, checkpoint, run, linear = seeds["bundle"][0], seeds["checkpoint"][0], seeds["resume"][0], seeds["bundle"][1]
    y = npy(np.arange(12) % 2)

    def in_folder(content: bytes) -> Callable[[Path], Path]:
        def make(folder: Path) -> Path:
            (folder / "arrays").mkdir()
            (folder / "arrays" / "x.npy").write_bytes(content)
            (folder / "arrays" / "y.npy").write_bytes(y)
            return folder / "arrays"

        return make

    for name, content in {**npys(), **pickles(canary)}.items():
        yield Case(f"npy: {name}", "npy", in_folder(content))
    yield Case("npy: objects that are pickles", "npy", in_folder(npy(np.array([Payload(canary)] * 12, dtype=object))))
    for name, content in {**npzs(canary), **pickles(canary)}.items():
        yield Case(f"npz: {name}", "npz", _write("a.npz", content))
    for name, content in {**headers(), **pickles(canary)}.items():
        yield Case(f"safetensors: {name}", "safetensors", _write("a.safetensors", content))
        yield Case(
            f"bundle: weights: {name}",
            "bundle",
            _bundle(bundle, _put("model.safetensors", content)),
        )
    for name, content in {**json_bombs(), **pickles(canary)}.items():
        yield Case(
            f"bundle: description: {name}",
            "bundle",
            _bundle(bundle, _put("bundle.json", content), right=False),
        )
    for name, content in json_bombs().items():
        yield Case(f"resume: data.json: {name}", "resume", _copied(run, _put("data.json", content)))

    for name, content in {**waves(), **pickles(canary)}.items():
        yield Case(f"sound: {name}", "sound", _write("a.wav", content))

    for name, model in {
        "widths of 10^9": {"name": "mlp", "options": {"widths": [10**9, 10**9]}},
        "widths of 10^18": {"name": "mlp", "options": {"widths": [10**18] * 4}},
        "a million widths": {"name": "mlp", "options": {"widths": [1] * 1_000_000}},
        "a width below 0": {"name": "mlp", "options": {"widths": [-1]}},
        "widths that are text": {"name": "mlp", "options": {"widths": "../../x"}},
        "widths that are an object": {"name": "mlp", "options": {"widths": {"__reduce__": "os.system"}}},
        "an endless depth": {"name": "resnet", "options": {"depth": 6 * 10**9 + 2}},
        "an option that is none": {"name": "mlp", "options": {"__class__": "x"}},
        "options that are text": {"name": "mlp", "options": "os.system"},
        "a module of Python": {"name": "os:system", "options": {}},
        "a file of Python": {"name": "evil.py:Net", "options": {}},
        "a path": {"name": "../../../tmp/evil.py:Net", "options": {}},
        "a class by its path": {"name": "torch.hub.load", "options": {"repo": "evil/evil"}},
        "a name that is none": {"name": "__import__('os').system('true')", "options": {}},
        "code of one's own": {"own": "evil.py:Net"},
        "no name": {},
        "another network": {"name": "linear", "options": {}},
    }.items():
        yield Case(f"bundle: model: {name}", "bundle", _bundle(bundle, _described(model=model)))
    strange: dict[str, dict[str, Any]] = {
        "an input of 10^18 numbers": {"data__input__shape": [10**9, 10**9]},
        "an input below 0": {"data__input__shape": [-3]},
        "an input of no shape": {"data__input__shape": []},
        "an input of another shape": {"data__input__shape": [4], "data__input__mean": [0.0] * 4, "data__input__std": [1.0] * 4},
        "a type that is an attribute of torch": {"data__input__dtype": "load"},
        "a type that is a path": {"data__input__dtype": "../float32"},
        "outputs that are numbers": {"data__task__outputs": [1, 2]},
        "outputs that are alike": {"data__task__outputs": ["a", "a"]},
        "a million outputs": {"data__task__outputs": [f"class {number}" for number in range(500_000)]},
        "a task of no name that is known": {"data__task__name": "os.system"},
        "a task whose name is a list": {"data__task__name": ["single-label"]},
        "a kind of input that is a path": {"data__input__kind": "../picture"},
        "a kind of input that is an object": {"data__input__kind": {"__class__": "x"}},
        "counts below 0": {"data__task__counts": {"train": [-1, -1, -1]}},
        "a spread of 0": {"data__input__std": [0.0, 0.0, 0.0]},
        "weights of -1 bytes": {"weights": {"bytes": -1, "sha256": "0"}},
        "weights elsewhere": {"weights": {"bytes": 1, "sha256": "0", "path": "/etc/passwd"}},
    }
    for name, changes in strange.items():
        yield Case(
            f"bundle: data: {name}",
            "bundle",
            _bundle(linear, _described(**changes), right=not any(key.startswith("weights") for key in changes)),
        )
    yield Case("bundle: 20 GB of nothing", "bundle", _bundle(bundle, _sparse, right=False))
    for file in ("model.safetensors", "bundle.json"):
        yield Case(f"bundle: {file} is a link", "bundle", _bundle(bundle, partial(_link_inside, name=file), right=False))
        yield Case(
            f"bundle: {file} is a link to /dev/zero",
            "bundle",
            _bundle(bundle, _replace(file, lambda path: path.symlink_to("/dev/zero")), right=False),
        )
        yield Case(
            f"bundle: {file} is a link to /etc/passwd",
            "bundle",
            _bundle(bundle, _replace(file, lambda path: path.symlink_to("/etc/passwd")), right=False),
        )
        yield Case(f"bundle: {file} is a pipe", "bundle", _bundle(bundle, _replace(file, os.mkfifo), right=False))
    yield Case("bundle: the folder of a run is a link", "run", _copied(run, partial(_link_inside, name="model")))
    for name in ("metrics.jsonl", "figures", "checkpoints", "recipe.toml", "data.json", "environment.json"):
        yield Case(f"resume: {name} is a link", "resume", _copied(run, partial(_link_inside, name=name)))
    for name, text in {
        "nested": "a = " + "[" * 100_000,
        "2 MB": "# " + "x" * 2_000_000,
        "a million digits": "epochs = " + "9" * 900_000,
        "no TOML": "import os",
        "deep names": ".".join(["a"] * 100_000) + " = 1",
        "a model of one's own": '[model]\nname = "evil.py:Net"',
        "an unknown setting": "__class__ = 1",
        "a network without end": '[model]\nname = "mlp"\nwidths = [1000000000, 1000000000]',
    }.items():
        yield Case(f"resume: recipe.toml: {name}", "resume", _copied(run, _put("recipe.toml", text_with_checksum(f"{text}\n").encode())))
    for name, content in headers().items():
        yield Case(f"checkpoint: {name}", "checkpoint", _copied(checkpoint, partial(_new_state, tensors=content)))
    for name, content in json_bombs().items():
        if name not in ("many short texts", "many numbers", "a text of 200 MB", "wide letters"):  # A state may grow to that.
            yield Case(
                f"checkpoint: state: {name}",
                "checkpoint",
                _copied(checkpoint, partial(_new_state, state=content)),
            )
    for name, shape in {"one number too few": (3,), "one too many": (5,), "another shape": (2, 2), "none": ()}.items():
        yield Case(f"checkpoint: optimizer state: {name}", "checkpoint", _copied(checkpoint, partial(_other_shape, shape=shape)))


def _copied(seed: Path, change: Callable[[Path], object]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / seed.name
        shutil.copytree(seed, path)
        change(path)
        return path

    return make


def _new_state(path: Path, *, tensors: bytes | None = None, state: bytes | None = None) -> None:
    """Put other files into a checkpoint, with their sums."""
    (place,) = path.glob("step-*")
    for name, content in (("state.safetensors", tensors), ("state.json", state)):
        if content is not None:
            (place / name).write_bytes(content)
    sums = {name: hashlib.sha256((place / name).read_bytes()).hexdigest() for name in ("state.safetensors", "state.json")}
    (place / "SHA256SUMS").write_text("".join(f"{found}  {name}\n" for name, found in sums.items()))


def _other_shape(path: Path, shape: tuple[int, ...]) -> None:
    from safetensors.torch import load_file, save

    (place,) = path.glob("step-*")
    stored = load_file(place / "state.safetensors")
    name = next(name for name, tensor in stored.items() if name.startswith("optimizer/") and tensor.shape == (4,))
    _new_state(path, tensors=save({**stored, name: torch.zeros(shape)}))


def controls(canary: Path) -> Iterator[Case]:
    """Yield files for a loader that does what they want: all of these must be noticed."""
    payload = canary.parent / "payload"
    payload.write_bytes(pickle.dumps(Payload(canary)))
    for name in (f"unpickle {payload}", "take 300000000", f"write {canary.parent / 'elsewhere'}", "wait 2", "import wave"):
        yield Case(name, "gullible", _write("a", name.encode()))


NAMES = {
    "above": "../evil.png",
    "far above": "../" * 20 + "tmp/evil.png",
    "above from inside": "photos/../../evil.png",
    "absolute": "/tmp/evil.png",
    "absolute twice": "//tmp/evil.png",
    "a drive": "C:/evil.png",
    "a drive alone": "C:evil.png",
    "backslashes": "..\\..\\evil.png",
    "a share": "\\\\server\\evil.png",
    "a line feed": "photos/a\nb.png",
    "an escape": "photos/\x1b[31m.png",
    "a device of Windows": "photos/CON",
    "another": "photos/nul.png",
    "a printer": "lpt1",
    "a dot at the end": "photos./a.png",
    "a space at the end": "photos /a.png",
    "too long": "a" * 300,
    "too deep": "a/" * 40 + "b.png",
}


def archives() -> Iterator[Case]:
    """Yield archives, for every loader that reads some."""
    packs: dict[str, Callable[[dict[str, bytes]], bytes]] = {
        "zip": zipped,
        "tar": tarred,
        "tar.gz": lambda files: gzip.compress(tarred(files, tarfile.GNU_FORMAT)),
    }
    for suffix, pack in packs.items():
        for name, member in NAMES.items():
            yield Case(f"{suffix}: {name}", "archive", _write(f"a.{suffix}", pack({**photos(), member: b"evil"})))
        for name, members in {
            "a name twice in another case": {"photos/Dark/0.png": b"evil"},
            "a file that is a folder": {"photos/dark": b"evil"},
            "a folder that is a file": {"photos/dark/0.png/a": b"evil"},
        }.items():
            yield Case(f"{suffix}: {name}", "archive", _write(f"a.{suffix}", pack({**photos(), **members})))
    for number, kind in enumerate(
        (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE, b"Z")
    ):
        yield Case(
            f"tar: a member of kind {kind!r}", "archive", _write("a.tar", _special(kind, f"photos/dark/{number}.png", "/etc/passwd"))
        )
    yield Case(
        "tar: through a link to above",
        "archive",
        _write("a.tar", _special(tarfile.SYMTYPE, "photos/out", "../..", {"photos/out/evil.png": b"evil"})),
    )
    yield Case(
        "tar: over a link to a file",
        "archive",
        _write("a.tar", _special(tarfile.SYMTYPE, "photos/evil.png", "/tmp/evil.png", {"photos/evil.png": b"evil"})),
    )
    for name, mode in {
        "a link": stat.S_IFLNK,
        "a device": stat.S_IFCHR,
        "a disk": stat.S_IFBLK,
        "a pipe": stat.S_IFIFO,
        "a socket": stat.S_IFSOCK,
    }.items():
        yield Case(f"zip: {name}", "archive", _write("a.zip", _special_zip(mode)))
    zeros = {f"photos/{number}": bytes(20_000_000) for number in range(10)}
    yield Case("zip: a bomb", "archive", _write("a.zip", lambda: zipped(zeros)))
    yield Case("tar.gz: a bomb", "archive", _write("a.tar.gz", lambda: gzip.compress(tarred(zeros))))
    yield Case("tar.xz: a bomb", "archive", _write("a.tar.xz", lambda: lzma.compress(tarred(zeros), preset=0)))
    yield Case("tar.xz: a dictionary of 1 GB", "archive", _write("a.tar.xz", _wide_xz()))
    yield Case("tar.gz: a name of 200 MB", "archive", _write("a.tar.gz", lambda: gzip.compress(_long_name(200_000_000))))
    yield Case("tar.gz: many names of 60 kB", "archive", _write("a.tar.gz", lambda: gzip.compress(_pax(b"1" * 60_000) * 500)))
    yield Case("zip: members that share their data", "archive", _write("a.zip", _overlapping))
    yield Case("zip: 300,000 names", "archive", _write("a.zip", _many_names))
    yield Case("zip: encrypted", "archive", _write("a.zip", _flagged(zipped(photos()), 1)))
    yield Case("zip: a directory that is too long", "archive", _write("a.zip", _directory(zipped(photos()), 2**32 - 2)))
    yield Case("zip: a member of 4 GB", "archive", _write("a.zip", _sized(zipped(photos()), 2**32 - 2)))
    yield Case(
        "zip: a name with a zero byte", "archive", _write("a.zip", zipped(photos()).replace(b"photos/dark/0.png", b"photos/dark\0.png/"))
    )
    yield Case(
        "zip: a name that is no UTF-8",
        "archive",
        _write("a.zip", zipped(photos()).replace(b"photos/dark/0.png", b"photos/d\xff\xfe/0.png\xff")),
    )
    yield Case("tar: a name that is no UTF-8", "archive", _write("a.tar", _special(tarfile.REGTYPE, "photos/\udcff.png", "")))
    for name, record in {
        "leads above": _record("path", "../../evil.png"),
        "says another size": _record("size", "999999999999"),
        "says a size below 0": _record("size", "-512"),
        "is sparse": _record("GNU.sparse.realsize", "999999999999"),
        "with a length below 0": b"-5 path=a\n",
    }.items():
        yield Case(f"tar: pax {name}", "archive", _write("a.tar", _pax(record) + tarred(photos(), tarfile.USTAR_FORMAT)))
    for name, size in {
        "below 0": b"\xff" * 12,
        "-512": b"\xff" * 10 + b"\xfe\x00",
        "2^90": b"\x80" + b"\xff" * 11,
        "no number": b"zzzzzzzzzzz\0",
    }.items():
        yield Case(f"tar: a size of {name}", "archive", _write("a.tar", _with_size(size)))
    batch = bytes(cifar10.RECORDS * cifar10._RECORD_SIZE)
    batches = {f"{cifar10.FOLDER}/{name}": batch for name in cifar10._BATCHES}
    damaged: dict[str, bytes | Callable[[], bytes]] = {
        "a link for a batch": _special(tarfile.SYMTYPE, f"{cifar10.FOLDER}/data_batch_1.bin", "/etc/passwd"),
        "a batch of another size": tarred({**batches, f"{cifar10.FOLDER}/test_batch.bin": b"1"}),
        "a batch is missing": tarred(dict(list(batches.items())[1:])),
        "a bomb": lambda: tarred({**batches, "bomb": bytes(150_000_000)}),
        "cut off": tarred(batches)[:-12_000],
        "no tar": bytes(range(256)) * 100,
    }
    for name, whole in damaged.items():
        yield Case(f"cifar10: {name}", "cifar10", _write(cifar10.ARCHIVE, _packed(whole)))
    damaged = {
        "a bomb": lambda: idx()[:4] + (10**8).to_bytes(4) + (1).to_bytes(4) * 2 + bytes(10**8),
        "more than there is": idx()[:4] + (2**32 - 1).to_bytes(4) * 3,
        "200 axes": bytes([0, 0, 8, 200]) + (2**32 - 1).to_bytes(4) * 200,
        "less than there is": idx() + b"1",
    }
    for name, whole in damaged.items():
        yield Case(f"idx.gz: {name}", "idx", _write("a.gz", _packed(whole)))


def _packed(content: bytes | Callable[[], bytes]) -> Callable[[], bytes]:
    return lambda: gzip.compress(content if isinstance(content, bytes) else content())


def _special(kind: bytes, name: str, target: str, more: dict[str, bytes] | None = None) -> bytes:
    with io.BytesIO() as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT, errors="surrogateescape") as archive:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            archive.addfile(member)
            for inner, content in {**photos(), **(more or {})}.items():
                file_member = tarfile.TarInfo(inner)
                file_member.size = len(content)
                archive.addfile(file_member, io.BytesIO(content))
        return file.getvalue()


def _special_zip(kind: int) -> bytes:
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w") as archive:
            info = zipfile.ZipInfo("photos/dark/9.png")
            info.external_attr = (kind | 0o777) << 16
            archive.writestr(info, "/etc/passwd")
        return file.getvalue()


def _wide_xz() -> bytes:
    packer = lzma.LZMACompressor(lzma.FORMAT_XZ, filters=[{"id": lzma.FILTER_LZMA2, "preset": 0}])
    content = bytearray(packer.compress(tarred(photos())) + packer.flush())
    # The dictionary's size stands in the header of the block, which has a checksum of its own.
    begin, size = 12, (content[12] + 1) * 4
    content[content.index(b"\x21\x01", begin) + 2] = 36
    content[begin + size - 4 : begin + size] = zlib.crc32(content[begin : begin + size - 4]).to_bytes(4, "little")
    return bytes(content)


def _header(kind: bytes, size: int) -> bytes:
    header = bytearray(512)
    header[:1], header[124:136], header[156:157], header[257:263] = b"x", f"{size:011o}\0".encode(), kind, b"ustar\0"
    header[148:156] = f"{sum(header) + 256:06o}\0 ".encode()
    return bytes(header)


def _pax(content: bytes) -> bytes:
    return _header(b"x", len(content)) + content + bytes(-len(content) % 512)


def _record(key: str, value: str) -> bytes:
    rest = f" {key}={value}\n"
    size = len(rest) + 2 if len(rest) + 2 < 100 else len(rest) + 3
    return f"{size}{rest}".encode()


def _long_name(size: int) -> bytes:
    return _header(b"L", size) + bytes(size + -size % 512)


def _with_size(field: bytes) -> bytes:
    data = bytearray(tarred(photos(), tarfile.GNU_FORMAT))
    data[124:136] = field
    data[148:156] = f"{sum(data[:148]) + sum(data[156:512]) + 256:06o}\0 ".encode()
    return bytes(data)


def of_tables(canary: Path) -> Iterator[Case]:
    """Yield tables and texts."""
    for name, kind, file, content in tables.hostile(pickles(canary)):
        yield Case(name, kind, _write(file, content) if isinstance(content, bytes) else partial(_made, name=file, make=content))


def _made(folder: Path, name: str, make: Callable[[Path], object]) -> Path:
    make(folder / name)
    return folder / name


def damaged_pictures(*, every: int = 1) -> Iterator[Case]:
    """Yield pictures: cut off at every percent (or `every` so many), with changed bytes, bombs, and such as are something else."""
    chance = random.Random(0)
    for name, content in pictures().items():
        for percent in range(0, 100, every):
            yield Case(f"{name}: cut off at {percent} %", "picture", _write(name, content[: len(content) * percent // 100]))
        for number in range(20 // every):
            yield Case(f"{name}: changed bytes, {number}", "picture", _write(name, change_bytes(content, chance)))
    for name, content in bombs().items():
        yield Case(f"bomb: {name}", "picture", _write(name, content))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def _png(width: int, height: int, *more: bytes, data: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + b"".join(more) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def bombs() -> dict[str, bytes]:
    """Pictures that declare what they do not have, or would take the memory; and what is none."""
    bytes_of_zeros = zlib.compress(bytes(50_000_000), 9)
    good = pictures()
    gif = bytearray(good["still.gif"])
    gif[6:10] = b"\xff\xff\xff\xff"
    bmp = bytearray(good["rgb.bmp"])
    bmp[18:26] = struct.pack("<ii", 2**31 - 1, 2**31 - 1)
    flat = bytearray(good["rgb.bmp"])
    flat[18:26] = struct.pack("<ii", 0, 0)
    webp = b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff\xff\xff" * 2 + b"VP8 \0\0\0\0"
    tiff = (
        struct.pack("<2sHIH", b"II", 42, 8, 4)
        + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in ((256, 2**31), (257, 2**31), (258, 8), (273, 8)))
        + bytes(4)
    )
    loop = struct.pack("<2sHIHHHIII", b"II", 42, 8, 1, 256, 4, 1, 5, 8)
    return {
        "huge.png": _png(2**31 - 1, 2**31 - 1, data=bytes_of_zeros),
        "wide.png": _png(178_000_001, 1, data=bytes_of_zeros),
        "none.png": _png(0, 0),
        "more.png": _png(13_000, 13_000, data=bytes_of_zeros),
        "text.png": _png(8, 8, _chunk(b"zTXt", b"a\0\0" + bytes_of_zeros)),
        "profile.png": _png(8, 8, _chunk(b"iCCP", b"a\0\0" + bytes_of_zeros)),
        "words.png": _png(8, 8, _chunk(b"iTXt", b"a\0\1\0\0\0" + bytes_of_zeros)),
        "checksum.png": good["rgb.png"][:29] + b"\0\0\0\0" + good["rgb.png"][33:],
        "frames.png": _png(8, 8, _chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0))),
        "huge.gif": bytes(gif),
        "huge.bmp": bytes(bmp),
        "none.bmp": bytes(flat),
        "huge.webp": webp,
        "tall.webp": good["animated.webp"][:27] + (8_847_383).to_bytes(3, "little") + good["animated.webp"][30:],
        "huge.tif": tiff,
        "loop.tif": loop,
        "huge.jpg": good["rgb.jpg"].replace(b"\x00\x18\x00\x14\x03", b"\xff\xff\xff\xff\x03"),
        "none.jpg": good["rgb.jpg"].replace(b"\x00\x18\x00\x14\x03", b"\0\0\0\0\x03"),
        "nothing.png": b"",
        "zeros.png": bytes(10_000),
        "text.jpg": b"not a picture",
        "page.gif": b"<html><script>alert(1)</script>",
        "vector.png": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "script.eps.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(touch canary) system",
        "pickle.png": pickle.dumps(Path("x")),
        "archive.png": zipped(photos()),
        "other.jpg": b"P6 9999 9999 255\n",
        "icon.png": b"\0\0\1\0\1\0" + bytes(100),
        "film.gif": b"\0\0\0\x18ftypmp42",
        "array.png": npz(),
    }
