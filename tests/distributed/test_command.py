"""The command in several processes: trained, evaluated, interrupted, killed, hung, and started again."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.forks import Server
from tests.processes import LONGEST, Processes, run_command
from tests.quick import draw_nothing

TRAIN = ["train", "digits", "--model", "vgg", "--set", "model.widths=[4,4]", "--set", "model.dropout=0.3"]
TRAIN += ["--epochs", "4", "--batch-size", "100", "--threads", "1", "--set", "checkpoint_every=0.05"]

# Steps in all.
STEPS = 4 * 13

# More is a slow proof: 100.
KILLS = int(os.environ.get("EPOCHAL_RANK_KILLS", "3"))


def fork(
    folder: Path, arguments: list[str], size: int = 2, launch: str = "none", strike: tuple[int, int, int] | None = None, lost: float = 20.0
) -> list[dict[str, Any]]:
    """Run the command in so many processes; `strike` says which of them gets which signal after which of its steps (-1: all get it)."""
    from epochal.distributed import watchdog
    from epochal.training import loop

    draw_nothing()
    command = run_command(arguments)

    def work(rank: int) -> None:
        watchdog.LOST_SECONDS = lost
        real, made = loop.train_step, 0

        def step(*given: Any) -> None:
            nonlocal made
            real(*given)
            made += 1
            if strike is not None and strike[0] in (rank, -1) and made == strike[2]:
                os.kill(os.getpid(), strike[1])

        loop.train_step = step  # type: ignore[assignment]
        command(rank)

    processes = Processes(folder, size, work, launch)
    if strike is not None and strike[1] == signal.SIGSTOP:
        signal.signal(signal.SIGALRM, lambda *_: os.kill(processes.pids[strike[0]], signal.SIGKILL))
        signal.alarm(LONGEST // 2)
        pid = processes.pids[1 - strike[0]]
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        signal.alarm(0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        os.kill(processes.pids[strike[0]], signal.SIGKILL)
    return processes.wait()


class Place:
    """A folder in which the command runs in several processes."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server.by(__name__)
        self.folder = folder

    def __call__(self, *arguments: str, **how: Any) -> list[dict[str, Any]]:
        self.server.ask(folder=str(self.folder), arguments=[*arguments], **how)
        found: list[dict[str, Any]] = self.server.answer()
        return found

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
    for size, name in ((1, "one"), (2, "two")):
        ended = made(*TRAIN, "--out", name, size=size)
        assert [one["code"] for one in ended] == [0] * size, ended[0]["said"]
        assert all(not one["said"] for one in ended[1:])
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


@pytest.mark.parametrize("seed", range(KILLS))
def test_a_killed_process_ends_all_and_started_again_they_end_as_if_nothing_had_been(place: Place, seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    rank, step, again = chance.randrange(2), chance.randrange(1, STEPS), [2, 2, 3, 1][seed % 4]
    here = Place(place.server, tmp_path)
    ended = here(*TRAIN, "--out", "run", launch="job", strike=(rank, signal.SIGKILL, step))
    assert ended[rank]["code"] == -signal.SIGKILL
    assert ended[1 - rank]["code"] not in (0, -signal.SIGALRM), ended
    if seed % 2:
        done = here("resume", "run", size=again)
    else:
        done = here(*TRAIN, "--out", "run", launch="job", size=again)
        assert "goes on: its processes were started again" in done[0]["said"]
    assert [one["code"] for one in done] == [0] * again, done[0]["said"]
    if again == 2:
        assert here.weights("run") == place.weights("two")
    else:
        assert here.result("run")["valid"]["loss"] == pytest.approx(place.result("two")["valid"]["loss"], rel=0.02)


def test_a_hung_process_is_named(place: Place, tmp_path: Path) -> None:
    ended = Place(place.server, tmp_path)(*TRAIN, "--out", "run", strike=(1, signal.SIGSTOP, 5), lost=3.0)
    assert ended[0]["code"] == 75
    assert "Process 1 of 2" in ended[0]["said"]
    assert "has not answered for 3 seconds: it hangs, or is cut off." in ended[0]["said"]


def test_after_ctrl_c_all_write_one_checkpoint_and_resume_to_the_bit(place: Place, tmp_path: Path) -> None:
    here = Place(place.server, tmp_path)
    ended = here(*TRAIN, "--out", "run", strike=(1, signal.SIGTERM, 20))
    assert {one["code"] for one in ended} == {143}
    assert "To continue from the last checkpoint: epochal resume run" in ended[0]["said"]
    assert [one["code"] for one in here("resume", "run")] == [0, 0]
    assert here.weights("run") == place.weights("two")


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
