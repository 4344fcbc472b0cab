"""How a run came about: where the time went, its settings, its machine, and its data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from epochal.language import translated
from epochal.page import safe
from epochal.recipe.recipe import DEFAULT
from epochal.report import charts
from epochal.report.facts import SPLITS, Facts
from epochal.report.parts import cell, figure, folded, long_time, section, table, words
from epochal.shown import are, counted

# What the phases of a run are called.
_PHASES = {
    "load": "reading data",
    "build": "building a model",
    "features": "computing features",
    "tune": "measuring settings",
    "train": "training",
    "evaluate": "evaluation",
    "keep": "writing files",
}


def time(facts: Facts) -> str:
    """Return the seconds of each phase."""
    seconds: Mapping[str, float] = facts.result["seconds"]
    phases = [(name, spent) for name, spent in seconds.items() if name != "total"]
    if not phases:
        return ""
    longest = translated(_PHASES.get(max(phases, key=lambda one: one[1])[0], ""))
    bars = [(translated(_PHASES.get(name, name)), spent, _seconds(spent), None) for name, spent in phases]
    label = "Seconds by phase"
    title = f"Most of the {_seconds(seconds['total'])} went to {longest}" if longest else f"It took {_seconds(seconds['total'])}"
    described = charts.Words("time", translated(label), ", ".join(f"{name}: {said}" for name, _, said, _ in bars))
    return section("time", title, figure(label, charts.rows(described, bars)))


def settings(facts: Facts) -> str:
    """Return the settings that are not the default, with their origins, and all others folded away."""
    origins = facts.recipe.origins()
    flat = {name: value for name, value in facts.recipe.flat().items() if value is not None}
    rows = {name: (f"<code>{safe(name)}</code>", cell(_value(value)), safe(translated(origins[name]))) for name, value in flat.items()}
    chosen = [row for name, row in rows.items() if origins[name] != DEFAULT]
    heads = ("setting", "value", "from")
    others = [row for name, row in rows.items() if origins[name] == DEFAULT]
    title = f"{counted(len(chosen), 'setting')} {are(len(chosen))} not the default"
    shown = table(heads, chosen, "Settings") if chosen else ""
    return section(
        "settings",
        title,
        shown,
        folded(
            f"{len(others)} more settings have their default",
            table(heads, others, "Default settings"),
        ),
    )


def environment(facts: Facts) -> str:
    """Return the versions and the machine."""
    found = facts.environment
    packages = ", ".join(f"{name} {version}" for name, version in found["packages"].items())
    rows = [
        ("command", " ".join(map(str, found.get("command", [])))),
        ("device", found["device"]),
        ("processor", found["processor"]),
        ("system", found["system"]),
        ("packages", f"Python {found['python']}, {packages}"),
    ]
    return section("environment", f"Trained on {found['device']}", _listed(rows, "Environment"))


def data(facts: Facts) -> str:
    """Return what the data are, how they were split, and their fingerprint."""
    spec, found = facts.spec, facts.data
    rows = [("data", found["source"] or translated("from a Python program")), ("described", spec.describe())]
    for name, part in found["split"].items():
        seed = f", {translated('seed')} {part['seed']}" if "seed" in part else ""
        rows.append((SPLITS.get(name, name), f"{part['count']:,} {translated('from')} {part['from']}{seed}"))
    rows.append(("fingerprint", spec.fingerprint))
    notes = "".join(words(note, kind="soft") for note in found.get("notes", ()))
    excluded = len(found.get("excluded", ()))
    title = f"{sum(spec.counts.values()):,} examples: {', '.join(f'{number:,} {SPLITS[name]}' for name, number in spec.counts.items())}"
    left_out = words(f"{counted(excluded, 'example')} left out, as a list says.", kind="soft") if excluded else ""
    corrected = len(found.get("corrected", ()))
    what = f"{counted(corrected, 'example')} with corrected labels, or left out, as a list says."
    changed = words(what, kind="soft") if corrected else ""
    return section("data", title, _listed(rows, "Data"), left_out, changed, notes)


def _listed(rows: list[tuple[str, str]], name: str) -> str:
    return table(("", ""), ((safe(translated(head)), cell(str(value))) for head, value in rows), name)


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _seconds(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds < 100 else long_time(seconds)
