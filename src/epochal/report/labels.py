"""Labels: which of them are likely wrong, and what more of them would bring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from epochal.evaluation.label_errors import LabelErrors
from epochal.evaluation.labels import LearningCurve
from epochal.language import translated
from epochal.page import safe, said
from epochal.report import charts
from epochal.report.facts import SPLITS, Facts
from epochal.report.parts import cell, figure, folded, numbers, quoted, section, table, words
from epochal.report.seen import gallery
from epochal.shown import counted

# So many pairs of classes are put in words.
_PAIRS = 5


def label_errors(facts: Facts) -> str:
    """Return the training labels that are likely wrong: how many, what the list is worth, the first to look at, and where all are."""
    values = facts.result.get("label_errors")
    if values is None:
        return ""
    found = LabelErrors.from_json(values)
    if not found.listed:
        return ""
    are_quantities = found.kind == "quantities"
    how = "All along training, the network found the given label improbable, and was sure of another."
    if are_quantities:
        how = "All along training, predictions were farther from the given value than usual noise would be."
    elif found.by == "folds":
        how = "Models that were trained without these examples were as sure of another class as they usually are where it is given."
    how, shown = how if found.likely else "", gallery(facts.exhibits.labels, "given:")
    below = "Below each is what it may be, then the given label and how probable that was on average."
    if are_quantities:
        below = "Below each is what is predicted, then the given value and its distance, in standard deviations (σ) of what is usual."
    check = found.check
    if are_quantities:
        worth = words("How much of this list is right differs between data: rare values that are true are in it, too.", kind="soft")
    elif check is None:
        worth = words("How much of this list is right differs between data, and was not measured: --label-check does.", kind="soft")
    else:
        first, *rest = check.lines()
        worth = words(f"{first}.") + f'<ul class="said">{"".join(f"<li>{said(line)}" for line in rest)}</ul>'
    where = f"All {values['listed']:,} to look at are in labels.csv, in the folder of the run; its column 'label' is for corrections."
    scores = (f"{one.score:.1f} σ" if are_quantities else f"{100 * one.score:.1f} %" for one in found.listed)
    rows = [(f"{one.rank}", cell(one.example), *map(cell, one.said), score) for one, score in zip(found.listed, scores, strict=True)]
    heads = ("rank", "example", "given", "suggested", "distance" if are_quantities else "probability of the given one")
    listed = numbers(heads, rows, "Labels to look at")
    return section(
        "label-errors",
        str(found),
        words(*filter(None, (how, below if shown else "")), kind="soft") if how or shown else "",
        worth,
        _often(values["pairs"][:_PAIRS]),
        shown if found.likely or not shown else folded("Those to look at first", shown),
        words(where),
        listed,
    )


def _often(pairs: Sequence[Mapping[str, Any]]) -> str:
    """Say which classes are given, and suggested, most often."""
    told = (
        f"{quoted(one['given'])} is given, and {quoted(one['suggested'])} more probable: {counted(one['count'], 'time')}" for one in pairs
    )
    return f'<ul class="said">{"".join(f"<li>{said(one)}" for one in told)}</ul>' if len(pairs) > 1 else ""


def score_by_labels(facts: Facts) -> str:
    """Return the score by the number of labels, and what twice as many would bring; "" where that was not measured."""
    values = facts.result.get("learning_curve")
    if values is None:
        return ""
    curve = LearningCurve.from_json(values, facts.spec.task)
    twice, now = curve.twice, curve.points[-1]
    if twice is None:
        title, expected = "What twice as many labels would bring cannot be told", None
    else:
        title = f"Twice as many labels would bring about {curve.words(twice.score)} instead of {curve.words(now.score)}"
        expected = float(twice.labels), twice.score, twice.interval
    score = curve.task.score_name
    label = f"{score[:1].upper()}{score[1:]} by the number of labels"
    described = charts.Words("by-labels", translated(label), translated(curve.title), translated("labels"), translated(score))
    points = [(float(one.labels), one.score, one.interval) for one in curve.points]
    names = [("dotted", "measured, with 95 % interval"), *([] if expected is None else [("ring", "expected")])]
    drawn = charts.by_size(described, points, expected, percent=curve.task.has_accuracy)
    rows = ((safe(first), *(safe(translated(one)) for one in rest)) for first, *rest in curve.table())
    return section(
        "labels",
        title,
        words(f"Why: {curve.why}.") if curve.why else "",
        words(
            "Each size was drawn several times from the training examples.",
            f"All models were measured on the same {curve.count:,} {SPLITS[curve.measured_on]}.",
            kind="soft",
        ),
        figure(label, drawn, folded("The numbers", table(curve.heading, rows, label)), names=names),
    )
