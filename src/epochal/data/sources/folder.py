"""A folder of pictures, one folder for each class, with or without splits above (see `layout`)."""

from __future__ import annotations

from pathlib import Path

from epochal.data.examples import Found
from epochal.data.inputs.picture.rule import PictureRule
from epochal.data.inputs.values import in_memory
from epochal.data.options import NO_OPTIONS, ReadOptions
from epochal.data.sources.layout import list_for, parts_of, unused
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
    # Only training pictures decide how pictures are read: the others represent unseen ones.
    names = [file for split in files.values() for file in split]
    rule = _known_rule(path, options)
    found = ingest(Wanted(path, names, len(files["train"]), rule=rule, size=options.size, fit=options.fit, memory=options.memory))
    parts = parts_of(listed, found.inputs, found.hashes, found.rule.key)
    notes = [*unused(listed), *found.notes]
    pictures = in_memory(parts["train"].inputs)
    brightest = int(pictures.amax()) if found.is_deep and pictures is not None else 255
    if brightest < _DARK:
        notes.append(f"only the high byte of 16-bit pictures is used, which is at most {brightest} in these: rescale them to 0-65535")
    return Found(path.resolve().name, parts, classes=listed.classes, input=found.rule, notes=tuple(notes))


def _known_rule(path: Path, options: ReadOptions) -> PictureRule | None:
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
