"""Small, deterministic data that many tests share."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Callable, Generator, Iterator
from typing import Any

import hypothesis
import pytest
import torch
from torch import Tensor

from epochal.data.inputs.numbers import NumbersRule
from epochal.data.inputs.picture.rule import PictureRule
from epochal.data.spec import DataSpec
from epochal.tasks import TASKS
from tests.forks import Server
from tests.quick import draw, draw_nothing, read_operators_once, sync_nothing
from tests.serve.browser import as_new, open_browser, read_axe

hypothesis.settings.register_profile("epochal", deadline=None, derandomize=True, database=None, max_examples=40)
hypothesis.settings.load_profile("epochal")

# What a script starts in the background ignores Ctrl-C, and so do its children; these tests need processes that receive it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

SpecMaker = Callable[..., DataSpec]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep what is compiled for the next time, and look for no garbage in what stays: that would be half of the time."""
    is_kept, sys.dont_write_bytecode = sys.dont_write_bytecode, False
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()
        sys.dont_write_bytecode = is_kept


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny tensors gain nothing from threads, and the tests leave the other core to someone else: here and in child processes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests neither see nor change what this machine remembers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EPOCHAL_CACHE", str(tmp_path_factory.mktemp("cache")))
        # What the first child process compiles need not be compiled by all others.
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        yield


@pytest.fixture(scope="session")
def forking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A process whose forks run the command; `by` says how."""
    with Server(tmp_path_factory.mktemp("forking")) as server:
        yield server


@pytest.fixture(scope="session", autouse=True)
def _quick() -> Iterator[None]:
    """No figures are drawn where nobody asks for `drawn`; and no test survives a power cut."""
    with pytest.MonkeyPatch.context() as patch:
        draw_nothing(patch)
        patch.setattr("os.fsync", sync_nothing)
        yield


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw figures as users see them."""
    draw(monkeypatch)


@pytest.fixture(scope="session")
def exporting() -> Iterator[None]:
    """Export to ONNX as quickly as possible."""
    with pytest.MonkeyPatch.context() as patch:
        read_operators_once(patch)
        yield


@pytest.fixture(scope="session")
def _browser() -> Iterator[Any]:
    """One browser for all tests that speak English."""
    found = open_browser()
    yield found
    found.quit()


@pytest.fixture
def driver(_browser: Any) -> Any:
    """A browser that shows nothing yet."""
    as_new(_browser)
    return _browser


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The source of axe, the checker of accessibility."""
    return read_axe(tmp_path_factory.mktemp("axe"))


@pytest.fixture
def blobs() -> tuple[Tensor, Tensor]:
    """Three well separated clouds of 20 points: float32 [60, 2], int64 [60], classes in turn."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(60) % 3
    centers = torch.tensor([[4.0, 0.0], [-4.0, 0.0], [0.0, 4.0]])
    return centers[labels] + torch.randn(60, 2, generator=generator), labels


@pytest.fixture
def pictures() -> tuple[Tensor, Tensor]:
    """Noise of 8x8 grey pixels whose left or right half is bright: uint8 [24, 1, 8, 8], int64 [24] of two classes."""
    generator = torch.Generator().manual_seed(2)
    labels = torch.arange(24) % 2
    pixels = torch.randint(0, 100, (24, 1, 8, 8), generator=generator)
    pixels[labels == 0, :, :, :4] += 150
    pixels[labels == 1, :, :, 4:] += 150
    return pixels.to(torch.uint8), labels


@pytest.fixture
def make_spec() -> SpecMaker:
    """Return a function that makes a `DataSpec` for two numbers and three classes, with any field replaced.

    What belongs to the rule and the task is given flat: `shape`, `dtype`, `mean`, `std`, `fit` and `edge_colour`; `outputs`,
    `class_counts`, `target_mean`, `target_std` and `target_dtype`.
    """

    def make(task: str = "single-label", outputs: tuple[str, ...] = ("a", "b", "c"), **changes: Any) -> DataSpec:
        learned = {name: changes.pop(f"target_{name}") for name in ("mean", "std", "dtype") if f"target_{name}" in changes}
        counts = changes.pop("class_counts", {"train": (1, 2, 3)})
        if "counts" in TASKS[task].model_fields:
            learned["counts"] = counts
        values: dict[str, Any] = {
            "name": "made", "task": {"name": task, "outputs": outputs, **learned}, "counts": {"train": 6}, "fingerprint": "0",
        }  # fmt: skip
        rule: dict[str, Any] = {"shape": (2,), "dtype": "float32", "mean": (0.0, 0.0), "std": (1.0, 1.0)}
        for name in (*rule, "fit", "edge_colour"):
            if name in changes:
                rule[name] = changes.pop(name)
        kind = PictureRule if len(rule["shape"]) == 3 else NumbersRule
        return DataSpec(**{**values, "input": changes.pop("input", None) or kind(**rule), **changes})

    return make
