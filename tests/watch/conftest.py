from collections.abc import Callable

import pytest
import torch

from epochal.data.spec import DataSpec
from epochal.recipe import Recipe
from epochal.tasks.scores import ClassScore, Scores
from epochal.training.records import EpochDone, Finished, Progress, Record, Started


class Records:
    """The records of a small training, made by hand."""

    recipe = Recipe().updated({"epochs": 3, "lr": 0.25, "model": "mlp", "monitor": "loss"})

    def spec(self, task: str = "single-label") -> DataSpec:
        return DataSpec.model_validate(
            {
                "name": "two",
                "task": {"name": task, "outputs": ("a", "b")},
                "input": {"kind": "numbers", "shape": (4,)},
                "counts": {"train": 90, "valid": 10},
                "fingerprint": "f00d",
            }
        )

    def started(self, recipe: Recipe | None = None, task: str = "single-label") -> Started:
        return Started(recipe or self.recipe, self.spec(task), torch.device("cpu"), 1234, 3, 300)

    def progress(self, epoch: int = 1, examples: int = 45) -> Progress:
        return Progress(epoch, 3, 50, 300, examples, 90, 0.75, 12345.6, 0.02, 83.0)

    def epoch(self, number: int, loss: float | None = 0.5, *, is_best: bool = True, train_loss: float = 0.625) -> EpochDone:
        valid = None if loss is None else self.classified(loss)
        return EpochDone(number, 3, number * 100, train_loss, valid, 0.25 / number, 1.5, 45678.0, 0.02, is_best)

    def regressed(self, number: int, r2: float = 0.875) -> EpochDone:
        valid = Scores(10, 0.5, mse=0.5, mae=0.25, r2=r2)
        return EpochDone(number, 3, number * 100, 0.625, valid, 0.25, 1.5, 45678.0, 0.02, True)

    def classified(self, loss: float) -> Scores:
        score = ClassScore("macro", 0.5, 0.5, 0.75, 10, 10)
        return Scores(10, loss, accuracy=0.9, interval=(0.6, 0.98), macro=score, weighted=score)

    def finished(self, reason: str = "epochs", best_epoch: int = 2) -> Finished:
        return Finished(3, 300, best_epoch, reason, 4.56)

    def training(self) -> list[Record]:
        return [self.started(), self.epoch(1, 0.6), self.epoch(2, 0.5), self.epoch(3, 0.55, is_best=False), self.finished()]


@pytest.fixture
def records() -> Records:
    return Records()


@pytest.fixture
def log() -> Callable[[Callable[[Record], None], list[Record]], None]:
    def log(watcher: Callable[[Record], None], all_of_it: list[Record]) -> None:
        for record in all_of_it:
            watcher(record)

    return log
