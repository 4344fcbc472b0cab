"""Devices are chosen by name, and what a device cannot do is refused."""

from __future__ import annotations

import ctypes
import os
import statistics
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from epochal import device
from epochal.errors import RecipeError


def _pretend(monkeypatch: pytest.MonkeyPatch, *, cuda: int = 0, mps: bool = False) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(("cuda", "mps", "chosen"), [(1, True, "cuda"), (0, True, "mps"), (0, False, "cpu")])
def test_auto_takes_the_fastest_there_is(monkeypatch: pytest.MonkeyPatch, cuda: int, mps: bool, chosen: str) -> None:
    _pretend(monkeypatch, cuda=cuda, mps=mps)
    assert device.choose() == torch.device(chosen)


def test_name(monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend(monkeypatch, cuda=2)
    assert device.choose("cpu") == torch.device("cpu")
    assert device.choose("cuda:1") == torch.device("cuda:1")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x"])
def test_unknown_name(name: str) -> None:
    with pytest.raises(RecipeError) as raised:
        device.choose(name)
    assert str(raised.value) == f"Unknown device '{name}'.\nUse cpu, cuda, cuda:1 or mps."


@pytest.mark.parametrize(
    ("name", "cuda", "reported"),
    [("cuda", 0, "cpu"), ("mps", 0, "cpu"), ("meta", 0, "cpu"), ("cuda:1", 1, "cpu, cuda"), ("xpu", 1, "cpu, cuda")],
)
def test_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch, name: str, cuda: int, reported: str) -> None:
    _pretend(monkeypatch, cuda=cuda)
    with pytest.raises(RecipeError) as raised:
        device.choose(name)
    assert str(raised.value) == f"There is no device '{name}' here.\nUse one of: {reported}."


def test_describe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "H200")
    with device.using_threads(2):
        assert device.describe(torch.device("cpu")).startswith("cpu (2 threads, ")
    with device.using_threads(1):
        assert device.describe(torch.device("cpu")).startswith("cpu (1 thread, ")
    assert device.describe(torch.device("cuda:1")) == "cuda:1 (H200)"
    assert device.describe(torch.device("mps")) == "mps"


def test_precision_of_the_forward_pass() -> None:
    layer, x = torch.nn.Linear(2, 2), torch.ones(1, 2)
    with device.precision(torch.device("cpu"), "fp32"):
        assert layer(x).dtype == torch.float32
    with device.precision(torch.device("cpu"), "bf16"):
        assert layer(x).dtype == torch.bfloat16


def test_precision_that_a_device_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RecipeError) as raised:
        device.precision(torch.device("cpu"), "fp16")
    assert str(raised.value) == "The setting precision = fp16 does not work on cpu.\nUse precision = bf16 or fp32."
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    with pytest.raises(RecipeError, match="precision = bf16 does not work on cuda.\nUse precision = fp16 or fp32."):
        device.precision(torch.device("cuda"), "bf16")


def test_deterministic_is_undone() -> None:
    cudnn = torch.backends.cudnn
    before = (cudnn.benchmark, cudnn.deterministic)
    with device.deterministic():
        assert (cudnn.benchmark, cudnn.deterministic) == (False, True)
    assert (cudnn.benchmark, cudnn.deterministic) == before


def test_free_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    free = device.free_memory()
    assert free is None or 0 < free < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    reported = tmp_path / "meminfo"
    reported.write_text("MemTotal: 9 kB\nMemAvailable:   3 kB\n")
    monkeypatch.setattr(device, "Path", lambda _: reported)
    assert device.free_memory() == 3072
    reported.write_text("MemTotal: 9 kB\n")
    assert device.free_memory() is None
    reported.unlink()
    assert device.free_memory() is None


def test_free_memory_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (1000, 5000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 300)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 100)
    assert device.free_memory(torch.device("cuda")) == 1200
    assert device.free_memory(torch.device("mps")) is None


def test_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt), device.using_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise KeyboardInterrupt
    assert torch.get_num_threads() == before


def test_the_machine_has_a_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert all(device.machine())
    _pretend(monkeypatch, cuda=1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "H200")
    reported = tmp_path / "cpuinfo"
    reported.write_text("processor : 0\nmodel name : Some CPU\nmodel name : Some CPU\n")
    monkeypatch.setattr(device, "Path", lambda _: reported)
    assert device.machine() == ["Some CPU", "H200"]
    reported.unlink()
    assert len(device.machine()) == 2


def _tiny_left() -> set[bool]:
    """Of a parallel loop over numbers below the smallest normal one: whether they are numbers, on any of the threads."""
    halves = torch.full((1_000_000,), 1e-39) * 0.5
    return set((halves.view(torch.int32) != 0).tolist())


def test_denormals_are_flushed_on_all_threads_and_then_no_more() -> None:
    assert _tiny_left() == {True}
    with device.flushing_denormals():
        assert _tiny_left() == {False}
        with device.flushing_denormals():
            assert _tiny_left() == {False}
        assert _tiny_left() == {False}
    assert _tiny_left() == {True}


def test_where_openmp_cannot_let_its_threads_go_nothing_is_switched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libgomp.so.1").touch()
    monkeypatch.setattr(torch, "__file__", str(tmp_path / "__init__.py"))
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    with device.flushing_denormals():
        assert float(torch.tensor(1e-39) * 1) != 0


def test_memory_of_large_tensors_is_used_again() -> None:
    resource = pytest.importorskip("resource")
    if not hasattr(ctypes.CDLL(None), "mallopt"):
        pytest.skip("another C library")
    device.keep_memory()
    # Blocks of this size are taken from the heap, and stay in it; larger ones are, where it has room for them.
    heap = [torch.ones(30_000_000, dtype=torch.uint8) for _ in range(4)]
    del heap
    faults = [resource.getrusage(resource.RUSAGE_SELF).ru_minflt]
    for _ in range(21):
        torch.ones(40_000_000, dtype=torch.uint8)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
    # 9,766 pages are new where they are taken from the system. In most rounds: other threads may be in the way of one.
    assert statistics.median(after - before for before, after in pairwise(faults)) < 1000


@pytest.mark.parametrize(("name", "tuned"), [("MALLOC_TRIM_THRESHOLD_", False), ("GLIBC_TUNABLES", False), ("MALLOW", True)])
def test_what_the_user_set_for_memory_holds(name: str, *, tuned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []
    for other in [other for other in os.environ if other.startswith(("MALLOC_", "GLIBC_TUNABLES"))]:
        monkeypatch.delenv(other)
    monkeypatch.setenv(name, "1")
    monkeypatch.setattr(device, "_tune", lambda *call: calls.append(call))
    device.keep_memory()
    assert bool(calls) is tuned
