"""What training keeps of each example's own label."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from epochal.tasks.multi_label import MultiLabel
from epochal.tasks.regression import Regression
from epochal.tasks.single_label import SingleLabel
from epochal.training import label_history
from epochal.training.label_history import LabelHistory
from epochal.training.loop import fit
from tests.small import small_net, small_recipe

Arrays = tuple[Tensor, Tensor]


def _history(targets: Tensor) -> LabelHistory:
    return LabelHistory(SingleLabel(outputs=("a", "b", "c")), targets)


def _by_hand(outputs: Tensor, targets: Tensor) -> Tensor:
    rows = []
    for row, target in zip(outputs.softmax(1), targets.tolist(), strict=True):
        others = [float(chance) for place, chance in enumerate(row) if place != target]
        rows.append((float(row[target]), float(row[target]) - max(others)))
    return torch.tensor(rows)


def test_means_by_hand() -> None:
    targets = torch.tensor([0, 2, 1, 1])
    history, some, others = _history(targets), torch.randn(3, 3), torch.randn(2, 3)
    history.add(some, torch.tensor([2, 0, 1]))
    history.add(others, torch.tensor([1, 2]))
    first, second = _by_hand(some, targets[[2, 0, 1]]), _by_hand(others, targets[[1, 2]])
    wanted = torch.stack((first[1], (first[2] + second[0]) / 2, (first[0] + second[1]) / 2))
    torch.testing.assert_close(history.means()[:3], wanted)
    assert history.means()[3].isnan().all()


def test_neither_order_nor_pieces_change_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    targets, outputs, places = torch.arange(50) % 3, torch.randn(400, 3) * 5, torch.arange(400) % 50
    found = []
    for together, order in ((1, torch.arange(400)), (100, torch.randperm(400)), (2**18, torch.randperm(400))):
        monkeypatch.setattr(label_history, "_TOGETHER", together)
        history = _history(targets)
        for rows in order.split(7):
            history.add(outputs[rows], places[rows])
        found.append(history.means())
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_outputs_may_change_after_they_were_added() -> None:
    history, outputs = _history(torch.tensor([0, 1])), torch.randn(2, 3)
    wanted = _by_hand(outputs, torch.tensor([0, 1]))
    history.add(outputs, torch.arange(2))
    outputs.zero_()
    torch.testing.assert_close(history.means(), wanted)


def test_a_state_replaces_what_was_added_since() -> None:
    history = _history(torch.tensor([0, 1]))
    history.add(torch.randn(2, 3), torch.arange(2))
    state, wanted = {name: tensor.clone() for name, tensor in history.state_dict().items()}, history.means()
    history.add(torch.randn(2, 3), torch.arange(2))
    history.load_state_dict(state)
    assert torch.equal(history.means(), wanted)


@pytest.mark.parametrize(
    "wrong",
    [{"counts": torch.ones(3, dtype=torch.int64)}, {"counts": -torch.ones(2, dtype=torch.int64)}, {"sums": torch.ones(2, 2)}],
    ids=["of other data", "below 0", "of another type"],
)
def test_the_state_of_another_training_is_refused(wrong: dict[str, Any]) -> None:
    history = _history(torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="belong|whole"):
        history.load_state_dict({**history.state_dict(), **wrong})


def test_of_quantities_the_mean_distance_is_kept_in_standard_deviations() -> None:
    history = LabelHistory(Regression(outputs=("y",), mean=(0.0,), std=(2.0,)), torch.tensor([[1.0], [2.0], [0.0]]))
    history.add(torch.tensor([[5.0], [torch.inf]]), torch.arange(2))
    history.add(torch.tensor([[3.0]]), torch.arange(1))
    torch.testing.assert_close(history.means(), torch.tensor([[1.5], [1e4], [torch.nan]]), equal_nan=True)


def test_of_several_labels_the_probability_of_each_is_kept() -> None:
    history = LabelHistory(MultiLabel(outputs=("a", "b")), torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    history.add(torch.tensor([[2.0, 2.0]]), torch.arange(1))
    chance = torch.tensor(2.0).sigmoid()
    torch.testing.assert_close(history.means(), torch.tensor([[chance, 1 - chance], [torch.nan, torch.nan]]), equal_nan=True)


class _Watched(nn.Module):
    """Keeps what it answers in training."""

    def __init__(self) -> None:
        super().__init__()
        self.net = small_net()
        self.seen: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.net(x)
        if self.training and len(x) > 8:
            self.seen.append((x.detach().clone(), outputs.detach().clone()))
        return outputs


@pytest.mark.parametrize("changes", [{}, {"accumulate": 2}, {"data.sampling": "balanced"}], ids=str)
def test_training_counts_the_outputs_of_its_own_steps(blobs: Arrays, changes: dict[str, Any]) -> None:
    inputs, labels = blobs
    model = _Watched()
    recipe = small_recipe(epochs=3, batch_size=20, **changes)
    history = fit(model, blobs, recipe, begun=lambda _: setattr(model, "seen", []))
    sums, counts = torch.zeros(60, 2), torch.zeros(60, 1)
    for x, outputs in model.seen:
        places = (x[:, None] == inputs).all(2).int().argmax(1)
        sums.index_add_(0, places, _by_hand(outputs, labels[places]))
        counts.index_add_(0, places, torch.ones(len(x), 1))
    assert counts.sum() == 180
    torch.testing.assert_close(history.labels, sums / counts)


@pytest.mark.parametrize("changes", [{}, {"accumulate": 2}, {"precision": "bf16"}], ids=str)
def test_traced_steps_count_the_same_bits(blobs: Arrays, changes: dict[str, Any]) -> None:
    found = [fit(small_net(), blobs, small_recipe(epochs=6, step=step, **changes)).labels for step in ("plain", "traced")]
    assert torch.equal(*found)


def test_of_mixtures_the_label_is_that_of_the_example_itself(pictures: Arrays) -> None:
    inputs, labels = pictures
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = model

        def forward(self, x: Tensor) -> Tensor:
            outputs: Tensor = self.net(x.float() / 255)
            return outputs

    history = fit(Scaled(), (inputs, labels), small_recipe(epochs=30, lr=0.05, mixup=0.2))
    # Mixtures are mostly of the example itself: so its label becomes probable, whichever the other's is.
    assert (history.labels[:, 0] > 0.5).float().mean() > 0.9


def test_wrong_labels_stand_out(blobs: Arrays) -> None:
    inputs, labels = blobs
    wrong = torch.tensor([3, 17, 40])
    given = labels.clone()
    given[wrong] = (labels[wrong] + 1) % 3
    history = fit(small_net(), (inputs, given), small_recipe(epochs=20, lr=0.02))
    assert sorted(history.labels[:, 0].argsort()[:3].tolist()) == wrong.tolist()
