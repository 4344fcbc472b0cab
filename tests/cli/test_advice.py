"""Every command that is printed as advice can be typed as it stands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import epochal
from epochal.training.records import EpochDone
from tests.cli.conftest import Call
from tests.data.test_table import csv_of, people
from tests.tones import save, tone

QUICK = ["--epochs", "1", "--max-steps", "2", "--device", "cpu", "--threads", "1", "--batch-size", "8"]
NET = (
    "from torch import nn\n\nclass Net(nn.Sequential):\n    def __init__(self):\n        super().__init__(nn.Flatten(), nn.LazyLinear(2))\n"
)


def _pictures(folder: Path, name: str = "my photos") -> list[str]:
    random = np.random.default_rng(0)
    for number in range(40):
        path = folder / name / ("cat", "dog")[number % 2] / f"it's {number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    (folder / name / "cat" / "copy.png").write_bytes((folder / name / "cat" / "it's 0.png").read_bytes())
    return [name]


def _own_network(folder: Path) -> list[str]:
    (folder / "my nets.py").write_text(NET)
    return [*_pictures(folder), "--model", "my nets.py:Net"]


def _listed(folder: Path) -> list[str]:
    _pictures(folder, "photos")
    rows = [f"{path.relative_to(folder)},{path.parent.name},{number % 20},{('train', 'test')[number % 20 > 15]}\n" for number, path in
            enumerate(sorted((folder / "photos").rglob("*.png")))]  # fmt: skip
    (folder / "list.csv").write_text("".join(["path,what is it,person,part\n", *rows]))
    return ["list.csv", "--file", "path", "--target", "what is it", "--group", "person", "--split-column", "part"]


def _table(folder: Path) -> list[str]:
    csv_of(people(90), folder / "people.csv")
    lines = (folder / "people.csv").read_text().splitlines()
    (folder / "people.csv").write_text("\n".join([*lines, *lines[1:4]]) + "\n")
    (folder / "other.csv").write_text("\n".join([lines[0], *lines[5:40]]) + "\n")
    return ["people.csv", "--target", "income", "--ignore", "id,remark", "--column", "age=category", "--test-data", "other.csv"]


def _texts(folder: Path) -> list[str]:
    rows = [f"{'good' if number % 2 else 'bad'} {number // 3},{number % 2}\n" for number in range(60)]
    (folder / "reviews.csv").write_text("".join(["review,label\n", *rows, rows[0]]))
    return ["reviews.csv", "--text", "review", "--target", "label"]


def _text_files(folder: Path) -> list[str]:
    for number in range(40):
        path = folder / "reviews" / ("good", "bad")[number % 2] / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{path.parent.name} {number // 3 * 3}")
    return ["reviews"]


def _sounds(folder: Path) -> list[str]:
    for number in range(40):
        save(folder / "sounds" / ("low", "high")[number % 2] / f"anna_{number}.wav", tone(400 + 800 * (number % 2), 0.05, seed=number // 4))
    return ["sounds", "--group", "([a-z]+_[0-9])"]


DATA: dict[str, Callable[[Path], list[str]]] = {
    "pictures": _pictures,
    "own network": _own_network,
    "a list": _listed,
    "table": _table,
    "texts": _texts,
    "text files": _text_files,
    "sounds": _sounds,
}


def advised(said: str) -> list[list[str]]:
    """The commands in what was said, as a shell would split them."""
    return [
        shlex.split(words) for words in re.findall(r"epochal ((?:train|check|predict|evaluate|resume) .*?)(?:  | shows more\)|\n|$)", said)
    ]


@pytest.mark.parametrize("kind", DATA)
def test_what_training_and_check_advise(kind: str, call: Call, tmp_path: Path) -> None:
    given = DATA[kind](tmp_path)
    _, said, err = call("train", *given, *QUICK, "--out", "my run")
    commands = advised(said)
    assert {command[0] for command in commands} == {"check", "predict", "evaluate"}, said + err
    check = commands[0]
    for command in commands:
        code, said, err = call(*command)
        assert code in (0, command[0] == "check"), said + err
    said = call(*check, "--quarantine", "leave out")[1]
    (command,) = advised(said)
    assert command[-2:] == ["--exclude", "leave out"]
    code, said, err = call(*command, "--dry-run")
    assert code == 0, said + err
    (tmp_path / "my run/result.json").unlink()
    (command,) = advised(call("reproduce", "my run", *(["--model", given[-1]] if kind == "own network" else []))[2])
    code, said, err = call(*command)
    assert code == 0, said + err


def test_where_a_named_data_set_is(call: Call, tmp_path: Path) -> None:
    (tmp_path / "my data").mkdir()
    said = call("check", "digits", "--data-dir", "my data", "--quarantine", "leave out")[1]
    assert "epochal train digits --data-dir 'my data' --exclude 'leave out'\n" in said


def test_what_only_a_program_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def ended(record: object) -> None:
        if isinstance(record, EpochDone):
            raise KeyboardInterrupt

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(outputs, targets)

    data, model = (torch.randn(40, 2), torch.arange(40) % 2), nn.Linear(2, 2)
    with pytest.raises(KeyboardInterrupt):
        epochal.train(data, model=model, loss=loss, epochs=3, batch_size=8, out=tmp_path / "run", watchers=[ended])
    advice = capsys.readouterr().out.splitlines()[-1]
    call = f"epochal.resume({str(tmp_path / 'run')!r}, data=..., model=..., loss=...)"
    assert advice == f"To continue from the last checkpoint: {call}"
    with pytest.raises(epochal.EpochalError):
        epochal.resume(tmp_path / "run", quiet=True)
    assert epochal.resume(tmp_path / "run", data=data, model=model, loss=loss, quiet=True) is not None
