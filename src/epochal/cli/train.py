"""epochal train"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from epochal.cli import trackers as tracking
from epochal.cli.complete import names_of
from epochal.cli.finished import report
from epochal.cli.options import (
    RecipeCommand,
    as_json,
    assignments_option,
    data_dir,
    importing,
    numbered,
    pair,
    processes,
    recipe_from,
    recipe_option,
    settings,
)
from epochal.cli.output import say, say_json
from epochal.distributed import leads

if TYPE_CHECKING:
    from epochal.training.records import Watcher


@click.command(cls=RecipeCommand, params=list(settings()))
@click.argument("data", default="digits", shell_complete=names_of("datasets", files=True))
@recipe_option
@assignments_option
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="NAME=KIND",
    help="Tables: what a column means: number, category or date; for the target, joined: labels that differ only by blanks, case or a "
    "full stop are one. May be repeated.",
)
@click.option("--out", type=click.Path(path_type=Path), help="The run folder; it must not exist yet. [runs/DATA-NUMBER]")
@data_dir
@click.option(
    "--dry-run",
    "is_dry",
    is_flag=True,
    help="Show every setting with its origin, the data and the model, try one step, and write nothing but the cache.",
)
@click.option(
    "--learning-curve",
    is_flag=True,
    help="Then train with an eighth, a quarter and half of the examples, five times each, and show what twice as many would bring.",
)
@click.option(
    "--label-check",
    is_flag=True,
    help="Then train again with some labels changed on purpose, up to eight times: how many are found, and what is the list of wrong "
    "labels worth?",
)
@tracking.tensorboard
@tracking.mlflow
@processes
@as_json
def command(
    data: str,
    recipe_name: str | None,
    assignments: tuple[str, ...],
    columns: tuple[str, ...],
    out: Path | None,
    data_dir: str | None,
    tensorboard: Path | None,
    mlflow: str | None,
    is_dry: bool,
    learning_curve: bool,
    label_check: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Train a model on DATA, test it once, and save everything in a run folder.

    DATA is a name (`epochal datasets` lists them), a folder of pictures, sounds or texts, or an .npz, .npy or .safetensors file.
    Without it: handwritten digits, which need no download.

    Ctrl-C or SIGTERM: the step is finished, a checkpoint is written, and `epochal resume` continues from there; a second one ends at once.
    SIGUSR1 (kill -USR1 PID) writes a checkpoint, and training continues.
    """
    from epochal.recipe import Recipe, load_recipe

    if is_dry and (learning_curve or label_check):
        option = "--learning-curve" if learning_curve else "--label-check"
        raise click.UsageError(f"--dry-run trains nothing, so there can be no {option}.")
    recipe = recipe_from(load_recipe(recipe_name) if recipe_name else Recipe(), options, assignments)
    if columns:
        recipe = recipe.updated({"data.columns": dict(map(pair, columns))}, "command line")
    # PyTorch is imported only now, once the settings are known to be valid.
    with importing():
        from epochal.run.dry_run import dry_run
        from epochal.run.train import run
        from epochal.watch.console import Console

    if is_dry:
        settled, summary = dry_run(data, recipe, out=out, data_dir=data_dir, log=say)
        say(f"\n{summary}\n\n{settled.to_toml()}")
        if as_json:
            say_json({"recipe": settled.model_dump(mode="json"), "origins": settled.origins()})
        return

    with ExitStack() as stack:
        watchers: list[Watcher] = [stack.enter_context(Console()), *tracking.trackers(stack, tensorboard, mlflow)]
        place = out or numbered(data)
        done = run(
            data, recipe, out=place, data_dir=data_dir, watchers=watchers, log=say, learning_curve=learning_curve, label_check=label_check
        )

    if leads():
        report(done, as_json=as_json)
