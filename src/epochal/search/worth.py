"""What a search is worth: its best setting against the default with fresh seeds on test data, and which settings mattered."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from epochal.evaluation.compared import Comparison
from epochal.evaluation.comparison import SHOWN, holm
from epochal.io.files import finite
from epochal.random import key, permutation
from epochal.run.folder import RESULT, read_json
from epochal.search.plan import LAST, Plan, Task
from epochal.search.space import Axis, Choice, Space, label
from epochal.search.store import Store

# By so many random orders of the scores it is found what a share could be by chance.
_ORDERS = 2000


@dataclass(frozen=True)
class Influence:
    """How much of the differences between trials one `setting` alone explains: the `share` of the variance of their ranks.

    `p` is the probability of such a share, or a larger one, if it did not matter, corrected for how many settings there are.
    """

    setting: str
    share: float
    p: float

    @property
    def is_shown(self) -> bool:
        """Whether the setting is shown to matter."""
        return self.p < SHOWN


def influences(space: Space, points: Sequence[Mapping[str, Any]], scores: Sequence[float]) -> tuple[Influence, ...]:
    """Return the influence of each setting on the scores of trials, the largest first; nothing of fewer than five trials.

    Ranks are explained by a parabola in a number (or its logarithm), or by the mean of each choice: with twenty trials nothing finer could
    be told from chance, which is measured by permutations. That failed trials are infinitely bad does not matter to ranks.
    """
    count = len(scores)
    if count < 5:
        return ()
    ranks = _ranks(scores)
    orders = torch.stack([permutation(key("influence", number), count) for number in range(_ORDERS)])
    shuffled = torch.cat([ranks[None], ranks[orders]]).T
    found = []
    for name, axis in space.items():
        shares = _explained(_features(axis, [point[name] for point in points]), shuffled)
        # Shares that differ in their last bits are equal.
        as_large = int((shares[1:] >= shares[0] - 1e-9).sum())
        found.append((name, float(shares[0]), (1 + as_large) / (1 + _ORDERS)))
    corrected = holm([p for _, _, p in found])
    listed = [Influence(name, share, p) for (name, share, _), p in zip(found, corrected, strict=True)]
    return tuple(sorted(listed, key=lambda one: (one.p, -one.share)))


def _ranks(scores: Sequence[float]) -> Tensor:
    """Return the rank of each score, that of equal ones as their mean: float64 [n]."""
    ordered = sorted(scores)
    places = [(ordered.index(one) + len(ordered) - 1 - ordered[::-1].index(one)) / 2 for one in scores]
    return torch.tensor(places, dtype=torch.float64)


def _features(axis: Axis, values: Sequence[Any]) -> Tensor:
    """Return what a setting can explain by: float64 [n, features]."""
    if isinstance(axis, Choice):
        labels = [label(value) for value in values]
        return torch.tensor([[one == other for other in axis.labels] for one in labels], dtype=torch.float64)
    numbers = torch.tensor([math.log(value) if axis.log else value for value in values], dtype=torch.float64)
    numbers = (numbers - numbers.mean()) / (numbers.std() + 1e-12)
    return torch.stack([numbers, numbers.square()], 1)


def _explained(features: Tensor, scores: Tensor) -> Tensor:
    """Return R² of the least-squares fit of each column of `scores` [n, columns] by `features` [n, k]."""
    centred = features - features.mean(0)
    basis, sizes, _ = torch.linalg.svd(centred, full_matrices=False)
    basis = basis[:, sizes > 1e-9 * max(1.0, float(sizes.max()))]
    around = scores - scores.mean(0)
    total = around.square().sum(0)
    return torch.where(total > 0, (basis.T @ around).square().sum(0) / total.clamp(min=1e-12), 0.0)


def named(comparison: Comparison, best: int) -> Comparison:
    """Return the comparison of the default with a trial, in which they are called so."""
    names = "the default", f"trial {best}"
    settings = tuple(replace(setting, name=name) for setting, name in zip(comparison.settings, names, strict=True))
    (pair,) = comparison.pairs
    return replace(comparison, settings=settings, pairs=(replace(pair, first=names[0], second=names[1]),))


@dataclass(frozen=True)
class Validation:
    """The validation score of one setting: when it was `selected`, and the mean of fresh seeds on the same examples."""

    setting: str
    selected: float
    fresh: float

    @property
    def optimism(self) -> float:
        """How much better the selected score was."""
        return self.fresh - self.selected


def validations(store: Store, plan: Plan, best: int, name: str, sign: int) -> tuple[Validation, ...]:
    """Return what became of the validation scores of the default and of the best trial, by the score of that name (less is better)."""
    found = []
    for trial in dict.fromkeys((0, best)):
        runs = [store.place(Task(trial, LAST, seed)) for seed in plan.seeds]
        fresh = [-sign * _valid_score(read_json(run / RESULT, valid=dict)["valid"], name) for run in runs]
        selected = store.scores()[Task(trial, LAST)]
        found.append(Validation("default" if not trial else f"trial {trial}", selected, statistics.fmean(fresh)))
    return tuple(found)


def _valid_score(values: Mapping[str, Any], name: str) -> float:
    found = values.get(name, values.get("metrics", {}).get(name))
    return math.nan if found is None else float(found)


def in_json(values: Sequence[Any]) -> list[Any]:
    """Return values of these kinds for JSON."""
    return [finite(asdict(one)) for one in values]
