"""A third kind of inputs, made here alone: sequences of word numbers. Nothing else knows of it, and all that a model is for works."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from epochal import Bundle, check, load, reproduce, resume, train
from epochal.bundle import DESCRIPTION
from epochal.data.inputs.base import InputRule, Items
from epochal.data.inputs.kinds import KINDS
from epochal.data.inputs.values import Inputs, in_memory
from epochal.errors import BundleError, DataError, ModelError, RecipeError
from epochal.run.evaluate import evaluate_run
from tests.outcome import outcome
from tests.small import Items as Dataset

WORDS = ("", "good", "fine", "bad", "poor", "it", "was", "very", "not")


class TokensRule(InputRule):
    """Sequences of numbers of words, padded with 0; a file or a text is its words."""

    noun: ClassVar[str] = "text"
    is_distinct: ClassVar[bool] = True

    kind: Literal["tokens"] = "tokens"
    dtype: Literal["int32"] = "int32"
    length: int = 0

    @classmethod
    def choose(cls, sample: Tensor, split: str, notes: list[str]) -> Self:
        notes.append(f"texts of {split} have up to {sample.shape[1]} words")
        return cls(shape=tuple(sample.shape[1:]))

    @property
    def default_model(self) -> str:
        return "bag-of-words"

    @property
    def sample(self) -> tuple[str, ...]:
        return ("text.txt",)

    def learn(self, inputs: Inputs) -> Self:
        some = inputs[torch.arange(len(inputs))]
        return self.model_copy(update={"length": int((some > 0).sum(1).max())})

    def cast(self, inputs: Tensor, given: str, asked: str) -> Tensor:
        if inputs.is_floating_point() or int(inputs.max()) >= len(WORDS) or int(inputs.min()) < 0:
            raise DataError(f"{given} no numbers of words; {asked} up to {len(WORDS) - 1}.", "Number the words.")
        return inputs.int()

    def preprocess(self, mean: Sequence[float] | None = None, std: Sequence[float] | None = None) -> nn.Module:
        if mean is not None or std is not None:
            raise RecipeError("The settings data.mean and data.std are not for texts.", "Leave them out.")
        return nn.Identity()

    def accept(self, item: Any) -> Tensor:
        if isinstance(item, Path):
            item = item.read_text()
        if isinstance(item, str):
            numbers = [WORDS.index(word) for word in item.split()]
            item = numbers + [0] * (self.shape[0] - len(numbers))
        return super().accept(item)

    def items(self, item: Any) -> Items:
        return Items(sorted(item.glob("*.txt"))) if isinstance(item, Path) and item.is_dir() else Items([item])


class BagOfWords(nn.Module):
    """The mean of what is learned of each word."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(len(WORDS), 8, padding_idx=0)
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(8, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.drop(self.words(tokens).sum(1) / (tokens > 0).sum(1, keepdim=True)))
        return outputs


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "tokens", TokensRule)


def texts() -> tuple[Tensor, list[str]]:
    """Texts of 3 to 6 words, one of which says whether they are kind: int32 [200, 6]."""
    random = torch.Generator().manual_seed(0)
    tokens = torch.randint(5, len(WORDS), (200, 6), generator=random).int()
    tokens[torch.arange(6) >= torch.randint(3, 7, (200, 1), generator=random)] = 0
    kind = torch.arange(200) % 2
    tokens[:, 1] = (kind * 2 + 1 + torch.randint(2, (200,), generator=random)).int()
    return tokens, [("kind", "harsh")[number] for number in kind.tolist()]


def net() -> BagOfWords:
    torch.manual_seed(1)
    return BagOfWords()


SETTINGS: dict[str, Any] = {"epochs": 4, "batch_size": 16, "lr": 0.05, "threads": 1, "device": "cpu", "quiet": True}


def test_it_loads_from_memory_and_from_files_and_streams(tmp_path: Path) -> None:
    tokens, labels = texts()
    data = load((tokens, labels), input="tokens")
    assert data.notes == ("texts of train have up to 6 words",)
    assert data.spec.describe() == "arrays: 6 int32, 2 classes; 200 train"
    assert data.spec.input == TokensRule(shape=(6,), length=6)
    assert type(data.spec).model_validate_json(data.spec.model_dump_json()) == data.spec
    wide = load((tokens.long(), labels), input=TokensRule(shape=(6,)))
    values = in_memory(wide.train.inputs)
    assert values is not None
    assert values.dtype == torch.int32
    np.savez(tmp_path / "texts.npz", x=tokens.numpy(), y=[("harsh", "kind").index(label) for label in labels])
    assert load(tmp_path / "texts.npz", input="tokens").train.input(3).equal(tokens[3])
    streamed = load(Dataset([*zip(tokens, labels, strict=True)]), input="tokens", memory=1e-9)
    assert in_memory(streamed.train.inputs) is None
    assert streamed.train.input(3).equal(tokens[3])
    assert streamed.spec.input == data.spec.input
    with pytest.raises(DataError, match="Inputs of train are no numbers of words; those of train are up to 8"):
        load((tokens + 5, labels), input="tokens")
    with pytest.raises(DataError, match=r"Unknown kind of input 'tokes'\.\nDid you mean 'tokens'"):
        load((tokens, labels), input="tokes")


def test_it_is_checked() -> None:
    tokens, labels = texts()
    found = check(load({"train": (tokens, labels), "test": (tokens[:9], labels[:9])}, input="tokens"))
    assert "error: 9 texts are in both train and test" in str(found)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(KINDS, "tokens", TokensRule)
        run = train(load(texts(), input="tokens"), model=net(), out=tmp_path_factory.mktemp("whole") / "run", **SETTINGS)
        assert run.test is not None
        assert run.test.accuracy is not None
        assert run.test.accuracy > 0.9
        yield run.folder  # type: ignore[misc]


def test_it_predicts_what_a_program_holds_texts_files_and_folders(whole: Path, tmp_path: Path) -> None:
    bundle = Bundle.load(whole, net())
    assert [one.label for one in bundle.predict(["it good was very", "it fine", "was poor not"])] == ["kind", "kind", "harsh"]
    (tmp_path / "b.txt").write_text("it poor was")
    (tmp_path / "a.txt").write_text("very good it")
    found = bundle.predict(tmp_path)
    assert [(Path(name).name, one.label) for name, one in zip(found.names, found, strict=True)] == [("a.txt", "kind"), ("b.txt", "harsh")]
    tokens = [[5, 1, 7, 6, 0, 0], [5, 4, 6, 0, 0, 0]]
    for what in (np.array(tokens), torch.tensor(tokens)):
        assert [one.label for one in bundle.predict(what)] == ["kind", "harsh"]
    with pytest.raises(DataError, match="This model takes inputs of shape"):
        bundle.predict(np.zeros((2, 7), int))
    with pytest.raises(DataError, match="The inputs are no numbers of words"):
        bundle.predict(np.full((1, 6), 99))


def test_it_is_kept_and_needs_its_kind(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = Bundle.load(whole, net())
    saved = bundle.save(tmp_path / "model")
    assert json.loads((saved / DESCRIPTION).read_text())["data"]["input"] == {
        "kind": "tokens", "shape": [6], "dtype": "int32", "length": 6,
    }  # fmt: skip
    again = Bundle.load(saved, net())
    assert again.spec == bundle.spec
    assert again.summary().to_json() == bundle.summary().to_json()
    monkeypatch.delitem(KINDS, "tokens")
    with pytest.raises(BundleError, match="the kind 'tokens' is not one of numbers, picture"):
        Bundle.load(saved, net())


def test_it_is_evaluated_without_what_was_trained_on(whole: Path) -> None:
    tokens, labels = texts()
    bundle = Bundle.load(whole, net())
    assert bundle.seen is not None
    with pytest.raises(DataError, match="were used in training"):
        bundle.evaluate((tokens[bundle_places(whole)], [labels[place] for place in bundle_places(whole)]))
    assert evaluate_run(whole, load((tokens, labels), input="tokens"), model=net(), include_training=True).count == 200


def bundle_places(whole: Path) -> list[int]:
    """Examples that no other split took."""
    split = json.loads((whole / "data.json").read_text())["split"]
    taken = {place for part in ("valid", "test") for place in split[part]["positions"]}
    return [place for place in range(200) if place not in taken][:40]


class _StopError(BaseException):
    """Like Ctrl-C without a handler."""


def test_it_resumes_to_the_bit(whole: Path, tmp_path: Path) -> None:
    def stop(record: Any) -> None:
        if type(record).__name__ == "EpochDone" and record.epoch == 2:
            raise _StopError

    data = load(texts(), input="tokens")
    with pytest.raises(_StopError):
        train(data, model=net(), out=tmp_path / "run", watchers=[stop], checkpoint_every=1e-9, **SETTINGS)
    resumed = resume(tmp_path / "run", data=texts(), model=net(), quiet=True)
    assert resumed is not None
    assert resumed.data.spec.input == data.spec.input
    assert outcome(tmp_path / "run")["weights"] == outcome(whole)["weights"]


def test_it_comes_out_the_same(whole: Path) -> None:
    found = reproduce(whole, data=texts(), model=net())
    assert (found.epochs, found.divergence) == (4, "")


def test_what_is_for_others_is_refused() -> None:
    data = load(texts(), input="tokens")
    with pytest.raises(RecipeError, match="The settings augment.shift and augment.flip are for pictures; these data have shape"):
        train(data, model=net(), shift=2, **SETTINGS)
    with pytest.raises(RecipeError, match="The settings augment.mixup and augment.cutmix are for pictures"):
        train(data, model=net(), mixup=0.2, **SETTINGS)
    with pytest.raises(RecipeError, match=r"data\.mean and data\.std are not for texts"):
        train(data, model=net(), mean=0.5, **SETTINGS)
    with pytest.raises(ModelError, match="The model conv is for pictures"):
        train(data, model="conv", **SETTINGS)
    with pytest.raises(ModelError, match="Unknown model 'bag-of-words'"):
        train(data, **SETTINGS)
