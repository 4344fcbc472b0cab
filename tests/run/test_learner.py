"""The head of a pre-trained model is trained on features, which its trunk computes once; the bundle has both."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

import epochal
from epochal.data.storage.cache import open_cache
from epochal.data.storage.fill import NoRoomError
from epochal.errors import ModelError, RecipeError
from epochal.models.pretrained.efficientnet import Ending
from epochal.models.pretrained.pictures import LITE0
from epochal.recipe import DEFAULT
from epochal.run.complete import Run
from epochal.run.prepare import prepare
from tests.photos import write_photos

QUICK_SETTINGS: dict[str, Any] = {"model": "efficientnet-lite0", "size": 32, "epochs": 3, "threads": 1}
QUICK: dict[str, Any] = QUICK_SETTINGS | {"quiet": True}


pytestmark = pytest.mark.usefixtures("small")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Pictures of 40x40 pixels: 12 light and 12 dark ones, each in a folder."""
    return write_photos(tmp_path / "photos", {"dark": 0, "light": 120}, 12, 40, 40, spread=120)


@pytest.fixture(autouse=True)
def _installed() -> None:
    try:
        LITE0.path()
    except ModelError as error:
        pytest.skip(str(error))


def _weights(run: Run) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in run.bundle.model.state_dict().items()}


@pytest.mark.usefixtures("whole")
def test_the_bundle_has_trunk_and_head(photos: Path, tmp_path: Path) -> None:
    run = epochal.train(photos, **(QUICK | {"epochs": 50}), out=tmp_path / "run")
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
    assert [name for name in packs.values() if name.startswith("features of train of photos")]
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
    assert whole.result["cross_validation"] is not None
    assert resumed.result["cross_validation"] == whole.result["cross_validation"]
    assert not epochal.reproduce(tmp_path / "run").divergence


@pytest.mark.usefixtures("whole")
def test_all_of_it_learns_with_the_statistics_of_a_million_pictures(photos: Path) -> None:
    frozen = _weights(epochal.train(photos, **QUICK))
    run = epochal.train(photos, **(QUICK | {"epochs": 1}), tune="all")
    changed = {name for name, tensor in _weights(run).items() if not torch.equal(tensor, frozen[name])}
    assert "net.trunk.stem.0.weight" in changed
    assert not [name for name in changed if "running" in name or "num_batches" in name]
    # The optimizer's groups: the trunk learns at a tenth of the head's rate, and at smaller ones towards the input.
    rates = [group["lr"] / run.recipe.optimizer.lr for group in run.fit.optimizer["groups"]]
    assert len(rates) > 10
    assert rates[:-1] == sorted(rates[:-1])
    assert 0.01 < rates[0] < 0.02
    assert rates[-1] == 1


def test_the_last_part_learns_on_what_those_before_make_once(photos: Path, tmp_path: Path) -> None:
    frozen = _weights(epochal.train(photos, **QUICK))
    run = epochal.train(photos, **(QUICK | {"epochs": 2, "schedule": "constant"}), tune="last", out=tmp_path / "run")
    changed = {name for name, tensor in _weights(run).items() if not torch.equal(tensor, frozen[name]) and name.startswith("net.trunk")}
    assert {name.split(".")[2] for name in changed} == {"blocks", "ending"}
    assert min(int(name.split(".")[3]) for name in changed if "blocks" in name) > 0
    assert not [name for name in changed if "running" in name or "num_batches" in name]
    assert run.data.test is not None
    assert run.test is not None
    with torch.inference_mode():
        whole = run.bundle.model(run.data.test.inputs[torch.arange(len(run.data.test))])
    torch.testing.assert_close(whole, run.test.outputs, rtol=1e-4, atol=1e-4)
    # What was computed once is not computed again.
    packs = {entry.key for entry in open_cache().entries()}
    longer = epochal.resume(tmp_path / "run", epochs=4, quiet=True)
    assert {entry.key for entry in open_cache().entries()} == packs
    assert longer is not None
    again = epochal.train(photos, **(QUICK | {"epochs": 4, "schedule": "constant"}), tune="last")
    for name, tensor in _weights(again).items():
        assert torch.equal(tensor, longer.bundle.model.state_dict()[name]), name


def test_grey_pictures_have_features_too() -> None:
    pictures = torch.cat([torch.randint(0, 100, (10, 1, 16, 16)), torch.randint(150, 256, (10, 1, 16, 16))]).to(torch.uint8)
    run = epochal.train((pictures, torch.arange(20) // 10), **(QUICK | {"size": None}))
    assert run.bundle.model.get_submodule("net.trunk") is not None


def test_other_models_have_no_trunk() -> None:
    with pytest.raises(RecipeError, match="tune = head is for pre-trained models, which vgg is not"):
        epochal.train("digits", tune="head", quiet=True)
    assert epochal.train("digits", epochs=1, quiet=True).recipe.tune == "all"


def test_a_frozen_trunk_sees_copies_that_were_changed(photos: Path) -> None:
    said: list[str] = []
    recipe = epochal.Recipe().updated(QUICK_SETTINGS | {"flip": True, "copies": 3, "valid": 0.2}, "given")
    prepared = prepare(photos, recipe, log=said.append)
    train, count = prepared.learner.data.train, len(prepared.data.train)
    assert any("with 3 changed copies of each of train" in line for line in said)
    assert len(train) == 3 * count
    inputs = train.inputs[torch.arange(3 * count)].unflatten(0, (3, count))
    # Each is mirrored in every other copy.
    assert torch.equal(inputs[0], inputs[2])
    assert not (inputs[0] == inputs[1]).all(1).any()
    assert torch.equal(train.targets, prepared.data.train.targets.repeat(3))
    assert prepared.learner.data.valid is not None
    assert prepared.data.valid is not None
    assert len(prepared.learner.data.valid) == len(prepared.data.valid)
    packs = {entry.key for entry in open_cache().entries()}
    assert epochal.train(photos, **QUICK, flip=True, copies=3, valid=0.2).test is not None
    assert {entry.key for entry in open_cache().entries()} == packs


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mixup": 0.2}, "augment.mixup and augment.cutmix do not work with tune = head"),
        ({"copies": 3}, "augment.copies asks for changed copies, but nothing"),
        ({"copies": 3, "flip": True, "tune": "all"}, "augment.copies does not work with tune = all"),
    ],
)
def test_what_a_frozen_trunk_cannot_see_is_refused(photos: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        epochal.train(photos, **QUICK, **settings)


def test_what_was_computed_before_the_disk_was_full_is_used(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = _weights(epochal.train(photos, **QUICK))
    open_cache().clear()
    monkeypatch.setenv("EPOCHAL_CACHE_SIZE", "0")
    found = _weights(epochal.train(photos, **QUICK))
    assert not open_cache().entries()
    for name, tensor in found.items():
        assert torch.equal(tensor, wanted[name]), name


def test_features_beyond_memory_are_streamed_and_refused_where_there_is_no_room(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = _weights(epochal.train(photos, **QUICK))
    streamed = _weights(epochal.train(photos, **QUICK, memory=1e-6))
    for name, tensor in streamed.items():
        assert torch.equal(tensor, wanted[name]), name
    open_cache().clear()
    monkeypatch.setenv("EPOCHAL_CACHE_SIZE", "0.000001")
    with pytest.raises(NoRoomError, match="The features of train of photos do not fit in memory, and cannot be cached"):
        epochal.train(photos, **QUICK, memory=1e-6)


def test_few_pictures_are_cross_validated_and_not_split(photos: Path, tmp_path: Path) -> None:
    run = epochal.train(photos, **QUICK, out=tmp_path / "run")
    assert run.data.valid is None
    assert (run.recipe.data.valid, run.recipe.origin("data.valid")) == (0.0, "few examples")
    assert run.recipe.origin("optimizer.weight_decay") == "cross-validation"
    assert run.result["cross_validation"]["count"] == len(run.data.train)
    # What the user asks for stays.
    asked = epochal.train(photos, **QUICK, valid=0.2, weight_decay=0.5)
    assert asked.data.valid is not None
    assert asked.recipe.optimizer.weight_decay == 0.5
    assert asked.result["cross_validation"] is None
    # A run that goes on, or is repeated, takes what was chosen.
    assert not epochal.reproduce(tmp_path / "run").divergence


def test_a_run_that_ended_while_features_were_computed_computes_the_rest(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("epochal.run.features.PIECE", 1)
    monkeypatch.setattr("epochal.run.features.AT_ONCE", 5)
    passes, most = 0, 3
    # Other tests may have computed features of the same pictures.
    open_cache().clear()

    def count(module: nn.Module, *_: object) -> None:
        nonlocal passes
        if isinstance(module, Ending):
            passes += 1
            if passes > most:
                raise KeyboardInterrupt

    recipe = epochal.Recipe().updated(QUICK_SETTINGS, "given")
    with register_module_forward_pre_hook(count):
        most = 10**6
        prepared = prepare(photos, recipe)
        whole, passes = passes, 0
        wanted = prepared.learner.data.train.inputs[torch.arange(len(prepared.data.train))]
        pieces = _pieces()
        open_cache().clear()
        most = whole - 2
        with pytest.raises(KeyboardInterrupt):
            prepare(photos, recipe)
        kept = _pieces()
        passes, most = 0, 10**6
        found = prepare(photos, recipe).learner.data.train.inputs[torch.arange(len(wanted))]
        again = passes
        passes = 0
        prepare(photos, recipe)
    assert torch.equal(found, wanted)
    assert 1 < kept < pieces
    # The last time, all was there: what passes through the trunk then finds its parts.
    assert again == passes + pieces - kept


def _pieces() -> int:
    return sum(entry.name.startswith("features of") for entry in open_cache().entries())
