"""How far predicted quantities are off."""

from __future__ import annotations

from epochal.evaluation.wrong import Residuals
from epochal.language import translated
from epochal.report import charts
from epochal.report.facts import Facts
from epochal.report.parts import beside, figure, quoted, section, words
from epochal.tasks.regression import UNNAMED
from epochal.tasks.scores import plain


def quantities(facts: Facts) -> str:
    """Return predicted against true values, residuals, and how they are distributed, for each of the first quantities."""
    found = () if facts.assessment is None else facts.assessment.residuals
    return "".join(_quantity(one, number) for number, one in enumerate(found))


def _quantity(one: Residuals, number: int) -> str:
    low, middle, high = (plain(value, 3) for value in one.quantiles)
    title = f"Nine of ten predictions of {quoted(one.name)} are off by {low} to {high}"
    if one.name == UNNAMED:
        title = f"Nine of ten predictions are off by {low} to {high}"
    about = words(
        f"True less predicted: the median is {middle}.",
        "Where dots bend, widen or lean to one side, the model misses something.",
        kind="soft",
    )
    left = [(predicted, true - predicted) for true, predicted in one.points]
    pairs = list(one.points)
    bars = list(zip(one.edges, one.edges[1:], one.counts, strict=False))
    shown = (
        figure(
            "Predicted against true",
            charts.scatter(_said(f"pairs-{number}", "Predicted against true", "true", "predicted"), pairs, diagonal=True),
            names=[("plain", "predicted = true")],
        ),
        figure(
            "Residuals against predicted",
            charts.scatter(
                _said(f"left-{number}", "Residuals against predicted", "predicted", "true less predicted"), left, diagonal=False, level=True
            ),
        ),
        figure(
            "How residuals are distributed",
            charts.columns(_said(f"spread-{number}", "How residuals are distributed", "true less predicted", "examples"), bars),
        )
        if len(bars) > 1
        else "",
    )
    return section(f"quantity-{number}", title, about, beside(*shown))


def _said(name: str, title: str, x: str, y: str) -> charts.Words:
    return charts.Words(name, translated(title), translated(f"chart: {y} by {x}"), translated(x), translated(y))
