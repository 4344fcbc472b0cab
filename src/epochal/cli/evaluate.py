"""epochal evaluate"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from epochal.cli.complete import names_of
from epochal.cli.options import as_json, data_dir, importing, own_model, processes, windows
from epochal.cli.output import print_rows, say, say_json


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("data", required=False, shell_complete=names_of("datasets", files=True))
@data_dir
@own_model
@click.option(
    "--unreadable",
    type=click.Choice(["stop", "count"]),
    default="stop",
    show_default=True,
    help="If files of DATA cannot be read: stop, or measure without them and report how many, and which.",
)
@click.option("--file", metavar="NAME", help="If DATA is a table that lists files: the column with their names. [as in training]")
@click.option(
    "--target", metavar="NAME", help="If DATA is a table that lists files: the column with the answers, or several. [as in training]"
)
@click.option("--include-training", is_flag=True, help="Also measure on examples of DATA that RUN was trained on.")
@windows
@processes
@as_json
def command(
    run: Path,
    data: str | None,
    data_dir: str | None,
    model: str | None,
    unreadable: Literal["stop", "count"],
    file: str | None,
    target: str | None,
    include_training: bool,
    windows: int | None,
    as_json: bool,
) -> None:
    """Measure the trained model of RUN on its own test data, or on other DATA with the same classes.

    Uses the test split of DATA if it has one, else all of it. Examples that were used in training are recognized by their content,
    left out and reported. RUN may also be a copied `model` folder.
    """
    if target is not None and file is None:
        raise click.UsageError("--target goes with --file: a table of rows has its target as in training.")

    with importing():
        from epochal.io.files import finite
        from epochal.run.evaluate import evaluate_run

    columns = {} if file is None else {"file": file, "target": [name.strip() for name in (target or "").split(",") if name.strip()]}
    found = evaluate_run(
        run,
        data,
        data_dir=data_dir,
        model=model,
        unreadable=unreadable,
        include_training=include_training,
        columns=columns,
        windows=windows,
        log=say,
    )
    say(str(found))
    if found.per_class:
        scores = (*found.per_class, found.macro, found.weighted)
        print_rows(("class", "precision", "recall", "F1", "examples"), [score.row() for score in scores if score is not None])
    for line in () if found.slices is None else found.slices.lines():
        say(line)
    if as_json:
        say_json(finite(found.to_json()))
