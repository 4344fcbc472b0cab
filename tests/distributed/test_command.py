"""The command in several processes: trained, evaluated, interrupted, killed, hung, and started again.

EPOCHAL_RANK_KILLS=100 python3 -m pytest tests/distributed/test_command.py -k killed_process     so many of 2 and 4 processes, in all phases
EPOCHAL_STALLS=50 python3 -m pytest tests/distributed/test_command.py -k hung     so many stopped, with the real limit
EPOCHAL_LAUNCHER_KILLS=20 python3 -m pytest tests/distributed/test_command.py -k launcher     so often who keeps the store
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from epochal.distributed.launch import CODE_FILE
from tests.forks import Server
from tests.processes import LONGEST, Processes, run_command
from tests.quick import draw_nothing

TRAIN = ["train", "digits", "--model", "vgg", "--set", "model.widths=[4,4]", "--set", "model.dropout=0.3"]
TRAIN += ["--epochs", "2", "--batch-size", "100", "--threads", "1", "--set", "checkpoint_every=0.05"]

# Steps in all.
STEPS = 2 * 13

# More are slow proofs.
KILLS = int(os.environ.get("EPOCHAL_RANK_KILLS", "3"))
STALLS = int(os.environ.get("EPOCHAL_STALLS", "1"))
LAUNCHERS = int(os.environ.get("EPOCHAL_LAUNCHER_KILLS", "1"))

# From a fault until all have ended, seconds.
LIMIT = 30.0

# When a process was struck, in seconds after the start.
STRUCK = "struck.txt"

_SUBREAPER = 36


def fork(
    folder: Path,
    arguments: list[str],
    size: int = 2,
    launch: str = "none",
    strike: tuple[int, int, int] | None = None,
    after: float = -1.0,
    lost: float = 20.0,
    launcher: float | None = None,
    restarts: int = 0,
    code: str = "",
) -> list[dict[str, Any]]:
    """Run the command in so many processes.

    `strike` says which of them gets which signal, and after which of its steps (-1: all get it); or `after` so many seconds, once all have
    met. With `launcher`, who keeps their store is killed after so many seconds. `code` is the file in which our own launcher finds the
    exit code.
    """
    from epochal.distributed import watchdog
    from epochal.distributed.ranks import ranks
    from epochal.training import loop

    draw_nothing()
    command, began = run_command(arguments), time.monotonic()

    def hit(number: int) -> None:
        Path(folder / STRUCK).write_text(str(time.monotonic() - began))
        os.kill(os.getpid(), number)

    def work(rank: int) -> None:
        watchdog.LOST_SECONDS = lost
        os.environ["TORCHELASTIC_RESTART_COUNT"] = str(restarts)
        if code:
            os.environ[CODE_FILE] = str(folder / code)
        real, made = loop.train_step, 0

        def step(*given: Any) -> None:
            nonlocal made
            real(*given)
            made += 1
            if strike is not None and strike[0] in (rank, -1) and made == strike[2]:
                hit(strike[1])

        loop.train_step = step  # type: ignore[assignment]
        if strike is not None and strike[0] == rank and after >= 0:
            ranks()
            timer = threading.Timer(after, hit, (strike[1],))
            timer.daemon = True
            timer.start()
        command(rank)

    if launcher is not None:
        return _without_launcher(folder, size, work, launcher)
    processes = Processes(folder, size, work, launch)
    if strike is not None and strike[1] == signal.SIGSTOP:
        _end_stopped(processes.pids, strike[0])
    return processes.wait()


def _end_stopped(pids: list[int], stopped: int) -> None:
    """Wait until all but one have ended, and end that one, which may be stopped."""
    signal.signal(signal.SIGALRM, lambda *_: os.kill(pids[stopped], signal.SIGKILL))
    signal.alarm(LONGEST // 2)
    for rank, pid in enumerate(pids):
        if rank != stopped:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    signal.alarm(0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    os.kill(pids[stopped], signal.SIGKILL)


def _without_launcher(folder: Path, size: int, work: Callable[[int], object], after: float) -> list[dict[str, Any]]:
    """Run processes of a launcher that is killed; return how each ended, and how long after that."""
    # Orphans become children of this process.
    ctypes.CDLL(None).prctl(_SUBREAPER, 1)
    place = folder / "pids.json"
    place.unlink(missing_ok=True)
    pid = os.fork()
    if not pid:
        processes = Processes(folder, size, work)
        draft = folder / "draft.json"
        draft.write_text(json.dumps(processes.pids))
        draft.replace(place)
        processes.wait()
        os._exit(0)
    while not place.exists():
        time.sleep(0.01)
    time.sleep(after)
    os.kill(pid, signal.SIGKILL)
    killed, ended, pids = time.monotonic(), dict[int, dict[str, Any]](), json.loads(place.read_text())
    os.waitpid(pid, 0)
    while len(ended) < size:
        try:
            found, status = os.wait()
        except ChildProcessError:
            # The launcher itself has seen them end.
            break
        if found in pids:
            ended[pids.index(found)] = {"code": os.waitstatus_to_exitcode(status), "seconds": time.monotonic() - killed}
    return [ended.get(rank, {"code": 0, "seconds": 0.0}) | {"said": (folder / f"said-{rank}.txt").read_text()} for rank in range(size)]


class Place:
    """A folder in which the command runs in several processes."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server.by(__name__)
        self.folder = folder
        self.seconds: dict[int, float] = {}

    def __call__(self, *arguments: str, **how: Any) -> list[dict[str, Any]]:
        self.server.ask(folder=str(self.folder), arguments=[*arguments], **how)
        found: list[dict[str, Any]] = self.server.answer()
        return found

    def whole(self, size: int) -> str:
        """Return a run of so many processes that nothing happened to, and how long it took is in `seconds`."""
        name = {1: "one", 2: "two", 4: "four"}[size]
        if not (self.folder / name).exists():
            ended = self(*TRAIN, "--out", name, size=size)
            assert [one["code"] for one in ended] == [0] * size, ended[0]["said"]
            assert all(not one["said"] for one in ended[1:])
            self.seconds[size] = max(one["seconds"] for one in ended)
        return name

    def weights(self, run: str) -> bytes:
        """Return the weights that a run has kept."""
        return (self.folder / run / "model" / "model.safetensors").read_bytes()

    def result(self, run: str) -> dict[str, Any]:
        """Return the result of a run."""
        found: dict[str, Any] = json.loads((self.folder / run / "result.json").read_text())
        return found


@pytest.fixture(scope="module")
def place(forking: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Return a folder with a run of one process, "one", and a run of two, "two"."""
    made = Place(forking, tmp_path_factory.mktemp("processes"))
    for size in (1, 2):
        made.whole(size)
    yield made
    shutil.rmtree(made.folder)


def test_two_processes_train_what_one_does(place: Place) -> None:
    one, two = place.result("one"), place.result("two")
    assert two["valid"]["loss"] == pytest.approx(one["valid"]["loss"], rel=0.02)
    assert "2 processes train, each on a slice of every batch; batch norm sees the whole batch" in (place.folder / "said-0.txt").read_text()
    environment = json.loads((place.folder / "two" / "environment.json").read_text())
    assert environment["processes"] == 2
    assert {path.name for path in (place.folder / "two").iterdir()} == {path.name for path in (place.folder / "one").iterdir()}


def test_evaluation_by_several_is_that_by_one(place: Place) -> None:
    shutil.rmtree(place.folder / "two" / "predictions")
    several = place("evaluate", "two", "--json", size=3)
    assert [one["code"] for one in several] == [0, 0, 0]
    found = json.loads(several[0]["said"].splitlines()[-1])
    assert found["loss"] == place.result("two")["test"]["loss"]
    assert found["count"] == place.result("two")["test"]["count"]


def struck(folder: Path) -> float:
    """Return when a process was struck; infinity if it had ended before."""
    return float((folder / STRUCK).read_text()) if (folder / STRUCK).exists() else float("inf")


def goes_on(here: Place, place: Place, size: int, again: int, launch: str) -> None:
    """Let a run go on, by `resume` or, within a launch, by the same command; it ends as if nothing had been."""
    # Before there is a run, there is nothing to resume.
    if launch == "none" and (here.folder / "run").exists():
        done = here("resume", "run", size=again)
    else:
        done = here(*TRAIN, "--out", "run", launch=launch, size=again, restarts=1)
    assert [one["code"] for one in done] == [0] * again, done[0]["said"]
    if again == size:
        assert here.weights("run") == place.weights(place.whole(size))
    else:
        assert here.result("run")["valid"]["loss"] == pytest.approx(place.result("two")["valid"]["loss"], rel=0.02)


@pytest.mark.parametrize("seed", range(KILLS))
def test_a_killed_process_ends_all_and_started_again_they_end_as_if_nothing_had_been(place: Place, seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    size = 2 if seed < 3 or seed % 2 else 4
    rank, step, again = chance.randrange(size), chance.randrange(1, STEPS), [size, size, 3, 1][seed // 2 % 4]
    place.whole(size)
    # The first three in training, all others whenever.
    after, step = (-1.0, step) if seed < 3 else (chance.uniform(0, place.seconds[size]), 0)
    here, launch = Place(place.server, tmp_path), "job" if seed % 4 < 2 else "none"
    ended = here(*TRAIN, "--out", "run", size=size, launch=launch, strike=(rank, signal.SIGKILL, step), after=after)
    if (when := struck(tmp_path)) < float("inf"):
        assert ended[rank]["code"] == -signal.SIGKILL
    assert all(one["code"] in (0, 1, 75) for other, one in enumerate(ended) if other != rank), ended
    assert max(one["seconds"] for one in ended) - when < LIMIT
    goes_on(here, place, size, again, launch)


@pytest.mark.parametrize("seed", range(STALLS))
def test_a_hung_process_is_named(place: Place, seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    size, lost = 4 if seed % 2 else 2, 3.0 if STALLS == 1 else 20.0
    place.whole(size)
    after, rank = (-1.0, 1) if not seed else (chance.uniform(0, place.seconds[size]), chance.randrange(size))
    ended = Place(place.server, tmp_path)(*TRAIN, "--out", "run", size=size, strike=(rank, signal.SIGSTOP, 5), after=after, lost=lost)
    others = [one for other, one in enumerate(ended) if other != rank]
    if (when := struck(tmp_path)) == float("inf") or all(one["code"] == 0 for one in others):
        # It was stopped when it had done its part.
        return
    assert all(one["code"] == 75 for one in others), ended
    assert max(one["seconds"] for one in others) - when < LIMIT
    named = [one["said"] for one in others if f"Process {rank} of {size}" in one["said"]]
    assert named
    assert f"has not answered for {lost:.0f} seconds: it hangs, or is cut off." in named[0]


@pytest.mark.parametrize("seed", range(LAUNCHERS))
def test_without_a_launcher_all_end(place: Place, seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    here = Place(place.server, tmp_path)
    ended = here(*TRAIN, "--out", "run", launcher=chance.uniform(0.3, place.seconds[2]))
    assert all(one["code"] in (0, 1, 75) for one in ended), ended
    assert max(one["seconds"] for one in ended) < LIMIT
    goes_on(here, place, 2, [2, 2, 4, 1][seed % 4], "none")


def test_after_ctrl_c_all_write_one_checkpoint_and_resume_to_the_bit(place: Place, tmp_path: Path) -> None:
    here = Place(place.server, tmp_path)
    ended = here(*TRAIN, "--out", "run", strike=(1, signal.SIGTERM, 20))
    assert {one["code"] for one in ended} == {143}
    assert "To continue from the last checkpoint: epochal resume run" in ended[0]["said"]
    assert [one["code"] for one in here("resume", "run")] == [0, 0]
    assert here.weights("run") == place.weights("two")


def test_ctrl_c_is_told_once(place: Place, tmp_path: Path) -> None:
    ended = Place(place.server, tmp_path)(*TRAIN, "--out", "run", strike=(-1, signal.SIGINT, 20))
    assert [one["code"] for one in ended] == [130, 130]
    assert ended[0]["said"].endswith("resume run\n\nInterrupted.\n")
    assert not ended[1]["said"]


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
def test_machines_may_join_and_leave(place: Place, before: int, after: int, tmp_path: Path) -> None:
    """What torchrun does then: SIGTERM, and the same command again, with another number of processes, and not counted as a new start."""
    here = Place(place.server, tmp_path)
    ended = here(*TRAIN, "--out", "run", size=before, launch="job", strike=(-1, signal.SIGTERM, 20))
    assert {one["code"] for one in ended} == {143}
    done = here(*TRAIN, "--out", "run", size=after, launch="job")
    assert [one["code"] for one in done] == [0] * after
    assert "run goes on: its processes were started again." in done[0]["said"]
    assert here.result("run")["valid"]["loss"] == pytest.approx(place.result("two")["valid"]["loss"], rel=0.02)


def test_what_is_wrong_is_said_once(place: Place, tmp_path: Path) -> None:
    here = Place(place.server, tmp_path)
    ended = here(*TRAIN[:2], "--folds", "3", "--out", "run")
    assert [one["code"] for one in ended] == [1, 1]
    assert "Several processes train one model: the setting folds asks for several." in ended[0]["said"]
    ended = here("train", "nothing.csv", "--out", "run")
    assert [one["code"] for one in ended] == [1, 1]
    assert "nothing.csv" in ended[0]["said"]
    assert not ended[1]["said"]
    ended = here("resume", "missing")
    assert [one["code"] for one in ended] == [1, 1]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "digits", "--lr", "-1"], "error: The setting optimizer.lr = -1 (command line) cannot be used"),
        (["train", "digits", "--folds", "3"], "error: Several processes train one model: the setting folds asks for several."),
        (["predict", "two", "missing.png"], "error: missing.png does not exist."),
    ],
)
def test_our_launcher_is_told_that_all_ended_on_purpose(place: Place, arguments: list[str], words: str) -> None:
    """It would start them again otherwise; and what all of them meet is said once."""
    place.whole(2)
    (place.folder / "code").unlink(missing_ok=True)
    ended = place(*arguments, code="code")
    assert [one["code"] for one in ended] == [0, 0]
    assert (place.folder / "code").read_text() == "1"
    assert "".join(one["said"] for one in ended).count(words) == 1
