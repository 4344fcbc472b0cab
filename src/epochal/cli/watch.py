"""epochal watch"""

from __future__ import annotations

from pathlib import Path

import click

from epochal.cli.options import importing, needing_server
from epochal.cli.output import say


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="The port of this machine; 0 takes a free one.")
def command(run: Path, port: int) -> None:
    """Show RUN in the browser while it trains: learning curves, progress, and the report at the end.

    The run may begin later. Only this machine can open the page. Ctrl-C ends the page, not the run.
    """
    with importing(), needing_server():
        from epochal.run.watch import watch

    if not run.exists():
        say(f"{run} does not exist yet: the page waits for it")
    watch(run, port, lambda url: say(f"showing {run} at {url} (Ctrl-C ends it)"))
    say("stopped")
