"""The command predict in several processes: the same bytes as by one, also after one was killed."""

from __future__ import annotations

import os
import signal
from functools import partialmethod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from epochal import train
from tests.forks import Server
from tests.processes import Processes, run_command
from tests.test_same_answers import LABELS, SETTINGS

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 9, 9), dtype=np.uint8)


def fork(folder: Path, arguments: list[str], size: int, strike: tuple[int, int] | None = None) -> list[dict[str, Any]]:
    """Run the command in so many processes; `strike` says which of them is killed, and after how many files that it has read."""
    from epochal import predictor as loaded

    predictor: Any = loaded

    command = run_command(arguments)

    def work(rank: int) -> None:
        real, made = predictor.read_item, 0

        def read(*given: Any) -> Any:
            nonlocal made
            made += 1
            if strike is not None and [*strike] == [rank, made]:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*given)

        predictor.read_item = read
        # In rounds of a few files.
        predictor.Predictor.__init__ = partialmethod(predictor.Predictor.__init__, batch_size=4)
        command(rank)

    return Processes(folder, size, work).wait()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a run, pictures one of which is damaged, an array of five, and what one process predicts."""
    made = tmp_path_factory.mktemp("predict")
    train((PIXELS, LABELS), model="linear", **SETTINGS, out=made / "run")
    (made / "files").mkdir()
    for place, pixels in enumerate(PIXELS):
        Image.fromarray(pixels).save(made / "files" / f"{place:02}.png")
    (made / "files" / "07.png").write_bytes(b"no picture")
    np.save(made / "files" / "30.npy", PIXELS[:5])
    return made


def predict(forking: Server, folder: Path, csv: str, size: int, *more: str, **how: Any) -> list[dict[str, Any]]:
    """Predict what is in the folder, and return how the processes ended."""
    arguments = ["predict", "run", *sorted(f"files/{path.name}" for path in (folder / "files").iterdir()), "--csv", csv, *more]
    forking.by(__name__).ask(folder=str(folder), arguments=arguments, size=size, **how)
    found: list[dict[str, Any]] = forking.answer()
    return found


@pytest.fixture(scope="module")
def alone(forking: Server, folder: Path) -> tuple[bytes, str]:
    """Return the table that one process writes, and what it says."""
    (ended,) = predict(forking, folder, "one.csv", 1)
    assert ended["code"] == 1
    return (folder / "one.csv").read_bytes(), ended["said"]


@pytest.mark.parametrize("size", [2, 3])
def test_several_processes_write_what_one_does(forking: Server, folder: Path, alone: tuple[bytes, str], size: int) -> None:
    ended = predict(forking, folder, f"{size}.csv", size)
    assert [one["code"] for one in ended] == [1, *[0] * (size - 1)]
    assert (folder / f"{size}.csv").read_bytes() == alone[0]
    assert ended[0]["said"] == alone[1].replace("one.csv", f"{size}.csv")
    assert [one["said"] for one in ended[1:]] == [""] * (size - 1)


@pytest.mark.parametrize(("strike", "again"), [((0, 7), 3), ((1, 6), 1)])
def test_after_a_kill_others_go_on(forking: Server, folder: Path, alone: tuple[bytes, str], strike: tuple[int, int], again: int) -> None:
    name = f"after-{again}.csv"
    ended = predict(forking, folder, name, 2, strike=strike)
    assert ended[strike[0]]["code"] == -signal.SIGKILL
    assert ended[1 - strike[0]]["code"] == 75
    assert not (folder / name).exists()
    done = predict(forking, folder, name, again)
    assert [one["code"] for one in done] == [1, *[0] * (again - 1)]
    assert (folder / name).read_bytes() == alone[0]


def test_what_is_wrong_is_said_once(forking: Server, folder: Path) -> None:
    ended = predict(forking, folder, "strict.csv", 2, "--strict")
    assert [one["code"] for one in ended] == [1, 1]
    assert ended[0]["said"].count("07.png") == 1
    assert ended[1]["said"] == ""
    ended = predict(forking, folder, "run/model/bundle.json", 2)
    assert [one["code"] for one in ended] == [1, 1]
    assert ended[1]["said"] == ""
    ended = predict(forking, folder, "line.csv", 2, "-")
    assert [one["code"] for one in ended] == [1, 1]
    assert "several processes, but the standard input is read by one" in ended[0]["said"]
