"""epochal compare: what is printed, and the page and JSON with the same numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from epochal.language import speak
from epochal.run.compare import compare
from tests.run.test_compare import keep, outputs

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    for name, noise, seed in (("a-1", 0.1, 1), ("a-2", 0.1, 2), ("b-1", 2.0, 1), ("b-2", 2.0, 2)):
        keep(tmp_path / name, {"outputs": outputs(noise, seed)}, seed=seed, lr=noise, split_seed=0)
    return ["a-1", "a-2", "b-1", "b-2"]


def test_terminal_page_and_json_agree(call: Call, runs: list[str], tmp_path: Path) -> None:
    code, out, err = call("compare", *runs[1:3], "--html", "page.html", "--json")
    assert (code, err) == (0, "")
    found = compare(*runs[1:3])
    lines = out.splitlines()
    assert lines[0] == "accuracy of 2 runs on the same 60 test examples of data"
    assert lines[2].split() == ["a-2", *found.run_table[1][1].split(), *found.run_table[1][2].split(), "mlp", "2"]
    assert json.loads(lines[-1])["pairs"] == json.loads(json.dumps(found.to_json()))["pairs"]
    verdict = found.verdict(found.pairs[0])
    assert verdict in lines
    assert verdict in (tmp_path / "page.html").read_text("utf-8").replace("&nbsp;", " ")
    assert any(line.startswith("  only a-2 is right on ") for line in lines)
    assert "  page.html  with charts" in lines


def test_settings_are_compared_over_their_seeds(call: Call, runs: list[str]) -> None:
    code, out, _ = call("compare", *runs)
    assert code == 0
    assert re.search(r"^a-1 ×2 .* points +1, 2$", out, re.MULTILINE)
    assert "a-1 ×2 is better than b-1 ×2 by " in out


def test_nothing_is_written_where_it_cannot_be(call: Call, runs: list[str], tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert call("compare", *runs, "--html", "mine.txt")[0] == 1
    code, out, err = call("compare", "a-1", "a-1", "--html", "page.html")
    assert (code, out) == (1, "")
    assert "a-1 is given twice." in err
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize("chosen", [(0, 2), (0, 1), (0, 1, 2, 3)])
def test_it_speaks_chinese(call: Call, runs: list[str], chosen: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    _, out, _ = call("compare", *(runs[place] for place in chosen), "--score", "accuracy" if len(chosen) < 4 else "log-loss")
    monkeypatch.setenv("LC_ALL", "C")
    speak("utf-8")
    left = re.sub(r"\w-\d|train\[\d+\]|--[\w-]+|\b(p|data|mlp|Holm)\b", "", out)
    assert re.findall("[A-Za-z]+", left) == []
