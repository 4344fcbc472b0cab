"""Reproduce: train a finished run again, and see whether the result is the same."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from epochal.bundle import WEIGHTS
from epochal.distributed.ranks import ranks
from epochal.errors import BundleError
from epochal.evaluation.named import Metrics
from epochal.recipe import Recipe
from epochal.run.folder import RESULT, how_to_resume, read_changes, read_epochs, read_weights
from epochal.run.reopen import in_words, resolved_recipe
from epochal.run.together import reopen_together
from epochal.tasks.losses import LossFunction
from epochal.training.loop import fit
from epochal.training.optim import MakeOptimizer
from epochal.training.own import Own
from epochal.training.records import EpochDone, Watcher
from epochal.training.schedule import ScheduleFunction
from epochal.user_code import concise
from epochal.watch.metrics_file import numbers


@dataclass(frozen=True)
class Reproduction:
    """Whether a run gave the same result: how many epochs did, where the first difference is, and what may have caused it.

    `divergence` is empty where every epoch and the weights are equal, to the bit.
    """

    epochs: int
    divergence: str
    causes: tuple[str, ...]


@concise
def reproduce(
    folder: str | Path,
    *,
    data: Any = None,
    model: str | nn.Module | None = None,
    loss: LossFunction | None = None,
    optimizer: MakeOptimizer | None = None,
    schedule: ScheduleFunction | None = None,
    metrics: Metrics = None,
    data_dir: str | Path | None = None,
    watchers: Sequence[Watcher] = (),
) -> Reproduction:
    """Train again as the finished run in `folder` was trained, and compare it epoch by epoch, and its weights at the end.

    Training ends at the first difference. Nothing is written. The arguments are as in `resume`; `causes` list what has
    changed: versions, threads, processor, device, data, or the user's own code.
    """
    folder = Path(folder)
    if not (folder / RESULT).exists():
        raise BundleError(f"{folder} has not finished, so there is nothing to compare with.", f"First: {how_to_resume(folder)}")
    here = ranks()
    prepared, differences = reopen_together(folder, resolved_recipe(folder), Own(loss, optimizer, schedule, metrics), data, model, data_dir)
    wanted, changes = read_epochs(folder), read_changes(folder, prepared.recipe)
    wanted_weights = read_weights(folder)
    # How far it was rewound depended on its checkpoints; only the cuts of the learning rate have to be repeated.
    recipe = prepared.recipe.updated({"on_nan": "stop"}, "reproduce")
    causes = (*(cause.words for cause in differences), *_unrepeatable(prepared.recipe))
    same, divergence = 0, ""

    def differs(done: EpochDone) -> str:
        nonlocal same, divergence
        was, now = wanted[done.epoch - 1] if done.epoch <= len(wanted) else {}, numbers(done)
        for name in now:
            if name not in ("seconds", "examples_per_second", "waiting") and was.get(name) != now[name]:
                divergence = f"epoch {done.epoch}: {name} was {in_words(was.get(name))}, now {in_words(now[name])}"
                return "not the same"
        same += 1
        return ""

    with here.together():
        fit(prepared.learner.model, prepared.learner.data, recipe, **vars(prepared.own), **vars(changes), watchers=watchers, stop=differs)
    if divergence:
        return Reproduction(same, divergence, causes)
    with tempfile.TemporaryDirectory() as temporary:
        weights = (prepared.bundle.save(Path(temporary) / "model") / WEIGHTS).read_bytes()
    if weights != wanted_weights:
        divergence = "the weights at the end differ, though every epoch agrees"
    return Reproduction(same, divergence, causes)


def _unrepeatable(recipe: Recipe) -> Iterator[str]:
    """Yield, in words, what about the length of a run cannot be repeated."""
    if recipe.origin("epochs") == "resume" and recipe.schedule.name in ("one-cycle", "cosine"):
        yield "the run was made longer than it was at the start, and the learning rate follows from its length"
    if recipe.max_seconds is not None:
        yield f"the run was ended by the clock (max_seconds = {recipe.max_seconds:g})"
