"""Learning rates as functions of the position."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict

from epochal.errors import RecipeError
from epochal.recipe import ScheduleSettings
from epochal.shown import counted
from epochal.training.records import Rewound
from epochal.training.saved import Count, Saved, State
from epochal.user_code import in_words

# The user's own schedule: the number of steps so far -> factor on the optimizer's rates in the next step.
ScheduleFunction = Callable[[int], float]

# The user's own schedule is tried at about this many steps before the first one.
_TRIED = 100


class _Saved(Saved):
    cuts: Count
    best: str
    bad_epochs: Count
    rewinds: list[Rewound]


class Schedule:
    """The learning rate, as a share of the highest one.

    All but "plateau" are functions of the position alone. The formulas are those of `torch.optim.lr_scheduler`; "cosine" and
    "one-cycle" change with every step, the others at the ends of epochs. The user's own `function` replaces them. Each of the `rewinds`
    reduces the rate from its step on.
    """

    def __init__(
        self, settings: ScheduleSettings, epochs: int, steps_per_epoch: int, total_steps: int, function: ScheduleFunction | None = None
    ) -> None:
        self.settings = settings
        self.function = function
        self.steps_per_epoch = steps_per_epoch
        self.total_steps = total_steps
        self.cuts = 0
        self.best = math.inf
        self.bad_epochs = 0
        self.rewinds: list[Rewound] = []
        self.warmup_steps = round(settings.warmup * steps_per_epoch)
        if self.warmup_steps and settings.name == "one-cycle":
            raise RecipeError("The setting schedule.warmup does not work with one-cycle, which rises by itself.", "Use schedule.rise.")
        if self.warmup_steps >= total_steps:
            raise RecipeError(
                f"The setting schedule.warmup = {settings.warmup} is not shorter than training, which has {counted(epochs, 'epoch')}.",
                "Shorten it.",
            )
        if function is not None:
            for step in {*range(0, total_steps, max(1, total_steps // _TRIED)), total_steps - 1}:
                _share(function, step)

    @property
    def is_constant(self) -> bool:
        """Whether the rate is the same in every step."""
        return self.function is None and self.settings.name == "constant" and not self.warmup_steps and not self.rewinds

    def factor(self, step: int) -> float:
        """Return the share for the step that comes after `step` others."""
        return self._planned(step) * math.prod(cut.factor for cut in self.rewinds if cut.step <= step)

    def _planned(self, step: int) -> float:
        if self.function is not None:
            return _share(self.function, step)
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        epoch = step // self.steps_per_epoch
        settings = self.settings
        if settings.name == "step":
            return settings.factor ** (epoch // settings.every)
        if settings.name == "multi-step":
            return settings.factor ** sum(epoch >= end for end in settings.at)
        if settings.name == "plateau":
            return settings.factor**self.cuts
        if settings.name == "cosine":
            return _cosine(1.0, 0.0, (step - self.warmup_steps) / (self.total_steps - self.warmup_steps))
        if settings.name == "one-cycle":
            return self._one_cycle(step)
        return 1.0

    def epoch_done(self, loss: float) -> None:
        """Pass the validation loss (or else the training loss) to "plateau"."""
        # As in ReduceLROnPlateau: better means better by a ten-thousandth.
        if loss < self.best * (1 - 1e-4):
            self.best, self.bad_epochs = loss, 0
            return
        self.bad_epochs += 1
        if self.bad_epochs > self.settings.patience:
            self.cuts, self.bad_epochs = self.cuts + 1, 0

    def state_dict(self) -> State:
        """Return the state that is not a function of the position."""
        plateau = {"cuts": self.cuts, "best": repr(self.best), "bad_epochs": self.bad_epochs}
        return plateau | {"rewinds": [asdict(cut) for cut in self.rewinds]}

    def load_state_dict(self, state: State) -> None:
        """Continue from a state. Raises `ValueError`."""
        saved = _Saved.read(state)
        self.cuts, self.best, self.bad_epochs = saved.cuts, float(saved.best), saved.bad_epochs
        self.rewinds = saved.rewinds

    def _one_cycle(self, step: int) -> float:
        """Rise from 1/25 to 1, then fall to 1/250,000, along half cosines (Smith and Topin, 2017, as OneCycleLR has it)."""
        peak = self.settings.rise * self.total_steps - 1
        if 0 < peak >= step:
            return _cosine(1 / 25, 1.0, step / peak)
        # A single step is in the middle of the fall.
        last = max(self.total_steps - 1, 1)
        return _cosine(1.0, 1 / 250_000, (step - peak) / (last - peak))


def _share(function: ScheduleFunction, step: int) -> float:
    """Return the value of the user's own schedule for a step. Raises `RecipeError` if that is not a factor."""
    if not callable(function):
        raise RecipeError(
            f"The schedule is of type {type(function).__name__}.", "Pass a name, or a function: step -> share of the learning rate."
        )
    try:
        share = float(function(step))
    except (Exception, SystemExit) as error:  # the user's function may raise anything
        raise RecipeError(
            f"The schedule function fails for step {step}: {in_words(error)}.",
            "Fix it: it gets the number of steps made, and returns a number.",
        ) from error
    if not (math.isfinite(share) and share >= 0):
        raise RecipeError(f"The schedule function gives {share} for step {step}.", "Let it return a share of the learning rate, 0 or more.")
    return share


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
