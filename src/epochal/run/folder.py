"""The folder of a run: what its files are, and how they are written, read, locked and cleaned up.

recipe.toml         every setting with its origin
data.json           the data's description, where they came from, and how they were split
environment.json    versions and machine
metrics.jsonl       a line for each epoch
progress.json       how far training is, while it goes on
checkpoints/        where training can continue from: the last two
model/              the bundle: the model alone
seen.bin            8 or 16 bytes for each example used in training, by which `evaluate` leaves it out
predictions/        outputs of each validation and test example, and out of fold
folds/              outputs of each example by the model that was trained without it, with --folds
repeats/            runs of the same settings with other seeds, with --repeats
figures/            pictures
labels.csv          the labels of training examples that may be wrong, ranked
examples.json       the examples that the report shows
report.html         all of that as one page
result.json         the numbers; written last, so a folder that has it is whole
"""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from epochal.bundle import WEIGHTS
from epochal.data.examples import Examples
from epochal.data.load import Data
from epochal.data.sources import SOURCES
from epochal.data.storage.remote.place import is_url
from epochal.device import describe, machine, using_threads
from epochal.distributed import launch_name
from epochal.distributed.ranks import ranks
from epochal.errors import BundleError, RecipeError, TakenError, reason_of
from epochal.io import safe_read
from epochal.io.checksums import verify_checksum, with_checksum
from epochal.io.files import first_free, new_directory, write_json
from epochal.io.lock import exclusive_lock
from epochal.models.build import is_listed
from epochal.models.own_code import own_code
from epochal.recipe import Recipe, restore_recipe, save_recipe
from epochal.run.prepare import Prepared
from epochal.terminal import command
from epochal.training.checkpoint import checkpoints_in
from epochal.training.own import names_of
from epochal.training.records import Rewound
from epochal.training.saved import Saved
from epochal.training.sharing import ThreadChange, Threads

RECIPE = "recipe.toml"
DATA = "data.json"
ENVIRONMENT = "environment.json"
METRICS = "metrics.jsonl"
CHECKPOINTS = "checkpoints"
MODEL = "model"
PREDICTIONS = "predictions"
FIGURES = "figures"
LABELS = "labels.csv"
EXAMPLES = "examples.json"
REPORT = "report.html"
RESULT = "result.json"

# So many positions of a split are listed in data.json.
_LISTED = 500_000

_FIX = "Give the folder of a run."


def check_free(out: Path | Iterable[Path] | None) -> None:
    """Raise `TakenError` where the one name for a new folder is taken."""
    if isinstance(out, Path) and out.exists():
        raise TakenError(out)


@contextmanager
def new_run(
    out: Path | Iterable[Path] | None, source: Any, data_dir: str | Path | None, prepared: Prepared, log: Callable[[str], object]
) -> Iterator[Path | None]:
    """Begin a run folder and hold its lock for the block; `None` without a name. Of several names the first that is free is taken."""
    if out is None:
        yield None
        return
    with ExitStack() as stack:
        missing: list[Path] = []

        def write(path: Path) -> None:
            missing[:] = [parent for parent in path.parents if not parent.exists()]
            with ExitStack() as lock:
                with new_directory(path) as folder:
                    # The lock goes along when the folder gets its name: nobody can resume this run while it trains.
                    lock.enter_context(exclusive_lock(folder))
                    recipe, bundle = prepared.recipe, prepared.bundle
                    save_recipe(folder / RECIPE, recipe)
                    write_json(folder / DATA, with_checksum(_describe_data(source, prepared.data, recipe, data_dir)))
                    described = environment(recipe, prepared.device, bundle.model) | {"own": names_of(prepared.own)}
                    write_json(folder / ENVIRONMENT, with_checksum(described))
                stack.push(lock.pop_all())

        folder = first_free(out, write)
        with tidy(folder, missing, log):
            yield folder


@contextmanager
def tidy(folder: Path, made: Sequence[Path], log: Callable[[str], object]) -> Iterator[None]:
    """Where the block ends early, say what is kept.

    A run folder with nothing worth keeping is removed, and so are the parents that were `made` for it.
    """
    before = _identity(folder / MODEL)
    try:
        yield
    except BaseException as end:
        model, has_checkpoints = _identity(folder / MODEL), bool(checkpoints_in(folder / CHECKPOINTS))
        if model is not None and model != before:
            log(f"The trained model is saved in {folder / MODEL}.")
        # Checkpoints that cannot be used have been reported.
        if has_checkpoints and not isinstance(end, BundleError):
            log(f"To continue from the last checkpoint: {how_to_resume(folder)}")
        # Not where a user has put a copy of a checkpoint.
        if model is None and not any((folder / CHECKPOINTS).glob("step-*")):
            shutil.rmtree(folder, ignore_errors=True)
            for parent in made:
                # Another run may have begun beside this one: only what is empty goes.
                with suppress(OSError):
                    parent.rmdir()
        raise


def how_to_resume(folder: Path) -> str:
    """Return the command that continues a run; or where it needs what only a program has, the call in Python."""
    name = read_recipe(folder).model.name
    needed = ["data"] * (read_json(folder / DATA)["source"] is None) + ["model"] * (not is_listed(name) and ".py:" not in name)
    needed += read_json(folder / ENVIRONMENT)["own"]
    if needed:
        return f"epochal.resume({', '.join([repr(str(folder)), *(f'{name}=...' for name in needed)])})"
    return command("epochal", "resume", folder, *own_code_option(name))


def own_code_option(model: str) -> list[str]:
    """Return the option that a command for a run needs if the model of that name is the user's own code, which is not in the run."""
    return [] if is_listed(model) else ["--model", model]


def _identity(folder: Path) -> tuple[int, int] | None:
    """Return what distinguishes a folder from an earlier one of that name; `None` if it does not exist."""
    if not folder.exists():
        return None
    status = folder.stat()
    return status.st_ino, status.st_ctime_ns


def _describe_data(source: Any, data: Data, recipe: Recipe, data_dir: str | Path | None) -> dict[str, Any]:
    """Return what data.json holds: enough to read the same data again and to see which example was in which split."""
    return {
        "source": _place_of(source) if isinstance(source, str | Path) else None,
        "data_dir": None if data_dir is None else _absolute(data_dir),
        "spec": data.spec.model_dump(mode="json"),
        "notes": list(data.notes),
        "excluded": list(data.excluded),
        "corrected": list(map(list, data.corrected)),
        "split": {name: _describe_split(name, examples, recipe) for name, examples in data.splits.items()},
    }


def _describe_split(name: str, examples: Examples, recipe: Recipe) -> dict[str, Any]:
    if examples.part == name == "train" and len(examples) and int(examples.positions[-1]) == len(examples) - 1:
        return {"from": name, "count": len(examples)}
    if examples.part == name != "train":
        return {"from": name, "count": len(examples)}
    cut: dict[str, Any] = {"from": examples.part, "count": len(examples), "seed": recipe.split_seed}
    # The rest of train is what no other split took; listing the smaller splits is enough. Of very many, the seed alone says which.
    return cut if name == "train" or len(examples) > _LISTED else {**cut, "positions": examples.positions.tolist()}


def move_data(folder: Path, source: Any, data_dir: str | Path | None) -> None:
    """Note in the run where its data are now, so far as that is given by name."""
    described = read_json(folder / DATA)
    if isinstance(source, str | Path):
        described["source"] = _place_of(source)
    if data_dir is not None:
        described["data_dir"] = _absolute(data_dir)
    write_json(folder / DATA, with_checksum(described))


def _place_of(source: str | Path) -> str:
    """Return what names the same data from any folder: the whole path, or the name of a data set."""
    return source if isinstance(source, str) and (source in SOURCES or is_url(source)) else _absolute(source)


def _absolute(path: str | Path) -> str:
    return str(Path(path).expanduser().resolve())


def environment(recipe: Recipe, device: torch.device, model: nn.Module) -> dict[str, Any]:
    """Return what environment.json holds: all but data and settings that results depend on, and the command."""
    packages = ("epochal", "torch", "numpy", "pillow", "safetensors")
    with using_threads(recipe.threads_per_step):
        described = describe(device)
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "device": described,
        "threads": recipe.threads_per_step,
        "processor": machine()[0],
        "packages": {name: metadata.version(name) for name in packages},
        "code": own_code(model),
        "processes": ranks().size,
        "launch": launch_name(),
        "command": sys.argv,
    }


def read_json(path: Path, **kinds: Any) -> dict[str, Any]:
    """Return what a JSON file of a run folder holds; of each of `kinds`, there must be a value of that kind under its name.

    Raises `BundleError` where the file is missing, damaged or changed.
    """
    try:
        value = verify_checksum(safe_read.read_json(path))
        for name, kind in kinds.items():
            try:
                TypeAdapter(kind).validate_python(value[name], strict=True)
            except (KeyError, ValidationError) as error:
                raise ValueError(f"{name} is missing, or of another kind") from error
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} cannot be read: {reason_of(error)}.", _FIX) from error
    return value


def read_recipe(folder: Path) -> Recipe:
    """Return the recipe of a run, each value with its origin. Raises `BundleError`."""
    if not (folder / RECIPE).exists():
        raise BundleError(f"{folder} is not a run: it has no recipe.toml.", _FIX)
    try:
        return restore_recipe(folder / RECIPE)
    except RecipeError as error:
        raise BundleError(error.problem, error.fix) from error


def read_epochs(folder: Path) -> list[Mapping[str, Any]]:
    """Return what each line of the metrics file holds. Raises `BundleError`."""
    path = folder / METRICS
    try:
        lines = [safe_read.parse_json(line) for line in safe_read.read_file(path).splitlines()]
        if not all(isinstance(line, dict) for line in lines):
            raise ValueError("a line is not a JSON object")
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} cannot be read: {reason_of(error)}.", _FIX) from error
    return lines


class Changes(Saved):
    """What a run changed while it trained, as `fit` takes it to repeat the run."""

    rewinds: list[Rewound]
    threads: list[ThreadChange]


def read_changes(folder: Path, recipe: Recipe) -> Changes:
    """Return what a finished run changed while it trained. Raises `BundleError`."""
    path = folder / RESULT
    result = read_json(path)
    try:
        changes = Changes.read({name: result.get(name) for name in Changes.model_fields})
        Threads(recipe.threads_per_step).load_state_dict({"changes": result["threads"]})
    except ValueError as error:
        raise BundleError(f"{path} cannot be read: {reason_of(error)}.", _FIX) from error
    return changes


def read_weights(folder: Path) -> bytes:
    """Return the file of the model's weights. Raises `BundleError`."""
    path = folder / MODEL / WEIGHTS
    try:
        return safe_read.read_file(path)
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} cannot be read: {reason_of(error)}.", _FIX) from error
