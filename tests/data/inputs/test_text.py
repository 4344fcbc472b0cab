"""Texts as inputs: hashed n-grams and words, by one rule."""

import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from epochal.data.inputs.kinds import KINDS
from epochal.data.inputs.text.features import hashed_ngrams, hashed_words
from epochal.data.inputs.text.rule import TextRule
from epochal.errors import DataError, RecipeError

TEXTS = ["A good film, a good one", "这部电影很好看", "naïve café", "", "good", "x" * 3000, "ไทย ไม่มีช่องว่าง", "🙂 ok"]
BITS = 22


def ids(text: str) -> Counter[int]:
    found = hashed_ngrams([text], BITS)
    return Counter(dict(zip(found.ids.tolist(), found.counts.tolist(), strict=True)))


def rule(tokens: str = "ngrams", length: int = 40) -> TextRule:
    return TextRule(shape=(2, length) if tokens == "ngrams" else (length,), tokens=tokens)


class TestFeatures:
    def test_ngrams_are_words_runs_of_words_and_parts_of_words(self) -> None:
        assert sum(ids("a").values()) == 1 + 2 + 1  # a; ^a a$; ^a$
        assert sum(ids("film").values()) == 4 + 4 + 3 + 2  # as above; <fi fil ilm lm>; <fil film ilm>; <film film>
        assert sum(ids("a b").values()) == 2 + 3 + 2
        assert max(ids("a b a").values()) == 2
        assert sum(ids("很好看").values()) == 3 + 4 + 3
        assert sum(ids("!?").values()) == 2 + 3 + 2
        assert not ids(" \n\t")

    def test_texts_begin_and_end(self) -> None:
        assert len(set(ids("b a")) & set(ids("c b a"))) == 2 + 1 + 1 + 1  # b a; b a; a$; b a$
        assert len(set(ids("a b")) & set(ids("a b c"))) == 2 + 1 + 1 + 1  # a b; a b; ^a; ^a b

    def test_parts_are_told_apart(self) -> None:
        assert set(ids("film")) & set(ids("films")) == set(ids("film")) & set(ids("films"))
        assert len(set(ids("film")) & set(ids("films"))) == 3 + 2 + 1  # <fi fil ilm; <fil film; <film
        assert not set(ids("ab")) & set(ids("ba"))
        assert ids("good film") != ids("film good")
        assert not (set(ids("cat")) - {0}) & set(ids("dog"))

    @pytest.mark.parametrize("text", ["É", "naïve", "ÅNGSTRÖM", "각"])
    def test_spelling_and_case_do_not_matter(self, text: str) -> None:
        assert ids(unicodedata.normalize("NFD", text)) == ids(unicodedata.normalize("NFC", text).upper().lower())

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.text(max_size=60), min_size=1, max_size=8))
    def test_a_text_has_the_same_features_alone_and_among_others(self, texts: list[str]) -> None:
        for hashed in (hashed_ngrams, hashed_words):
            together = hashed(texts, BITS)
            for number, text in enumerate(texts):
                alone = hashed([text], BITS)
                assert np.array_equal(together.ids[together.texts == number], alone.ids)
                assert np.array_equal(together.counts[together.texts == number], alone.counts)

    def test_pieces_do_not_matter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = hashed_ngrams(TEXTS, BITS)
        monkeypatch.setattr("epochal.data.inputs.text.features._PIECE", 10)
        for one, other in zip(hashed_ngrams(TEXTS, BITS), whole, strict=True):
            assert np.array_equal(one, other)

    def test_of_long_texts_words_are_kept_first(self) -> None:
        words = hashed_words(["one two three four"], BITS)
        kept = hashed_ngrams(["one two three four", "five"], BITS, 4)
        assert set(kept.ids[kept.texts == 0].tolist()) == set(words.ids.tolist())

    def test_words_stay_in_order(self) -> None:
        first, second = hashed_words(["b a", "a b"], BITS).ids.reshape(2, 2).tolist()
        assert first == second[::-1]


class TestRule:
    def test_it_is_a_kind(self) -> None:
        assert KINDS["text"] is TextRule
        assert TextRule.model_validate_json(rule().model_dump_json()) == rule()

    def test_the_length_is_measured(self) -> None:
        measured = TextRule.measure([f"word{number}" for number in range(200)] + ["many " + " ".join(map(str, range(500)))], "words")
        assert measured.rule.shape == (1,)
        assert measured.cut == pytest.approx(500 / 701)
        assert TextRule.measure(["a b c", "a b"], "words").rule.shape == (3,)
        assert TextRule.measure(["", ""], "ngrams").rule.shape == (2, 1)

    @pytest.mark.parametrize("tokens", ["ngrams", "words"])
    def test_a_text_is_the_same_in_every_form(self, tmp_path: Path, tokens: str) -> None:
        (tmp_path / "a.txt").write_text(TEXTS[0], "utf-8")
        known = rule(tokens)
        whole = known.encode(TEXTS)
        assert whole.shape == (len(TEXTS), *known.shape)
        assert whole.dtype == torch.int32
        for form in (TEXTS[0], tmp_path / "a.txt", str(tmp_path / "a.txt")):
            assert torch.equal(known.read(form), whole[:1])
        measured = TextRule.measure(TEXTS, tokens)  # type: ignore[arg-type]
        assert torch.equal(measured.rule.encode(TEXTS, measured.features), measured.rule.encode(TEXTS))

    def test_what_only_one_text_has_is_unknown(self) -> None:
        known = rule("words", 3)
        learned = known.learn(known.encode(["a b", "a c", "a b d"]))
        assert learned.rows == 2 + 2
        rows = learned.preprocess()(learned.encode(["a b zebra", ""]))
        assert rows.tolist()[0][2] == 1
        assert sorted(rows.tolist()[0][:2]) == [2, 3]
        assert rows.tolist()[1] == [0, 0, 0]
        assert TextRule.model_validate_json(learned.model_dump_json()) == learned
        assert "known" not in repr(learned)

    def test_weights_are_of_norm_1_and_rare_ngrams_weigh_more(self) -> None:
        known = rule("ngrams", 20)
        learned = known.learn(known.encode(["a b", "a b", "a", "a"]))
        rows, weights = learned.preprocess()(learned.encode(["a b", ""])).unbind(1)
        assert weights.square().sum(1).tolist() == pytest.approx([1, 0])
        assert len(set(weights[0][rows[0] > 1].tolist())) == 2

    def test_descriptions_from_strangers_are_checked(self) -> None:
        packed = rule("words", 3).learn(rule("words", 3).encode(["a", "a"])).known
        for known in ("!", "AAAA", packed[:40]):
            with pytest.raises(ValidationError, match="known is"):
                TextRule(shape=(3,), tokens="words", known=known)
        with pytest.raises(ValidationError, match="known is damaged: it is incomplete, or has more than 16 bytes"):
            TextRule(shape=(3,), tokens="words", bits=4, known=packed)
        for shape, tokens in (((3,), "ngrams"), ((3, 5), "ngrams"), ((2, 5), "words"), ((100_000,), "words"), ((2, 100_000), "ngrams")):
            with pytest.raises(ValidationError):
                TextRule(shape=shape, tokens=tokens)

    def test_what_is_not_text_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"There is no file reviews\.txt"):
            rule().read("reviews.txt")
        assert rule().read("I read reviews.txt").any()
        (tmp_path / "bad.txt").write_bytes("gut\nschön".encode("cp1252"))
        with pytest.raises(DataError, match=r"bad\.txt, line 2: byte 0xF6 is not UTF-8"):
            rule().read(tmp_path / "bad.txt")
        (tmp_path / "zero.txt").write_bytes(b"a\nb\0c")
        with pytest.raises(DataError, match=r"zero\.txt, line 2: there is a zero byte"):
            rule().read(tmp_path / "zero.txt")
        (tmp_path / "wide.txt").write_text(TEXTS[1], "utf-16")
        assert torch.equal(rule().read(tmp_path / "wide.txt"), rule().encode([TEXTS[1]]))
        with pytest.raises(DataError, match="no numbers of ngrams"):
            rule().read(np.full((2, 40), 2**30))
        with pytest.raises(RecipeError, match=r"data\.mean and data\.std are not for texts"):
            rule().preprocess(mean=[1.0])
