"""epochal lr"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from epochal.cli.complete import names_of
from epochal.cli.options import (
    RecipeCommand,
    as_json,
    assignments_option,
    data_dir,
    importing,
    numbered,
    recipe_from,
    recipe_option,
    settings,
)
from epochal.cli.output import say, say_json


@click.command(cls=RecipeCommand, params=list(settings()))
@click.argument("data", default="digits", shell_complete=names_of("datasets", files=True))
@click.option("--steps", type=click.IntRange(20), default=200, show_default=True, help="How many steps, from a rate of 1e-7 to 10.")
@recipe_option
@assignments_option
@click.option("--out", type=click.Path(path_type=Path), help="The folder for the result; it must not exist yet. [runs/DATA-lr-NUMBER]")
@data_dir
@as_json
def command(
    data: str,
    steps: int,
    recipe_name: str | None,
    assignments: tuple[str, ...],
    out: Path | None,
    data_dir: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Find a learning rate for DATA: make steps with growing rates, and see where the loss falls (Smith, 2017).

    The suggestion is a tenth of the rate at which the smoothed loss is lowest: a highest rate for a schedule such as one-cycle. The
    trained weights are discarded. `epochal tune` tries whole trainings instead.
    """
    from epochal.recipe import Recipe, load_recipe

    recipe = recipe_from(load_recipe(recipe_name) if recipe_name else Recipe(), options, assignments)
    with importing():
        from epochal.run.rates import FIGURE, find_rate

    found = find_rate(data, recipe, steps=steps, out=out or numbered(data, "-lr"), data_dir=data_dir, log=say)
    for line in found.verdict:
        say(line)
    assert found.folder is not None
    say(f"  picture   {found.folder / FIGURE}.png")
    if as_json:
        say_json(found.to_json())
