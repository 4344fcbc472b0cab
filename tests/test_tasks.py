"""Losses are PyTorch's own; what does not go together is refused; nothing is broadcast by accident."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from epochal.data.spec import DataSpec, Task
from epochal.errors import RecipeError
from epochal.recipe import LossSettings
from epochal.tasks import answers, build_loss, check_loss, own_loss, plain_loss, resolve_loss

SpecMaker = Callable[..., DataSpec]
CPU = torch.device("cpu")
LOGITS = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 1, 2, 2, 2])
TABLE = torch.tensor([[1.0, 0, 1], [0, 0, 1], [0, 0, 1], [0, 1, 1], [0, 0, 0], [0, 0, 1]])


def _settings(**values: Any) -> LossSettings:
    return LossSettings(**values)


def _refused(settings: LossSettings, spec: DataSpec) -> str:
    with pytest.raises(RecipeError) as raised:
        build_loss(settings, spec, CPU)
    return str(raised.value)


@pytest.mark.parametrize(
    ("settings", "theirs"),
    [
        (_settings(), nn.CrossEntropyLoss()),
        (_settings(name="cross-entropy", smoothing=0.1), nn.CrossEntropyLoss(label_smoothing=0.1)),
        (_settings(class_weights=(1, 2, 0.5)), nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 0.5]))),
        (
            _settings(smoothing=0.2, class_weights=(1, 2, 0.5)),
            nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 0.5]), label_smoothing=0.2),
        ),
        (_settings(name="nll"), nn.NLLLoss()),
        (_settings(name="nll", class_weights=(1, 2, 0.5)), nn.NLLLoss(torch.tensor([1.0, 2.0, 0.5]))),
    ],
)
def test_one_label(make_spec: SpecMaker, settings: LossSettings, theirs: nn.Module) -> None:
    outputs = LOGITS.log_softmax(1)
    loss = build_loss(settings, make_spec(), CPU)
    assert torch.equal(loss(outputs, LABELS), theirs(outputs, LABELS))


@pytest.mark.parametrize(
    ("settings", "weight"), [(_settings(), None), (_settings(name="bce", class_weights=(1.0, 2.0, 3.0)), torch.tensor([1.0, 2.0, 3.0]))]
)
def test_several_labels(make_spec: SpecMaker, settings: LossSettings, weight: Tensor | None) -> None:
    loss = build_loss(settings, make_spec(task="multi-label"), CPU)
    assert torch.equal(loss(LOGITS, TABLE), nn.BCEWithLogitsLoss(pos_weight=weight)(LOGITS, TABLE))
    assert loss.weight(TABLE) == 6


@pytest.mark.parametrize(
    ("settings", "theirs"),
    [
        (_settings(), nn.MSELoss()),
        (_settings(name="mse"), nn.MSELoss()),
        (_settings(name="l1"), nn.L1Loss()),
        (_settings(name="huber", delta=0.3), nn.HuberLoss(delta=0.3)),
    ],
)
def test_quantities(make_spec: SpecMaker, settings: LossSettings, theirs: nn.Module) -> None:
    spec = make_spec(task="regression", outputs=("y0", "y1", "y2"))
    assert torch.equal(build_loss(settings, spec, CPU)(LOGITS, TABLE), theirs(LOGITS, TABLE))
    # One output, with and without an axis of its own: each is paired with its own target only.
    single, column = LOGITS[:, 0], TABLE[:, :1]
    for function in (build_loss(settings, spec, CPU), plain_loss(settings, spec), own_loss(theirs)):
        assert torch.equal(function(single, column), theirs(LOGITS[:, :1], column))
        assert torch.equal(function(LOGITS[:, :1], column), theirs(LOGITS[:, :1], column))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", ["equal", "balanced", (1.0, 5.0, 0.5)])
def test_weighted_parts_add_up_to_the_whole(make_spec: SpecMaker, smoothing: float, weights: Any) -> None:
    loss = build_loss(_settings(smoothing=smoothing, class_weights=weights), make_spec(), CPU)
    whole = loss.weight(LABELS)
    parts = [loss(LOGITS[start:end], LABELS[start:end]) * loss.weight(LABELS[start:end]) / whole for start, end in ((0, 1), (1, 4), (4, 6))]
    torch.testing.assert_close(torch.stack(parts).sum(), loss(LOGITS, LABELS), rtol=1e-6, atol=1e-6)


def test_balanced_weights_are_scikit_learns(make_spec: SpecMaker) -> None:
    from sklearn.utils.class_weight import compute_class_weight

    theirs = torch.tensor(compute_class_weight("balanced", classes=LABELS.unique().numpy(), y=LABELS.numpy()), dtype=torch.float32)
    loss = build_loss(_settings(class_weights="balanced"), make_spec(), CPU)
    torch.testing.assert_close(loss(LOGITS, LABELS), nn.CrossEntropyLoss(theirs)(LOGITS, LABELS))
    # Every class counts the same in sum.
    sums = [float(loss.weight(LABELS[label == LABELS])) for label in range(3)]
    assert sums == pytest.approx([2.0, 2.0, 2.0])


def test_balanced_labels(make_spec: SpecMaker) -> None:
    spec = make_spec(task="multi-label", class_counts={"train": (1, 2, 6)})
    loss = build_loss(_settings(class_weights="balanced"), spec, CPU)
    weight = torch.tensor([5.0, 2.0, 1e-6])
    torch.testing.assert_close(loss(LOGITS, TABLE), nn.BCEWithLogitsLoss(pos_weight=weight)(LOGITS, TABLE))


@pytest.mark.parametrize(("task", "name"), [("single-label", "cross-entropy"), ("multi-label", "bce"), ("regression", "mse")])
def test_auto(make_spec: SpecMaker, task: Task, name: str) -> None:
    assert resolve_loss(LossSettings(), make_spec(task=task)) == name


@pytest.mark.parametrize(
    ("settings", "task", "told"),
    [
        (_settings(name="mse"), "single-label", "The loss mse is not for single-label targets.\nUse cross-entropy or nll."),
        (_settings(name="nll"), "multi-label", "The loss nll is not for multi-label targets.\nUse bce."),
        (_settings(name="bce"), "regression", "The loss bce is not for regression targets.\nUse mse or l1 or huber."),
        (
            _settings(name="nll", smoothing=0.1),
            "single-label",
            "The setting loss.smoothing does not work with nll.\nUse cross-entropy, or leave it out.",
        ),
        (
            _settings(smoothing=0.1),
            "multi-label",
            "The setting loss.smoothing does not work with bce.\nUse cross-entropy, or leave it out.",
        ),
        (_settings(class_weights="balanced"), "regression", "The setting loss.class_weights does not work for regression.\nLeave it out."),
        (
            _settings(class_weights=(1.0, 2.0)),
            "single-label",
            "The setting loss.class_weights has 2 numbers for 3 classes.\nGive one for each.",
        ),
    ],
)
def test_refused(make_spec: SpecMaker, settings: LossSettings, task: Task, told: str) -> None:
    assert _refused(settings, make_spec(task=task)) == told


def test_nll_needs_log_probabilities(make_spec: SpecMaker) -> None:
    spec = make_spec()
    with pytest.raises(RecipeError) as raised:
        check_loss(_settings(name="nll"), spec, LOGITS)
    assert str(raised.value) == (
        "The loss nll needs log-probabilities, but the model gives plain scores.\nUse cross-entropy, or end the model with LogSoftmax."
    )
    check_loss(_settings(name="nll"), spec, LOGITS.log_softmax(1))
    check_loss(LossSettings(), spec, LOGITS)


def test_evaluation_reports_the_loss_without_smoothing_and_weights(make_spec: SpecMaker) -> None:
    plain = plain_loss(_settings(smoothing=0.1, class_weights=(1, 2, 3)), make_spec())
    assert torch.equal(plain(LOGITS, LABELS), nn.CrossEntropyLoss()(LOGITS, LABELS))
    spec = make_spec(task="regression", outputs=("a", "b", "c"))
    assert torch.equal(plain_loss(_settings(name="huber", delta=0.3), spec)(LOGITS, TABLE), nn.HuberLoss(delta=0.3)(LOGITS, TABLE))


def test_own_loss_gets_what_the_model_gives() -> None:
    seen = []

    def mine(outputs: Tensor, targets: Tensor) -> Tensor:
        seen.append((outputs, targets))
        return outputs.sum()

    loss = own_loss(mine)
    assert loss(LOGITS, LABELS) == LOGITS.sum()
    assert seen == [(LOGITS, LABELS)]
    assert loss.weight(LABELS) == 6


def test_answers() -> None:
    torch.testing.assert_close(answers(LOGITS, "single-label"), LOGITS.softmax(1))
    torch.testing.assert_close(answers(LOGITS.log_softmax(1), "single-label"), LOGITS.softmax(1))
    assert torch.equal(answers(LOGITS, "multi-label"), LOGITS.sigmoid())
    assert torch.equal(answers(LOGITS, "regression"), LOGITS)
    assert answers(LOGITS[:, 0], "regression").shape == (6, 1)


SHARES = torch.tensor([0.9, 0.5, 0.0, 0.3, 1.0, 0.7])[:, None]
MIXED = nn.functional.one_hot(LABELS, 3) * SHARES + nn.functional.one_hot(LABELS.roll(1), 3) * (1 - SHARES)
WEIGHTED: list[Any] = ["equal", "balanced", (1.0, 5.0, 0.5)]


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_mixed_targets_have_pytorchs_cross_entropy(make_spec: SpecMaker, smoothing: float) -> None:
    loss = build_loss(_settings(smoothing=smoothing), make_spec(), CPU)
    torch.testing.assert_close(loss(LOGITS, MIXED), nn.CrossEntropyLoss(label_smoothing=smoothing)(LOGITS, MIXED))
    assert loss.weight(MIXED) == 6


def test_mixed_targets_of_nll(make_spec: SpecMaker) -> None:
    outputs = LOGITS.log_softmax(1)
    loss = build_loss(_settings(name="nll"), make_spec(), CPU)
    torch.testing.assert_close(loss(outputs, MIXED), -(MIXED * outputs).sum(1).mean())
    weights = torch.tensor([1.0, 2.0, 0.5])
    loss = build_loss(_settings(name="nll", class_weights=(1, 2, 0.5)), make_spec(), CPU)
    torch.testing.assert_close(loss(outputs, MIXED), -(MIXED * weights * outputs).sum() / (MIXED * weights).sum())


@pytest.mark.parametrize("weights", WEIGHTED)
@pytest.mark.parametrize(("name", "smoothing"), [("cross-entropy", 0.0), ("cross-entropy", 0.1), ("nll", 0.0)])
def test_targets_mixed_of_one_class_count_as_that_class(make_spec: SpecMaker, name: str, smoothing: float, weights: Any) -> None:
    loss = build_loss(_settings(name=name, smoothing=smoothing, class_weights=weights), make_spec(), CPU)
    outputs, whole = LOGITS.log_softmax(1), nn.functional.one_hot(LABELS, 3).float()
    torch.testing.assert_close(loss(outputs, whole), loss(outputs, LABELS))
    torch.testing.assert_close(torch.as_tensor(loss.weight(whole)), torch.as_tensor(loss.weight(LABELS)))


@pytest.mark.parametrize("weights", WEIGHTED)
@pytest.mark.parametrize(("name", "smoothing"), [("cross-entropy", 0.0), ("cross-entropy", 0.1), ("nll", 0.0)])
def test_parts_of_mixed_targets_add_up_to_the_whole(make_spec: SpecMaker, name: str, smoothing: float, weights: Any) -> None:
    loss = build_loss(_settings(name=name, smoothing=smoothing, class_weights=weights), make_spec(), CPU)
    outputs = LOGITS.log_softmax(1).requires_grad_()
    (whole,) = torch.autograd.grad(loss(outputs, MIXED), outputs)
    parts = [(outputs[start:end], MIXED[start:end]) for start, end in ((0, 1), (1, 4), (4, 6))]
    added = torch.stack([loss(*part) * loss.weight(part[1]) / loss.weight(MIXED) for part in parts]).sum()
    torch.testing.assert_close(added, loss(outputs, MIXED))
    torch.testing.assert_close(torch.autograd.grad(added, outputs)[0], whole)


def test_mixed_tables_of_labels(make_spec: SpecMaker) -> None:
    mixed = TABLE * SHARES + TABLE.roll(1, 0) * (1 - SHARES)
    loss = build_loss(_settings(class_weights=(1.0, 2.0, 3.0)), make_spec(task="multi-label"), CPU)
    torch.testing.assert_close(loss(LOGITS, mixed), nn.BCEWithLogitsLoss(pos_weight=torch.tensor([1.0, 2.0, 3.0]))(LOGITS, mixed))
    assert loss.weight(mixed) == 6
