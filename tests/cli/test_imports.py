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


# Runs commands, one after the other; the last line of what it says is a list of the modules that are loaded at the end.
RUN = """
import json, sys
from epochal.cli.main import main
codes = []
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["epochal", *arguments]
    try:
        main()
    except SystemExit as end:
        codes.append(end.code or 0)
print("\\n" + json.dumps([codes, [*sys.modules]]), file=sys.stderr)
"""


def _run(*commands: list[str], cwd: Path, before: str = "") -> tuple[str, set[str]]:
    """Run code and then commands in a process of their own; return what they print and the modules that are loaded at the end."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    start = [sys.executable, "-c", before + RUN, json.dumps(commands)]
    done = subprocess.run(start, capture_output=True, text=True, cwd=cwd, env=environment)
    assert done.returncode == 0, done.stderr
    codes, modules = json.loads(done.stderr.splitlines()[-1])
    assert codes == [0] * len(commands), done.stderr
    return done.stdout, set(modules)


# Training that writes nothing.
IN_MEMORY = """
import epochal, sys
epochal.train("digits", model="linear", epochs=1, quiet=True, threads=1)
print("Drawing is imported:", "matplotlib" in sys.modules)
"""


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_imports_nothing_heavy(verb: str, tmp_path: Path) -> None:
    shown, modules = _run([*filter(None, [verb]), "--help"], cwd=tmp_path)
    assert f"epochal {verb}".strip() in shown
    assert not modules & {*HEAVY, *NEVER}


def test_a_run_imports_only_what_it_uses(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("size,text,kind\n" + "".join(f"{row % 7},it is number {row},{'ab'[row % 2]}\n" for row in range(60)))
    dry = ["--threads", "1", "--dry-run"]
    table = ["train", "rows.csv", "--target", "kind", *dry]
    text = [*table, "--text", "text"]
    first = ["train", "digits", "--epochs", "2", "--max-steps", "25", "--out", "kept"]
    others = (["resume", "kept", "--epochs", "3"], ["train", "digits", *dry], table, text, [*text, "--model", "gru"])
    shown, modules = _run(first, *others, cwd=tmp_path, before=IN_MEMORY)
    assert "Drawing is imported: False" in shown
    assert "Accuracy" in shown
    assert "torch" in modules
    if modules & {*NEVER}:
        imported = subprocess.run([sys.executable, "-c", BY_PYTORCH], capture_output=True, text=True, check=True, cwd=tmp_path).stdout
        assert not modules & ({*NEVER} - set(json.loads(imported)))
