"""Examples with what the model says about them, drawn as their kind is: pictures, texts, or rows of values."""

from __future__ import annotations

from matplotlib.figure import Figure

from epochal.data.examples import Examples
from epochal.data.inputs.values import access
from epochal.data.spec import DataSpec
from epochal.evaluation.evaluate import Evaluation
from epochal.figures.pictures import draw_pictures
from epochal.figures.rows import draw_rows
from epochal.figures.style import readable, styled
from epochal.figures.texts import draw_texts


@styled
def predictions(examples: Examples, evaluation: Evaluation, spec: DataSpec, train: Examples | None = None) -> Figure | None:
    """Return a few examples with what the model says: its most confident mistakes or largest errors, and some that it gets right.

    Of rows there are only mistakes, compared with those of `train`. `None` where such inputs are not drawn, or nothing is wrong in rows.
    """
    judged = evaluation.task.judge(evaluation.predictions, evaluation.targets, readable(spec.outputs))
    if judged is None:
        return None
    if spec.input.draw(first := examples.input(0)) is not None:
        return draw_pictures(examples, spec.input, judged)
    if examples.texts is not None:
        return draw_texts(examples, judged)
    if train is not None and access(train.inputs) != "items" and spec.input.cells(first):
        return draw_rows(examples, evaluation, spec, train, judged)
    return None
