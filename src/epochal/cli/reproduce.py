"""epochal reproduce"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from epochal.cli.options import as_json, data_dir, importing, processes
from epochal.cli.output import say, say_json
from epochal.shown import counted


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--model", metavar="FILE.py:NAME", help="The code of your own network, which is not in the run.")
@click.option("--data", metavar="DATA", help="Where the data are now, if they have moved.")
@data_dir
@processes
@as_json
@click.pass_context
def command(context: click.Context, run: Path, model: str | None, data: str | None, data_dir: str | None, as_json: bool) -> None:
    """Repeat the training of RUN, and compare each epoch and the final weights.

    Ends with exit code 1 at the first difference, and reports what has changed since.
    """
    with importing():
        from epochal.run.reproduce import reproduce
        from epochal.watch.console import Console

    with Console() as console:
        found = reproduce(run, model=model, data=data, data_dir=data_dir, watchers=[console])
    if found.divergence:
        say(f"\nNot the same: {found.divergence}.")
        say("\n".join(f"  {cause}" for cause in found.causes) or "  Nothing else is known to have changed.")
    else:
        say(f"\nThe same to the bit: {counted(found.epochs, 'epoch')}, and the weights.")
    if as_json:
        say_json(asdict(found))
    if found.divergence:
        context.exit(1)
