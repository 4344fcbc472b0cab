"""Exported files say what the model says, or are not written.

EPOCHAL_EXPORT=full .venv/bin/python -m pytest tests/exports        every model and format, not a few
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from epochal import Bundle, load, train
from epochal import export as export_run
from epochal.errors import BundleError, DataError, ExportError, OutputError, TakenError
from epochal.exports import onnx_file
from epochal.exports.export import FORMATS, export
from epochal.exports.parity import SIZES
from epochal.models.build import MODELS
from tests.data.test_table import people
from tests.test_same_answers import LABELS, SETTINGS, SOUNDS, TEXTS

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

pytestmark = pytest.mark.usefixtures("exporting")

IS_FULL = os.environ.get("EPOCHAL_EXPORT") == "full"

# Those that need a size of their own, and ten classes.
_SIZES = {"tutorial-cnn": 28, "tutorial-small-cnn": 28, "tutorial-simple": 28, "tutorial-mlp": 28, "tutorial-cifar": 32}
# What is exported where not all are; tests/cli/test_export.py and test_script.py have others.
_SOME = {
    "pictures": ("conv",),
    "texts": ("gru",),
    "windows": ("conv",),
}


def _pictures(name: str) -> Any:
    size = _SIZES.get(name, 12)
    channels = 3 if name == "tutorial-cifar" else 1
    random = np.random.default_rng(0)
    pixels = [random.integers(0, 256, (size, size, channels), dtype=np.uint8).squeeze() for _ in range(30)]
    return pixels, [place % 10 for place in range(30)] if name in _SIZES else LABELS


def _data(kind: str, name: str) -> Any:
    if kind == "pictures":
        return _pictures(name)
    if kind == "texts":
        return TEXTS, LABELS
    if kind == "table":
        return load(people(60), target="income")
    if kind == "quantities":
        return load({**people(60), "income": [float(number) for number in range(60)]}, target="income")
    if kind == "numbers":
        return torch.randn(30, 5, generator=torch.Generator().manual_seed(0)), LABELS
    return load(([(sound, 8000) for sound in SOUNDS], LABELS), input="sound", seconds=0.1, windows=3 if kind == "windows" else 1)


def _cases() -> list[tuple[str, str]]:
    kinds = {
        "pictures": "picture",
        "texts": "text",
        "sounds": "sound",
        "windows": "sound",
        "table": "table",
        "numbers": "",
        "quantities": "table",
    }
    listed = [name for name, entry in MODELS.items() if entry.weights is None]
    cases = [(kind, name) for kind, wanted in kinds.items() for name in listed if MODELS[name].kind in (None, wanted)]
    # The numbers of words are no quantities, which these take.
    cases = [case for case in cases if case not in (("texts", "linear"), ("texts", "mlp"))]
    cases += [(kind, "conv") for kind in ("sounds", "windows")]
    return cases if IS_FULL else [(kind, name) for kind, name in cases if name in _SOME.get(kind, ())]


@pytest.mark.parametrize("to", FORMATS if IS_FULL else ["onnx"])
@pytest.mark.parametrize(("kind", "name"), _cases())
def test_every_model_says_the_same(kind: str, name: str, to: str, tmp_path: Path) -> None:
    run = train(_data(kind, name), model=name, **SETTINGS)
    data = run.data.train.inputs
    found = export(run.bundle, to, tmp_path / "out", data)
    assert [row.batch for row in found.parity] == list(SIZES)
    assert all(row.examples == row.agree >= row.batch for row in found.parity)
    assert max(row.difference for row in found.parity) <= 1e-5
    assert found.path.stat().st_size == found.size


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    train("digits", model="linear", epochs=1, quiet=True, device="cpu", threads=1, out=folder)
    return folder


@pytest.fixture(scope="module")
def as_onnx(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_run(run, out=tmp_path_factory.mktemp("onnx") / "model.onnx").path


@pytest.mark.parametrize("to", FORMATS)
def test_a_run_is_exported_with_what_is_known_about_it(to: str, run: Path) -> None:
    found = export_run(run, to)
    bundle = Bundle.load(run)
    # All test examples are compared, each once.
    assert sum(row.examples for row in found.parity) == bundle.spec.counts["test"]
    assert found.path == run / "export" / f"model{FORMATS[to].suffix}"
    kept = json.loads((run / "export" / f"{found.path.name}.parity.json").read_text())
    assert [row["agree"] for row in kept["parity"]] == [row.agree for row in found.parity]
    with pytest.raises(TakenError):
        export_run(run, to)


def test_onnx_says_what_it_is(run: Path, as_onnx: Path) -> None:
    import onnx

    model = onnx.load(as_onnx)
    about = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert about["classes"] == list("0123456789")
    assert about["settings"]["epochs"] == 1
    assert about["metrics"]["accuracy"] == json.loads((run / "result.json").read_text())["test"]["accuracy"]
    assert about["data"]["fingerprint"] == Bundle.load(run).spec.fingerprint
    assert about["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert about["input"]["kind"] == "picture"
    assert [entry.name for entry in (*model.graph.input, *model.graph.output)] == ["input", "probabilities"]
    size = model.graph.input[0].type.tensor_type.shape.dim[0]
    assert size.dim_param
    assert not size.dim_value


class Halved(nn.Module):
    """A layer that loses something when it is exported."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs

    def exportable(self) -> nn.Module:
        return nn.Softshrink(0.5)


@pytest.mark.parametrize("to", ["onnx", "torch-export"])
def test_preprocessing_that_is_lost_makes_the_export_fail(to: str, tmp_path: Path) -> None:
    inputs = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
    bundle = train((inputs, LABELS), model=nn.Sequential(Halved(), nn.Linear(5, 2)), **SETTINGS).bundle
    with pytest.raises(ExportError, match="disagrees about example 0, in a batch of 1"):
        export(bundle, to, tmp_path / "model", inputs)
    assert not list(tmp_path.iterdir())


class Branches(nn.Module):
    """A network that decides by its values, which no recording does."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.layer(inputs if inputs.sum() > 0 else -inputs)
        return outputs


def test_what_cannot_be_exported_is_said(tmp_path: Path) -> None:
    inputs = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
    bundle = train((inputs, LABELS), model=Branches(), **SETTINGS).bundle
    with pytest.raises(ExportError, match="cannot be exported"):
        export(bundle, "onnx", tmp_path / "model", inputs)
    assert not list(tmp_path.iterdir())


def test_a_file_of_weights_is_a_bundle(run: Path, tmp_path: Path) -> None:
    file = export_run(run, "safetensors", tmp_path / "weights.safetensors").path
    bundle, found = Bundle.load(run), Bundle.load(file)
    pictures = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8)
    assert torch.equal(found.values(pictures), bundle.values(pictures))
    assert found.spec == bundle.spec
    # Others read it as weights.
    weights = load_file(file)
    assert all(torch.equal(weights[name], tensor) for name, tensor in bundle.model.state_dict().items())
    assert Bundle.load(found.save(tmp_path / "again")).fingerprint() == bundle.fingerprint()
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    with pytest.raises(BundleError, match="its content has changed since it was saved"):
        Bundle.load(file)
    file.write_bytes(content[:-1])
    with pytest.raises(BundleError, match="bytes instead of"):
        Bundle.load(file)
    save_file(weights, file)
    with pytest.raises(BundleError, match="does not describe an Epochal bundle"):
        Bundle.load(file)


class Own(nn.Module):
    """A network of the user's own."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.layer(inputs)
        return outputs


def test_weights_of_ones_own_network_are_loaded_into_it(tmp_path: Path) -> None:
    inputs = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
    bundle = train((inputs, LABELS), model=Own(), **SETTINGS).bundle
    file = export(bundle, "safetensors", tmp_path / "model.safetensors", inputs).path
    with pytest.raises(BundleError, match="not its code"):
        Bundle.load(file)
    assert torch.equal(Bundle.load(file, Own()).values(inputs), bundle.values(inputs))
    own = Own()
    own.load_state_dict({name.removeprefix("net."): tensor for name, tensor in load_file(file).items() if name.startswith("net.")})
    assert torch.equal(own.layer.weight, bundle.model.get_parameter("net.layer.weight"))


def test_weights_in_other_files_are_refused(as_onnx: Path, tmp_path: Path) -> None:
    import onnx

    model = onnx.load(as_onnx)
    onnx.save_model(model, tmp_path / "two.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    with pytest.raises(ExportError, match="other files"):
        onnx_file.decode((tmp_path / "two.onnx").read_bytes())


def test_other_examples_and_missing_ones(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "inputs.npy"
    np.save(file, np.zeros((3, 8, 8), np.uint8))
    found = export_run(run, "safetensors", tmp_path / "model", examples=[file])
    assert found.parity[-1].examples == 64
    with pytest.raises(OutputError, match="--out"):
        export_run(run / "model")
    with pytest.raises(DataError, match="without its run"):
        export_run(run / "model", out=tmp_path / "other")
    with pytest.raises(ExportError, match="no format 'tflite'"):
        export_run(run, "tflite")
