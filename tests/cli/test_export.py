"""epochal export, as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from epochal import train
from epochal.cli.main import cli

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")


def test_the_table_and_the_file(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train("digits", model="linear", epochs=1, quiet=True, device="cpu", threads=1, out=run)
    found = CliRunner().invoke(cli, ["export", str(run), "--json"])
    assert found.exit_code == 0, found.output
    assert "largest difference" in found.stdout
    assert "beside it: model.onnx.parity.json, predict_onnx.py" in found.stdout
    assert json.loads(found.stdout.splitlines()[-1])["file"] == str(run / "export" / "model.onnx")
    assert CliRunner().invoke(cli, ["export", str(run)]).exit_code == 1
    assert CliRunner().invoke(cli, ["export", str(run), "--to", "pickle"]).exit_code == 2
