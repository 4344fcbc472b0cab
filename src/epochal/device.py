"""Choosing and describing the device that computes."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

import torch

from epochal.errors import RecipeError

# OpenMP's omp_pause_soft: threads end, their settings stay.
_SOFT = 1

# For mallopt: M_TRIM_THRESHOLD, how much is kept at the end of the heap; M_TOP_PAD, how much more the heap grows by than is asked for;
# and M_MMAP_THRESHOLD, from what size on blocks are outside of it where it would have to grow.
_KEPT = ((-1, (1 << 31) - 1), (-2, 1 << 28), (-3, 1 << 25))

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose(name: str = "auto") -> torch.device:
    """Return the device called `name`; "auto" is CUDA if available, else MPS, else the CPU.

    Raises `RecipeError` if the device is not available.
    """
    if name == "auto":
        name = available()[0]
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise RecipeError(f"Unknown device '{name}'.", "Use cpu, cuda, cuda:1 or mps.") from error
    if device.type not in available() or (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()):
        raise RecipeError(f"There is no device '{name}' here.", f"Use one of: {', '.join(reversed(available()))}.")
    return device


def available() -> list[str]:
    """Return the types of the available devices, the one that is usually fastest first."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    return [kind for kind, found in there.items() if found]


def describe(device: torch.device) -> str:
    """Return the device in a few words, for people."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return f"cpu ({threads} {'thread' if threads == 1 else 'threads'}, {platform.machine()})"
    return str(device)


def machine() -> list[str]:
    """Return the names of the processor and of the GPUs: what the time of a step depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return [names[0] if names else platform.processor() or platform.machine(), *gpus]


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """Let operations on the CPU use `count` threads for the block, and afterwards as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def synchronize(device: torch.device) -> None:
    """Wait until `device` has finished its work, as is necessary before reading a clock."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def precision(device: torch.device, name: str) -> AbstractContextManager[object]:
    """Return the context in which a forward pass runs in "fp32", "bf16" or "fp16" on `device`.

    Raises `RecipeError` if the device does not support it.
    """
    if name == "fp32":
        return nullcontext()
    lacking = (device.type == "cpu" and name == "fp16") or (device.type == "cuda" and name == "bf16" and not torch.cuda.is_bf16_supported())
    if lacking:
        other = "bf16" if name == "fp16" else "fp16"
        raise RecipeError(f"The setting precision = {name} does not work on {device}.", f"Use precision = {other} or fp32.")
    return torch.autocast(device.type, dtype=_DTYPES[name])


def deterministic() -> AbstractContextManager[object]:
    """Return the context in which cuDNN only uses deterministic algorithms."""
    cudnn = torch.backends.cudnn
    return cudnn.flags(enabled=cudnn.enabled, benchmark=False, deterministic=True)


@contextmanager
def computing(threads: int) -> Iterator[None]:
    """Compute as training does for the block: with `threads` CPU threads, deterministically, with denormal numbers as zero."""
    keep_memory()
    with using_threads(threads), deterministic(), flushing_denormals():
        yield
    release_memory()


@contextmanager
def flushing_denormals() -> Iterator[None]:
    """Treat numbers below 1.2e-38 as zero in arithmetic on the CPU for the block, on all threads.

    Processors are some hundred times slower with such numbers, and moving averages in optimizers are full of them.
    PyTorch only switches the calling thread. A new thread inherits the mode of the one that creates it, so OpenMP is
    made to end its threads (`omp_pause_resource_all` of OpenMP 5.0): it creates new ones at the next parallel loop.
    """
    were_flushed = bool(torch.tensor(1e-39) * 1 == 0)
    _flush(flush=True)
    try:
        yield
    finally:
        _flush(flush=were_flushed)


def _flush(*, flush: bool) -> None:
    folder = Path(torch.__file__).parent / "lib"
    libraries = [ctypes.CDLL(str(path)) for path in folder.iterdir() if path.name.startswith(("libgomp", "libiomp", "libomp"))]
    # OpenMP before 5.0 (as in PyTorch 2.4) cannot end its threads. Then nothing is switched: they would compute differently from the
    # calling thread.
    if all(hasattr(library, "omp_pause_resource_all") for library in libraries) and torch.set_flush_denormal(flush):
        for library in libraries:
            library.omp_pause_resource_all(_SOFT)


class PeakMemory:
    """The peak memory since this was created: of tensors on `device` for CUDA, of the whole program for the CPU."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.is_known = device.type == "cuda"
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        elif device.type == "cpu":
            try:
                # Linux: this resets the peak to what is in use now (man 5 proc).
                Path("/proc/self/clear_refs").write_text("5")
                self.is_known = True
            except OSError:
                pass

    def read(self) -> int | None:
        """Return the peak in bytes; `None` if it is unknown."""
        if not self.is_known:
            return None
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        lines = Path("/proc/self/status").read_text().splitlines()
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)


def keep_memory() -> None:
    """Let GNU's C library keep up to 2 GB that large tensors no longer use, for the next ones, until `release_memory`.

    By itself it returns them to the system, which fills new ones with zeros page by page: up to half of the time that convolutions take.
    Where the user has set the library's own variables, those hold.
    """
    if _tune is not None and not any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        for parameter, size in _KEPT:
            _tune(parameter, size)


def release_memory() -> None:
    """Return memory that is no longer used to the system, which GNU's C library does not do by itself where there are gaps.

    That takes milliseconds. Elsewhere it does nothing.
    """
    if _trim is not None:
        _trim(0)


def _of_c_library(name: str) -> Callable[..., int] | None:
    with suppress(AttributeError, OSError, TypeError):
        found: Callable[..., int] = getattr(ctypes.CDLL(None), name)
        return found
    return None


# Found once, at the beginning: no library is opened while files from strangers are read.
_trim, _tune = _of_c_library("malloc_trim"), _of_c_library("mallopt")


def free_memory(device: torch.device | None = None) -> int | None:
    """Return how many bytes of the memory of `device` (by default main memory) this program can still allocate.

    `None` if that is unknown: main memory on systems other than Linux, and MPS, which shares it.
    """
    if device is not None and device.type == "cuda":
        # Memory that PyTorch has reserved without using it is free too.
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + held
    if device is not None and device.type != "cpu":
        return None
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    # Unlike "free", "available" includes what the system would release, such as its file cache.
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 if found else None
