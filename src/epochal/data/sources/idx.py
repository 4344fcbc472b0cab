"""MNIST and its kin: data sets in the IDX format, four files each.

The format: two zero bytes, the type of the numbers, how many axes, the length of each axis as a big-endian 32-bit number, then
the numbers. Most copies are packed with gzip.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from epochal.data.examples import Found, Part
from epochal.data.storage.download import fetch
from epochal.errors import DataError
from epochal.io.files import cache_folder
from epochal.io.safe_read import Unpacked

_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_UINT8 = 0x08
_TYPES = {0x09: "int8", 0x0B: "int16", 0x0C: "int32", 0x0D: "float32", 0x0E: "float64"}
_AGAIN = "Copy or download it again."


@dataclass(frozen=True)
class Published:
    """A published data set: its addresses, and the SHA-256 and size in bytes of its four packed files."""

    name: str
    title: str
    mirrors: tuple[str, ...]
    files: tuple[tuple[str, int], ...]
    classes: tuple[str, ...]

    def read(self, data_dir: Path | None) -> Found:
        """Return the data set from `data_dir`/NAME or torchvision's `data_dir`/TITLE/raw; what is missing is downloaded.

        Inputs are uint8 [60000 and 10000, 1, 28, 28], targets int64 from 0 to 9.
        """
        base = data_dir or cache_folder()
        folder, torchvision = base / self.name, base / self.title / "raw"
        if _missing(folder) and not _missing(torchvision):
            folder = torchvision
        for name in _missing(folder):
            sha256, size = self.files[_FILES.index(name)]
            fetch(f"{name}.gz", self.mirrors, sha256=sha256, size=size, to=folder)
        splits = _read_splits(folder)
        for (split, (pictures, labels)), count in zip(splits.items(), (60_000, 10_000), strict=True):
            if pictures.shape != (count, 1, 28, 28) or labels.shape != (count,) or labels.max() >= len(self.classes):
                raise DataError(
                    f"{folder} does not contain {self.title}: {split} has pictures {tuple(pictures.shape)} and labels "
                    f"{tuple(labels.shape)} up to {int(labels.max())}; there should be {count:,} of 28×28 pixels, "
                    f"with labels up to {len(self.classes) - 1}.",
                    "Move these files away, and download them again.",
                )
        return Found(self.name, _parts(splits), classes=self.classes)


def holds_idx(folder: Path) -> bool:
    """Whether a folder has files named like those of MNIST."""
    return len(_missing(folder)) < len(_FILES)


def read_idx_folder(folder: Path) -> Found:
    """Read the four IDX files in a folder: uint8 inputs [n, 1, height, width], int64 targets [n].

    Raises `DataError` if a file is missing, damaged or of another kind.
    """
    missing = _missing(folder)
    if missing:
        raise DataError(f"{folder} lacks {', '.join(missing)} (packed with gzip or not).", "Put all four files there.")
    return Found(folder.resolve().name, _parts(_read_splits(folder)))


def read_idx(file: Path) -> Tensor:
    """Read one IDX file of bytes, packed with gzip or not: uint8, in the shape that it declares.

    Raises `DataError` naming the file if its size is not what it declares, or it has another number type.
    """
    try:
        with Unpacked(file) as stream:
            shape = _shape(stream, file)
            count = math.prod(shape)
            if count > stream.limit:
                raise DataError(f"{file} is damaged: it declares {count:,} numbers, more than fit in {stream.packed:,} bytes.", _AGAIN)
            content = bytearray(count)
            found = stream.fill(content)
            # Reading to the end finds what is too much, and makes gzip compare its checksum.
            is_more = stream.readinto(bytearray(1)) > 0
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {error}.", _AGAIN) from error
    if found < count or is_more or not count:
        has = f"more than {count:,}" if is_more else f"{found:,}"
        raise DataError(f"{file} is damaged: it declares {count:,} numbers and has {has}.", _AGAIN)
    return torch.frombuffer(content, dtype=torch.uint8).reshape(shape)


def _shape(stream: Unpacked, file: Path) -> tuple[int, ...]:
    """Read the header of an IDX file."""
    start = stream.upto(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[3] == 0:
        raise DataError(f"{file} is not an IDX file: it begins with {start.hex(' ') or 'nothing'}.", _AGAIN)
    kind, axes = start[2], start[3]
    if kind != _UINT8:
        raise DataError(
            f"{file} contains {_TYPES.get(kind, 'unknown numbers')}; only uint8 can be read.", "Convert it, to .npz for example."
        )
    lengths = stream.upto(4 * axes)
    if len(lengths) < 4 * axes:
        raise DataError(f"{file} is damaged: it ends within its header.", _AGAIN)
    return struct.unpack(f">{axes}I", lengths)


def _read_splits(folder: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """Read inputs [n, 1, height, width] and targets [n] of both splits."""
    files = _find(folder)
    contents = [read_idx(files[name]) for name in _FILES]
    for name, content, axes in zip(_FILES, contents, (3, 1, 3, 1), strict=True):
        if content.ndim != axes:
            raise DataError(
                f"{files[name]} has {content.ndim} axes instead of {axes}.", "Provide pictures [n, height, width] and labels [n]."
            )
    pictures, labels, test_pictures, test_labels = contents
    return {"train": (pictures[:, None], labels.long()), "test": (test_pictures[:, None], test_labels.long())}


def _parts(splits: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, Part]:
    return {split: Part(*pair) for split, pair in splits.items()}


def _missing(folder: Path) -> list[str]:
    return [name for name in _FILES if name not in _find(folder)]


def _find(folder: Path) -> dict[str, Path]:
    """Find files under their published names or, as many copies have them, with a dot before "idx"; packed or not."""
    found = {}
    for name in _FILES:
        for stem in (name.replace("-idx", ".idx"), name):
            for file in (folder / f"{stem}.gz", folder / stem):
                if file.is_file():
                    found[name] = file
    return found


_DIGITS = tuple("0123456789")

MNIST = Published(
    name="mnist",
    title="MNIST",
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "http://yann.lecun.com/exdb/mnist/",
    ),
    files=(
        ("440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609", 9_912_422),
        ("3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c", 28_881),
        ("8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6", 1_648_877),
        ("f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6", 4_542),
    ),
    classes=_DIGITS,
)

FASHION_MNIST = Published(
    name="fashion-mnist",
    title="FashionMNIST",
    mirrors=(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
    files=(
        ("3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84", 26_421_880),
        ("a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845", 29_515),
        ("346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073", 4_422_102),
        ("67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5", 5_148),
    ),
    classes=("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)

KMNIST = Published(
    name="kmnist",
    title="KMNIST",
    mirrors=("https://codh.rois.ac.jp/kmnist/dataset/kmnist/", "http://codh.rois.ac.jp/kmnist/dataset/kmnist/"),
    files=(
        ("51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4", 18_165_135),
        ("e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17", 29_497),
        ("edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5", 3_041_136),
        ("20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c", 5_120),
    ),
    classes=tuple("おきすつなはまやれを"),
)
