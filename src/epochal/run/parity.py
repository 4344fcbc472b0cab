"""One model, asked in every way: as it was trained, evaluated again, exported, and served. The answers have to be the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from epochal.bundle import Bundle
from epochal.data.inputs.text.read import Text, read_text
from epochal.data.inputs.values import Inputs
from epochal.errors import ExportError, MissingError
from epochal.exports.export import FORMATS, encoded
from epochal.exports.parity import LIMIT
from epochal.predict import find_items
from epochal.progress import progress, silent
from epochal.run.export import test_examples
from epochal.run.predictions import has_predictions, read_predictions
from epochal.run.served import served_values
from epochal.tasks.base import Task
from epochal.user_code import concise

_AT_ONCE = 64


class Compared(NamedTuple):
    """How answers compare with the first ones: for how many examples there are, in how many the label is the same, and the largest
    difference of a value: of probabilities, or of quantities in units of `Task.units`."""

    answers: str
    examples: int
    same: int
    difference: float

    @property
    def agrees(self) -> bool:
        """Whether all labels are the same, and no value differs by more than 0.00001."""
        # A comparison with NaN is false.
        return self.same == self.examples and self.difference <= LIMIT


@concise
def check(
    folder: str | Path,
    *,
    examples: Any = None,
    data_dir: str | Path | None = None,
    model: str | nn.Module | None = None,
    log: Callable[[str], object] = silent,
) -> tuple[Compared, ...]:
    """Compare the answers of a run's model on its test data, or on `examples`, in every way; nothing is written.

    "trained" are the predictions that the run saved, and "evaluated" those of its model now; the others are files, made in memory, and
    "served" what the server answers over HTTP, in this process. All are compared with the first. `log` says which are not possible.

    Raises `DataError` where there is nothing to compare on.
    """
    folder = Path(folder)
    bundle = Bundle.load(folder, model, log=log)
    inputs, texts = _given(folder, bundle, data_dir, examples)
    wanted: Tensor | None = None
    rows = []
    for name, values in _answers(folder, model, bundle, inputs, texts, log, is_own=examples is None):
        wanted = values if wanted is None else wanted
        rows.append(_compared(name, values, wanted, bundle.spec.task))
    return tuple(rows)


def _given(folder: Path, bundle: Bundle, data_dir: str | Path | None, examples: Any) -> tuple[Inputs, Sequence[str] | None]:
    """Return raw inputs, and the texts that they are made from if they are."""
    if examples is None:
        own = test_examples(folder, bundle, data_dir)
        return own.inputs, None if own.texts is None else [own.text(place) for place in range(len(own))]
    rule = bundle.spec.input
    items = find_items(examples, rule, bundle.spec.listing.file).items
    texts = [item if isinstance(item, Text) else read_text(Path(item)) for item in items] if rule.kind == "text" else None
    return bundle.read(items).inputs, texts


def _answers(
    folder: Path,
    model: str | nn.Module | None,
    bundle: Bundle,
    inputs: Inputs,
    texts: Sequence[str] | None,
    log: Callable[[str], object],
    *,
    is_own: bool,
) -> Iterator[tuple[str, Tensor]]:
    """Yield in which way the model was asked, and what it answered: [n, outputs]."""
    if is_own and has_predictions(folder):
        yield "trained", bundle.spec.task.decode(read_predictions(folder)["outputs"])
    parts = torch.arange(len(inputs)).split(_AT_ONCE)
    yield "evaluated", torch.cat([bundle.values(inputs[part]) for part in parts])
    for name, made in FORMATS.items():
        try:
            run = made.decode(encoded(made, bundle, {}), bundle)
        except (ExportError, MissingError) as error:
            log(f"note: {name} is not compared: {error.problem}")
            continue
        with progress(name, len(inputs)) as advance:
            found = []
            for part in parts:
                found.append(run(inputs[part]))
                advance(len(part))
        yield name, torch.cat(found)
    if bundle.spec.input.kind == "text" and texts is None:
        log("note: the server is not compared: it takes texts, which these inputs do not have")
        return
    try:
        yield "served", served_values(folder, model, inputs, texts)
    except ImportError as error:
        log(f"note: the server is not compared: it needs the package {error.name}")


def _compared(name: str, values: Tensor, wanted: Tensor, task: Task) -> Compared:
    apart = ((values.double() - wanted.double()) / torch.tensor(task.units, dtype=torch.float64)).abs().amax(1)
    if task.has_accuracy:
        same = sum(task.predict(one).label == task.predict(two).label for one, two in zip(values.tolist(), wanted.tolist(), strict=True))
    else:
        same = int((apart <= LIMIT).sum())
    return Compared(name, len(values), same, float(apart.max()))
