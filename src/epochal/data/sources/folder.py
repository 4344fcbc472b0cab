"""A folder of pictures, one folder for each class, with or without splits above (see `layout`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from epochal.data.examples import Found
from epochal.data.inputs.picture.photographs import MODEL, SIDE, Pretrained, pretrained_for
from epochal.data.inputs.picture.rule import PictureRule
from epochal.data.inputs.values import in_memory
from epochal.data.options import NO_OPTIONS, ReadOptions
from epochal.data.sources.layout import ReadFiles, list_for, unused
from epochal.data.storage.ingest import Wanted, ingest
from epochal.errors import DataError

# The high byte of 16-bit pictures that are darker than this (those of 14 bits, for example) keeps little.
_DARK = 64


def read(path: Path, options: ReadOptions = NO_OPTIONS) -> Found:
    """Read a folder of pictures: uint8 inputs [n, 1 or 3, height, width], int64 targets, files relative to the folder.

    Classes are in natural order ("2" before "10"), the files of each in alphabetical order. `options.size` and `fit` are those of
    `choose_rule`, unless a rule is given as `input`; beyond `memory` bytes, pictures are streamed. Pictures for a trained model
    are read as those that `like` describes; they may have only some of its classes, or only a test split. Files of the
    `exclusion` are not read. Raises `DataError` if the layout is unclear or a picture cannot be read.
    """
    listed = list_for(path, options)
    files = {split: listed.files(split) for split in listed.splits}
    found = read_pictures(path, files, options)
    parts = found.parts(files, {split: listed.targets(split) for split in files})
    notes = (*unused(listed), *found.notes)
    return Found(path.resolve().name, parts, classes=listed.classes, input=found.rule, notes=notes, model=found.model)


def read_pictures(root: Path, files: Mapping[str, Sequence[str]], options: ReadOptions) -> ReadFiles:
    """Read the pictures of each split by their names relative to `root`: uint8 inputs [n, 1 or 3, height, width].

    Raises `UnreadableError` naming those that cannot be read.
    """
    # Only training pictures decide how pictures are read: the others represent unseen ones.
    names, training = [file for split in files.values() for file in split], len(files["train"])
    rule = known_rule(root, options)
    wanted = Wanted(root, names, training, rule=rule, size=options.size, fit=options.fit, memory=options.memory)
    chosen = _pretrained(wanted, options)
    found = ingest(wanted if wanted.size is not None else replace(wanted, size=chosen.size))
    notes = [*chosen.notes, *found.notes]
    pictures = in_memory(found.inputs)
    brightest = int(pictures[:training].amax()) if found.is_deep and pictures is not None else 255
    if brightest < _DARK:
        notes.append(f"only the high byte of 16-bit pictures is used, which is at most {brightest} in these: rescale them to 0-65535")
    return ReadFiles(found.inputs, found.hashes, found.rule, found.rule.key, tuple(notes), chosen.model)


def _pretrained(wanted: Wanted, options: ReadOptions) -> Pretrained:
    """Return the pre-trained model that pictures are read for, if any: where the user said nothing, that which suits them."""
    if wanted.rule is not None or options.pretrained is False:
        return Pretrained()
    if options.pretrained is None:
        return Pretrained() if wanted.size is not None else pretrained_for(wanted.paths[: wanted.training])
    return Pretrained(MODEL, SIDE) if options.pretrained is True else Pretrained(size=options.pretrained)


def known_rule(path: Path, options: ReadOptions) -> PictureRule | None:
    """Return the rule by which pictures are read, if the user gave one or a model has one."""
    known = options.input if options.like is None else options.like.input
    if isinstance(known, PictureRule) and known.mode is not None:
        if options.like is None and (options.size, options.fit) != (None, None):
            raise DataError(f"The rule by which {path} is read has a size and a fit already.", "Give them only in the rule.")
        return known
    if options.like is None and known not in (None, "picture"):
        kind = known if isinstance(known, str) else f"{known.dtype} {known.kind} of shape {known.shape}"
        raise DataError(f"Picture files, as in {path}, are not read as {kind}.", "Leave input out, or pass arrays.")
    return None
