"""Which settings mattered."""

import math
import random
from typing import Any

import numpy as np
import pytest

from epochal.figures.search import trials_figure
from epochal.search.space import Axis, Choice, Range
from epochal.search.worth import influences

SPACE: dict[str, Axis] = {"optimizer.lr": Range(1e-4, 1e-1, log=True), "model.name": Choice(("a", "b")), "ema": Range(0, 0.9)}


def _points(count: int, seed: int) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    return [
        {"optimizer.lr": 10 ** draw.uniform(-4, -1), "model.name": draw.choice("ab"), "ema": draw.uniform(0, 0.9)} for _ in range(count)
    ]


def test_what_decides_is_found_and_failures_count_as_worst() -> None:
    points = _points(20, 0)
    scores = [abs(-2.5 - math.log10(point["optimizer.lr"])) for point in points]
    first, *others = influences(SPACE, points, [score if score < 1.2 else float("inf") for score in scores])
    assert first.setting == "optimizer.lr"
    assert first.is_shown
    assert first.share > 0.8
    assert not any(one.is_shown for one in others)
    chosen, *_ = influences(SPACE, points, [float(point["model.name"] == "a") for point in points])
    assert chosen.setting == "model.name"
    assert chosen.share == pytest.approx(1)


def test_chance_is_rarely_taken_for_influence() -> None:
    alarms = 0
    for seed in range(40):
        draw = random.Random(f"scores {seed}")
        alarms += any(one.is_shown for one in influences(SPACE, _points(20, seed), [draw.random() for _ in range(20)]))
    assert alarms <= 6


def test_equal_scores_and_few_trials_show_nothing() -> None:
    assert not any(one.is_shown for one in influences(SPACE, _points(20, 0), [1.0] * 20))
    assert influences(SPACE, _points(4, 0), [1.0, 2.0, 3.0, 4.0]) == ()


@pytest.mark.parametrize("higher", [False, True])
def test_the_figure_tells_trials_apart_and_keeps_bad_ones_at_the_edge(higher: bool) -> None:
    sign = -1 if higher else 1
    scores = [sign * score if score is not None else None for score in (0.5, 0.4, 0.45, 900.0, None, 0.55)]
    (axes,) = trials_figure(scores, [True, True, False, False, False, False], 1, "validation loss", None, higher=higher).axes
    legend = axes.get_legend()
    assert legend is not None
    drawn = {str(line.get_label()): np.asarray(line.get_xdata()).tolist() for line in axes.lines}
    assert drawn["stopped early"] == [2, 5]
    assert drawn["trained to the end"] == [0, 1]
    assert drawn["failed, or far worse"] == [3, 4]
    assert drawn["best"] == [1]
    assert all(np.abs(np.asarray(line.get_ydata(), dtype=float)).max() < 2 for line in axes.lines)
