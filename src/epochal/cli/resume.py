"""epochal resume"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from epochal.cli import trackers as tracking
from epochal.cli.finished import report
from epochal.cli.options import Positive, RecipeCommand, as_json, changes, data_dir, importing, processes, settings
from epochal.distributed import leads


@click.command(cls=RecipeCommand, params=list(settings(only_runtime=True)))
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--epochs", type=Positive(int), help="Train for this many epochs in all, more than the run was started with.")
@click.option("--model", metavar="FILE.py:NAME", help="The code of your own network, which is not in the run.")
@click.option("--data", metavar="DATA", help="Where the data are now, if they have moved.")
@data_dir
@tracking.tensorboard
@tracking.mlflow
@processes
@as_json
def command(
    run: Path,
    epochs: int | None,
    model: str | None,
    data: str | None,
    data_dir: str | None,
    tensorboard: Path | None,
    mlflow: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Continue RUN from its last checkpoint.

    The result is the same as without an interruption: the same weights and numbers, to the bit. A finished run is left alone,
    unless --epochs makes it longer. The settings listed below cannot change results: given here, they apply from now on.

    Checkpoints are written every minute (checkpoint_every), at the end of epochs, when Ctrl-C or SIGTERM ends training, and on request:
    kill -USR1 PID writes one, and training continues.
    """
    with importing():
        from epochal.run.resume import resume

    with ExitStack() as stack:
        watchers = tracking.trackers(stack, tensorboard, mlflow)
        done = resume(run, epochs=epochs, model=model, data=data, data_dir=data_dir, watchers=watchers, **changes(options))
    if done is not None and leads():
        report(done, as_json=as_json)
