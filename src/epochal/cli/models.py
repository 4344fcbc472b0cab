"""epochal models"""

from __future__ import annotations

import click

from epochal.cli.output import say


@click.command()
def command() -> None:
    """List the models. Their options are set with --set model.OPTION=VALUE."""
    from epochal.cli.options import print_list
    from epochal.models.build import MODELS, TUTORIALS

    models = {name: entry.description for name, entry in MODELS.items() if name not in TUTORIALS}
    print_list(models | {"FILE.py:NAME": "your own nn.Module: a class or function without arguments, or taking the data's description"})
    say("\nThe networks of tutorials, for comparison:\n")
    print_list({name: entry.description for name, entry in TUTORIALS.items()})
