"""Picture files read in bulk: measured and decoded on all cores.

What is decoded quickly is decoded by threads into memory; the rest by processes into a shared file, since threads would compete for
the GIL. Each picture file is read once, for its hash, its header and its pixels.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from array import array
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from math import prod
from mmap import mmap
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from epochal.data.inputs.picture.read import Measured, hash_picture, measure_picture, read_picture
from epochal.data.inputs.picture.rule import PictureRule
from epochal.data.storage.cache import FILE, checksums
from epochal.errors import DataError, UnreadableError
from epochal.progress import progress

Result = TypeVar("Result")

_CHUNK = 16
_NAMED = 5
_LEAVE_OUT = "To leave out all that are like this: epochal check DATA --quarantine LIST, then --exclude LIST."

# Forking, where safe, saves each process a second of importing PyTorch; the processes only use Pillow and NumPy.
_START = "fork" if sys.platform == "linux" else "spawn"

# The number of pictures per task of a process; fewer if they are large.
_BLOCK = 256
_BLOCK_BYTES = 4_000_000


class Decoded(NamedTuple):
    """The result of decoding to a file: a record of each picture file (`FILE` [n]), and the CRC-32 of each picture."""

    known: NDArray[Any]
    checksums: array[int]


class UnlikeError(Exception):
    """A picture does not have the expected size and colour."""


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def seconds_to_decode(paths: Sequence[str]) -> float:
    """Estimate the seconds one core takes to decode picture files, from the size of some: about 0.1 ms each plus 100 MB/s."""
    return len(paths) * (1e-4 + _mean_size(paths) * 1e-8)


def measure(paths: Sequence[str]) -> list[Measured]:
    """Return size and colour of picture files from their headers only.

    Raises `DataError` naming the files that are not pictures.
    """
    found = [Measured(0, 0, True)] * len(paths)

    def header(place: int) -> None:
        found[place] = measure_picture(paths[place])

    # A few threads hide the latency of a slow disk; more would only wait for the GIL.
    _each(header, len(paths), "Measuring pictures", threads=4)
    return found


def decode(paths: Sequence[str], rule: PictureRule) -> tuple[Tensor, NDArray[Any]]:
    """Return all pictures converted by `rule`, uint8 [n, channels, height, width], and records of their files (`FILE` [n]).

    Raises `DataError` naming the files that cannot be read.
    """
    pictures = torch.empty((len(paths), *rule.shape), dtype=torch.uint8)
    pixels, known = pictures.numpy(), np.zeros(len(paths), FILE)

    def read(place: int) -> None:
        pixels[place] = _read(paths[place], rule, known, place)

    _each(read, len(paths), "Reading pictures", threads=useful_threads(paths))
    return pictures, known


def hash_files(paths: Sequence[str]) -> NDArray[Any]:
    """Return the hashes of the content of files. Raises `DataError` naming those that cannot be read."""
    hashes = np.zeros(len(paths), FILE)["hash"]

    def read(place: int) -> None:
        hashes[place] = hash_picture(paths[place])

    _each(read, len(paths), "Reading files", threads=4)
    return hashes


def shared_memory(size: int) -> mmap | None:
    """Return memory of `size` bytes shared with the processes of `decode_to`, or `None` if that is not possible."""
    return mmap(-1, size) if _START == "fork" else None


def decode_to(
    file: Path,
    paths: Sequence[str],
    rule: PictureRule,
    expected: Measured | None = None,
    training: int = 0,
    shared: mmap | None = None,
) -> Decoded:
    """Write all pictures converted by `rule` to a file, with one process per core: uint8 [n, channels, height, width].

    They are also written to `shared` memory, if given: reading them back would take a tenth of the time of decoding small ones.
    Raises `DataError` naming the files that cannot be read, `OSError` if writing fails, and `UnlikeError` as soon as one of the first
    `training` pictures is not as `expected`.
    """
    count = len(paths)
    known, sums, wrong = np.zeros(count, FILE), array("I", bytes(4 * count)), dict[int, DataError]()
    step = max(1, min(_BLOCK, _BLOCK_BYTES // prod(rule.shape)))
    work = partial(_decode_block, file=file, paths=paths, rule=rule, shared=shared)
    with closing(in_blocks(work, count, step, "Reading pictures")) as blocks:
        for places, block in blocks:
            known[places.start : places.stop] = block.known
            sums[places.start : places.stop] = block.checksums
            wrong.update(block.wrong)
            if expected is not None and not _alike(block, expected, training - places.start):
                raise UnlikeError
    raise_all(wrong)
    return Decoded(known, sums)


def in_blocks(work: Callable[[range], Result], count: int, step: int, label: str) -> Generator[tuple[range, Result], None, None]:
    """Call `work` for each range of `step` in 0 to `count`, with one process per core; yield each range with its result when done.

    `work` must be picklable, and may raise `OSError`. Raises `DataError` if a process was killed.
    """
    places = (range(begin, min(begin + step, count)) for begin in range(0, count, step))
    with ExitStack() as stack:
        workers = stack.enter_context(_workers(min(cores(), -(-count // step)), work))
        advance = stack.enter_context(progress(label, count))
        stack.enter_context(_report_worker_death())
        waiting = 0
        for worker in workers * 2:  # Two tasks each, so that no worker has to wait for the next.
            if (some := next(places, None)) is not None:
                worker.send(some)
                waiting += 1
        while waiting:
            for worker, done, result in _results(workers):
                waiting -= 1
                if (some := next(places, None)) is not None:
                    worker.send(some)
                    waiting += 1
                yield done, result
                advance(len(done))


class _Block(NamedTuple):
    known: NDArray[Any]
    checksums: array[int]
    wrong: dict[int, DataError]


def _read(path: str, rule: PictureRule, known: NDArray[Any], place: int) -> NDArray[np.uint8]:
    file = read_picture(path, rule)
    known[place] = (file.signature, file.hash, *file.measured)
    return file.pixels


def _alike(block: _Block, expected: Measured, training: int) -> bool:
    """Whether all readable ones of the first `training` pictures of a block are as expected."""
    some = block.known[: max(0, training)]
    some = some[some["height"] > 0]
    return all(bool((some[name] == value).all()) for name, value in expected._asdict().items())


def _decode_block(places: range, file: Path, paths: Sequence[str], rule: PictureRule, shared: mmap | None) -> _Block:
    """Decode the pictures at `places` to their positions in the file, and in shared memory."""
    size, known = prod(rule.shape), np.zeros(len(places), FILE)
    memory = bytearray(len(places) * size) if shared is None else memoryview(shared)[places.start * size : places.stop * size]
    pixels = np.frombuffer(memory, np.uint8).reshape(len(places), *rule.shape)
    wrong = {}
    for number, place in enumerate(places):
        try:
            pixels[number] = _read(paths[place], rule, known, number)
        except DataError as error:
            wrong[place] = error
    with file.open("r+b") as content:
        content.seek(places.start * size)
        content.write(pixels.data)
    return _Block(known, checksums(pixels.data.cast("B"), size), wrong)


def _work(tasks: Connection, work: Callable[[range], Any]) -> None:
    """Process the blocks received until the parent ends this process, or ends itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the parent ends its workers.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    gc.freeze()  # Collecting the objects that came with the fork would copy their memory.
    parent = multiprocessing.parent_process()
    assert parent is not None
    while tasks in wait([tasks, parent.sentinel]):
        try:
            places = tasks.recv()
            tasks.send((places, work(places)))
        except OSError as error:
            tasks.send((places, error))


@contextmanager
def _workers(count: int, work: Callable[[range], Any]) -> Iterator[list[Connection]]:
    """Yield connections to `count` processes that run `_work`; they end with the block."""
    context: Any = multiprocessing.get_context(_START)
    connections: list[Connection] = []
    processes: list[BaseProcess] = []
    try:
        for _ in range(count):
            ours, theirs = context.Pipe()
            connections.append(ours)
            with theirs, warnings.catch_warnings(), _signals_later():
                warnings.filterwarnings("ignore", category=DeprecationWarning)  # Python 3.12 warns of forks beside threads.
                process = context.Process(target=_work, args=(theirs, work), daemon=True)
                process.start()
                processes.append(process)
        yield connections
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.join()
            process.close()
        for connection in connections:
            connection.close()


@contextmanager
def _signals_later() -> Iterator[None]:
    """Let SIGINT and SIGTERM wait for the end of the block: Python drops what their handlers raise while it forks."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {number: handler for number in (signal.SIGINT, signal.SIGTERM) if (handler := signal.getsignal(number)) is not None}
    for number in before:
        signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for late in came:
            signal.raise_signal(late)


@contextmanager
def _report_worker_death() -> Iterator[None]:
    """Turn a broken connection into an error that says why."""
    try:
        yield
    except (EOFError, ConnectionError) as error:
        raise DataError(
            "A process that decoded pictures was killed.",
            "Free some memory: the system kills processes when it runs out.",
        ) from error


def _results(workers: list[Connection]) -> Iterator[tuple[Connection, range, Any]]:
    """Yield the results of workers that are done, waiting for the first."""
    for worker in wait(workers):
        assert isinstance(worker, Connection)
        places, result = worker.recv()
        if isinstance(result, OSError):
            raise result
        yield worker, places, result


def _mean_size(paths: Sequence[str]) -> float:
    some = [os.stat(path).st_size for path in paths[:: len(paths) // 16 + 1] if os.path.exists(path)]  # noqa: PTH110, PTH116  many
    return sum(some) / (len(some) or 1)


def useful_threads(paths: Sequence[str]) -> int:
    """Return the number of threads that makes decoding fastest, estimated from the size of some files.

    Pillow decodes in parallel, but the Python code around it does not: on tiny files threads only get in each other's way.
    """
    return min(cores(), 1 + int(_mean_size(paths)) // 2048)


def _each(work: Callable[[int], None], count: int, label: str, threads: int) -> None:
    """Call `work` for 0 to `count` - 1 on threads; at the end, raise all `DataError`s as one."""
    wrong: dict[int, DataError] = {}
    stop = Event()

    def chunk(first: int) -> int:
        last = min(first + _CHUNK, count)
        for place in range(first, last):
            if stop.is_set():
                break
            try:
                work(place)
            except DataError as error:
                wrong[place] = error
        return last - first

    with progress(label, count) as advance, ThreadPoolExecutor(threads) as pool:
        try:
            for done in pool.map(chunk, range(0, count, _CHUNK)):
                advance(done)
        finally:
            # After Ctrl-C the pool waits for its threads, which need not finish their chunks.
            stop.set()
    raise_all(wrong)


def raise_all(wrong: dict[int, DataError], what: str = "pictures", names: Sequence[str] = ()) -> None:
    """Raise the errors of all files as one, if there are any; `names` are what the user calls the files."""
    if not wrong:
        return
    places = sorted(wrong)
    errors = [wrong[place] for place in places]
    reasons = [error.problem for error in errors]
    if len(errors) == 1:
        problem, fix = reasons[0], errors[0].fix
    else:
        problem = "\n".join([f"{len(errors):,} {what} cannot be read:", *(f"  {reason}" for reason in reasons[:_NAMED])])
        problem, fix = problem + "\n  ..." * (len(errors) > _NAMED), "Fix, replace or remove them."
    found = UnreadableError(problem, f"{fix}\n{_LEAVE_OUT}", places, reasons)
    found.names = tuple(names[place] for place in places) if names else ()
    raise found from errors[0]
