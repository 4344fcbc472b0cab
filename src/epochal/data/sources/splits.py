"""Recognizing splits by the names of folders: training_set, seg_test, Val, images-train, 验证集, ..."""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

# Each split, and the words for it.
_SPLITS = {
    "train": ("train", "training", "trn", "trainval", "训练", "训练集", "训练数据"),
    "valid": ("valid", "val", "validation", "validate", "dev", "devel", "development", "验证", "验证集", "验证数据"),
    "test": ("test", "testing", "tst", "eval", "evaluation", "holdout", "测试", "测试集", "测试数据"),
}
_WORDS = {word: split for split, words in _SPLITS.items() for word in words}

# Words that only say that there are pictures or sounds.
_PLAIN = (
    "set",
    "data",
    "dataset",
    "image",
    "images",
    "img",
    "imgs",
    "picture",
    "pictures",
    "photo",
    "photos",
    "split",
    "samples",
    "sounds",
    "audio",
    "wav",
    "clips",
    "recordings",
)

# Pictures without classes, which competitions provide beside the splits.
_UNLABELLED = frozenset(("pred", "predict", "prediction", "predictions", "inference", "unlabeled", "unlabelled", "submission"))


class SplitName(NamedTuple):
    """The split that a folder is named after, and whether its name says nothing else ("training_set", but not "seg_train")."""

    split: str
    is_sure: bool


def split_name(name: str) -> SplitName | None:
    """Return the split that a name means, or `None`."""
    words = [_stem(word) for word in _words(name)]
    splits = {_WORDS[word] for word in words if word in _WORDS}
    if splits == {"train", "valid"}:
        splits = {"train"}  # train_val: validation data have not been split off yet.
    if len(splits) != 1:
        return None
    return SplitName(splits.pop(), all(word in _WORDS or word in _PLAIN for word in words))


def is_unlabelled(name: str) -> bool:
    """Return whether a name says that pictures have no classes."""
    return not _UNLABELLED.isdisjoint(_words(name))


def _words(name: str) -> list[str]:
    """Return the words of a name, without digits, in lower case."""
    text = unicodedata.normalize("NFKC", name).lower()
    return re.findall(r"[^\W\d_]+", re.sub(r"h[eo]ld[\W_]*out", "holdout", text))


def _stem(word: str) -> str:
    """ "trainset" → "train"."""
    for plain in _PLAIN:
        if word.endswith(plain) and word.removesuffix(plain) in _WORDS:
            return word.removesuffix(plain)
    return word
