"""CIFAR-10 as published in its binary version: 60,000 colour photographs of 32×32 pixels.

Each of six files contains 10,000 records: one byte of label, then 3×32×32 bytes of pixels. They are read straight from the
archive, or from the folder that it unpacks to.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor

from epochal.data.examples import Found, Part
from epochal.data.storage.archives import tar_members
from epochal.data.storage.download import fetch
from epochal.errors import DataError, reason_of
from epochal.io.files import cache_folder
from epochal.io.safe_read import Unpacked, open_file

ARCHIVE = "cifar-10-binary.tar.gz"
FOLDER = "cifar-10-batches-bin"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

_SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
_SIZE = 170_052_171
_MIRRORS = (
    "https://www.cs.toronto.edu/~kriz/",
    "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/",
)
_BATCHES = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")
RECORDS = 10_000
_RECORD_SIZE = 1 + 3 * 32 * 32
_AGAIN = "Copy or download it again."


def read(data_dir: Path | None) -> Found:
    """Return CIFAR-10 from `data_dir`/cifar10 or `data_dir`, as folder or archive; it is downloaded if it is in neither."""
    base = data_dir or cache_folder()
    places = [folder / name for folder in (base / "cifar10", base) for name in (FOLDER, ARCHIVE)]
    for place in places:
        if place.exists():
            return read_cifar10(place)
    return read_cifar10(fetch(ARCHIVE, _MIRRORS, sha256=_SHA256, size=_SIZE, to=base / "cifar10"))


def read_cifar10(path: Path) -> Found:
    """Read the archive or its folder: uint8 inputs [50000 and 10000, 3, 32, 32], int64 targets from 0 to 9.

    Raises `DataError` naming what is missing or damaged.
    """
    contents = _read_folder(path) if path.is_dir() else _read_archive(path)
    batches = [_unpack(contents[name], f"{path}/{name}") for name in _BATCHES]
    train = Part(torch.cat([pictures for pictures, _ in batches[:5]]), torch.cat([labels for _, labels in batches[:5]]))
    return Found("cifar10", {"train": train, "test": Part(*batches[5])}, classes=CLASSES)


def _read_folder(folder: Path) -> dict[str, bytes]:
    contents = {}
    for name in _BATCHES:
        file = folder / name
        try:
            with open_file(file) as content:
                _check_size(os.fstat(content.fileno()).st_size, str(file))
                contents[name] = content.read(RECORDS * _RECORD_SIZE)
        except (OSError, ValueError) as error:
            raise DataError(f"{file} cannot be read: {reason_of(error)}.", _AGAIN) from error
    return contents


def _read_archive(archive: Path) -> dict[str, bytes]:
    wanted = {f"{FOLDER}/{name}": name for name in _BATCHES}
    contents = {}
    try:
        with Unpacked(archive) as stream:
            for member in tar_members(stream):
                if member.name in wanted and member.kind == "file":
                    _check_size(member.size, f"{archive}/{member.name}")
                    contents[wanted[member.name]] = stream.take(member.size)
    except (OSError, ValueError) as error:
        raise DataError(f"{archive} cannot be read: {error}.", _AGAIN) from error
    missing = [name for member, name in wanted.items() if name not in contents]
    if missing:
        raise DataError(f"{archive} lacks {', '.join(missing)}.", f"Put the published {ARCHIVE} there.")
    return contents


def _check_size(size: int, where: str) -> None:
    if size != RECORDS * _RECORD_SIZE:
        raise DataError(f"{where} has {size:,} bytes instead of {RECORDS * _RECORD_SIZE:,}.", _AGAIN)


def _unpack(content: bytes, where: str) -> tuple[Tensor, Tensor]:
    records = torch.frombuffer(bytearray(content), dtype=torch.uint8).reshape(RECORDS, _RECORD_SIZE)
    labels = records[:, 0].long()
    if labels.max() >= len(CLASSES):
        raise DataError(f"{where} is damaged: record {int(labels.argmax())} has the label {int(labels.max())}.", _AGAIN)
    return records[:, 1:].reshape(-1, 3, 32, 32), labels
