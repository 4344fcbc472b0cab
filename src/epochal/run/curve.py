"""The learning curve of a run: what models reach that learn from fewer of its training examples, and what more of them would bring."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from epochal.data.examples import Examples
from epochal.data.load import Data
from epochal.data.split import split_off
from epochal.device import using_threads
from epochal.errors import DataError, RecipeError
from epochal.evaluation.evaluate import Evaluation, evaluate
from epochal.evaluation.labels import LearningCurve, learning_curve
from epochal.progress import progress
from epochal.recipe import Recipe
from epochal.run.learner import Learner
from epochal.run.prepare import Clock, Prepared, penalized, settle
from epochal.shown import are, counted
from epochal.training.loop import fit

# Shares of the training examples, and how often examples are drawn for each.
SHARES = (1 / 8, 1 / 4, 1 / 2)
DRAWS = 5

# A smaller size has so few examples for each class, or in all.
_LEAST_EACH, _LEAST = 2, 8

# Models that learn from fewer examples make so many steps, if the run itself does.
_STEPS = 200

# Training that takes longer than so many seconds is announced.
_LONG = 2.0


@dataclass(frozen=True)
class Plan:
    """What a learning curve needs from before training: a run as it was `prepared`, and what is trained in it, untrained.

    That is the `learner` of features that are computed once, or else the user's `own` module, if it is one. `shares` of the training
    examples are drawn. `measured` are the number of labels and the evaluation of each draw, by size.
    """

    prepared: Prepared
    learner: nn.Module | None
    own: nn.Module | None
    shares: tuple[float, ...]
    measured: list[list[tuple[int, Evaluation]]] = field(default_factory=list)

    @property
    def split(self) -> str:
        """What models are measured on."""
        return "test" if self.prepared.data.test is not None else "valid"

    def curve(self) -> LearningCurve | None:
        """Return the curve through what was measured, if that is at least two draws of each size."""
        return learning_curve(self.measured, self.split) if self.measured and len(self.measured[-2]) > 1 else None


def plan(prepared: Prepared, model: nn.Module | None) -> Plan:
    """Return what is needed for the learning curve of a run that has not begun. Raises `DataError` or `RecipeError` if it cannot have one.

    `model` is the user's own module, as it was passed.
    """
    data, task = prepared.data, prepared.data.spec.task
    if prepared.recipe.thresholds != "default":
        raise RecipeError("There is no learning curve with thresholds = tuned.", "Leave one of the two out.")
    if data.test is None and data.valid is None:
        raise DataError("There are no test examples to measure a learning curve on.", "Leave data.test as it is, or do without the curve.")
    total, least = len(data.train), max(_LEAST, _LEAST_EACH * len(task.outputs) * task.has_classes)
    shares = tuple(share for share in SHARES if share * total >= least)
    if len(shares) < 2:
        needed = math.ceil(least / SHARES[1])
        raise DataError(
            f"{counted(total, 'training example')} {are(total)} too few for a learning curve: with these targets it takes {needed:,}.",
            "Add more data, or do without the curve.",
        )
    learner = None if prepared.learner.data is data else copy.deepcopy(prepared.learner.model)
    return Plan(prepared, learner, copy.deepcopy(model), shares)


def measure(plan: Plan, whole: Evaluation, seconds: float, log: Callable[[str], object]) -> None:
    """Train on several draws of each size, and add what each reaches to `plan.measured`.

    `whole` is the evaluation of the model that was trained on all examples, in so many `seconds`. Each size is drawn once, then each for
    the second time, and so on: what was measured before an interruption is a curve.
    """
    total, work = len(plan.prepared.data.train), DRAWS * sum(plan.shares)
    plan.measured[:] = [*([] for _ in plan.shares), [(total, whole)]]
    if work * seconds > _LONG:
        log(
            f"learning curve: {DRAWS * len(plan.shares)} trainings with fewer examples, which take about {_in_words(work * seconds)}; "
            "Ctrl-C keeps what is measured by then"
        )
    with progress("Learning curve", round(work * total)) as advance:
        for draw in range(DRAWS):
            for share, found in zip(plan.shares, plan.measured, strict=False):
                found.append(_trained(plan, share, draw))
                advance(share * total)


def _in_words(seconds: float) -> str:
    return f"{seconds:,.0f} s" if seconds < 100 else f"{seconds / 60:,.0f} minutes"


def _trained(plan: Plan, share: float, draw: int) -> tuple[int, Evaluation]:
    """Return the number of labels of a draw, and the evaluation of a model that was trained on it."""
    prepared = plan.prepared
    drawn, _ = split_off(replace(prepared.data.train, inputs=torch.arange(len(prepared.data.train))), 1 - share, draw, f"draw {share:g}")
    smaller = _smaller(plan, drawn, draw)
    learner, spec = smaller.learner, smaller.learner.data.spec
    recipe = _long_enough(smaller.recipe, len(learner.data.train), plan)
    with using_threads(recipe.threads_per_step):
        fit(learner.model, learner.data, recipe, **vars(smaller.own))
        examples = learner.data.splits[plan.split]
        loss = spec.task.reported_loss(learner.model, recipe.loss, smaller.own.loss)
        evaluation = evaluate(learner.model, examples, spec, loss, device=smaller.device, batch_size=recipe.eval_batch_size)
    return len(drawn), evaluation


def _long_enough(recipe: Recipe, count: int, plan: Plan) -> Recipe:
    """Return the recipe with as many epochs as few examples need for the steps of the whole run, up to some hundred.

    Otherwise the curve would show how few steps teach, rather than how few labels.
    """
    whole = plan.prepared.recipe.epochs * math.ceil(len(plan.prepared.learner.data.train) / plan.prepared.recipe.examples_per_step)
    epochs = math.ceil(min(whole, _STEPS) / math.ceil(count / recipe.examples_per_step))
    return recipe.updated({"epochs": epochs}, "draw") if epochs > recipe.epochs else recipe


def _smaller(plan: Plan, drawn: Examples, draw: int) -> Prepared:
    """Return the run with the training examples of a draw alone, before its first step."""
    prepared = plan.prepared
    if plan.learner is None:
        asked = prepared.asked.updated({"seed": prepared.asked.seed + draw}, "draw")
        data = replace(prepared.data, train=prepared.data.train.take(torch.as_tensor(drawn.inputs)), described=None)
        return settle(asked, data, prepared.own, copy.deepcopy(plan.own), clock=Clock())
    # What a frozen trunk makes of all examples is known. Of several copies of an example, all are drawn.
    features: Data = prepared.learner.data
    rows = torch.isin(features.train.positions, drawn.positions).nonzero().flatten()
    found = replace(features, train=features.train.take(rows), described=None)
    learner = Learner(copy.deepcopy(plan.learner), found)
    return replace(prepared, learner=learner, recipe=penalized(prepared.recipe, learner, prepared.own)[0])
