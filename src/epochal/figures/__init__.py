"""Figures about training and about what the model gets right and wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from epochal.data.examples import Examples
from epochal.data.spec import DataSpec
from epochal.evaluation.evaluate import Evaluation
from epochal.figures.curves import learning_curves
from epochal.figures.matrix import confusion
from epochal.figures.pictures import predictions, single
from epochal.figures.scatter import scatter
from epochal.figures.speed import speeds
from epochal.figures.style import save, write
from epochal.training.records import EpochDone

__all__ = ["confusion", "draw_all", "learning_curves", "predictions", "save", "scatter", "single", "speeds"]


def draw_all(
    folder: Path, epochs: Sequence[EpochDone], evaluation: Evaluation | None, examples: Examples | None, spec: DataSpec
) -> list[Path]:
    """Write every figure that fits the task into the existing `folder` of a run; return the files.

    `evaluation` is that of `examples`, in their order; both are `None` if there were no test data.
    """
    figures: dict[str, Figure | None] = {"learning-curves": learning_curves(epochs, spec.task)}
    if evaluation is not None and examples is not None:
        figures |= {
            "confusion": confusion(evaluation, spec.outputs) if evaluation.confusion is not None else None,
            "predictions": predictions(examples, evaluation, spec),
            "scatter": scatter(evaluation, spec.outputs) if evaluation.r2 is not None else None,
        }
    return [file for name, figure in figures.items() if figure is not None for file in write(figure, folder / name)]
