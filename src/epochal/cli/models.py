"""epochal models"""

from __future__ import annotations

import click


@click.command()
def command() -> None:
    """List the models. Their options are set with --set model.OPTION=VALUE."""
    from epochal.cli.options import print_list
    from epochal.models.build import MODELS

    own = {"FILE.py:NAME": "your own nn.Module: a class or function without arguments, or taking the data's description"}
    print_list({name: entry.description for name, entry in MODELS.items()} | own)
