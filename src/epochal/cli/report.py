"""epochal report"""

from __future__ import annotations

from pathlib import Path

import click

from epochal.cli.options import importing
from epochal.cli.output import say


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Where to write it. [RUN/report.html]")
def command(run: Path, out: Path | None) -> None:
    """Write the report of RUN again: one HTML page that needs nothing else.

    `epochal train` writes it at the end of every run. It needs neither the data nor the network: all it shows is in the run's folder.
    """
    with importing():
        from epochal.run.report import report

    say(f"  report    {report(run, out)}")
