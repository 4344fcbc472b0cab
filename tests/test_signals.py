"""SIGINT and SIGTERM at any moment end a run soon, with the code that the system expects, and cost one step at most: the proof.

Real runs of the command, each in a process of its own, get real signals; then they are resumed. The processes are forks of one that has
imported everything; those that are to be hit while they start are started anew.

EPOCHAL_SIGNALS=50 python3 -m pytest tests/test_signals.py          the same with so many signals
"""

from __future__ import annotations

import json
import mmap
import os
import random
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from epochal.training.checkpoint import Checkpoints, _read
from tests.outcome import outcome

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

# When the signal comes: the function that is running, and how many times it is called.
PHASES = {
    "loading": ("epochal.run", "load_for", 1),
    "warm-up": ("epochal.run", "settle", 1),
    "training": ("epochal.training.loop", "train_step", 150),
    "evaluation": ("epochal.training.loop", "evaluate", 3),
    "saving": ("epochal.training.checkpoint.Checkpoints", "_write", 4),
    "keeping": ("epochal.bundle.Bundle", "save", 1),
    "testing": ("epochal.run", "evaluate", 1),
    "drawing": ("epochal.figures", "draw_all", 1),
}
# Of so many signals one comes while the program starts, and one while another has just come.
COUNT = int(os.environ.get("EPOCHAL_SIGNALS", "4"))
IN_TURN = (
    "training", "saving", "second", "evaluation", "starting", "warm-up",
    "drawing", "training", "testing", "keeping", "loading", "second",
)  # fmt: skip
SECONDS = 5.0
TRAIN = ("--recipe", "tutorial-mlp", "--batch-size", "1024", "--epochs", "3", "--ema", "0.9", "--set", "data.valid=0.1")
SETTINGS = ("--device", "cpu", "--compile", "off", "--checkpoint-every", "0.1", "--out", "run")


class Ended(NamedTuple):
    """How a command ended: its exit code (negative: the signal), the seconds since the signal, the steps it made, what it said."""

    code: int
    seconds: float
    steps: int
    said: str


class Server:
    """A process that runs the command in forks of itself and sends them signals."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=folder
        )

    def __call__(
        self, folder: Path, *arguments: str, phase: str = "", call: int = 0, delay: float = 0.0, signals: tuple[int, ...] = ()
    ) -> Ended:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        asked = {"folder": str(folder), "arguments": arguments, "phase": phase, "call": call, "delay": delay, "signals": signals}
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        return Ended(*json.loads(self.process.stdout.readline()))

    def close(self) -> None:
        self.process.communicate()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.close()


def _train(threads: str = "1") -> tuple[str, ...]:
    has_mnist = (Path(os.environ.get("EPOCHAL_DATA", "/nowhere")) / "mnist").exists()
    if has_mnist:
        return ("train", "mnist", *TRAIN, *SETTINGS, "--threads", threads)
    return ("train", "digits", *TRAIN, "--batch-size", "24", *SETTINGS, "--threads", threads)


def _hit_while_starting(folder: Path, number: int, delay: float) -> Ended:
    process = subprocess.Popen(
        [sys.executable, "-m", "epochal", *_train()], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    time.sleep(delay)
    process.send_signal(number)
    begun = time.monotonic()
    said, _ = process.communicate(timeout=60)
    return Ended(process.returncode, time.monotonic() - begun, 0, said)


def test_signals_lose_one_step_at_most(server: Server, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    ended = server(whole, *_train())
    assert ended.code == 0, ended.said
    wanted, total = outcome(whole / "run"), ended.steps
    chance = random.Random(0)
    for index in range(COUNT):
        phase = IN_TURN[index % len(IN_TURN)]
        first = chance.choice((signal.SIGINT, signal.SIGTERM))
        signals = (first, chance.choice((signal.SIGINT, signal.SIGTERM))) if phase == "second" else (first,)
        folder = tmp_path / str(index)
        folder.mkdir()
        if phase == "starting":
            ended = _hit_while_starting(folder, first, chance.uniform(0.0, 3.0))
        else:
            inside = "saving" if phase == "second" else phase
            call = chance.randint(1, PHASES[inside][2])
            command = (*_train(threads="auto"), "--epochs", "30") if phase == "warm-up" else _train()
            ended = server(folder, *command, phase=inside, call=call, delay=chance.uniform(0.0, 0.05), signals=signals)
        case = f"signal {index}, {[number.name for number in signals]} in {phase}: {ended}"
        # The first of two may have done its work before the second comes.
        assert ended.code in [128 + number for number in signals] or (phase == "starting" and ended.code == -first), case
        assert ended.seconds < SECONDS, case
        assert "Traceback" not in ended.said or ended.code == -first, case
        run = folder / "run"
        if not run.exists():
            # Before the first checkpoint there is nothing to keep.
            assert not ended.steps, case
            assert phase in ("starting", "loading", "warm-up") or (inside == "saving" and call == 1), case
            continue
        assert ended.steps <= total, case
        places = Checkpoints(run / "checkpoints", 1.0).found()
        assert all(_read(place) for place in places), case
        # A second signal may come before the checkpoint that the first one asked for.
        assert int(places[0].name.split("-")[1]) >= (ended.steps - 1 if phase != "second" else 0), case
        again = server(folder, "resume", "run")
        assert again.code == 0, case + again.said
        assert ended.steps + again.steps <= total + 1 or phase == "second", case
        found = outcome(run)
        assert [name for name in wanted if found[name] != wanted[name]] == [], case


def _fork(folder: str, arguments: list[str], phase: str, call: int, delay: float, signals: list[int]) -> Ended:
    """Run the command in a fork of this process; send the signals so many seconds after that call in that phase has begun."""
    from epochal.cli.main import main
    from epochal.training import loop

    steps = memoryview(mmap.mmap(-1, 8)).cast("q")
    reading, writing = os.pipe()
    said = Path(folder) / "said.txt"
    child = os.fork()
    if not child:
        signal.alarm(300)
        os.chdir(folder)
        log = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        if phase:
            _announce(phase, call, writing)
        real_step = loop.train_step

        def counted(*given: Any) -> None:
            real_step(*given)
            steps[0] += 1

        loop.train_step = counted  # type: ignore[assignment]
        sys.argv = ["epochal", *arguments]
        code = 70
        try:
            try:
                main()
            except SystemExit as error:
                code = int(error.code or 0)
            except BaseException:  # noqa: BLE001  the test will see it
                traceback.print_exc()
        except SystemExit as error:
            # The last signal came when all was over.
            code = int(error.code or 0)
        finally:
            sys.stdout.flush()
            os._exit(code)
    os.close(writing)
    # It also ends where the command ends before that.
    select.select([reading], [], [])
    begun = time.monotonic()
    if os.read(reading, 1):
        for number in signals:
            time.sleep(delay)
            os.kill(child, number)
            delay = 0.003
        begun = time.monotonic()
    os.close(reading)
    _, status = os.waitpid(child, 0)
    return Ended(os.waitstatus_to_exitcode(status), time.monotonic() - begun, steps[0], said.read_text())


def _announce(phase: str, call: int, writing: int) -> None:
    """Write to the pipe when the function of that phase is called for that time."""
    import importlib

    place, name, _ = PHASES[phase]
    module, _, kind = place.rpartition(".")
    owner: Any = getattr(importlib.import_module(module), kind) if kind[0].isupper() else importlib.import_module(place)
    real, calls = getattr(owner, name), 0

    def announced(*given: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            os.write(writing, b".")
        return real(*given, **options)

    setattr(owner, name, announced)


def _serve() -> None:
    """Answer a line of JSON with a line of JSON, until there are no more."""
    # Whatever takes time to import, the forks have already.
    import rich.console
    import rich.live  # noqa: F401
    import torch._dynamo  # noqa: F401
    from matplotlib.figure import Figure

    import epochal.again
    import epochal.cli.resume
    import epochal.cli.train
    import epochal.figures
    import epochal.watch.console  # noqa: F401

    draw = Figure.savefig
    for line in sys.stdin:
        # To draw figures takes longer than all the rest; they are drawn where the signal is to come just then.
        is_drawn = json.loads(line)["phase"] == "drawing"
        Figure.savefig = draw if is_drawn else lambda _, file, **__: file.write(b"a figure")  # type: ignore[method-assign]
        print(json.dumps(_fork(**json.loads(line))), flush=True)


if __name__ == "__main__":
    _serve()
