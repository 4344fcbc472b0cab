"""A run from its folder: as it was before its first step, and what has changed since then."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import nn

from epochal.data.load import Data
from epochal.data.spec import DataSpec
from epochal.device import choose
from epochal.errors import BundleError, DataError, ModelError, RecipeError, UnreadableError
from epochal.io import safe_read
from epochal.models.build import is_listed
from epochal.recipe import Recipe
from epochal.run.folder import DATA, ENVIRONMENT, RECIPE, environment, read_json, read_recipe
from epochal.run.learner import learner_of
from epochal.run.prepare import Clock, Prepared, build, load_data, penalized
from epochal.training.own import Own, names_of

# What results depend on beside data and settings, by its name in environment.json, and in words.
_CAUSES = {
    "packages": "other versions",
    "threads": "another number of threads",
    "processor": "another processor",
    "device": "another device",
    "processes": "another number of processes",
}


@dataclass(frozen=True)
class Cause:
    """A difference from when the run was trained, in words."""

    words: str
    is_data: bool = False


def resolved_recipe(folder: Path) -> Recipe:
    """Return the recipe of a run that can be trained again or further. Raises `BundleError`."""
    if not folder.exists():
        raise BundleError(f"There is no {folder}.", "Give the folder of a run.")
    try:
        # Resuming writes and removes files in there.
        safe_read.check_no_links(folder)
    except ValueError as error:
        raise BundleError(f"{folder} cannot be resumed: {error}.", "Put the file or folder itself there.") from error
    recipe = read_recipe(folder)
    unresolved = [name for name in ("device", "batch_size", "threads", "precision") if getattr(recipe, name) == "auto"]
    if unresolved:
        raise BundleError(f"{folder / RECIPE} does not say what {unresolved[0]} was.", "Give the folder of a run.")
    return recipe


def reopen(
    folder: Path, recipe: Recipe, own: Own, data: Any, model: str | nn.Module | None, data_dir: str | Path | None
) -> tuple[Prepared, tuple[Cause, ...]]:
    """Prepare the run in `folder` again, and list what has changed since then.

    `data`, `model` and the functions `own` are those that the folder does not have; `data_dir` is where named data are now.
    """
    clock = Clock()
    device = choose(recipe.device)
    described = read_json(
        folder / DATA, source=str | None, data_dir=str | None, spec=dict, excluded=list[str], corrected=list[list[str | None]]
    )
    was = read_json(folder / ENVIRONMENT, own=dict, code=dict, **dict.fromkeys(_CAUSES, object))
    given = names_of(own)
    for name, called in was["own"].items():
        if name not in given:
            raise RecipeError(f"{folder} was trained with your own {name}, {called}.", f"Pass it again, as {name}=...")
    source = described["source"] if data is None else data
    if source is None:
        raise DataError(f"{folder} was trained on data from a Python program.", "Pass them again, as data=...")
    if isinstance(model, str):
        if is_listed(recipe.model.name):
            raise ModelError(f"{folder} trains {recipe.model.name}, which is not your own code.", "Leave --model out.")
        recipe, model = recipe.updated({"model.name": model}, "given"), None
    elif model is None and not is_listed(recipe.model.name):
        name = recipe.model.name.rpartition(":")[2]
        raise ModelError(f"{folder} trains your own network {name}, whose code is not in it.", f"Pass it again: --model my_file.py:{name}")
    try:
        spec = DataSpec.model_validate(described["spec"])
    except ValidationError as error:
        raise BundleError(f"{folder / DATA} is damaged: {error.errors()[0]['msg']}.", "Give the folder of a run.") from error
    with readable_data():
        found = load_data(source, recipe, data_dir or described["data_dir"], described["excluded"], spec.input.kind, described["corrected"])
    if found.fingerprint == spec.fingerprint:
        # Of data that fit memory all is measured, of those that are streamed some: what was measured once holds for the whole run.
        found = replace(found, described=spec)
    recipe, bundle = build(recipe, found, model)
    causes = tuple(_causes(was, environment(recipe, device, bundle.model), spec.fingerprint, found))
    learner = learner_of(recipe, bundle, found)
    # What cross-validation chose is in the recipe; what it measured is measured again, for the result.
    _, penalty = penalized(recipe, learner, own)
    return Prepared(recipe, found, bundle, learner, own, bundle.summary(), clock, recipe, penalty), causes


@contextmanager
def readable_data() -> Iterator[None]:
    """Where files of the data that a run was trained on can no longer be read, say that these are needed."""
    try:
        yield
    except UnreadableError as error:
        raise DataError(error.problem, "Restore the original data, or train again.") from error


def _causes(was: Mapping[str, Any], now: Mapping[str, Any], fingerprint: str, data: Data) -> Iterator[Cause]:
    if data.fingerprint != fingerprint:
        yield Cause(f"the data have changed (fingerprint {fingerprint[:8]}, now {data.fingerprint[:8]})", is_data=True)
    for name, words in _CAUSES.items():
        if was[name] != now[name]:
            yield Cause(f"{words} ({in_words(was[name])}, now {in_words(now[name])})")
    changed = sorted(name for name in {**was["code"], **now["code"]} if was["code"].get(name) != now["code"].get(name))
    if changed:
        yield Cause(f"your own code changed ({', '.join(changed)})")


def in_words(value: Any) -> str:
    """Return a value of a JSON file as text."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {inner}" for name, inner in value.items())
    return str(value)
