"""The labels of a run's training examples that are likely wrong."""

from __future__ import annotations

import torch
from torch import Tensor

from epochal.data.feed import feed
from epochal.evaluation.label_errors import LabelErrors, label_errors
from epochal.inference import infer
from epochal.run.prepare import Prepared


def find_label_errors(prepared: Prepared, means: Tensor) -> LabelErrors | None:
    """Return the training labels that are likely wrong, by what training kept of each (see `TrainingHistory.labels`).

    Returns `None` for a task without classes. Of an example of which changed copies were trained on, all copies count.
    """
    recipe, data, (model, learned) = prepared.recipe, prepared.data, prepared.learner
    if not data.spec.task.has_classes:
        return None

    def outputs_of(places: Tensor) -> Tensor:
        some = feed(learned.train.take(places), recipe.eval_batch_size, prepared.device)
        return infer(model, some, prepared.device, recipe.precision)

    return label_errors(by_example(means, len(data.train)), data.train.targets, data.outputs, data.train.where, outputs_of)


def by_example(means: Tensor, count: int) -> Tensor:
    """Return the means [count, ...] over the copies of each example, one copy of all after the other."""
    return torch.nanmean(means.reshape(-1, count, *means.shape[1:]), 0)
