"""Examples: the worst mistakes, training examples as the network sees them, and the columns on which a model relies."""

from __future__ import annotations

from collections.abc import Sequence

from epochal.evaluation.importance import Importance
from epochal.language import translated
from epochal.page import safe, said
from epochal.report import charts
from epochal.report.exhibits import Exhibit, Value
from epochal.report.facts import Facts
from epochal.report.parts import cell, figure, folded, section, table, words

# So many columns are drawn, and so many more listed.
_DRAWN, _LISTED = 15, 200


def mistakes(facts: Facts) -> str:
    """Return the most confident mistakes, or the largest errors, and some right answers."""
    groups = facts.exhibits.judged
    if not groups:
        return ""
    wrong = next((group for group in groups if group.is_wrong), None)
    title = "It made no mistake" if wrong is None else wrong.title
    about = ""
    if any(value.of_true is not None for group in groups for example in group.examples for value in example.values):
        about = words(
            "These values speak for the prediction.",
            "Beside each is the share of training rows that have such a value: of those like the truth, and of those like the prediction.",
            kind="soft",
        )
    parts = [
        f"<h3>{said(group.title)}</h3>" * (group is not wrong) + gallery(group.examples, "true:" if group.is_wrong else "")
        for group in groups
    ]
    return section("mistakes", title, about, *parts)


def gallery(examples: Sequence[Exhibit], truth: str) -> str:
    """Return examples with what was predicted; of wrong ones also what should have been, called `truth`."""
    return f'<ul class="gallery">{"".join(_item(example, truth) for example in examples)}</ul>' if examples else ""


def _item(example: Exhibit, truth: str) -> str:
    lines = [f'<b class="{"wrong" if truth else "right"}">{safe(example.predicted)}</b> <span>{said(example.note)}</span>']
    if truth:
        lines.append(f"<span>{said(truth)} {safe(example.true)}</span>")
    lines.append(f'<span class="file">{safe(example.name)}</span>')
    shown = _shown(example, f"{translated('predicted')} {example.predicted}, {translated('true:')} {example.true}")
    said_of = f"<p>{'<br>'.join(lines)}</p>"
    # What is said of a row comes before its values, and else below the example.
    if example.values:
        return f'<li class="wide">{said_of}{shown}</li>'
    kind = "" if example.picture else ' class="wide"'
    return f"<li{kind}>{shown}{said_of}</li>"


def _shown(example: Exhibit, title: str) -> str:
    if example.picture:
        return f'<img alt="{safe(title)}" src="{safe(example.picture)}">'
    if example.text:
        return f"<blockquote>{safe(example.text)}</blockquote>"
    return f'<dl class="row">{"".join(map(_value, example.values))}</dl>' if example.values else ""


def _value(value: Value) -> str:
    shares = "" if value.of_true is None else f" <small>{_share(value.of_true)} · {_share(value.of_predicted or 0.0)}</small>"
    return f"<div><dt>{safe(value.name)}</dt><dd>{safe(value.words)}{shares}</dd></div>"


def _share(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.1f} %"


def samples(facts: Facts) -> str:
    """Return some training examples as they are read, and as they are changed at random."""
    found = facts.exhibits.samples
    if not found:
        return ""
    changed = any(len(one) > 1 for one in found)
    pictures = any(one[0].picture for one in found)
    title = "Training examples as the network sees them"
    if changed and pictures:
        title = "Training examples as the network sees them, changed at random in each epoch"
    items = []
    for first, *others in found:
        shown = "".join([_shown(first, translated("as it is read")), *(_shown(one, translated("changed at random")) for one in others)])
        strip = f'<div class="strip">{shown}</div>' if first.picture else shown
        kind = ' class="wide"' if others or not first.picture else ""
        items.append(f'<li{kind}>{strip}<p><span class="file">{safe(first.name)}</span></p></li>')
    return section("samples", title, f'<ul class="gallery">{"".join(items)}</ul>')


def importance(facts: Facts) -> str:
    """Return how much worse predictions become where a column is shuffled."""
    if facts.result.get("importance") is None:
        return ""
    found = Importance.from_json(facts.result["importance"])
    if not found.columns:
        return ""
    label = "How much the loss rises if a column is shuffled"
    bars = [(one.column, one.loss, f"{one.loss:.3g}", one.interval) for one in found.columns[:_DRAWN]]
    described = charts.Words("columns", translated(label), translated(found.title))
    rows = ((cell(name), *map(safe, rest)) for name, *rest in found.table(_LISTED))
    listed = folded("The numbers", table(found.heading, rows, "Importance of columns"))
    title = f"It relies most on {found.columns[0].column}"
    warning = found.warning()
    drawn = figure(label, charts.rows(described, bars), listed)
    return section("importance", title, words(found.title, kind="soft"), drawn, words(warning, kind="warning") if warning else "")
