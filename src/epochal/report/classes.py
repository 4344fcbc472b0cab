"""Which classes a model confuses, and how good it is at each of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from epochal.evaluation.assessment import Measured
from epochal.page import safe, said
from epochal.report import charts
from epochal.report.facts import Facts
from epochal.report.parts import between, cell, folded, percent, quoted, section, table, words
from epochal.shown import counted
from epochal.tasks.scores import ClassScore

# Matrices of more classes are not drawn, rates are written for so many, and tables begin with so many.
_DRAWN, _RATED, _LISTED = 30, 12, 20

# The most of a colour, so that black and white text can be read on it.
_DARKEST = 0.42

# Longer names are turned above more columns than so many.
_SHORT, _WIDE = 3, 3

# So many confusions are put in words.
_SAID = 5


def confusion(facts: Facts) -> str:
    """Return the largest confusions in words, and the whole matrix where it can be read."""
    found = facts.assessment
    if found is None or not facts.spec.task.has_classes:
        return ""
    if not found.confusions:
        return section("confusion", "No class is taken for another", _matrix(facts))
    first = found.confusions[0]
    title = "No class is taken for the same other one more than once"
    if first.count > 1:
        title = f"Most often, {quoted(first.true)} is taken for {quoted(first.predicted)}: {first.count:,} of {first.support:,}"
    rest = [
        f"<li>{said(f'{one.count:,} of {one.support:,} {quoted(one.true)} ({percent(one.share)}) are taken for {quoted(one.predicted)}')}"
        for one in found.confusions[: _SAID if facts.confusion and len(facts.confusion) <= _DRAWN else len(found.confusions)]
    ]
    return section("confusion", title, f'<ol class="said">{"".join(rest)}</ol>', _matrix(facts))


def _matrix(facts: Facts) -> str:
    """Return the matrix as a table, whose cells are coloured by their share of the row."""
    names = facts.spec.outputs
    if not facts.confusion or len(names) > _DRAWN or facts.scores is None:
        return ""
    support = [one.support for one in facts.scores.per_class]
    heads = "".join(f'<th scope="col"><span>{cell(charts.shortened(name, 14))}</span>' for name in names)
    body = "".join(
        f'<tr><th scope="row">{cell(charts.shortened(name, 24))}{"".join(_cells(counts, row, support[row], len(names)))}'
        for row, (name, counts) in enumerate(zip(names, facts.confusion, strict=True))
    )
    about = words("Rows are true classes, columns predicted ones; numbers are examples, and colours their share of the row.", kind="soft")
    kind = f"matrix{' tight' * (len(names) > _RATED)}{' turned' * (max(map(len, names)) > _SHORT and len(names) > _WIDE)}"
    return (
        f'{about}<div class="scroll" role="region" aria-label="{said("Confusion matrix")}" tabindex="0">'
        f'<table class="{kind}"><thead><tr><td>{heads}</thead><tbody>{body}</tbody></table></div>'
    )


def _cells(counts: Sequence[int], row: int, support: int, classes: int) -> Iterator[str]:
    for column, number in enumerate(counts):
        if not number:
            yield '<td class="none">'
            continue
        share = number / support
        rate = f"<small>{percent(share)}</small>" if classes <= _RATED else ""
        colour = "--wash" if row == column else "--alarm"
        yield f'<td style="background:rgb(var({colour})/{max(0.06, _DARKEST * share**0.5):.2f})">{number:,}{rate}'


def per_class(facts: Facts) -> str:
    """Return recall with its interval, precision, F1 and area of each class or label: those found least first."""
    scores, found = facts.scores, facts.assessment
    if scores is None or found is None or not scores.per_class:
        return ""
    noun = facts.spec.task.nouns[0]
    listed = sorted((one for one in scores.per_class if one.is_measured), key=lambda one: (one.support == 0, one.recall))
    if not listed:
        return ""
    worst = listed[0]
    heads = (noun, "recall", "", "95 % interval", "precision", "F1", *(("AUROC", "average precision") if found.areas else ()), "examples")
    # The intervals are drawn from a round number below all of them.
    least = min([0.9, *(math.floor(10 * low) / 10 for low, _ in found.recalls.values())])
    # Of very many classes only the first are drawn, or the page would be large.
    rows = [_row(facts, one, least if place < _LISTED else None) for place, one in enumerate(listed)]
    shown = table(heads, rows[:_LISTED], "Scores of each class")
    rest = rows[_LISTED:]
    more = folded(f"{len(rest):,} more, found more often", table(heads, rest, "Scores of the other classes")) if rest else ""
    absent = len(scores.per_class) - len(listed)
    note = words(f"{absent:,} more have no example and no prediction.", kind="soft") if absent else ""
    if worst.recall == 1:
        title = f"Every {noun} is found each time"
    else:
        title = f"{quoted(worst.name)} is found least often: in {percent(worst.recall)} of its {counted(worst.support, 'example')}"
    about = "Recall is the share of its examples that are found, and precision the share of its predictions that are right."
    return section("classes", title, words(about, kind="soft"), shown, more, note)


def _row(facts: Facts, one: ClassScore, least: float | None) -> tuple[str, ...]:
    assert facts.assessment is not None
    interval, areas = facts.assessment.recalls.get(one.name), facts.assessment.areas
    area, precision = areas.get(one.name), facts.assessment.precisions.get(one.name)
    return (
        cell(one.name),
        percent(one.recall) if one.support else "–",
        "" if interval is None or least is None else charts.between(one.recall, interval, least),
        "–" if interval is None else safe(between(interval)),
        percent(one.precision) if one.predicted else "–",
        percent(one.f1),
        *((_ranked(area), _ranked(precision)) if areas else ()),
        f"{one.support:,}",
    )


def _ranked(found: Measured | None) -> str:
    if found is None or found.interval is None:
        return "–"
    return f"{found.value:.4f}<br><small>{found.interval[0]:.4f} – {found.interval[1]:.4f}</small>"
