"""Training is the loop that one would write by hand, to the last bit, with a few safeguards around it."""

from __future__ import annotations

import copy
import dataclasses
import math
import random as python_random
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import epochal
from epochal.data.inputs.picture.augment import Augment
from epochal.device import choose
from epochal.errors import EpochalError, ModelError, RecipeError, TrainingError
from epochal.random import key, permutation
from epochal.recipe import AugmentSettings, Recipe
from epochal.training import loop
from epochal.training.loop import TrainingHistory, fit
from epochal.training.records import EpochDone, Finished, Progress, Record, Started
from tests.small import small_net, small_recipe

Arrays = tuple[Tensor, Tensor]


def _with_valid(blobs: Arrays) -> dict[str, Arrays]:
    return {"train": (blobs[0][:45], blobs[1][:45]), "valid": (blobs[0][45:], blobs[1][45:])}


def _bits(model: nn.Module) -> list[Any]:
    return [value.tolist() for value in model.state_dict().values()]


def _same_bits(one: nn.Module, two: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), two.state_dict().values(), strict=True)
    return all(torch.equal(first, second) for first, second in pairs)


def _refused(kind: type[EpochalError], model: nn.Module, what: Any, recipe: Recipe, **options: Any) -> str:
    """The error of a `fit` that must end before anything was told to a watcher."""
    seen: list[Record] = []
    with pytest.raises(kind) as raised:
        fit(model, what, recipe, watchers=[seen.append], **options)
    assert seen == []
    return str(raised.value)


OPTIMIZERS: dict[str, tuple[dict[str, Any], Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]]] = {
    "sgd": ({"lr": 0.1, "momentum": 0.9}, lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, fused=True)),
    "adamw": ({"lr": 0.01, "weight_decay": 0.1}, lambda parameters: torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.1, fused=True)),
}


def test_numbers_that_float32_would_blur_are_given_as_they_are() -> None:
    times = 1.7e9 + numpy.arange(60)[:, None] * 0.05
    data = (times, numpy.arange(60) % 2)
    told = _refused(ModelError, nn.Linear(1, 2), data, small_recipe())
    assert told.endswith("A model given to fit gets inputs as they are (float64); train puts preprocessing before it.")
    assert fit(nn.Linear(1, 2).double(), data, small_recipe(epochs=1)).finished.steps == 4
    # Where float32 tells them apart, every network takes them.
    assert fit(nn.Linear(1, 2), (times - times[0], data[1]), small_recipe(epochs=1)).finished.steps == 4


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("seed", [0, 7])
def test_bits_are_those_of_a_loop_by_hand(blobs: Arrays, name: str, seed: int) -> None:
    settings, make = OPTIMIZERS[name]
    ours = small_net(nn.BatchNorm1d(8), nn.Dropout(0.3))
    theirs = copy.deepcopy(ours)
    result = fit(ours, blobs, small_recipe(seed=seed, schedule="constant", optimizer={"name": name, **settings}))

    x, y = blobs
    optimizer = make(theirs.parameters())
    step = 0
    for epoch in (1, 2, 3):
        total = 0.0
        for places in permutation(key(seed, epoch, "order"), 60).split(16):
            torch.manual_seed(key(seed, "step", step))
            loss = functional.cross_entropy(theirs(x[places]), y[places])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            total += loss.item() * len(places)
            step += 1
        assert result.epochs[epoch - 1].train_loss == pytest.approx(total / 60, rel=1e-6)
    assert _same_bits(ours, theirs)
    assert result.finished.steps == step == 12


def test_bits_are_those_of_a_loop_by_hand_with_everything_on(pictures: Arrays) -> None:
    class Scaled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.float() / 255

    torch.manual_seed(0)
    ours = nn.Sequential(Scaled(), nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(144, 2))
    theirs = copy.deepcopy(ours)
    changes = {
        "epochs": 2, "batch_size": 10, "schedule": "one-cycle", "optimizer": {"name": "adam", "lr": 0.01}, "clip_norm": 0.1,
        "augment": {"shift": 1, "flip": True}, "precision": "bf16", "loss": {"smoothing": 0.1, "class_weights": [1.0, 3.0]},
    }  # fmt: skip
    result = fit(ours, pictures, small_recipe(**changes))

    x, y = pictures
    augment = Augment(AugmentSettings(shift=1, flip=True), 0)
    optimizer = torch.optim.Adam(theirs.parameters(), lr=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=6, cycle_momentum=False)
    for step in range(6):
        epoch, number = divmod(step, 3)
        places = permutation(key(0, epoch + 1, "order"), 24).split(10)[number]
        torch.manual_seed(key(0, "step", step))
        with torch.autocast("cpu", torch.bfloat16):
            outputs = theirs(augment(x[places], places, epoch + 1))
            loss = functional.cross_entropy(outputs, y[places], torch.tensor([1.0, 3.0]), label_smoothing=0.1)
        loss.backward()
        nn.utils.clip_grad_norm_(theirs.parameters(), 0.1)
        optimizer.step()
        optimizer.zero_grad()
        if step < 5:
            schedule.step()
    for mine, their in zip(ours.parameters(), theirs.parameters(), strict=True):
        # The rates agree to the last digits, not the last bit.
        torch.testing.assert_close(mine, their, rtol=1e-4, atol=1e-6)
    assert result.epochs[-1].lr == pytest.approx(optimizer.param_groups[0]["lr"])


@pytest.mark.parametrize("batch_size", [20, 7])
@pytest.mark.parametrize("accumulate", [2, 3, 100])
@pytest.mark.parametrize("loss", [{}, {"smoothing": 0.2, "class_weights": [1.0, 5.0, 0.5]}])
def test_accumulated_gradients_are_those_of_the_whole_batch(blobs: Arrays, batch_size: int, accumulate: int, loss: dict[str, Any]) -> None:
    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.layers = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 3)).double()

        def forward(self, x: Tensor) -> Tensor:
            outputs: Tensor = self.layers(x.double())
            return outputs

    def weighted(outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, targets)

    # Weights of classes are float32, as are the outputs in all usual training.
    class Narrow(Wide):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).float()

    results = []
    for parts in (1, accumulate):
        model = Narrow() if loss else Wide()
        recipe = small_recipe(
            epochs=2, batch_size=batch_size, accumulate=parts, schedule="constant", optimizer={"name": "sgd", "lr": 0.1}, loss=loss
        )
        results.append((model, fit(model, blobs, recipe, loss=None if loss else weighted)))
    (whole, first), (parted, second) = results
    for one, two in zip(whole.parameters(), parted.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5 if loss else 1e-12, atol=1e-6 if loss else 1e-12)
    assert first.finished.steps == second.finished.steps
    assert first.epochs[-1].train_loss == pytest.approx(second.epochs[-1].train_loss, rel=1e-5)


def test_seed_decides_everything(blobs: Arrays) -> None:
    models = {}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        models[name] = small_net(nn.Dropout(0.5))
        torch.manual_seed(len(models))  # What the program drew before does not matter.
        torch.rand(len(models))
        fit(models[name], _with_valid(blobs), small_recipe(seed=seed, ema=0.9))
    assert _same_bits(models["a"], models["b"])
    assert not _same_bits(models["a"], models["c"])


def test_dropout_differs_from_step_to_step(blobs: Arrays) -> None:
    masks: list[list[bool]] = []
    model = small_net(nn.Dropout(0.5))
    model[1].register_forward_hook(lambda module, _, output: masks.append((output == 0).flatten().tolist()) if module.training else None)
    fit(model, blobs, small_recipe(batch_size=20))
    # The first step is tried before.
    assert len(masks) == 1 + 9
    assert len({tuple(mask) for mask in masks[1:]}) == 9


def test_global_state_is_left_as_it_was(blobs: Arrays) -> None:
    def states() -> tuple[Any, ...]:
        deterministic = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
        return torch.get_rng_state().tolist(), python_random.getstate(), str(numpy.random.get_state(legacy=False)), deterministic

    class Jittered(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return 60

        def __getitem__(self, index: int) -> Any:
            noise = python_random.random() + float(numpy.random.rand()) + float(torch.rand(()))
            return blobs[0][index] + 0.01 * noise, int(blobs[1][index])

    model, before = small_net(nn.Dropout(0.5)), states()
    fit(model, blobs, small_recipe())
    assert states() == before
    fit(model, Jittered(), small_recipe(epochs=1))
    assert states() == before
    with pytest.raises(RuntimeError, match="stop"):
        fit(model, blobs, small_recipe(), watchers=[_raises])
    assert states() == before


def _raises(record: Record) -> None:
    raise RuntimeError("stop")


def test_random_dataset_trains_to_the_same_bits(blobs: Arrays) -> None:
    class Jittered(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return 60

        def __getitem__(self, index: int) -> Any:
            return blobs[0][index] + torch.rand(2), int(blobs[1][index])

    models = []
    for workers in (0, 2):
        torch.manual_seed(workers)
        models.append(small_net())
        models[-1].load_state_dict(models[0].state_dict() if workers == 0 else small_net().state_dict())
        fit(models[-1], Jittered(), small_recipe(epochs=1, workers=workers))
    assert _same_bits(*models)


def test_records_in_order(blobs: Arrays, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "REPORT_SECONDS", 0.0)
    first: list[Record] = []
    second: list[Record] = []
    model = small_net()
    result = fit(model, _with_valid(blobs), small_recipe(), watchers=[first.append, second.append])
    assert first == second
    kinds = [type(record) for record in first]
    assert kinds == [Started, *[Progress, Progress, Progress, EpochDone] * 3, Finished]
    started, finished = first[0], first[-1]
    assert isinstance(started, Started)
    assert isinstance(finished, Finished)
    assert (started.epochs, started.steps, started.device) == (3, 9, torch.device("cpu"))
    assert started.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert (finished.epochs, finished.steps, finished.reason) == (3, 9, "epochs")
    assert finished == result.finished
    assert result.epochs == tuple(record for record in first if isinstance(record, EpochDone))
    progress = [record for record in first if isinstance(record, Progress)]
    assert [record.step for record in progress] == list(range(1, 10))
    assert [record.examples for record in progress] == [16, 32, 45] * 3
    assert {record.epoch_examples for record in progress} == {45}
    assert progress[-1].remaining == 0
    for record, done in zip(progress[2::3], result.epochs, strict=True):
        assert record.loss == pytest.approx(done.train_loss)
        assert done.valid is not None
        assert done.valid.count == 15
        assert 0 <= done.waiting <= 1


def test_watchers_cannot_steer(blobs: Arrays) -> None:
    def meddle(record: Record) -> Any:
        torch.manual_seed(3)
        torch.rand(7)
        assert dataclasses.is_dataclass(record)
        with pytest.raises(dataclasses.FrozenInstanceError):
            record.epochs = 1  # type: ignore[misc, union-attr]
        return False

    alone, watched = small_net(nn.Dropout(0.5)), small_net(nn.Dropout(0.5))
    fit(alone, _with_valid(blobs), small_recipe())
    fit(watched, _with_valid(blobs), small_recipe(), watchers=[meddle])
    assert _same_bits(alone, watched)


def _fit_reading_weights(
    what: Any, recipe: Recipe, model: nn.Module | None = None, **options: Any
) -> tuple[nn.Module, TrainingHistory, list[list[Any]]]:
    """Fit, and read the weights at the end of every epoch."""
    model = model or small_net()
    weights: list[list[Any]] = []
    result = fit(
        model, what, recipe, watchers=[lambda record: weights.append(_bits(model)) if isinstance(record, EpochDone) else None], **options
    )
    return model, result, weights


def _overfits(blobs: Arrays) -> dict[str, Arrays]:
    """Validation labels contradict the training labels: the loss there rises from some epoch on."""
    return {"train": (blobs[0][:45], blobs[1][:45]), "valid": (blobs[0][45:], (blobs[1][45:] + 1) % 3)}


def test_best_epoch_is_kept(blobs: Arrays) -> None:
    model, result, weights = _fit_reading_weights(_overfits(blobs), small_recipe(epochs=6, lr=0.05, monitor="loss"))
    losses = [done.valid.loss for done in result.epochs if done.valid is not None]
    best = min(range(6), key=losses.__getitem__)
    assert best < 5
    assert result.finished.best_epoch == best + 1
    assert _bits(model) == weights[best] != weights[-1]
    assert [done.is_best for done in result.epochs] == [losses[place] == min(losses[: place + 1]) for place in range(6)]


def test_last_epoch_is_kept_when_asked(blobs: Arrays) -> None:
    model, result, weights = _fit_reading_weights(_overfits(blobs), small_recipe(epochs=6, lr=0.05, keep="last"))
    assert result.finished.best_epoch == 6
    assert _bits(model) == weights[-1]


def test_patience_ends_training(blobs: Arrays) -> None:
    _, result, _ = _fit_reading_weights(_overfits(blobs), small_recipe(epochs=50, lr=0.05, patience=2, schedule="constant", monitor="loss"))
    assert result.finished.reason == "patience"
    assert result.finished.epochs == len(result.epochs) == result.finished.best_epoch + 2


def test_training_ends_where_it_is_told_to(blobs: Arrays) -> None:
    heard: list[object] = []

    def stop(done: EpochDone) -> str:
        heard.append(done)
        return "enough" if done.epoch == 2 else ""

    result = fit(small_net(), blobs, small_recipe(epochs=5), begun=heard.append, stop=stop, watchers=[heard.append])
    assert (result.finished.reason, result.finished.epochs) == ("enough", 2)
    told = [record for record in heard if not isinstance(record, Progress)]
    assert [type(record) for record in told] == [Started, Started, *[EpochDone] * 4, Finished]


def test_what_is_done_at_the_beginning_may_end_it(blobs: Arrays) -> None:
    heard: list[object] = []
    with pytest.raises(RuntimeError, match="not today"):
        fit(small_net(), blobs, small_recipe(), begun=_refuses, watchers=[heard.append])
    assert heard == []


def _refuses(_: Started) -> None:
    raise RuntimeError("not today")


def test_patience_needs_validation_data(blobs: Arrays) -> None:
    told = _refused(RecipeError, small_net(), blobs, small_recipe(patience=2))
    assert told == "The setting patience needs validation data.\nSet data.valid above 0, or leave patience out."


def test_patience_with_keep_last(blobs: Arrays) -> None:
    recipe = small_recipe(epochs=50, lr=0.05, patience=2, schedule="constant", keep="last")
    model, result, weights = _fit_reading_weights(_overfits(blobs), recipe)
    assert (result.finished.reason, result.finished.best_epoch) == ("patience", len(result.epochs))
    assert _bits(model) == weights[-1]


@pytest.mark.parametrize(
    ("max_steps", "epochs", "reason"), [(1, 1, "steps"), (4, 1, "steps"), (6, 2, "steps"), (12, 3, "steps"), (13, 3, "epochs")]
)
def test_max_steps(blobs: Arrays, max_steps: int, epochs: int, reason: str) -> None:
    result = fit(small_net(), blobs, small_recipe(max_steps=max_steps))
    assert (result.finished.steps, result.finished.epochs, result.finished.reason) == (min(max_steps, 12), epochs, reason)


def test_loss_of_an_epoch_cut_short_is_of_its_examples(blobs: Arrays) -> None:
    model = small_net()
    places = permutation(key(0, 1, "order"), 60)[:16]
    with torch.no_grad():
        wanted = functional.cross_entropy(model(blobs[0][places]), blobs[1][places]).item()
    result = fit(model, blobs, small_recipe(max_steps=1))
    assert result.epochs[0].train_loss == pytest.approx(wanted)


def test_max_seconds(blobs: Arrays) -> None:
    result = fit(small_net(), blobs, small_recipe(epochs=10_000, max_seconds=1e-9))
    assert (result.finished.steps, result.finished.reason) == (1, "seconds")
    result = fit(small_net(), blobs, small_recipe(epochs=1_000_000, max_seconds=0.1))
    assert result.finished.reason == "seconds"
    assert 0.1 <= result.finished.seconds < 2


def test_diverging_stops(blobs: Arrays) -> None:
    with pytest.raises(TrainingError) as raised:
        fit(small_net(), blobs, small_recipe(optimizer={"name": "sgd", "lr": 1e30}, schedule="constant"))
    assert str(raised.value) == "The loss became nan in epoch 1, by step 4.\nUse a smaller --lr, or set clip_norm; check the inputs' scale."


def test_diverging_stops_within_an_epoch(blobs: Arrays, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "REPORT_SECONDS", 0.0)
    with pytest.raises(TrainingError, match=r"The loss became (nan|inf) in epoch 1, by step [23]\."):
        fit(small_net(), blobs, small_recipe(optimizer={"name": "sgd", "lr": 1e30}, schedule="constant"))


def test_no_number_in_validation_is_never_best(blobs: Arrays) -> None:
    class Moody(nn.Module):
        """Gives no numbers in the first two evaluations that count."""

        def __init__(self) -> None:
            super().__init__()
            self.net = small_net()
            self.evaluations = 0

        def forward(self, x: Tensor) -> Tensor:
            outputs: Tensor = self.net(x)
            if not self.training:
                self.evaluations += 1
                if self.evaluations in (2, 3):
                    return outputs * torch.nan
            return outputs

    model, result, weights = _fit_reading_weights(_with_valid(blobs), small_recipe(epochs=4), Moody())
    losses = [done.valid.loss for done in result.epochs if done.valid is not None]
    assert [loss != loss for loss in losses] == [True, True, False, False]
    assert result.finished.best_epoch == 4
    assert _bits(model) == weights[3]


def test_ema_is_evaluated_and_kept(blobs: Arrays) -> None:
    seen: list[list[Any]] = []
    averaged, plain = small_net(nn.BatchNorm1d(8)), small_net(nn.BatchNorm1d(8))
    recipe = small_recipe(lr=0.05, keep="last")
    result = fit(averaged, _with_valid(blobs), recipe.updated({"ema": 0.99}), watchers=[lambda _: seen.append(_bits(averaged))])
    fit(plain, _with_valid(blobs), recipe)
    # While training, the model that was given trains on; in the end it has the average, which is another.
    assert seen[-2] == _bits(plain)
    assert seen[-1] == _bits(averaged) != seen[-2]
    for name, value in averaged.state_dict().items():
        assert torch.equal(value, plain.state_dict()[name]) == ("running" in name or "num_batches" in name)
    done = result.epochs[-1].valid
    assert done is not None
    with torch.no_grad():
        outputs = averaged.eval()(blobs[0][45:])
    assert done.loss == pytest.approx(functional.cross_entropy(outputs, blobs[1][45:]).item(), rel=1e-6)


def test_clipping(blobs: Arrays) -> None:
    model = small_net()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    fit(model, blobs, small_recipe(max_steps=1, optimizer={"name": "sgd", "lr": 1.0}, schedule="constant", clip_norm=0.001))
    moved = torch.cat([(new.detach() - old).flatten() for new, old in zip(model.parameters(), before, strict=True)])
    assert float(moved.norm()) == pytest.approx(0.001, rel=1e-3)


def test_bf16(blobs: Arrays) -> None:
    dtypes = []
    model = small_net()
    model[0].register_forward_hook(lambda module, _, output: dtypes.append((module.training, output.dtype)))
    result = fit(model, _with_valid(blobs), small_recipe(epochs=10, lr=0.05, precision="bf16"))
    assert (True, torch.bfloat16) in dtypes
    assert (True, torch.float32) not in dtypes
    assert model[0].weight.dtype == torch.float32
    assert result.epochs[-1].valid is not None
    assert result.epochs[-1].valid.accuracy == 1.0


def test_fp16_needs_another_device(blobs: Arrays) -> None:
    told = _refused(RecipeError, small_net(), blobs, small_recipe(precision="fp16"))
    assert told == "The setting precision = fp16 does not work on cpu.\nUse precision = bf16 or fp32."


def test_refused_before_the_first_step(blobs: Arrays, pictures: Arrays) -> None:
    model = small_net()
    before = _bits(model)
    assert _refused(ModelError, model, (blobs[0][:, :1], blobs[1]), small_recipe()).startswith("The model cannot take inputs of shape 1: ")
    assert _refused(ModelError, model, (blobs[0], blobs[1] % 2), small_recipe()).startswith(
        "For 3 inputs the model gives outputs of shape (3, 3);"
    )
    assert _refused(RecipeError, model, blobs, small_recipe(optimizer="lbfgs")).startswith("The optimizer lbfgs cannot be used")
    assert _refused(RecipeError, model, blobs, small_recipe(flip=True)).startswith(
        "The settings augment.shift and augment.flip are for pictures"
    )
    assert _refused(RecipeError, model, blobs, small_recipe(device="gpu")).startswith("Unknown device 'gpu'.")
    batch_norm = small_net(nn.BatchNorm1d(8))
    assert "Choose another batch_size" in _refused(RecipeError, batch_norm, blobs, small_recipe(batch_size=59))
    raw = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    assert "train puts preprocessing before it" in _refused(ModelError, raw, pictures, small_recipe())
    assert _bits(model) == before


class SignDescent:
    """An optimizer of one's own, with nothing but what the loop calls."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        self.steps = 0

    @torch.no_grad()
    def step(self) -> None:
        self.steps += 1
        for parameter in self.parameters:
            assert parameter.grad is not None
            parameter.add_(parameter.grad.sign(), alpha=-0.01)

    def zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None


def test_own_optimizer(blobs: Arrays) -> None:
    made: list[SignDescent] = []

    def make(parameters: Iterable[nn.Parameter]) -> SignDescent:
        made.append(SignDescent(parameters))
        return made[0]

    model = small_net()
    # Without a schedule that is asked for, its rates are its own.
    result = fit(model, blobs, small_recipe(epochs=20, clip_norm=1.0), optimizer=make)
    assert made[0].steps == 80
    assert result.epochs[-1].train_loss < 0.1 < result.epochs[0].train_loss
    assert all(math.isnan(done.lr) for done in result.epochs)
    told = _refused(RecipeError, small_net(), blobs, small_recipe(schedule="one-cycle"), optimizer=make)
    assert told == "An optimizer without param_groups, each with its lr, cannot follow a schedule.\nSet schedule = constant."


def test_own_optimizer_with_groups_follows_the_schedule(blobs: Arrays) -> None:
    model = small_net()
    made: list[torch.optim.Optimizer] = []

    def make(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        first, *others = parameters
        made.append(torch.optim.SGD([{"params": [first], "lr": 0.1}, {"params": others, "lr": 0.2}]))
        return made[0]

    result = fit(model, blobs, small_recipe(epochs=2, schedule={"name": "step", "every": 1, "factor": 0.5}), optimizer=make)
    assert [group["lr"] for group in made[0].param_groups] == [0.05, 0.1]
    assert [done.lr for done in result.epochs] == [0.2, 0.1]


def test_own_loss(blobs: Arrays) -> None:
    def focal(outputs: Tensor, targets: Tensor) -> Tensor:
        nll = functional.cross_entropy(outputs, targets, reduction="none")
        return ((1 - torch.exp(-nll)) ** 2 * nll).mean()

    model = small_net()
    result = fit(model, _with_valid(blobs), small_recipe(), loss=focal)
    with torch.no_grad():
        outputs = model.eval()(blobs[0][45:])
    valid = result.epochs[result.finished.best_epoch - 1].valid
    assert valid is not None
    assert valid.loss == pytest.approx(float(focal(outputs, blobs[1][45:])), rel=1e-5)
    # A module serves as well.
    again = small_net()
    module = fit(again, _with_valid(blobs), small_recipe(), loss=nn.CrossEntropyLoss())
    plain = small_net()
    assert module.epochs[-1].train_loss == fit(plain, _with_valid(blobs), small_recipe()).epochs[-1].train_loss
    assert _same_bits(again, plain)


def test_outputs_of_one_quantity_are_paired_with_their_own_targets(blobs: Arrays) -> None:
    class Column(nn.Module):
        def __init__(self, *, squeeze: bool) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.layer = nn.Linear(2, 1)
            self.squeeze = squeeze

        def forward(self, x: Tensor) -> Tensor:
            outputs: Tensor = self.layer(x)
            return outputs[:, 0] if self.squeeze else outputs

    data = (blobs[0], blobs[0] @ torch.tensor([0.5, -2.0]) + 1)
    for loss in (None, nn.MSELoss()):
        models = [Column(squeeze=squeeze) for squeeze in (False, True)]
        results = [fit(model, {"train": data, "valid": data}, small_recipe(epochs=30, lr=0.3), loss=loss) for model in models]
        assert _same_bits(*models)
        for result in results:
            assert result.epochs[-1].valid is not None
            assert result.epochs[-1].valid.r2 is not None
            assert result.epochs[-1].valid.r2 > 0.99


def test_several_labels_train(blobs: Arrays) -> None:
    targets = torch.stack([blobs[0][:, 0] > 0, blobs[0][:, 1] > 1, blobs[0][:, 0] > -9], 1)
    result = fit(small_net(), {"train": (blobs[0], targets), "valid": (blobs[0], targets)}, small_recipe(epochs=60, lr=0.05))
    assert result.epochs[-1].valid is not None
    assert result.epochs[-1].valid.accuracy is not None
    assert result.epochs[-1].valid.accuracy > 0.9


def test_frozen_weights_stay(blobs: Arrays) -> None:
    model = small_net()
    model[0].requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fit(model, blobs, small_recipe(optimizer={"weight_decay": 0.5}, clip_norm=1.0, ema=0.5))
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == name.startswith("2.")
        assert torch.equal(parameter, before[name]) != name.startswith("2.")


def test_lazy_layers_train(blobs: Arrays) -> None:
    model = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(3))
    seen: list[Record] = []
    fit(model, _with_valid(blobs), small_recipe(), watchers=[seen.append])
    assert isinstance(seen[0], Started)
    assert seen[0].parameters == 2 * 8 + 8 + 8 * 3 + 3


def test_trains_in_place_and_leaves_the_mode_as_it_was(blobs: Arrays) -> None:
    model = small_net(nn.Dropout(0.1)).eval()
    parameters, before = list(model.parameters()), _bits(model)
    result = fit(model, _with_valid(blobs), small_recipe())
    assert all(one is two for one, two in zip(model.parameters(), parameters, strict=True))
    assert _bits(model) != before
    assert not any(module.training for module in model.modules())
    assert all(done.valid is not None for done in result.epochs)


def test_evaluation_does_not_touch_training(blobs: Arrays) -> None:
    # With and without validation data the training is the same, to the bit.
    with_valid, without = small_net(nn.BatchNorm1d(8), nn.Dropout(0.5)), small_net(nn.BatchNorm1d(8), nn.Dropout(0.5))
    splits = _with_valid(blobs)
    fit(with_valid, splits, small_recipe(keep="last"))
    fit(without, splits["train"], small_recipe())
    assert _same_bits(with_valid, without)


def test_plateau_tells_the_rate_of_the_epoch_that_is_over(blobs: Arrays) -> None:
    schedule = {"name": "plateau", "patience": 1, "factor": 0.5}
    result = fit(
        small_net(), _overfits(blobs), small_recipe(epochs=8, optimizer={"name": "sgd", "lr": 0.5}, schedule=schedule, keep="last")
    )
    assert result.epochs[0].lr == 0.5
    assert result.epochs[-1].lr < 0.5
    bad, wanted, best = 0, 0.5, float("inf")
    for done in result.epochs:
        assert done.lr == pytest.approx(wanted)
        assert done.valid is not None
        bad = 0 if done.valid.loss < best * (1 - 1e-4) else bad + 1
        best = min(best, done.valid.loss) if bad == 0 else best
        if bad > 1:
            wanted, bad = wanted * 0.5, 0


def test_at_most_three_frames_from_fit_to_backward(blobs: Arrays, monkeypatch: pytest.MonkeyPatch) -> None:
    stacks: list[list[tuple[str, str]]] = []
    backward = Tensor.backward
    package = Path(epochal.__file__).parent

    def measured(self: Tensor, *args: Any, **options: Any) -> None:
        frame, stack = sys._getframe(1), []
        while frame is not None:
            if Path(frame.f_code.co_filename).is_relative_to(package):
                stack.append((frame.f_code.co_filename, frame.f_code.co_name))
            frame = frame.f_back  # type: ignore[assignment]
        stacks.append(stack)
        backward(self, *args, **options)

    monkeypatch.setattr(Tensor, "backward", measured)
    fit(small_net(), blobs, small_recipe(max_steps=1))
    # The first one is on trial. `fit` itself is called through the border of the public interface.
    assert [name for _, name in stacks[-1]] == ["train_step", "train_epoch", "fit", "public"]
    assert len({file for file, _ in stacks[-1][:3]}) == 1


def test_defaults_are_a_recipe(blobs: Arrays) -> None:
    seen: list[Record] = []
    fit(small_net(), blobs, watchers=[seen.append])
    assert isinstance(seen[0], Started)
    settled = {"device": str(choose()), "threads": torch.get_num_threads()}
    assert seen[0].recipe.flat() == Recipe().flat() | settled
    assert seen[0].notes == ()
