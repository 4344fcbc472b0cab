"""Set Epochal up and run it, on any machine with Python 3.11 or newer.

    python3 start.py                    set up, then train on handwritten digits
    python3 start.py train mnist ...    set up, then run `epochal train mnist ...`
    python3 start.py test               set up for development, then lint, check types, and run all tests

The virtual environment is in .venv beside this file; it is made once and used again, and renewed when the pinned versions change.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
VENV = HERE / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")

CHECKS = (
    ("ruff", "check"),
    ("ruff", "format", "--check"),
    ("mypy",),
    ("pytest", "-q", "--numprocesses=auto", "--maxprocesses=4", "--dist=worksteal"),
)


def set_up(extra: str) -> None:
    """Install Epochal with its pinned dependencies, unless exactly these are installed already."""
    wanted = hashlib.sha256(b"".join((HERE / name).read_bytes() for name in ("pyproject.toml", "constraints.txt"))).hexdigest() + extra
    mark = VENV / "installed.txt"
    installed = mark.read_text() if mark.exists() else ""
    # What is needed for development includes what is needed for use.
    if installed in (wanted, wanted + "dev"):
        return
    print(f"Setting up {VENV} (about a minute the first time) ...", flush=True)
    if not PYTHON.exists():
        venv.create(VENV, with_pip=True, clear=VENV.exists())
    package = f"{HERE}[{extra}]" if extra else str(HERE)
    mark.unlink(missing_ok=True)
    subprocess.run(
        [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", HERE / "constraints.txt", "-e", package],
        check=True,
    )
    mark.write_text(wanted)


def test() -> int:
    """Run every check; stop at the first that fails."""
    for module, *arguments in CHECKS:
        print("\n$", module, *arguments, flush=True)
        code = subprocess.run([PYTHON, "-m", module, *arguments], cwd=HERE).returncode
        if code:
            return code
    return 0


def main() -> int:
    """Do what the command line says and return the exit code."""
    if sys.version_info < (3, 11):  # noqa: UP036  this file is what an older Python is told by
        print(f"Epochal needs Python 3.11 or newer; this is {sys.version.split()[0]}.", file=sys.stderr)
        return 1
    arguments = sys.argv[1:] or ["train"]
    try:
        set_up("dev" if arguments == ["test"] else "")
        return test() if arguments == ["test"] else subprocess.run([PYTHON, "-m", "epochal", *arguments]).returncode
    except subprocess.CalledProcessError as error:
        print("The packages could not be installed; pip says why above.", file=sys.stderr)
        return error.returncode
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
