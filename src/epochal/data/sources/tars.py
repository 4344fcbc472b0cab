"""Tars of pictures in WebDataset's layout: a folder of them, one, or a pattern such as photos-{000..009}.tar, here or behind a URL.

They are read as the pictures of a folder are: decoded once, into memory or a pack in the cache, and from then on in our own order. Where
the cache has no room for them, they are fetched and decoded again in each epoch.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np
import PIL
import torch

from epochal.data.examples import Found
from epochal.data.inputs.picture.choose import choose_rule
from epochal.data.inputs.picture.photographs import MODEL, SIDE
from epochal.data.inputs.picture.read import SUFFIXES
from epochal.data.inputs.picture.rule import PictureRule
from epochal.data.inputs.values import Inputs
from epochal.data.options import ReadOptions, refuse_options, refuse_table_options
from epochal.data.sources.folder import known_rule
from epochal.data.sources.layout import ReadFiles
from epochal.data.sources.splits import split_name
from epochal.data.spec import SPLITS
from epochal.data.storage.archives import tar_members
from epochal.data.storage.cache import DamagedError, content_hash, open_cache
from epochal.data.storage.fill import PackedInputs, fill, fits, read_pack, write_pack
from epochal.data.storage.remote.place import Place, Store, is_url, opened
from epochal.data.storage.remote.tars import LABELS, Example, TarPictures, index_all, key_and_kind
from epochal.data.walk import entries
from epochal.errors import DataError
from epochal.io.safe_read import Unpacked
from epochal.tasks.targets import natural

_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}|\{([^{}]*,[^{}]*)\}")
_MOST = 100_000


def are_tars(what: str | Path) -> bool:
    """Whether a user named tars in this layout: by a pattern or a URL; a folder with nothing else; or one, as its first examples show."""
    name = str(what)
    if is_url(what) or (name.endswith(".tar") and _BRACES.search(name)):
        return name.endswith(".tar")
    try:
        path = Path(what).expanduser()
        if path.is_dir():
            folders, files = entries(path)
            return bool(files) and not folders and all(file.endswith(".tar") for file in files)
        return name.endswith(".tar") and path.is_file() and _has_labels(path)
    except (OSError, RuntimeError, ValueError):
        return False  # Reading says what is wrong.


def _has_labels(path: Path) -> bool:
    """Whether among the first few files of a tar a picture has a label beside it: there are texts in other archives, too."""
    with Unpacked(path) as stream:
        names = [member.name for member, _ in zip(tar_members(stream), range(8), strict=False) if member.kind == "file"]
    found = [*map(key_and_kind, names)]
    return any(f".{kind}" in SUFFIXES and (key, label) in found for key, kind in found for label in LABELS)


def read(what: str | Path, options: ReadOptions) -> Found:
    """Read tars of pictures: uint8 inputs [n, 1 or 3, height, width], int64 targets, files named TAR/FILE.

    Tars named like a split are that split, the others are for training. Size and fit are those of `choose_rule`, unless a rule is given.
    Raises `DataError` naming the tar and the file that cannot be used.
    """
    refuse_table_options(options, str(what))
    refuse_options(options, ("rate", "seconds", "windows"), str(what), "sounds")
    place, tars = _named(what)
    store = opened(place)
    indexed = index_all(store, tars, open_cache())
    parts: dict[str, list[tuple[str, Example]]] = {split: [] for split in SPLITS}
    for tar, examples in zip(tars, indexed, strict=True):
        split = split_name(tar.removesuffix(".tar"))
        parts[split.split if split else "train"] += [(tar, one) for one in examples]
    options.exclusion.check((_file(one) for part in parts.values() for one in part), str(what))
    parts = {split: [one for one in part if _file(one) not in options.exclusion.names] for split, part in parts.items()}
    parts = {split: part for split, part in parts.items() if part}
    if "train" not in parts and options.like is not None and parts:
        parts = {"train": parts.get("test") or parts["valid"]}
    if "train" not in parts:
        raise DataError(
            f"{what} has no examples to train on.", "Give tars that have some; those named like test or valid are not trained on."
        )
    pictures = [one for part in parts.values() for one in part]
    rule, notes = _rule(what, store, parts["train"], options)
    inputs, more = _kept(TarPictures(store, pictures, rule), options.memory)
    classes = tuple(sorted({one.label for _, one in pictures}, key=natural))
    numbers = {name: number for number, name in enumerate(classes)}
    files = {split: [_file(one) for one in part] for split, part in parts.items()}
    targets = {split: torch.tensor([numbers[one.label] for _, one in part]) for split, part in parts.items()}
    hashes = np.frombuffer(b"".join(bytes.fromhex(one.hash) for _, one in pictures), "V16")
    model = MODEL if options.pretrained is True else None
    found = ReadFiles(inputs, hashes, rule, rule.key, (*notes, *more), model)
    name = tars[0].removesuffix(".tar") if len(tars) == 1 else place.name.rpartition("/")[2]
    return Found(name, found.parts(files, targets), classes, rule, found.notes, model=model)


def _file(one: tuple[str, Example]) -> str:
    return f"{one[0]}/{one[1].file}"


def _named(what: str | Path) -> tuple[Place, list[str]]:
    """Return the place of the tars that a user named, and their names in it."""
    if not is_url(what) and Path(what).expanduser().is_dir():
        folder = Path(what).expanduser().resolve()
        return Place(str(folder)), sorted((os.path.basename(file) for file in entries(folder)[1]), key=natural)  # noqa: PTH119  no path
    above, _, last = str(what).rpartition("/")
    if _BRACES.search(above):
        raise DataError(f"{what} has a pattern in the name of a folder.", "Put the tars into one folder.")
    tars = _expanded(last)
    if len(set(tars)) < len(tars):
        raise DataError(f"{what} names a tar twice.", "Check the pattern.")
    return Place.of(above) if is_url(what) else Place(str(Path(above).expanduser().resolve())), tars


def _expanded(name: str) -> list[str]:
    """Return the names that a pattern with {000..009} or {a,b} stands for."""
    found = _BRACES.search(name)
    if found is None:
        return [name]
    low, high, words = found.groups()
    some = words.split(",") if words else [f"{number:0{len(low)}d}" for number in range(int(low), int(high) + 1)][: _MOST + 1]
    names = [every for one in some for every in _expanded(name[: found.start()] + one + name[found.end() :])]
    if not 0 < len(names) <= _MOST:
        raise DataError(f"{name} stands for {len(names):,} tars.", f"Name 1 to {_MOST:,}.")
    return names


def _rule(
    what: str | Path, store: Store, training: Sequence[tuple[str, Example]], options: ReadOptions
) -> tuple[PictureRule, tuple[str, ...]]:
    """Return the rule by which pictures are read: a known one, or one that suits those to train on, with notes on that."""
    if (known := known_rule(Path(what), options)) is not None:
        return known, ()
    measured = [one.measured for _, one in training if one.measured is not None]
    if not measured:
        TarPictures(store, training, PictureRule(shape=(3, 1, 1)))[torch.tensor([0])]  # This raises what is wrong with it.
    wanted = options.pretrained if options.pretrained is not None and not isinstance(options.pretrained, bool) else None
    size = options.size if options.size is not None else SIDE if options.pretrained is True else wanted
    return choose_rule(measured, size, options.fit)


def _kept(pictures: TarPictures, memory: float | None) -> tuple[Inputs, tuple[str, ...]]:
    """Return the pictures in memory, or in a pack in the cache where they do not fit; as they are, where that has no room for them."""
    rule, cache, notes = pictures.rule, open_cache(), list[str]()
    shape = (len(pictures), *rule.shape)
    key = content_hash(rule.key, PIL.__version__.encode(), *(bytes.fromhex(one.hash) for _, one in pictures.examples)).hex()
    for _ in range(2):
        try:
            pack = cache.find(key, shape) or write_pack(pictures.blocks(), shape, torch.uint8, "tars", key)
            inputs = read_pack(pack, memory)
        except DamagedError as error:
            notes.append(f"{error.problem.rstrip('.')}; they were decoded again")
            continue
        except OSError as error:
            notes.append(f"decoded pictures are not cached: {error.strerror}")
            break
        would = f"{len(pictures):,} pictures would take {pack.size / 1e9:,.1f} GB of memory"
        streamed = [f"{would}: they are streamed from the cache (see data.memory)"] if isinstance(inputs, PackedInputs) else []
        return inputs, (*notes, *streamed)
    size = len(pictures) * prod(rule.shape)
    if fits(size, memory):
        return fill(pictures.blocks(), shape, torch.uint8, memory, "tars"), tuple(notes)
    return pictures, (
        *notes,
        f"{len(pictures):,} pictures would take {size / 1e9:,.1f} GB of memory: they are decoded again in each epoch (see data.size)",
    )
