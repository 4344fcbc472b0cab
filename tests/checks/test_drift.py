"""Splits that are unlike training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from epochal import load
from epochal.checks.check import check
from epochal.checks.drift import drift_findings
from epochal.checks.findings import Finding
from epochal.data.inputs.values import in_memory


def table(rows: int, seed: int, **changes: Any) -> dict[str, list[Any]]:
    generator = np.random.default_rng(seed)
    columns: dict[str, Any] = {
        "age": generator.normal(40, 10, rows).round(1),
        "gain": np.where(generator.random(rows) < 0.9, 0, generator.exponential(100, rows)).round(2),
        "city": generator.choice(["Oslo", "Rome", "Bonn"], rows, p=[0.5, 0.3, 0.2]),
        "label": generator.choice(["a", "b"], rows),
    }
    columns |= {name: change(columns[name], generator) for name, change in changes.items()}
    return {name: values.tolist() for name, values in columns.items()}


def found(train: Any, test: Any) -> dict[str, Finding]:
    kinds = ("unseen", "range", "drift", "scale")
    return {one.kind: one for one in check(load({"train": train, "test": test}, target="label")).findings if one.kind in kinds}


@pytest.mark.parametrize("rows", [12, 60, 400, 5000])
def test_chance_is_no_drift(rows: int) -> None:
    for seed in range(8):
        findings = found(table(1000, seed), table(rows, 100 + seed))
        assert "drift" not in findings
        assert "range" not in findings


def test_shifted_numbers_other_categories_and_other_classes() -> None:
    other = table(
        500,
        1,
        age=lambda ages, _: ages + 15,
        city=lambda cities, _: np.where(cities == "Oslo", "Rome", cities),
        label=lambda labels, generator: np.where(generator.random(len(labels)) < 0.7, "a", labels),
    )
    drift = found(table(1000, 0), other)["drift"]
    assert drift.severity == "warning"
    assert drift.words == "3 columns of test: another distribution than in train"
    words = [case.words for case in drift.cases]
    assert {text.split(":")[0] for text in words} == {"age", "city", "class"}
    assert any(
        text.startswith("city: index ") and "(large); 'Oslo': 5" in text and text.endswith(" of train, 0 % of test") for text in words
    )
    assert "0.1, beyond chance at 1 %" in drift.fix


def test_gaps_are_a_group() -> None:
    drift = found(table(1000, 0), table(500, 1, age=lambda ages, generator: np.where(generator.random(500) < 0.3, np.nan, ages)))["drift"]
    assert len(drift.cases) == 1
    assert "missing: 0 % of train, 3" in drift.cases[0].words


def test_unseen_categories_and_ranges() -> None:
    def moved(cities: Any, generator: Any) -> Any:
        return np.where(generator.random(len(cities)) < 0.05, "Lima", cities)

    findings = found(table(1000, 0), table(400, 1, city=moved, age=lambda ages, _: np.where(np.arange(400) < 40, 150.0, ages)))
    assert findings["unseen"].severity == "warning"
    assert findings["unseen"].cases[0].words.startswith("city: ")
    assert findings["range"].words == "1 column of test: numbers beyond those of train"
    assert findings["range"].cases[0].words.startswith("age: 10")
    few = found(table(1000, 0), table(400, 1, city=lambda cities, _: np.where(np.arange(400) == 3, "Lima", cities)))
    assert (few["unseen"].severity, few["unseen"].cases[0].words) == ("note", "city: 1 row, 0.25 %")


def test_quantities_as_targets() -> None:
    def numbers(rows: int, seed: int, shift: float) -> dict[str, Any]:
        return table(rows, seed, label=lambda labels, generator: generator.normal(shift, 1, len(labels)))

    assert "drift" not in found(numbers(500, 0, 0), numbers(300, 1, 0))
    assert found(numbers(500, 0, 0), numbers(300, 1, 2))["drift"].cases[0].words.startswith("target label: index ")


def test_parts_split_off_at_random_are_not_compared() -> None:
    data = load(table(300, 0), target="label").split()
    assert not [one for one in check(data).findings if one.kind in ("unseen", "range", "drift", "scale")]


def test_tables_beyond_memory_are_compared_too(tmp_path: Path) -> None:
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    for path, columns in ((train, table(900, 0)), (test, table(500, 1, age=lambda ages, _: ages + 15))):
        rows = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
        path.write_text("\n".join(rows) + "\n")
    whole, streamed = (load(train, target="label", test_data=test, memory=memory) for memory in (None, 1e-6))
    assert in_memory(streamed.train.inputs) is None
    found = [*drift_findings(streamed)]
    assert {finding.kind for finding in found} >= {"drift", "range"}
    assert found == [*drift_findings(whole)]
