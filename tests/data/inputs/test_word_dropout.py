"""Words left out of training texts are a function of seed, epoch and position, whatever the batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from epochal import load, train
from epochal.data.inputs.base import Augment
from epochal.data.inputs.text.rule import TextRule
from epochal.errors import RecipeError
from epochal.recipe import AugmentSettings

TEXTS = [" ".join(f"w{number}" for number in range(count)) for count in (0, 1, 5, 20, 30, 30)]
PLACES = torch.arange(len(TEXTS))


def rule(tokens: str) -> TextRule:
    return TextRule(shape=(2, 40) if tokens == "ngrams" else (40,), tokens=tokens)


def dropout(tokens: str, probability: float = 0.3, seed: int = 7) -> tuple[Augment, Tensor]:
    change = rule(tokens).augment(AugmentSettings(word_dropout=probability), seed)
    assert change is not None
    return change, rule(tokens).encode(TEXTS)


@pytest.mark.parametrize("tokens", ["ngrams", "words"])
def test_neither_batch_nor_order_matters(tokens: str) -> None:
    change, texts = dropout(tokens)
    whole = change(texts, PLACES, 3)
    assert (whole.dtype, whole.shape) == (torch.int32, texts.shape)
    assert not whole.equal(change(texts, PLACES, 4))
    assert not whole[4].equal(whole[5])
    for some in (PLACES.flip(0), PLACES[3:4], PLACES[2:5]):
        assert change(texts[some], some, 3).equal(whole[some])


def test_what_is_left_keeps_its_order_and_is_followed_by_padding() -> None:
    change, texts = dropout("words")
    lengths = []
    for epoch in range(50):
        for old, new in zip(texts.tolist(), change(texts, PLACES, epoch).tolist(), strict=True):
            words, left = [[word for word in row if word] for row in (old, new)]
            assert new == left + [0] * (40 - len(left))
            assert left == [word for word in words if word in left]
            assert bool(left) == bool(words)
        lengths.append(len(left))
    assert 19 < sum(lengths) / 50 < 23
    counts, _ = dropout("ngrams")
    ids, numbers = counts(rule("ngrams").encode(["a b a b a"] * 20), torch.arange(20), 0).unbind(1)
    assert (ids > 0).equal(numbers > 0)
    assert len((ids > 0).sum(1).unique()) > 1


def test_it_is_a_setting() -> None:
    assert rule("words").augment(AugmentSettings(), 0) is None
    settings: dict[str, Any] = {"epochs": 1, "device": "cpu", "quiet": True}
    data = load((TEXTS[1:] * 6, [0, 1, 0, 1, 0] * 6))
    assert train(data, word_dropout=0.2, **settings).test is not None
    with pytest.raises(RecipeError, match=r"augment\.word_dropout is for texts; these data have shape \(1, 8, 8\)\.\nLeave it out"):
        train("digits", word_dropout=0.1, **settings)
    with pytest.raises(RecipeError, match=r"augment\.shift and augment\.flip are for pictures"):
        train(data, flip=True, **settings)
