"""The beginning of a report: the result in one sentence, beside what would be had without a model, and how training went."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from epochal.language import translated
from epochal.page import safe, said
from epochal.report import charts
from epochal.report.facts import SPLITS, Facts
from epochal.report.parts import beside, between, figure, numbers, percent, quoted, section, words
from epochal.shown import counted
from epochal.tasks.base import Task
from epochal.tasks.scores import plain

# Why training ended.
_ENDINGS = {
    "epochs": "Training ended after the last epoch.",
    "steps": "Training ended after the last step that it was given.",
    "seconds": "Training ended when its time was up.",
    "patience": "Training ended since the score no longer improved.",
}


def header(facts: Facts) -> str:
    """Return the result in one sentence, its interval, the number of examples, the baseline, and a few more numbers."""
    model = facts.result["model"]["name"]
    about = " · ".join([translated("Report"), facts.name, facts.spec.name, str(model)])
    inner = f'<p class="about">{safe(about)}</p><h1>{said(headline(facts))}</h1>{"".join(_context(facts))}'
    rows = "".join(
        f"<div><dt>{name}</dt><dd>{value}{f'<small>{note}</small>' if note else ''}</dd></div>" for name, value, note in _numbers(facts)
    )
    return f'<header>{inner}<dl class="numbers">{rows}</dl></header>'


def headline(facts: Facts) -> str:
    """Return the result in one sentence."""
    scores, examples = facts.scores, SPLITS[facts.split]
    if scores is None:
        return "Nothing was measured: there were neither validation nor test data"
    if scores.accuracy is None:
        return f"Predictions of {scores.count:,} {examples} are off by {plain(scores.mae or 0.0, 4)} on average"
    if facts.spec.task.has_classes:
        return f"{percent(scores.accuracy)} of {scores.count:,} {examples} are right"
    return f"All labels are right in {percent(scores.accuracy)} of {scores.count:,} {examples}"


def _context(facts: Facts) -> Iterator[str]:
    scores, assessment = facts.scores, facts.assessment
    if scores is None:
        return
    if scores.interval is not None and scores.accuracy is not None:
        low, high = (f"{100 * end:.1f}" for end in scores.interval)
        lead = f"Of all such examples it would be {low} to {high} % (95 % interval)."
        if facts.split == "folds":
            lead = f"Models trained in this way would have {low} to {high} % of all such examples right (95 % interval)."
        yield words(lead, kind="lead")
        if (always := scores.baseline) is not None:
            yield words(f"Always answering {quoted(always.answer)} would be right in {percent(always.accuracy)}.", kind="lead")
        title = f"Accuracy {percent(scores.accuracy)}, with its 95 % interval"
        marks = None if always is None else (always.accuracy, translated("always the commonest"))
        named = charts.Words("standing", translated(title), translated(title))
        yield charts.standing(named, scores.accuracy, scores.interval, marks)
    elif assessment is not None and (mean := assessment.scores.get("mean absolute error")) is not None:
        if mean.interval is not None:
            lead = f"On average over all such examples it would be {_ends(mean.interval)} (95 % interval)."
            if facts.split == "folds":
                lead = f"Of models trained in this way it would be {_ends(mean.interval)} on average (95 % interval)."
            yield words(lead, kind="lead")
        if assessment.baseline is not None:
            yield words(f"Always answering the mean of the training data would be off by {plain(assessment.baseline, 4)}.", kind="lead")
    if facts.groups is not None:
        yield words(f"Examples of one group count together in intervals: {counted(facts.groups, 'group')}.", kind="lead")
    if facts.split == "valid":
        yield words(
            "There was no test data. These are the validation examples, by which the weights were chosen: new ones may score lower.",
            kind="warning",
        )
    if facts.advice:
        first, *options = facts.advice
        # In a terminal, the settings are a column, and what they do is another.
        parts = (translated(option).strip().partition("  ") for option in options)
        listed = "".join(f"<li><b>{safe(setting)}</b>{safe(said_of.strip())}" for setting, _, said_of in parts)
        yield f'<div class="warning">{words(first)}<ul>{listed}</ul></div>'


def _numbers(facts: Facts) -> Iterator[tuple[str, str, str]]:
    scores, result = facts.scores, facts.result
    if scores is not None:
        if facts.assessment is not None:
            for name, found in facts.assessment.scores.items():
                shares = scores.accuracy is not None
                value = percent(found.value) if shares else plain(found.value, 4)
                ends = "" if found.interval is None else between(found.interval) if shares else _ends(found.interval)
                yield said(name), value, safe(ends)
            if len(facts.spec.outputs) == 2 and facts.spec.task.has_classes:
                for name, ranked in (("AUROC", facts.assessment.areas), ("average precision", facts.assessment.precisions)):
                    for of, found in ranked.items():
                        ends = "" if found.interval is None else f"{found.interval[0]:.4f} – {found.interval[1]:.4f}"
                        yield f"{said(name)}, {safe(of)}", f"{found.value:.4f}", ends
        if scores.r2 is not None and scores.mse is not None:
            yield "R²", f"{scores.r2:.4f}", ""
            yield said("root mean squared error"), plain(math.sqrt(scores.mse), 4), ""
        for k, share in scores.top_k.items():
            if k == max(scores.top_k):
                yield said(f"right among the first {k}"), percent(share), ""
        yield said("loss"), plain(scores.loss, 4), ""
        for name, measured in scores.metrics.items():
            yield safe(name), f"{measured:.4g}", ""
    yield said("parameters"), f"{result['model']['parameters']:,}", ""
    yield said("epochs"), f"{result['epochs']:,}", safe(translated(f"{result['training_seconds']:.3g} s of training"))


def _ends(interval: tuple[float, float]) -> str:
    return translated(f"{plain(interval[0], 4)} to {plain(interval[1], 4)}")


def curves(facts: Facts) -> str:
    """Return loss and score over the epochs, with the epoch whose weights were kept."""
    if not facts.epochs:
        return ""
    best, ended = facts.result["best_epoch"], str(facts.result["ended_by"])
    return section(
        "training",
        f"The weights of epoch {best} of {len(facts.epochs)} were kept",
        words("They are marked by a ring.", _ENDINGS.get(ended, f"Training was ended by: {ended}."), kind="soft"),
        by_epoch(facts.epochs, facts.spec.task, best),
    )


def by_epoch(epochs: Sequence[Mapping[str, Any]], task: Task, best: int) -> str:
    """Return the charts of loss and score over the `epochs` (lines of metrics.jsonl), with a ring around the `best`, and their numbers."""
    train = [(float(one["epoch"]), _number(one["train_loss"])) for one in epochs]
    measured = [one for one in epochs if one["valid"] is not None]
    valid = [(float(one["epoch"]), _number(one["valid"]["loss"])) for one in measured]
    name = "accuracy" if task.has_accuracy else "r2"
    scores = [(float(one["epoch"]), _number(one["valid"].get(name))) for one in measured]
    kept = next((place for place, (epoch, _) in enumerate(valid) if epoch == best), None)
    series = [train, valid] if valid else [train]
    title = f"The loss fell from {plain(train[0][1], 3)} to {plain(train[-1][1], 3)} in training"
    shown = [
        figure(
            title,
            charts.lines(_said("loss", title, "epoch", "loss"), series, None if kept is None else valid[kept]),
            names=[("a", "training"), *([("b", "validation")] if valid else [])],
        )
    ]
    if any(math.isfinite(score) for _, score in scores):
        value = math.nan if kept is None else scores[kept][1]
        title = f"Validation {task.score_name} reached {task.score_words(value)} in epoch {best}"
        drawn = charts.lines(
            _said("score", title, "epoch", task.score_name), [scores], None if kept is None else scores[kept], percent=task.has_accuracy
        )
        shown.append(figure(title, drawn, names=[("a", "validation")]))
    rows = [
        (str(one["epoch"]), *(plain(found, 4) for found in (_number(one["train_loss"]), *_of(valid, place))), *_score(task, scores, place))
        for place, one in enumerate(epochs)
    ]
    heads = ("epoch", "training loss", *(("validation loss", task.score_name) if valid else ()))
    return beside(*shown) + numbers(heads, rows, "Loss and score of each epoch")


def _of(points: list[tuple[float, float]], place: int) -> tuple[float, ...]:
    return (points[place][1],) if place < len(points) else ()


def _score(task: Task, points: list[tuple[float, float]], place: int) -> tuple[str, ...]:
    return tuple(task.score_words(value) for value in _of(points, place))


def _number(value: float | str | None) -> float:
    """Return a number of a JSON file, where one that is not finite is missing or text."""
    return math.nan if value is None else float(value)


def _said(name: str, title: str, x: str, y: str) -> charts.Words:
    return charts.Words(name, translated(title), translated(f"chart: {y} by {x}"), translated(x), translated(y))
