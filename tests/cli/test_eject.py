"""epochal eject, as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

import epochal
from epochal.cli.main import cli
from tests.small import small_recipe


def test_a_run_is_written_as_a_program(tmp_path: Path) -> None:
    run = tmp_path / "run"
    epochal.train("digits", small_recipe(epochs=1), model="linear", out=run, quiet=True)
    found = CliRunner().invoke(cli, ["eject", str(run), "--json"])
    assert found.exit_code == 0, found.output
    program = run / "eject" / "script.py"
    said = json.loads(found.stdout.splitlines()[-1])
    assert said == {
        "program": str(program), "lines": program.read_text().count("\n"), "data": str(program.with_suffix(".safetensors"))
    }  # fmt: skip
    assert f"Run it: python {program}" in found.stdout
    assert CliRunner().invoke(cli, ["eject", str(run)]).exit_code == 1
    chinese = CliRunner().invoke(cli, ["eject", str(run), "--lang", "zh", "--out", str(tmp_path / "zh.py")])
    assert chinese.exit_code == 0, chinese.output
    assert "训练" in (tmp_path / "zh.py").read_text("utf-8")
    assert CliRunner().invoke(cli, ["eject", str(run), "--lang", "de"]).exit_code == 2
