"""epochal predict"""

from __future__ import annotations

import glob
import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from epochal.cli.options import as_json, own_model, processes, windows
from epochal.cli.output import say, say_error, say_json
from epochal.errors import RecipeError
from epochal.language import columns
from epochal.shown import counted

if TYPE_CHECKING:
    from torch import Tensor

    from epochal.bundle import Bundle
    from epochal.data.inputs.base import InputRule
    from epochal.io.continued import Continued
    from epochal.predictor import Answer, Runtime
    from epochal.tasks.base import Prediction

# The first columns of a table of predictions; the values of the outputs follow.
_COLUMNS = ("file", "label", "probability", "runner_up", "runner_up_probability")

# So many inputs are compared in scale with those of training.
_COMPARED = 1000


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("files", nargs=-1, type=click.Path())
@click.option("--text", "texts", multiple=True, help="Predict this text, for a model of texts; may be repeated.")
@click.option(
    "--csv",
    "csv_file",
    type=click.Path(path_type=Path),
    help="Write the predictions, with the value of every output, to this CSV file; of a table with all of its columns.",
)
@click.option(
    "--picture", type=click.Path(path_type=Path), help="Write each picture, titled with its prediction, as PNG and SVG into this folder."
)
@click.option(
    "--runtime",
    type=click.Choice(["auto", "eager", "compiled", "onnx"]),
    default="auto",
    show_default=True,
    help="What computes: PyTorch as it is, its compiler, or ONNX Runtime; auto measures where there is much to predict.",
)
@click.option("--strict", is_flag=True, help="Stop at the first file that cannot be read.")
@windows
@own_model
@processes
@as_json
def command(
    run: Path,
    files: tuple[str, ...],
    texts: tuple[str, ...],
    csv_file: Path | None,
    picture: Path | None,
    runtime: Runtime,
    strict: bool,
    windows: int | None,
    model: str | None,
    as_json: bool,
) -> None:
    """Predict with the trained model of RUN what is in FILES: pictures, sounds or texts, folders of them, tables, or .npy files of inputs.

    With - as FILE, each line of the standard input is a text.

    A file that cannot be read is reported, the others are predicted, and the exit code is 1. If it is interrupted, the same command with
    --csv goes on where it stopped.
    """
    if not files and not texts:
        raise click.UsageError("Missing argument 'FILES...'.")
    from epochal.distributed.ranks import ranks
    from epochal.predictor import Predictor
    from epochal.progress import silent

    here = ranks()
    log = (lambda text: say(text, err=True)) if here.leads else silent
    bundle, items = here.first(lambda: _opened(run, model, windows, files, texts, picture, log))
    if csv_file is not None and _lists(bundle, files):
        if here.size > 1:
            raise RecipeError(
                "There are several processes, but a table with its predictions is written by one process.",
                "Leave --csv out, or use one process.",
            )
        _predict_table(bundle, files, csv_file, as_json=as_json)
        return
    predictor = Predictor(bundle, runtime=runtime)
    found = here.first(lambda: predictor.find(items))
    digest = _digest(found.items)
    here.check_same("The files", digest)
    shown = _Shown(bundle, items, picture, csv_file, as_json=as_json)
    with here.together(), ExitStack() as stack:
        tables: list[Continued] = []

        def begin() -> tuple[int, int]:
            if csv_file is None:
                return 0, 0
            tables.append(stack.enter_context(_table(csv_file, bundle, digest)))
            return tables[0].rows, tables[0].empty

        skip, shown.failed = here.tell(begin)
        shown.answered = skip - shown.failed
        if skip:
            log(f"note: {csv_file} goes on after {counted(skip, 'row')}")
        for answer in predictor.stream(
            found, skip=skip, strict=strict, label="Predicting", log=lambda note: log(f"note: {note}"), ranks=here
        ):
            shown.add(answer)
            for table in tables:
                table.writer.writerow(_csv_row(answer, bundle.classes))
    sys.exit(shown.end() if here.leads else 0)


def _opened(
    run: Path,
    model: str | None,
    windows: int | None,
    files: Sequence[str],
    texts: Sequence[str],
    picture: Path | None,
    log: Callable[[str], object],
) -> tuple[Bundle, list[object]]:
    """Return the model, and the items that are asked for."""
    from epochal.bundle import Bundle
    from epochal.distributed import is_launched

    if picture is not None:
        _check_folder(picture)
    bundle = Bundle.load(run, model, log=log)
    if picture is not None:
        _check_drawn(bundle.spec.input)
    if windows is not None:
        bundle = bundle.with_windows(windows)
    if "-" in files and is_launched():
        raise RecipeError("There are several processes, but the standard input is read by one process.", "Give files, or use one process.")
    # A text that names no file would be a text.
    as_file = Path if bundle.spec.input.noun == "text" else str
    return bundle, [*_texts(texts, files, bundle.spec.input), *(as_file(name) for file in files if file != "-" for name in _expand(file))]


class _Shown:
    """What is shown of answers as they come, and at the end."""

    def __init__(self, bundle: Bundle, items: Sequence[object], picture: Path | None, csv_file: Path | None, *, as_json: bool) -> None:
        rule = bundle.spec.input
        self.bundle = bundle
        self.picture = picture
        self.csv_file = csv_file
        self.width = max((columns(rule.title(item) or f"[{place}]") for place, item in enumerate(items)), default=0)
        self.what = f"{bundle.classes[0]} " if len(bundle.classes) == 1 and not bundle.spec.task.has_accuracy else ""
        self.some: list[Tensor] = []
        self.found: list[tuple[str, Prediction]] = []
        self.rows: list[dict[str, object]] = []
        self.as_json = as_json
        self.answered = self.failed = 0

    def add(self, answer: Answer) -> None:
        """Show an answer."""
        if answer.error is not None:
            say_error(answer.error)
            self.failed += 1
            row: dict[str, object] = {"error": answer.error.problem}
        else:
            assert answer.prediction is not None
            assert answer.input is not None
            if self.csv_file is None:
                say(_line(answer.name, self.what, answer.prediction, self.width))
            self.answered += 1
            row = answer.prediction.to_json()
            if self.picture is not None:
                self.found.append((answer.name, answer.prediction))
            if self.picture is not None or len(self.some) < _COMPARED:
                self.some.append(answer.input)
        if self.as_json:
            self.rows.append({"file": answer.name, **row})

    def end(self) -> int:
        """Draw pictures, show what is to be known about all, and return the exit code."""
        import torch

        if self.picture is not None:
            _draw(self.some, self.bundle.spec.input, self.found, self.picture)
        if self.csv_file is not None:
            say(f"wrote {self.csv_file}: {counted(self.answered + self.failed, 'row')}")
        if self.as_json:
            say_json(self.rows)
        if self.some and (note := self.bundle.differs(torch.stack(self.some))):
            say(f"note: {note}", err=True)
        if self.failed and self.failed + self.answered > 1:
            say(f"{self.failed:,} of {self.failed + self.answered:,} could not be read", err=True)
        return 1 if self.failed else 0


def _table(csv_file: Path, bundle: Bundle, digest: str) -> AbstractContextManager[Continued]:
    """Return a table of predictions, which goes on where one of the same model (and windows) and items, of this `digest`, stopped."""
    from epochal.io.continued import continued_table
    from epochal.io.files import check_output

    header = (*_COLUMNS, *bundle.spec.outputs)
    check_output(csv_file, ",".join(_COLUMNS).encode())
    return continued_table(csv_file, header, f"{bundle.fingerprint()} {digest}")


def _digest(items: Sequence[object]) -> str:
    found = hashlib.sha256()
    for item in items:
        found.update(f"{item}\n".encode(errors="surrogateescape"))
    return found.hexdigest()


def _texts(texts: Sequence[str], files: Sequence[str], rule: InputRule) -> Iterator[str]:
    """Yield the texts on the command line, and the lines of the standard input if - is among the files."""
    from epochal.errors import DataError

    if (texts or "-" in files) and rule.noun != "text":
        raise DataError(f"This model is not for texts: it takes {rule.noun}s.", "Give files.")
    from epochal.data.inputs.text.read import Text, decoded

    yield from map(Text, texts)
    if "-" in files:
        lines = decoded(sys.stdin.buffer.read(), "the standard input").split("\n")
        if not any(map(str.strip, lines)):
            raise DataError("The standard input has no text.", "Write a text on each line.")
        yield from (Text(line) for line in lines if line.strip())


def _lists(bundle: Bundle, files: Sequence[str]) -> bool:
    """Whether a model takes the rows of tables, or what they list."""
    from epochal.data.inputs.table.files import is_table

    return bundle.spec.input.kind == "table" or (bool(bundle.spec.listing.file) and any(is_table(Path(file)) for file in files))


def _predict_table(bundle: Bundle, files: tuple[str, ...], csv_file: Path, *, as_json: bool) -> None:
    """Write a table with its predictions as further columns."""
    from epochal.errors import DataError
    from epochal.run.tables import predict_table

    paths = [name for file in files for name in _expand(file)]
    if len(paths) != 1:
        raise DataError(f"{len(paths)} tables cannot be written to one file.", "Give one table for each --csv.")
    rows, wrong, unreadable = predict_table(bundle, Path(paths[0]), csv_file, log=lambda note: say(f"note: {note}", err=True))
    say(f"wrote {csv_file}: {counted(rows, 'row')}")
    if as_json:
        say_json({"file": paths[0], "csv": str(csv_file), "rows": rows, "errors": {name: error.problem for name, error in wrong.items()}})
    for error in wrong.values():
        say_error(error)
    if unreadable and rows > 1:
        say(f"{unreadable:,} of {rows:,} could not be read", err=True)
    sys.exit(1 if unreadable else 0)


def _check_folder(folder: Path) -> None:
    """Refuse a folder that contains other files: pictures written among data would become data."""
    from epochal.data.walk import MARK
    from epochal.errors import OutputError
    from epochal.io.files import write_errors

    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file.", "Name a folder for the titled pictures.")
    with write_errors(folder):
        if folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).exists():
            raise OutputError(f"{folder} has other files in it.", "Name a new folder for the titled pictures.")


def _check_drawn(rule: InputRule) -> None:
    """Refuse inputs that have no picture, before anything is predicted."""
    from epochal.errors import DataError

    if rule.draw(rule.zeros()[0]) is None:
        raise DataError(f"This model takes {rule.noun}s, of which there are no pictures.", "Leave --picture out.")


def _draw(inputs: Sequence[Tensor], rule: InputRule, found: Sequence[tuple[str, Prediction]], folder: Path) -> None:
    """Write each picture as the model saw it, titled with its prediction."""
    from epochal.data.walk import MARK
    from epochal.figures import save, single
    from epochal.figures.fonts import boxes
    from epochal.io.files import shortened, write_errors, write_text

    if note := boxes(prediction.label for _, prediction in found):
        say(f"note: {note}")
    figures = [single(example, f"pred result: {prediction}", rule) for example, (_, prediction) in zip(inputs, found, strict=True)]
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / MARK, "Written by epochal predict --picture: these are not data.\n")
    for number, (figure, (name, _)) in enumerate(zip(figures, found, strict=True), start=1):
        for written in save(figure, folder / f"{number:04d}-{shortened(Path(name).stem)}"):
            say(f"wrote {written}")


def _expand(file: str) -> Iterator[str]:
    """Yield the files of an argument: the matches of a pattern (if no shell has expanded it), or the argument itself."""
    from epochal.data.storage.remote.place import is_url
    from epochal.errors import DataError

    if is_url(file):
        raise DataError(
            f"{file} is a URL: only files on this machine are predicted.", "To test the model on data there: epochal evaluate RUN URL"
        )
    if glob.has_magic(file) and not Path(file).exists():
        matches = sorted(glob.glob(file, recursive=True))  # noqa: PTH207  the pattern may be absolute
        if not matches:
            raise DataError(f"No file matches {file}.", "Check the pattern.")
        yield from matches
    else:
        yield file


def _line(name: str, what: str, prediction: Prediction, width: int) -> str:
    words = f"{name}{' ' * (width - columns(name))}  {what}{prediction}"
    if prediction.runner_up is not None:
        words = f"{words}, then {prediction.runner_up[0]} ({100 * prediction.runner_up[1]:.1f} %)"
    return words


def _csv_row(answer: Answer, outputs: Sequence[str]) -> list[object]:
    """Return a row of the table; empty for what cannot be read."""
    prediction = answer.prediction
    if prediction is None:
        return [answer.name, *[""] * (len(_COLUMNS) - 1 + len(outputs))]
    runner_up = prediction.runner_up or ("", "")
    return [answer.name, prediction.label, prediction.probability, *runner_up, *(prediction.values[output] for output in outputs)]
