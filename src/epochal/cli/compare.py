"""epochal compare"""

from __future__ import annotations

from pathlib import Path

import click

from epochal.cli.options import as_json, importing
from epochal.cli.output import print_rows, say, say_json

# So many examples are named.
_NAMED = 5


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@click.option(
    "--score",
    type=click.Choice(["accuracy", "balanced-accuracy", "macro-f1", "log-loss", "mae", "rmse"]),
    help="What is compared: by default accuracy for classes and labels, mae for quantities.",
)
@click.option(
    "--html", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Also write the result as a self-contained HTML page."
)
@as_json
def command(runs: tuple[Path, ...], score: str | None, html: Path | None, as_json: bool) -> None:
    """Compare finished RUNs on their test examples, which must be the same: is one better than the first by more than chance?

    Says how much better, with an interval, and how large a difference these examples could have shown. Runs may be of any models, recipes
    and seeds. To give runs of several seeds the same test examples, train them with one --split-seed. Runs without test data are compared
    by their answers out of fold, if all were trained with --folds.
    """
    with importing():
        from epochal.io.files import finite, write_text
        from epochal.report.comparison import check_page_output, render
        from epochal.run.compare import compare

    if html is not None:
        check_page_output(html)
    found = compare(*runs, score=score)
    say(found.title)
    for title, rows in (("", found.run_table), ("", found.setting_table), (found.pair_title, found.pair_table)):
        if title:
            say(title)
        if rows:
            print_rows(rows[0], rows[1:])
    for pair in found.pairs:
        difference = pair.difference
        say(found.verdict(pair))
        found_only = (pair.second, difference.second_only, pair.second_only), (pair.first, difference.first_only, pair.first_only)
        for name, number, names in found_only:
            if number:
                listed = ", ".join(names[:_NAMED]) + ", ..." * (number > _NAMED)
                say(f"  only {name} is right on {number:,} example{'s' * (number > 1)}: {listed}")
    for note in found.notes:
        say(f"note: {note}")
    if html is not None:
        write_text(html, render(found))
        say(f"  {html}  with charts")
    if as_json:
        say_json(finite(found.to_json()))
