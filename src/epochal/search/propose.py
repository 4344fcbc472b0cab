"""Proposals: the settings of a trial, from the seed, its number, and the results of trials that it knows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from epochal.errors import MissingError
from epochal.random import key
from epochal.search.space import Axis, Choice, Space, label

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

# So many trials are drawn at random before results count.
_RANDOM = 8


def optuna_version() -> str:
    """Return the version of Optuna, since others propose other values. Raises `MissingError` if it is not installed."""
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise MissingError("A search needs the package optuna.", 'Install it: pip install "epochal[tune]"') from error
    return str(optuna.__version__)


def propose(space: Space, seed: int, trial: int, known: Iterable[tuple[Mapping[str, Any], float]]) -> dict[str, Any]:
    """Return the values of a trial by setting; `known` are those of other trials with their scores (less is better), in order.

    They come from Optuna's tree-structured Parzen estimators (J. Bergstra et al., "Algorithms for hyper-parameter optimization", NeurIPS
    2011), and are random for the first trials. Trials that failed count as worse than all others.
    """
    import optuna

    # It would print a line for each trial.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(n_startup_trials=_RANDOM, seed=key(seed, "trial", trial) % 2**32)
    study = optuna.create_study(sampler=sampler)
    axes = distributions(space)
    for values, score in known:
        encoded = {name: label(value) if isinstance(space[name], Choice) else value for name, value in values.items()}
        study.add_trial(optuna.trial.create_trial(params=encoded, distributions=axes, value=score if math.isfinite(score) else math.inf))
    return values_in(space, study.ask(axes).params)


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """Return what Optuna calls a space."""
    return {name: _distribution(axis) for name, axis in space.items()}


def values_in(space: Space, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of settings that Optuna means by the parameters of a trial."""
    return {name: _value(space[name], value) for name, value in params.items()}


def _distribution(axis: Axis) -> BaseDistribution:
    import optuna.distributions as kinds

    if isinstance(axis, Choice):
        return kinds.CategoricalDistribution(axis.labels)
    if axis.whole:
        return kinds.IntDistribution(int(axis.low), int(axis.high), log=axis.log)
    return kinds.FloatDistribution(axis.low, axis.high, log=axis.log)


def _value(axis: Axis, found: Any) -> Any:
    return axis.values[axis.labels.index(found)] if isinstance(axis, Choice) else axis.rounded(found)
