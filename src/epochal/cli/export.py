"""epochal export"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from epochal.cli.options import as_json, data_dir, importing, own_model
from epochal.cli.output import print_rows, print_table, say, say_json
from epochal.language import translated


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--to",
    type=click.Choice(["onnx", "torch-export", "safetensors", "web"]),
    default="onnx",
    show_default=True,
    help="ONNX runs without PyTorch; torch-export is PyTorch's own format; safetensors has the weights alone; web is a page that "
    "runs the model in the browser.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="The new file, or folder of a page. [default: RUN/export/model.onnx, another suffix, or web]",
)
@click.option("--examples", multiple=True, help="Compare on these files instead of the run's test data; may be repeated.")
@click.option(
    "--check", is_flag=True, help="Write nothing: compare what the model answers as trained, evaluated, in each format, and served."
)
@click.option(
    "--runtime", type=click.Path(path_type=Path), help="For a page: the file of npm pack onnxruntime-web@1.30.0. [default: downloaded]"
)
@click.option(
    "--quantize",
    is_flag=True,
    help="Compute in whole numbers of eight bits (int8): smaller, and often faster. Measured on all test examples.",
)
@click.option(
    "--max-loss",
    type=float,
    default=0.5,
    show_default=True,
    metavar="POINTS",
    help="With --quantize: lose at most so many percentage points of accuracy; for quantities, percent by which the error grows.",
)
@data_dir
@own_model
@as_json
def command(
    run: Path,
    to: str,
    out: Path | None,
    examples: tuple[str, ...],
    check: bool,
    runtime: Path | None,
    quantize: bool,
    max_loss: float,
    data_dir: str | None,
    model: str | None,
    as_json: bool,
) -> None:
    """Write the trained model of RUN as one file that takes raw inputs and answers with probabilities: preprocessing is in it.

    The file is first compared with the model on all test examples. If a label differs, or a probability by more than 0.00001, nothing is
    written, and the exit code is 1.
    """
    from rich.table import Table

    with importing():
        from epochal.run.export import export

    if check:
        if out is not None:
            raise click.UsageError("--check writes no file: leave --out out.")
        if quantize:
            raise click.UsageError("--check compares what computes in float32: leave --quantize out.")
        _check(run, list(examples) or None, data_dir, model, as_json=as_json)
        return
    found = export(
        run,
        to,
        out,
        examples=list(examples) or None,
        quantize=quantize,
        max_loss=max_loss,
        data_dir=data_dir,
        model=model,
        runtime=runtime,
        log=lambda note: say(note, err=True),
    )
    table = Table(box=None, pad_edge=False)
    for column in ("batch of", "examples", "same label", "largest difference"):
        table.add_column(translated(column), justify="right")
    for row in found.parity:
        table.add_row(str(row.batch), f"{row.examples:,}", f"{row.agree:,}", f"{row.difference:.1e}")
    print_table(table)
    if found.int8 is not None:
        say(f"in eight bits, {found.int8.cost}")
        say(found.int8.gain)
    say(f"wrote {found.path}, {found.size / 1e6:,.2f} MB")
    say(f"beside it: {', '.join(str(path.relative_to(found.path.parent)) for path in found.beside)}")
    if as_json:
        say_json(found.to_json())


def _check(run: Path, examples: list[str] | None, data_dir: str | None, model: str | None, *, as_json: bool) -> None:
    """Print how the answers compare; exit with 1 if some differ."""
    from epochal.run.parity import check

    found = check(run, examples=examples, data_dir=data_dir, model=model, log=lambda note: say(note, err=True))
    print_rows(
        ("answers", "examples", "same label", "largest difference", ""),
        [
            (translated(row.answers), f"{row.examples:,}", f"{row.same:,}", f"{row.difference:.1e}", "disagrees" * (not row.agrees))
            for row in found
        ],
    )
    if as_json:
        say_json([{**row._asdict(), "agrees": row.agrees} for row in found])
    if not all(row.agrees for row in found):
        sys.exit(1)
