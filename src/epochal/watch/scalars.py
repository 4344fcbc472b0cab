"""The single numbers of an epoch, by the names under which every tracker keeps them."""

from __future__ import annotations

from epochal.tasks.scores import Scores
from epochal.training.records import EpochDone


def valid_scalars(valid: Scores) -> dict[str, float]:
    """Return the single numbers of an evaluation: its loss, those of accuracy, macro F1, mse, mae and r2 that apply, and its metrics."""
    found = {
        "loss": valid.loss,
        "accuracy": valid.accuracy,
        "macro_f1": None if valid.macro is None else valid.macro.f1,
        "mse": valid.mse,
        "mae": valid.mae,
        "r2": valid.r2,
    }
    return {**valid.metrics, **{name: value for name, value in found.items() if value is not None}}


def epoch_scalars(done: EpochDone) -> dict[str, float]:
    """Return the numbers that trackers draw over the epochs: train/loss, valid/..., lr, and the speed."""
    valid = {} if done.valid is None else valid_scalars(done.valid)
    return {
        "train/loss": done.train_loss,
        **{f"valid/{name}": value for name, value in valid.items()},
        "lr": done.lr,
        "examples_per_second": done.examples_per_second,
        "waiting": done.waiting,
    }
