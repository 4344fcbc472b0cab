"""Figures about training and about what the model gets right and wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from epochal.data.examples import Examples
from epochal.data.spec import DataSpec
from epochal.evaluation.evaluate import Evaluation
from epochal.evaluation.importance import Importance
from epochal.figures.curves import learning_curves
from epochal.figures.importance import column_importance
from epochal.figures.matrix import confusion
from epochal.figures.mistakes import predictions
from epochal.figures.pictures import single
from epochal.figures.scatter import residuals, scatter
from epochal.figures.speed import speeds
from epochal.figures.style import save, write
from epochal.training.records import EpochDone

__all__ = [
    "column_importance",
    "confusion",
    "draw_all",
    "learning_curves",
    "predictions",
    "residuals",
    "save",
    "scatter",
    "single",
    "speeds",
]


def draw_all(
    folder: Path,
    epochs: Sequence[EpochDone],
    evaluation: Evaluation | None,
    examples: Examples | None,
    spec: DataSpec,
    train: Examples | None = None,
    relied: Importance | None = None,
) -> list[Path]:
    """Write every figure that fits the task into the existing `folder` of a run; return the files.

    `evaluation` is that of `examples`, in their order; both are `None` if there were no test data. Mistakes in rows are compared with
    those of `train`. `relied` says how much the model relies on each column.
    """
    figures: dict[str, Figure | None] = {"learning-curves": learning_curves(epochs, spec.task)}
    if evaluation is not None and examples is not None:
        figures |= {
            "confusion": confusion(evaluation, spec.outputs) if evaluation.confusion is not None else None,
            "predictions": predictions(examples, evaluation, spec, train),
            "scatter": scatter(evaluation, spec.outputs) if evaluation.r2 is not None else None,
            "residuals": residuals(evaluation, spec.outputs) if evaluation.r2 is not None else None,
        }
    figures["importance"] = None if relied is None else column_importance(relied)
    return [file for name, figure in figures.items() if figure is not None for file in write(figure, folder / name)]
