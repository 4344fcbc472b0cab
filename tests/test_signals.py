"""SIGINT and SIGTERM at any moment end a run soon, with the code that the system expects, and cost one step at most: the proof.

Real runs of the command, each in a process of its own, get real signals; then they are resumed. The processes are forks of one that has
imported everything; those that are to be hit while they start are started again.

EPOCHAL_SIGNALS=50 python3 -m pytest tests/test_signals.py          the same with so many signals
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from epochal.training.checkpoint import Checkpoints, read_checkpoint
from tests.forks import LONGEST, Ended, Fork, Server
from tests.kinds import KINDS
from tests.outcome import outcome
from tests.quick import draw_nothing

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

# When the signal comes: the function that is running, and how many times it is called.
PHASES = {
    "loading": ("epochal.run.prepare", "load_data", 1),
    "warm-up": ("epochal.run.prepare", "resolve_auto", 1),
    "training": ("epochal.training.loop", "train_step", 150),
    "evaluation": ("epochal.training.loop", "evaluate", 3),
    "saving": ("epochal.training.checkpoint.Checkpoints", "save", 4),
    "keeping": ("epochal.bundle.Bundle", "save", 1),
    "testing": ("epochal.run.complete", "evaluate", 1),
    "drawing": ("epochal.figures", "draw_all", 1),
}
# Of so many signals one comes while the program starts, and one while another has just come.
COUNT = int(os.environ.get("EPOCHAL_SIGNALS", "4"))
IN_TURN = (
    "training", "saving", "second", "evaluation", "starting", "warm-up",
    "drawing", "training", "testing", "keeping", "loading", "second",
)  # fmt: skip
# From the last signal to the end, without the time in which other programs had the cores: so long no machine stands still.
SECONDS = 20.0
TRAIN = ("--recipe", "tutorial-mlp", "--batch-size", "1024", "--epochs", "3", "--ema", "0.9", "--set", "data.valid=0.1")
SETTINGS = ("--device", "cpu", "--checkpoint-every", "0.1", "--out", "run")


@pytest.fixture(scope="module")
def server(forking: Server) -> Server:
    return forking.by(__name__)


def _train(kind: str, folder: Path, threads: str = "1") -> tuple[str, ...]:
    """Write data of a kind into a folder where there are none, and return the command that trains on them there for a second."""
    if kind in KINDS:
        return ("train", *KINDS[kind](folder), "--ema", "0.9", "--epochs", "40", *SETTINGS, "--threads", threads)
    has_mnist = (Path(os.environ.get("EPOCHAL_DATA", "/nowhere")) / "mnist").exists()
    if has_mnist:
        return ("train", "mnist", *TRAIN, *SETTINGS, "--threads", threads)
    return ("train", "digits", *TRAIN, "--model", "mlp", "--batch-size", "24", "--epochs", "20", *SETTINGS, "--threads", threads)


def _hit_while_starting(folder: Path, command: Sequence[str], number: int, delay: float) -> Ended:
    process = subprocess.Popen(
        [sys.executable, "-m", "epochal", *command], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        preexec_fn=lambda: signal.alarm(LONGEST),
    )  # fmt: skip
    time.sleep(delay)
    begun = _own_seconds(process.pid)
    process.send_signal(number)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    own = _own_seconds(process.pid) - begun
    said, _ = process.communicate()
    return Ended(process.returncode, 0, said, own)


def test_signals_lose_one_step_at_most(server: Server, tmp_path: Path) -> None:
    wholes: dict[str, tuple[dict[str, Any], int]] = {}
    chance = random.Random(0)
    for index in range(COUNT):
        # In each round, kinds are in other phases.
        kind, phase = ("pictures", *KINDS)[(index + index // len(IN_TURN)) % (1 + len(KINDS))], IN_TURN[index % len(IN_TURN)]
        if kind not in wholes:
            whole = tmp_path / kind
            whole.mkdir()
            ended = server(whole, *_train(kind, whole))
            assert ended.code == 0, ended.said
            wholes[kind] = outcome(whole / "run"), ended.steps
        wanted, total = wholes[kind]
        first = chance.choice((signal.SIGINT, signal.SIGTERM))
        signals = (first, chance.choice((signal.SIGINT, signal.SIGTERM))) if phase == "second" else (first,)
        folder = tmp_path / str(index)
        folder.mkdir()
        if phase == "starting":
            ended = _hit_while_starting(folder, _train(kind, folder), first, chance.uniform(0.0, 3.0))
        else:
            inside = "saving" if phase == "second" else phase
            call = chance.randint(1, PHASES[inside][2])
            command = (*_train(kind, folder, "auto"), "--epochs", "30") if phase == "warm-up" else _train(kind, folder)
            ended = server(folder, *command, phase=inside, call=call, delay=chance.uniform(0.0, 0.05), signals=signals)
        case = f"signal {index} on {kind}, {[number.name for number in signals]} in {phase}: {ended}"
        # The first of two may have done its work before the second comes.
        assert ended.code in [128 + number for number in signals] or (phase == "starting" and ended.code == -first), case
        assert ended.more < SECONDS, case
        assert "Traceback" not in ended.said or ended.code == -first, case
        run = folder / "run"
        if phase == "warm-up" and run.exists():
            # It came when the threads had been chosen, and their number decides the last bits.
            assert server(folder, "resume", "run").code == 0, case
            continue
        if not run.exists():
            # Before the first checkpoint there is nothing to keep.
            assert not ended.steps, case
            assert phase in ("starting", "loading", "warm-up") or (inside == "saving" and call == 1), case
            continue
        assert ended.steps <= total, case
        places = Checkpoints(run / "checkpoints", 1.0).found()
        assert all(read_checkpoint(place) for place in places), case
        # A second signal may come before the checkpoint that the first one asked for.
        assert int(places[0].name.split("-")[1]) >= (ended.steps - 1 if phase != "second" else 0), case
        again = server(folder, "resume", "run")
        assert again.code == 0, case + again.said
        assert ended.steps + again.steps <= total + 1 or phase == "second", case
        found = outcome(run)
        assert [name for name in wanted if found[name] != wanted[name]] == [], case


def _own_seconds(process: int) -> float:
    """Return what the clock says, less the seconds that a process has waited for a core, where the system counts them."""
    schedule = Path(f"/proc/{process}/schedstat")
    return time.monotonic() - (int(schedule.read_text().split()[1]) / 1e9 if schedule.exists() else 0.0)


def fork(folder: Path, arguments: list[str], phase: str = "", call: int = 0, delay: float = 0.0, signals: Sequence[int] = ()) -> Ended:
    """Run the command; send the signals so many seconds after that call in that phase has begun. `more` is the seconds until it ended."""
    reading, writing = os.pipe()

    def prepare() -> None:
        if phase != "drawing":
            draw_nothing()
        if phase:
            _on_call(phase, call, lambda: _signal_later(delay, [*signals], writing))

    fork = Fork(folder, arguments, prepare)
    os.close(writing)
    os.waitid(os.P_PID, fork.process, os.WEXITED | os.WNOWAIT)
    ended = _own_seconds(fork.process)
    with os.fdopen(reading) as sent:
        begun = [float(line) for line in sent]
    return fork.wait()._replace(more=ended - begun[-1] if begun else 0.0)


def _signal_later(delay: float, signals: list[int], writing: int) -> None:
    """Let the system interrupt this process after so many seconds, to send itself the signals, and write down when it is asked to.

    Another process might get a core only when all is over.
    """

    def after(seconds: float) -> None:
        os.write(writing, f"{_own_seconds(os.getpid())}\n".encode())
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-6))

    def strike(*_: object) -> None:
        number = signals.pop(0)
        if signals:
            after(0.003)
        else:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(LONGEST)
        os.kill(os.getpid(), number)

    signal.signal(signal.SIGALRM, strike)
    after(delay)


def _on_call(phase: str, call: int, do: Callable[[], None]) -> None:
    """Do something when the function of that phase is called for that time."""
    import importlib

    place, name, _ = PHASES[phase]
    module, _, kind = place.rpartition(".")
    owner: Any = getattr(importlib.import_module(module), kind) if kind[0].isupper() else importlib.import_module(place)
    real, calls = getattr(owner, name), 0

    def called(*given: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            do()
        return real(*given, **options)

    setattr(owner, name, called)
