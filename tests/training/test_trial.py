"""What a network of the user's own does in training is tried before the first step, and told in one message."""

from __future__ import annotations

import copy
import re
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from epochal.data.load import load
from epochal.distributed.ranks import Ranks
from epochal.errors import EpochalError, ModelError, NotFiniteError, RecipeError
from epochal.recipe import Recipe
from epochal.run.dry_run import dry_run
from epochal.run.train import train
from epochal.training.build import build_training, training_feed
from epochal.training.loop import fit
from epochal.training.trial import Trial
from tests.small import small_recipe

Arrays = tuple[Tensor, Tensor]
CPU = torch.device("cpu")
Pair = namedtuple("Pair", "logits aux")


class Net(nn.Module):
    """One linear layer, and `then` on its outputs; `then` is given the module too."""

    def __init__(self, then: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 3)
        self.then = then

    def forward(self, x: Tensor) -> Any:
        return self.then(self, self.layer(x))


def _in_training(then: Callable[[Tensor], Any]) -> Net:
    return Net(lambda net, x: then(x) if net.training else x)


def _refused(kind: type[EpochalError], model: nn.Module, data: Any, **given: Any) -> str:
    with pytest.raises(kind) as raised:
        fit(model, data, {"epochs": 1, **given.pop("settings", {})}, **given)
    return str(raised.value)


@pytest.mark.parametrize(
    ("then", "what", "part"),
    [
        (lambda x: (x, x), "tuple", "[0]"),
        (lambda x: [x, x], "list", "[0]"),
        (lambda x: Pair(x, x), "Pair", "[0]"),
        (lambda x: {"out": x, "aux": x}, "dict", '["out"]'),
    ],
)
@pytest.mark.parametrize("make", [Net, _in_training])
def test_more_than_one_output(blobs: Arrays, make: Any, then: Callable[[Tensor], Any], what: str, part: str) -> None:
    model = Net(lambda _, x: then(x)) if make is Net else make(then)
    told = _refused(ModelError, model, blobs)
    when, count = ("", 2) if make is Net else (" in training mode", 60)
    assert told.startswith(f"For {count} inputs the model gives outputs of type {what}{when}; the data ask for ({count}, 3).\n")
    # The lines that it shows work as they stand.
    namespace: dict[str, Any] = {"torch": torch}
    lines = told.split("wrap it:\n", 1)[1]
    exec("\n".join(line.removeprefix("    ") for line in lines.splitlines()), namespace)
    assert lines.count("\n") == 2
    assert part in lines
    assert len(fit(namespace["Main"](model), blobs, {"epochs": 1}).epochs) == 1


@pytest.mark.parametrize(
    ("then", "told"),
    [
        (lambda x: x[:, :2], "For 60 inputs the model gives outputs of shape (60, 2) in training mode; the data ask for (60, 3).\n"),
        (
            lambda x: x.round().long(),
            "The model gives outputs of torch.int64 in training mode, where numbers with a fraction are needed.\n",
        ),
        (lambda x: x.detach(), "The model's outputs carry no gradient in training mode, so it cannot learn.\n"),
        (torch.no_grad()(lambda x: x + 1), "The model's outputs carry no gradient in training mode, so it cannot learn.\n"),
    ],
)
def test_outputs_that_nothing_can_be_learnt_from(blobs: Arrays, then: Callable[[Tensor], Any], told: str) -> None:
    assert _refused(ModelError, _in_training(then), blobs).startswith(told)


def _fails(x: Tensor) -> Tensor:
    raise ZeroDivisionError("by nothing")


def _line_of(function: Callable[..., Any], more: int = 0) -> str:
    return f"test_trial.py, line {function.__code__.co_firstlineno + more}"


def test_a_forward_that_fails_in_training_mode_alone(blobs: Arrays) -> None:
    with pytest.raises(ModelError) as raised:
        fit(_in_training(_fails), blobs)
    assert str(raised.value) == (
        f"The model fails in training mode: ZeroDivisionError: by nothing ({_line_of(_fails, 1)}).\n"
        "Fix its forward; in evaluation mode it works."
    )
    assert isinstance(raised.value.__cause__, ZeroDivisionError)

    def ends(_: Tensor) -> Tensor:
        raise SystemExit("bye")

    assert "The model fails in training mode: SystemExit: bye" in _refused(ModelError, _in_training(ends), blobs)
    assert "The model cannot take inputs of shape 2: SystemExit: bye" in _refused(ModelError, Net(lambda _, x: ends(x)), blobs)


def _in_place(x: Tensor) -> Tensor:
    grown = x.exp()
    grown += 1
    return grown


def test_what_is_changed_in_place(blobs: Arrays) -> None:
    told = _refused(ModelError, Net(lambda _, x: _in_place(x)), blobs)
    place = re.escape(_line_of(_in_place, 1))
    assert re.match(rf"The backward pass fails, as something that it needs was changed in place \({place}\): one of the variables", told)
    assert told.endswith("Make new tensors instead: x = x + 1, not x += 1; torch.relu(x), not torch.relu_(x); inplace=False.")


@pytest.mark.parametrize("loss", [lambda *_: torch.tensor(1.0), lambda outputs, _: outputs.detach().mean()])
def test_a_loss_without_a_gradient(blobs: Arrays, loss: Any) -> None:
    assert _refused(RecipeError, Net(lambda _, x: x), blobs, loss=loss).startswith(
        "The loss function gives a value that carries no gradient, so the model cannot learn from it.\n"
    )


@pytest.mark.parametrize("batch_size", [2, 3, 64])
def test_a_loss_that_pairs_wrongly(blobs: Arrays, batch_size: int) -> None:
    told = _refused(RecipeError, Net(lambda _, x: x), blobs, loss=nn.MSELoss(), settings={"batch_size": batch_size})
    assert told.startswith("The loss function fails: The size of tensor a (3) must match the size of tensor b (6)")


def test_a_loss_may_read_what_the_model_left_in_training(blobs: Arrays) -> None:
    def keep(net: Any, x: Tensor) -> Tensor:
        if net.training:
            net.aux = x * 2
        return x

    model = Net(keep)

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        aux: Tensor = model.aux if len(model.aux) == len(targets) else outputs  # type: ignore[arg-type, assignment]
        return functional.cross_entropy(outputs, targets) + functional.cross_entropy(aux, targets)

    assert len(fit(model, blobs, {"epochs": 1, "ema": 0.9}, loss=loss).epochs) == 1


def test_a_loss_with_parameters_of_its_own(blobs: Arrays) -> None:
    class Learned(nn.Module):
        def __init__(self, weight: nn.Parameter) -> None:
            super().__init__()
            self.weight = weight

        def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
            return functional.cross_entropy(outputs * self.weight, targets)

    model = nn.Linear(2, 3)
    told = _refused(RecipeError, model, blobs, loss=Learned(nn.Parameter(torch.ones(3))))
    assert told.startswith("The loss Learned has parameters, which would be neither trained nor saved.\n")
    assert len(fit(model, blobs, {"epochs": 1}, loss=Learned(model.bias)).epochs) == 1


def test_a_loss_that_is_nan_from_the_beginning_is_not_blamed_on_the_rate_alone(blobs: Arrays) -> None:
    told = _refused(NotFiniteError, nn.Linear(2, 3), blobs, loss=lambda outputs, _: outputs.sum() * float("nan"))
    assert told.endswith("Check the loss function. Use a smaller --lr, or set clip_norm; check the inputs' scale.")


def test_weights_that_are_not_finite(blobs: Arrays) -> None:
    model = nn.Linear(2, 3)
    nn.init.constant_(model.weight, float("nan"))
    assert _refused(NotFiniteError, model, blobs) == (
        "model weight has a value that is not finite before the first step; it is not saved.\nFix the weights that the model begins with."
    )


def test_each_size_of_batch_is_tried(blobs: Arrays) -> None:
    def pairs(x: Tensor) -> Tensor:
        return x.view(2, -1, 3).flatten(0, 1)

    data = (blobs[0][:58], blobs[1][:58])
    assert len(fit(_in_training(pairs), data, {"epochs": 1, "batch_size": 20}).epochs) == 1
    told = _refused(RecipeError, _in_training(pairs), (blobs[0][:57], blobs[1][:57]), settings={"batch_size": 20})
    assert told.startswith(
        "With 57 training examples, batch_size = 20 and accumulate = 1 the model would be given 17 examples at once, which it "
        "cannot train on: "
        "shape '[2, -1, 3]' is invalid for input of size 51 (test_trial.py, line "
    )
    assert len(fit(_in_training(pairs), (blobs[0][:57], blobs[1][:57]), {"epochs": 1, "batch_size": 20, "max_steps": 2}).epochs) == 1


@pytest.mark.parametrize(
    ("count", "total", "settings", "sizes"),
    [
        (60, 10, {"batch_size": 64}, [60]),
        (60, 10, {"batch_size": 60}, [60]),
        (130, 3, {"batch_size": 64}, [64, 2]),
        (130, 2, {"batch_size": 64}, [64]),
        (20, 4, {"batch_size": 5, "accumulate": 4}, [2, 1]),
    ],
)
def test_the_sizes_of_all_batches_are_tried_the_largest_first(count: int, total: int, settings: dict[str, int], sizes: list[int]) -> None:
    tried: list[int] = []

    def record(module: Net, outputs: Tensor) -> Tensor:
        if module.training:
            tried.append(len(outputs))
        return outputs

    data = load((torch.rand(count, 2), torch.arange(count) % 3))
    recipe = small_recipe(epochs=100, max_steps=total, **settings)
    build_training(Net(record), training_feed(data.train, data.spec, recipe, CPU), data.spec, recipe, CPU)
    assert tried == sizes


@pytest.mark.parametrize(
    ("processes", "batch_norm", "sizes"),
    [
        # Of the last batch of 5, in parts of 3 and 2, two processes have 1 and 2 examples, then 1 each.
        (2, "local", [4, 2, 1]),
        (2, "synchronized", [4, 2]),
        (4, "local", [2, 1]),
        (4, "synchronized", [2]),
    ],
)
def test_the_slices_of_several_processes_are_tried(processes: int, batch_norm: str, sizes: list[int]) -> None:
    data = load((torch.rand(37, 2), torch.arange(37) % 3))
    recipe = small_recipe(batch_size=16, accumulate=2).updated({"distributed.batch_norm": batch_norm})
    tried: list[int] = []
    net = Busy()
    net.norm.register_forward_pre_hook(lambda layer, inputs: tried.append(len(inputs[0])) if layer.training else None)
    trial, said = Trial(net, (), data.train, data.spec, recipe, CPU, Ranks(0, processes)), ""
    try:
        trial.run(data.spec.task.loss(recipe.loss, data.spec.counts["train"], CPU, None), None, 99)
    except RecipeError as error:
        said = str(error)
    assert tried == sizes
    assert bool(said) == (1 in sizes)
    if said:
        assert (
            f"batch_size = 16 and accumulate = 2 the model in one of {processes} processes would be given a single example, which" in said
        )
        assert said.endswith("so that each gets at least two; or distributed.batch_norm = synchronized.")


def test_a_whole_batch_of_one_is_refused_for_several_processes_too() -> None:
    data = load((torch.rand(33, 2), torch.arange(33) % 3))
    trial = Trial(Busy(), (), data.train, data.spec, small_recipe(batch_size=16), CPU, Ranks(0, 2))
    with pytest.raises(RecipeError, match="in one of 2 processes would be given a single example") as refused:
        trial.run(data.spec.task.loss(Recipe().loss, data.spec.counts["train"], CPU, None), None, 99)
    # Batch norm is synchronized already.
    assert str(refused.value).endswith("so that at least two are together.")


@pytest.mark.parametrize(("count", "inputs"), [(1, [0]), (2, [0, 9]), (4, [0, 2, 5, 9]), (8, [0, 1, 2, 3, 5, 6, 7, 9])])
def test_the_inputs_that_are_tried_are_spread_over_the_targets(count: int, inputs: list[int]) -> None:
    values = torch.arange(10.0)[torch.randperm(10), None]
    data = load((values, values))
    trial = Trial(Net(lambda _, outputs: outputs), (), data.train, data.spec, small_recipe(), CPU)
    assert trial.inputs(count)[:, 0].tolist() == inputs


class Busy(nn.Module):
    """A network that remembers: batch norm, dropout, a counter, a buffer that is replaced, a tensor with its gradient."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 8)
        self.norm = nn.BatchNorm1d(8)
        self.last = nn.Linear(8, 3)
        self.register_buffer("calls", torch.zeros(()))
        self.count = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls = self.calls + 1
        self.count += 1
        self.kept = self.norm(self.first(x)).relu()
        return self.last(functional.dropout(self.kept, 0.3, self.training))  # type: ignore[no-any-return]


def test_the_trial_leaves_no_trace(blobs: Arrays) -> None:
    torch.manual_seed(3)
    model = Busy()
    model.last.weight.grad = torch.ones(3, 8)
    before, state, recipe, data = copy.deepcopy(model), torch.get_rng_state(), Recipe(threads=1), load(blobs)
    training = build_training(model, training_feed(data.train, data.spec, recipe, CPU), data.spec, recipe, CPU)
    assert all(
        torch.equal(now, was) for now, was in zip(model.state_dict().values(), before.state_dict().values(), strict=True) if now.ndim
    )
    # The two looks in evaluation mode before it are the network's own business; those of the trial are not seen.
    assert model.count == int(model.calls) <= 2
    assert not training.model.kept.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_what_is_frozen_stays_so_and_modes_are_left_as_they_were(blobs: Arrays) -> None:
    model = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
    model[1].eval()
    modes = [module.training for module in model.modules()]
    fit(model, {"train": blobs, "valid": blobs}, {"epochs": 2, "batch_size": 59})
    assert [module.training for module in model.modules()] == modes == [True, True, False, True, True]
    assert int(model[1].num_batches_tracked) == 0  # type: ignore[arg-type]
    assert float(model[1].running_mean.abs().sum()) == 0  # type: ignore[operator]
    run = train(blobs, {"epochs": 1}, model=model.train(), watchers=())
    assert int(model[1].num_batches_tracked) > 0  # type: ignore[arg-type]
    assert not run.bundle.model.training


def test_a_model_in_evaluation_mode_is_trained_whole(blobs: Arrays) -> None:
    for start in (fit, lambda model, data, recipe: train(data, recipe, model=model, watchers=())):
        model = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)).eval()
        start(model, blobs, {"epochs": 1})
        assert int(model[1].num_batches_tracked) > 0  # type: ignore[arg-type]
        assert not any(module.training for module in model.modules())


def test_a_frozen_part_of_a_network_in_a_run(blobs: Arrays) -> None:
    model = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    model[1].eval()
    train(blobs, {"epochs": 1}, model=model, watchers=())
    assert int(model[1].num_batches_tracked) == 0  # type: ignore[arg-type]


def test_a_dry_run_tries_the_same(blobs: Arrays, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"outputs of type tuple in training mode"):
        dry_run(blobs, Recipe(), model=_in_training(lambda x: (x, x)))
    out = tmp_path / "run"
    with pytest.raises(ModelError, match=r"outputs of type tuple in training mode"):
        train(blobs, model=_in_training(lambda x: (x, x)), out=out, watchers=())
    assert not out.exists()
    told: list[str] = []
    dry_run(blobs, Recipe(), model=Net(lambda _, x: x.relu()), log=told.append)
    assert "note: the model ends in a ReLU, which bounds its scores: it may learn worse than without" in told
