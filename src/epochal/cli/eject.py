"""epochal eject"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from epochal.cli.options import as_json, data_dir, importing
from epochal.cli.output import say, say_json
from epochal.language import language


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="The new program. [default: RUN/eject/script.py]")
@click.option("--lang", type=click.Choice(["en", "zh"]), help="The language of its comments. [default: that of the command]")
@click.option("--data", metavar="DATA", help="Where the data are now, if they have moved.")
@data_dir
@as_json
def command(run: Path, out: Path | None, lang: Literal["en", "zh"] | None, data: str | None, data_dir: str | None, as_json: bool) -> None:
    """Write RUN as one plain PyTorch program, to read and to change: from data to weights, without Epochal.

    It has at most 200 lines, imports PyTorch, NumPy and safetensors alone, and ends with the same weights, to the bit. Its examples are in
    a file beside it. What cannot be written so is said by name, and then nothing is written.
    """
    with importing():
        from epochal.run.eject import eject

    chosen = lang or ("zh" if language() == "zh" else "en")
    found = eject(run, out, language=chosen, data=data, data_dir=data_dir, log=lambda note: say(note, err=True))
    say(f"wrote {found.program}, {found.lines} lines, and its data, {found.data}")
    say(f"Run it: python {found.program}")
    if as_json:
        say_json({"program": str(found.program), "lines": found.lines, "data": str(found.data)})
