"""A learning-rate range test: the loss while the rate grows from step to step, from the weights that training would begin with.

After L. Smith, "Cyclical learning rates for training neural networks" (WACV 2017), with rates that grow exponentially. Steps are those of
training, with its batches, augmentation and optimizer; the weights are restored at the end.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from epochal.cores import sharing_cores
from epochal.device import computing
from epochal.errors import RecipeError
from epochal.io.checksums import with_checksum
from epochal.io.files import finite, first_free, new_directory, write_json
from epochal.progress import progress, silent
from epochal.random import fork_rng
from epochal.recipe import Recipe, as_recipe
from epochal.run.folder import check_free
from epochal.run.prepare import Prepared, prepare
from epochal.shown import Rows, Shown, are, counted
from epochal.training.build import build_training, training_feed
from epochal.training.loop import train_step
from epochal.training.own import Own
from epochal.user_code import concise

# From the lowest rate to the highest.
LOW, HIGH = 1e-7, 10.0

STEPS = 200

# The exponential moving average of losses forgets so much in a step; beyond so many times its least value nothing more is learned.
_FORGETS, _DIVERGED = 0.1, 4.0

# What is suggested is such a share of the rate with the lowest loss.
_SHARE = 0.1

FIGURE = "learning-rates"


@dataclass(frozen=True, repr=False)
class RateTest(Shown):
    """The `losses` of steps with growing `rates`, smoothed; those after the loss has diverged are not made.

    `suggested` is a tenth of the rate at which the smoothed loss is lowest, with two digits; `None` if the loss never fell by more than it
    varies from step to step. `current` is the rate of the recipe.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggested: float | None
    current: float
    folder: Path | None = None

    @property
    def verdict(self) -> tuple[str, ...]:
        """What the test shows, in sentences."""
        if self.suggested is None:
            return ("The loss did not fall at any rate: there is nothing to suggest.",)
        best = self.rates[min(range(len(self.smoothed)), key=self.smoothed.__getitem__)]
        return (
            f"Suggested: --lr {self.suggested:g}, a tenth of the rate at which the smoothed loss is lowest ({best:.2g}).",
            f"The recipe has {self.current:g}.",
        )

    def _title(self) -> str:
        return f"{len(self.rates)} steps from {self.rates[0]:.1g} to {self.rates[-1]:.2g}"

    def _rows(self) -> Rows:
        return [("", line) for line in self.verdict]

    def to_json(self) -> dict[str, Any]:
        """Return every number by its name."""
        values: dict[str, Any] = finite({name: value for name, value in asdict(self).items() if name != "folder"})
        return values


@concise
@sharing_cores()
def find_rate(
    data: Any,
    recipe: Recipe | str | Path | dict[str, Any] | None = None,
    *,
    steps: int = STEPS,
    out: Any = None,
    data_dir: str | Path | None = None,
    log: Callable[[str], object] = silent,
    **settings: Any,
) -> RateTest:
    """Make so many `steps` of training with learning rates that grow from 1e-7 to 10, and suggest one.

    `data`, `recipe` and `settings` are as in `train`. With `out`, a folder that must not exist yet, the numbers and a figure are written
    there. Raises an `EpochalError` for anything that cannot work, before the first step.
    """
    base = as_recipe(recipe).updated(settings, "given")
    if steps < 20:
        raise RecipeError(f"{counted(steps, 'step')} {are(steps)} too few to see where the loss falls.", "Make at least 20.")
    check_free(out)
    found = measure_rates(prepare(data, base, data_dir=data_dir, log=log), steps)
    if out is None:
        return found
    return _written(found, out)


def measure_rates(prepared: Prepared, steps: int) -> RateTest:
    """Return the losses of so many steps with growing rates; the weights are restored."""
    recipe, (model, data) = prepared.recipe, prepared.learner
    growth = (HIGH / LOW) ** (1 / (steps - 1))
    rates = [LOW * growth**step for step in range(steps)]
    before = copy.deepcopy(model.state_dict())
    losses, smoothed, average = list[float](), list[float](), 0.0
    with computing(recipe.threads_per_step), fork_rng(prepared.device), progress("Learning rates", steps) as advance:
        batches = training_feed(data.train, data.spec, recipe, prepared.device)
        epochs = math.ceil(steps / len(batches))
        # The optimizer's rate is the lowest, and the schedule says how many times that.
        fixed = {"optimizer.lr": LOW, "epochs": epochs, "max_steps": None, "patience": None, "schedule.warmup": 0.0}
        asked = recipe.updated(fixed, "range test")
        own = Own(loss=prepared.own.loss, schedule=lambda step: growth**step)
        training = build_training(model, batches, data.spec, asked, prepared.device, own, has_valid=False)
        training.train_mode()
        stream = (batch for epoch in itertools.count(1) for batch in batches.epoch(epoch))
        for batch in itertools.islice(stream, steps):
            training.loss_sum.zero_()
            train_step(training, batch)
            loss = float(training.loss_sum) / len(batch.targets)
            if not math.isfinite(loss):
                break
            losses.append(loss)
            average = (1 - _FORGETS) * average + _FORGETS * loss
            smoothed.append(average / (1 - (1 - _FORGETS) ** len(losses)))
            advance()
            if smoothed[-1] > _DIVERGED * min(smoothed) and len(losses) > steps // 4:
                break
    model.load_state_dict(before)
    return RateTest(
        tuple(rates[: len(losses)]), tuple(losses), tuple(smoothed), _suggested(rates, losses, smoothed), recipe.optimizer.lr
    )  # fmt: skip


def _suggested(rates: list[float], losses: list[float], smoothed: list[float]) -> float | None:
    """Return the rate that is suggested; `None` where the smoothed loss has not fallen by more than chance makes it vary."""
    if len(losses) < 10:
        return None
    start = losses[: max(10, len(losses) // 5)]
    mean = sum(start) / len(start)
    spread = math.sqrt(sum((loss - mean) ** 2 for loss in start) / len(start))
    lowest = min(range(len(smoothed)), key=smoothed.__getitem__)
    # The average of some steps varies by a fraction of that.
    if smoothed[lowest] > mean - spread:
        return None
    return float(f"{_SHARE * rates[lowest]:.2g}")


def _written(found: RateTest, out: Any) -> RateTest:
    from epochal.figures.rates import loss_by_rate
    from epochal.figures.style import write

    def make(path: Path) -> None:
        with new_directory(path) as folder:
            write(loss_by_rate(found.rates, found.losses, found.smoothed, found.suggested, found.current), folder / FIGURE)
            write_json(folder / f"{FIGURE}.json", with_checksum(found.to_json()))

    folder = first_free(Path(out) if isinstance(out, str) else out, make)
    return RateTest(**{**vars(found), "folder": folder})
