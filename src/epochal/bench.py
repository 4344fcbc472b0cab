"""How fast training is for each device and batch size: measured, drawn and saved in a folder.

bench.json      every number
speed.png       the same as a picture (and as SVG)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from epochal.data.load import Data
from epochal.device import available, choose, describe, using_threads
from epochal.errors import RecipeError, TooLargeError
from epochal.figures import save, speeds
from epochal.io.files import first_free, new_directory, write_json
from epochal.progress import progress, silent
from epochal.recipe import Recipe
from epochal.run.folder import check_free, environment
from epochal.run.learner import learner_of
from epochal.run.prepare import build, load_for, with_named
from epochal.tuning.profile import Profile, profile

BATCH_SIZES = (64, 128, 256, 512)


@dataclass(frozen=True)
class Bench:
    """The result: a profile of each device and batch size that worked, and in words why the `others` did not.

    `folder` is where it was written, if anywhere.
    """

    profiles: tuple[Profile, ...]
    others: tuple[str, ...]
    result: dict[str, Any] = field(repr=False)
    folder: Path | None = None


def bench(
    source: Any,
    recipe: Recipe,
    *,
    devices: Sequence[str] = (),
    batch_sizes: Sequence[int] = (),
    seconds: float = 2.0,
    out: Path | Iterable[Path] | None = None,
    data_dir: str | Path | None = None,
    log: Callable[[str], object] = silent,
) -> Bench:
    """Measure the training that `recipe` describes on each of `devices` with each of `batch_sizes`, about `seconds` for each pair.

    The model is the one that `train` would take; of one whose trunk is frozen, the training of the head is measured. By default all
    available devices are measured, with those of `BATCH_SIZES` that the data can fill. The recipe's own `device`,
    `batch_size` and length of training do not matter. `out` is the folder for the result, which must not exist yet; of several,
    the first that is free is used; without it nothing is written. `log` is called with messages.

    Raises `RecipeError` for a device that is not available, compiled steps, a batch size that the data cannot fill, or if nothing
    could be measured.
    """
    check_free(out)
    if recipe.compile == "on":
        raise RecipeError("The phases of a compiled step cannot be measured separately.", "Leave compile out.")
    places = [choose(name) for name in devices or reversed(available())]
    recipe, data = load_for(with_named(recipe, log), source, data_dir)
    log(data.spec.describe())
    recipe, bundle = build(recipe, data, log=log)
    learner = learner_of(recipe, bundle, data, log)
    count = len(learner.data.train)
    sizes = batch_sizes or [size for size in BATCH_SIZES if size <= count] or [count]
    for size in sizes:
        if not 1 <= size <= count:
            raise RecipeError(
                f"A batch of {size:,} cannot be measured: of training examples there are {count:,}.", "Choose a size from 1 to that."
            )
    summary = bundle.summary()
    log(f"model {recipe.model.name}: {summary.parameters:,} parameters, {summary.flops:,} FLOPs per example")
    precision = "fp32" if recipe.precision == "auto" else recipe.precision
    threads = torch.get_num_threads() if recipe.threads == "auto" else recipe.threads
    described = environment(recipe.updated({"threads": threads}, "bench"), places[0], bundle.model)
    with using_threads(threads):
        log(f"measured on {' and '.join(describe(device) for device in places)}")

    fixed = recipe.updated({"threads": threads, "precision": precision}, "bench")
    trials = [fixed.updated({"device": str(device), "batch_size": size}, "bench") for device in places for size in sizes]
    found, others = _profiles(learner.model, learner.data, trials, seconds)
    if not found:
        raise RecipeError(f"Nothing could be measured. {others[0]}", "Choose smaller batches with --batch-sizes.")
    result = {
        "data": data.spec.model_dump(mode="json"),
        "model": {"name": recipe.model.name, "parameters": summary.parameters, "flops": summary.flops},
        "recipe": recipe.model_dump(mode="json"),
        "environment": described,
        "seconds": seconds,
        "profiles": [one.to_json() for one in found],
        "not_measured": others,
    }

    def write(path: Path) -> None:
        with new_directory(path) as folder:
            save(speeds(found), folder / "speed")
            write_json(folder / "bench.json", result)

    return Bench(tuple(found), tuple(others), result, None if out is None else first_free(out, write))


def _profiles(model: nn.Module, data: Data, trials: Sequence[Recipe], seconds: float) -> tuple[list[Profile], list[str]]:
    """Return a profile of each trial that works, and in words why others do not."""
    found: list[Profile] = []
    others: list[str] = []
    with progress("Measuring", len(trials)) as advance:
        for trial in trials:
            try:
                found.append(profile(model, data, trial, seconds))
            except (TooLargeError, torch.OutOfMemoryError) as error:
                others.append(f"{trial.device}, batch {trial.batch_size}: {str(error).splitlines()[0]}")
            advance()
    return found, others
