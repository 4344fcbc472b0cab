"""The pages in docs/en and docs/zh: what they show works in order, in an empty folder; both languages are in step; links lead somewhere."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from epochal.cli.main import main

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(path.relative_to(DOCS / "en").as_posix() for path in (DOCS / "en").rglob("*.md"))

# Pages give examples a few epochs more than a test needs.
QUICK = ["--epochs", "1", "--max-steps", "5"]


def _blocks(language: str, page: str) -> Iterator[tuple[str, str]]:
    """The kind and the content of each block of code."""
    yield from re.findall(r"^```(\w*)\n(.*?)^```$", (DOCS / language / page).read_text("utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_shows_works(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for kind, block in _blocks("en", page):
        if kind == "python":
            exec(compile(block.replace("quiet=True", "quiet=True, epochs=1"), page, "exec"), names)
            continue
        assert kind == "console"
        for line in block.splitlines():
            words = shlex.split(line.removeprefix("$ "))
            assert words[0] == "epochal"
            monkeypatch.setattr(sys, "argv", [*words, *(QUICK if words[1] == "train" else [])])
            with pytest.raises(SystemExit) as exit_:
                main()
            said = capsys.readouterr()
            assert not exit_.value.code, f"{line}\n{said.out}{said.err}"


def test_both_languages_are_in_step() -> None:
    assert sorted(path.relative_to(DOCS / "zh").as_posix() for path in (DOCS / "zh").rglob("*.md")) == PAGES
    for page in PAGES:
        english, chinese = ((DOCS / language / page).read_text("utf-8") for language in ("en", "zh"))
        assert [*_blocks("en", page)] == [*_blocks("zh", page)], page
        levels, translated = (re.findall(r"^(#+) ", re.sub("(?ms)^```.*?^```$", "", text), re.MULTILINE) for text in (english, chinese))
        assert levels == translated, page


@pytest.mark.parametrize("file", sorted(DOCS.glob("*/**/*.md")), ids=lambda file: file.relative_to(DOCS).as_posix())
def test_links_lead_somewhere(file: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", file.read_text("utf-8")):
        assert link.startswith("https://") or (file.parent / link).exists(), link
