"""The state of training, built and checked before the first step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from epochal.data.examples import Examples
from epochal.data.feed import Feed, feed, targets_on
from epochal.data.inputs.values import access
from epochal.data.mixing import build_mixing
from epochal.data.order import describe_balance
from epochal.data.slices import Slices
from epochal.data.spec import DataSpec
from epochal.device import choose, precision
from epochal.distributed.ranks import ALONE, Ranks
from epochal.errors import RecipeError
from epochal.models.build import check_model, frozen_modules
from epochal.models.parts import parameter_groups
from epochal.recipe import Recipe
from epochal.tasks.losses import Loss, LossFunction, own_loss
from epochal.training.average import MovingAverage
from epochal.training.best import Best
from epochal.training.compiled import Forward, compiled
from epochal.training.distributed import Distributed, check_used
from epochal.training.label_history import LabelHistory
from epochal.training.memory import check_memory
from epochal.training.optim import Optimizer, build_optimizer, describe_optimizer, groups_of, in_short
from epochal.training.own import Own, own_optimizer
from epochal.training.saved import Stateful
from epochal.training.schedule import Schedule
from epochal.training.sharing import Threads
from epochal.training.state import Training
from epochal.training.traced.step import TracedStep
from epochal.training.trial import Trial
from epochal.training.update import Update

PLAIN_BATCH_SIZE = 64


def plain_settings(recipe: Recipe) -> Recipe:
    """Return the recipe with the plain choice for what is "auto": the usual device, PyTorch's number of threads, float32.

    Raises `RecipeError` for a device that is not available.
    """
    device = choose(recipe.device)
    plain = {"device": str(device), "threads": torch.get_num_threads(), "batch_size": PLAIN_BATCH_SIZE, "precision": "fp32"}
    return recipe.updated({name: value for name, value in plain.items() if getattr(recipe, name) == "auto"}, "this machine")


def training_feed(examples: Examples, spec: DataSpec, recipe: Recipe, device: torch.device, ranks: Ranks = ALONE) -> Feed:
    """Return the feed that training reads from: shuffled or balanced, and augmented, as the recipe says. Raises `RecipeError`.

    Of several `ranks`, each reads its slice of every batch.
    """
    if device.type == "mps" and (spec.dtype == "float64" or spec.task.needs_float64):
        raise RecipeError("These data need float64, which the device mps does not have.", "Use --device cpu, or shift them closer to 0.")
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
        slices=Slices(ranks.rank, ranks.size, recipe.accumulate),
    )


def build_training(
    model: nn.Module,
    batches: Feed,
    spec: DataSpec,
    recipe: Recipe,
    device: torch.device,
    own: Own | None = None,
    *,
    has_valid: bool = True,
    ranks: Ranks = ALONE,
    log: Callable[[str], object] = lambda _: None,
) -> Training:
    """Check that settings, model and data fit together, and build the state of training. `log` is called with notes on possible
    mistakes."""
    own, task = own or Own(), spec.task
    _check_settings(model, spec, recipe, device)
    model.to(device)
    frozen = frozen_modules(model)
    trial = Trial(model, frozen, batches.examples, spec, recipe, device, ranks)
    check_model(model, trial.inputs(3 if len(spec.outputs) == 2 else 2), spec)
    groups = parameter_groups(model)
    parameters = _checked_parameters(groups, own.loss)
    check_memory(model, trial.inputs(2), len(batches.examples), recipe, device)
    total = min(recipe.epochs * len(batches), recipe.max_steps or recipe.epochs * len(batches))
    loss = own_loss(own.loss) if own.loss is not None else task.loss(recipe.loss, spec.counts["train"], device, task.output_units(model))
    _try_steps(trial, loss, own, total, ranks, log)
    optimizer = own_optimizer(own.optimizer, parameters) if own.optimizer else build_optimizer(recipe.optimizer, groups, trial.head)
    _say_rates(optimizer, own, log)
    schedule = Schedule(recipe.schedule, recipe.epochs, len(batches), total, own.schedule)
    scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "fp16")
    update = Update(optimizer, scaler, is_own=own.optimizer is not None)
    average = MovingAverage(model, recipe.ema) if recipe.ema else None
    best, threads = Best(recipe, model, has_valid=has_valid), Threads(recipe.threads_per_step)
    labels = LabelHistory(task, targets_on(device, batches.examples.targets))
    distributed = Distributed(model, recipe, device, ranks, log)
    parts = _there(model=model, optimizer=update, schedule=schedule, best=best, threads=threads, labels=labels, average=average)
    training = Training(
        recipe=recipe,
        device=device,
        model=model,
        frozen=frozen,
        distributed=distributed,
        forward=_forward(distributed, recipe, device),
        traced=_traced(model, loss, recipe, device, own, optimizer, batches.examples, distributed),
        loss=loss,
        optimizer=optimizer,
        update=update,
        rates=_rates(optimizer, schedule),
        schedule=schedule,
        scaler=scaler,
        average=average,
        total_steps=total,
        best=best,
        loss_sum=torch.zeros((), device=device),
        constants=frozenset(name for name, buffer in model.named_buffers() if not buffer.isfinite().all()),
        threads=threads,
        labels=labels,
        parts=parts,
    )
    training.check_finite()
    return training


def _forward(distributed: Distributed, recipe: Recipe, device: torch.device) -> Forward:
    if recipe.compile != "on":
        return distributed.forward
    ranks = distributed.ranks
    rows = Slices(ranks.rank, ranks.size, recipe.accumulate).of(recipe.examples_per_step)[0].rows
    return compiled(distributed.forward, recipe, device, rows)


def _try_steps(trial: Trial, loss: Loss, own: Own, total_steps: int, ranks: Ranks, log: Callable[[str], object]) -> None:
    """Try steps, and say or raise what speaks against them."""
    if note := trial.run(loss, own.loss, total_steps):
        log(f"note: {note}")
    check_used(trial.unused, trial.recipe, ranks)
    if trial.recipe.data.sampling == "balanced":
        log(f"note: {describe_balance(trial.spec.task.class_counts['train'], trial.spec.task.outputs)}")


def _say_rates(optimizer: Optimizer, own: Own, log: Callable[[str], object]) -> None:
    """Say the rates of an optimizer of the user's own, and of one that has several."""
    described = describe_optimizer(optimizer)
    if own.optimizer is not None or len({group["lr"] for group in described["groups"]}) > 1:
        log(in_short(described))


def _there(**parts: Stateful | None) -> dict[str, Stateful]:
    return {name: part for name, part in parts.items() if part is not None}


def _traced(
    model: nn.Module,
    loss: Loss,
    recipe: Recipe,
    device: torch.device,
    own: Own,
    optimizer: Optimizer,
    examples: Examples,
    distributed: Distributed,
) -> TracedStep:
    """Return the traced step, or what it is that speaks against it. Raises `RecipeError` if the recipe insists on it."""
    why_not = ""
    if recipe.step == "plain":
        why_not = "as set"
    elif recipe.compile == "on":
        why_not = "the model is compiled"
    elif device.type != "cpu":
        why_not = f"steps are traced on the CPU only, not on {device}"
    elif access(examples.inputs) == "items":
        why_not = "code of your own reads examples between steps"
    elif own.schedule is not None or (own.optimizer is not None and not type(optimizer).__module__.startswith("torch.optim.")):
        why_not = f"your own {'optimizer' if own.schedule is None else 'schedule'} may change the model in any step"
    else:
        why_not = distributed.why_not_traced(recipe)

    def loss_of(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        with precision(device, recipe.precision):
            outputs = model(inputs)
            return loss(outputs, targets), outputs

    return TracedStep(
        model,
        loss_of,
        own.loss,
        optimizer,
        add_up=distributed.sums if distributed.ranks.size > 1 else None,
        drawing=distributed.drawing,
        why_not=why_not,
        insists=recipe.step == "traced",
    )


def _check_settings(model: nn.Module, spec: DataSpec, recipe: Recipe, device: torch.device) -> None:
    if recipe.monitor == "accuracy" and not spec.task.has_accuracy:
        raise RecipeError(f"The setting monitor = accuracy does not work for {spec.task.name}.", "Use monitor = loss.")
    precision(device, recipe.precision)
    if device.type == "mps" and any(buffer.dtype == torch.float64 for buffer in model.buffers()):
        raise RecipeError(
            f"The device {device} has no float64, which the model computes in.", "Use device = cpu, or scale the data yourself."
        )


def _checked_parameters(groups: list[dict[str, Any]], loss: LossFunction | None) -> list[nn.Parameter]:
    """Return the parameters to train, of all groups."""
    parameters = [parameter for group in groups for _, parameter in group["params"]]
    if isinstance(loss, nn.Module) and {one for one in loss.parameters() if one.requires_grad} - set(parameters):
        raise RecipeError(
            f"The loss {type(loss).__name__} has parameters, which would be neither trained nor saved.",
            "Make it a part of the model, and let the loss function read it from there.",
        )
    if not parameters:
        raise RecipeError("The model has no parameters to train.", "Give it layers with weights.")
    return parameters


def _rates(optimizer: Optimizer, schedule: Schedule) -> list[float]:
    """Return the highest learning rate of each of an optimizer's groups."""
    groups = groups_of(optimizer)
    if not schedule.is_constant and not (groups and all("lr" in group for group in groups)):
        raise RecipeError("An optimizer without param_groups, each with its lr, cannot follow a schedule.", "Set schedule = constant.")
    return [float(group["lr"]) for group in groups if "lr" in group]
