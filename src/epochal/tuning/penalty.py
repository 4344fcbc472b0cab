"""How small weight decay keeps the weights of a linear head, chosen by cross-validation on its features before training.

With few examples a validation split is too small to choose by, or to say how good a head is: 7 of 10 right may stand for anything from 40
to 90 %. Here each training example is predicted once, by a head that was fitted to others.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from epochal.data.examples import Examples
from epochal.data.split import split_off
from epochal.device import using_threads
from epochal.errors import DataError
from epochal.evaluation.evaluate import Evaluation, score
from epochal.progress import progress
from epochal.tasks.base import Task
from epochal.tasks.losses import Loss
from epochal.training.optim import uncompiled

FOLDS = 5

# Of more examples, so many are taken, which takes some seconds.
MOST = 1000

# Candidates: weight decay times examples per feature, since the decay that suits falls as examples grow in number.
_STRENGTHS = (0.3, 0.1, 0.03, 0.01)

# Heads are fitted by at most so many iterations, until the loss changes by less than this: four decays differ by far more.
_ITERATIONS, _CHANGE = 20, 1e-5


@dataclass(frozen=True)
class Penalty:
    """A weight decay, and the evaluation of heads with it on examples that they were not fitted to."""

    weight_decay: float
    evaluation: Evaluation


def cross_validated(model: nn.Module, linear: str, examples: Examples, task: Task, loss: Loss, seed: int) -> Penalty | None:
    """Return the weight decay with which heads have the least loss on examples that they were not fitted to.

    `linear` names the layer that is fitted, by L-BFGS and to the minimum of `loss`; all other layers, which follow one another, stay as
    they are. Folds are chosen by `seed`, in proportion to the classes; groups stay together, and so do several copies of an example.
    Returns `None` where there are too few examples or groups for folds, or no loss is finite.
    """
    model = copy.deepcopy(model).cpu().requires_grad_(False)
    layers = _in_order(model)
    fitted = layers.index(model.get_submodule(linear).requires_grad_(True))
    total, width = len(examples), model.get_parameter(f"{linear}.weight").shape[1]
    places = replace(examples, inputs=torch.arange(total), groups=_kept_together(examples))
    try:
        if total > MOST:
            _, places = split_off(places, MOST / total, seed, "penalty")
        folds = list(_folds(places, seed))
    except DataError:
        return None
    index = torch.cat(folds)
    inputs, targets = nn.Sequential(*layers[:fitted])(examples.inputs[index]), examples.targets[index]
    after = nn.Sequential(*layers[fitted:])

    def held_out(part: Tensor) -> list[Tensor]:
        rest = torch.ones(len(index), dtype=torch.bool)
        rest[part] = False
        decays = [strength * width / int(rest.sum()) for strength in _STRENGTHS]
        return [net(inputs[part]) for net in _fitted(after, inputs[rest], targets[rest], loss, decays)]

    # A fold on each core: on one thread, sums come out the same to the bit wherever a run is continued.
    pool = ThreadPoolExecutor(torch.get_num_threads(), initializer=torch.set_num_threads, initargs=(1,))
    outputs: list[list[Tensor]] = []
    with using_threads(1), pool, progress("Cross-validation", len(folds)) as advance:
        for found in pool.map(held_out, torch.arange(len(index)).split([len(fold) for fold in folds])):
            outputs.append(found)
            advance()
    reported = task.reported_loss(model)
    evaluations = [score(torch.cat(found), targets, task, reported) for found in zip(*outputs, strict=True)]
    best = min(range(len(evaluations)), key=lambda number: evaluations[number].loss)
    return Penalty(_STRENGTHS[best] * width / total, evaluations[best]) if math.isfinite(evaluations[best].loss) else None


def _kept_together(examples: Examples) -> Sequence[str] | None:
    """Return the groups of examples by position: where several have the same, each position is one."""
    if examples.groups is not None or len(examples.positions.unique()) == len(examples):
        return examples.groups
    return [str(position) for position in range(int(examples.positions.max()) + 1)]


def _folds(places: Examples, seed: int) -> Iterator[Tensor]:
    """Yield the inputs of each fold, which are places: int64 [n]. Raises `DataError` if there are too few."""
    for left in range(FOLDS, 1, -1):
        places, fold = split_off(places, 1 / left, seed, f"fold {left}")
        yield torch.as_tensor(fold.inputs)
    yield torch.as_tensor(places.inputs)


def _in_order(model: nn.Module) -> list[nn.Module]:
    """Return the layers of modules that follow one another."""
    return [layer for part in model for layer in _in_order(part)] if isinstance(model, nn.Sequential) else [model]


def _fitted(layers: nn.Module, inputs: Tensor, targets: Tensor, loss: Loss, decays: Sequence[float]) -> Iterator[nn.Module]:
    """Yield a copy of `layers` with the first fitted with each weight decay in turn; each begins where the one before ended."""
    net = copy.deepcopy(layers)
    weight, parameters = net.get_parameter("0.weight"), list(net.get_submodule("0").parameters())
    for decay in decays:
        solver = uncompiled(torch.optim.LBFGS)(parameters, max_iter=_ITERATIONS, tolerance_change=_CHANGE, line_search_fn="strong_wolfe")

        def value(solver: torch.optim.Optimizer = solver, decay: float = decay) -> Tensor:
            solver.zero_grad()
            whole = loss(net(inputs), targets) + decay / 2 * weight.square().sum()
            torch.autograd.backward(whole)
            return whole

        solver.step(value)
        with torch.no_grad():
            yield net
