"""epochal datasets"""

from __future__ import annotations

import click

# What can be read besides the named data sets.
_OTHERS = {
    "FOLDER": "pictures as FOLDER/CLASS/…, or FOLDER/train/CLASS/… with valid and test beside train",
    "FILE.npz": "arrays x and y, or x_train, y_train, x_test, y_test",
    "x.npy": "inputs, with targets in y.npy beside it",
    "FILE.safetensors": "tensors named as in .npz",
}


@click.command()
def command() -> None:
    """List the named data sets, and what else can be read."""
    from epochal.cli.options import print_list
    from epochal.data.sources import SOURCES

    print_list({name: source.about for name, source in SOURCES.items()} | _OTHERS)
