"""Losses are PyTorch's own; what does not go together is refused; nothing is broadcast by accident."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from epochal.data.spec import DataSpec
from epochal.errors import RecipeError
from epochal.recipe import LossSettings
from epochal.tasks.losses import Loss, check_own_loss, own_loss

SpecMaker = Callable[..., DataSpec]
LOGITS = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 1, 2, 2, 2])
TABLE = torch.tensor([[1.0, 0, 1], [0, 0, 1], [0, 0, 1], [0, 1, 1], [0, 0, 0], [0, 0, 1]])


def build_loss(settings: LossSettings, spec: DataSpec) -> Loss:
    return spec.task.loss(settings, spec.counts["train"])


def _settings(**values: Any) -> LossSettings:
    return LossSettings(**values)


def _refused(settings: LossSettings, spec: DataSpec) -> str:
    with pytest.raises(RecipeError) as raised:
        build_loss(settings, spec)
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
    loss = build_loss(settings, make_spec())
    assert torch.equal(loss(outputs, LABELS), theirs(outputs, LABELS))


@pytest.mark.parametrize(
    ("settings", "weight"), [(_settings(), None), (_settings(name="bce", class_weights=(1.0, 2.0, 3.0)), torch.tensor([1.0, 2.0, 3.0]))]
)
def test_several_labels(make_spec: SpecMaker, settings: LossSettings, weight: Tensor | None) -> None:
    loss = build_loss(settings, make_spec(task="multi-label"))
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
    assert torch.equal(build_loss(settings, spec)(LOGITS, TABLE), theirs(LOGITS, TABLE))
    # One output, with and without an axis of its own: each is paired with its own target only.
    single, column = LOGITS[:, 0], TABLE[:, :1]
    for function in (build_loss(settings, spec), spec.task.reported_loss(nn.Identity(), settings), own_loss(theirs)):
        assert torch.equal(function(single, column), theirs(LOGITS[:, :1], column))
        assert torch.equal(function(LOGITS[:, :1], column), theirs(LOGITS[:, :1], column))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", ["equal", "balanced", (1.0, 5.0, 0.5)])
def test_weighted_parts_add_up_to_the_whole(make_spec: SpecMaker, smoothing: float, weights: Any) -> None:
    loss = build_loss(_settings(smoothing=smoothing, class_weights=weights), make_spec())
    whole = loss.weight(LABELS)
    parts = [loss(LOGITS[start:end], LABELS[start:end]) * loss.weight(LABELS[start:end]) / whole for start, end in ((0, 1), (1, 4), (4, 6))]
    torch.testing.assert_close(torch.stack(parts).sum(), loss(LOGITS, LABELS), rtol=1e-6, atol=1e-6)


def test_balanced_weights_are_scikit_learns(make_spec: SpecMaker) -> None:
    from sklearn.utils.class_weight import compute_class_weight

    theirs = torch.tensor(compute_class_weight("balanced", classes=LABELS.unique().numpy(), y=LABELS.numpy()), dtype=torch.float32)
    loss = build_loss(_settings(class_weights="balanced"), make_spec())
    torch.testing.assert_close(loss(LOGITS, LABELS), nn.CrossEntropyLoss(theirs)(LOGITS, LABELS))
    # Every class counts the same in sum.
    sums = [float(loss.weight(LABELS[label == LABELS])) for label in range(3)]
    assert sums == pytest.approx([2.0, 2.0, 2.0])


def test_balanced_labels(make_spec: SpecMaker) -> None:
    spec = make_spec(task="multi-label", class_counts={"train": (1, 2, 6)})
    loss = build_loss(_settings(class_weights="balanced"), spec)
    weight = torch.tensor([5.0, 2.0, 1e-6])
    torch.testing.assert_close(loss(LOGITS, TABLE), nn.BCEWithLogitsLoss(pos_weight=weight)(LOGITS, TABLE))


@pytest.mark.parametrize(("task", "name"), [("single-label", "cross-entropy"), ("multi-label", "bce"), ("regression", "mse")])
def test_auto(make_spec: SpecMaker, task: str, name: str) -> None:
    assert make_spec(task=task).task.resolve_loss(LossSettings()) == name


@pytest.mark.parametrize(
    ("settings", "task", "reported"),
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
def test_refused(make_spec: SpecMaker, settings: LossSettings, task: str, reported: str) -> None:
    assert _refused(settings, make_spec(task=task)) == reported


def _scores(last: Callable[[Tensor], Tensor], spec: DataSpec, targets: Tensor = LABELS, loss: str | None = None) -> str:
    return spec.task.check_ending(last(LOGITS.clone().requires_grad_() * 1), targets, loss)


def test_nll_needs_log_probabilities(make_spec: SpecMaker) -> None:
    with pytest.raises(RecipeError) as raised:
        _scores(lambda x: x, make_spec(), loss="nll")
    assert str(raised.value) == (
        "The loss nll needs log-probabilities, but the model gives plain scores.\nUse cross-entropy, or end the model with LogSoftmax."
    )
    assert _scores(lambda x: x.log_softmax(1), make_spec(), loss="nll") == ""


@pytest.mark.parametrize(
    ("task", "last", "name", "what"),
    [
        ("single-label", lambda x: x.softmax(1), "softmax", "probabilities"),
        ("single-label", lambda x: x.exp() / x.exp().sum(1, keepdim=True), "softmax", "probabilities"),
        ("single-label", torch.sigmoid, "sigmoid", "probabilities"),
        ("multi-label", lambda x: x.sigmoid()[:, None].squeeze(1).half().clone().reshape(-1, 3), "sigmoid", "probabilities"),
        ("multi-label", lambda x: torch.stack([torch.sigmoid(x[:, place]) for place in range(3)], 1), "sigmoid", "probabilities"),
        ("multi-label", lambda x: x.softmax(1), "softmax", "probabilities"),
        ("multi-label", lambda x: x.log_softmax(1), "log-softmax", "values that went through a log-softmax"),
        ("multi-label", torch.relu, "ReLU", "values that went through a ReLU"),
        ("multi-label", torch.nn.functional.softplus, "softplus", "values that went through a softplus"),
        ("multi-label", torch.nn.functional.relu6, "clamp", "values that went through a clamp"),
        ("multi-label", lambda x: x.clamp(0, 1), "clamp", "values that went through a clamp"),
    ],
)
def test_what_is_squashed_before_it_is_read_as_scores(
    make_spec: SpecMaker, task: str, last: Callable[[Tensor], Tensor], name: str, what: str
) -> None:
    spec = make_spec(task=task)
    loss = "cross-entropy" if task == "single-label" else "bce"
    with pytest.raises(RecipeError) as raised:
        _scores(last, spec, loss=loss)
    assert str(raised.value) == (f"The loss {loss} needs plain scores, but the model gives {what}.\nLeave out its last layer, the {name}.")
    # Predictions are read from scores whatever the loss is.
    with pytest.raises(RecipeError, match=f"The model gives {what}, but predictions are read from plain scores") as raised:
        _scores(last, spec)
    assert ("nn.BCEWithLogitsLoss" if task == "multi-label" else "nn.CrossEntropyLoss") in raised.value.fix


def test_scores_as_they_should_be(make_spec: SpecMaker) -> None:
    for task, loss in (("single-label", "cross-entropy"), ("multi-label", "bce")):
        for last in (lambda x: x, lambda x: x / 3 + 1, lambda x: torch.stack([x, x]).mean(0)):
            assert _scores(last, make_spec(task=task), loss=loss) == ""
    assert _scores(lambda x: x.log_softmax(1), make_spec(), loss="cross-entropy") == ""
    assert _scores(torch.relu, make_spec(), loss="cross-entropy") == (
        "the model ends in a ReLU, which bounds its scores: it may learn worse than without"
    )
    assert "ends in a clamp, which bounds its scores" in _scores(lambda x: x.clamp(-2, 2), make_spec(task="multi-label"), loss="bce")
    # Without a gradient nobody knows.
    assert make_spec(task="multi-label").task.check_ending(LOGITS.sigmoid(), TABLE, "bce") == ""


def test_quantities_that_the_model_can_never_give(make_spec: SpecMaker) -> None:
    spec = make_spec(task="regression", outputs=("a", "b", "c"))
    with pytest.raises(RecipeError) as raised:
        _scores(torch.sigmoid, spec, 3 * TABLE - 1, "mse")
    assert str(raised.value) == (
        "The model ends in a sigmoid, whose values go from 0 to 1; the targets go from -1 to 2.\n"
        "Leave out its last layer, or bring the targets into that range."
    )
    with pytest.raises(RecipeError, match="ends in a ReLU, whose values go from 0 to inf; the targets go from -1 to 0"):
        _scores(torch.relu, spec, TABLE - 1, None)
    assert (
        _scores(torch.sigmoid, spec, TABLE, "mse")
        == _scores(torch.relu, spec, 9 * TABLE, "mse")
        == _scores(lambda x: x, spec, -TABLE)
        == ""
    )


def _own_loss_refused(loss: Any, outputs: Tensor = LOGITS, targets: Tensor = LABELS) -> str:
    with pytest.raises(RecipeError) as raised:
        check_own_loss(loss, outputs, targets)
    return str(raised.value)


@pytest.mark.parametrize("targets", [LABELS, TABLE])
def test_an_own_loss_is_a_mean(targets: Tensor) -> None:
    mean = nn.CrossEntropyLoss() if targets.ndim == 1 else nn.BCEWithLogitsLoss()
    check_own_loss(mean, LOGITS, targets)
    check_own_loss(lambda outputs, _: outputs.sum() * 0, LOGITS, targets)
    for count in (len, lambda targets: len(targets) / 64):
        reported = _own_loss_refused(lambda outputs, targets, count=count: mean(outputs, targets) * count(targets), targets=targets)
        assert reported.startswith("The loss function gives a sum over the batch: ")
        assert reported.endswith('Let it return the mean: reduction="mean", or .mean() instead of .sum().')
    assert _own_loss_refused(lambda outputs, _: outputs.mean(1), targets=targets).startswith(
        "The loss function returns a value of shape (6,)."
    )
    assert _own_loss_refused(lambda *_: 1.0, targets=targets).startswith("The loss function returns a value of type float.")


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_as_many_examples_as_outputs_are_not_taken_for_them(count: int) -> None:
    outputs = LOGITS[:count, :2]
    assert _own_loss_refused(nn.MSELoss(), outputs, LABELS[:count]) == (
        "The loss function fails: The size of tensor a (2) must match the size of tensor b (6) at non-singleton dimension 1.\n"
        "Fix it: it was given outputs float32 [6, 2] and targets int64 [6]."
    )


def test_evaluation_reports_the_loss_without_smoothing_and_weights(make_spec: SpecMaker) -> None:
    plain = make_spec().task.reported_loss(nn.Identity(), _settings(smoothing=0.1, class_weights=(1, 2, 3)))
    assert torch.equal(plain(LOGITS, LABELS), nn.CrossEntropyLoss()(LOGITS, LABELS))
    spec = make_spec(task="regression", outputs=("a", "b", "c"))
    plain = spec.task.reported_loss(nn.Identity(), _settings(name="huber", delta=0.3))
    assert torch.equal(plain(LOGITS, TABLE), nn.HuberLoss(delta=0.3)(LOGITS, TABLE))


def test_own_loss_gets_what_the_model_gives() -> None:
    seen = []

    def mine(outputs: Tensor, targets: Tensor) -> Tensor:
        seen.append((outputs, targets))
        return outputs.sum()

    loss = own_loss(mine)
    assert loss(LOGITS, LABELS) == LOGITS.sum()
    assert seen == [(LOGITS, LABELS)]
    assert loss.weight(LABELS) == 6


SHARES = torch.tensor([0.9, 0.5, 0.0, 0.3, 1.0, 0.7])[:, None]
MIXED = nn.functional.one_hot(LABELS, 3) * SHARES + nn.functional.one_hot(LABELS.roll(1), 3) * (1 - SHARES)
WEIGHTED: list[Any] = ["equal", "balanced", (1.0, 5.0, 0.5)]


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_mixed_targets_have_pytorchs_cross_entropy(make_spec: SpecMaker, smoothing: float) -> None:
    loss = build_loss(_settings(smoothing=smoothing), make_spec())
    torch.testing.assert_close(loss(LOGITS, MIXED), nn.CrossEntropyLoss(label_smoothing=smoothing)(LOGITS, MIXED))
    assert loss.weight(MIXED) == 6


def test_mixed_targets_of_nll(make_spec: SpecMaker) -> None:
    outputs = LOGITS.log_softmax(1)
    loss = build_loss(_settings(name="nll"), make_spec())
    torch.testing.assert_close(loss(outputs, MIXED), -(MIXED * outputs).sum(1).mean())
    weights = torch.tensor([1.0, 2.0, 0.5])
    loss = build_loss(_settings(name="nll", class_weights=(1, 2, 0.5)), make_spec())
    torch.testing.assert_close(loss(outputs, MIXED), -(MIXED * weights * outputs).sum() / (MIXED * weights).sum())


@pytest.mark.parametrize("weights", WEIGHTED)
@pytest.mark.parametrize(("name", "smoothing"), [("cross-entropy", 0.0), ("cross-entropy", 0.1), ("nll", 0.0)])
def test_targets_mixed_of_one_class_count_as_that_class(make_spec: SpecMaker, name: str, smoothing: float, weights: Any) -> None:
    loss = build_loss(_settings(name=name, smoothing=smoothing, class_weights=weights), make_spec())
    outputs, whole = LOGITS.log_softmax(1), nn.functional.one_hot(LABELS, 3).float()
    torch.testing.assert_close(loss(outputs, whole), loss(outputs, LABELS))
    torch.testing.assert_close(torch.as_tensor(loss.weight(whole)), torch.as_tensor(loss.weight(LABELS)))


@pytest.mark.parametrize("weights", WEIGHTED)
@pytest.mark.parametrize(("name", "smoothing"), [("cross-entropy", 0.0), ("cross-entropy", 0.1), ("nll", 0.0)])
def test_parts_of_mixed_targets_add_up_to_the_whole(make_spec: SpecMaker, name: str, smoothing: float, weights: Any) -> None:
    loss = build_loss(_settings(name=name, smoothing=smoothing, class_weights=weights), make_spec())
    outputs = LOGITS.log_softmax(1).requires_grad_()
    (whole,) = torch.autograd.grad(loss(outputs, MIXED), outputs)
    parts = [(outputs[start:end], MIXED[start:end]) for start, end in ((0, 1), (1, 4), (4, 6))]
    added = torch.stack([loss(*part) * loss.weight(part[1]) / loss.weight(MIXED) for part in parts]).sum()
    torch.testing.assert_close(added, loss(outputs, MIXED))
    torch.testing.assert_close(torch.autograd.grad(added, outputs)[0], whole)


def test_mixed_tables_of_labels(make_spec: SpecMaker) -> None:
    mixed = TABLE * SHARES + TABLE.roll(1, 0) * (1 - SHARES)
    loss = build_loss(_settings(class_weights=(1.0, 2.0, 3.0)), make_spec(task="multi-label"))
    torch.testing.assert_close(loss(LOGITS, mixed), nn.BCEWithLogitsLoss(pos_weight=torch.tensor([1.0, 2.0, 3.0]))(LOGITS, mixed))
    assert loss.weight(mixed) == 6
