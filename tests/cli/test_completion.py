"""Completion as shells ask for it: by a real bash, and by the variables that all of them set. It imports nothing heavy."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from epochal.cli.main import VERBS, main
from epochal.cli.table import made_from_tables, read_names

Ask = Callable[..., dict[str, str]]


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Ask as fish does; return what a word may become, with what it is for or, for a file, its kind."""
    monkeypatch.chdir(tmp_path)

    def answer(line: str, **environment: str) -> dict[str, str]:
        words = line.split(" ")
        monkeypatch.setenv("_EPOCHAL_COMPLETE", "fish_complete")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", words[-1])
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["epochal"])
        with pytest.raises(SystemExit):
            main()
        found = [one.partition(",")[2] if one.startswith("plain,") else f"{one}" for one in capsys.readouterr().out.splitlines()]
        return dict(one.partition("\t")[::2] for one in found)

    return answer


def test_verbs_and_options(ask: Ask) -> None:
    assert {*VERBS} <= {*ask("epochal ")}
    assert [*ask("epochal rep")] == ["reproduce", "report"]
    assert [*ask("epochal train --batch")] == ["--batch-size", "--batch-norm"]
    assert [*ask("epochal cache cl")] == ["clear"]
    assert [*ask("epochal completion z")] == ["zsh"]


def test_names_and_values(ask: Ask, tmp_path: Path) -> None:
    assert {"conv", "bag", "airbench"} <= {*ask("epochal train --model ")}
    assert [*ask("epochal train --recipe mnist")] == ["mnist", "mnist-fast"]
    assert [*ask("epochal tune --recipe mnist")] == ["mnist", "mnist-fast"]
    assert [*ask("epochal recipes few")] == ["few-shot"]
    assert [*ask("epochal train --precision ")] == ["auto", "fp32", "bf16", "fp16"]
    assert "optimizer.lr=" in ask("epochal train --set optimizer.l")
    (tmp_path / "mine").mkdir()
    (tmp_path / ".hidden").mkdir()
    assert [*ask("epochal train m")] == ["mnist", "mine/"]
    assert [*ask("epochal train my")] == ["file,my"]
    assert [*ask("epochal predict ")] == ["file,"]


def test_what_names_are_is_said_in_the_language(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask("epochal che")["check"] == VERBS["check"]
    for name in ("LC_ALL", "LC_MESSAGES", "LANGUAGE"):
        monkeypatch.delenv(name, raising=False)
    said = ask("epochal che", LANG="zh_CN.UTF-8", PYTHONUTF8="1")["check"]
    assert said == "训练之前检查数据：损坏的文件、重复、泄漏、类别失衡。"
    monkeypatch.setenv("LANG", "C")
    ask("epochal che")


def test_the_names_are_those_there_are() -> None:
    assert read_names() == made_from_tables()


@pytest.mark.parametrize("line", ["epochal train --model c", "epochal "])
def test_nothing_heavy_is_imported(line: str, tmp_path: Path) -> None:
    program = (
        "import json, sys\nfrom epochal.cli.main import main\ntry: main()\nfinally: print(json.dumps([*sys.modules]), file=sys.stderr)"
    )
    variables = {"_EPOCHAL_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    done = subprocess.run([sys.executable, "-c", program], env={**os.environ, **variables}, capture_output=True, text=True, cwd=tmp_path)
    assert "plain," in done.stdout
    assert not {"torch", "numpy", "pydantic", "rich"} & {*json.loads(done.stderr.splitlines()[-1])}


def _with_command(folder: Path, shell: str) -> Path:
    """Write the script of a shell, and a program `epochal` beside it."""
    program = folder / "bin" / "epochal"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nfrom epochal.cli.main import main\nmain()\n")
    program.chmod(0o755)
    said = subprocess.run([program, "completion", shell], capture_output=True, text=True, check=True).stdout
    (folder / "script").write_text(said)
    return program.parent


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_a_real_bash_completes(tmp_path: Path) -> None:
    path = _with_command(tmp_path, "bash")
    lines = """
        source ./script
        complete -p epochal
        ask() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _epochal_completion epochal; echo "${COMPREPLY[@]}"; }
        ask epochal comp
        ask epochal train --model wordl
    """
    environment = {**os.environ, "PATH": f"{path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", lines], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2:] == ["compare completion", "wordllama"]
    assert "epochal" in done.stdout.splitlines()[0]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_script_of_another_shell_is_accepted(shell: str, tmp_path: Path, call) -> None:  # type: ignore[no-untyped-def]
    code, script, _ = call("completion", shell)
    assert code == 0
    assert f"_EPOCHAL_COMPLETE={shell}_complete" in script
    assert shell != "fish" or "split --max 1" in script
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "script").write_text(script)
    subprocess.run([shell, "-n", "script"], cwd=tmp_path, check=True)
