"""A model as it is served: what computes it, and what is told about it."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from epochal.bundle import Bundle, weights_file
from epochal.data.inputs.base import InputRule
from epochal.data.inputs.picture.rule import PictureRule
from epochal.data.inputs.scaled import ScaledRule
from epochal.data.inputs.sound.rule import SoundRule
from epochal.data.inputs.table.columns import Column
from epochal.data.inputs.table.rule import TableRule
from epochal.data.inputs.text.rule import TextRule
from epochal.errors import DataError
from epochal.io.safe_read import read_json
from epochal.models.pretrained.head import AT_ONCE
from epochal.predictor import Predictor, Runtime
from epochal.serve.batching import Lane
from epochal.tasks.base import Prediction

# The most inputs that are computed together, and the most numbers in them.
MAX_BATCH, _MAX_NUMBERS = 256, 1 << 26

# Whether a model is quick is looked at for so many seconds; the server measures all that it serves for longer.
_LOOK = 0.05

# Runtimes are compared on so many made-up inputs.
_COMPARED = 64

# The most words of a column that are told: for a page to choose from.
_WORDS = 50


@dataclass(frozen=True)
class Served:
    """A model by the name under which it is served. `card` is what GET /model says of it."""

    name: str
    predictor: Predictor
    card: dict[str, Any]

    @property
    def bundle(self) -> Bundle:
        """The model with all that it needs."""
        return self.predictor.bundle

    @property
    def rule(self) -> InputRule:
        """How its inputs are read."""
        return self.bundle.spec.input

    @property
    def most(self) -> int:
        """How many inputs are computed together at most."""
        return AT_ONCE if self.bundle.is_large else max(1, min(MAX_BATCH, _MAX_NUMBERS // self.rule.size))

    @property
    def is_regular(self) -> bool:
        """Whether it takes the same time for all inputs: not by their lengths, nor as the user's own code likes."""
        return self.bundle.origin is not None and not self.bundle.is_large

    def answers(self, values: Tensor) -> list[dict[str, Any]]:
        """Return what is said of each input, from its values [n, outputs]."""
        return [_answer(self.bundle.spec.task.predict(row)) for row in values.tolist()]


def _answer(found: Prediction) -> dict[str, Any]:
    if not all(map(math.isfinite, found.values.values())):
        return {"error": {"message": "The model's answer is not finite.", "fix": "Check the input for extreme numbers."}}
    return found.to_json()


def open_model(
    path: Path,
    name: str = "",
    *,
    own: str | None = None,
    runtime: Runtime = "eager",
    device: str = "auto",
    log: Callable[[str], object] | None = None,
) -> Served:
    """Open the model of a run to be served, by its folder's name if it has no other.

    `own` is the code of the user's own network, as FILE.py:NAME; `runtime` and `device` as for `Predictor`, but that "auto" measures
    now, on made-up inputs, if batches take long. Raises `BundleError`.
    """
    bundle = Bundle.load(path, own, log=log)
    name = name or name_of(path)
    predictor = Predictor(bundle, runtime=runtime, device=device)
    with weights_file(path).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    served = Served(name, predictor, describe_model(name, bundle, test_result(path), digest))
    if runtime == "auto" and not _is_quick(served):
        predictor.decide(made_up(served.rule, min(served.most, _COMPARED)), lambda note: log(f"note: {note}") if log else None)
    return served


def _is_quick(served: Served) -> bool:
    """Whether requests wait for other things than the model: then another runtime would not be noticed."""
    lane = Lane(served.predictor, served.most)
    lane.warm_up(served.rule.zeros(), _LOOK, may_be_quick=True)
    return lane.is_quick


def made_up(rule: InputRule, count: int) -> Tensor:
    """Return random raw inputs [count, *shape], with values that a model knows."""
    inputs, random = rule.zeros().repeat_interleave(count, 0), torch.Generator().manual_seed(0)
    match rule:
        case TextRule():
            inputs.random_(1, rule.most + 1, generator=random)
            if rule.tokens == "ngrams":
                inputs[:, 1] = 1
        case TableRule():
            for place, column in enumerate(rule.columns):
                known = torch.tensor(column.knots or column.common or (0.0,))
                inputs[:, place] = known[torch.randint(len(known), (count,), generator=random)]
        case ScaledRule() if inputs.dtype != torch.uint8:
            inputs += (rule.mean[0] + rule.std[0] * torch.randn(inputs.shape, generator=random)).to(inputs.dtype)
        case _:  # pixels and samples
            inputs.random_(generator=random)
    return inputs


def name_of(path: Path) -> str:
    """Return what the model in a folder, or in a file, is called if it has no other name."""
    return path.resolve().stem if path.is_file() else path.resolve().name


def named(text: str) -> tuple[str, Path]:
    """Return the name and the folder in RUN, or in NAME=RUN."""
    name, equals, folder = text.partition("=")
    return (name, Path(folder)) if equals and not Path(text).exists() else ("", Path(text))


def check_names(models: Sequence[Served]) -> None:
    """Raise `DataError` where two models have the same name."""
    twice = [name for name, count in Counter(model.name for model in models).items() if count > 1]
    if twice:
        raise DataError(f"Two models are named {twice[0]}.", f"Name one of them: other={twice[0]}.")


def test_result(path: Path) -> dict[str, Any] | None:
    """Return what the run measured on its test data, if that is there."""
    try:
        found = read_json(path / "result.json").get("test")
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict):
        return None
    told = {name: found[name] for name in ("accuracy", "interval", "mae", "r2", "f1", "loss") if isinstance(found.get(name), float | list)}
    return {**told, "n": found.get("count")}


def describe_model(name: str, bundle: Bundle, tested: dict[str, Any] | None, digest: str) -> dict[str, Any]:
    """Return what is told about a model: what it takes and answers, how good it was on test data, and its weights' SHA-256."""
    spec = bundle.spec
    return {
        "name": name,
        "kind": spec.input.kind,
        "task": spec.task.name,
        "outputs": list(spec.outputs),
        "thresholds": list(spec.task.thresholds),
        "input": _described(spec.input),
        "trained_on": spec.describe(),
        "test": tested,
        "parameters": sum(weights.numel() for weights in bundle.model.parameters()),
        "version": metadata.version("epochal"),
        "sha256": digest,
    }


def _described(rule: InputRule) -> dict[str, Any]:
    told: dict[str, Any] = {"shape": list(rule.shape), "dtype": rule.dtype}
    match rule:
        case PictureRule():
            told |= {"channels": rule.shape[0], "size": list(rule.side), "fit": rule.fit, "files": rule.mode is not None}
            told |= {"edge_colour": list(rule.edge_colour), "mean": list(rule.mean), "std": list(rule.std)}
            told |= {"ink": rule.ink and rule.ink.model_dump(mode="json")}
        case SoundRule():
            told |= {"rate": rule.rate, "seconds": rule.seconds * rule.windows}
        case TableRule():
            told |= {"columns": [_column(column) for column in rule.columns]}
        case TextRule():
            told |= {"tokens": rule.tokens, "length": rule.length}
    return told


def _column(column: Column) -> dict[str, Any]:
    told: dict[str, Any] = {"name": column.name, "kind": column.kind, "middle": middle_of(column)}
    if not column.is_number:
        # Those that training data have often enough come first; how often is not kept.
        common = [column.words[int(code) - 1] for code in column.common]
        return {**told, "words": [*common, *(word for word in column.words if word not in common)][:_WORDS]}
    return {**told, **({"low": _value(column, column.knots[0]), "high": _value(column, column.knots[-1])} if column.knots else {})}


def middle_of(column: Column) -> float | str | None:
    """Return a usual value of a column: the median of numbers, a word that is not rare; `None` if there is none."""
    if not column.is_number:
        return column.words[int(column.common[0]) - 1] if column.common else None
    # Scores are those of the normal distribution: 0 is in the middle.
    places = sorted(zip(column.scores, column.knots, strict=True), key=lambda pair: abs(pair[0]))
    return _value(column, places[0][1]) if places else None


def _value(column: Column, value: float) -> float | str:
    return column.words_of(value) if column.kind == "date" else float(f"{value + column.offset:.6g}")
