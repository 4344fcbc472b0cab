"""Pre-trained models of texts: what they learn from a few, and that their bundles need nothing else."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import epochal
from epochal.data.storage.cache import open_cache
from epochal.errors import ModelError
from epochal.models.build import MODELS
from epochal.recipe import DEFAULT
from epochal.run.prepare import prepare

GOOD = "a good film|great acting|I loved it|wonderful and moving|a delight from start to end|brilliant|charming and funny|superb"
BAD = "a bad film|terrible acting|I hated it|dull and boring|a mess from start to end|awful|unfunny|a waste of two hours"
TEXTS = [*GOOD.split("|"), *BAD.split("|")]
DATA = {
    "train": (TEXTS, ["good"] * 8 + ["bad"] * 8),
    "test": (["really excellent", "really dreadful", "very enjoyable"], ["good", "bad", "good"]),
}
QUICK: dict[str, Any] = {"threads": 1, "quiet": True, "valid": 0.0}


pytestmark = pytest.mark.usefixtures("small")


@pytest.fixture(params=["minilm", "wordllama"])
def model(request: pytest.FixtureRequest) -> str:
    weights = MODELS[request.param].weights
    assert weights is not None
    try:
        weights.path()
    except ModelError as error:
        pytest.skip(str(error))
    return str(request.param)


def _weights(run: epochal.Run) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in run.bundle.model.state_dict().items()}


@pytest.mark.usefixtures("whole")
def test_a_few_sentences_are_enough(model: str) -> None:
    run = epochal.train(DATA, model=model, **QUICK)
    assert (run.recipe.tune, run.recipe.origin("tune")) == ("head", "model")
    assert run.recipe.origin("optimizer.lr") == "model"
    assert run.recipe.origin("clip_norm") == DEFAULT
    assert run.test is not None
    assert run.test.scores.accuracy == 1.0


@pytest.mark.usefixtures("whole")
def test_a_bundle_needs_no_package(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = epochal.train(DATA, model=model, **QUICK, out=tmp_path / "run")
    expected = run.predict("really excellent")
    assert {file.name for file in (tmp_path / "run" / "model").iterdir()} == {"model.safetensors", "bundle.json"}
    monkeypatch.setattr("sys.path", [path for path in sys.path if "site-packages" not in path])
    bundle = epochal.Bundle.load(tmp_path / "run")
    assert bundle.predict("really excellent")[0].probability == expected[0].probability
    assert bundle.evaluate(DATA).scores.accuracy == 1.0
    with pytest.raises(ModelError, match="which is not installed"):
        epochal.train(DATA, model=model, **QUICK)


def test_features_are_functions_of_the_text(model: str) -> None:
    recipe = epochal.Recipe().updated({"model": model, "device": "cpu"}, "given")
    prepared = prepare(DATA, recipe)
    layers = prepared.bundle.model.eval()
    trunk = nn.Sequential(layers.get_submodule("preprocess"), layers.get_submodule("net.trunk"))
    features = prepared.learner.data.train.inputs[torch.arange(len(prepared.data.train))]
    with torch.inference_mode():
        for place, expected in enumerate(features):
            alone = prepared.data.train.inputs[torch.tensor([place])]
            wide = torch.nn.functional.pad(alone, (0, 40))
            torch.testing.assert_close(trunk(alone)[0], expected, rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(trunk(wide)[0], expected, rtol=1e-5, atol=1e-6)


def test_features_are_computed_once(model: str) -> None:
    epochal.train(DATA, model=model, **QUICK)
    packs = {entry.key for entry in open_cache().entries() if "features of" in entry.name}
    assert packs
    epochal.train(DATA, model=model, **QUICK, lr=0.5)
    assert {entry.key for entry in open_cache().entries() if "features of" in entry.name} == packs


def test_resumed_and_reproduced_to_the_bit(model: str, tmp_path: Path) -> None:
    quick = QUICK | {"schedule": "constant", "model": model}
    data = tmp_path / "texts.tsv"
    data.write_text("text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in zip(*DATA["train"], strict=True)))
    table: dict[str, Any] = {"text": "text", "target": "label"}
    whole = epochal.train(data, **quick, **table, epochs=4)
    epochal.train(data, **quick, **table, epochs=2, out=tmp_path / "run")
    open_cache().clear()
    resumed = epochal.resume(tmp_path / "run", epochs=4, quiet=True)
    assert resumed is not None
    for name, tensor in _weights(whole).items():
        assert torch.equal(tensor, resumed.bundle.model.state_dict()[name]), name
    assert not epochal.reproduce(tmp_path / "run").divergence


def test_all_of_it_learns(model: str) -> None:
    frozen = _weights(epochal.train(DATA, model=model, **QUICK, epochs=1))
    run = epochal.train(DATA, model=model, **QUICK, epochs=1, tune="all")
    assert run.recipe.optimizer.name == "adamw"
    changed = {name for name, tensor in _weights(run).items() if not torch.equal(tensor, frozen[name])}
    assert "net.trunk.pieces.weight" in changed
    assert {group["lr"] for group in run.fit.optimizer["groups"]} == {run.recipe.optimizer.lr, 0.1 * run.recipe.optimizer.lr}


def test_what_is_trained_depends_on_examples_and_cost(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    recipe = epochal.Recipe().updated({"model": model, "epochs": 1, "device": "cpu"}, "given")
    assert prepare(DATA, recipe, log=said.append).recipe.tune == "head"
    assert [line for line in said if line.startswith("note: tune = head, for 16 examples: the trunk stays as it is")]
    # With as many examples as are enough, and an hour to go.
    monkeypatch.setitem(MODELS, model, MODELS[model]._replace(enough=10))
    prepared = prepare(DATA, recipe, log=said.append)
    assert (prepared.recipe.tune, prepared.recipe.optimizer.name) == ("all", "adamw")
    assert [line for line in said if line.startswith("note: tune = all, for 16 examples: the trunk is trained, too")]
    long = prepare(DATA, recipe.updated({"epochs": 10_000_000}, "given"), log=said.append)
    assert (long.recipe.tune, long.recipe.optimizer.name) == ("head", "sgd")
    assert [line for line in said if line.startswith("note: tune = head: the trunk stays as it is; tune = ")]


def test_the_model_dictates_its_tokens(model: str) -> None:
    with pytest.raises(ModelError, match="works with tokens = .*; these data are ngrams"):
        epochal.train(DATA, model=model, **QUICK, tokens="ngrams")
    assert epochal.train(DATA, model=model, **QUICK, epochs=1).data.spec.input.model_dump()["tokens"] in ("wordpiece", "bpe")


def test_a_frozen_trunk_sees_copies_with_words_left_out(model: str) -> None:
    recipe = epochal.Recipe().updated({"model": model, "epochs": 1, "device": "cpu", "word_dropout": 0.5, "copies": 2}, "given")
    prepared = prepare(DATA, recipe)
    first, second = prepared.learner.data.train.inputs[torch.arange(32)].chunk(2)
    assert len(prepared.data.train) == 16
    assert not torch.equal(first, second)
