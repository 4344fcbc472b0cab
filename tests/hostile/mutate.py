"""Changes to valid files: of bytes, and of fields of a format, with checksums corrected so that deeper checks are reached."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from epochal.io.checksums import text_with_checksum, with_checksum
from tests.hostile import tables

_NUMBERS = (
    0,
    1,
    2,
    7,
    8,
    127,
    128,
    255,
    256,
    32767,
    32768,
    65535,
    65536,
    2**24,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**32,
    2**40,
    2**63 - 1,
    2**63,
    2**64 - 1,
)
_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2,
    3.5,
    -0.0,
    1e308,
    10**9,
    10**18,
    2**31,
    2**63,
    -(2**63),
    "",
    "x",
    "../../x",
    "/etc/passwd",
    "a\0b",
    "\ud800",
    "\x1b[31m",
    "x" * 5000,
    "auto",
    "nan",
    [],
    {},
    [[]],
    [0],
    [1] * 200,
    {"a": {}},
    "evil.py:Net",
    "os.system",
    "resnet",
    "float64",
)
_WORDS = (
    b"",
    b"\0",
    b"\xff",
    b"../",
    b"/",
    b"'",
    b'"',
    b"[",
    b"{",
    b"(" * 50,
    b"[" * 2000,
    b"-",
    b"9" * 30,
    b"|O",
    b"object",
    b"None",
    b"True",
    b"import os",
)


def change_bytes(content: bytes, chance: random.Random) -> bytes:
    """Change some bytes: flip, overwrite by a telling number, cut off, cut out, repeat, insert."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
        if not data:
            break
        # Headers are at the beginning, and directories at the end.
        place = chance.choice(
            (chance.randrange(len(data)), chance.randrange(min(len(data), 64)), -1 - chance.randrange(min(len(data), 64)))
        ) % len(data)
        match chance.randrange(7):
            case 0:
                data[place] ^= 1 << chance.randrange(8)
            case 1:
                data[place] = chance.randrange(256)
            case 2:
                size = chance.choice((1, 2, 4, 8))
                number = (chance.choice(_NUMBERS) % 256**size).to_bytes(size, chance.choice(("little", "big")))
                data[place : place + size] = number
            case 3:
                del data[place:]
            case 4:
                del data[place : place + chance.choice((1, 4, 64))]
            case 5:
                data[place:place] = data[place : place + chance.choice((1, 4, 64, 512))]
            case _:
                data[place:place] = chance.choice(_WORDS)
    return bytes(data)


def change_json(value: Any, chance: random.Random) -> Any:
    """Change one value somewhere in JSON."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        name = chance.choice(list(value))
        changed = dict(value)
        match chance.randrange(8):
            case 0:
                del changed[name]
            case 1:
                changed[chance.choice(("", "x", "__class__", "options", "0", "name", name + "x"))] = changed.pop(name)
            case 2:
                changed["more"] = chance.choice(_VALUES)
            case _:
                changed[name] = change_json(value[name], chance)
        return changed
    if isinstance(value, list) and value and chance.random() < 0.9:
        place = chance.randrange(len(value))
        match chance.randrange(5):
            case 0:
                return value[:place] + value[place + 1 :]
            case 1:
                return value * 2
            case _:
                return [*value[:place], change_json(value[place], chance), *value[place + 1 :]]
    if isinstance(value, int) and not isinstance(value, bool) and chance.random() < 0.5:
        return chance.choice((value + 1, value - 1, -value, value * 2, value * 10**6, float(value), str(value)))
    return chance.choice(_VALUES)


def change_json_file(path: Path, chance: random.Random) -> None:
    """Change a JSON file, mostly so that it still is one, and so that its SHA-256 is right again."""
    if chance.random() < 0.1:
        path.write_bytes(change_bytes(path.read_bytes(), chance))
    else:
        value = json.loads(path.read_bytes())
        changed = change_json(value, chance)
        is_sealed = "sha256" in value and isinstance(changed, dict) and chance.random() < 0.9
        path.write_text(json.dumps(with_checksum(changed) if is_sealed else changed))


def change_safetensors(content: bytes, chance: random.Random) -> bytes:
    """Change the header of a .safetensors file, or its data."""
    if chance.random() < 0.3:
        return change_bytes(content, chance)
    length = int.from_bytes(content[:8], "little")
    header = json.dumps(change_json(json.loads(content[8 : 8 + length]), chance)).encode()
    return len(header).to_bytes(8, "little") + header + content[8 + length :]


def change_npy(content: bytes, chance: random.Random) -> bytes:
    """Change the header of a .npy file, with its length made right, or any byte."""
    if chance.random() < 0.4:
        return change_bytes(content, chance)
    length = int.from_bytes(content[8:10], "little")
    header = content[10 : 10 + length]
    described: dict[str, Any] = {"descr": "<f8", "fortran_order": False, "shape": (12, 4)}
    match chance.randrange(4):
        case 0:
            header = change_bytes(header, chance)
        case 1:
            kinds = (
                "|O",
                "O",
                "<f2",
                "<U0",
                "|V0",
                "<M8[s]",
                "<c16",
                "|S1000000000",
                "i4,O",
                "(3,)f4",
                [("a", "<f4"), ("b", "|O")],
                None,
                3,
                "\ud800",
                "a" * 3000,
            )
            described["descr"] = chance.choice(kinds)
            header = repr(described).encode("utf-8", "replace")
        case 2:
            shapes = (
                (-1,),
                (2**62, 4),
                (0, 2**62),
                (1,) * 40,
                (2**32, 2**32),
                (12,),
                (True, 12),
                (12.0, 4),
                ("a",),
                [12, 4],
                12,
                (10**30,),
                (),
            )
            described["shape"] = chance.choice(shapes)
            header = repr(described).encode()
        case _:
            header = chance.choice(
                (
                    b"(" * 9000,
                    b"-" * 9000 + b"1",
                    b"{" * 5000,
                    b"[" * 9000 + b"]" * 900,
                    b"'" + b"a" * 70000 + b"'",
                    b"__import__('os')",
                    b"1+1j",
                )
            )
    return content[:8] + min(len(header), 65535).to_bytes(2, "little") + header + content[10 + length :]


def change_npz(content: bytes, chance: random.Random) -> bytes:
    """Change an array in a zip, or the zip."""
    if chance.random() < 0.5:
        return change_bytes(content, chance)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    name = chance.choice(list(files))
    files[name] = change_npy(files[name], chance)
    if chance.random() < 0.2:
        files[chance.choice(("../x.npy", "/x.npy", "x", "X.npy", "x.npy/y.npy", "\0", "classes"))] = files.pop(name)
    with io.BytesIO() as file:
        with zipfile.ZipFile(
            file, "w", chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
        ) as archive:
            for inner, data in files.items():
                archive.writestr(inner, data)
        return file.getvalue()


def change_tar(content: bytes, chance: random.Random) -> bytes:
    """Change a header of a tar, with its checksum made right."""
    if chance.random() < 0.2:
        return change_bytes(content, chance)
    data = bytearray(content)
    begin = 512 * chance.randrange(len(data) // 512)
    fields = ((0, 100), (124, 12), (156, 1), (257, 8), (345, 155), (124, 12), (156, 1))
    place, size = chance.choice(fields)
    field = chance.choice(
        (
            b"../../evil.png",
            b"/tmp/evil.png",
            b"a\\b",
            b"77777777777",
            b"-0000000001",
            b"\x80" + b"\xff" * 11,
            b"\xff" * 12,
            b"\x80" + bytes(3) + b"\x01" + bytes(7),
            b"0",
            b"1",
            b"2",
            b"3",
            b"5",
            b"6",
            b"7",
            b"L",
            b"K",
            b"x",
            b"g",
            b"S",
            b"\0",
            b"ustar  \0",
            b"ustar\x0000",
            b"",
            b"\xff\xfe",
            b"con",
            b"x/" * 50,
        )
    )
    data[begin + place : begin + place + size] = field[:size].ljust(size, b"\0")
    total = sum(data[begin : begin + 512]) - sum(data[begin + 148 : begin + 156]) + 8 * 32
    data[begin + 148 : begin + 156] = f"{total:06o}\0 ".encode()
    return bytes(data)


def change_png(content: bytes, chance: random.Random) -> bytes:
    """Change a chunk of a PNG, with its CRC made right."""
    chunks = []
    place = 8
    while place < len(content):
        size = int.from_bytes(content[place : place + 4], "big")
        chunks.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + size]))
        place += 12 + size
    number = chance.randrange(len(chunks))
    kind, data = chunks[number]
    match chance.randrange(6):
        case 0:
            chunks.insert(number, chunks[chance.randrange(len(chunks))])
        case 1:
            del chunks[number]
        case 2:
            bomb = chance.choice(
                (
                    b"zTXta\0\0" + zlib.compress(bytes(10**7)),
                    b"iCCPa\0\0" + zlib.compress(bytes(10**7)),
                    b"iTXta\0\1\0\0\0" + zlib.compress(bytes(10**7)),
                )
            )
            chunks.insert(number, (bomb[:4], bomb[4:]))
        case 3:
            chunks[0] = (b"IHDR", struct.pack(">II", chance.choice(_NUMBERS) % 2**32, chance.choice(_NUMBERS) % 2**32) + chunks[0][1][8:])
        case _:
            chunks[number] = (kind, change_bytes(data, chance))
    made = [len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big") for kind, data in chunks]
    return content[:8] + b"".join(made)


def change_pack(content: bytes, chance: random.Random) -> bytes:
    """Change what a pack says of itself, with its seal made right."""
    if chance.random() < 0.3:
        return change_bytes(content, chance)
    magic, sums, length, _ = struct.unpack("<8sQQI", content[-28:])
    end = len(content) - 28
    described = json.loads(content[end - length : end])
    text = json.dumps(change_json(described, chance)).encode()
    tail = content[end - length - sums : end - length] + text
    lengths = [sums, len(text)] if chance.random() < 0.8 else [chance.choice(_NUMBERS) % 2**64, chance.choice(_NUMBERS) % 2**64]
    seal = struct.pack("<8sQQ", magic, *lengths)
    return content[: end - length - sums] + tail + seal + zlib.crc32(tail + seal).to_bytes(4, "little")


def change_gzip(change: Callable[[bytes, random.Random], bytes]) -> Callable[[bytes, random.Random], bytes]:
    """Return what changes the content where it is packed by gzip, and sometimes the packed bytes."""

    def inner(content: bytes, chance: random.Random) -> bytes:
        if content[:2] != b"\x1f\x8b":
            return change(content, chance)
        if chance.random() < 0.3:
            return change_bytes(content, chance)
        return gzip.compress(change(gzip.decompress(content), chance), 1)

    return inner


def change_bundle(folder: Path, chance: random.Random) -> None:
    """Change a bundle; mostly its sum is right again."""
    weights, description = folder / "model.safetensors", folder / "bundle.json"
    if chance.random() < 0.6:
        change_json_file(description, chance)
        return
    weights.write_bytes(change_safetensors(weights.read_bytes(), chance))
    if chance.random() < 0.9:
        content = weights.read_bytes()
        described = json.loads(description.read_bytes())
        described["weights"] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        description.write_text(json.dumps(with_checksum(described)))


def change_checkpoint(folder: Path, chance: random.Random) -> None:
    """Change a checkpoint of those in a folder; mostly its sums are right again."""
    place = chance.choice(sorted(folder.glob("step-*")))
    tensors, state, sums = place / "state.safetensors", place / "state.json", place / "SHA256SUMS"
    if chance.random() < 0.5:
        change_json_file(state, chance)
    else:
        tensors.write_bytes(change_safetensors(tensors.read_bytes(), chance))
    if chance.random() < 0.95:
        sums.write_text("".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in (tensors, state)))
    else:
        sums.write_bytes(change_bytes(sums.read_bytes(), chance))


def change_toml(content: bytes, chance: random.Random) -> bytes:
    """Change a line of a recipe, or any byte."""
    if chance.random() < 0.3:
        return change_bytes(content, chance)
    lines = content.decode().splitlines()
    place = chance.randrange(len(lines))
    name, equals, _ = lines[place].partition(" = ")
    values = (
        "1",
        "-1",
        "0",
        "1e400",
        "nan",
        "inf",
        '""',
        '"x"',
        '"auto"',
        "[]",
        "{}",
        "[[]]",
        "true",
        "1979-05-27",
        "'../x'",
        '"evil.py:Net"',
        "[" * 500,
        "9" * 5000,
        '"\\u0000"',
    )
    match chance.randrange(4):
        case 0:
            del lines[place]
        case 1:
            lines.insert(
                place, chance.choice(("[model]", "[x.y]", "[[data]]", "a.b.c = 1", "model = 3", "[optimizer.options]", lines[place]))
            )
        case _:
            lines[place] = f"{name}{equals or ' = '}{chance.choice(values)} # {chance.choice(('default', '', 'x' * 3000))}"
    text = "\n".join(line for line in lines if not line.startswith("# sha256")) + "\n"
    return (text_with_checksum(text) if chance.random() < 0.9 else text).encode()


def change_run(folder: Path, chance: random.Random) -> None:
    """Change a run folder somewhere."""
    match chance.randrange(6):
        case 0:
            (folder / "recipe.toml").write_bytes(change_toml((folder / "recipe.toml").read_bytes(), chance))
        case 1:
            change_json_file(folder / "environment.json", chance)
        case 2:
            change_bundle(folder / "model", chance)
        case 3:
            change_checkpoint(folder / "checkpoints", chance)
        case 4:
            (folder / "metrics.jsonl").write_bytes(change_bytes((folder / "metrics.jsonl").read_bytes(), chance))
        case _:
            change_json_file(folder / "data.json", chance)


def change_picture(content: bytes, chance: random.Random) -> bytes:
    """Change a picture."""
    return change_png(content, chance) if content[:4] == b"\x89PNG" and chance.random() < 0.5 else change_bytes(content, chance)


def change_archive(content: bytes, chance: random.Random) -> bytes:
    """Change an archive."""
    if content[:2] == b"PK" or content[:6] == b"\xfd7zXZ\0":
        return change_bytes(content, chance)
    return change_gzip(change_tar)(content, chance)


def _change_text(content: bytes, chance: random.Random) -> bytes:
    """Change a table as text, or its bytes."""
    is_text = not content.startswith((b"\xfd7zXZ\0", b"PAR1"))
    return (tables.change_text if is_text and chance.random() < 0.7 else change_bytes)(content, chance)


CHANGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "archive": change_archive,
    "cifar10": change_gzip(change_tar),
    "idx": change_gzip(change_bytes),
    "npz": change_npz,
    "pack": change_pack,
    "picture": change_picture,
    "recipe": change_toml,
    "safetensors": change_safetensors,
    "sound": change_bytes,
    "table": change_gzip(_change_text),
    "text": change_bytes,
    "texts in a table": change_gzip(_change_text),
}


def change(kind: str, path: Path, chance: random.Random) -> None:
    """Change the file, or something in the folder, that is of a kind."""
    if path.is_file():
        path.write_bytes(CHANGES[kind](path.read_bytes(), chance))
    elif kind == "npy":
        file = chance.choice(sorted(path.iterdir()))
        file.write_bytes(change_npy(file.read_bytes(), chance))
    else:
        {"bundle": change_bundle, "checkpoint": change_checkpoint, "run": change_run, "resume": change_run}[kind](path, chance)
