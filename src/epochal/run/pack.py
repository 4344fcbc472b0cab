"""Pack: data, read and checked as for training, written to a place that many machines can train from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from epochal.bundle import Bundle
from epochal.cores import sharing_cores
from epochal.data.load import load
from epochal.data.packing import Packed, Writer, check_new
from epochal.data.storage.remote.place import Place
from epochal.errors import RecipeError
from epochal.progress import silent
from epochal.recipe import Recipe
from epochal.run.prepare import read_for, split_data, with_named
from epochal.user_code import concise


@concise
def pack(data: Any, to: str | Path, *, data_dir: str | Path | None = None, like: str | Path | None = None, **settings: Any) -> Packed:
    """Write data to a folder, or to the URL of one (file://, s3:// or hf://), from which they can be trained on any machine.

    `data` is anything that `load` takes but a dataset that is read one by one. `settings` are those of `train`, by name; those that say how
    data are read hold for good. `like` is a run for which data are packed to be evaluated.

    Returns where and how much was written. Raises `DataError` for what is wrong with data, and `OutputError` if they cannot be written; the
    same call then goes on where it stopped.
    """
    return write(data, to, Recipe().updated(settings, "given"), data_dir=data_dir, like=like)


@sharing_cores()
def write(
    source: Any,
    to: str | Path,
    recipe: Recipe,
    *,
    data_dir: str | Path | None = None,
    like: str | Path | None = None,
    log: Callable[[str], object] = silent,
) -> Packed:
    """Do what `pack` does, with a complete recipe. `log` is called with messages about what was found and chosen."""
    store = check_new(Place.of(to))
    if recipe.data.labels:
        raise RecipeError("The setting data.labels is for training: labels are packed as they are.", "Leave it out, and train with it.")
    if like is not None:
        data = load(source, data_dir=data_dir, like=Bundle.load(Path(like), log=log).spec)
    else:
        recipe, data = read_for(with_named(recipe, log), source, data_dir)
    for note in data.notes:
        log(f"note: {note}")
    writer = Writer(store, data)
    shards = writer.shards()
    # Training with the same settings then need not read all to measure it.
    learned = None if like is not None else split_data(recipe, writer.data, source)
    return writer.finish(shards, learned)
