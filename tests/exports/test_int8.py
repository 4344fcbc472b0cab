"""Eight bits: what is lost is measured on known answers, and answers do not depend on the batch."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from epochal import export as export_run
from epochal import train
from epochal.cli.main import cli
from epochal.errors import DataError, ExportError
from epochal.exports import onnx_file
from epochal.exports.export import Quantize, export
from epochal.tasks.intervals import growth, paired
from tests.data.test_table import people
from tests.test_same_answers import LABELS, SETTINGS, SOUNDS

pytest.importorskip("onnxscript")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

pytestmark = pytest.mark.usefixtures("exporting")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    train("digits", model="conv", epochs=2, quiet=True, device="cpu", threads=1, out=folder)
    return folder


def test_what_is_lost_is_measured_printed_and_kept(run: Path) -> None:
    found = CliRunner().invoke(cli, ["export", str(run), "--quantize", "--max-loss", "5", "--json"])
    assert found.exit_code == 0, found.output
    assert "points lost (95 %: " in found.stdout
    assert "times as fast in batches of 64" in found.stdout
    path = run / "export" / "int8" / "model.onnx"
    said = json.loads(found.stdout.splitlines()[-1])["int8"]
    assert said["sizes"][1] < said["sizes"][0] / 2
    assert said["loss"] == pytest.approx(100 * (said["before"] - said["after"]))
    assert said["loss"] == pytest.approx(100 * (said["worse"] - said["better"]) / said["examples"])
    assert said["before"] == json.loads((run / "result.json").read_text())["test"]["accuracy"]
    report = json.loads(path.with_name("model.onnx.parity.json").read_text())
    model = onnx.load(path)
    assert report["int8"] == said == json.loads(next(entry.value for entry in model.metadata_props if entry.key == "int8"))
    assert {"classes", "opset"} <= {entry.key for entry in model.metadata_props}
    assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in model.graph.node}


def test_answers_do_not_depend_on_the_batch(run: Path, tmp_path: Path) -> None:
    found = export_run(run, out=tmp_path / "model.onnx", quantize=True, max_loss=100)
    assert all(row.agree == row.examples > 0 for row in found.parity)
    assert max(row.difference for row in found.parity) <= 1e-5
    answers = onnx_file.decode((tmp_path / "model.onnx").read_bytes())
    inputs = torch.randint(0, 256, (64, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(answers(inputs), torch.cat([answers(one) for one in inputs.split(1)]), atol=1e-5)


def test_too_much_lost_is_refused(tmp_path: Path) -> None:
    data = torch.randint(0, 256, (60, 1, 9, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    result = train((data, LABELS * 2), model="conv", **SETTINGS)
    examples = result.data.train
    # Ranges measured on black pictures alone fit no others.
    black = Quantize(torch.zeros_like(data), examples)
    answers = result.bundle.values(data)
    examples = type(examples)(data, answers.argmax(1), "train", torch.arange(60))
    with pytest.raises(ExportError, match=r"points lost .*: more than 0.5") as refused:
        export(result.bundle, "onnx", tmp_path / "model.onnx", data, quantize=black._replace(examples=examples))
    assert "Nothing was written" in refused.value.fix
    assert not list(tmp_path.iterdir())


def test_preprocessing_and_quantities(tmp_path: Path) -> None:
    from epochal import load

    sounds = train(load(([(sound, 8000) for sound in SOUNDS], LABELS), input="sound", seconds=0.1), model="conv", **SETTINGS)
    examples = sounds.data.train
    export(sounds.bundle, "onnx", tmp_path / "sound.onnx", examples.inputs, quantize=Quantize(examples.inputs, examples, max_loss=100))
    nodes = onnx.load(tmp_path / "sound.onnx").graph.node
    quantized = {name for node in nodes if node.op_type == "DequantizeLinear" for name in node.output}
    # The spectrogram, which is a convolution and a matrix product, stays as it is.
    kinds = [(node.op_type, bool(quantized & set(node.input))) for node in nodes if node.op_type in ("Conv", "MatMul", "Gemm")]
    assert kinds[:2] == [("Conv", False), ("MatMul", False)]
    assert {is_quantized for _, is_quantized in kinds[2:]} == {True}
    quantities = train(load({**people(60), "income": [float(number) for number in range(60)]}, target="income"), **SETTINGS)
    found = export(
        quantities.bundle,
        "onnx",
        tmp_path / "table" / "model.onnx",
        quantities.data.train.inputs,
        quantize=Quantize(quantities.data.train.inputs, quantities.data.train, max_loss=100),
    )
    assert found.int8 is not None
    assert found.int8.worse is None
    assert found.int8.loss == pytest.approx(100 * (found.int8.after / found.int8.before - 1))
    assert "the error grows by" in found.int8.cost


def test_what_is_not_possible_is_said(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="safetensors is not computed in eight bits"):
        export_run(run, "safetensors", quantize=True)
    with pytest.raises(ExportError, match="known answers"):
        export_run(run, examples=["a.png"], quantize=True)
    with pytest.raises(ExportError, match="0 to 100"):
        export_run(run, quantize=True, max_loss=-1)
    with pytest.raises(DataError, match="without its run") as refused:
        export_run(run / "model", out=tmp_path / "model.onnx", quantize=True)
    assert "--quantize" in refused.value.fix


def test_the_paired_interval() -> None:
    # With none worse or better, the score is n·d / sqrt(n·d·(1 - d)): it is z at z² / (n + z²).
    z2 = 1.959963984540054**2
    assert paired(0, 0, 1000) == pytest.approx((-z2 / (1000 + z2), z2 / (1000 + z2)), rel=1e-6)
    low, high = paired(12, 4, 500)
    assert low < 8 / 500 < high
    assert paired(4, 12, 500) == pytest.approx((-high, -low))
    assert paired(10, 0, 10)[1] == 1.0
    generator = torch.Generator().manual_seed(0)
    covered = 0
    for _ in range(400):
        kinds = torch.multinomial(torch.tensor([0.04, 0.02, 0.94]), 300, replacement=True, generator=generator)
        low, high = paired(int((kinds == 0).sum()), int((kinds == 1).sum()), 300)
        covered += low <= 0.02 <= high
    assert 0.92 <= covered / 400 <= 0.98


def test_the_growth_of_an_error() -> None:
    generator = torch.Generator().manual_seed(0)
    covered = 0
    for _ in range(300):
        before = torch.randn(400, generator=generator, dtype=torch.float64)
        after = before + 0.3 * torch.randn(400, generator=generator, dtype=torch.float64)
        grown, (low, high) = growth(before.square(), after.square())
        covered += low <= math.sqrt(1.09) - 1 <= high
        assert low < grown < high
    assert 0.91 <= covered / 300 <= 0.98
    assert growth(torch.ones(5), torch.ones(5)) == (0.0, (0.0, 0.0))
    assert growth(torch.zeros(5), torch.ones(5))[0] == math.inf
