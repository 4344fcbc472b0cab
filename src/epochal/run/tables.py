"""Tables with predictions: all columns of a file, and those that a model adds."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from epochal.bundle import Bundle
from epochal.data.inputs.table.files import is_table
from epochal.data.inputs.table.rule import TableRule
from epochal.data.inputs.table.values import names_of, pieces
from epochal.data.sources.manifest import path_of
from epochal.errors import DataError, suggest
from epochal.io.files import check_output, writing_text
from epochal.tasks.base import Prediction


def predict_table(bundle: Bundle, path: Path, out: Path, log: Callable[[str], object]) -> tuple[int, dict[str, DataError]]:
    """Write the rows of the table `path` with their predictions to `out`, as CSV; return their number, and the files that cannot be read.

    Rows and columns keep their order. Columns are added: "prediction", and where a model gives them the "probability" of that and of
    each output; they are empty for a file that cannot be read. A thousand rows are read at a time. `log` is called with what was found.
    Raises `DataError` and `OutputError`.
    """
    rule = bundle.spec.input
    if not (isinstance(rule, TableRule) or bundle.spec.listing.file) or not is_table(path):
        raise DataError(f"{path} is not a table.", "Give a .csv, .tsv, .jsonl or .parquet file.")
    names = rule.names_in(path) if isinstance(rule, TableRule) else names_of(path)
    added = _columns(bundle.spec.outputs, names, has_probability=bundle.spec.task.has_classes)
    check_output(out, _line([*names, *added]).encode())
    wrong, count = dict[str, DataError](), 0
    found = _rows(bundle, rule, path, log) if isinstance(rule, TableRule) else _files(bundle, path, names, wrong)
    with writing_text(out) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*names, *added])
        for rows, predictions in found:
            for row, prediction in zip(rows, predictions, strict=True):
                writer.writerow([*row, *([""] * len(added) if prediction is None else _values(prediction))])
            count += len(rows)
    return count, wrong


_Piece = tuple[Sequence[Sequence[str]], Sequence[Prediction | None]]


def _rows(bundle: Bundle, rule: TableRule, path: Path, log: Callable[[str], object]) -> Iterator[_Piece]:
    """Yield rows with their predictions, and report how they differ from those of training."""
    for note in rule.differing(path):
        log(note)
    unseen: Counter[str] = Counter()
    count = 0
    for rows, inputs in rule.pieces(path):
        yield rows, bundle.predict_inputs(inputs)
        unseen += rule.unseen(inputs)
        count += len(rows)
    if difference := rule.about_unseen(unseen, count):
        log(f"the inputs {difference} than those that the model was trained on")


def _files(bundle: Bundle, path: Path, names: Sequence[str], wrong: dict[str, DataError]) -> Iterator[_Piece]:
    """Yield rows with the predictions for the files that they name; `None`, and the error in `wrong`, for one that cannot be read."""
    column = bundle.spec.listing.file
    if column not in names:
        raise DataError(f"{path} has no column '{column}', which has the files.", suggest(column, names))
    place = names.index(column)
    for rows, _ in pieces(path):
        read = [_read(bundle, path, row[place].strip(), wrong) for row in rows]
        inputs = [one for one in read if one is not None]
        predictions = iter(bundle.predict_inputs(torch.cat(inputs)) if inputs else ())
        yield rows, [None if one is None else next(predictions) for one in read]


def _read(bundle: Bundle, path: Path, name: str, wrong: dict[str, DataError]) -> Tensor | None:
    try:
        return bundle.inputs(Path(path_of(name, path)))
    except DataError as error:
        wrong[name] = error
        return None


def _columns(outputs: Sequence[str], taken: Sequence[str], *, has_probability: bool) -> list[str]:
    """Return the names of the columns that are added: none is that of another."""
    added = ["prediction", "probability", *(f"probability of {output}" for output in outputs)] if has_probability else []
    added = added or (["prediction"] if len(outputs) == 1 else ["prediction", *(f"prediction of {output}" for output in outputs)])
    for place, name in enumerate(added):
        while name in taken:
            name += "_"
        added[place] = name
    return added


def _values(prediction: Prediction) -> Iterator[object]:
    if prediction.probability is None and len(prediction.values) == 1:
        yield next(iter(prediction.values.values()))
        return
    yield prediction.label
    if prediction.probability is not None:
        yield prediction.probability
    yield from prediction.values.values()


def _line(names: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(names)
    return text.getvalue()
