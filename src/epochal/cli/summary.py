"""epochal summary"""

from __future__ import annotations

from pathlib import Path

import click

from epochal.cli.complete import names_of
from epochal.cli.options import as_json, data_dir
from epochal.cli.output import say, say_json


@click.command()
@click.argument("what", default="digits", shell_complete=names_of("datasets", files=True))
@click.option("--recipe", help="Build the model of this recipe for DATA.", shell_complete=names_of("recipes", files=True))
@data_dir
@click.option(
    "--model",
    help="Build this model for DATA: a name, or FILE.py:NAME; for a run with your own network, its code.",
    shell_complete=names_of("models", files=True),
)
@as_json
def command(what: str, recipe: str | None, data_dir: str | None, model: str | None, as_json: bool) -> None:
    """Show the layers of the model of a run, or of the one that would be trained on data: shapes, parameters, FLOPs.

    WHAT is a run folder or DATA.
    """
    from epochal.bundle import Bundle, is_bundle
    from epochal.recipe import Recipe, load_recipe
    from epochal.run.prepare import build, load_for, with_named

    if is_bundle(Path(what)):
        bundle = Bundle.load(what, model, log=lambda note: say(note, err=True))
    else:
        wanted = load_recipe(recipe) if recipe else Recipe()
        wanted = wanted.updated({"model": model}, "command line") if model else wanted
        bundle = build(*load_for(with_named(wanted), what, data_dir))[1]
    found = bundle.summary()
    say(str(found))
    if as_json:
        say_json(found.to_json())
