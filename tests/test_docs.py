"""The book, docs/en and docs/zh: what it shows works in order, in an empty folder; both languages are in step; links lead somewhere.

A block of `console` is commands, one of `python` is a program, or a file if its first line is its name ("# net.py"), and `toml` is a
file, too. What a block of `text` shows is not run. With EPOCHAL_BOOK=full, training takes as long as it says.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

import epochal
from docs.reference import pages
from epochal.cli.main import main

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(path.relative_to(DOCS / "en").as_posix() for path in (DOCS / "en").rglob("*.md"))
FILES = sorted(path.relative_to(DOCS).as_posix() for language in ("en", "zh") for path in (DOCS / language).rglob("*.md"))

# The languages of blocks.
KINDS = {"console", "python", "toml", "text"}

FULL = os.environ.get("EPOCHAL_BOOK") == "full"

# What is not run here, and why.
NOT_RUN = {
    "epochal serve": "serves until it is stopped: tests/serve",
    "epochal watch": "shows the run until it is stopped: tests/run/test_watch.py",
    "pip install": "changes what is installed",
    "torchrun": "several machines: tests/distributed",
    "curl": "asks a server: tests/serve",
}

# Pages let examples learn for longer than a test needs.
QUICK = {
    "train": ["--epochs", "1", "--max-steps", "5"],
    "resume": ["--epochs", "2"],
    "bench": ["--seconds", "0.05", "--devices", "cpu"],
    "lr": ["--steps", "20"],
}

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_ADDRESS = re.compile(r"https://[a-z0-9-]+(\.[a-z0-9-]+)+(/[\w.~%+/-]*)?(\?[\w.=&-]+)?(#[\w.-]+)?")
_NAMED = re.compile(r"# (\w+\.\w+)\n")


def _text(language: str, page: str) -> str:
    return (DOCS / language / page).read_text("utf-8")


def _blocks(language: str, page: str) -> list[tuple[str, str]]:
    """The kind and the content of each block of code."""
    return _FENCED.findall(_text(language, page))


def _headings(text: str) -> list[tuple[str, str]]:
    return re.findall(r"^(#+) (.+)$", _FENCED.sub("", text), re.MULTILINE)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> bool:
    """Work in an empty folder; whether training is cut short."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EPOCHAL_DATA", raising=False)
    if FULL:
        return False
    train = epochal.train

    def brief(*arguments: Any, **settings: Any) -> epochal.Run:
        return train(*arguments, **{**settings, "max_steps": 5})

    monkeypatch.setitem(vars(epochal), "train", brief)
    return True


@pytest.mark.parametrize("page", [page for page in PAGES if _blocks("en", page)])
def test_what_a_page_shows_works(page: str, quick: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {"__name__": "__main__"}
    for kind, block in _blocks("en", page):
        assert kind in KINDS, page
        if kind != "text" and (named := _NAMED.match(block)):
            Path(named[1]).write_text(block, "utf-8")
        elif kind == "python":
            exec(compile(block, page, "exec", dont_inherit=True), names)
        elif kind == "console":
            for line in block.replace(" \\\n  ", "").splitlines():
                _run(line, quick, monkeypatch, capsys)
    capsys.readouterr()


def _run(line: str, quick: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert line.startswith("$ "), line
    line = line.removeprefix("$ ")
    if any(line.startswith(one) for one in NOT_RUN):
        return
    command, _, file = line.partition(" > ")
    # Each process would import PyTorch: tests/distributed.
    words = shlex.split(re.sub(r" --processes \d+", "", command), comments=True)
    assert words[0] == "epochal", line
    monkeypatch.setattr(sys, "argv", [*words, *(QUICK.get(words[1], []) if quick and "--dry-run" not in words else [])])
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        main()
    said = capsys.readouterr()
    assert not exit_.value.code, f"{line}\n{said.out}{said.err}"
    if file:
        Path(file.strip()).write_text(said.out, "utf-8")


def test_both_languages_are_in_step() -> None:
    assert sorted(path.relative_to(DOCS / "zh").as_posix() for path in (DOCS / "zh").rglob("*.md")) == PAGES
    generated = {name.partition("/")[2] for name in pages()}
    for page in PAGES:
        if page not in generated:
            assert _blocks("en", page) == _blocks("zh", page), page
        parts = [
            (
                [level for level, _ in _headings(text)],
                re.findall(r"\]\(([^)#]+)", text.replace("README.zh-CN", "README"))[1:],
                [line.count("|") for line in text.splitlines() if line.startswith("|")],
            )
            for text in (_text("en", page), _text("zh", page))
        ]
        for english, chinese in zip(*parts, strict=True):
            if page not in generated | {"index.md"}:
                assert english == chinese, page


def test_every_page_is_in_the_index() -> None:
    for language in ("en", "zh"):
        listed = re.findall(r"^- \[[^\]]+\]\(([^)]+)\)", _text(language, "index.md"), re.MULTILINE)
        assert sorted([*listed, "index.md"]) == PAGES


def test_the_reference_is_what_the_code_says() -> None:
    for name, text in pages().items():
        assert (DOCS / name).read_text("utf-8") == text, f"{name}: python -m docs.reference writes it"


def _anchors(file: Path) -> set[str]:
    """What GitHub and the site call the headings of a page."""
    return {
        re.sub(r"[^\w\u4e00-\u9fff\- ]", "", title.strip().lower().replace(" ", "-")) for _, title in _headings(file.read_text("utf-8"))
    }


@pytest.mark.parametrize("name", FILES)
def test_links_lead_somewhere(name: str) -> None:
    page = DOCS / name
    for link in re.findall(r"\]\(([^)]+)\)", _FENCED.sub("", page.read_text("utf-8"))):
        file, _, anchor = link.partition("#")
        if link.startswith("https://"):
            # No test asks the network: that an address can be right is all.
            assert _ADDRESS.fullmatch(link), link
            continue
        target = page.parent / file if file else page
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link


@pytest.mark.skipif(importlib.util.find_spec("sphinx") is None, reason="the site needs Sphinx, of the extra docs")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")
def test_the_site_is_built_without_warnings(tmp_path: Path) -> None:
    from sphinx.cmd.build import main as build

    for language, code, word in (("en", "en", "interval"), ("zh", "zh_CN", "区间")):
        out = tmp_path / language
        options = ["--quiet", "--fail-on-warning", "--keep-going", "-D", f"language={code}", "-d", str(tmp_path / "doctrees" / language)]
        # Writing pages takes longer than finding what is wrong with them.
        builder = "html" if FULL else "dummy"
        assert build([*options, "-b", builder, "-c", str(DOCS), str(DOCS / language), str(out)]) == 0
        if not FULL:
            continue
        assert {path.relative_to(out).with_suffix(".md").as_posix() for path in out.rglob("*.html")} >= set(PAGES)
        # JSON writes Chinese in escapes.
        index, found = (out / "searchindex.js").read_text("utf-8"), json.dumps(word)
        assert found in index or f"{found[1:-1]}:" in index
