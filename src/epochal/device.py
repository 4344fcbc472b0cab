"""Where the arithmetic happens: choose a device, and say what it is."""

from __future__ import annotations

import platform
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch

from epochal.errors import RecipeError

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose(name: str = "auto") -> torch.device:
    """Return the device called `name`; "auto" is CUDA where there is one, else MPS, else the CPU.

    Raises `RecipeError` when a device that was asked for is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise RecipeError(f"Unknown device '{name}'.", "Use cpu, cuda, cuda:1 or mps.") from error
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not there.get(device.type, False) or (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()):
        names = ", ".join(kind for kind, found in there.items() if found)
        raise RecipeError(f"There is no device '{name}' here.", f"Use one of: {names}.")
    return device


def describe(device: torch.device) -> str:
    """Return the device in a few words, for people."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    if device.type == "cpu":
        return f"cpu ({torch.get_num_threads()} threads, {platform.machine()})"
    return str(device)


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


def free_memory() -> int | None:
    """Return how many bytes of main memory a program can still take, or `None` where the system does not say (not Linux)."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    # Unlike "free", "available" counts what the system would give back, such as its cache of files.
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 if found else None
