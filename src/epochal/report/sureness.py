"""How sure a model is: whether its confidence is right, what is left above a threshold of it, and which sets of classes hold the truth."""

from __future__ import annotations

from epochal.evaluation.calibration import Calibration
from epochal.language import translated
from epochal.page import safe
from epochal.report import charts
from epochal.report.facts import Facts
from epochal.report.parts import beside, between, figure, numbers, percent, section, table, words
from epochal.tasks.scores import plain

# So many sizes of sets are drawn.
_SIZES = 12


def about_groups(facts: Facts) -> str:
    """Return a warning for intervals in which each example counts by itself, where groups are known."""
    if facts.groups is None:
        return ""
    return words("Examples of one group are alike, but count by themselves in this section: its intervals are too narrow.", kind="warning")


def calibration(facts: Facts) -> str:
    """Return the reliability diagram, the error of calibration beside its noise floor, and what a temperature would change."""
    found = None if facts.assessment is None else facts.assessment.calibration
    if facts.assessment is None or found is None:
        return ""
    tempered = facts.assessment.tempered
    if not found.is_shown:
        title = "Confidence is right, as far as so many examples can tell"
    elif found.excess_interval[0] <= 0 <= found.excess_interval[1]:
        title = "Confidence is too high for some answers, and too low for others"
    elif found.excess > 0:
        title = f"Confidence is {_points(found.excess)} points too high"
    else:
        title = f"Confidence is {_points(-found.excess)} points too low"
    shown = [_diagram(found, "reliability", "As it is")]
    if tempered is not None and tempered.helps and tempered.after is not None:
        shown.append(_diagram(tempered.after, "cooled", f"Outputs divided by {tempered.temperature:.3g}"))
    return section("calibration", title, *_about(facts, found), about_groups(facts), beside(*shown))


def _about(facts: Facts, found: Calibration) -> list[str]:
    assert facts.assessment is not None
    tempered = facts.assessment.tempered
    floor, limit = _points(found.floor), _points(found.limit)
    low, high = map(_points, found.interval)
    said = [
        words(
            f"Confidence and the share that is right differ by {_points(found.error)} points on average.",
            f"With {found.count:,} answers, a perfectly calibrated one would show {floor} points, and more than {limit} once in 20 times.",
        ),
        words(f"Without what chance adds, the error is {_points(found.debiased)} points (95 % interval {low} to {high})."),
    ]
    if tempered is None:
        return said
    if not tempered.helps:
        said.append(words("The model is already calibrated: on validation data, no temperature makes it better by more than chance."))
        return said
    before, after = plain(tempered.loss_before, 4), plain(tempered.loss_after, 4)
    sentences = [
        f"Dividing the outputs by {tempered.temperature:.3g} (fitted on validation data) changes no answer.",
        f"The loss on test data goes from {before} to {after}.",
    ]
    if tempered.after is not None:
        sentences.append(f"The error of calibration goes from {_points(found.error)} to {_points(tempered.after.error)} points.")
    return [*said, words(*sentences)]


def _diagram(found: Calibration, name: str, title: str) -> str:
    described = charts.Words(
        name,
        translated(title),
        translated("The share of answers that is right by their confidence; on the diagonal both are equal."),
        translated("confidence"),
        translated("right"),
    )
    drawn = charts.reliability(described, [(one.confidence, one.right, one.interval) for one in found.bins])
    rows = ((percent(one.confidence), percent(one.right), between(one.interval), f"{one.count:,}") for one in found.bins)
    listed = numbers(("confidence", "right", "95 % interval", "examples"), rows, f"Share that is right by confidence: {title}")
    return figure(title, drawn, listed, names=[("dotted", "answers, with 95 % interval"), ("plain", "perfectly calibrated")])


def confidence(facts: Facts) -> str:
    """Return accuracy by the share of examples that are answered, with the threshold chosen on validation data."""
    found = facts.assessment
    if found is None or not found.by_share:
        return ""
    accepted = found.accepted
    if accepted is None and len({right for _, right in found.by_share}) == 1:
        return ""
    if accepted is None:
        title = "How accuracy rises if only sure answers are given"
        said = words("No threshold was chosen: that needs validation data with some mistakes.", kind="soft")
        chosen = None
    else:
        share = accepted.share
        title = f"Of the {percent(share)} that it answers most surely, {percent(accepted.right)} are right"
        said = words(
            f"{accepted.answered:,} of {accepted.count:,} answers have a confidence of at least {percent(accepted.threshold)}.",
            f"{percent(accepted.right)} of these are right (95 % interval {between(accepted.interval)}).",
            f"The threshold was chosen on validation data, where {percent(accepted.aim)} are right above it: half of the mistakes.",
        )
        chosen = (share, accepted.right, accepted.interval)
    described = charts.Words(
        "by-share",
        translated(title),
        translated("Accuracy by the share of examples answered."),
        translated("answered"),
        translated("right"),
    )
    drawn = charts.curve(described, found.by_share, chosen)
    names = [("a", "the most confident answers"), *([("ring", "the threshold, with 95 % interval")] if chosen else [])]
    listed = numbers(("answered", "right"), ((percent(share), percent(right)) for share, right in found.by_share), "Accuracy by share")
    return section(
        "confidence",
        title,
        said,
        about_groups(facts),
        figure("Accuracy by the share of examples that are answered", drawn, listed, names=names),
    )


def sets(facts: Facts) -> str:
    """Return how often conformal sets of classes, or bands around quantities, hold the truth."""
    found = None if facts.assessment is None else facts.assessment.coverage
    if found is None:
        return ""
    more = "That is more often than promised." if found.measured > found.promised else "That is less often than promised."
    aim = words(
        f"Promised are {percent(found.promised, 0)}, for examples like the {found.calibrated:,} of validation that the threshold is from.",
        f"Of {found.count:,} test examples it is {percent(found.measured)}.",
        "The promise is kept." if found.is_kept else more,
        f"Where it is kept, 95 % of such measurements are {between(found.band)}.",
    )
    if found.size is None:
        title = f"Bands around predictions hold the truth in {percent(found.measured)}"
        names = facts.spec.outputs
        rows = ((safe(charts.shortened(name, 60)), f"± {plain(wide, 4)}") for name, wide in zip(names, found.threshold, strict=False))
        return section("sets", title, aim, about_groups(facts), table(("quantity", "the band is the prediction"), rows, "Bands"))
    title = f"Sets of {found.size:.3g} classes on average hold the truth in {percent(found.measured)}"
    how = words(f"A class is in the set if its probability is at least {percent(found.threshold[0], 2)}.", kind="soft")
    sizes = [(str(size), number, f"{number:,}", None) for size, number in enumerate(found.sizes[:_SIZES])]
    further = sum(found.sizes[_SIZES:])
    if further:
        sizes.append((translated(f"{_SIZES} or more"), further, f"{further:,}", None))
    label = "How many classes are in a set"
    described = charts.Words("sizes", translated(label), ", ".join(f"{name}: {said}" for name, _, said, _ in sizes))
    return section("sets", title, aim, how, about_groups(facts), figure(label, charts.rows(described, sizes)))


def _points(share: float) -> str:
    return f"{100 * share:.1f}"
