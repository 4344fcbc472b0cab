"""The ways to read a folder of pictures or sounds that are compared, each in a process of its own.

    python -m benchmarks.reading WAY FOLDER

FOLDER holds CLASS/FILE, or such folders named train and test. The last line is a JSON object: how many `examples`, in how many
`seconds`; imports do not count.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any


def decoder(folder: Path) -> tuple[int, float]:
    """The bare decoder in a single thread: nothing but decoding, of files whose names are known."""
    files = _files(folder)
    started = time.perf_counter()
    _decode(files)
    return len(files), time.perf_counter() - started


def decoders(folder: Path) -> tuple[int, float]:
    """The bare decoder once for each core, each with its share of the files."""
    files, cores = _files(folder), os.cpu_count() or 1
    started = time.perf_counter()
    with ProcessPoolExecutor(cores) as pool:
        list(pool.map(_decode, [files[first::cores] for first in range(cores)]))
    return len(files), time.perf_counter() - started


def epochal(folder: Path) -> tuple[int, float]:
    """`epochal.load`, from the folder's name to examples in memory."""
    # The package imports a name's module when the name is asked for; that must not fall into the time.
    from epochal import load

    started = time.perf_counter()
    data = load(folder)
    seconds = time.perf_counter() - started
    return sum(len(examples) for examples in data.splits.values()), seconds


def check(folder: Path) -> tuple[int, float]:
    """`epochal.check`, from the folder's name to all that is wrong in it."""
    from epochal import check

    started = time.perf_counter()
    found = check(folder)
    seconds = time.perf_counter() - started
    return sum(found.counts.values()), seconds


def torchvision(folder: Path) -> tuple[int, float]:
    """One epoch of torchvision's ImageFolder through a DataLoader with two workers; pixels stay uint8."""
    from torch.utils.data import ConcatDataset, DataLoader

    from benchmarks.protocol import let_torchvision_import

    let_torchvision_import()
    from torchvision import datasets, transforms

    started = time.perf_counter()
    parts = [datasets.ImageFolder(str(part), transforms.PILToTensor()) for part in _parts(folder)]
    loader: DataLoader[Any] = DataLoader(ConcatDataset(parts), batch_size=128, num_workers=2)
    pictures = sum(len(targets) for _, targets in loader)
    return pictures, time.perf_counter() - started


def soundfile(folder: Path) -> tuple[int, float]:
    """The bare soundfile in a single thread: nothing but reading the samples of files whose names are known."""
    import soundfile  # noqa: F401  it must not fall into the time

    files = _files(folder)
    started = time.perf_counter()
    _hear(files)
    return len(files), time.perf_counter() - started


def soundfile_threads(folder: Path) -> tuple[int, float]:
    """The bare soundfile in a thread for each core, each with its share of the files."""
    return _share(folder, ThreadPoolExecutor)


def soundfile_processes(folder: Path) -> tuple[int, float]:
    """The bare soundfile in a process for each core, each with its share of the files; the processes are there before."""
    return _share(folder, ProcessPoolExecutor)


WAYS = {way.__name__: way for way in (decoder, decoders, epochal, check, torchvision, soundfile, soundfile_threads, soundfile_processes)}


def _share(folder: Path, executor: type[ThreadPoolExecutor | ProcessPoolExecutor]) -> tuple[int, float]:
    import soundfile  # noqa: F401  it must not fall into the time

    files, cores = _files(folder), os.cpu_count() or 1
    shares = [files[first::cores] for first in range(cores)]
    with executor(cores) as pool:
        list(pool.map(_hear, [share[:1] for share in shares]))
        started = time.perf_counter()
        list(pool.map(_hear, shares))
        return len(files), time.perf_counter() - started


def _hear(files: Sequence[Path]) -> None:
    import soundfile

    for file in files:
        soundfile.read(file, dtype="int16")


def _decode(files: Sequence[Path]) -> None:
    import numpy
    from PIL import Image

    for file in files:
        with Image.open(file) as picture:
            numpy.asarray(picture)


def _files(folder: Path) -> list[Path]:
    return sorted(file for part in _parts(folder) for file in part.glob("*/*"))


def _parts(folder: Path) -> list[Path]:
    return [part for part in (folder / "train", folder / "test") if part.is_dir()] or [folder]


if __name__ == "__main__":
    counted, taken = WAYS[sys.argv[1]](Path(sys.argv[2]))
    print(json.dumps({"examples": counted, "seconds": taken}))
