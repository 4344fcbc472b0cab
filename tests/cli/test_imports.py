"""What the command imports, which is most of what it takes to start: nothing heavy for --help, and no more than it uses to train."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from epochal.cli.main import VERBS

# PyTorch's compiler and what it imports, which no step uses, and packages of which only a file or a class is needed.
NEVER = ("torch._dynamo", "torch._inductor", "sympy", "sklearn", "scipy", "matplotlib.pyplot", "pandas", "mlflow", "tensorboard")
# Some versions of PyTorch import a few of these by themselves.
BY_PYTORCH = "import json, sys, torch; torch.empty(1, device='meta').uniform_(); print(json.dumps([*sys.modules]))"
HEAVY = ("torch", "numpy", "pydantic", "rich", "matplotlib", "PIL", "tomlkit", "importlib.metadata")


def _run(*arguments: str, cwd: Path) -> tuple[str, set[str]]:
    """Run the command in a process of its own; return what it prints and the modules that are loaded at its end."""
    end = "import sys, json, atexit; atexit.register(lambda: print('\\n' + json.dumps([*sys.modules]), file=sys.stderr))"
    start = f"{end}; from epochal.cli.main import main; sys.argv = ['epochal', *sys.argv[1:]]; main()"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", start, *arguments], capture_output=True, text=True, cwd=cwd, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout, set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_imports_nothing_heavy(verb: str, tmp_path: Path) -> None:
    shown, modules = _run(*filter(None, [verb]), "--help", cwd=tmp_path)
    assert f"epochal {verb}".strip() in shown
    assert not modules & {*HEAVY, *NEVER}


def test_a_run_imports_only_what_it_uses(tmp_path: Path) -> None:
    shown, modules = _run("train", "digits", "--epochs", "2", "--max-steps", "25", "--out", "kept", cwd=tmp_path)
    assert "Accuracy" in shown
    assert "torch" in modules
    imported = subprocess.run([sys.executable, "-c", BY_PYTORCH], capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    never = {*NEVER} - set(json.loads(imported))
    assert not modules & never
    (tmp_path / "rows.csv").write_text("size,text,kind\n" + "".join(f"{row % 7},it is number {row},{'ab'[row % 2]}\n" for row in range(60)))
    table = ["train", "rows.csv", "--target", "kind", "--dry-run"]
    others = (["train", "digits", "--dry-run"], table, [*table, "--text", "text"], [*table, "--text", "text", "--model", "gru"])
    for arguments in (["resume", "kept", "--epochs", "3"], *others):
        assert not _run(*arguments, cwd=tmp_path)[1] & never
