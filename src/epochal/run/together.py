"""Preparing a run in several processes: the first one reads, measures and decides; the others then find the same."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from torch import nn

from epochal.distributed import launch_name, was_restarted
from epochal.distributed.ranks import Ranks, ranks
from epochal.errors import RecipeError
from epochal.progress import silent
from epochal.recipe import Recipe
from epochal.run.folder import ENVIRONMENT, RESULT, read_json
from epochal.run.prepare import Prepared, prepare
from epochal.run.reopen import Cause, reopen
from epochal.training.own import Own


def prepare_together(
    source: Any,
    recipe: Recipe,
    own: Own,
    *,
    model: nn.Module | None = None,
    data_dir: str | Path | None = None,
    log: Callable[[str], object] = silent,
) -> Prepared:
    """Do what `prepare` does, in all processes alike: what the first one measures is set for the others.

    Raises an `EpochalError` for what cannot work, also where the data are not the same everywhere.
    """
    here = ranks()
    if here.size == 1:
        return prepare(source, recipe, own, model=model, data_dir=data_dir, log=log)
    _check_alone(recipe)
    made: list[Prepared] = []

    def lead() -> tuple[dict[str, Any], dict[str, str]]:
        made.append(prepare(source, _with_threads(recipe), own, model=model, data_dir=data_dir, log=log))
        resolved = made[0].recipe
        return resolved.model_dump(mode="json"), resolved.origins()

    settings, origins = here.tell(lead)
    if not made:
        made.append(prepare(source, Recipe().updated(settings).with_origins(origins), own, model=model, data_dir=data_dir))
    here.check_same("The data", made[0].data.fingerprint)
    return made[0]


def reopen_together(
    folder: Path, recipe: Recipe, own: Own, data: Any, model: str | nn.Module | None, data_dir: str | Path | None
) -> tuple[Prepared, tuple[Cause, ...]]:
    """Do what `reopen` does, in all processes, which all need to see the `folder`."""
    here = ranks()
    if here.size > 1:
        _check_alone(recipe)
    prepared, causes = here.first(lambda: reopen(folder, recipe, own, data, model, data_dir))
    here.check_same("The data", prepared.data.fingerprint)
    return prepared, causes


def begun_before(out: Path | Iterable[Path] | None, here: Ranks) -> Path | None:
    """Return the run that these processes have begun before they were started again, if there is one under a name of `out`.

    If they were lost after it was whole, it is that run too.
    """
    name = launch_name()
    if out is None or name is None:
        return None

    def find() -> str | None:
        for folder in [out] if isinstance(out, Path) else out:
            if not folder.exists():
                return None
            is_open = was_restarted() or not (folder / RESULT).exists()
            if is_open and (folder / ENVIRONMENT).exists() and read_json(folder / ENVIRONMENT).get("launch") == name:
                return str(folder)
        return None

    found = here.tell(find)
    return None if found is None else Path(found)


def _check_alone(recipe: Recipe) -> None:
    """Raise `RecipeError` for what one process does by itself."""
    for name in ("folds", "repeats"):
        if getattr(recipe, name) is not None:
            raise RecipeError(
                f"Several processes train one model: the setting {name} asks for several.", "Leave it out, or use one process."
            )


def _with_threads(recipe: Recipe) -> Recipe:
    """Return the recipe with the cores of this machine shared among its processes, where the number of threads is open."""
    if recipe.threads != "auto":
        return recipe
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return recipe.updated({"threads": max(1, (os.cpu_count() or 1) // processes)}, "processes")
