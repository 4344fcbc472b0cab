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
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import (  # noqa: E402
    accuracy,
    anatomy,
    busy,
    busy_steps,
    by_hand,
    check,
    clipart,
    engine,
    engine_report,
    ingest,
    kind_data,
    kinds,
    label_errors,
    memory,
    pretrained,
    reading,
    run,
    sounds,
    tune,
)
from benchmarks import (  # noqa: E402
    tables as large_tables,
)
from benchmarks.accuracy import Goal, Outcome  # noqa: E402
from benchmarks.comparison import figure, interval, summarize, tables  # noqa: E402
from benchmarks.contestants import arithmetic  # noqa: E402
from benchmarks.pictures import make_pictures  # noqa: E402
from benchmarks.program import run_json  # noqa: E402
from benchmarks.protocol import Job  # noqa: E402
from benchmarks.report import Mean, Spread, table, write  # noqa: E402
from tests.timing import in_one_of  # noqa: E402

TITLES = {"epochal": "Epochal", "slow": "Slow"}


def record(contestant: str, number: int, seconds: list[float], accuracy: float = 0.97, batch_size: int = 64) -> dict[str, Any]:
    reported = {"seconds": seconds, "accuracy": accuracy, "peak_mib": 100.0 * number}
    return {"contestant": contestant, "batch_size": batch_size, "round": number, **reported}


RECORDS = [
    record("slow", 1, [9.0, 4.0, 4.0], 0.97),
    record("epochal", 1, [2.0, 2.0, 3.0], 0.96),
    record("slow", 2, [3.0, 3.0, 3.0], 0.98),
    record("epochal", 2, [1.0, 1.0, 1.0], 0.97),
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
    text = tables(summarize(RECORDS), TITLES)
    assert "| Slow | 3.50 (3.00–4.00) | 2.50 (2.00–3.00) | 6.00 | 97.50 ± 0.71 % | -2.04 to +4.04 | 200 MiB |" in text
    assert "| broken | did not run: no such module |" in text


def test_accuracies_are_compared_by_welchs_interval() -> None:
    # For equal sizes and equal spread Welch's interval is Student's: 0.01 ± t(0.975, 4) · s · sqrt(2 / 3), s = 0.01, t = 2.776.
    low, high = interval([0.97, 0.98, 0.99], [0.96, 0.97, 0.98]) or (0, 0)
    assert (low, high) == pytest.approx((0.01 - 0.02267, 0.01 + 0.02267), abs=1e-5)
    assert interval([0.97], [0.96, 0.97]) is None


def test_what_does_not_learn_is_timed_alone() -> None:
    floor = {**record("arithmetic", 1, [0.5]), "accuracy": None}
    rows = summarize([floor, record("epochal", 1, [1.0])])
    assert [(row.contestant, row.accuracy, row.differs) for row in rows] == [
        ("arithmetic", None, False),
        ("epochal", Mean(0.97, None), False),
    ]
    assert "| Arithmetic | 0.50 (0.50–0.50) | 0.50 (0.50–0.50) | 0.50 | – | – | 100 MiB |" in tables(rows, {"arithmetic": "Arithmetic"})


def test_the_arithmetic_counts_every_example_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(arithmetic, "COUNT", 10)
    products = arithmetic.step_products(4) + arithmetic.step_products(4) + arithmetic.step_products(2)
    flops = sum(2 * left.shape[0] * left.shape[1] * right.shape[1] for left, right, _ in products)
    assert flops == 10 * arithmetic.FLOPS_PER_EXAMPLE
    outcome = arithmetic.train(Job(tmp_path, epochs=2, batch_size=4, seed=0))
    assert len(outcome.seconds) == 2
    assert outcome.accuracy is None


def test_numbers_are_reported_with_their_spread() -> None:
    assert f"{Spread.of([3.0, 1.0, 2.0]):.1f}" == "2.0 (1.0–3.0)"
    assert f"{Mean.of([1.0, 3.0]):.2f}" == "2.00 ± 1.41"
    assert f"{Mean.of([1.0]):.2f}" == "1.00"
    assert table(["what", "number"], [["a", "1"]]) == "| what | number |\n| --- | ---: |\n| a | 1 |\n"


@pytest.mark.usefixtures("drawn")
def test_results_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks/run.py", "--data-dir", str(tmp_path), "--rounds", "2"])
    rows = summarize(RECORDS)
    files = write(tmp_path / "results", "speed", "Training speed", tables(rows, TITLES), {"records": RECORDS}, figure(rows, TITLES))
    assert [file.name for file in files] == ["speed.json", "speed.md", "speed.png", "speed.svg"]
    kept = json.loads(files[0].read_text("utf-8"))
    assert kept["records"] == RECORDS
    assert kept["packages"]["torch"]
    assert kept["command"] == "python3 benchmarks/run.py --data-dir FOLDER --rounds 2"
    page = files[1].read_text("utf-8")
    assert "did not run" in page
    assert kept["command"] in page
    assert str(tmp_path) not in page
    assert files[2].read_bytes().startswith(b"\x89PNG")
    assert "Epochal" in files[3].read_text("utf-8")


def test_a_figure_where_nothing_ran(tmp_path: Path) -> None:
    rows = summarize(RECORDS[-1:])
    assert len(write(tmp_path, "none", "None", tables(rows, TITLES), {}, figure(rows, TITLES))) == 4


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
    reported = run_json(
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
        ),
        run.RESULT,
    )
    assert reported["seconds"] == [0.5, 0.5], reported
    assert 0 <= reported["accuracy"] <= 1
    assert 50 < reported["peak_mib"] < 5000


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
    assert run_json(contestant(tmp_path / "bad.py", body), run.RESULT) == {"error": reason}


def test_contestants_take_turns_and_failures_are_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(run, "not_installed", lambda: {"skorch": "no such version"})
    monkeypatch.setattr(run, "run_json", lambda command, keys: {"seconds": [1.0], "accuracy": 0.97, "peak_mib": 1.0})
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


RUNS: list[dict[str, Any]] = [
    {"recipe": "quick", "seed": 0, "accuracy": 99.0, "training": 4.0, "whole": 8.0},
    {"recipe": "quick", "seed": 1, "accuracy": 98.0, "training": 2.0, "whole": 6.0},
    {"recipe": "absent", "seed": 0, "error": "Unknown recipe 'absent'."},
    {
        "recipe": accuracy.TUTORIAL,
        "seed": 0,
        "epochs": [
            {"accuracy": 98.5, "training": 30.0, "whole": 40.0},
            {"accuracy": 99.1, "training": 60.0, "whole": 75.0},
        ],
    },
]


def test_time_to_accuracy_is_reported_for_each_goal(tmp_path: Path) -> None:
    goals = {"MNIST": [Goal("quick", 99.0), Goal("absent", 99.5)]}
    text = accuracy.report_text(RUNS, goals)
    assert "| epochal, quick | 99 % | 98.500 ± 0.707 % | 3.00 ± 1.41 | 7.00 ± 1.41 | 1 of 2 |" in text
    assert "| the tutorial's CNN, when first there | 99 % | 99.100 % | 60.00 | 75.00 | 1 of 1 |" in text
    assert "| epochal, absent | 99.5 % | – | – | – | 0 of 1 |" in text
    assert "| the tutorial's CNN, when first there | 99.5 % | – | – | – | 0 of 1 |" in text
    assert "Did not run: absent, seed 0: Unknown recipe 'absent'." in text
    assert len(write(tmp_path, "accuracy", "Time to accuracy", text, {"records": RUNS}, accuracy.figure(RUNS, goals))) == 4


def test_a_goal_is_reached_at_its_first_epoch() -> None:
    epochs = [Outcome(98.0, 1.0, 2.0), Outcome(99.0, 2.0, 4.0), Outcome(99.2, 3.0, 6.0)]
    assert accuracy.reached(epochs, 99.0) == epochs[1]
    assert accuracy.reached(epochs, 99.5) is None


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    make_pictures(folder, 40, 8)
    return folder


def test_made_pictures_all_differ(pictures: Path) -> None:
    files = list(pictures.glob("*/*.jpg"))
    assert len(files) == 40
    assert len({file.read_bytes() for file in files}) == 40
    assert len(list(pictures.iterdir())) == 10


@pytest.mark.parametrize("way", ["decoder", "epochal"])
def test_every_way_reads_all_pictures(pictures: Path, way: str) -> None:
    count, seconds = reading.WAYS[way](pictures)
    assert count == 40
    assert seconds > 0


@pytest.mark.parametrize("way", sounds.WAYS.values())
def test_every_way_reads_all_sounds(tmp_path: Path, way: str) -> None:
    pytest.importorskip("soundfile")
    sounds.make_sounds(tmp_path, 40)
    count, seconds = reading.WAYS[way](tmp_path)
    assert count == 40
    assert seconds > 0


def test_reading_tells_by_the_protocol(tmp_path: Path) -> None:
    for part in ("train", "test"):
        make_pictures(tmp_path / part, 20, 8)
    reported = run_json([sys.executable, "-m", "benchmarks.reading", "decoders", str(tmp_path)], ("examples", "seconds"))
    assert reported["examples"] == 40, reported


def test_reading_is_measured_by_the_bare_decoder_of_its_round() -> None:
    def read(way: str, number: int, seconds: float) -> dict[str, Any]:
        return {"way": way, "round": number, "examples": 100, "seconds": seconds}

    load, torchvision = "epochal.load, empty cache", list(ingest.WAYS)[-1]
    own = [read(way, number, seconds * number) for number in (1, 2) for way, seconds in ((ingest.BARE, 4.0), (load, 2.0))]
    found = ingest.summarize([*own, {"way": torchvision, "round": 1, "error": "none"}], cores=2)
    assert found[load] == (Spread(3.0, 2.0, 4.0), Spread(37.5, 25.0, 50.0), Spread(1.0, 1.0, 1.0))
    assert found[torchvision] == "none"
    assert found["epochal.load, again"] == "it was not measured"


def test_checking_is_measured_by_the_bare_decoder_of_its_round(tmp_path: Path) -> None:
    make_pictures(tmp_path, 20, 8)
    records = check.measure(tmp_path, 1)
    assert [record.get("error", record.get("examples")) for record in records] == [20, 20]
    fast = {"way": check.BARE, "round": 2, "examples": 100, "seconds": 1.0}
    slow = {"way": check.CHECK, "round": 2, "examples": 100, "seconds": 1.25}
    alone = {"way": check.BARE, "round": 3, "examples": 100, "seconds": 9.0}
    found = check.summarize([fast, slow, alone, {"way": check.CHECK, "round": 3, "error": "none"}])
    assert found == {
        check.BARE: (Spread(1.0, 1.0, 1.0), Spread(100.0, 100.0, 100.0), Spread(1.0, 1.0, 1.0)),
        check.CHECK: (Spread(1.25, 1.25, 1.25), Spread(80.0, 80.0, 80.0), Spread(0.8, 0.8, 0.8)),
    }
    assert check.summarize([alone]) == {}


def test_slowness_beside_busy_programs_is_that_of_the_round() -> None:
    def steps(number: int, load: str, ms: float) -> dict[str, Any]:
        return {"way": "epochal", "round": number, "load": load, "ms": ms}

    records = [steps(1, "quiet", 4.0), steps(1, "2 busy", 8.0), steps(2, "quiet", 2.0), steps(2, "2 busy", 6.0)]
    failed = {"way": "skorch", "round": 1, "load": "quiet", "error": "no such module"}
    assert busy.spreads([*records, failed], "epochal", "ms") == {
        "quiet": (Spread(3.0, 2.0, 4.0), Spread(1.0, 1.0, 1.0)),
        "2 busy": (Spread(7.0, 6.0, 8.0), Spread(2.5, 2.0, 3.0)),
    }
    command = {"way": "epochal train digits", "round": 1, "load": "quiet", "seconds": 3.0}
    text = busy.tables([*records, failed, command])
    assert "| Epochal | 3.00 (2.00–4.00) | – | 7.00 (6.00–8.00), ×2.5 (2.0–3.0) | – | – |" in text
    assert "| Epochal | 3.0 (3.0–3.0) | – | – |" in text
    assert len(busy.figure(records).axes) == 4


def test_busy_processes_end_with_their_block() -> None:
    with busy.loaded("half", 2) as load:
        assert load.running == []
        load.begin()
        assert [process.poll() for process in load.running] == [None, None]
    assert all(process.poll() is not None for process in load.running)


@pytest.mark.parametrize("way", ["epochal", "threads", "plain"])
def test_the_halves_of_training_are_timed(way: str, capfd: pytest.CaptureFixture[str]) -> None:
    halves = busy_steps.Halves(4)
    busy_steps.WAYS[way](4, halves)
    assert capfd.readouterr().out.split() == ["begun", "half", "end"]
    assert halves.times == sorted(halves.times)


def step(way: str, number: int, whole: float, floor: float | None = None, weights: str = "same", note: str = "") -> dict[str, Any]:
    phases = dict.fromkeys(anatomy.PHASES, whole / len(anatomy.PHASES))
    case = {"round": number, "threads": 1, "network": "20-64-64-2", "batch_size": 64, "way": way}
    return {**case, "phases": phases, "whole": whole, "start": 0.01, "weights": weights, "note": note, "floor": floor}


STEPS = [
    *(step("plain", 1, 400.0, 100.0), step("traced", 1, 200.0), step("TorchScript", 1, 150.0, weights="others")),
    *(step("plain", 2, 900.0, 150.0), step("traced", 2, 300.0, note="made plain steps: they are long")),
    *({**step("compiled", number, 0.0), "error": "no compiler"} for number in (1, 2)),
]
for failed in STEPS[-2:]:
    del failed["whole"]
LOOPS = [
    {"load": "quiet", "threads": 1, "network": "20-64-64-2", "steps": 100, "fit": [0.1, 0.2], "hand": [0.2, 0.6], "equal": True},
    {"load": "1 busy", "threads": 1, "network": "20-64-64-2", "steps": 100, "error": "killed"},
]


def test_the_parts_of_a_step_are_reported(tmp_path: Path) -> None:
    text = engine_report.report_text(STEPS, LOOPS, [])
    # Ratios are those of a round: 200 / 100 and 300 / 150; 200 / 400 and 300 / 900.
    assert "| 64, traced | 50.0 | 50.0 | 50.0 | 50.0 | 50.0 | 250 (200–300) | 2.00 | 0.42 | 0.01 s | yes |" in text
    assert "| 64, TorchScript | 30.0 | 30.0 | 30.0 | 30.0 | 30.0 | 150 (150–150) | 1.50 | 0.38 | 0.01 s | no |" in text
    assert "| 64, the arithmetic alone |  |  |  |  |  | 125 |" in text
    assert "Batch size 64: compiled did not run: no compiler" in text
    assert "Batch size 64: traced made plain steps: they are long" in text
    assert "| 20-64-64-2 | 1 | quiet | 1,500 (1,000–2,000) | 4,000 (2,000–6,000) | 2.50 (2.00–3.00) | yes |" in text
    assert "| 20-64-64-2 | 1 | 1 busy | did not run: killed |" in text
    drawn = engine_report.figure(STEPS, LOOPS)
    assert len(write(tmp_path, "engine", "The anatomy of a step", text, {"anatomy": STEPS}, drawn)) == 4


def test_other_weights_than_the_plain_steps_are_a_failure() -> None:
    assert engine.failures(STEPS, LOOPS) == ["20-64-64-2, epochal.fit: killed"]
    other = [*STEPS, step("traced", 3, 200.0, weights="others")]
    different = [{**LOOPS[0], "equal": False}]
    assert engine.failures(other, different) == [
        "20-64-64-2, batch size 64, traced: other weights",
        "20-64-64-2, epochal.fit: other weights",
    ]


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_every_way_makes_the_same_steps_and_its_parts_add_up() -> None:
    found = {}
    for way in ("plain", "traced", "TorchScript"):
        subject = anatomy.Subject("20-64-64-2", 8, 64, way, threads=1)
        assert subject.training.step == 8

        def measure(subject: anatomy.Subject = subject, way: str = way) -> None:
            before = subject.training.step
            found[way] = subject.measure()
            assert found[way]["note"] == ""
            assert subject.training.step == before + 8
            assert sum(found[way]["phases"].values()) == pytest.approx(found[way]["whole"])
            assert min(found[way]["phases"].values()) > 0

        # A part is measured by itself, and taken from a whole that may have been quicker.
        in_one_of(5, measure)
    assert {report["weights"] for report in found.values()} == {found["plain"]["weights"]}
    assert found["plain"]["floor"] > 0


@pytest.mark.parametrize("network", ["784-128-10", "convolutions"])
def test_the_loop_by_hand_ends_with_the_weights_of_fit(network: str) -> None:
    result = by_hand.compare(network, threads=1, steps=6, pairs=1)
    assert result["equal"]
    assert [len(result[name]) for name in ("fit", "hand")] == [1, 1]


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux only")
def test_memory_is_watched_in_all_processes() -> None:
    # A program starts another that holds 60 MiB; all watched from a small process, since a large one's peak would be inherited.
    holder = "import time; held = b'x' * (60 << 20); time.sleep(0.5)"
    starter = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {holder!r}], check=True)"
    watcher = f"import json, sys; from benchmarks import memory; print(json.dumps(memory.watch([sys.executable, '-c', {starter!r}])))"
    reported = run_json([sys.executable, "-c", watcher], ("peak_mib", "seconds", "mib"))
    assert 60 < reported["peak_mib"] < 120, reported
    assert 60 < max(reported["mib"]) < 120
    assert reported["seconds"] == sorted(reported["seconds"])
    assert len(reported["seconds"]) == len(reported["mib"])


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux only")
def test_memory_of_what_fails_is_not_reported(tmp_path: Path) -> None:
    failed = memory.watch([sys.executable, "-c", "raise SystemExit('no such thing')"])
    assert failed == {"error": "no such thing"}
    flat = {"peak_mib": 60.0, "seconds": [0.0, 1.0, 2.0, 3.0], "mib": [10.0, 50.0, 40.0, 42.0], "training": (1.5, 3.0)}
    text = memory.report_text({"failed": failed, "fine": flat}, {"failed": failed, "streamed": flat}, "pictures")
    assert "| failed | no such thing |" in text
    assert "| streamed | 60 MiB | 50 MiB | 41 (40–42) MiB |" in text
    figure = memory.figure({"failed": failed}, {"streamed": flat}, 100.0)
    assert [len(axes.lines) for axes in figure.axes] == [0, 2]


def test_training_is_found_in_the_curve() -> None:
    # The process began 2 s before its clock, with imports; after training it evaluated for 1 s.
    assert memory.training(10.0, {"load": 2.0, "build": 1.0, "train": 4.0, "evaluate": 1.0, "total": 8.0}) == (5.0, 9.0)


@pytest.mark.parametrize("program", ["run", "engine", "accuracy", "busy", "checkpoints", "ingest", "check", "memory", "sounds", "tune"])
def test_help_needs_nothing_installed(program: str) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / f"{program}.py"), "--help"], capture_output=True, text=True, timeout=300, check=True
    )
    assert f"python3 benchmarks/{program}.py --quick" in done.stdout


def _kind(data: str, way: str, seed: int, loss: float | None, accuracy: float | None, rmse: float | None, seconds: float) -> dict[str, Any]:
    return {"data": data, "way": way, "seed": seed, "loss": loss, "accuracy": accuracy, "rmse": rmse, "seconds": seconds}


KINDS = [
    _kind("wine", "epochal", 0, 1.0, 0.6, None, 5.0),
    _kind("wine", "LightGBM", 0, 0.9, 0.7, None, 1.0),
    _kind("wine", "epochal", 1, 1.2, 0.5, None, 7.0),
    _kind("wine", "LightGBM", 1, 0.9, 0.7, None, 1.0),
    {"data": "wine", "way": "LightGBM", "seed": 2, "error": "no such module"},
    _kind("autos", "epochal", 0, None, None, 2000.0, 1.0),
    _kind("autos", "LightGBM", 0, None, None, 2500.4, 1.0),
    _kind("digits without theo", "epochal", 0, 0.4, 0.9, None, 9.0),
    _kind("digits without lucas", "epochal", 0, 0.4, 0.8, None, 9.0),
]


def test_kinds_are_compared_within_a_seed() -> None:
    text = kinds.report_text(KINDS)
    assert "| wine | epochal | 1.100 ± 0.141 | – | 55.0 ± 7.1 % | 6.0 ± 1.4 | – |" in text
    assert "| wine | LightGBM | 0.900 ± 0.000 | – | 70.0 ± 0.0 % | 1.0 ± 0.0 | -0.200 ± 0.141 |" in text
    assert "| autos | LightGBM | – | 2,500 | – | 1.0 | +500 |" in text
    assert "| digits, a speaker left out | epochal | 0.400 ± 0.000 | – | 85.0 ± 7.1 % | 9.0 ± 0.0 | – |" in text
    assert "Each speaker left out: theo 90.0 %, lucas 80.0 %." in text
    assert "Did not run: LightGBM on wine, seed 2: no such module" in text
    titles = [axes.get_title() for axes in kinds.figure(KINDS).axes]
    assert titles == ["wine: log-loss", "autos: RMSE", "digits, a speaker left out: errors in %"]


def test_wrong_labels_that_come_back_are_averaged_over_seeds() -> None:
    one = {
        "case": "adult, 5 %",
        "changed": 1465,
        "examples": 29305,
        "cleanlab": 62.0,
        "cleanlab_seconds": 20.0,
        "logging": 1.0,
        "issues": 3000,
    }
    records = [{**one, "seed": 0, "precision": 61.0, "seconds": 10.0}, {**one, "seed": 1, "precision": 63.0, "seconds": 12.0}]
    text = label_errors.report_text([*records, {"case": "MNIST, 1 %", "seed": 0, "error": "no such module"}])
    assert "| adult, 5 % | 1,465 of 29,305 | 2 | 62.0 ± 1.4 | 62.0 ± 0.0 | 11 (10–12) | 20 (20–20) | 1.0 (1.0–1.0) % | 3,000 ± 0 |" in text
    assert "Did not run: MNIST, 1 %, seed 0: no such module" in text
    assert [axes.get_title() for axes in label_errors.figure(records).axes] == ["adult, 5 % changed: so many come back"]


def test_ways_take_turns_on_each_of_the_data() -> None:
    planned = kinds.plan(["german", "SST-2", "digits without theo"], 2)
    assert [(way, name) for way, name, seed in planned if seed == 1] == [
        *((way, "german") for way in kinds.ON_TABLES),
        *((way, "SST-2") for way in (*kinds.ON_TEXTS, *kinds.IN_ORDER)),
    ]
    assert planned.count(("epochal", "digits without theo", 0)) == 1


def _few(data: str, labels: int | None, way: str, draw: int, accuracy: float) -> dict[str, Any]:
    return {"data": data, "labels": labels, "way": way, "draw": draw, "accuracy": accuracy, "loss": 0.5, "seconds": 2.0}


def test_few_labels_are_apart_from_all() -> None:
    records = [
        _few("AG News", 16, "epochal", 0, 0.5),
        _few("SST-2", 16, "epochal minilm", 0, 0.6),
        _few("SST-2", 16, "epochal minilm", 1, 0.7),
        _few("SST-2", None, "epochal minilm", 0, 0.8),
        {"data": "SST-2", "labels": None, "way": "epochal", "draw": 0, "error": "no such module"},
    ]
    text = pretrained.report_text(records)
    assert "| SST-2 | epochal minilm | 16 per class | 65.0 ± 7.1 % | 0.500 ± 0.000 | 2.0 |" in text
    assert "| SST-2 | epochal minilm | all | 80.0 % | 0.500 | 2.0 |" in text
    assert "Did not run: epochal on SST-2, draw 0: no such module" in text
    titles = [axes.get_title() for axes in pretrained.figure(records).axes if axes.get_visible()]
    assert titles == ["SST-2, 16 per class: accuracy", "SST-2, all: accuracy", "AG News, 16 per class: accuracy"]


def test_few_labels_come_first() -> None:
    planned = pretrained.plan(["SST-2"], draws=2, whole=1)
    assert [labels for _, _, labels, _ in planned] == [16] * 8 + [None] * 5
    assert (pretrained.MANY, "SST-2", 16, 0) not in planned


def test_labels_are_drawn_for_each_class(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    (tmp_path / "rows.tsv").write_text("".join(f"text {number}\t{'ab'[number % 2]}\n" for number in range(40)), "utf-8")
    data = kind_data.Texts(kind_data.TEXTS["SST-2"].read, "rows.tsv", "rows.tsv")
    drawn = []
    for number in range(2):
        train, test = kind_data.write_files(data, tmp_path, number, tmp_path, labels=3)
        lines = train.read_text("utf-8").splitlines()[1:]
        assert sorted(line[-1] for line in lines) == ["a"] * 3 + ["b"] * 3
        assert len(test.read_text("utf-8").splitlines()) == 41
        drawn.append(lines)
    assert drawn[0] != drawn[1]


def test_folds_hold_out_each_row_once(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    rows = [f"{number % 15},{'ab'[number % 2]}" for number in range(30)]
    (tmp_path / "rows.csv").write_text("\n".join(["size,kind", *rows]), "utf-8")
    for apart in (False, True):
        data = kind_data.Table("rows.csv", "kind", apart=apart)
        splits = [kind_data.split(data, tmp_path, number) for number in range(kind_data.FOLDS)]
        assert sorted(place for _, test in splits for place in test.index) == list(range(30))
        shared = [{*train["size"]} & {*test["size"]} for train, test in splits]
        assert not any(shared) or not apart


def test_a_large_table_is_reported(tmp_path: Path) -> None:
    large_tables.make(tmp_path / "t.csv", 30)
    lines = (tmp_path / "t.csv").read_text("utf-8").splitlines()
    assert {len(line.split(",")) for line in lines} == {20}
    assert len(lines) == 31
    measured = {"torch": 100, "started": 100 + 160, "trained": 100 + 240, "read": (2.0, 1.0), "rows": 10, "train": 7, "columns": 2}
    records = [{**measured, "batch_size": size, "epochs": [(3.0, 2.0, 0.5), (6.0, 4.0, 0.25)]} for size in (2048, 256)]
    text = large_tables.report_text(records)
    assert "| from the file | 2.0 | 1.0 | 2.00 × | 3.00 × |" in text
    assert "| 2,048 | 2 | 6.0 | 4.0 | 0.2500 |" in text
    assert "| 256 | 4 |" in text
    assert large_tables.figure(records).axes[0].get_title() == "A table of 10 rows"


def test_clip_art_is_drawn_apart_and_in_parts(tmp_path: Path) -> None:
    pictures = {name: [tmp_path / f"{name}{number}.png" for number in range(40)] for name in clipart.CLASSES[:2]}
    drawn: dict[tuple[int, int], dict[str, set[Path]]] = {}
    for labels, draw in ((5, 0), (10, 0), (5, 1)):
        place = tmp_path / f"{labels} {draw}"
        folder = clipart.link(pictures, labels, draw, place)
        links = {split: {file.readlink() for file in (folder / split).rglob("*.png")} for split in ("train", "test")}
        assert [len(links[split]) for split in links] == [2 * labels, 2 * clipart.TESTED]
        assert not links["train"] & links["test"]
        drawn[labels, draw] = links
    assert drawn[5, 0]["test"] == drawn[10, 0]["test"] != drawn[5, 1]["test"]
    assert drawn[5, 0]["train"] < drawn[10, 0]["train"]


def test_clip_art_is_reported_with_intervals() -> None:
    way = next(iter(clipart.WAYS))
    records = [{"way": way, "labels": 5, "draw": draw, "accuracy": 0.4 + draw / 10, "seconds": 2.0 + draw} for draw in range(3)]
    assert f"| {way} | 5 | 50.0 ± 24.8 % | 3.0 (2.0–4.0) |" in clipart.report_text(records)
    assert clipart.figure(records).axes[0].get_legend_handles_labels()[1] == [f"{way}, 3 s"]


def test_huge_clip_art_is_left_out(tmp_path: Path) -> None:
    for name in clipart.CLASSES:
        (tmp_path / name / "more").mkdir(parents=True)
        Image.new("1", (2001, 1000)).save(tmp_path / name / "large.png")
        Image.new("1", (2000, 1000)).save(tmp_path / name / "more" / "small.png")
    found = clipart.list_pictures(tmp_path)
    assert [[file.name for file in found[name]] for name in clipart.CLASSES] == [["small.png"]] * len(clipart.CLASSES)


def test_a_search_beside_plain_optuna() -> None:
    nothing = {"default": None, "best": None, "difference": None, "interval": None}
    better = {"default": 0.8, "best": 0.82, "difference": 0.02, "interval": [0.01, 0.03]}
    record = {
        "data": "made",
        "trials": 20,
        "seeds": 10,
        "examples": 4000,
        "epochs": 12,
        "search": {"values": {"optimizer.lr": 0.1}, **better},
        "optuna": {"trials": 11, "values": {}, **nothing},
        "validation": [{"setting": "trial 3", "selected": 0.4, "fresh": 0.42}],
    }
    text = tune.report_text([record])
    assert "| made | epochal tune | 20 | 80.00 | 82.00 | +2.00 (+1.00 to +3.00) | lr 0.1 |" in text
    assert "| made | Optuna: TPE, median pruner | 11 | – | – | 0 | the default |" in text
    assert "| made | trial 3 | 0.4000 | 0.4200 |" in text
    assert "made 4,000 (12)" in text
    (axes,) = tune.figure([record]).axes
    assert axes.get_xlabel() == "points, with 95 % interval"
