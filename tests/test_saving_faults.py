"""Whatever the disk does while a run is being kept, the run says so and goes on later as if nothing had been: the proof.

Real runs of the command are made in forked processes in which one call to the operating system fails or is the last one; then the run
is resumed. And real checkpoints are damaged.

EPOCHAL_FAULTS=500 python3 -m pytest tests/test_saving_faults.py          the same with so many faults
"""

from __future__ import annotations

import errno
import io
import os
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy
import pytest

from epochal.training.checkpoint import Checkpoints, read_checkpoint
from tests.forks import Ended, Fork, Server
from tests.kinds import KINDS
from tests.outcome import outcome
from tests.quick import draw_nothing

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

# A name, the error that is raised (none: the process is killed), and whether all calls from then on fail too.
FAULTS: dict[str, tuple[int, bool]] = {
    "no space": (errno.ENOSPC, False),
    "no space any more": (errno.ENOSPC, True),
    "denied": (errno.EACCES, False),
    "read-only": (errno.EROFS, False),
    "read-only from then on": (errno.EROFS, True),
    "broken disk": (errno.EIO, False),
    "killed before": (0, False),
    "killed after": (-1, False),
}
DAMAGES = ("flipped", "truncated")
SETTINGS = ("--ema", "0.9", "--threads", "1", "--checkpoint-every", "1e-9", "--out", "run")


@pytest.fixture(scope="module")
def server(forking: Server) -> Server:
    return forking.by(__name__)


def _blobs(folder: Path) -> list[str]:
    generator = numpy.random.default_rng(0)
    y = numpy.arange(120) % 3
    numpy.savez(folder / "blobs.npz", x=(generator.normal(size=(120, 4)) * 0.5 + numpy.eye(4)[y]).astype("float32"), y=y)
    return ["blobs.npz", "--model", "mlp", "--set", "model.widths=[8]", "--epochs", "3", "--batch-size", "32"]


DATA = {"numbers": _blobs, **KINDS}
COUNT = int(os.environ.get("EPOCHAL_FAULTS", "10"))
# Of few faults, each is on one kind of data.
CELLS = [
    (kind, what)
    for place, what in enumerate((*FAULTS, *DAMAGES))
    for at, kind in enumerate(DATA)
    if len(FAULTS) + len(DAMAGES) < COUNT or place % len(DATA) == at
]
EACH = -(-COUNT // len(CELLS))


class Whole(NamedTuple):
    """The run that nothing disturbed, with its data, and one that was cut off in the middle, with two checkpoints."""

    data: Path
    train: tuple[str, ...]
    kept: dict[str, Any]
    calls: int
    cut: Path


@pytest.fixture(scope="module")
def wholes() -> dict[str, Whole]:
    return {}


@pytest.fixture
def whole(server: Server, wholes: dict[str, Whole], request: pytest.FixtureRequest) -> Whole:
    kind = request.param
    if kind not in wholes:
        wholes[kind] = _whole(server, kind)
    return wholes[kind]


def _whole(server: Server, kind: str) -> Whole:
    data, folder, cut = (server.folder / f"{kind} {name}" for name in ("data", "whole", "cut"))
    data.mkdir()
    train = ("train", *DATA[kind](data), *SETTINGS)
    shutil.copytree(data, folder)
    ended = server(folder, *train)
    assert ended.code == 0, ended.said
    assert ended.more > 100
    shutil.copytree(data, cut)
    assert server(cut, *train, fault="killed after", at=int(ended.more) // 2).code == -signal.SIGKILL
    assert len(_steps(cut)) == 2
    return Whole(data, train, outcome(folder / "run"), int(ended.more), cut)


def _steps(folder: Path) -> list[int]:
    """The numbers of steps in the checkpoints that are whole, the greatest first."""
    found = []
    for place in Checkpoints(folder / "run" / "checkpoints", 1.0).found():
        found.append(int(place.name.split("-")[1]))
        assert read_checkpoint(place)
    return found


def _resumed(server: Server, folder: Path, whole: Whole) -> str:
    """Go on with the run, or begin it where there is none; return what it said."""
    ended = server(folder, "resume", "run") if (folder / "run").exists() else server(folder, *whole.train)
    assert ended.code == 0, ended.said
    found, wanted = outcome(folder / "run"), whole.kept
    assert [name for name in wanted if found[name] != wanted[name]] == []
    # Nothing half-written is left lying about.
    assert not list((folder / "run").rglob(".*"))
    return ended.said


@pytest.mark.parametrize(("whole", "fault"), [cell for cell in CELLS if cell[1] in FAULTS], indirect=["whole"])
def test_a_fault_in_saving(server: Server, whole: Whole, tmp_path: Path, fault: str) -> None:
    chance = random.Random(f"{fault} {whole.train}")
    for at in sorted(chance.sample(range(1, whole.calls + 1), min(EACH, whole.calls))):
        folder = shutil.copytree(whole.data, tmp_path / str(at))
        ended = server(folder, *whole.train, fault=fault, at=at)
        case = f"{fault} at call {at}: {ended.said}"
        if FAULTS[fault][0] <= 0:
            assert ended.code == -signal.SIGKILL, case
        elif ended.code == 0:
            # Where tidying up fails, nothing is missing.
            found = outcome(folder / "run")
            assert [name for name in whole.kept if found[name] != whole.kept[name]] == [], case
        else:
            assert ended.code == 1, case
            assert "Traceback" not in ended.said, case
            assert "error: Cannot write run" in ended.said, case
            assert f": {os.strerror(FAULTS[fault][0])}.\n" in ended.said, case
        if ended.steps:
            # A checkpoint is written after each step: the last step, at most, is lost.
            assert _steps(folder)[0] >= ended.steps - 1, case
        _resumed(server, folder, whole)
        shutil.rmtree(folder)


@pytest.mark.parametrize(("whole", "damage"), [cell for cell in CELLS if cell[1] in DAMAGES], indirect=["whole"])
def test_a_damaged_checkpoint(server: Server, whole: Whole, tmp_path: Path, damage: str) -> None:
    chance = random.Random(f"{damage} {whole.train}")
    for number in range(EACH):
        folder = shutil.copytree(whole.cut, tmp_path / str(number))
        place = Checkpoints(folder / "run" / "checkpoints", 1.0).found()[0]
        path = chance.choice(sorted(place.iterdir()))
        content = bytearray(path.read_bytes())
        at = chance.randrange(len(content))
        if damage == "flipped":
            content[at] ^= 1 << chance.randrange(8)
        else:
            del content[at:]
        path.write_bytes(content)
        said = _resumed(server, folder, whole)
        assert f"note: run/checkpoints/{place.name} is damaged (" in said, f"{path.name} {damage} at {at}: {said}"
        shutil.rmtree(folder)


def _inject(root: str, fault: str, at: int) -> Callable[[], int]:
    """Let the call number `at` that changes something below `root` fail, or be the last one; return how many there were."""
    code, stays = FAULTS.get(fault, (0, False))
    calls = 0

    def strike(path: Any, do: Callable[[], Any], half: Callable[[], Any] = lambda: None) -> Any:
        nonlocal calls
        if isinstance(path, int):
            path = os.readlink(f"/proc/self/fd/{path}")
        if not os.path.abspath(path).startswith(root):
            return do()
        calls += 1
        if fault and (calls == at or (stays and calls > at)):
            if code > 0:
                half()
                raise OSError(code, os.strerror(code), str(path))
            try:
                # What fails by itself, as removing what is not there does, is over all the same.
                do() if code < 0 else half()
            finally:
                os.kill(os.getpid(), signal.SIGKILL)
        return do()

    class File(io.FileIO):
        def write(self, content: Any) -> int:
            part = bytes(content)
            written: int = strike(self.fileno(), lambda: io.FileIO.write(self, part), lambda: io.FileIO.write(self, part[: len(part) // 2]))
            return written

    real_open = io.open

    def opened(path: Any, mode: str = "r", buffering: int = -1, *rest: Any, **options: Any) -> Any:
        if not set(mode) & set("wxa+"):
            return real_open(path, mode, buffering, *rest, **options)
        file = strike(path, lambda: File(path, mode.replace("b", "")))
        return file if buffering == 0 else io.BufferedWriter(file)

    io.open = opened  # type: ignore[assignment]

    def patched(name: str) -> None:
        real = getattr(os, name)

        def called(path: Any, *rest: Any, dir_fd: int | None = None, **options: Any) -> Any:
            full = path if dir_fd is None else os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), path)
            more = options if dir_fd is None else {**options, "dir_fd": dir_fd}
            return strike(full, lambda: real(path, *rest, **more))

        setattr(os, name, called)

    for name in ("fsync", "replace", "rename", "mkdir", "rmdir", "unlink"):
        patched(name)
    return lambda: calls


def fork(folder: Path, arguments: list[str], fault: str = "", at: int = 0) -> Ended:
    """Run the command with that fault; `more` is the number of calls that could have failed."""

    def prepare() -> Callable[[], int]:
        draw_nothing()
        return _inject(f"{folder}/", fault, at)

    return Fork(folder, arguments, prepare).wait()
