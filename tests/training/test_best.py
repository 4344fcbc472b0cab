"""Which epoch's weights are kept, and what is said of it."""

from __future__ import annotations

import math
from typing import Any

import pytest
from torch import nn

from epochal.errors import RecipeError
from epochal.recipe import Recipe
from epochal.tasks.intervals import share_interval
from epochal.tasks.scores import Scores
from epochal.training.best import FEW, Best, why_kept
from epochal.training.records import EpochDone


def _valid(loss: float, accuracy: float | None = None) -> Scores:
    return Scores(1, loss, accuracy)


def _see(changes: dict[str, Any], results: list[Scores | None]) -> tuple[list[bool], Best]:
    model = nn.Linear(1, 1, bias=False)
    best = Best(Recipe().updated(changes), model, has_valid=results[0] is not None)
    is_best = []
    for epoch, valid in enumerate(results, 1):
        nn.init.constant_(model.weight, epoch)
        is_best.append(best.update(epoch, model, valid))
    # The weights are those of that epoch, not a view of the latest.
    assert float(best.weights["weight"]) == best.epoch
    return is_best, best


def test_best_by_loss() -> None:
    is_best, best = _see({}, [_valid(3.0), _valid(1.0), _valid(1.0), _valid(2.0)])
    assert is_best == [True, True, False, False]
    assert (best.epoch, best.improved, best.score) == (2, 2, -1.0)


def test_best_by_accuracy() -> None:
    is_best, best = _see({"monitor": "accuracy"}, [_valid(3.0, 0.0), _valid(1.0, 0.9), _valid(0.5, 0.8)])
    assert is_best == [True, True, False]
    assert best.epoch == 2


def test_last_still_knows_when_it_improved() -> None:
    is_best, best = _see({"keep": "last"}, [_valid(3.0), _valid(1.0), _valid(2.0)])
    assert is_best == [True, True, True]
    assert (best.epoch, best.improved) == (3, 2)


def test_without_validation_the_last_is_kept() -> None:
    is_best, best = _see({}, [None, None, None])
    assert is_best == [True, True, True]
    assert best.epoch == 3
    with pytest.raises(RecipeError) as raised:
        Best(Recipe(patience=3), nn.Linear(1, 1), has_valid=False)
    assert str(raised.value) == "The setting patience needs validation data.\nSet data.valid above 0, or leave patience out."


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_no_number_is_never_the_best(loss: float) -> None:
    is_best, best = _see({}, [_valid(loss), _valid(2.0), _valid(loss), _valid(1.0)])
    assert is_best == [True, True, False, True]
    assert (best.epoch, best.score) == (4, -1.0)
    assert _see({}, [_valid(loss), _valid(loss)])[1].epoch == 1


def _counted(right: int, count: int, loss: float = 1.0) -> Scores:
    return Scores(count, loss, right / count, share_interval(right, count))


def _why(changes: dict[str, Any], results: list[Scores | None]) -> tuple[int, str]:
    is_best, best = _see(changes, results)
    epochs = [
        EpochDone(place, 9, place, 1.0, valid, 0.1, 1.0, 1.0, 0.0, kept)
        for place, (valid, kept) in enumerate(zip(results, is_best, strict=True), 1)
    ]
    return best.epoch, why_kept(Recipe().updated(changes), epochs, best.epoch)


def test_few_examples_keep_the_latest_epoch_that_is_as_good_as_the_best() -> None:
    # The lowest loss comes first; then accuracy rises, and falls within its error, and beyond it.
    results: list[Scores | None] = [_counted(*numbers) for numbers in ((14, 29, 0.9), (17, 29, 1.4), (16, 29, 1.6), (5, 29, 1.7))]
    few = "29 validation examples are too few to choose by (see data.valid)"
    assert _why({}, results) == (3, f"the latest whose validation accuracy is as good as the best (58.6 %), within the error; {few}")
    # What the user asks for is done.
    assert _why({"monitor": "loss"}, results) == (1, f"the lowest validation loss (0.9); {few}")
    assert _why({"monitor": "accuracy"}, results) == (2, f"the highest validation accuracy (58.6 %); {few}")
    assert _why({"keep": "last"}, results) == (4, "the last")


def test_a_better_epoch_is_kept_whatever_its_loss() -> None:
    assert _why({}, [_counted(90, 100), _counted(99, 100, 5.0), _counted(92, 100, 0.5)]) == (
        2,
        "the latest whose validation accuracy is as good as the best (99.0 %), within the error",
    )


def test_of_many_examples_the_loss_decides() -> None:
    results: list[Scores | None] = [_counted(900, FEW, 0.25), _counted(910, FEW, 0.5)]
    assert _why({}, results) == (1, "the lowest validation loss (0.25)")
    assert _why({}, [_counted(900, FEW - 1, 0.25), _counted(905, FEW - 1, 0.5)])[0] == 2


def test_quantities_are_chosen_by_their_loss() -> None:
    results: list[Scores | None] = [Scores(9, loss, r2=0.5) for loss in (2.0, 1.0, 3.0)]
    assert _why({}, results) == (2, "the lowest validation loss (1)")


def test_without_validation_data_that_is_why() -> None:
    assert _why({}, [None, None]) == (2, "the last, as there are no validation data to choose by")


def test_broken_epochs_are_not_as_good() -> None:
    assert _why({}, [_counted(5, 10), _counted(5, 10, math.nan)])[0] == 1
