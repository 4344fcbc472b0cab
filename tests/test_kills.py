"""A run that is killed again and again, by `kill -9` at any moment, ends as the one that was not: the proof, with real processes.

EPOCHAL_KILLS=500 python3 -m pytest -s tests/test_kills.py          the same with so many kills; -s shows what each one interrupted
    -k trunk                                                         only those of pre-trained models, which compute features first

Most processes are forks of one that has imported everything, so that a kill costs less than a second; every fourth run begins with a
fresh one.
"""

from __future__ import annotations

import faulthandler
import itertools
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from epochal.data.load import load
from epochal.errors import ModelError
from epochal.models.pretrained.pictures import LITE0
from tests.forks import SAID, Ended, Fork, Server
from tests.kinds import KINDS
from tests.photos import write_photos

# So many in all, an equal share on each kind of data; fewer than 100 are on some kinds alone.
KILLS = int(os.environ.get("EPOCHAL_KILLS", "10"))

_ALL = ["--threads", "1", "--checkpoint-every", "0.05", "--ema", "0.9", "--patience", "4", "--set", "data.valid=0.3", "--out", "run"]
PICTURES = {
    "digits": ["--model", "conv", "--set", "model.dropout=0.3", "--epochs", "4", "--shift", "1", "--schedule", "one-cycle", *_ALL],
    "mnist": ["--model", "mlp", "--set", "model.dropout=0.2", "--epochs", "6", "--rotate", "10", "--clip-norm", "1", *_ALL],
}

# What of a pre-trained model is trained.
TRUNKS = {
    f"trunk {tune}": ["--model", "efficientnet-lite0", "--size", "32", "--tune", tune, "--epochs", "3", *_ALL]
    for tune in ("head", "last", "all")
}

ALL = [*PICTURES, *KINDS, *TRUNKS]
TRIED = ALL if KILLS >= 100 else ["digits", *KINDS, "trunk last"]
SHARE = math.ceil(KILLS / len(TRIED))
KILLS_A_RUN = min(SHARE, 5)

# What must be in the folder before a kill, and at most how many seconds later it comes.
MOMENTS = (
    (SAID, 0.5),
    (SAID, 2.0),
    ("run/metrics.jsonl", 1.0),
    ("run/metrics.jsonl", 1.0),
    ("run/checkpoints/.step-*", 0.003),
    ("run/checkpoints/.step-*", 0.01),
    ("run/.model.*", 0.003),
    ("run/model", 0.05),
    ("run/figures", 0.3),
    ("run/.result.json.*", 0.0),
)

# The first pack in the cache is that of the pictures, which features are computed from.
MOMENTS_OF_TRUNKS = (*MOMENTS, ("cache/examples/*.pack", 0.5), ("cache/examples/*.pack", 0.5), ("cache/examples/*.pack", 2.0))

# What a process was doing, by the functions that it was in: the first that fits.
DOING = {
    "saving a checkpoint": r"checkpoint\.py.* in save\b",
    "going back to a checkpoint": r"checkpoint\.py.* in restore\b",
    "validating": r" in evaluate\n(.|\n)* in fit\n",
    "training": r" in train_epoch\n",
    "between epochs": r"loop\.py.* in fit\n",
    "writing the model": r"bundle\.py.* in save\n",
    "testing": r" in evaluate\n",
    "drawing figures": r" in _draw\n",
    "writing the result": r" in train_and_keep\n",
    "computing features": r" in features\n",
    "starting": "",
}


def fork(folder: Path, arguments: list[str]) -> Ended:
    """Run the command, after printing its process."""

    def prepare() -> None:
        # Asked by this signal, a process writes down where it is.
        os.environ["EPOCHAL_CACHE"] = str(folder / "cache")
        faulthandler.register(signal.SIGUSR2, os.open("stack.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), all_threads=False)
        print(os.getpid(), flush=True)

    return Fork(folder, arguments, prepare).wait()


class Forks:
    """Processes that begin with everything imported, one at a time."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def _start(self, folder: Path, arguments: list[str]) -> int:
        self._server.ask(folder=str(folder), arguments=arguments)
        return int(self._server.answer())

    def _end(self) -> Ended:
        return Ended(*self._server.answer())

    def run(self, folder: Path, arguments: list[str]) -> None:
        self._start(folder, arguments)
        ended = self._end()
        assert ended.code == 0, ended.said

    def kill(self, folder: Path, arguments: list[str], pattern: str, seconds: float) -> str:
        """Kill a process at that moment; return what it was doing, or nothing where it had ended by itself."""
        number = self._start(folder, arguments)
        _await(folder, pattern, seconds, lambda: _is_there(number))
        stack = folder / "stack.txt"
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGUSR2)
            asked = time.monotonic()
            # The outermost function: that of runpy, as the server of forks is run as a module.
            while _is_there(number) and not stack.read_text().endswith(("in <module>\n", "in _run_module_as_main\n")):
                assert time.monotonic() < asked + 60, "It does not say where it is."
            os.kill(number, signal.SIGKILL)
        ended = self._end()
        assert ended.code in (0, -signal.SIGKILL), ended.said
        return "" if ended.code == 0 else next(doing for doing, functions in DOING.items() if re.search(functions, stack.read_text()))


def _kill_fresh(folder: Path, arguments: list[str], pattern: str, seconds: float) -> str:
    """As `Forks.kill`, with a process that begins from nothing."""
    environment = {**os.environ, "EPOCHAL_CACHE": str(folder / "cache")}
    with (folder / SAID).open("a") as log:
        process = subprocess.Popen([sys.executable, "-m", "epochal", *arguments], cwd=folder, env=environment, stdout=log, stderr=log)
    _await(folder, pattern, 3 + seconds, lambda: process.poll() is None)
    process.kill()
    assert process.wait() in (0, -signal.SIGKILL), (folder / SAID).read_text()
    return "" if process.returncode == 0 else "something in a fresh process"


def _await(folder: Path, pattern: str, seconds: float, is_there: Callable[[], bool]) -> None:
    """Wait until a process has made a file that matches `pattern`, and so many seconds more, but no longer than the process lives."""
    while is_there() and not any(folder.glob(pattern)):
        time.sleep(0.0005)
    until = time.monotonic() + seconds
    while is_there() and time.monotonic() < until:
        time.sleep(min(0.01, seconds))


def _is_there(process: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(process, 0)
        return True
    return False


def _arguments(data: list[str], folder: Path) -> list[str]:
    """What goes on with the run, or begins it where it has not begun."""
    return ["resume", "run"] if (folder / "run").exists() else ["train", *data]


def _kept(run: Path) -> dict[str, Any]:
    """All that is in a run folder, by file, but the checkpoint before the last, what the clock says, and how the command was called."""
    before_last = sorted((run / "checkpoints").glob("step-*"))[:-1]
    files = [path for path in sorted(run.rglob("*")) if path.is_file() and path.parent not in before_last and path.name != "SHA256SUMS"]
    return {str(path.relative_to(run)): _timeless(path) for path in files}


def _timeless(path: Path) -> Any:
    clock = {"seconds", "training_seconds", "examples_per_second", "waiting", "elapsed", "epoch_began", "command", "sha256"}

    def without(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: without(inner) for name, inner in value.items() if name not in clock}
        return [without(inner) for inner in value] if isinstance(value, list) else value

    if path.name == "report.html":
        return re.sub(r'<section id="(time|environment)".*?</section>|<small>[^<]* s of training</small>', "", path.read_text(), flags=re.S)
    if path.name in ("environment.json", "result.json", "state.json"):
        return without(json.loads(path.read_text()))
    return [without(json.loads(line)) for line in path.read_text().splitlines()] if path.suffix == ".jsonl" else path.read_bytes()


@pytest.fixture(params=TRIED)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def data(kind: str, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What to train on and how: digits by their name, of MNIST a part, so that a run takes a second; and other kinds of data."""
    if kind in KINDS:
        place = tmp_path_factory.mktemp("data")
        name, *settings = KINDS[kind](place)
        return [str(place / name), *settings, *_ALL]
    if kind in TRUNKS:
        return [str(_photos(tmp_path_factory.mktemp("data"))), *TRUNKS[kind]]
    if kind == "digits":
        return ["digits", *PICTURES[kind]]
    place = Path(os.environ.get("EPOCHAL_DATA", "/nowhere"))
    if not (place / "mnist").exists():
        pytest.skip("EPOCHAL_DATA has no mnist")
    some = load("mnist", data_dir=place).train.take(torch.arange(4000))
    file = tmp_path_factory.mktemp("data") / "mnist.npz"
    numpy.savez(file, x=torch.as_tensor(some.inputs).numpy(), y=some.targets.numpy())
    return [str(file), *PICTURES[kind]]


def _photos(place: Path) -> Path:
    """Pictures of noise in two classes, light and dark: of many kills, enough for a second of computing features."""
    try:
        LITE0.path()
    except ModelError as error:
        pytest.skip(str(error))
    return write_photos(place / "photos", {"dark": 0, "light": 60}, 100 if SHARE >= 100 else 20, 32, 32, spread=190)


@pytest.fixture
def forks(forking: Server) -> Forks:
    return Forks(forking.by(__name__))


def test_killed_runs_end_bit_identical(kind: str, data: list[str], forks: Forks, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    forks.run(whole, _arguments(data, whole))
    wanted = _kept(whole / "run")
    chance, moments = random.Random(), MOMENTS_OF_TRUNKS if kind in TRUNKS else MOMENTS
    killed: Counter[str] = Counter()
    order = TRIED.index(kind)
    for number in itertools.count(1):
        folder = tmp_path / str(number)
        folder.mkdir()
        doing: list[str] = []
        # From early to late, as a run that has ended cannot be killed any more.
        for place in sorted(chance.choices(range(len(moments)), k=KILLS_A_RUN), key=lambda place: place if place < len(MOMENTS) else 0):
            pattern, seconds = moments[place]
            kill = _kill_fresh if not doing and (number + order) % 4 == 1 else forks.kill
            doing.append(kill(folder, _arguments(data, folder), pattern, chance.uniform(0, seconds)))
            if not doing[-1]:
                break
        forks.run(folder, _arguments(data, folder))
        found = _kept(folder / "run")
        assert sorted(found) == sorted(wanted), f"run {number}, killed while {doing}"
        assert [name for name in wanted if found[name] != wanted[name]] == [], f"run {number}, killed while {doing}"
        print(f"run {number} on {kind} is the same, killed while: {', '.join(filter(None, doing))}", flush=True)
        killed.update(filter(None, doing))
        if killed.total() >= SHARE:
            break
    print(f"\n{killed.total()} kills of {number} runs on {kind}:", *killed.most_common(), sep="\n  ")
    if SHARE >= 100:
        # The others last a few milliseconds: they are hit now and then.
        assert (kind in TRUNKS) == ("computing features" in killed)
        assert {"starting", "training", "saving a checkpoint", "writing the model", "drawing figures"} <= set(killed)
