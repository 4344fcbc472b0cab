"""One model, asked in every way: as it was trained, evaluated again, exported, and served. The answers have to be the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from epochal.bundle import Bundle
from epochal.data.inputs.values import Inputs
from epochal.errors import ExportError, MissingError
from epochal.exports.export import FORMATS, encoded
from epochal.exports.parity import LIMIT
from epochal.progress import progress, silent
from epochal.run.export import test_inputs
from epochal.run.predictions import has_predictions, read_predictions
from epochal.run.served import KINDS, served_values
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
    inputs = test_inputs(folder, bundle, data_dir) if examples is None else bundle.read(examples).inputs
    wanted: Tensor | None = None
    rows = []
    for name, values in _answers(folder, model, bundle, inputs, log, is_own=examples is None):
        wanted = values if wanted is None else wanted
        rows.append(_compared(name, values, wanted, bundle.spec.task))
    return tuple(rows)


def _answers(
    folder: Path, model: str | nn.Module | None, bundle: Bundle, inputs: Inputs, log: Callable[[str], object], *, is_own: bool
) -> Iterator[tuple[str, Tensor]]:
    """Yield in which way the model was asked, and what it answered: [n, outputs]."""
    if is_own and has_predictions(folder):
        yield "trained", bundle.spec.task.decode(read_predictions(folder)["outputs"])
    parts = torch.arange(len(inputs)).split(_AT_ONCE)
    yield "evaluated", torch.cat([bundle.values(inputs[part]) for part in parts])
    for name, made in FORMATS.items():
        try:
            run = made.decode(encoded(made, bundle, {}))
        except (ExportError, MissingError) as error:
            log(f"note: {name} is not compared: {error.problem}")
            continue
        with progress(name, len(inputs)) as advance:
            found = []
            for part in parts:
                found.append(run(inputs[part]))
                advance(len(part))
        yield name, torch.cat(found)
    if bundle.spec.input.kind not in KINDS:
        log(f"note: the server is not compared: {bundle.spec.input.noun}s are not sent to it as numbers")
        return
    try:
        yield "served", served_values(folder, model, inputs)
    except ImportError as error:
        log(f"note: the server is not compared: it needs the package {error.name}")


def _compared(name: str, values: Tensor, wanted: Tensor, task: Task) -> Compared:
    apart = ((values.double() - wanted.double()) / torch.tensor(task.units, dtype=torch.float64)).abs().amax(1)
    if task.has_accuracy:
        same = sum(task.predict(one).label == task.predict(two).label for one, two in zip(values.tolist(), wanted.tolist(), strict=True))
    else:
        same = int((apart <= LIMIT).sum())
    return Compared(name, len(values), same, float(apart.max()))
