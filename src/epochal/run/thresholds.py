"""Thresholds for the answers of a trained model, where its recipe asks for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from epochal.bundle import Bundle
from epochal.evaluation.decision import tuned
from epochal.evaluation.evaluate import evaluate
from epochal.run.prepare import Prepared


def with_thresholds(bundle: Bundle, prepared: Prepared, log: Callable[[str], object]) -> Bundle:
    """Return the bundle of a trained model with thresholds that are chosen on its validation data, if that is what the recipe says."""
    recipe, (model, data) = prepared.recipe, prepared.learner
    if recipe.thresholds == "default":
        return bundle
    assert data.valid is not None
    measured = evaluate(
        model, data.valid, bundle.spec, device=prepared.device, batch_size=recipe.eval_batch_size, precision=recipe.precision
    )
    task = tuned(measured)
    if not task.thresholds:
        log("note: no thresholds are better on validation data than the usual answers, which are kept")
    return replace(bundle, spec=bundle.spec.model_copy(update={"task": task}))
