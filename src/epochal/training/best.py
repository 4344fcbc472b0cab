"""Choosing the epoch whose weights are kept.

With little validation data the lowest loss is a matter of luck, and comes early: a network becomes overconfident in its few mistakes
while it still learns. Below `FEW` examples, therefore, the latest of all epochs whose accuracy is as good as the best within its 95 %
interval is kept.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

from torch import Tensor, nn

from epochal.errors import RecipeError
from epochal.evaluation.named import monitored
from epochal.recipe import Recipe
from epochal.shown import are, counted
from epochal.tasks.intervals import share_interval
from epochal.tasks.scores import Scores
from epochal.training.records import EpochDone
from epochal.training.saved import Count, Saved, State, nested, part

# With at least this many validation examples, the loss picks the best epoch by default.
FEW = 1000

# If the interval of an accuracy is wider than this, epochs can hardly be distinguished.
_WIDE = 0.2


class _Saved(Saved):
    score: str
    epoch: Count
    improved: Count


class Best:
    """The weights of `model` to keep: those of the epoch with the best validation score, or of the last one."""

    def __init__(self, recipe: Recipe, model: nn.Module, *, has_valid: bool) -> None:
        if recipe.patience is not None and not has_valid:
            raise RecipeError("The setting patience needs validation data.", "Set data.valid above 0, or leave patience out.")
        self.model = model
        self.monitor = recipe.monitor
        self.name, self.sign = monitored(recipe.monitor)
        self.keeps_best = recipe.keep == "best" and has_valid
        self.score = -math.inf
        self.epoch = 0
        self.improved = 0
        self.weights: dict[str, Tensor] = {}

    def update(self, epoch: int, model: nn.Module, valid: Scores | None) -> bool:
        """Record an epoch; return whether its weights are now the best."""
        score = self._score(valid)
        improved = not self.epoch or score > self.score
        if improved:
            self.score, self.improved = score, epoch
        if improved or not self.keeps_best or self._is_as_good(score, valid):
            self.epoch = epoch
            self.weights = copy.deepcopy(model.state_dict())
            return True
        return False

    def state_dict(self) -> State:
        """Return the weights, their epoch, the best score and its epoch."""
        return {"score": repr(self.score), "epoch": self.epoch, "improved": self.improved} | nested({"weights": self.weights})

    def load_state_dict(self, state: State) -> None:
        """Continue from a state. Raises `ValueError`."""
        current = self.model.state_dict()
        saved = _Saved.read(state, nested({"weights": current}) if state.get("epoch") else {})
        self.weights = {name: tensor.to(current[name].device) for name, tensor in part(state, "weights").items()}
        self.score, self.epoch, self.improved = float(saved.score), saved.epoch, saved.improved

    def _score(self, valid: Scores | None) -> float:
        if valid is None:
            return 0.0
        if is_loose(self.monitor, valid):
            score = valid.accuracy or 0.0
        elif self.monitor in ("auto", "loss"):
            score = -valid.loss
        else:
            score = self.sign * valid.number(self.name)
        # NaN counts as worse than any number, which plain comparison would not do; and no score is good if the loss is NaN.
        return score if math.isfinite(valid.loss) and not math.isnan(score) else -math.inf

    def _is_as_good(self, score: float, valid: Scores | None) -> bool:
        if valid is None or not is_loose(self.monitor, valid) or not math.isfinite(self.score):
            return False
        return score >= share_interval(round(self.score * valid.count), valid.count)[0]


def is_loose(monitor: str, valid: Scores | None) -> bool:
    """Return whether there is too little validation data to pick an epoch by the best score alone, and the recipe leaves the choice
    open."""
    return monitor == "auto" and valid is not None and valid.accuracy is not None and valid.count < FEW


def why_kept(recipe: Recipe, epochs: Sequence[EpochDone], kept: int) -> str:
    """Return in one line why the weights of epoch `kept` were chosen of `epochs`, and whether there were enough data to choose by."""
    valid = epochs[kept - 1].valid
    if recipe.keep == "last" or valid is None:
        return "the last" + ("" if valid is not None else ", as there are no validation data to choose by")
    scores = [done.valid.accuracy for done in epochs if done.valid is not None and done.valid.accuracy is not None]
    if is_loose(recipe.monitor, valid):
        why = f"the latest whose validation accuracy is as good as the best ({100 * max(scores):.1f} %), within the error"
    elif recipe.monitor == "accuracy":
        why = f"the highest validation accuracy ({100 * max(scores):.1f} %)"
    elif recipe.monitor in ("auto", "loss"):
        why = f"the lowest validation loss ({valid.loss:.4g})"
    else:
        name, sign = monitored(recipe.monitor)
        why = f"the {'highest' if sign > 0 else 'lowest'} validation {name} ({valid.number(name):.4g})"
    if valid.interval is not None and valid.interval[1] - valid.interval[0] > _WIDE:
        why = f"{why}; {counted(valid.count, 'validation example')} {are(valid.count)} too few to choose by (see data.valid)"
    return why
