"""The head of a pre-trained model is trained on features, which its trunk computes once; the bundle has both."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import epochal
from epochal.data.storage.cache import open_cache
from epochal.errors import ModelError, RecipeError
from epochal.models.pretrained.pictures import LITE0
from epochal.recipe import DEFAULT
from epochal.run.train import Run

QUICK: dict[str, Any] = {"model": "efficientnet-lite0", "size": 32, "epochs": 3, "threads": 1, "quiet": True}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Pictures of 40x40 pixels: 12 light and 12 dark ones, each in a folder."""
    generator = np.random.default_rng(0)
    for name, low in (("dark", 0), ("light", 120)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(12):
            pixels = generator.integers(low, low + 120, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


@pytest.fixture(autouse=True)
def _installed() -> None:
    try:
        LITE0.path()
    except ModelError as error:
        pytest.skip(str(error))


def _weights(run: Run) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in run.bundle.model.state_dict().items()}


def test_the_bundle_has_trunk_and_head(photos: Path, tmp_path: Path) -> None:
    run = epochal.train(photos, **QUICK, out=tmp_path / "run")
    assert (run.recipe.tune, run.recipe.origin("tune")) == ("head", "model")
    assert run.recipe.origin("optimizer.lr") == "model"
    assert run.recipe.origin("clip_norm") == DEFAULT
    assert run.test is not None
    assert run.test.scores.accuracy == 1.0
    assert run.data.test is not None
    again = epochal.Bundle.load(tmp_path / "run").evaluate(photos, include_training=True)
    assert again.scores.accuracy == 1.0
    # The whole model gives what the head gave on the trunk's features.
    with torch.inference_mode():
        whole = run.bundle.model(run.data.test.inputs[torch.arange(len(run.data.test))])
    torch.testing.assert_close(whole, run.test.outputs, rtol=1e-4, atol=1e-4)


def test_features_are_computed_once(photos: Path) -> None:
    first = epochal.train(photos, **QUICK)
    packs = {entry.key: entry.name for entry in open_cache().entries()}
    assert [name for name in packs.values() if name.startswith("photos, features of train")]
    second = epochal.train(photos, **(QUICK | {"epochs": 2, "lr": 0.5}))
    assert {entry.key for entry in open_cache().entries()} == packs.keys()
    for name, tensor in _weights(first).items():
        assert torch.equal(tensor, second.bundle.model.state_dict()[name]) != name.startswith("net.head.linear")


def test_resumed_and_reproduced_to_the_bit(photos: Path, tmp_path: Path) -> None:
    whole = epochal.train(photos, **(QUICK | {"epochs": 4, "schedule": "constant"}))
    epochal.train(photos, **(QUICK | {"epochs": 2, "schedule": "constant"}), out=tmp_path / "run")
    open_cache().clear()
    resumed = epochal.resume(tmp_path / "run", epochs=4, quiet=True)
    assert resumed is not None
    for name, tensor in _weights(whole).items():
        assert torch.equal(tensor, resumed.bundle.model.state_dict()[name]), name
    assert not epochal.reproduce(tmp_path / "run").divergence


def test_all_of_it_learns_with_the_statistics_of_a_million_pictures(photos: Path) -> None:
    frozen = _weights(epochal.train(photos, **QUICK))
    run = epochal.train(photos, **(QUICK | {"epochs": 1}), tune="all")
    changed = {name for name, tensor in _weights(run).items() if not torch.equal(tensor, frozen[name])}
    assert "net.trunk.stem.0.weight" in changed
    assert not [name for name in changed if "running" in name or "num_batches" in name]
    # The optimizer's groups: the trunk learns at a tenth of the rate.
    assert {group["lr"] for group in run.fit.optimizer["groups"]} == {run.recipe.optimizer.lr, 0.1 * run.recipe.optimizer.lr}


def test_grey_pictures_have_features_too() -> None:
    pictures = torch.cat([torch.randint(0, 100, (10, 1, 16, 16)), torch.randint(150, 256, (10, 1, 16, 16))]).to(torch.uint8)
    run = epochal.train((pictures, torch.arange(20) // 10), **(QUICK | {"size": None}))
    assert run.bundle.model.get_submodule("net.trunk") is not None


def test_other_models_have_no_trunk() -> None:
    with pytest.raises(RecipeError, match="tune = head is for pre-trained models, which vgg is not"):
        epochal.train("digits", tune="head", quiet=True)
    assert epochal.train("digits", epochs=1, quiet=True).recipe.tune == "all"


def test_augmentation_does_not_reach_a_head(photos: Path) -> None:
    with pytest.raises(RecipeError, match=r"augment\.flip does not work with tune = head"):
        epochal.train(photos, **QUICK, flip=True)
