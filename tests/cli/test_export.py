"""epochal export, as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from epochal import train
from epochal.cli.main import cli
from epochal.exports.export import FORMATS

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


def test_every_way_to_ask_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    train("digits", model="linear", epochs=1, quiet=True, device="cpu", threads=1, out=run)
    before = sorted(tmp_path.rglob("*"))
    found = CliRunner().invoke(cli, ["export", str(run), "--check", "--json"])
    assert found.exit_code == 0, found.output
    rows = json.loads(found.stdout.splitlines()[-1])
    assert [row["answers"] for row in rows] == ["trained", "evaluated", "onnx", "torch-export", "safetensors", "served"]
    assert all(row["agrees"] and row["same"] == row["examples"] == 359 for row in rows)
    assert sorted(tmp_path.rglob("*")) == before
    assert CliRunner().invoke(cli, ["export", str(run), "--check", "--out", "file"]).exit_code == 2

    made = FORMATS["onnx"]
    monkeypatch.setitem(FORMATS, "onnx", made._replace(decode=lambda content: lambda inputs: made.decode(content)(inputs).flip(1)))
    found = CliRunner().invoke(cli, ["export", str(run), "--check"])
    assert found.exit_code == 1
    assert [line.split()[-1] == "disagrees" for line in found.stdout.splitlines()[1:]] == [False, False, True, False, False, False]
