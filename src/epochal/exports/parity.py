"""Whether an exported model says the same as the one it was made from."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from epochal.bundle import Bundle
from epochal.data.inputs.values import Inputs
from epochal.errors import ExportError
from epochal.progress import progress

# Inputs are given to exported models in batches of these sizes, in turn.
SIZES = (1, 2, 7, 64)

# The most by which probabilities may differ; quantities, in units of `Task.units`.
LIMIT = 1e-5

# So many rounds of batches are compared at once.
_ROUNDS = 10


class Parity(NamedTuple):
    """How many examples were compared in batches of a size, in how many the labels agree, and the largest difference of a value."""

    batch: int
    examples: int
    agree: int
    difference: float


def compare(
    run: Callable[[Tensor], Tensor],
    bundle: Bundle,
    inputs: Inputs,
    label: str = "",
    values: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Parity, ...]:
    """Give raw inputs to an exported model and to the bundle, or to `values` instead, and return a row for each of `SIZES`.

    Each example is in one batch; of few examples, some are in several, so that there is a batch of each size. Raises `ExportError`
    where a label differs, or a value by more than `LIMIT`, with the first example of which that is so.
    """
    task = bundle.spec.task
    units = torch.tensor(task.units, dtype=torch.float64)
    found = {size: Parity(size, 0, 0, 0.0) for size in SIZES}
    places = torch.arange(max(len(inputs), sum(SIZES))) % len(inputs)
    with progress(label, len(places)) as advance:
        for some in places.split(_ROUNDS * sum(SIZES)):
            raw = inputs[some]
            expected = (values or bundle.values)(raw)
            begin = 0
            for size in itertools.cycle(SIZES):
                if begin >= len(some):
                    break
                part = slice(begin, begin + size)
                given, wanted = _run(run, raw[part]), expected[part]
                if given.shape != wanted.shape:
                    raise ExportError(f"The exported model answers {tuple(given.shape)} instead of {tuple(wanted.shape)}.", _FIX)
                apart = ((given.double() - wanted.double()) / units).abs().amax(1)
                same = [
                    not task.has_accuracy or task.predict(one).label == task.predict(other).label
                    for one, other in zip(given.tolist(), wanted.tolist(), strict=True)
                ]
                for index, (is_same, difference) in enumerate(zip(same, apart.tolist(), strict=True)):
                    # A comparison with NaN is false.
                    if not is_same or not difference <= LIMIT:
                        raise ExportError(
                            f"The exported model disagrees about example {int(some[begin + index])}, in a batch of {len(given)}: "
                            f"{task.predict(given[index].tolist())} instead of {task.predict(wanted[index].tolist())}, "
                            f"and values differ by {difference:.2g} (at most {LIMIT:g}).",
                            _FIX,
                        )
                row = found[size]
                found[size] = Parity(size, row.examples + len(given), row.agree + sum(same), max(row.difference, float(apart.max())))
                begin += size
                advance(len(given))
    return tuple(found.values())


def _run(run: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    try:
        return run(inputs)
    except Exception as error:  # runtimes raise what they like
        raise ExportError(f"The exported model fails for a batch of {len(inputs)}: {error}", _FIX) from error


_FIX = "Nothing was kept. Use another format, or the model itself."
