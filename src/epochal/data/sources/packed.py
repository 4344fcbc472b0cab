"""Packed data (see `storage/remote`): they are as they were when they were packed, whatever settings of reading say now."""

from __future__ import annotations

from pathlib import Path

from epochal.data.examples import Found
from epochal.data.options import ReadOptions, refuse_table_options
from epochal.data.spec import DataSpec
from epochal.data.storage.remote.index import Index
from epochal.data.storage.remote.reading import find_packed
from epochal.errors import DataError, RecipeError


def read(what: str | Path, options: ReadOptions) -> Found:
    """Open packed data. Raises `DataError`, and `RecipeError` for settings of reading that they were not packed with."""
    refuse_table_options(options, str(what))
    found, index = find_packed(what, options.memory)
    _refuse_others(what, index.spec, options)
    if options.like is not None:
        _check_like(what, index, options.like)
    return found


def _refuse_others(what: str | Path, spec: DataSpec, options: ReadOptions) -> None:
    """Refuse settings that say something else of how inputs are read than was done."""
    rule, side = spec.input, getattr(spec.input, "side", None)
    size = (options.size, options.size) if isinstance(options.size, int) else options.size
    wanted = {
        "size": (size, side),
        "fit": (options.fit, getattr(rule, "fit", None)),
        "rate": (options.rate, getattr(rule, "rate", None)),
        "windows": (options.windows, rule.windows),
        "seconds": (options.seconds, getattr(rule, "seconds", None)),
        "tokens": (options.tokens, getattr(rule, "tokens", None)),
        "vocabulary": (options.vocabulary or None, getattr(rule, "vocabulary", None)),
        "size for this model": (_side(options.pretrained), side if rule.kind == "picture" else _side(options.pretrained)),
    }
    for name, (asked, has) in wanted.items():
        if asked is not None and asked != has:
            raise RecipeError(
                f"The setting data.{name} comes too late: {what} was packed without it.", "Leave it out, or pack the data again with it."
            )


def _side(pretrained: object) -> tuple[int, int] | None:
    """Return the size of pictures that a pre-trained model takes, if it is given."""
    if isinstance(pretrained, bool) or pretrained is None:
        return None
    return (pretrained, pretrained) if isinstance(pretrained, int) else tuple(pretrained)  # type: ignore[arg-type,return-value]


def _check_like(what: str | Path, index: Index, like: DataSpec) -> None:
    """Refuse inputs that were not read as a model takes them."""
    if not like.input.reads_as(index.spec.input):
        raise DataError(
            f"The {index.spec.input.noun}s in {what} were not read as this model takes them.",
            "Pack the data for it: epochal pack DATA --to URL --like RUN.",
        )
