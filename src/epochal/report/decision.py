"""Another rule of choosing answers: what a threshold, or factors of classes, would change."""

from __future__ import annotations

from epochal.language import translated
from epochal.page import safe
from epochal.report.facts import Facts
from epochal.report.parts import between, cell, percent, quoted, section, table, words


def decision(facts: Facts) -> str:
    """Return the rule that was chosen on validation data, and the test score with and without it."""
    found = None if facts.assessment is None else facts.assessment.decision
    if found is None:
        return ""
    change, is_used = found.change, bool(facts.spec.task.thresholds)
    first, second = percent(change.first), percent(change.second)
    if is_used:
        title = f"Labels are named by thresholds: {found.goal} is {second} instead of {first}"
    elif found.is_shown:
        title = f"Another rule of choosing would raise {found.goal} from {first} to {second}"
    else:
        title = f"No other rule of choosing is shown to raise {found.goal}"
    low, high = (f"{100 * end:+.1f}" for end in change.interval)
    about = [
        words(
            f"The rule was chosen on {found.chosen_on:,} validation examples.",
            "The model uses it." if is_used else "The model does not use it (--thresholds tuned).",
            "It changes no probability, so calibration stays as it is.",
        ),
        words(
            f"The difference of {found.goal} on test data is {100 * change.value:+.1f} points (95 % interval {low} to {high}).",
            f"The share of right answers goes from {percent(found.accuracy[0])} to {percent(found.accuracy[1])}.",
        ),
    ]
    rows = [
        (safe(translated(name)), share, "–" if ends is None else safe(between(ends)))
        for name, share, ends in (("usual answers", first, found.before), ("with the other rule", second, found.after))
    ]
    listed = table(("", found.goal, "95 % interval"), rows, "The score with and without the other rule")
    if facts.spec.task.has_classes and found.thresholds:
        ((name, threshold),) = found.thresholds.items()
        about.insert(0, words(f"The rule: answer {quoted(name)} where its probability is at least {percent(threshold)}, instead of 50 %."))
    elif found.thresholds:
        shown = ((cell(name), percent(threshold)) for name, threshold in found.thresholds.items())
        listed += table(("label", "threshold"), shown, "Thresholds of labels")
        about.insert(0, words("The rule: a label is the answer where its probability is at least its own threshold, instead of 50 %."))
    else:
        shown = ((cell(name), f"{factor:.3f}") for name, factor in found.factors.items())
        listed += table(("class", "factor"), shown, "Factors of classes")
        about.insert(0, words("The rule: multiply probabilities by the factors of their classes, and answer the largest."))
    return section("decision", title, *about, listed)
