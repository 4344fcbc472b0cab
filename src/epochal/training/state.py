"""The state of training, built and checked before the first step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from epochal.data.examples import Examples
from epochal.data.feed import Feed, feed
from epochal.data.mixing import build_mixing
from epochal.data.order import describe_balance
from epochal.data.spec import DataSpec
from epochal.device import precision
from epochal.errors import NotFiniteError, RecipeError
from epochal.models.build import check_model, frozen_modules, train_mode
from epochal.models.parts import parameter_groups
from epochal.recipe import Recipe
from epochal.tasks.losses import Loss, LossFunction, own_loss
from epochal.training.average import MovingAverage
from epochal.training.best import Best
from epochal.training.compiled import Forward, compiled
from epochal.training.history import EpochSaved, plain_history
from epochal.training.memory import check_memory
from epochal.training.optim import MakeOptimizer, Optimizer, build_optimizer, describe_optimizer, groups_of, in_short
from epochal.training.own import own_optimizer
from epochal.training.records import EpochDone
from epochal.training.saved import Count, Saved, State, Stateful, check_tensors, nested, part
from epochal.training.schedule import Schedule, ScheduleFunction
from epochal.training.sharing import Sharing, Threads
from epochal.training.trial import Trial
from epochal.training.update import Update


class _Saved(Saved):
    epoch: Annotated[int, Field(ge=1)]
    step: Count
    elapsed: Annotated[float, Field(ge=0)]
    epoch_began: Annotated[float, Field(ge=0)]
    history: list[EpochSaved]


@dataclass
class Training:
    """The state of training: what `train_step` changes, and what it needs.

    `began` is when training would have begun without breaks, on the clock of `time.perf_counter`; `epoch_began`, how many seconds of
    training there were before this epoch. `constants` are the model's buffers that were not finite from the beginning, such as
    the -inf of a mask: they may stay so. `frozen` are the modules that stay in evaluation mode, `parts` what has a state of its own.
    """

    recipe: Recipe
    device: torch.device
    model: nn.Module
    frozen: tuple[nn.Module, ...]
    forward: Forward
    loss: Loss
    optimizer: Optimizer
    update: Callable[[], None]
    rates: list[float]
    schedule: Schedule
    scaler: torch.amp.GradScaler
    average: MovingAverage | None
    total_steps: int
    best: Best
    loss_sum: Tensor
    constants: frozenset[str]
    threads: Threads
    parts: Mapping[str, Stateful]
    sharing: Sharing | None = None
    began: float = field(default_factory=time.perf_counter)
    epoch_began: float = 0.0
    epoch: int = 1
    step: int = 0
    history: list[EpochDone] = field(default_factory=list)

    @property
    def steps_of_epoch(self) -> int:
        """How many steps of this epoch are made."""
        return self.step - (self.epoch - 1) * self.schedule.steps_per_epoch

    @property
    def position(self) -> tuple[int, int, int]:
        """How many steps were made, which epoch it is, and how often training was rewound."""
        return self.step, self.epoch, len(self.schedule.rewinds)

    @property
    def deadline(self) -> float:
        """When training must end, on the clock of `time.perf_counter`."""
        return self.began + (self.recipe.max_seconds or math.inf)

    def elapsed(self) -> float:
        """Return how many seconds training has taken, in all sittings together."""
        return time.perf_counter() - self.began

    def rate(self) -> float:
        """Return the highest learning rate of the last step; NaN where the optimizer does not say."""
        if not self.schedule.is_constant:
            return self.schedule.factor(self.step - 1) * max(self.rates)
        # An optimizer of the user's own may change its rates by itself.
        return max((float(group["lr"]) for group in groups_of(self.optimizer) if "lr" in group), default=math.nan)

    def train_mode(self) -> None:
        """Put the model into training mode, but for what the user froze."""
        train_mode(self.model, self.frozen)

    def state_dict(self) -> State:
        """Return all that decides the rest of training, as tensors and JSON values."""
        own = {"epoch": self.epoch, "step": self.step, "elapsed": self.elapsed(), "epoch_began": self.epoch_began}
        return own | {"history": plain_history(self.history), "loss_sum": self.loss_sum} | self._state_of_parts()

    def load_state_dict(self, state: State) -> None:
        """Go on from a state. Raises `ValueError` for one that no training of this model, with these settings, comes to."""
        saved = _Saved.read(
            {name: value for name, value in state.items() if name.partition("/")[0] not in self.parts}, {"loss_sum": self.loss_sum}
        )
        done = len(saved.history)
        if [epoch.epoch for epoch in saved.history] != list(range(1, done + 1)) or saved.epoch != done + 1:
            raise ValueError(f"its epochs are not those before epoch {saved.epoch}")
        for name, holder in self.parts.items():
            kept = part(state, name)
            try:
                if holder is self.model:
                    check_tensors(kept, self.model.state_dict())
                holder.load_state_dict(kept)
            except ValueError as error:
                raise ValueError(f"{name}/{error}") from error
        if not all(bool(done) <= epoch <= done for epoch in (self.best.epoch, self.best.improved)):
            raise ValueError(f"its best epoch is not one of {done}")
        self.loss_sum.copy_(state["loss_sum"])
        self.epoch, self.step, self.epoch_began = saved.epoch, saved.step, saved.epoch_began
        self.history[:] = [epoch.record() for epoch in saved.history]
        # Where training ended within an epoch, fewer steps were made than the epochs before the next one have.
        if abs(self.steps_of_epoch) > self.schedule.steps_per_epoch:
            raise ValueError(f"step {self.step} is not in epoch {self.epoch}")
        self.began = time.perf_counter() - saved.elapsed

    def _state_of_parts(self) -> State:
        return nested({name: holder.state_dict() for name, holder in self.parts.items()})

    def check_finite(self) -> None:
        """Raise `NotFiniteError` where a tensor of the state has a value that is not finite. This waits for the device."""
        constants = tuple(f"/{name}" for name in self.constants)
        for name, tensor in {"loss_sum": self.loss_sum, **self._state_of_parts()}.items():
            if isinstance(tensor, Tensor) and not tensor.isfinite().all() and not name.endswith(constants):
                when = f"after step {self.step}" if self.step else "before the first step"
                raise NotFiniteError(
                    f"{name.replace('/', ' ')} has a value that is not finite {when}; it is not saved.",
                    "Use a smaller --lr, or set clip_norm; check the inputs' scale."
                    if self.step
                    else "Fix the weights that the model begins with.",
                )


def training_feed(examples: Examples, spec: DataSpec, recipe: Recipe, device: torch.device) -> Feed:
    """Return the feed that training reads from: shuffled or balanced, and augmented, as the recipe says. Raises `RecipeError`."""
    if device.type == "mps" and (spec.dtype == "float64" or spec.task.needs_float64):
        raise RecipeError("These data need float64, which the device mps does not have.", "Use --device cpu, or bring them nearer to 0.")
    balanced = recipe.data.sampling == "balanced"
    if balanced and not spec.task.has_classes:
        raise RecipeError(f"The setting data.sampling = balanced does not work for {spec.task.name} targets.", "Leave it out.")
    if balanced and recipe.loss.class_weights == "balanced":
        raise RecipeError(
            "data.sampling = balanced and loss.class_weights = balanced would make up for rare classes twice.", "Use one of the two."
        )
    return feed(
        examples,
        recipe.examples_per_step,
        device,
        shuffle_seed=recipe.seed,
        augment=spec.input.augment(recipe.augment, recipe.seed),
        mixing=build_mixing(recipe.augment, spec, recipe.seed),
        workers=recipe.workers,
        balanced=balanced,
    )


def prepare(
    model: nn.Module,
    batches: Feed,
    spec: DataSpec,
    recipe: Recipe,
    device: torch.device,
    loss: LossFunction | None,
    optimizer: MakeOptimizer | None,
    schedule: ScheduleFunction | None = None,
    *,
    has_valid: bool = True,
    log: Callable[[str], object] = lambda _: None,
) -> Training:
    """Check that settings, model and data go together, and build the state of training. `log` hears what may not be meant so."""
    if recipe.monitor == "accuracy" and not spec.task.has_accuracy:
        raise RecipeError(f"The setting monitor = accuracy does not work for {spec.task.name}.", "Use monitor = loss.")
    precision(device, recipe.precision)
    if device.type == "mps" and any(buffer.dtype == torch.float64 for buffer in model.buffers()):
        raise RecipeError(
            f"The device {device} has no float64, which the model computes in.", "Use device = cpu, or scale the data yourself."
        )
    model.to(device)
    frozen = frozen_modules(model)
    trial = Trial(model, frozen, batches.examples, spec, recipe, device)
    check_model(model, trial.inputs(3 if len(spec.outputs) == 2 else 2), spec)
    groups = parameter_groups(model)
    parameters = [parameter for group in groups for _, parameter in group["params"]]
    if isinstance(loss, nn.Module) and {id(one) for one in loss.parameters() if one.requires_grad} - {id(one) for one in parameters}:
        raise RecipeError(
            f"The loss {type(loss).__name__} has parameters of its own, which would be neither trained nor kept.",
            "Make it a part of the model, and let the loss function read it from there.",
        )
    if not parameters:
        raise RecipeError("The model has no parameters to train.", "Give it layers with weights.")
    check_memory(model, trial.inputs(2), len(batches.examples), recipe, device)
    total = min(recipe.epochs * len(batches), recipe.max_steps or recipe.epochs * len(batches))
    task = spec.task
    loss_of = own_loss(loss) if loss is not None else task.loss(recipe.loss, spec.counts["train"], device, task.output_units(model))
    notes = [trial.run(loss_of, loss, total)]
    if recipe.data.sampling == "balanced":
        notes.append(describe_balance(task.class_counts["train"], task.outputs))
    for note in filter(None, notes):
        log(f"note: {note}")
    is_own = optimizer is not None
    made = own_optimizer(optimizer, parameters) if optimizer else build_optimizer(recipe.optimizer, groups, trial.head)
    if is_own or len(groups) > 1:
        log(f"optimizer {in_short(describe_optimizer(made))}")
    groups = groups_of(made)
    follows = Schedule(recipe.schedule, recipe.epochs, len(batches), total, schedule)
    if not follows.is_constant and not (groups and all("lr" in group for group in groups)):
        raise RecipeError("An optimizer without param_groups, each with its lr, cannot follow a schedule.", "Set schedule = constant.")
    if recipe.on_nan == "rewind" and not isinstance(made, torch.optim.Optimizer):
        raise RecipeError("An optimizer that is none of torch.optim's cannot be rewound: its state cannot be kept.", "Set on_nan = stop.")
    scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "fp16")
    update = Update(made, scaler, is_own=is_own)
    average = MovingAverage(model, recipe.ema) if recipe.ema else None
    best, threads = Best(recipe, model, has_valid=has_valid), Threads(recipe.threads_per_step)
    parts: dict[str, Stateful] = {"model": model, "optimizer": update, "schedule": follows, "best": best, "threads": threads}
    if average is not None:
        parts["average"] = average
    training = Training(
        recipe=recipe,
        device=device,
        model=model,
        frozen=frozen,
        forward=compiled(model, recipe, device) if recipe.compile == "on" else model,
        loss=loss_of,
        optimizer=made,
        update=update,
        rates=[float(group["lr"]) for group in groups if "lr" in group],
        schedule=follows,
        scaler=scaler,
        average=average,
        total_steps=total,
        best=best,
        loss_sum=torch.zeros((), device=device),
        constants=frozenset(name for name, buffer in model.named_buffers() if not buffer.isfinite().all()),
        threads=threads,
        parts=parts,
    )
    training.check_finite()
    return training
