"""The page of a run while it trains: what is known of it so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from epochal.language import translated
from epochal.page import document, safe, said
from epochal.report import charts
from epochal.report.page import STYLE
from epochal.report.parts import long_time, quoted, section, words
from epochal.report.result import by_epoch
from epochal.shown import counted
from epochal.tasks.base import Task
from epochal.tasks.scores import plain

_KIND = "Epochal live"

# The script of the page, by which it gets what changes, and that of a report, which is loaded again once more is in it.
SCRIPT, AGAIN = "live.js", "again.js"
SOURCES = {name: Path(__file__).with_name(name).read_text("utf-8") for name in (SCRIPT, AGAIN)}


@dataclass(frozen=True)
class Live:
    """What is known of a run that is not finished, by its files.

    `task` is `None` before there is a run. `epochs` has the lines of metrics.jsonl, and `progress` is what progress.json holds; `None`
    where no steps are being made. With `is_stopped`, no process is left, and `resume` is the command that continues the run, if there is
    a checkpoint.
    """

    name: str
    about: str = ""
    task: Task | None = None
    epochs: Sequence[Mapping[str, Any]] = ()
    progress: Mapping[str, Any] | None = None
    is_stopped: bool = False
    resume: str = ""


def page(live: Live) -> str:
    """Return the page, which gets changes from its server by a script."""
    parts = "".join(f'<div id="{name}">{inner}</div>' for name, inner in pieces(live).items())
    lost = f'<p class="warning" id="lost" role="status" hidden>{said("epochal watch has ended: this page no longer changes.")}</p>'
    return document(_KIND, title(live), f"<main>{lost}{parts}</main>", charts.STYLE + STYLE, SCRIPT)


def title(live: Live) -> str:
    """Return the title of the window."""
    return f"{translated(_headline(live))} · {live.name}"


def pieces(live: Live) -> dict[str, str]:
    """Return the parts of the page by the names of their places: how far training is, and what the epochs have shown."""
    about = " · ".join(filter(None, (translated("Live"), live.name, live.about)))
    now = f'<p class="about">{safe(about)}</p><h1>{said(_headline(live))}</h1>{_how_far(live)}'
    return {"now": f"<header>{now}</header>", "so-far": _so_far(live)}


def _headline(live: Live) -> str:
    done, progress = len(live.epochs), live.progress
    if live.task is None:
        return f"Waiting for {quoted(live.name)}"
    if live.is_stopped:
        return f"This run was stopped after {counted(done, 'whole epoch')}"
    if progress is not None:
        return f"Epoch {progress['epoch']:,} of {progress['epochs']:,}"
    return "Training has ended: the model is being evaluated" if done else "Training is about to begin"


def _how_far(live: Live) -> str:
    if live.task is None:
        return words("There is no run of that name yet. This page shows it as soon as it begins.", kind="lead")
    if live.is_stopped and live.resume:
        how = words("No process is working on it. It continues from its last checkpoint by:", kind="lead")
        return f"{how}<p><code>{safe(live.resume)}</code></p>"
    if live.is_stopped:
        return words("No process is working on it, and there is no checkpoint to continue from: train again.", kind="lead")
    found = live.progress
    if found is None:
        return ""
    left = found["remaining"]
    lead = words("How long it takes is not known yet." if left is None else f"About {_time(left)} left.", kind="lead")
    share = found["step"] / max(1, found["steps"])
    bar = f'<progress aria-label="{said("Progress of training")}" max="1" value="{share:.4f}"></progress>'
    return f'{lead}{bar}<dl class="numbers">{_numbers(live, found)}</dl>'


def _numbers(live: Live, found: Mapping[str, Any]) -> str:
    pace, best = found["examples_per_second"], _best(live)
    rows = [
        ("step", f"{found['step']:,}", f"of {counted(found['steps'], 'step')}"),
        ("training loss", _plain(found["loss"]), "of the last steps"),
        ("examples/s", "–" if pace is None else f"{pace:,.0f}", ""),
    ]
    if best is not None:
        rows.append(("learning rate", f"{live.epochs[-1]['lr']:.3g}", "at the end of the last epoch"))
        note = "" if best["valid"] is None else f"validation loss {_plain(best['valid']['loss'])}"
        rows.append(("best epoch so far", f"{best['epoch']:,}", note))
    return "".join(
        f"<div><dt>{said(name)}</dt><dd>{safe(value)}{f'<small>{said(note)}</small>' if note else ''}</dd></div>"
        for name, value, note in rows
    )


def _so_far(live: Live) -> str:
    best = _best(live)
    if live.task is None or best is None:
        return ""
    return section("training", f"Epoch {best['epoch']} is the best so far", by_epoch(live.epochs, live.task, best["epoch"]))


def _best(live: Live) -> Mapping[str, Any] | None:
    """Return the line of the best epoch so far, if there is any."""
    return next((one for one in reversed(live.epochs) if one["is_best"]), live.epochs[-1] if live.epochs else None)


def _plain(value: float | None) -> str:
    return "–" if value is None else plain(value, 4)


def _time(seconds: float) -> str:
    return f"{seconds:,.0f} s" if seconds < 60 else long_time(seconds)
