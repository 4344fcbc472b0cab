"""Texts with labels: a folder of .txt files for each class, columns of a table, or lists of strings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from epochal.data.examples import Found, Part, address
from epochal.data.exclude import Exclusion
from epochal.data.inputs.picture.decoding import raise_all
from epochal.data.inputs.text.features import Features
from epochal.data.inputs.text.read import read_text
from epochal.data.inputs.text.rule import TextRule
from epochal.data.inputs.values import subset
from epochal.data.options import ReadOptions
from epochal.data.sources.layout import list_for, unused
from epochal.data.storage.cache import content_hash
from epochal.data.storage.fill import fill, numbered
from epochal.data.storage.kept import kept
from epochal.data.walk import TEXTS
from epochal.errors import DataError
from epochal.progress import progress


@dataclass(frozen=True)
class Texts:
    """The texts of a split, their raw targets, and if they have any their names, a file or a file and a line, their groups
    and attributes."""

    texts: Sequence[str]
    targets: Tensor | Sequence[str]
    names: Sequence[str] | None = None
    groups: Sequence[str] | None = None
    attributes: Tensor | None = None

    def take(self, kept: Sequence[int]) -> Texts:
        """Return some of the texts."""
        targets = self.targets[kept] if isinstance(self.targets, Tensor) else [self.targets[place] for place in kept]
        names, groups = (None if values is None else [values[place] for place in kept] for values in (self.names, self.groups))
        attributes = None if self.attributes is None else self.attributes[kept]
        return Texts([self.texts[place] for place in kept], targets, names, groups, attributes)

    def without(self, exclusion: Exclusion, split: str) -> Texts:
        """Return the texts without some, by their names."""
        kept = [place for place in range(len(self.texts)) if self.name(split, place) not in exclusion.names]
        exclusion.check_remaining(len(kept), split)
        return self.take(kept)

    def name(self, split: str, place: int) -> str:
        """Return the name of a text for messages."""
        return address(split, place) if self.names is None else self.names[place]


def read_folder(path: Path, options: ReadOptions) -> Found:
    """Read a folder of .txt files, one folder for each class (see `layout`). Raises `DataError`."""
    listed = list_for(path, options, TEXTS)
    files = {split: listed.files(split) for split in listed.splits}
    everything = [file for split in files.values() for file in split]

    def read() -> Found:
        texts = read_texts(path, everything)
        parts = {split: Texts([texts[file] for file in names], listed.targets(split), names) for split, names in files.items()}
        return found_texts(path.resolve().name, parts, options, listed.classes, list(unused(listed)))

    return kept(path, files, options, read)


def found_texts(
    name: str, parts: Mapping[str, Texts], options: ReadOptions, classes: tuple[str, ...] | None = None, notes: Sequence[str] = ()
) -> Found:
    """Turn texts into inputs by the rule of a model, of the user, or one chosen for the training texts."""
    known = options.input if options.like is None else options.like.input
    if known is not None and not isinstance(known, TextRule) and known != "text":
        kind = known if isinstance(known, str) else known.kind
        raise DataError(
            f"{name} has texts, which are not read as {kind}.",
            "Leave input out." if options.like is None else "Give data of that kind.",
        )
    said, features = list(notes), None
    if isinstance(known, TextRule):
        rule = known
    else:
        rule, features, cut = TextRule.measure(parts["train"].texts, options.tokens or "ngrams", options.vocabulary)
        if cut:
            what = {"ngrams": "n-grams", "words": "words"}.get(rule.tokens, "pieces of words")
            share = f"{100 * cut:.2g} % of all {what} of train"
            said.append(f"of each text, up to {rule.length:,} {what} are used: {share} are cut off")
    count = sum(len(part.texts) for part in parts.values())
    inputs = fill(numbered(_encoded(parts, rule, features)), (count, *rule.shape), torch.int32, options.memory, name)
    found, begin = {}, 0
    for split, part in parts.items():
        empty = [place for place, text in enumerate(part.texts) if not text.strip()]
        if empty:
            first = part.name(split, empty[0])
            many = f"{len(empty):,} texts are empty in {split}: {first}, ..."
            said.append(many if len(empty) > 1 else f"1 text is empty in {split}: {first}")
        hashes = np.array([content_hash(rule.content(text)) for text in part.texts], "S16")
        own = subset(inputs, slice(begin, begin + len(part.texts)))
        begin += len(part.texts)
        digest = content_hash(rule.key, hashes.tobytes())
        found[split] = Part(own, part.targets, part.names, digest, hashes, texts=part.texts, groups=part.groups, attributes=part.attributes)
    return Found(name, found, classes=classes, input=rule, notes=tuple(said))


def _encoded(parts: Mapping[str, Texts], rule: TextRule, features: Features | None) -> Iterator[NDArray[np.int32]]:
    """Yield the inputs of all splits, in order; `features` are those of all training texts, if they are known."""
    for split, part in parts.items():
        if split == "train" and features is not None:
            yield rule.encode(part.texts, features).numpy()
            continue
        for begin in range(0, len(part.texts), rule.at_once):
            yield rule.encode(part.texts[begin : begin + rule.at_once]).numpy()


def as_texts(values: Any, where: str) -> list[str] | None:
    """Return strings in a list, an array or a column of a data frame; `None` if it has others. Raises `DataError` for a mixture."""
    if isinstance(values, str | bytes | Tensor | Mapping) or not (hasattr(values, "__iter__") and hasattr(values, "__len__")):
        return None
    kind = getattr(getattr(values, "dtype", None), "kind", "O")
    if kind not in "OUT" or getattr(values, "ndim", 1) != 1 or not len(values) or not isinstance(next(iter(values)), str):
        return None
    texts = list(values)
    wrong = next((place for place, text in enumerate(texts) if not isinstance(text, str)), None)
    if wrong is not None:
        raise DataError(f"{where}[{wrong}] is of type {type(texts[wrong]).__name__}, while others are texts.", "Fill it in, or remove it.")
    return list(map(str, texts))


def read_texts(root: Path, names: Sequence[str]) -> dict[str, str]:
    """Read all files. Raises `UnreadableError` naming those that cannot be read."""
    texts, wrong = dict[str, str](), dict[int, DataError]()
    with progress("Reading", len(names)) as advance:
        for place, name in enumerate(names):
            try:
                texts[name] = read_text(root / name)
            except DataError as error:
                wrong[place] = error
            advance()
    raise_all(wrong, "texts", names)
    return texts


def as_targets(words: Sequence[str]) -> Tensor | list[str]:
    """Return the values of a column as numbers where all of them are, else as words."""
    for kind, dtype in ((int, torch.int64), (float, torch.float64)):
        try:
            return torch.tensor([kind(word) for word in words], dtype=dtype)
        except (ValueError, OverflowError, RuntimeError):
            continue
    return [word.strip() for word in words]
