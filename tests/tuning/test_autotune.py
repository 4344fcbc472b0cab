"""Settings that are "auto" are measured, remembered, and reported; others stay, and training is not affected."""

from __future__ import annotations

import json
import random as python_random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, nn

from epochal.cores import CoreWatch
from epochal.data.load import Data, load
from epochal.errors import RecipeError
from epochal.recipe import Recipe
from epochal.run.train import train
from epochal.training.loop import fit
from epochal.training.records import Started
from epochal.tuning import autotune
from epochal.tuning.autotune import Choice, resolve_auto
from tests.small import stateful_net


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache for this test, measurements that take no time, and idle cores."""
    monkeypatch.setattr(CoreWatch, "crowded_seconds", lambda _: 0.0)
    monkeypatch.setattr(CoreWatch, "was_crowded", lambda watch, _: watch.crowded_seconds() > 0)
    monkeypatch.setenv("EPOCHAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(autotune, "SECONDS", 0.001)
    monkeypatch.setattr(autotune, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(autotune, "LAP_SECONDS", 0.0001)
    return tmp_path / "cache" / "speeds.json"


@pytest.fixture
def two_threads() -> Iterator[None]:
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.fixture
def data(blobs: tuple[Tensor, Tensor]) -> Data:
    return load((blobs[0].repeat(11, 1), blobs[1].repeat(11)))


def _long(**changes: Any) -> Recipe:
    return Recipe().updated({"device": "cpu", "epochs": 1000, **changes})


def _speeds(monkeypatch: pytest.MonkeyPatch, speed: Any) -> list[Choice]:
    """Replace the measurement of a choice by `speed`; return the choices measured."""
    asked: list[Choice] = []

    def measured(choice: Choice, *arguments: Any) -> float:
        found: float = speed(choice)
        # A few steps of the plain choice, for no seconds, estimate how long training takes before choices are compared.
        if arguments[-1]:
            asked.append(choice)
        return found

    monkeypatch.setattr(autotune, "speed_of", measured)
    return asked


def _state(model: nn.Module) -> tuple[Any, ...]:
    return (
        [value.tolist() for value in model.state_dict().values()],
        [parameter.grad for parameter in model.parameters()],
        [module.training for module in model.modules()],
        torch.get_rng_state().tolist(),
        python_random.getstate(),
        numpy.random.get_state()[1].tolist(),  # type: ignore[index]
        torch.get_num_threads(),
    )


def test_what_was_given_stays(data: Data) -> None:
    recipe = Recipe().updated({"device": "cpu", "threads": 3, "batch_size": 7})
    assert resolve_auto(recipe, stateful_net(), data) is recipe


@pytest.mark.parametrize("changes", [{"epochs": 50}, {"max_seconds": 9.0}, {"epochs": 1}], ids=str)
def test_short_training_takes_the_plain_choice(
    data: Data, cache: Path, two_threads: None, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    """With 11 steps an epoch and 64 steps a second, 50 epochs take 8.6 seconds, of which two hundredths are too little to measure in."""
    monkeypatch.setattr(autotune, "LEAST_SECONDS", 0.1)
    monkeypatch.setattr(autotune, "SECONDS", 0.3)
    asked = _speeds(monkeypatch, lambda choice: 64.0 * 64)
    settled = resolve_auto(_long(**changes), stateful_net(), data)
    assert (settled.device, settled.threads, settled.batch_size) == ("cpu", 2, 64)
    assert settled.origin("threads") == "this machine"
    assert asked == []
    assert not cache.exists()
    # What counts is the time, not the number of steps: the same steps, ten times as slow.
    _speeds(monkeypatch, lambda choice: 6.4 * 64)
    slow = resolve_auto(_long(epochs=50), stateful_net(), data)
    assert slow.origin("threads") == "measured"


def test_beside_other_programs_threads_are_not_compared_and_nothing_is_remembered(
    data: Data, cache: Path, two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CoreWatch, "crowded_seconds", lambda _: 1.0)
    asked = _speeds(monkeypatch, lambda choice: 2.0 if choice.precision == "bf16" else 1.0 / choice.threads)
    lines: list[str] = []
    settled = resolve_auto(_long(precision="auto"), stateful_net(), data, log=lines.append)
    assert asked == [Choice("cpu", 2, 64), Choice("cpu", 2, 64, "bf16")]
    assert (settled.threads, settled.precision) == (2, "bf16")
    assert lines[0] == "note: other programs keep the cores busy: what was measured is not remembered."
    assert not cache.exists()
    assert resolve_auto(_long(), stateful_net(), data, log=lines.append).origin("threads") == "this machine"
    assert len(asked) == len(lines) == 2


@pytest.mark.usefixtures("two_threads")
def test_nothing_is_remembered_if_other_programs_came_and_went(data: Data, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _speeds(monkeypatch, lambda choice: 1.0 / choice.threads)
    since: list[float] = []

    def was_crowded(_: CoreWatch, begun: float) -> bool:
        since.append(begun)
        return True

    # Free at both ends of the measurement, crowded in between.
    monkeypatch.setattr(CoreWatch, "was_crowded", was_crowded)
    before, lines = time.perf_counter(), list[str]()
    assert resolve_auto(_long(), stateful_net(), data, log=lines.append).threads == 2
    assert len(asked) == 2
    assert before < since[0] < time.perf_counter()
    assert lines[0] == "note: other programs keep the cores busy: what was measured is not remembered."
    assert not cache.exists()


@pytest.mark.usefixtures("two_threads")
def test_threads_that_were_not_compared_are_compared_when_the_cores_are_free(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([1.0])
    monkeypatch.setattr(CoreWatch, "crowded_seconds", lambda _: next(looks, 0.0))
    _speeds(monkeypatch, lambda choice: 1.0 / choice.threads)
    assert [resolve_auto(_long(precision="auto"), stateful_net(), data).threads for _ in range(2)] == [2, 1]


def test_a_single_choice_is_not_measured(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _speeds(monkeypatch, lambda choice: 1.0)
    assert resolve_auto(_long(), stateful_net(), data).threads == 1
    assert resolve_auto(_long(threads=5), stateful_net(), data).threads == 5
    assert asked == []


def test_functions_of_the_user_are_not_called_to_measure(data: Data, two_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        calls.append(1)
        return nn.functional.cross_entropy(outputs, targets)

    monkeypatch.setattr(autotune, "WORTH_STEPS", 1)
    done = train(data, _long(max_steps=10), loss=loss, model="linear", quiet=True, valid=0, test=0)
    # Two calls see whether it is a mean, and one whether a step works.
    assert len(calls) == 10 + 3
    assert (done.recipe.threads, done.recipe.origin("threads")) == (2, "this machine")
    settled = resolve_auto(_long(), stateful_net(), data, own=True)
    assert (settled.threads, settled.origin("threads")) == (2, "this machine")


@pytest.mark.parametrize(("gain", "precision"), [(2.0, "bf16"), (1.01, "fp32"), (0.5, "fp32")])
def test_the_number_format_is_chosen_where_that_is_asked_for(
    data: Data, monkeypatch: pytest.MonkeyPatch, gain: float, precision: str
) -> None:
    asked = _speeds(monkeypatch, lambda choice: gain if choice.precision == "bf16" else 1.0)
    settled = resolve_auto(_long(precision="auto", threads=1), stateful_net(), data)
    assert [choice.precision for choice in asked] == ["fp32", "bf16"]
    assert (settled.precision, settled.origin("precision")) == (precision, "measured")
    short = resolve_auto(_long(precision="auto", max_steps=10), stateful_net(), data)
    assert (short.precision, short.origin("precision")) == ("fp32", "this machine")


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(("one", "two", "best"), [(100.0, 50.0, 1), (50.0, 100.0, 2), (104.0, 100.0, 2)])
def test_the_fastest_is_chosen_reported_and_remembered(
    data: Data, monkeypatch: pytest.MonkeyPatch, one: float, two: float, best: int
) -> None:
    asked = _speeds(monkeypatch, lambda choice: one if choice.threads == 1 else two)
    lines: list[str] = []
    settled = resolve_auto(_long(), stateful_net(), data, log=lines.append)
    assert asked == [Choice("cpu", 2, 64), Choice("cpu", 1, 64)]
    assert (settled.threads, settled.origin("threads")) == (best, "measured")
    assert (settled.device, settled.origin("device")) == ("cpu", "given")
    assert (settled.batch_size, settled.origin("batch_size")) == (64, "default")
    again = resolve_auto(_long(), stateful_net(), data, log=lines.append)
    assert len(asked) == 2
    assert again.flat() == settled.flat()
    assert lines[0].startswith("measured examples/s: cpu, batch 64, ")
    assert lines[0].endswith(f"→ cpu, batch 64, {'1 thread' if best == 1 else '2 threads'}")
    assert lines[1] == lines[0].replace("measured", "remembered")
    assert resolve_auto(settled, stateful_net(), data) is settled


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(
    "changes",
    [{"batch_size": 32}, {"precision": "bf16"}, {"optimizer": "sgd"}, {"loss": {"smoothing": 0.1}}, {"ema": 0.9}, {"clip_norm": 1.0}],
    ids=str,
)
def test_what_a_step_depends_on_is_measured_again(data: Data, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]) -> None:
    asked = _speeds(monkeypatch, lambda choice: 1.0)
    resolve_auto(_long(), stateful_net(), data)
    resolve_auto(_long(**changes), stateful_net(), data)
    resolve_auto(_long(), nn.Linear(2, 3), data)
    monkeypatch.setattr(autotune, "machine", lambda: ["another processor"])
    resolve_auto(_long(), stateful_net(), data)
    assert len(asked) == 8
    resolve_auto(_long(lr=0.1, epochs=2000, seed=3, **{"optimizer.lr": 0.002}), stateful_net(), data)
    assert len(asked) == 8


@pytest.mark.usefixtures("two_threads")
def test_the_smallest_batch_near_the_fastest(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _speeds(monkeypatch, lambda choice: min(choice.batch_size, 62) / choice.threads)
    lines: list[str] = []
    settled = resolve_auto(_long(batch_size="auto"), stateful_net(), data, log=lines.append)
    # 660 examples give ten steps with batches of 64, but not of 128.
    assert asked == [Choice("cpu", threads, size) for size in (32, 64) for threads in (2, 1)]
    assert (settled.threads, settled.batch_size, settled.origin("batch_size")) == (1, 64, "measured")
    assert (settled.optimizer.lr, settled.origin("optimizer.lr")) == (0.002, "default")
    assert lines[1] == "batch_size = 64; lr = 0.002 stays as it is, though another may suit such batches better."
    resolve_auto(_long(batch_size="auto", lr=0.01), stateful_net(), data, log=lines.append)
    assert len(lines) == 3


def test_batch_sizes_that_make_sense() -> None:
    assert autotune.batch_sizes(100_000) == [32, 64, 128, 256, 512, 1024, 2048]
    # The last step would have a single example, which batch norm refuses.
    assert autotune.batch_sizes(32 * 21 + 1) == [64]
    assert autotune.batch_sizes(100) == [64]


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("batch_size", [64, "auto"])
def test_measuring_changes_nothing(data: Data, batch_size: object) -> None:
    model = stateful_net()
    model[0].weight.grad = torch.ones(8, 2)
    model[2].eval()
    before = _state(model)
    settled = resolve_auto(_long(batch_size=batch_size), model, data)
    assert settled.origin("threads") == "measured"
    assert str(_state(model)) == str(before)


@pytest.mark.usefixtures("two_threads")
def test_the_bits_are_those_of_the_same_recipe_without_a_measurement(data: Data, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autotune, "WORTH_STEPS", 1)
    measured, plain = stateful_net(), stateful_net()
    recipe = resolve_auto(_long(max_steps=10), measured, data)
    assert recipe.origin("threads") == "measured"
    fit(measured, data, recipe)
    assert cache.exists()
    fit(plain, data, recipe)
    assert all(torch.equal(one, two) for one, two in zip(measured.state_dict().values(), plain.state_dict().values(), strict=True))


def test_fit_takes_the_plain_choice(data: Data, cache: Path, two_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _speeds(monkeypatch, lambda choice: 1.0)
    seen: list[Any] = []
    open_settings = {"device": "auto", "threads": "auto", "batch_size": "auto", "precision": "auto"}
    fit(stateful_net(), data, _long(epochs=10, **open_settings), watchers=[seen.append])
    assert isinstance(seen[0], Started)
    recipe = seen[0].recipe
    assert (recipe.threads, recipe.batch_size, recipe.precision) == (2, 64, "fp32")
    assert {recipe.origin(name) for name in open_settings} == {"this machine"}
    assert recipe.device != "auto"
    assert asked == []
    assert not cache.exists()


def test_examples_that_are_read_one_by_one(blobs: tuple[Tensor, Tensor], two_threads: None) -> None:
    reads: list[int] = []

    class Reading(torch.utils.data.Dataset[tuple[Tensor, int]]):
        def __len__(self) -> int:
            return 200

        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            reads.append(index)
            return blobs[0][index % 60] + torch.rand(2) * 0.001, int(blobs[1][index % 60])

    data = load(Reading())
    data.spec  # noqa: B018  it reads too
    before, state = len(reads), torch.get_rng_state()
    settled = resolve_auto(_long(), stateful_net(), data)
    assert settled.origin("threads") == "measured"
    assert len(reads) - before <= 64
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(
    "content", ["{", '{"a": [[["cpu", 1], 2.0]]}', '{"speeds": {"a": [[["cpu", "one", 64], 2.0]]}}', "[1]", "\\xff", "[" * 10**5]
)
def test_a_damaged_memory_is_reported_and_replaced(data: Data, cache: Path, content: str) -> None:
    cache.parent.mkdir()
    cache.write_text(content)
    lines: list[str] = []
    assert resolve_auto(_long(), stateful_net(), data, log=lines.append).origin("threads") == "measured"
    assert lines[0].startswith(f"note: {cache} cannot be read (")
    assert len(json.loads(cache.read_text())["speeds"]) == 1


@pytest.mark.usefixtures("two_threads")
def test_a_memory_of_another_version_is_replaced_silently(data: Data, cache: Path) -> None:
    cache.parent.mkdir()
    cache.write_text('{"version": "0.0.0", "speeds": {"a": [[["cpu", 1], 2.0]]}}')
    lines: list[str] = []
    assert resolve_auto(_long(), stateful_net(), data, log=lines.append).origin("threads") == "measured"
    assert not any("cannot be read" in line for line in lines)
    assert list(json.loads(cache.read_text())["speeds"]) != ["a"]


@pytest.mark.usefixtures("two_threads")
def test_a_cache_that_cannot_be_written_is_reported(data: Data, cache: Path) -> None:
    cache.parent.write_text("a file")
    lines: list[str] = []
    assert resolve_auto(_long(), stateful_net(), data, log=lines.append).origin("threads") == "measured"
    assert any("What was measured is not remembered." in line for line in lines)


@pytest.mark.usefixtures("two_threads")
def test_the_memory_does_not_grow_for_ever(data: Data, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autotune, "REMEMBERED", 2)
    _speeds(monkeypatch, lambda choice: 1.0)
    for batch_size in (16, 20, 24):
        resolve_auto(_long(batch_size=batch_size), stateful_net(), data)
    kept = json.loads(cache.read_text())["speeds"]
    assert [entry[0][0][2] for entry in kept.values()] == [20, 24]


@pytest.mark.usefixtures("two_threads")
def test_a_choice_that_does_not_work_is_reported_and_left_out(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    def speed(choice: Choice) -> float:
        if choice.threads == 2:
            raise RuntimeError("no such operation\nhere")
        return 1.0

    _speeds(monkeypatch, speed)
    lines: list[str] = []
    assert resolve_auto(_long(), stateful_net(), data, log=lines.append).threads == 1
    assert lines[0] == "cpu, batch 64, 2 threads: cannot be measured: no such operation"


@pytest.mark.usefixtures("two_threads")
def test_a_network_that_cannot_be_copied_gets_the_plain_choice(data: Data, cache: Path) -> None:
    class Uncopied(nn.Linear):
        def __deepcopy__(self, memo: object) -> Uncopied:
            raise TypeError("not this one")

    lines: list[str] = []
    settled = resolve_auto(_long(), Uncopied(2, 3), data, log=lines.append)
    assert (settled.threads, settled.origin("threads")) == (2, "this machine")
    assert lines[0] == "cpu, batch 64, 2 threads: cannot be measured: not this one"
    assert not cache.exists()


@pytest.mark.usefixtures("two_threads")
def test_settings_that_cannot_work_are_refused_as_without_measuring(data: Data) -> None:
    with pytest.raises(RecipeError, match="The loss mse is not for single-label targets"):
        resolve_auto(_long(loss="mse"), stateful_net(), data)
    with pytest.raises(RecipeError, match="There is no device 'mps' here"):
        resolve_auto(_long(device="mps"), stateful_net(), data)


def test_devices_that_there_are(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "H200")
    asked = _speeds(monkeypatch, lambda choice: 2.0 if choice.device == "cpu" else 1.0)
    settled = resolve_auto(_long(device="auto"), stateful_net(), data)
    assert asked == [Choice("cuda", 1, 64), Choice("cpu", 1, 64)]
    assert (settled.device, settled.origin("device")) == ("cpu", "measured")
    # There is no fp16 on the CPU: one choice is left.
    settled = resolve_auto(_long(device="auto", precision="fp16"), stateful_net(), data)
    assert (settled.device, settled.origin("device")) == ("cuda", "this machine")
    assert len(asked) == 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_is_measured(data: Data) -> None:
    settled = resolve_auto(_long(device="auto"), stateful_net(), data)
    assert (settled.device in ("cpu", "cuda"), settled.origin("device")) == (True, "measured")


def test_a_run_keeps_what_was_settled(data: Data, tmp_path: Path) -> None:
    train(data, model="linear", epochs=1, threads=2, device="auto", out=tmp_path / "run", watchers=())
    text = (tmp_path / "run" / "recipe.toml").read_text()
    assert "threads = 2 # given" in text
    assert "# this machine" in text
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["threads"] == 2
    assert torch.get_num_threads() == 1
