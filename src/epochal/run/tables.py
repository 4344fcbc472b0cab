"""Tables with predictions: all columns of a file, and those that a model adds."""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from epochal.bundle import Bundle
from epochal.data.inputs.table.files import is_table
from epochal.data.inputs.table.rule import TableRule
from epochal.data.inputs.table.values import names_of, pieces
from epochal.data.sources.manifest import path_of
from epochal.errors import DataError, suggest
from epochal.io.continued import continued_table
from epochal.io.files import check_output
from epochal.shown import counted
from epochal.tasks.base import Prediction


class Written(NamedTuple):
    """A table of predictions: its rows, what is wrong with files that could not be read, and how many there were, with those of before."""

    rows: int
    wrong: Mapping[str, DataError]
    unreadable: int


def predict_table(bundle: Bundle, path: Path, out: Path, log: Callable[[str], object]) -> Written:
    """Write the rows of the table `path` with their predictions to `out`, as CSV.

    Rows and columns keep their order. Columns are added: "prediction", and where a model gives them the "probability" of that and of
    each output; they are empty for a file that cannot be read. A thousand rows are read at a time. `log` is called with what was found.
    After an interruption, the same call goes on behind the rows that are there. Raises `DataError` and `OutputError`.
    """
    rule = bundle.spec.input
    if not (isinstance(rule, TableRule) or bundle.spec.listing.file) or not is_table(path):
        raise DataError(f"{path} is not a table.", "Give a .csv, .tsv, .jsonl or .parquet file.")
    names = rule.names_in(path) if isinstance(rule, TableRule) else names_of(path)
    added = _columns(bundle.spec.outputs, names, has_probability=bundle.spec.task.has_classes)
    check_output(out, _line([*names, *added]).encode())
    with path.open("rb") as file:
        key = f"{bundle.fingerprint()} {path.resolve()} {hashlib.file_digest(file, 'sha256').hexdigest()}"
    wrong = dict[str, DataError]()
    with continued_table(out, [*names, *added], key, len(names)) as table:
        if table.rows:
            log(f"{out} goes on after {counted(table.rows, 'row')}")
        read = table.rows
        found = _rows(bundle, rule, path, log, read) if isinstance(rule, TableRule) else _files(bundle, path, names, wrong, read)
        for rows, predictions in found:
            for row, prediction in zip(rows, predictions, strict=True):
                table.writer.writerow([*row, *([""] * len(added) if prediction is None else _values(prediction))])
            read += len(rows)
    return Written(read, wrong, table.empty + len(wrong))


_Piece = tuple[Sequence[Sequence[str]], Sequence[Prediction | None]]


def _rows(bundle: Bundle, rule: TableRule, path: Path, log: Callable[[str], object], skip: int) -> Iterator[_Piece]:
    """Yield rows with their predictions but for the first ones, and report how all differ from those of training."""
    for note in rule.differing(path):
        log(note)
    unseen: Counter[str] = Counter()
    count = 0
    for rows, inputs in rule.pieces(path):
        unseen += rule.unseen(inputs)
        count += len(rows)
        rows, inputs, skip = rows[skip:], inputs[skip:], max(skip - len(rows), 0)
        if rows:
            yield rows, bundle.predict_inputs(inputs)
    if difference := rule.about_unseen(unseen, count):
        log(f"the inputs {difference} than those that the model was trained on")


def _files(bundle: Bundle, path: Path, names: Sequence[str], wrong: dict[str, DataError], skip: int) -> Iterator[_Piece]:
    """Yield rows with the predictions for the files that they name, but for the first ones.

    Of a file that cannot be read, the prediction is `None`, and the error is in `wrong`.
    """
    column = bundle.spec.listing.file
    if column not in names:
        raise DataError(f"{path} has no column '{column}', which has the files.", suggest(column, names))
    place = names.index(column)
    for rows, _ in pieces(path):
        rows, skip = rows[skip:], max(skip - len(rows), 0)
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
