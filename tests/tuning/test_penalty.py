"""Weight decay by cross-validation: each example is predicted by heads that have not seen it, and what is noise is held small."""

from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn

from epochal.data.examples import Examples
from epochal.recipe import LossSettings
from epochal.tasks.base import Task
from epochal.tasks.multi_label import MultiLabel
from epochal.tasks.regression import Regression
from epochal.tasks.single_label import SingleLabel
from epochal.tuning.penalty import FOLDS, MOST, Penalty, cross_validated

WIDTH = 30


def _head(outputs: int) -> nn.Module:
    linear = nn.Linear(WIDTH, outputs)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(OrderedDict(linear=linear))


def _chosen(inputs: Tensor, targets: Tensor, task: Task, seed: int = 0, groups: list[str] | None = None) -> Penalty | None:
    examples = Examples(inputs, targets, "train", torch.arange(len(inputs)), groups=groups)
    head = _head(len(task.outputs))
    found = cross_validated(head, "linear", examples, task, task.loss(LossSettings(name="auto"), len(inputs)), seed)
    assert not head.get_parameter("linear.weight").any()
    return found


def _of_classes(count: int, noise: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Three classes, each around a middle of its own."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(count) % 3
    middles = torch.randn(3, WIDTH, generator=generator)
    return middles[targets] + noise * torch.randn(count, WIDTH, generator=generator), targets


TASK = SingleLabel(outputs=("a", "b", "c"))


def test_noise_gets_more_decay_than_signal() -> None:
    clear, noisy = (_chosen(*_of_classes(90, noise), TASK) for noise in (0.3, 8.0))
    assert clear is not None
    assert noisy is not None
    assert clear.weight_decay < noisy.weight_decay
    assert (clear.evaluation.count, clear.evaluation.accuracy) == (90, 1.0)


def test_random_labels_are_not_predicted() -> None:
    inputs, targets = _of_classes(150, 1.0)
    found = _chosen(inputs, targets[torch.randperm(150, generator=torch.Generator().manual_seed(1))], TASK)
    assert found is not None
    assert found.evaluation.accuracy is not None
    assert found.evaluation.accuracy < 0.5
    # No better than the frequencies of the classes, and hardly worse.
    assert 1.05 < found.evaluation.loss < 1.4


def test_the_same_seed_gives_the_same_choice() -> None:
    inputs, targets = _of_classes(60, 3.0)
    first, again, other = (_chosen(inputs, targets, TASK, seed) for seed in (0, 0, 1))
    assert first is not None
    assert again is not None
    assert other is not None
    assert first.weight_decay == again.weight_decay
    assert torch.equal(first.evaluation.outputs, again.evaluation.outputs)
    assert not torch.equal(first.evaluation.outputs, other.evaluation.outputs)


def test_copies_of_an_example_and_groups_stay_together() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs, targets = torch.randn(20, WIDTH, generator=generator).repeat(4, 1), (torch.arange(20) % 3).repeat(4)
    positions = torch.arange(20).repeat(4)
    loss = TASK.loss(LossSettings(name="auto"))
    # Labels have nothing to do with inputs: whoever knows one has seen a copy.
    copies = cross_validated(_head(3), "linear", Examples(inputs, targets, "train", positions), TASK, loss, 0)
    groups = _chosen(inputs, targets, TASK, groups=[str(number) for number in positions.tolist()])
    apart = _chosen(inputs, targets, TASK)
    for found, low, high in ((copies, 0.0, 0.6), (groups, 0.0, 0.6), (apart, 0.8, 1.0)):
        assert found is not None
        assert found.evaluation.accuracy is not None
        assert low <= found.evaluation.accuracy <= high


def test_quantities_and_several_labels() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(100, WIDTH, generator=generator)
    values = inputs[:, :1] + 0.1 * torch.randn(100, 1, generator=generator)
    found = _chosen(inputs, values, Regression(outputs=("y",), mean=(0.0,), std=(1.0,)))
    assert found is not None
    assert found.evaluation.r2 is not None
    assert found.evaluation.r2 > 0.8
    labels = _chosen(inputs, (inputs[:, :2] > 0).float(), MultiLabel(outputs=("a", "b")))
    assert labels is not None
    assert labels.evaluation.accuracy is not None
    assert labels.evaluation.accuracy > 0.6


def test_of_many_examples_some_are_taken() -> None:
    found = _chosen(*_of_classes(MOST + 500, 1.0), TASK)
    assert found is not None
    assert found.evaluation.count == MOST


@pytest.mark.parametrize("count", [1, 3, FOLDS - 1])
def test_too_few_examples(count: int) -> None:
    assert _chosen(*_of_classes(count, 1.0), TASK) is None
