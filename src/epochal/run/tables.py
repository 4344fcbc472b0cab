"""Tables with predictions: all columns of a file, and those that a model adds."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from epochal.bundle import Bundle
from epochal.data.inputs.table.files import is_table
from epochal.data.inputs.table.rule import TableRule
from epochal.data.inputs.table.values import names_of
from epochal.errors import DataError
from epochal.io.files import check_output, writing_text
from epochal.tasks.base import Prediction


def predict_table(bundle: Bundle, path: Path, out: Path, log: Callable[[str], object]) -> int:
    """Write the rows of the table `path` with their predictions to `out`, as CSV, and return their number.

    Rows and columns keep their order. Columns are added: "prediction", and where a model gives them the "probability" of that and of
    each output. A thousand rows are read at a time. `log` is called with what was found. Raises `DataError` and `OutputError`.
    """
    rule = bundle.spec.input
    if not isinstance(rule, TableRule) or not is_table(path):
        raise DataError(f"{path} is not a table.", "Give a .csv, .tsv, .jsonl or .parquet file.")
    names = names_of(path)
    added = _columns(bundle.spec.outputs, names, has_probability=bundle.spec.task.has_classes)
    check_output(out, _line([*names, *added]).encode())
    for note in rule.differing(names, str(path)):
        log(note)
    unseen: Counter[str] = Counter()
    count = 0
    with writing_text(out) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*names, *added])
        for rows, inputs in rule.pieces(path):
            for row, prediction in zip(rows, bundle.predict_inputs(inputs), strict=True):
                writer.writerow([*row, *_values(prediction)])
            unseen += rule.unseen(inputs)
            count += len(rows)
    if difference := rule.about_unseen(unseen, count):
        log(f"the inputs {difference} than those that the model was trained on")
    return count


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
