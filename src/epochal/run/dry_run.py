"""Dry run: all that comes before training, and one step, with nothing kept."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from epochal.device import computing
from epochal.errors import TrainingError
from epochal.models.summary import Summary
from epochal.progress import silent
from epochal.random import fork_rng
from epochal.recipe import Recipe
from epochal.run.folder import check_free
from epochal.run.folds import plan_folds
from epochal.run.prepare import prepare
from epochal.run.repeats import plan_repeats
from epochal.training.build import build_training, training_feed
from epochal.training.loop import train_step
from epochal.training.own import Own


def dry_run(
    source: Any,
    recipe: Recipe,
    *,
    model: nn.Module | None = None,
    out: Path | None = None,
    data_dir: str | Path | None = None,
    log: Callable[[str], object] = silent,
) -> tuple[Recipe, Summary]:
    """Do what `run` of `run/train.py` does before training, and one step on a copy of the model; keep nothing.

    Returns the resolved recipe and the model's summary. Raises what `run` would raise before its first step, and `TrainingError` where
    that step gives no finite loss.
    """
    check_free(out)
    prepared = prepare(source, recipe, Own(), model=model, data_dir=data_dir, log=log)
    plan_folds(prepared, model, log)
    plan_repeats(prepared, model, log)
    recipe, data, device = prepared.recipe, prepared.learner.data, prepared.device
    with fork_rng(device), computing(recipe.threads_per_step):
        batches = training_feed(data.train, data.spec, recipe, device)
        net, has_valid = copy.deepcopy(prepared.learner.model), data.valid is not None
        training = build_training(net, batches, data.spec, recipe, device, has_valid=has_valid, log=log)
        training.train_mode()
        train_step(training, next(batches.epoch(1)))
        loss = training.loss_sum.item() / min(recipe.examples_per_step, len(data.train))
    if not math.isfinite(loss):
        raise TrainingError(f"The loss of the first step is {loss}.", "Check the inputs' scale, and the model.")
    log(f"one step runs: loss {loss:.4f}")
    return recipe, prepared.summary
