"""Advice for a model that has hardly learned anything: it is no better than the same answer for every example."""

from __future__ import annotations

from collections.abc import Iterator

from epochal.data.inputs.changes import asked_changes
from epochal.data.spec import DataSpec
from epochal.language import translated
from epochal.recipe import Recipe
from epochal.shown import counted
from epochal.tasks.scores import Scores

# Class weights matter if the largest class is this many times as large as the smallest.
_UNEVEN = 1.5


def advice(test: Scores, spec: DataSpec, recipe: Recipe, check: str = "epochal check DATA") -> tuple[str, ...]:
    """If `test` is not clearly better than its baseline, return lines that say so, and what to try; `check` is how to check the data."""
    always = test.baseline
    if always is not None and test.interval is not None and test.interval[0] <= always.accuracy:
        verdict = f"This is not clearly better than always answering '{always.answer}' ({100 * always.accuracy:.1f} %). What to try:"
    elif test.r2 is not None and test.r2 <= 0:
        verdict = "This is no better than always answering the mean. What to try:"
    else:
        return ()
    return verdict, *(f"  {option:<24}  {translated(reason)}" for option, reason in _options(spec, recipe, check))


_RECIPES = {
    "picture": ("--recipe photos", "a residual network, on pictures that are mirrored and shifted at random"),
    "sound": ("--recipe sound", "sounds that are shifted, masked and made noisier at random, and longer training"),
}


def _options(spec: DataSpec, recipe: Recipe, check: str) -> Iterator[tuple[str, str]]:
    if spec.input.kind in _RECIPES and not any(asked_changes(recipe.augment)):
        yield _RECIPES[spec.input.kind]
    yield f"--epochs {max(30, 3 * recipe.epochs)}", f"longer training than {counted(recipe.epochs, 'epoch')}"
    counts = spec.task.class_counts.get("train", ())
    if counts and max(counts) >= _UNEVEN * max(min(counts), 1) and recipe.loss.class_weights == "equal":
        yield "--class-weights balanced", "every class counts the same, however few examples it has"
    if not spec.input.can_augment:
        yield f"--lr {recipe.optimizer.lr / 10:g}", "smaller steps"
    yield check, "broken or wrongly labelled examples; and more examples help most"
