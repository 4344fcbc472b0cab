"""Scores of settings that were trained several times: examples and seeds are two sources of chance, told apart.

A score varies because other examples could have been the test data, and because another seed would have given another model. Neither
stands for the other: ten thousand test examples say nothing of other seeds. With several models that were trained alike and tested on the
same examples, both can be measured, as in an analysis of variance with two crossed random factors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from epochal.evaluation.comparison import SHOWN, Difference, of_error
from epochal.evaluation.uncertainty import Interval, standard_error
from epochal.tasks.beta import student_quantile

# A share that no example changes could still be off by so many standard errors of 1 / n: as in Tango's interval.
_LEAST = 1.959963984540054


@dataclass(frozen=True)
class Mean:
    """The mean score of a setting with its 95 % interval for other examples and seeds.

    `examples` and `seeds` are the parts of its standard error: their squares add up to the variance of the mean.
    """

    value: float
    interval: Interval
    examples: float
    seeds: float


@dataclass(frozen=True)
class _Seeds:
    """How much scores vary from seed to seed, pooled over settings: the variance of a model's score.

    `mixed` is the part of it that comes from which examples were measured: models differ on some of these by chance, even if they are
    equally good on all there are.
    """

    variance: float
    mixed: float
    freedom: int


def compare_settings(
    first: Sequence[Tensor], second: Sequence[Tensor], groups: Tensor | None = None, *, shares: bool, shown: float = SHOWN
) -> Difference:
    """Return the difference of the mean scores of two settings, at least one of which was trained with several seeds.

    Each model gives what each example adds to its score: float [n], the same examples in the same order; `shares` says that these are 0
    and 1. Both settings are taken to vary equally from seed to seed. Examples of one of `groups` int64 [n] count together.
    """
    one, other = (_units(models, groups) for models in (first, second))
    examples, seeds, freedom = _errors(other.mean(0) - one.mean(0), (one, other), len(first[0]), shares=shares)
    error = math.hypot(examples, seeds)
    return of_error(len(first[0]), float(one.mean()), float(other.mean()), error, freedom, shown)


def mean_over_seeds(models: Sequence[Tensor], groups: Tensor | None = None, *, shares: bool) -> Mean:
    """Return the mean score of a setting that was trained with several seeds; arguments are as in `compare_settings`."""
    values = _units(models, groups)
    examples, seeds, freedom = _errors(values.mean(0), (values,), len(models[0]), shares=shares)
    middle, reach = float(values.mean()), student_quantile(freedom) * math.hypot(examples, seeds)
    interval = (max(0.0, middle - reach), min(1.0, middle + reach)) if shares else (middle - reach, middle + reach)
    return Mean(middle, interval, examples, seeds)


def _errors(values: Tensor, settings: Sequence[Tensor], count: int, *, shares: bool) -> tuple[float, float, float]:
    """Return the standard errors from examples and from seeds of a mean of `values` that models of all `settings` gave, and the degrees of
    freedom of both together.

    These are F. Satterthwaite's (Biometrics Bulletin 2, 1946).
    """
    examples = standard_error(values)
    if shares:
        examples = max(examples, _LEAST / count)
    seeds, share = _between(settings), sum(1 / len(setting) for setting in settings)
    excess = max(0.0, seeds.variance - seeds.mixed) * share
    total = examples**2 + excess
    below = examples**4 / max(len(values) - 1, 1) + (seeds.variance * share) ** 2 / seeds.freedom
    return examples, math.sqrt(excess), total**2 / below if below > 0 else 1.0


def _between(settings: Sequence[Tensor]) -> _Seeds:
    """Return how much scores of models vary, from values [seeds, n] of each setting."""
    freedom = sum(len(setting) - 1 for setting in settings)
    squares, mixed = 0.0, 0.0
    for setting in settings:
        scores = setting.mean(1, keepdim=True)
        squares += float((scores - scores.mean()).square().sum())
        mixed += float((setting - scores - setting.mean(0) + scores.mean()).square().sum())
    count = settings[0].shape[1]
    return _Seeds(squares / freedom, mixed / (freedom * max(count - 1, 1)) / count, freedom)


def _units(models: Sequence[Tensor], groups: Tensor | None) -> Tensor:
    """Return values [seeds, n] of single examples, or [seeds, groups] of examples that count together; means are the same."""
    values = torch.stack([*models]).double()
    if groups is None:
        return values
    _, place = groups.unique(return_inverse=True)
    means, number = values.mean(1, keepdim=True), int(place.max()) + 1
    sums = torch.zeros(len(values), number, dtype=torch.float64).index_add_(1, place, values - means)
    return means + sums * (number / values.shape[1])
