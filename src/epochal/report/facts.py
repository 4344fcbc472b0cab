"""What a report is made of: the files of a run, read and checked. It is all that the sections see, and no number is computed after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from epochal.data.spec import DataSpec
from epochal.evaluation.assessment import Assessment
from epochal.evaluation.folds import CrossValidation
from epochal.evaluation.repeats import Repeats
from epochal.recipe import Recipe
from epochal.report.exhibits import Exhibits
from epochal.tasks.scores import Scores

# What the examples of each split are called.
SPLITS = {"train": "training examples", "valid": "validation examples", "test": "test examples", "folds": "examples out of fold"}


@dataclass(frozen=True)
class Facts:
    """A finished run: `result` is the content of result.json, `data` of data.json, and `epochs` has the lines of metrics.jsonl.

    `scores` are those of `split`: of test data or, without these, of `folds`, or of validation data; `None` without either. `confusion`
    is its confusion matrix, empty where there is none or it is too large to be written. `advice` is what to try with a model that has
    hardly learned anything. `folds` is what cross-validation measured, if it did, and `repeats` what several seeds did. `groups` is how
    many groups the examples of `split` are in, where they are known.
    """

    name: str
    spec: DataSpec
    recipe: Recipe
    result: Mapping[str, Any]
    epochs: Sequence[Mapping[str, Any]]
    data: Mapping[str, Any]
    environment: Mapping[str, Any]
    exhibits: Exhibits
    split: str
    scores: Scores | None
    assessment: Assessment | None
    confusion: Sequence[Sequence[int]] = ()
    advice: tuple[str, ...] = ()
    folds: CrossValidation | None = None
    groups: int | None = None
    repeats: Repeats | None = None
