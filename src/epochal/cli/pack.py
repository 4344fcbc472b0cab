"""epochal pack"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from epochal import terminal
from epochal.cli.options import RecipeCommand, as_json, assignments_option, data_dir, importing, pair, recipe_from, recipe_option, settings
from epochal.cli.output import say, say_json
from epochal.shown import counted


@click.command(cls=RecipeCommand, params=list(settings()))
@click.argument("data")
@click.option(
    "--to", required=True, metavar="URL", help="Where to: a folder, or file://, s3:// or hf:// with its name; it must be new or empty."
)
@recipe_option
@assignments_option
@click.option("--column", "columns", multiple=True, metavar="NAME=KIND", help="Tables: what a column means; as in `epochal train`.")
@click.option("--like", type=click.Path(path_type=Path), metavar="RUN", help="Pack for the model of RUN, to evaluate it or to predict.")
@data_dir
@as_json
def command(
    data: str,
    to: str,
    recipe_name: str | None,
    assignments: tuple[str, ...],
    columns: tuple[str, ...],
    like: Path | None,
    data_dir: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Write DATA to a folder or an object store, from which `epochal train URL` reads what it needs when it needs it.

    DATA is what `epochal train` takes, and is read and checked in the same way, with the same settings, which then hold for good. Nothing
    is overwritten; what was interrupted goes on with the same command.
    """
    from epochal.recipe import Recipe, load_recipe

    recipe = recipe_from(load_recipe(recipe_name) if recipe_name else Recipe(), options, assignments)
    if columns:
        recipe = recipe.updated({"data.columns": dict(map(pair, columns))}, "command line")
    with importing():
        from epochal.run.pack import write

    try:
        done = write(data, to, recipe, data_dir=data_dir, like=like, log=say)
    except KeyboardInterrupt:
        say("What is written stays: the same command goes on.", err=True)
        raise
    say(f"packed {counted(done.examples, 'example')} in {counted(done.shards, 'shard')}, {done.size / 1e6:,.1f} MB: {done.place}")
    if done.reused:
        say(f"{counted(done.reused, 'file')} {'was' if done.reused == 1 else 'were'} there already")
    say(f"  next      {terminal.command('epochal', 'train', done.place)}")
    if as_json:
        say_json(done._asdict())
