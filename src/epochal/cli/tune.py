"""epochal tune"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from epochal.cli.complete import names_of
from epochal.cli.options import Positive, RecipeCommand, as_json, data_dir, importing, kinds_of, numbered, parse, recipe_from, settings
from epochal.cli.output import print_rows, say, say_json
from epochal.errors import RecipeError
from epochal.terminal import command as command_line

# A search has an option of that name, for other processes.
_OTHER = "workers"


@click.command(cls=RecipeCommand, params=[setting for setting in settings() if setting.name != _OTHER])
@click.argument("data", default="digits", shell_complete=names_of("datasets", files=True))
@click.option("--trials", type=click.IntRange(4), help="How many settings are tried; the first is the default. [20]")
@click.option("--minutes", type=Positive(float), help="Instead: as many as are expected to take so long, with all that follows.")
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="NAME=VALUES",
    help="What is tried, as log(LOW,HIGH), range(LOW,HIGH), both in quotes, or VALUE,VALUE,...; then only that is. One value: the same in "
    "all trials. May be repeated. [what suits the data]",
)
@click.option(
    "--seeds", type=click.IntRange(2), default=5, show_default=True, help="With so many seeds the best and the default are tested."
)
@click.option(
    "--recipe",
    "recipe_name",
    help="The default to search around: a name from `epochal recipes`, or a TOML file.",
    shell_complete=names_of("recipes", files=True),
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    help="How many trials are trained at once, each by one thread; the result is the same. [the cores, at most 4]",
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="The folder of the search; if it has been begun, it goes on. [runs/DATA-tune-NUMBER]"
)
@data_dir
@as_json
def command(
    data: str,
    trials: int | None,
    minutes: float | None,
    assignments: tuple[str, ...],
    seeds: int,
    recipe_name: str | None,
    workers: int | None,
    out: Path | None,
    data_dir: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Search for better settings for DATA, and say what they are worth on test data that the search never sees.

    Trials are trained on training data and judged by validation data: all for a quarter of their epochs, the better half for a half, the
    better half of these to the end. Then the best and the default are trained with several fresh seeds, and tested.

    Ctrl-C or a kill loses nothing: the same command with --out FOLDER goes on. On other machines that share the folder, it helps.
    """
    from epochal.recipe import Recipe, load_recipe

    space, fixed = _split(assignments)
    recipe = recipe_from(load_recipe(recipe_name) if recipe_name else Recipe(), options, fixed)
    with importing():
        from epochal.search.search import tune

    found = tune(
        data,
        recipe,
        space=space or None,
        trials=trials,
        minutes=minutes,
        seeds=seeds,
        out=out or numbered(data, "-tune"),
        workers=workers,
        data_dir=data_dir,
        log=say,
    )
    print_rows(found.heading, found.table())
    for line in (*found.influence_lines(), *found.verdict):
        say(line)
    say(f"  recipe    {found.recipe_file}")
    say(f"  pictures  {found.picture}")
    say(f"  next      {command_line('epochal', 'train', data, '--recipe', found.recipe_file)}")
    if as_json:
        say_json(dict(found.result))


def _split(assignments: tuple[str, ...]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return what is searched by setting, and the assignments of single values."""
    from epochal.recipe import type_of
    from epochal.search.space import is_range

    space: dict[str, Any] = {}
    fixed = []
    for assignment in assignments:
        name, equals, text = (part.strip() for part in assignment.partition("="))
        if not equals or not text:
            raise RecipeError(f"--set {assignment} has no value.", 'Write for example --set "lr=log(1e-4,1e-1)" --set model=conv,mlp')
        values = _values(text)
        if is_range(text):
            space[name] = text
        elif len(values) > 1 and not {*kinds_of(type_of(name))} <= {tuple, dict}:
            space[name] = [parse(value, type_of(name)) for value in values]
        else:
            fixed.append(assignment)
    return space, tuple(fixed)


def _values(text: str) -> list[str]:
    """Return the values of a list; commas within brackets and quotes are parts of values."""
    values, depth, quote = [""], 0, ""
    for letter in text:
        if quote or letter in "'\"":
            quote = "" if letter == quote else quote or letter
        depth += (letter in "[{(") - (letter in ")}]")
        if letter == "," and not depth and not quote:
            values.append("")
        else:
            values[-1] += letter
    return [value.strip() for value in values]
