"""epochal export, as a user types it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from epochal import train
from epochal.cli.main import cli
from epochal.data.inputs.text.read import Text
from epochal.exports.export import FORMATS
from epochal.run.parity import check
from tests.cli.conftest import Call
from tests.data.test_table import csv_of, people
from tests.test_same_answers import LABELS, SETTINGS, SOUNDS, TEXTS
from tests.tones import save

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

pytestmark = pytest.mark.usefixtures("exporting")


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


def test_too_much_lost_in_eight_bits_is_refused(tmp_path: Path, call: Call) -> None:
    for part, factor in (("train", 1), ("test", 20)):  # Ranges that are measured on dark pictures do not fit bright ones.
        for place in range(40):
            pixels = np.full((8, 8), 3 * factor, np.uint8)
            pixels[:, place % 2 * 4 :][:, :4] = (6 + place % 4) * factor
            file = tmp_path / "data" / part / "ab"[place % 2] / f"{place}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(file)
    train(tmp_path / "data", model="linear", epochs=30, quiet=True, device="cpu", threads=1, out=tmp_path / "run")
    refused = ("export", "run", "--to", "onnx", "--quantize", "--max-loss")
    code, out, err = call(*refused, "2.5")
    assert code == 1
    assert out == ""
    said = re.fullmatch(
        r"error: In eight bits, accuracy (.*) instead of (.*) %: (.*) points lost \(95 %: .*\): more than 2.5\.\n(.*)\n", err
    )
    assert said is not None, err
    after, before, lost = (float(said[place]) for place in (1, 2, 3))
    assert lost > 2.5
    assert lost == pytest.approx(before - after, abs=0.011)
    assert said[4] == "Nothing was written. Allow more: --max-loss; or leave --quantize out."
    assert not (tmp_path / "run" / "export").exists()
    assert call(*refused, "few")[0] == 2


DATA: dict[str, tuple[Any, dict[str, Any]]] = {
    "texts": ((TEXTS * 2, LABELS * 2), {"model": "bag"}),
    "table": ({**people(200), "income": [f"{row % 3}" for row in range(200)]}, {"target": "income"}),
    "sounds": (([(sound, 8000) for sound in SOUNDS] * 2, LABELS * 2), {"input": "sound", "model": "linear"}),
}


@pytest.mark.parametrize("kind", DATA)
def test_what_is_served_is_compared_for_every_kind(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    what, options = DATA[kind]
    if kind == "table":
        csv_of(what, tmp_path / "data.csv")
        # Words that training does not have, and missing values.
        rows = (tmp_path / "data.csv").read_text().splitlines()
        rows[7:9] = [rows[7].replace("pilot", "").replace("nurse", "astronaut"), rows[8].replace("41", "")]
        (tmp_path / "data.csv").write_text("\n".join(rows) + "\n")
        what = tmp_path / "data.csv"
    elif kind == "texts":
        (tmp_path / "data.tsv").write_text("text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in zip(*what, strict=True)))
        what, options = tmp_path / "data.tsv", {**options, "text": "text", "target": "label"}
    else:
        for place, (sound, _) in enumerate(what[0]):
            save(tmp_path / "data" / "ab"[place % 2] / f"{place}.wav", sound / 32768)
        what, options = tmp_path / "data", {"model": "linear"}
    train(what, **options, **SETTINGS, out=tmp_path / "run")
    found = check(tmp_path / "run")
    assert {row.answers for row in found} >= {"trained", "evaluated", "onnx", "torch-export", "safetensors", "served"}
    assert all(row.agrees for row in found)
    if kind == "texts":
        (tmp_path / "a.txt").write_text(TEXTS[0], "utf-8")
        monkeypatch.setattr("epochal.run.parity.FORMATS", {"safetensors": FORMATS["safetensors"]})
        given = check(tmp_path / "run", examples=[tmp_path / "a.txt", Text("/etc/passwd")])
        assert [(row.answers, row.same) for row in given][-1] == ("served", 2)


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
    monkeypatch.setitem(FORMATS, "onnx", made._replace(decode=lambda *given: lambda inputs: made.decode(*given)(inputs).flip(1)))
    found = CliRunner().invoke(cli, ["export", str(run), "--check"])
    assert found.exit_code == 1
    assert [line.split()[-1] == "disagrees" for line in found.stdout.splitlines()[1:]] == [False, False, True, False, False, False]
