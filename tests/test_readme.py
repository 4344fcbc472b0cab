"""What both READMEs show works as it stands: every command, in a folder with small data of those names, and every program, also twice."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import click
import numpy as np
import pytest
from PIL import Image

from epochal.bundle import Bundle
from epochal.cli.main import VERBS, main
from epochal.errors import ModelError
from epochal.models.build import MODELS
from tests.data.test_idx import write_set
from tests.tones import save, tone

ROOT = Path(__file__).parents[1]
READMES = ("README.md", "README.zh-CN.md")

# What is not run here, and why.
NOT_RUN = {
    "python3 start.py": "makes a virtual environment and installs packages: tests/test_start.py",
    "python3 start.py test": "runs all tests",
    "epochal watch runs/digits-1": "shows the run until it is stopped: tests/run/test_watch.py",
    "epochal tune digits --trials 20": "trains 30 models: tests/search",
    "epochal serve runs/digits-1": "serves until it is stopped: tests/serve",
}

# Instead of 60,000 pictures, which would be downloaded: a folder of such files.
STAND_INS = {"s3://bucket/photos": "packed", "https://example.org/photos": "packed", "mnist": "./mnist"}

# Every training but the first, which shows what is printed, in two epochs of ten.
QUICK = ["--epochs", "1", "--max-steps", "2"]

# Options of other programs.
NOT_OURS = {"--cpu", "--cuda", "--no-deps", "--data-binary", "--nproc-per-node"}


def _blocks(readme: str, language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / readme).read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return [block for kind, block in found if kind == language]


def _commands(readme: str) -> Iterator[list[str]]:
    """The words of each command, in order; ">" and a file are the last two, where its output goes to a file."""
    for line in "".join(_blocks(readme, "console")).splitlines():
        assert line.startswith("$ "), line
        words = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars=";>")
        words.whitespace_split = True
        command: list[str] = []
        for word in words:
            if word == ";":
                yield command
                command = []
            else:
                command.append(word)
        yield command


def _picture(path: Path, level: int, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(level, level + 130, (12, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def _incomes(path: Path, ending: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = [f"{random.integers(20, 60)},{('clerk', 'farmer')[row % 2]},{('<=50K', '>50K')[row % 2]}{ending}\n" for row in range(60)]
    path.write_text("".join(["age,work,income\n", *rows]))


def _prepare(folder: Path) -> None:
    """Write small data of each name in the READMEs."""
    listed = []
    for number in range(40):
        bright, at = number % 2, number // 2
        name = f"{('cat', 'dog')[bright]}/{at}.png"
        _picture(folder / "photos" / name, 120 * bright, number)
        if at < 5:
            _picture(folder / "new-photos" / name, 120 * bright, 100 + number)
        listed.append(f"photos/{name},{('cat', 'dog')[bright]},{at}\n")
        sound = tone(400 + 800 * bright, 0.1, seed=number)
        save(folder / "sounds" / ("low", "high")[bright] / f"{at}.wav", sound)
        save(folder / "spoken" / str(7 + bright) / f"{('jackson', 'nicolas', 'theo', 'lucas')[at % 4]}_{at}.wav", sound)
        text = folder / "reviews" / ("bad", "good")[bright] / f"{at}.txt"
        text.parent.mkdir(parents=True, exist_ok=True)
        text.write_text(f"a {text.parent.name} film, number {at}", "utf-8")
    _picture(folder / "picture.png", 0, 0)
    _picture(folder / "more" / "1.jpg", 0, 1)
    (folder / "labels.csv").write_text("".join(["path,label,patient\n", *listed]))
    (folder / "new-labels.csv").write_text(
        "".join(["path,label\n", *(row.replace("photos", "new-photos")[:-3] + "\n" for row in listed[:10])])
    )
    rows = [f"a {('bad', 'good')[number % 2]} film\t{number % 2}\n" for number in range(40)]
    (folder / "reviews.tsv").write_text("".join(["review\tlabel\n", *rows]))
    inputs = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    np.savez(folder / "table.npz", x=inputs, y=(inputs[:, 0] > 0).astype(np.int64))
    for seed, (name, ending) in enumerate({"adult-train": "", "adult-test": ".", "new": ""}.items()):
        _incomes(folder / f"{name}.csv", ending, seed)
    lines = ["from torch import nn", "", "class Net(nn.Sequential):", "    def __init__(self):"]
    (folder / "my_file.py").write_text("\n".join([*lines, "        super().__init__(nn.Flatten(), nn.LazyLinear(10))"]))
    write_set(folder / "mnist", 160, 20, 28)


def _without_weights(words: list[str]) -> str:
    """Why a command's model cannot be built here: the package with its weights is not installed; "" if it can be."""
    entry = MODELS.get(words[words.index("--model") + 1]) if "--model" in words else None
    try:
        if entry is not None and entry.weights is not None:
            entry.weights.path()
    except ModelError as error:
        return str(error)
    return ""


Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process, in `tmp_path`; return what it says. It has to succeed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EPOCHAL_DATA", raising=False)

    def call(words: list[str]) -> str:
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as exit_:
            main()
        said = capsys.readouterr()
        assert not exit_.value.code, f"{shlex.join(words)}\n{said.out}{said.err}"
        return said.out

    return call


@pytest.mark.usefixtures("exporting")
def test_commands(run: Run, tmp_path: Path) -> None:
    _prepare(tmp_path)
    left_out = []
    for words in _commands("README.md"):
        shown = shlex.join(words)
        if shown in NOT_RUN:
            left_out.append(shown)
            continue
        if words[0] == "python":
            subprocess.run([sys.executable, *words[1:]], cwd=tmp_path, check=True)
            continue
        assert words[0] == "epochal"
        if reason := _without_weights(words):
            print(f"{shown} is not run: {reason}")
            continue
        file = words[-1] if ">" in words else None
        verb, *others = words[1:-2] if file else words[1:]
        if verb != "recipes":
            others = [STAND_INS.get(word, word) for word in others]
        brief = {"bench": ["--seconds", "0.05", "--devices", "cpu"], "lr": ["--steps", "20"]}
        quick = {"train": QUICK if others else ["--epochs", "2"], **brief}.get(verb, [])
        said = run(["epochal", verb, *others, *quick])
        if file:
            (tmp_path / file).write_text(said, "utf-8")
        if shown == "epochal train":
            _check_shown(said)
    assert left_out == [*NOT_RUN]


def _check_shown(said: str) -> None:
    """Compare what training prints with what the READMEs show of it, up to the first number in each line."""
    for readme in READMES:
        (block,) = (block for block in _blocks(readme, "") if block.startswith("digits: "))
        for line in block.splitlines():
            begin = re.split(r"\d", line)[0].rstrip() if line.startswith(("Trained", "Accuracy", " 1/", "cpu")) else line
            assert begin in said or line.strip() == "...", line


@pytest.mark.parametrize("readme", READMES)
def test_programs_work_twice(readme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    for block in _blocks(readme, "python"):
        code = block.replace("epochs=3", "epochs=1, max_steps=5")
        assert "max_steps" in code
        for _ in range(2):
            exec(compile(code, readme, "exec"), {})
    assert "Accuracy " in capsys.readouterr().out
    assert Bundle.load("digits-model").classes == tuple("0123456789")
    assert [path.name for path in tmp_path.iterdir()] == ["digits-model"]


def _without_text(words: list[str]) -> list[str]:
    """Leave the text out that is predicted: it is of the README's language."""
    return ["" if before == "--text" and words[1] == "predict" else word for before, word in zip(["", *words], words, strict=False)]


def test_both_languages_have_the_same_code() -> None:
    english, chinese = ([ast.dump(ast.parse(block)) for block in _blocks(readme, "python")] for readme in READMES)
    assert english == chinese
    commands, translated = (list(map(_without_text, _commands(readme))) for readme in READMES)
    assert commands == translated


@pytest.mark.parametrize("readme", READMES)
def test_options_and_links_exist(readme: str) -> None:
    text = (ROOT / readme).read_text("utf-8")
    commands = [import_module(f"epochal.cli.{verb}").command for verb in VERBS]
    commands += [inner for command in commands if isinstance(command, click.Group) for inner in command.commands.values()]
    options = {name for command in commands for option in command.params if isinstance(option, click.Option) for name in option.opts}
    assert {*re.findall(r"(?<![\w-])--[a-z][\w-]*", text)} <= options | NOT_OURS | {"--help", "--version"}
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert link.startswith("https://") or (ROOT / link).exists(), link
