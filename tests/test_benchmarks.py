"""The benchmarks' own arithmetic and protocol, on made-up records and a trivial contestant; no peer is needed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy
import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import run  # noqa: E402
from benchmarks.report import Spread, summarize, table, write  # noqa: E402

TITLES = {"epochal": "Epochal", "slow": "Slow"}


def record(contestant: str, number: int, seconds: list[float], accuracy: float = 0.97, batch_size: int = 64) -> dict[str, Any]:
    told = {"seconds": seconds, "accuracy": accuracy, "peak_mib": 100.0 * number}
    return {"contestant": contestant, "batch_size": batch_size, "round": number, **told}


RECORDS = [
    record("slow", 1, [9.0, 4.0, 4.0]),
    record("epochal", 1, [2.0, 2.0, 3.0]),
    record("slow", 2, [3.0, 3.0, 3.0]),
    record("epochal", 2, [1.0, 1.0, 1.0]),
    {"contestant": "broken", "batch_size": 64, "round": 1, "error": "no such module"},
]


def test_ratios_are_taken_within_a_round() -> None:
    epochal, slow, broken = summarize(RECORDS)
    assert (epochal.contestant, slow.contestant, broken.contestant) == ("epochal", "slow", "broken")
    assert slow.seconds == Spread(3.5, 3.0, 4.0)
    assert slow.ratio == Spread(2.5, 2.0, 3.0)
    assert slow.first == 6.0
    assert slow.peak_mib == 200
    assert epochal.ratio == Spread(1, 1, 1)
    assert broken.error == "no such module"
    assert broken.seconds is None


def test_other_work_is_noticed() -> None:
    rows = summarize([record("a", 1, [1.0], 0.970), record("epochal", 1, [1.0], 0.976), record("odd", 1, [1.0], 0.96)])
    assert {row.contestant for row in rows if row.differs} == {"odd"}


def test_without_epochal_there_is_no_ratio() -> None:
    (row,) = summarize([record("slow", 1, [1.0])])
    assert row.ratio is None


def test_batch_sizes_stay_apart() -> None:
    rows = summarize([record("epochal", 1, [1.0]), record("epochal", 1, [2.0], batch_size=512)])
    assert [(row.batch_size, row.seconds) for row in rows] == [(64, Spread(1, 1, 1)), (512, Spread(2, 2, 2))]


def test_the_table_tells_all() -> None:
    text = table(summarize(RECORDS), TITLES)
    assert "| Slow | 3.50 (3.00–4.00) | 2.50 (2.00–3.00) | 6.00 | 97.00 % | 200 MiB |" in text
    assert "| broken | did not run: no such module |" in text


def test_results_are_written(tmp_path: Path) -> None:
    files = write(tmp_path / "results", "speed", {"rounds": 2}, RECORDS, TITLES)
    assert [file.name for file in files] == ["speed.json", "speed.md", "speed.png", "speed.svg"]
    kept = json.loads(files[0].read_text("utf-8"))
    assert kept["records"] == RECORDS
    assert kept["machine"]["packages"]["torch"]
    assert files[2].read_bytes().startswith(b"\x89PNG")
    assert "Epochal" in files[3].read_text("utf-8")
    assert "did not run" in files[1].read_text("utf-8")


def test_a_figure_where_nothing_ran(tmp_path: Path) -> None:
    assert len(write(tmp_path, "none", {}, RECORDS[-1:], TITLES)) == 4


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "mnist"
    folder.mkdir()
    for part, count in (("train", 6), ("t10k", 2)):
        pictures = numpy.zeros((count, 28, 28), numpy.uint8)
        labels = numpy.arange(count, dtype=numpy.uint8)
        for kind, values in (("images-idx3", pictures), ("labels-idx1", labels)):
            head = bytes((0, 0, 8, values.ndim)) + numpy.array(values.shape, ">i4").tobytes()
            (folder / f"{part}-{kind}-ubyte").write_bytes(head + values.tobytes())
    return tmp_path


def contestant(path: Path, body: str) -> list[str]:
    path.write_text(textwrap.dedent(body), "utf-8")
    arguments = ["--data-dir", str(path.parent), "--epochs", "2", "--batch-size", "4"]
    return [sys.executable, str(path), *arguments]


def test_the_protocol(data_dir: Path) -> None:
    told = run.run_one(
        contestant(
            data_dir / "trivial.py",
            """
            from benchmarks.protocol import Outcome, accuracy, bulk_loader, main, mlp, mnist

            def train(job):
                x, y, x_test, y_test = mnist(job.data_dir)
                assert x.shape == (6, 1, 28, 28) and y_test.tolist() == [0, 1]
                assert [len(targets) for _, targets in bulk_loader(x, y, job.batch_size)] == [4, 2]
                print("a word of its own")
                return Outcome([0.5] * job.epochs, accuracy(mlp(), x_test, y_test))

            main(train)
            """,
        )
    )
    assert told["seconds"] == [0.5, 0.5], told
    assert 0 <= told["accuracy"] <= 1
    assert 50 < told["peak_mib"] < 5000


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("import nothing_like_this", "ModuleNotFoundError: No module named 'nothing_like_this'"),
        ("print('done')", "its last line is not the JSON object of the protocol"),
        ("print('[1]')", "its last line is not the JSON object of the protocol"),
        ("raise SystemExit(3)", "ended with code 3"),
    ],
)
def test_a_failure_has_its_reason(tmp_path: Path, body: str, reason: str) -> None:
    assert run.run_one(contestant(tmp_path / "bad.py", body)) == {"error": reason}


def test_contestants_take_turns_and_failures_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(run, "not_installed", lambda: {"skorch": "no such version"})
    monkeypatch.setattr(run, "run_one", lambda command: {"seconds": [float(command.index("-m"))], "accuracy": 0.97, "peak_mib": 1.0})
    records = run.measure(["plain", "skorch", "epochal"], 2, [64, 512], 1, tmp_path)
    order = [(entry["round"], entry["batch_size"], entry["contestant"]) for entry in records]
    once = [(1, size, name) for size in (64, 512) for name in ("plain", "skorch", "epochal")]
    assert order == [*once, *((2, size, name) for size in (64, 512) for name in ("plain", "epochal"))]
    assert {entry.get("error") for entry in records if entry["contestant"] == "skorch"} == {
        "skorch could not be installed: no such version"
    }


def test_every_contestant_has_its_file_and_its_pin() -> None:
    files = {path.stem for path in (ROOT / "benchmarks" / "contestants").glob("*.py")} - {"__init__"}
    assert files == set(run.CONTESTANTS)
    pinned = set(re.findall(r"^([\w-]+)==[\d.]+$", (ROOT / "benchmarks" / "requirements.txt").read_text("utf-8"), re.MULTILINE))
    assert {needs for _, needs in run.CONTESTANTS.values() if needs} <= pinned


@pytest.mark.parametrize("program", ["run", "engine", "accuracy"])
def test_help_needs_nothing_installed(program: str) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / f"{program}.py"), "--help"], capture_output=True, text=True, timeout=60, check=True
    )
    assert f"python3 benchmarks/{program}.py --quick" in done.stdout
