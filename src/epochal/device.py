"""Where the arithmetic happens: choose a device, and say what it is."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import torch

from epochal.errors import RecipeError

# OpenMP's omp_pause_soft: threads end, their settings stay.
_SOFT = 1

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose(name: str = "auto") -> torch.device:
    """Return the device called `name`; "auto" is CUDA where there is one, else MPS, else the CPU.

    Raises `RecipeError` when a device that was asked for is not there.
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
    """Return the kinds of device that there are here, the one that is usually fastest first."""
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
    """Return the names of the processor and of the GPUs here: what the time of a step depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return [names[0] if names else platform.processor() or platform.machine(), *gpus]


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """Let operations on the CPU use `count` threads each for the block, then as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def synchronize(device: torch.device) -> None:
    """Wait until `device` has done all it was told to do, as one must before reading a clock."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def precision(device: torch.device, name: str) -> AbstractContextManager[object]:
    """Return the context in which a forward pass runs in "fp32", "bf16" or "fp16" on `device`.

    Raises `RecipeError` where the device has no such arithmetic.
    """
    if name == "fp32":
        return nullcontext()
    lacking = (device.type == "cpu" and name == "fp16") or (device.type == "cuda" and name == "bf16" and not torch.cuda.is_bf16_supported())
    if lacking:
        other = "bf16" if name == "fp16" else "fp16"
        raise RecipeError(f"The setting precision = {name} does not work on {device}.", f"Use precision = {other} or fp32.")
    return torch.autocast(device.type, dtype=_DTYPES[name])


def deterministic() -> AbstractContextManager[object]:
    """Return the context in which cuDNN only uses algorithms that give the same bits every time."""
    cudnn = torch.backends.cudnn
    return cudnn.flags(enabled=cudnn.enabled, benchmark=False, deterministic=True)


@contextmanager
def computing(threads: int) -> Iterator[None]:
    """Compute as training does for the block: with so many CPU threads, the same bits every time, tiny numbers as zero."""
    with using_threads(threads), deterministic(), flushing_denormals():
        yield


@contextmanager
def flushing_denormals() -> Iterator[None]:
    """Let arithmetic on the CPU take numbers below 1.2e-38 as zero for the block, on all threads.

    Processors compute with such numbers some hundred times slower, and moving averages in optimizers are full of them.
    PyTorch switches the calling thread alone. A new thread starts with the switches of the one that makes it, so OpenMP is
    told to let its threads go (`omp_pause_resource_all` of OpenMP 5.0): it makes new ones at the next parallel loop.
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
    # An OpenMP before 5.0 (PyTorch 2.4 brings one) cannot let its threads go. Then nothing is switched: they would compute otherwise than
    # the calling thread.
    if all(hasattr(library, "omp_pause_resource_all") for library in libraries) and torch.set_flush_denormal(flush):
        for library in libraries:
            library.omp_pause_resource_all(_SOFT)


class PeakMemory:
    """The most memory in use since this was made: on CUDA that of tensors on `device`, on the CPU that of the whole program."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.is_known = device.type == "cuda"
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        elif device.type == "cpu":
            try:
                # Linux: this makes the peak what is in use now (man 5 proc).
                Path("/proc/self/clear_refs").write_text("5")
                self.is_known = True
            except OSError:
                pass

    def read(self) -> int | None:
        """Return the peak in bytes, `None` where nobody says."""
        if not self.is_known:
            return None
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        lines = Path("/proc/self/status").read_text().splitlines()
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)


def free_memory(device: torch.device | None = None) -> int | None:
    """Return how many bytes of the memory of `device` (main memory, unless given) this program can still take.

    `None` where nobody says: main memory on systems other than Linux, and MPS, which shares it.
    """
    if device is not None and device.type == "cuda":
        # What PyTorch holds without using it is free too.
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + held
    if device is not None and device.type != "cpu":
        return None
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    # Unlike "free", "available" counts what the system would give back, such as its cache of files.
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 if found else None
