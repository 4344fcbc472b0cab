"""The epochs so far, as a checkpoint has them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from epochal.tasks.scores import Scores
from epochal.training.records import EpochDone
from epochal.training.saved import Count, Saved


class EpochSaved(Saved):
    """What a file has of an epoch."""

    epoch: Count
    epochs: Count
    step: Count
    train_loss: float
    valid: dict[str, Any] | None
    lr: float
    seconds: float
    examples_per_second: float
    waiting: float
    is_best: bool
    rewinds: Count

    def record(self) -> EpochDone:
        """Return it as the record that it was."""
        return EpochDone(**{**dict(self), "valid": None if self.valid is None else Scores.from_json(self.valid)})


def plain_history(history: Sequence[EpochDone]) -> list[dict[str, Any]]:
    """Return records as JSON has them."""
    return [_plain(done) for done in history]


def _plain(done: EpochDone) -> dict[str, Any]:
    values = {name: getattr(done, name) for name in done.__dataclass_fields__}
    if done.valid is None:
        return values
    return values | {"valid": _finite_or_named(done.valid.to_json())}


def _finite_or_named(value: Any) -> Any:
    """JSON has no number that is not finite; `Scores.from_json` reads its name as well."""
    if isinstance(value, dict):
        return {name: _finite_or_named(inner) for name, inner in value.items()}
    return repr(value) if isinstance(value, float) and not math.isfinite(value) else value
