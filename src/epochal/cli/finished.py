"""What the command prints about a finished run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from epochal.cli.output import print_table, say, say_json
from epochal.language import columns, translated
from epochal.terminal import command

if TYPE_CHECKING:
    from epochal.evaluation.importance import Importance
    from epochal.run.train import Run


def report(done: Run, *, as_json: bool) -> None:
    """Print the result, where it is saved, and what to type next."""
    assert done.folder is not None
    say(f"\n{done.test}" if done.test is not None else "\nThere was no test data.")
    if done.test is not None:
        from epochal.evaluation.advice import advice

        for line in advice(done.test, done.data.spec, done.recipe):
            say(line)
    if done.importance is not None:
        _say_importance(done.importance)
    say(f"  run       {done.folder}")
    pictures = sorted((done.folder / "figures").glob("*.png"))
    for number, picture in enumerate(pictures):
        label = "" if number else translated("pictures")
        say(f"  {label}{' ' * (8 - columns(label))}  {picture}")
    say(f"  next      {command('epochal', 'predict', done.folder, done.data.spec.input.sample_file)}")
    say(f"            {command('epochal', 'evaluate', done.folder)}")
    if as_json:
        say_json(done.result)


def _say_importance(found: Importance) -> None:
    from rich.markup import escape
    from rich.table import Table

    say(found.title)
    table = Table(box=None, pad_edge=False)
    for place, heading in enumerate(found.heading):
        table.add_column(translated(heading), justify="right" if place else "left", no_wrap=bool(place), overflow="fold")
    for name, *values in (rows := found.table()):
        table.add_row(escape(name), *map(translated, values))
    print_table(table)
    if more := len(found.columns) - len(rows):
        say(f"  and {more:,} more columns in result.json")
    if warning := found.warning():
        say(f"note: {warning}")
