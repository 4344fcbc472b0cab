"""Metrics besides the loss and the accuracy: the usual ones by name, and the user's own functions.

A metric is a function of the predictions and the targets of all examples that returns a number. Predictions are probabilities
[n, classes] or [n, labels], or quantities [n, outputs]; targets are classes (int64 [n]), 0 and 1 [n, labels], or quantities
[n, outputs]; all on the CPU.
Higher is better, except for metrics with "error" or "loss" in their names, and those that are known to be errors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from epochal.errors import RecipeError, suggest
from epochal.tasks import TASKS
from epochal.tasks.base import Task
from epochal.tasks.metrics import AREAS, MetricFunction
from epochal.tasks.scores import ALWAYS, plain_name

# Lower is better for these.
_ERRORS = ("mae", "mse", "rmse", "mape", "median error", "max error")


@dataclass(frozen=True)
class Metric:
    """A named function of (predictions, targets)."""

    name: str
    function: MetricFunction

    def __call__(self, predictions: Tensor, targets: Tensor, task: Task) -> float:
        """Return the number. Raises `RecipeError` if the user's function fails, or does not return one."""
        try:
            return float(self.function(predictions, targets))
        except Exception as error:  # the user's function may raise anything
            raise RecipeError(
                f"The metric '{self.name}' fails: {type(error).__name__}: {error}.",
                f"It gets {task.metric_inputs}, and must return a number.",
            ) from error


Metrics: TypeAlias = str | Sequence[str | MetricFunction | Metric] | Mapping[str, MetricFunction] | None


def as_metrics(what: Metrics, task: Task) -> tuple[Metric, ...]:
    """Return the metrics that a user passes: usual ones by name, functions, or functions by name. Raises `RecipeError`."""
    found = tuple(_each(what, task))
    names = [metric.name for metric in found]
    for name in names:
        if name in ALWAYS or names.count(name) > 1:
            raise RecipeError(f"The metric '{name}' is measured already.", "Leave it out, or name your function otherwise.")
    return found


def _each(what: Metrics, task: Task) -> Iterator[Metric]:
    if isinstance(what, Mapping):
        yield from (_own(str(name), function) for name, function in what.items())
        return
    for one in [what] if isinstance(what, str) else what or ():
        if isinstance(one, str):
            yield _usual(one, task)
        elif isinstance(one, Metric):
            yield one
        else:
            yield _own(getattr(one, "__name__", type(one).__name__).strip("_").replace("_", " "), one)


def _own(name: str, function: MetricFunction) -> Metric:
    if not callable(function):
        raise RecipeError(
            f"The metric '{name}' is {function!r}.", "Pass a function of (predictions, targets), or the name of a usual metric."
        )
    return Metric(name, function)


def _usual(name: str, task: Task) -> Metric:
    plain = plain_name(name)
    fitting = task.usual_metrics
    if plain in fitting:
        function = fitting[plain]
        # Areas are of probabilities, whatever the thresholds.
        shown = (lambda predictions: predictions) if plain in AREAS else task.as_usual
        return Metric(plain, lambda predictions, targets: function(shown(predictions).double(), targets))
    if any(plain in other.usual_metrics for other in TASKS.values()):
        raise RecipeError(f"The metric '{name}' is not for {task.name} targets.", f"Use one of {', '.join(fitting)}.")
    raise RecipeError(f"There is no metric '{name}'.", suggest(plain, fitting))


def all_metrics(names: Sequence[str], monitor: str, own: Metrics, task: Task) -> tuple[Metric, ...]:
    """Return the metrics besides loss and accuracy: the usual ones by `names`, the user's `own`, and the `monitor`ed one.

    Raises `RecipeError` if one is unknown, or appears twice.
    """
    found = as_metrics([*as_metrics(names, task), *as_metrics(own, task)], task)
    name, _ = monitored(monitor)
    if monitor == "auto" or name in ALWAYS or any(metric.name == name for metric in found):
        return found
    if plain_name(name) in (known := {name for kind in TASKS.values() for name in kind.usual_metrics}):
        extra = _usual(name, task)
        return found if any(metric.name == extra.name for metric in found) else (*found, extra)
    raise RecipeError(
        f"The setting monitor = {monitor} names no score.", suggest(name, {"auto", *ALWAYS, *known, *(metric.name for metric in found)})
    )


def monitored(monitor: str) -> tuple[str, int]:
    """Return the name of a monitored score, and 1 if higher is better, else -1; "min NAME" and "max NAME" override that."""
    way, _, name = monitor.partition(" ")
    plain = plain_name(monitor)
    if way in ("min", "max") and name and plain not in _ERRORS:
        return name, 1 if way == "max" else -1
    return monitor, -1 if plain in _ERRORS or "loss" in plain or "error" in plain else 1


def check_metrics(metrics: Sequence[Metric], task: Task, targets: Tensor) -> None:
    """Try metrics on the real targets with invented predictions. Raises `RecipeError`."""
    measure(metrics, task.sample_predictions(targets), targets, task)


def measure(metrics: Sequence[Metric], predictions: Tensor, targets: Tensor, task: Task) -> dict[str, float]:
    """Return each metric by its name."""
    return {metric.name: metric(predictions, targets, task) for metric in metrics}
