"""Under a Chinese locale the command speaks Chinese: no line of what it says on any kind of data, and of its pages, is left in English."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest
from PIL import Image

from epochal.cli.main import VERBS
from tests.forks import Ended, Fork, Server
from tests.kinds import KINDS
from tests.quick import draw_nothing
from tests.tones import save, tone

# Two words of English in a row, beside what is never translated: commands, names of files, and values in quotes.
ENGLISH = re.compile(r"[A-Za-z]{2,}(?: [a-z]{2,})+")
NEVER = re.compile(
    r"epochal \w.*|--\w[\w-]*(?: \w+)?|[^\s：，（]*[/.=_\d][^\s：，）]*|“[^”]*”|\d thread|age and born|between layers"
    r"|pip install .*|python -c .*|[^ ]*python\S* -m pip .*|No such file.*|应为：.*|npm pack|(Hugging )?Face hub"
)
QUICK = ["--epochs", "1", "--threads", "1", "--device", "cpu", "--out", "run"]


def _pictures(folder: Path) -> list[str]:
    random = numpy.random.default_rng(0)
    for split in ("train", "test"):
        for name, level in (("dark", 0), ("light", 100)):
            (folder / "photos" / split / name).mkdir(parents=True)
            for number in range(12):
                pixels = random.integers(level, level + 150, (12, 12, 3), dtype=numpy.uint8)
                Image.fromarray(pixels).save(folder / "photos" / split / name / f"{number}.png")
    return ["photos"]


DATA = {"pictures": _pictures, **KINDS}
ITEMS = {"pictures": ["photos/test"], "table": ["people.csv"], "texts": ["--text", "很好"], "sounds": ["tones/test"]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("LC_ALL", "LC_MESSAGES", "LANGUAGE", "EPOCHAL_DATA"):
            patch.delenv(name, raising=False)
        patch.setenv("LANG", "zh_CN.UTF-8")
        patch.setenv("PYTHONUTF8", "1")
        # The one of all tests lists data with names of several words.
        patch.setenv("EPOCHAL_CACHE", str(tmp_path_factory.mktemp("cache")))
        with Server(tmp_path_factory.mktemp("server")) as server:
            yield server.by(__name__)


def left_in(text: str) -> list[str]:
    """Return the lines in which English is left."""
    return [line for line in text.splitlines() if ENGLISH.search(NEVER.sub("·", line))]


def _of(command: list[str], *names: str) -> list[str]:
    """Return those options of a training command that other commands take too."""
    return [word for place, word in enumerate(command) if {word, command[place - 1]} & {*names}]


@pytest.mark.parametrize("kind", DATA)
def test_all_commands(kind: str, server: Server, tmp_path: Path) -> None:
    command = DATA[kind](tmp_path)
    where = [command[0], *_of(command, "--target", "--text")]
    # What is said of all kinds alike is asked of one.
    alike = [["summary", "run"], ["reproduce", "run"], ["eject", "run"], ["resume", "run"], ["resume", "run", "--epochs", "2"], ["cache"]]
    for arguments in (
        ["train", *command, *QUICK, "--optimizer", "muon" if kind == "pictures" else "adamw"],
        ["check", *where, "--html", "page.html", "--quarantine", "list.txt"],
        ["predict", "run", *ITEMS[kind], *(["--csv", "out.csv"] if kind == "table" else [])],
        ["evaluate", "run"],
        ["evaluate", "run", command[0], "--include-training"],
        ["bench", *where, "--batch-sizes", "8", "--devices", "cpu", "--seconds", "0.1"],
        *(alike if kind == "table" else []),
    ):
        ended = server(tmp_path, *arguments)
        assert ended.code in (0, 1 if arguments[0] == "check" else 0), ended.said
        assert re.search("[\u4e00-\u9fff]", ended.said), ended.said
        assert left_in(ended.said) == [], arguments
    page = (tmp_path / "page.html").read_text("utf-8")
    assert '<html lang="zh">' in page
    shown = re.sub(r"<style>.*</style>|<!--.*?-->|<(figure|blockquote)[ >].*?</\1>", "", page, flags=re.DOTALL)
    assert left_in(html.unescape(re.sub("<[^>]*>", "\n", shown))) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["datasets"],
        ["models"],
        ["recipes"],
        ["cache", "clear"],
        ["doctor"],
        ["--help"],
        ["cache", "clear", "--help"],
        *([verb, "--help"] for verb in VERBS),
    ],
    ids=" ".join,
)
def test_lists(arguments: list[str], server: Server, tmp_path: Path) -> None:
    ended = server(tmp_path, *arguments)
    assert ended.code == 0
    assert left_in(ended.said) == []


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file of each kind that cannot be read, or is not what it seems."""
    folder = tmp_path_factory.mktemp("broken")
    _pictures(folder)
    content = (folder / "photos/train/dark/1.png").read_bytes()
    (folder / "photos/train/dark/1.png").write_bytes(content[:60])
    (folder / "photos/train/light/2.png").write_text("<html>")
    for number in range(12):
        save(folder / "tones" / ("high" if number % 2 else "low") / f"{number}.wav", tone(440, 0.1, seed=number))
    (folder / "ragged.csv").write_text("a,b,c\n" + "1,2,x\n3,4,y\n" * 20 + "5,6\n")
    (folder / "gaps.csv").write_text("a,b\n" + "1,x\n2,y\n" * 20 + "3,\n")
    (folder / "list.csv").write_text("path,label\nphotos/train/dark/3.png,a\nphotos/none.png,b\n")
    (folder / "small.csv").write_text("a,b\n1,x\n2,y\n3,x\n")
    (folder / "zero.csv").write_bytes(b"a,b\n1,\0\n" * 9)
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "photos"],
        ["check", "photos"],
        ["train", "nowhere"],
        ["trian"],
        ["train", "ragged.csv", "--target", "c"],
        ["train", "gaps.csv", "--target", "b"],
        ["train", "gaps.csv"],
        ["train", "gaps.csv", "--target", "bb"],
        ["train", "list.csv", "--file", "path", "--target", "label"],
        ["train", "list.csv", "--file", "path"],
        ["train", "small.csv", "--target", "b"],
        ["train", "zero.csv", "--target", "b"],
        ["train", "digits", "--lr", "-1"],
        ["train", "digits", "--model", "convv"],
        ["train", "digits", "--model", "conv", "--set", "model.widhts=[8]"],
        ["train", "digits", "--set", "optimizer.learning=1"],
        ["train", "digits", "--time-shift", "0.1"],
        ["train", "tones", "--mixup", "0.2", "--word-dropout", "0.5"],
        ["train", "digits", "--schedule", "one-cycle", "--set", "schedule.warmup=2"],
        ["train", "digits", "--patience", "3", "--set", "data.valid=0"],
        ["train", "digits", "--monitor", "auk"],
        ["train", "digits", "--device", "cuda:7"],
        ["train", "digits", "--exclude", "nowhere.txt"],
        ["predict", "nowhere", "x.png"],
        ["resume", "photos"],
        ["bench", "digits", "--batch-sizes", "1,x"],
        ["compare", "photos"],
        ["compare", "photos", "nowhere"],
        ["check", "small.csv", "--target", "b", "--html", "nowhere/page.html"],
    ],
)
def test_errors(arguments: list[str], server: Server, broken: Path) -> None:
    ended = server(broken, *arguments)
    assert ended.code in (1, 2), ended.said
    assert left_in(ended.said) == []


def fork(folder: Path, arguments: list[str]) -> Ended:
    return Fork(folder, arguments, draw_nothing).wait()
