"""What is printed, where the output takes only some letters, and of folders whose names are odd."""

import io
import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console as Screen

from epochal.cli.main import main
from epochal.cli.output import print_rows

CLASSES = ("猫", "chien né")


def paint(folder: str | bytes | Path, level: int, count: int = 10) -> None:
    os.makedirs(folder)
    random = np.random.default_rng(level)
    for number in range(count):
        content = io.BytesIO()
        Image.fromarray(random.integers(level, level + 40, (8, 8), dtype=np.uint8)).save(content, "png")
        with open(os.path.join(os.fsencode(folder), f"{number}.png".encode()), "wb") as file:
            file.write(content.getvalue())


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with pictures of two classes, and a run that was trained on them."""
    work = tmp_path_factory.mktemp("work")
    for level, name in enumerate(CLASSES):
        paint(work / "data" / name, 40 + 140 * level)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(work)
        code, out = printed(patch, "ascii", "train", "data", "--epochs", "3", "--out", "run")
        assert code == 0
        assert "1x8x8" in out
        yield work


def printed(patch: pytest.MonkeyPatch, encoding: str, *arguments: str) -> tuple[int, str]:
    """Call the command in this process; return its exit code and what it wrote in that encoding."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    with patch.context() as inner:
        inner.setattr(sys, "stdout", stream)
        inner.setattr(sys, "argv", ["epochal", *arguments])
        with pytest.raises(SystemExit) as exit_:
            main()
        stream.flush()
    assert isinstance(exit_.value.code, int | None)
    return exit_.value.code or 0, stream.buffer.getvalue().decode(encoding)


@pytest.mark.parametrize("encoding", ["ascii", "cp437", "cp1252", "cp932"])
@pytest.mark.parametrize(
    ("arguments", "reported"),
    [
        (("train", "data", "--dry-run"), "one step runs"),
        (("evaluate", "run", "data"), "chien n"),
        (("check", "data"), "2 classes"),
        (("predict", "run", "data/猫/0.png"), "0.png"),
        (("summary", "run"), "parameters"),
        (("datasets",), "digits"),
        (("models",), "conv"),
        (("recipes",), "tutorial-mlp"),
        (("cache",), "GB"),
    ],
)
def test_every_verb_prints_in_any_encoding(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str, arguments: tuple[str, ...], reported: str
) -> None:
    # What other tests have cached may have any name.
    monkeypatch.setenv("EPOCHAL_CACHE", str(tmp_path))
    code, out = printed(monkeypatch, encoding, *arguments)
    assert code == 0
    assert reported in out
    assert ("猫" in out or r"\u732b" in out) == (arguments[0] in ("evaluate", "predict"))


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_json_says_the_same_in_any_encoding(work: Path, monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    out = printed(monkeypatch, encoding, "predict", "run", "data/猫/0.png", "--json")[1]
    (row,) = json.loads(out.splitlines()[-1])
    assert row["file"] == "data/猫/0.png"
    assert set(row["values"]) == set(CLASSES)


def test_numbers_are_whole_in_a_narrow_terminal(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = printed(monkeypatch, "utf-8", "evaluate", "run", "data")[1]
    monkeypatch.setenv("COLUMNS", "20")
    assert Screen().width == 20
    narrow = printed(monkeypatch, "utf-8", "evaluate", "run", "data")[1]
    assert narrow.split() == wide.split()
    assert "precision" in narrow


class TestWarnings:
    def test_only_those_about_the_users_own_code_are_shown(self, call, work: Path) -> None:  # type: ignore[no-untyped-def]
        Path("net.py").write_text(
            """
import warnings
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 2))
        warnings.warn("mine")
        for module in ("torch.nn.modules.linear", "numpy", "epochal.training.loop", "torchnet"):
            warnings.warn_explicit(f"that of {module}", UserWarning, "line.py", 1, module=module)
"""
        )
        with warnings.catch_warnings(record=True) as seen:
            warnings.resetwarnings()
            code, _, _ = call("train", work / "data", "--model", "net.py:Net", "--epochs", "1", "--dry-run")
        assert code == 0
        assert {str(warning.message) for warning in seen if warning.category is UserWarning} == {"mine", "that of torchnet"}

    def test_what_libraries_log_is_not(self, call, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
        logger = logging.getLogger("matplotlib")
        monkeypatch.setattr(logger, "level", logging.NOTSET)
        call("recipes")
        assert not logging.getLogger("matplotlib.font_manager").isEnabledFor(logging.WARNING)


class TestOthersFiles:
    """Results replace results of their own kind, and nothing else."""

    @pytest.mark.parametrize(
        ("arguments", "name"),
        [
            (("predict", "{work}/run", "{work}/data/猫/0.png", "--csv"), "answers.csv"),
            (("check", "{work}/data", "--html"), "page.html"),
            (("check", "{work}/data", "--quarantine"), "list.txt"),
        ],
    )
    def test_files(self, call, work: Path, tmp_path: Path, arguments: tuple[str, ...], name: str) -> None:  # type: ignore[no-untyped-def]
        arguments = tuple(word.format(work=work) for word in arguments)
        mine = tmp_path / "picture.png"
        mine.write_bytes((work / "data/猫/1.png").read_bytes())
        (tmp_path / "link").symlink_to("picture.png")
        (tmp_path / "folder").mkdir()
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "notes.txt").write_text("# What I need\nfile,label\n<html>\n")
        for other, reported in (
            ("picture.png", "exists already, and is not a file"),
            ("link", "exists already, and is not a file"),
            ("notes.txt", "exists already, and is not a file"),
            ("folder", "folder"),
            ("pipe", "it is not a file"),
            ("gone/x", "there is no folder gone"),
            ("x" * 300, "File name too long"),
        ):
            code, out, err = call(*arguments, other)
            assert code != 0
            assert out == ""
            assert reported in err
        assert mine.read_bytes() == (work / "data/猫/1.png").read_bytes()
        (tmp_path / name).touch()
        for _ in range(2):
            assert call(*arguments, name)[0] == 0
            assert (tmp_path / name).stat().st_size

    def test_pictures(self, call, work: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
        command = ("predict", work / "run", work / "data/猫/0.png", "--picture", "titled")
        for _ in range(2):
            assert call(*command)[0] == 0
        mine = tmp_path / "titled" / "0001-0.png"
        assert mine.exists()
        mine.write_bytes((work / "data/猫/1.png").read_bytes())
        code, _, err = call(*command)
        assert code == 1
        assert "0001-0.png exists already, and is not a file" in err
        assert mine.read_bytes() == (work / "data/猫/1.png").read_bytes()


@pytest.mark.usefixtures("drawn")
def test_a_name_that_is_not_utf_8_is_kept_and_read_again(call, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    paint(tmp_path / "data" / "dog", 40)
    try:
        paint(os.fsencode(tmp_path) + b"/data/chi\xean", 180)
    except OSError:
        pytest.skip("this file system has no such names")
    code, _, err = call("train", "data", "--epochs", "2", "--out", b"r\xean".decode(errors="surrogateescape"))
    assert (code, err) == (0, "")
    run = tmp_path / "r\udcean"
    assert json.loads((run / "data.json").read_text())["spec"]["task"]["outputs"] == ["chi\udcean", "dog"]
    assert r"chi\udcean" in (run / "figures" / "confusion.svg").read_text("utf-8")

    (tmp_path / "list\udcea.txt").write_text("dog/0.png\n")
    (picture,) = (tmp_path / "data" / "chi\udcean").glob("0.png")
    for arguments in (
        ("evaluate", run),
        ("resume", run, "--epochs", "3"),
        ("predict", run, picture, "--csv", "odd\udcea.csv", "--picture", "titled"),
        ("check", "data", "--html", "page.html", "--quarantine", "leave-out.txt"),
        ("train", "data", "--epochs", "1", "--exclude", "list\udcea.txt", "--out", "second"),
        ("evaluate", "second"),
    ):
        code, _, err = call(*arguments)
        assert (code, err) == (0, ""), arguments
    assert (tmp_path / "odd\udcea.csv").read_bytes().splitlines()[1].startswith(os.fsencode(picture) + b",")


@pytest.mark.parametrize(
    "arguments",
    [
        ("train",),
        ("check",),
        ("evaluate",),
        ("resume",),
        ("reproduce",),
        ("summary",),
        ("train", "digits", "--out"),
        ("bench", "digits", "--out"),
    ],
)
def test_a_name_that_is_too_long_is_reported(call, arguments: tuple[str, ...]) -> None:  # type: ignore[no-untyped-def]
    code, out, err = call(*arguments, "x" * 256)
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert "File name too long" in err
    assert len(err.splitlines()) == 2


def test_a_name_gives_the_terminal_no_orders(call) -> None:  # type: ignore[no-untyped-def]
    assert r"no file or folder 'a\x1b[2Jb'" in call("train", "a\x1b[2Jb")[2]


def test_names_of_255_bytes(call, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    name = "猫" * 85
    for level, letter in enumerate("xy"):
        paint(tmp_path / name / (letter * 255), 40 + 140 * level)
    code, _, err = call("train", name, "--epochs", "1", "--out", "ñ" * 127)
    assert (code, err) == (0, "")
    (picture,) = (tmp_path / name / ("x" * 255)).glob("0.png")
    long = picture.rename(picture.with_name("z" * 251 + ".png"))
    code, _, err = call("predict", "ñ" * 127, long, "--csv", "c" * 251 + ".csv", "--picture", "p" * 255)
    assert (code, err) == (0, "")
    assert len(list((tmp_path / ("p" * 255)).glob("0001-z*.png"))) == 1
    code, _, err = call("check", name, "--html", "h" * 250 + ".html", "--quarantine", "q" * 255)
    assert (code, err) == (0, "")


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_a_table_is_neither_cut_nor_folded_but_for_long_names(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    heading = ("seed", "accuracy", "balanced accuracy", "macro F1", "log-loss")
    rows = [
        ("0", "47.9 %", "47.7 %", "51.0 %", "1.72"),
        ("95 % interval", "10.7 to 100.0 %", "10.1 to 100.0 %", "16.3 to 100.0 %", "1.476 to 1.811"),
    ]
    print_rows(heading, rows)
    lines = capsys.readouterr().out.splitlines()
    assert [tuple(re.split(" {2,}", line.strip())) for line in lines[-2:]] == rows
    assert {*" ".join(lines[:-2]).split()} == {*" ".join(heading).split()}
    assert len(lines) == (3 if width > 80 else 4)
    print_rows(("run", "95 % interval"), [("a", "12345678901234567890" * 10)])
    assert [line.split() for line in capsys.readouterr().out.splitlines()][:2] == [["95", "%"], ["run", "interval"]]
    print_rows(("column", "importance"), [("name of a column " * 9, "1.2")])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= max(width, 60)
    assert "".join(line[:-10] for line in lines[1:]).replace(" ", "") == "nameofacolumn" * 9
