"""epochal recipes"""

from __future__ import annotations

import click

from epochal.cli.complete import names_of
from epochal.cli.output import say


@click.command()
@click.argument("name", required=False, shell_complete=names_of("recipes"))
def command(name: str | None) -> None:
    """List the recipes, or show every setting of the recipe NAME, with its origin, as a TOML file to start from."""
    from epochal.cli.options import print_list
    from epochal.recipe import load_recipe, presets, tutorials

    if name is None:
        print_list(presets())
        say("\nThe programs of tutorials, for comparison:\n")
        print_list(tutorials())
    else:
        say(load_recipe(name).to_toml(), nl=False)
