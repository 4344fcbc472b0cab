"""Files from strangers, through the real loaders in processes of their own: the proof that they are refused, and do nothing.

EPOCHAL_HOSTILE=full .venv/bin/python -m pytest tests/test_hostile.py        all of them, not one in thirteen (of pictures, in forty)
EPOCHAL_FUZZ=20000 .venv/bin/python -m pytest tests/test_hostile.py          so many changed files, not 30
.venv/bin/python -m tests.hostile.fuzz --seconds 3600                        the fuzzer for an hour
.venv/bin/python -m tests.hostile.fuzz --seconds 3600 --only table,sound     of these kinds
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
FUZZED = int(os.environ.get("EPOCHAL_FUZZ", "30"))
IS_FULL = os.environ.get("EPOCHAL_HOSTILE") == "full"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is measured by Linux's means")

Results = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    out = tmp_path_factory.mktemp("hostile") / "results.json"
    command = [sys.executable, "-m", "tests.hostile.run", str(out), "controls", "models", "archives", "tables", "pictures"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: Results = json.loads(out.read_text())
    return found


def _wrong(results: list[dict[str, Any]]) -> list[str]:
    """Name what was not refused by an error that names the file, or did something."""
    return [str(result) for result in results if not result["reported"] or result["wrong"] or result["changed"] or result["canary"]]


def test_what_a_loader_must_not_do_is_noticed(results: Results) -> None:
    unpickled, took, wrote, waited, imported = results["controls"]
    assert unpickled["canary"]
    assert "pickle.find_class" in unpickled["wrong"]
    assert "MB" in took["wrong"]
    assert "for writing" in wrote["wrong"]
    assert wrote["changed"] == ["elsewhere"]
    assert "it took" in waited["wrong"]
    assert "import" in imported["wrong"]


def test_hostile_models_and_arrays(results: Results) -> None:
    assert len(results["models"]) >= (340 if IS_FULL else 25)
    assert _wrong(results["models"]) == []


def test_hostile_archives(results: Results) -> None:
    assert len(results["archives"]) >= (110 if IS_FULL else 8)
    assert _wrong(results["archives"]) == []


def test_hostile_tables_and_texts(results: Results) -> None:
    assert len(results["tables"]) >= (160 if IS_FULL else 12)
    assert _wrong(results["tables"]) == []


def test_damaged_pictures(results: Results) -> None:
    pictures = results["pictures"]
    assert len(pictures) >= (2800 if IS_FULL else 70)
    assert [result for result in pictures if result["wrong"] or result["changed"]] == []
    # Changed bytes may leave a picture that can be read; one that was cut off, or is a bomb, may not. Of this one, only a tag is cut.
    read = {result["name"] for result in pictures if not result["reported"] and "changed bytes" not in result["name"]}
    assert read <= {"fax.tif: cut off at 99 %"}


def test_fuzzing(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.hostile.fuzz",
        "--seconds",
        "3600",
        "--cases",
        str(FUZZED),
        "--crashes",
        str(tmp_path / "crashes"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1])["cases"] == FUZZED
