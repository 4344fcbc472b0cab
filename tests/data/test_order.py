"""Balanced epochs have as many examples of each class: a function of the seed and the epoch, like all that is random."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from epochal.data.examples import Examples
from epochal.data.feed import feed
from epochal.data.inputs.values import Inputs
from epochal.data.load import load
from epochal.data.mixing import Mixing
from epochal.data.order import Order, describe_balance, shares
from epochal.errors import RecipeError
from epochal.recipe import AugmentSettings, Recipe
from epochal.run.dry_run import dry_run
from epochal.training.loop import fit
from epochal.training.records import Started
from tests.small import Filed, Slow

CPU = torch.device("cpu")
# 40 examples of class 0, 3 of class 1, none of class 2, 17 of class 3.
CLASSES = torch.tensor([0] * 40 + [1] * 3 + [3] * 17)[torch.randperm(60, generator=torch.Generator().manual_seed(1))]


def _epoch(order: Order, epoch: int) -> list[int]:
    places: list[int] = order.places(torch.cat(order.batches(epoch, 0))).tolist()
    return places


def test_each_class_is_met_as_often_and_each_of_its_examples_in_turn() -> None:
    order = Order(60, 7, 5, CLASSES)
    met: Counter[int] = Counter()
    for epoch in range(1, 7):
        places = _epoch(order, epoch)
        assert Counter(CLASSES[places].tolist()) == {0: 20, 1: 20, 3: 20}
        met.update(places)
        for label in (0, 1, 3):
            # Nobody comes a second time more than others before all of the class have had their turn.
            times = [met[place] for place in CLASSES.eq(label).nonzero()[:, 0].tolist()]
            assert max(times) - min(times) <= 1
    assert len(met) == 60
    assert _epoch(order, 3) == _epoch(Order(60, 20, 5, CLASSES), 3)
    assert _epoch(order, 3) != _epoch(order, 4)
    assert _epoch(order, 3) != _epoch(Order(60, 7, 6, CLASSES), 3)
    # Its classes are not met one after the other.
    assert CLASSES[_epoch(order, 1)].diff().ne(0).sum() > 20


def test_shares() -> None:
    assert shares(60, 3) == [20, 20, 20]
    assert shares(62, 4) == [16, 16, 15, 15]
    assert shares(2, 3) == [1, 1, 0]
    assert sorted(_epoch(Order(2, 1, 0, torch.tensor([4, 4])), 1)) == [0, 1]


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_same_however_examples_are_read(workers: int, make_spec: Any) -> None:
    pixels = (torch.arange(60 * 25).reshape(60, 1, 5, 5) % 251).to(torch.uint8)
    spec = make_spec(shape=(1, 5, 5), dtype="uint8", outputs=("a", "b", "c", "d"), mean=(0.5,), std=(1.0,))
    settings = AugmentSettings(shift=2, mixup=0.4)
    found: list[list[Any]] = []
    for inputs in (pixels, Slow(pixels), Filed(pixels)):
        examples = Examples(inputs, CLASSES, "train", torch.arange(60))
        augment, mixing = spec.input.augment(settings, 1), Mixing(settings, spec, 1)
        batches = feed(examples, 8, CPU, shuffle_seed=3, augment=augment, mixing=mixing, workers=workers, balanced=True)
        found.append([batch[:3] for batch in batches.epoch(2)])
        assert all(torch.equal(one, two) for one, two in zip(found[-1][3], next(iter(batches.epoch(2, start=3)))[:3], strict=True))
    for other in found[1:]:
        assert all(
            torch.equal(one, two) for mine, theirs in zip(found[0], other, strict=True) for one, two in zip(mine, theirs, strict=True)
        )


def test_an_example_that_comes_again_is_changed_in_another_way(make_spec: Any) -> None:
    pixels = torch.randint(0, 255, (60, 1, 16, 16), dtype=torch.uint8)
    spec = make_spec(shape=(1, 16, 16), dtype="uint8", outputs=("a", "b", "c", "d"), mean=(0.5,), std=(1.0,))

    def forms(inputs: Inputs) -> int:
        augment = spec.input.augment(AugmentSettings(shift=6), 1)
        examples = Examples(inputs, CLASSES, "train", torch.arange(60))
        (batch,) = feed(examples, 60, CPU, shuffle_seed=3, augment=augment, balanced=True).epoch(1)
        first = int((CLASSES == 1).nonzero()[0])
        assert int((batch.places == first).sum()) >= 6
        return len(batch.inputs[batch.places == first].flatten(1).unique(dim=0))

    assert forms(pixels) >= 5
    assert forms(Slow(pixels)) >= 5


def test_what_it_does_is_reported(blobs: tuple[Tensor, Tensor]) -> None:
    reported = (
        "sampling = balanced: an epoch still has 60 examples, 20 of each class; "
        "one of '1' comes 6.67 times in it, one of '0' 0.5 times on average"
    )
    assert describe_balance((40, 3, 0, 17), ("0", "1", "2", "3")) == reported
    assert "20 or 21 of each class" in describe_balance((40, 3, 19), ("a", "b", "c"))
    started: list[Any] = []
    data = (torch.randn(60, 2), CLASSES)
    result = fit(nn.Linear(2, 3), data, {"epochs": 2, "sampling": "balanced"}, watchers=[started.append])
    (note,) = (record.notes for record in started if isinstance(record, Started))
    assert f"note: {reported}" in note
    assert [done.step for done in result.epochs] == [1, 2]
    heard: list[str] = []
    dry_run(blobs, Recipe().updated({"sampling": "balanced"}), log=heard.append)
    assert any(line.startswith("note: sampling = balanced: an epoch still has 42 examples") for line in heard)


def test_where_it_cannot_work(blobs: tuple[Tensor, Tensor]) -> None:
    for targets, task in ((blobs[0], "regression"), ((blobs[0] > 0).long(), "multi-label")):
        with pytest.raises(RecipeError, match=f"data.sampling = balanced does not work for {task} targets"):
            fit(nn.Linear(2, 2), load((blobs[0], targets)), {"sampling": "balanced"})
    with pytest.raises(RecipeError, match="would make up for rare classes twice"):
        fit(nn.Linear(2, 3), blobs, {"sampling": "balanced", "class_weights": "balanced"})
