"""The report of a run as one page: what was found in the order in which people ask for it."""

from __future__ import annotations

import re
from pathlib import Path

from epochal.language import translated
from epochal.page import document, opening, said
from epochal.report import charts
from epochal.report.classes import confusion, per_class
from epochal.report.decision import decision
from epochal.report.facts import Facts
from epochal.report.labels import label_errors, score_by_labels
from epochal.report.made import data, environment, settings, time
from epochal.report.quantities import quantities
from epochal.report.result import curves, header, headline
from epochal.report.seen import importance, mistakes, samples
from epochal.report.several import cross_validation, repeats
from epochal.report.slices import slices
from epochal.report.sureness import calibration, confidence, sets

_KIND = "Epochal report"

# The beginning of the page, by which it is recognized as ours.
MARK = opening(_KIND)

# What the links at the top are called, by section.
_LINKS = {
    "folds": "Folds",
    "repeats": "Seeds",
    "training": "Training",
    "labels": "More labels",
    "confusion": "Confusions",
    "classes": "Classes",
    "quantity-0": "Residuals",
    "slices": "Slices",
    "decision": "Threshold",
    "calibration": "Calibration",
    "mistakes": "Mistakes",
    "label-errors": "Label errors",
    "confidence": "Confidence",
    "sets": "Sets",
    "importance": "Columns",
    "samples": "Samples",
    "time": "Time",
    "settings": "Settings",
    "environment": "Environment",
    "data": "Data",
}

STYLE = Path(__file__).with_name("page.css").read_text("utf-8")


def render(facts: Facts, script: str = "") -> str:
    """Return the page; a server may give it a `script`, by its address."""
    parts = (
        cross_validation(facts), repeats(facts), curves(facts), score_by_labels(facts), confusion(facts), per_class(facts),
        quantities(facts), decision(facts), slices(facts), calibration(facts), mistakes(facts), label_errors(facts), confidence(facts),
        sets(facts), importance(facts), samples(facts), time(facts), settings(facts), environment(facts), data(facts),
    )  # fmt: skip
    body = "\n".join(filter(None, parts))
    there = re.findall(r'<section id="([\w-]+)"', body)
    links = "".join(f'<a href="#{name}">{said(_LINKS[name])}</a>' for name in there if name in _LINKS)
    top = f'{header(facts)}<nav aria-label="{said("Sections")}">{links}</nav>'
    return document(_KIND, f"{facts.name}: {translated(headline(facts))}", f"{top}\n<main>\n{body}\n</main>", charts.STYLE + STYLE, script)
