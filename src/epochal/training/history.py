"""The epochs so far, as they are saved in a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from epochal.tasks.scores import Scores
from epochal.training.records import EpochDone
from epochal.training.saved import Count, Saved


class EpochSaved(Saved):
    """The saved form of an epoch."""

    epoch: Count
    epochs: Count
    step: Count
    train_loss: float
    valid: str | None
    lr: float
    seconds: float
    examples_per_second: float
    waiting: float
    is_best: bool
    rewinds: Count

    def record(self) -> EpochDone:
        """Return the record."""
        return EpochDone(**{**dict(self), "valid": None if self.valid is None else Scores.from_json(json.loads(self.valid))})


def plain_history(history: Sequence[EpochDone]) -> list[dict[str, Any]]:
    """Return records in their saved form."""
    return [_plain(done) for done in history]


def _plain(done: EpochDone) -> dict[str, Any]:
    values = {name: getattr(done, name) for name in done.__dataclass_fields__}
    # As text: a score may be NaN, and the name of a class may come from a folder whose name is not UTF-8.
    return values | {"valid": None if done.valid is None else json.dumps(done.valid.to_json())}
