import dataclasses
import io
import sys
from typing import Any

import pytest

from epochal.training.records import Rewound
from epochal.watch.console import Console


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


HIDE_CURSOR, SHOW_CURSOR, ERASE_LINE = "\x1b[?25l", "\x1b[?25h", "\x1b[2K"


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("epochal.watch.console.time.monotonic", clock)
    return clock


def test_a_log_gets_a_heading_a_row_per_epoch_and_an_end(records: Any, log: Any) -> None:
    file = io.StringIO()
    with Console(file) as watcher:
        log(watcher, records.training())
    device, *table = file.getvalue().splitlines()
    assert device.startswith("cpu (")
    assert device.endswith("1,234 parameters, 300 steps, traced")
    assert table == [
        "epoch  train loss  valid loss  accuracy        lr     time  examples/s",
        "  1/3      0.6250      0.6000   90.00 %      0.25   1.50 s      45,678  best",
        "  2/3      0.6250      0.5000   90.00 %     0.125   1.50 s      45,678  best",
        "  3/3      0.6250      0.5500   90.00 %    0.0833   1.50 s      45,678",
        "Trained 3 epochs in 4.56 s; kept the weights of epoch 2.",
    ]


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_a_rewind_is_one_line(records: Any, log: Any, kind: type[io.StringIO]) -> None:
    file = kind()
    rewound = Rewound(1200, 13, 0.5, "Step 1234 (epoch 2): the loss has a value that is not finite.")
    with Console(file) as watcher:
        log(watcher, [records.started(), records.epoch(1, 0.6), rewound, records.epoch(2, 0.5)])
        watcher(dataclasses.replace(records.finished(), rewinds=(rewound,)))
    said = "Step 1234 (epoch 2): the loss has a value that is not finite. Continuing after step 1,200 with the learning rate times 0.5."
    assert said in file.getvalue()
    assert "Trained 3 epochs in 4.56 s; rewound 1 time; kept the weights of epoch 2." in file.getvalue()


def test_without_a_file_it_prints_to_standard_output(records: Any, log: Any, capsys: pytest.CaptureFixture[str]) -> None:
    log(Console(), records.training())
    out, err = capsys.readouterr()
    assert "kept the weights of epoch 2" in out
    assert err == ""


def test_columns_stay_in_place_for_extreme_values_and_fit_80_columns(records: Any) -> None:
    file = io.StringIO()
    watcher = Console(file)
    watcher(records.started())
    watcher(records.epoch(1, 1.23e9, train_loss=-1.5e-12))
    watcher(records.epoch(2, 0.0, train_loss=9999.9999))
    lines = file.getvalue().splitlines()[1:]
    header, first, second = lines
    assert "-1.500e-12   1.230e+09" in first
    assert header.index("accuracy") + len("accuracy") == first.index(" %") + 2 == second.index(" %") + 2
    assert max(map(len, lines)) <= 80


def test_regression_shows_r2(records: Any) -> None:
    file = io.StringIO()
    watcher = Console(file)
    watcher(records.started(task="regression"))
    watcher(records.regressed(1))
    watcher(records.regressed(2, r2=-12345.0))
    _, header, first, second = file.getvalue().splitlines()
    end = header.index("R²") + len("R²")
    assert first[:end].endswith("  0.8750")
    assert second[:end].endswith("-1.2e+04")


def test_only_a_choice_by_validation_is_called_best(records: Any) -> None:
    file = io.StringIO()
    watcher = Console(file)
    watcher(records.started())
    watcher(records.epoch(1, None))
    watcher(records.started(records.recipe.updated({"keep": "last"})))
    watcher(records.epoch(1))
    assert "best" not in file.getvalue()


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("steps", "Stopped by max_steps after 300 steps in 4.56 s"),
        ("seconds", "Stopped by max_seconds in epoch 3 in 4.56 s"),
        ("patience", "Stopped by patience after 3 epochs in 4.56 s"),
    ],
)
def test_the_end_says_why(records: Any, reason: str, words: str) -> None:
    file = io.StringIO()
    watcher = Console(file)
    watcher(records.started())
    watcher(records.finished(reason))
    assert words in file.getvalue()


def test_a_log_hears_of_a_long_epoch_every_ten_seconds(records: Any, clock: Clock) -> None:
    file = io.StringIO()
    watcher = Console(file)
    watcher(records.started())
    for _ in range(100):
        clock.now += 0.25
        watcher(records.progress())
    lines = [line for line in file.getvalue().splitlines() if "left" in line]
    assert lines == ["  epoch 1/3: 50%, loss 0.7500, 12,346/s, data wait 2%, 83.0 s left"] * 2


def test_a_terminal_gets_a_live_line_that_vanishes(records: Any) -> None:
    file = Terminal()
    with Console(file) as watcher:
        watcher(records.started())
        watcher(records.progress())
        live = file.getvalue()
        watcher(records.epoch(1))
        watcher(records.finished())
    assert "epoch 1/3" in live
    for word in ("loss 0.7500", "12,346/s", "data wait 2%", "83.0 s left", "━"):
        assert word in live
    end = file.getvalue()
    assert end.count(HIDE_CURSOR) == end.count(SHOW_CURSOR) == 1
    assert ERASE_LINE in end[end.index(live[-20:]) :]
    assert "kept the weights of epoch 2" in end


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_the_live_line_vanishes_when_training_does_not_end(records: Any, error: type[BaseException]) -> None:
    file, stdout = Terminal(), sys.stdout
    with pytest.raises(error), Console(file) as watcher:
        watcher(records.started())
        watcher(records.progress())
        assert sys.stdout is not stdout, "what others print goes above the live line"
        raise error
    assert file.getvalue().rstrip().endswith((SHOW_CURSOR, ERASE_LINE))
    assert sys.stdout is stdout


def test_forced_colour_brings_no_live_line_into_a_log(records: Any, log: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    file = io.StringIO()
    with Console(file) as watcher:
        watcher(records.started())
        watcher(records.progress())
        watcher(records.finished())
    assert HIDE_CURSOR not in file.getvalue()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.004, "0.00 s"), (9.99, "9.99 s"), (99.9, "99.9 s"), (100, "1m 40s"), (3599, "59m 59s"), (7325, "2h 02m"), (360000, "100h 00m")],
)
def test_durations(records: Any, seconds: float, words: str) -> None:
    file = io.StringIO()
    with Console(file) as watcher:
        watcher(dataclasses.replace(records.finished(), seconds=seconds))
    assert f" in {words};" in file.getvalue()


def test_what_was_chosen_by_measurement_comes_first(records: Any) -> None:
    file = io.StringIO()
    with Console(file) as watcher:
        watcher(dataclasses.replace(records.started(), notes=("measured [1]: cpu",)))
    assert file.getvalue().splitlines()[0] == "measured [1]: cpu"
