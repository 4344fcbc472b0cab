"""epochal check"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from epochal import terminal
from epochal.cli.complete import names_of
from epochal.cli.options import data_dir, pair
from epochal.cli.output import print_table, say, say_json
from epochal.language import translated

if TYPE_CHECKING:
    from epochal.checks.findings import Finding

_SHOWN = 3
_COLOURS = {"error": "red", "warning": "yellow", "note": "blue"}


@click.command()
@click.argument("data", shell_complete=names_of("datasets", files=True))
@data_dir
@click.option("--target", default="", metavar="NAME", help="Tables: the column to predict, or several: by name, or by number.")
@click.option("--text", default="", metavar="NAME", help="Tables: the columns of text to learn from.")
@click.option("--ignore", default="", metavar="NAME", help="Tables: columns to leave out.")
@click.option("--column", "columns", multiple=True, metavar="NAME=KIND", help="Tables: what a column means; as in `epochal train`.")
@click.option("--valid-data", type=click.Path(), help="Tables: the file with the validation data.")
@click.option("--test-data", type=click.Path(), help="Tables: the file with the test data.")
@click.option("--file", metavar="NAME", help="Tables of pictures or sounds: the column with their names.")
@click.option("--split-column", metavar="NAME", help="Tables: the column that says which split each row is in.")
@click.option("--group", metavar="NAME", help="What must not be in two splits (people, patients): a column, or a pattern in file names.")
@click.option(
    "--html",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Also write a self-contained HTML page with thumbnails.",
)
@click.option(
    "--quarantine",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Also write a list of what to leave out, for `epochal train DATA --exclude FILE`: unreadable files, all copies but one, "
    "and copies in two classes.",
)
@click.option("--json", "as_json", is_flag=True, help="Print all findings as JSON, and nothing else.")
def command(
    data: str,
    data_dir: str | None,
    target: str,
    text: str,
    ignore: str,
    columns: tuple[str, ...],
    html: Path | None,
    quarantine: Path | None,
    as_json: bool,
    valid_data: str | None,
    test_data: str | None,
    file: str | None,
    split_column: str | None,
    group: str | None,
) -> None:
    """Find problems in DATA before training: broken files, copies, leakage, odd pictures, imbalanced classes.

    DATA is what `epochal train` takes. Nothing in it is changed. Ends with exit code 1 if there are errors: unreadable files, or
    pictures in two splits or in two classes.
    """
    from epochal.checks.check import check, check_list_output, check_page_output

    if html is not None:
        check_page_output(html)
    if quarantine is not None:
        check_list_output(quarantine)
    options: dict[str, Any] = {
        "data_dir": data_dir,
        "target": _names(target),
        "text": _names(text),
        "ignore": _names(ignore),
        "columns": dict(map(pair, columns)),
        "valid_data": valid_data,
        "test_data": test_data,
        "file": file,
        "split_column": split_column,
        "group": group,
    }
    found = check(data, **options)
    # Before the files are written: the findings are printed whatever fails later.
    if as_json:
        say_json(found.to_json())
    else:
        _print(found.summary(), found.findings)
    log = say if not as_json else lambda _: None
    if html is not None:
        found.write_html(html)
        log(f"  {html}  with what the examples look like")
    if quarantine is not None:
        left_out = found.write_quarantine(quarantine)
        words = terminal.options({**options, "exclude": quarantine})
        log(f"  {quarantine}  {left_out:,} to leave out; {terminal.command('epochal', 'train', data, *words)}")
    sys.exit(1 if found.number("error") else 0)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _print(summary: str, findings: tuple[Finding, ...]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    for finding in findings:
        words = Text(translated(finding.words))
        for case in finding.cases[:_SHOWN]:
            examples = ", ".join(case.examples[:_SHOWN]) + ", ..." * (len(case.examples) > _SHOWN)
            said = translated(case.words)
            detail = f" ({said})" if examples and said else said
            words.append(f"\n  {_printable(examples + detail)}", "dim")
        if len(finding.cases) > _SHOWN:
            words.append(translated(f"\n  and {len(finding.cases) - _SHOWN:,} more"), "dim")
        words.append(f"\n{translated(finding.fix)}")
        table.add_row(Text(translated(finding.severity), _COLOURS[finding.severity]), Text(translated(finding.kind)), words)
    say(summary)
    if findings:
        print_table(table)


def _printable(text: str) -> str:
    """Return file names as a terminal can show them: they may contain anything."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
