"""A run taken up again from its folder: to go on with it, or to see whether it comes out the same."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import nn

from epochal.bundle import WEIGHTS, Bundle
from epochal.cores import sharing_cores
from epochal.data.load import Data
from epochal.data.spec import DataSpec
from epochal.errors import BundleError, DataError, ModelError, RecipeError, reason_of
from epochal.evaluation.named import Metrics
from epochal.io import safe_read
from epochal.io.checksums import with_checksum
from epochal.io.files import remove_unfinished, write_errors, write_json
from epochal.io.lock import exclusive_lock
from epochal.models.build import MODELS
from epochal.recipe import RUNTIME_SETTINGS, Recipe, save_recipe
from epochal.run import (
    RESULT,
    Clock,
    Run,
    as_they_were,
    build,
    environment,
    kept,
    load_for,
    place_of,
    read_json,
    recipe_of,
    silent,
    train_and_keep,
)
from epochal.tasks.losses import LossFunction
from epochal.terminal import command
from epochal.training.checkpoint import checkpoints_in
from epochal.training.loop import fit
from epochal.training.optim import MakeOptimizer
from epochal.training.own import NOT_USED
from epochal.training.records import EpochDone, Record, Started, Watcher
from epochal.training.schedule import Rewind, Schedule, ScheduleFunction
from epochal.training.sharing import ThreadChange, Threads
from epochal.user_code import concise
from epochal.watch.console import Console
from epochal.watch.metrics_file import numbers

# What results depend on beside data and settings, by its name in environment.json, and in words.
_CAUSES = {
    "packages": "other versions",
    "threads": "another number of threads",
    "processor": "another processor",
    "device": "another device",
}


@dataclass(frozen=True)
class Reproduction:
    """Whether a run came out the same: how many epochs did, where the first difference is, and what may have caused it.

    `divergence` is empty where every epoch and the weights are equal, to the bit.
    """

    epochs: int
    divergence: str
    causes: tuple[str, ...]


class _DivergedError(Exception):
    """Ends training at the first difference."""


@concise
@sharing_cores()
def resume(
    folder: str | Path,
    *,
    epochs: int | None = None,
    data: Any = None,
    model: str | nn.Module | None = None,
    loss: LossFunction | None = None,
    optimizer: MakeOptimizer | None = None,
    schedule: ScheduleFunction | None = None,
    metrics: Metrics = None,
    data_dir: str | Path | None = None,
    watchers: Sequence[Watcher] = (),
    quiet: bool = False,
    log: Callable[[str], object] | None = None,
    **settings: Any,
) -> Run | None:
    """Go on with the run in `folder` from its last checkpoint, to the bits that it would have come to without a break.

    `epochs` makes it longer, also when it has finished; a finished run without that is left alone, and the answer is `None`. What
    came from the user's own code or memory has to be passed again: `data`, `model`, `loss`, `optimizer`, `schedule`, `metrics`.
    `data_dir` is for named data that have moved; the run keeps the new place of those, and of other `data`. `watchers` and `quiet`
    are as in `train`; `log` hears what is else printed beside the progress. `settings` may be those that cannot change results
    (`recipe.RUNTIME_SETTINGS`): from here on they hold instead of the run's own.

    Raises `DataError` where the data are no longer what they were, `BundleError` where the folder is no run, or damaged.
    """
    folder = Path(folder)
    clock = Clock()
    with ExitStack() as stack:
        console = None if quiet else stack.enter_context(Console())
        log = log or (silent if console is None else console.say)
        if folder.exists():
            stack.enter_context(exclusive_lock(folder))
        before = recipe = _recipe(folder)
        if epochs is not None and epochs <= recipe.epochs:
            raise RecipeError(f"{folder} has {recipe.epochs} epochs already.", "Give more.")
        if (folder / RESULT).exists() and epochs is None:
            log(f"{folder} has finished; --epochs N makes it longer.")
            return None
        _refuse_deciding(folder, recipe, settings)
        recipe = recipe.updated(settings | ({} if epochs is None else {"epochs": epochs}), "resume")
        own: dict[str, Any] = {"loss": loss, "optimizer": optimizer, "schedule": schedule, "metrics": metrics}
        again = _reopen(folder, recipe, data, model, own, data_dir)
        for cause in again.causes:
            if cause.is_data:
                raise DataError(f"{folder}: {cause.words}.", "Bring back the data as they were, or train again.")
            log(f"note: {cause.words}: results may differ from those of a run without a break.")
        if not checkpoints_in(folder / "checkpoints"):
            if (folder / "model").exists():
                raise BundleError(f"{folder} has no checkpoints to go on from.", "Train again.")
            log("note: there is no checkpoint yet: training starts from the beginning.")
        remove_unfinished(folder)
        clock.lap("load")

        def begun(record: Record) -> None:
            # Only now, with the checkpoint read, it is sure that the run can go on: no longer a finished one, and with what was given.
            if isinstance(record, Started):
                with write_errors(folder):
                    (folder / RESULT).unlink(missing_ok=True)
                if epochs is not None or settings:
                    save_recipe(folder / "recipe.toml", again.recipe)
                if isinstance(data, str | Path) or data_dir is not None:
                    _keep_place(folder, data, data_dir)
                if epochs is not None and (note := _about_rate(before, record, len(again.data.train))):
                    log(note)

        stack.enter_context(kept(folder, [], log))
        heard: tuple[Watcher, ...] = (begun, *watchers) if console is None else (begun, console, *watchers)
        return train_and_keep(again.recipe, again.data, again.bundle, again.bundle.summary(), own, folder, heard, log, clock)


def _keep_place(folder: Path, data: str | Path | None, data_dir: str | Path | None) -> None:
    """Let the run know where its data lie now."""
    described = read_json(folder / "data.json")
    if isinstance(data, str | Path):
        described["source"] = place_of(data)
    if data_dir is not None:
        described["data_dir"] = str(Path(data_dir).expanduser().resolve())
    write_json(folder / "data.json", with_checksum(described))


def _about_rate(before: Recipe, started: Started, examples: int) -> str:
    """Say what the learning rate does where a run is made longer, and its schedule follows from the number of epochs; else ""."""
    after, steps = started.recipe, -(-examples // started.recipe.examples_per_step)
    if after.schedule.name not in ("one-cycle", "cosine") or not started.step:
        return ""
    ends = [min(recipe.epochs * steps, recipe.max_steps or recipe.epochs * steps) for recipe in (before, after)]
    if started.step > ends[0]:
        return ""
    # An optimizer of the user's own knows its rate alone: then these are shares of it.
    is_own = after.origin("optimizer.lr").startswith(NOT_USED)
    was, now = (
        (1 if is_own else recipe.optimizer.lr) * Schedule(recipe.schedule, recipe.epochs, steps, end).factor(max(0, step))
        for recipe, end, step in ((before, ends[0], started.step - 1), (after, ends[1], started.step))
    )
    return (
        f"note: the learning rate of {after.schedule.name} follows from the number of epochs: it goes on at "
        f"{now:.3g}{' times its highest' * is_own} (it was at {was:.3g}), as if {after.epochs} had been asked for from the start"
    )


def _refuse_deciding(folder: Path, recipe: Recipe, settings: Mapping[str, Any]) -> None:
    """Refuse settings that would change what a run comes to."""
    begun = recipe.flat()
    for name, value in recipe.updated(settings).flat().items():
        if name not in RUNTIME_SETTINGS and value != begun[name]:
            raise RecipeError(
                f"{folder} goes on with what it was begun with: the setting {name} decides results.",
                f"Leave it out, or train again; these can change: {', '.join(RUNTIME_SETTINGS)}.",
            )


@concise
def reproduce(
    folder: str | Path,
    *,
    data: Any = None,
    model: str | nn.Module | None = None,
    loss: LossFunction | None = None,
    optimizer: MakeOptimizer | None = None,
    schedule: ScheduleFunction | None = None,
    metrics: Metrics = None,
    data_dir: str | Path | None = None,
    watchers: Sequence[Watcher] = (),
) -> Reproduction:
    """Train again as the finished run in `folder` was trained, and compare it epoch by epoch, and its weights at the end.

    Training ends at the first difference. Nothing is written. The arguments are as in `resume`; `causes` are what is no longer as
    it was: versions, threads, processor, device, data, or the user's own code.
    """
    folder = Path(folder)
    if not (folder / RESULT).exists():
        raise BundleError(
            f"{folder} has not finished, so there is nothing to compare with.", f"First: {command('epochal', 'resume', folder)}"
        )
    own: dict[str, Any] = {"loss": loss, "optimizer": optimizer, "schedule": schedule, "metrics": metrics}
    again = _reopen(folder, _recipe(folder), data, model, own, data_dir)
    wanted, rewinds = _lines(folder / "metrics.jsonl"), _rewinds(folder / RESULT)
    threads = _threads(folder / RESULT, again.recipe)
    wanted_weights = _weights(folder)
    # What it was rewound for, and where to, was decided by the checkpoints of then; what it was cut to is all that counts.
    recipe = again.recipe.updated({"on_nan": "stop"}, "reproduce")
    causes = (*(cause.words for cause in again.causes), *_ends(again.recipe))
    same, divergence = 0, ""

    def compare(record: Record) -> None:
        nonlocal same, divergence
        if isinstance(record, EpochDone):
            was, now = wanted[record.epoch - 1] if record.epoch <= len(wanted) else {}, numbers(record)
            for name in now:
                if name not in ("seconds", "examples_per_second", "waiting") and was.get(name) != now[name]:
                    divergence = f"epoch {record.epoch}: {name} was {_short(was.get(name))}, now {_short(now[name])}"
                    raise _DivergedError
            same += 1

    try:
        watchers = (*watchers, compare)
        fit(again.bundle.model, again.data, recipe, **own, watchers=watchers, rewinds=rewinds, threads=threads)
    except _DivergedError:
        return Reproduction(same, divergence, causes)
    with tempfile.TemporaryDirectory() as temporary:
        weights = (again.bundle.save(Path(temporary) / "model") / WEIGHTS).read_bytes()
    if weights != wanted_weights:
        divergence = "the weights at the end differ, though every epoch agrees"
    return Reproduction(same, divergence, causes)


@dataclass(frozen=True)
class _Cause:
    words: str
    is_data: bool = False


@dataclass(frozen=True)
class _Again:
    """A run read again: its settings, its data, its model before training, and what is no longer as it was."""

    recipe: Recipe
    data: Data
    bundle: Bundle
    causes: tuple[_Cause, ...]


def _reopen(
    folder: Path, recipe: Recipe, data: Any, model: str | nn.Module | None, own: Mapping[str, Any], data_dir: str | Path | None
) -> _Again:
    described = read_json(folder / "data.json", source=str | None, data_dir=str | None, spec=dict, excluded=list[str])
    was = read_json(folder / "environment.json", own=dict, code=dict, **dict.fromkeys(_CAUSES, object))
    for name, given in own.items():
        if name in was["own"] and given is None:
            what = name if name == "metrics" else f"a {name}"
            raise RecipeError(f"{folder} was trained with {what} of your own, {was['own'][name]}.", f"Pass it again, as {name}=...")
    source = described["source"] if data is None else data
    if source is None:
        raise DataError(f"{folder} was trained on data from a Python program.", "Pass them again, as data=...")
    if isinstance(model, str):
        if recipe.model.name in MODELS:
            raise ModelError(f"{folder} trains {recipe.model.name}, which is not code of your own.", "Leave --model out.")
        recipe, model = recipe.updated({"model.name": model}, "given"), None
    elif model is None and recipe.model.name not in MODELS:
        name = recipe.model.name.rpartition(":")[2]
        raise ModelError(f"{folder} trains your own network {name}, whose code is not in it.", f"Pass it again: --model my_file.py:{name}")
    with as_they_were():
        whole = load_for(source, recipe, data_dir or described["data_dir"], described["excluded"])
    found = whole.split(recipe.data.valid, recipe.data.test, recipe.seed)
    try:
        spec = DataSpec.model_validate(described["spec"])
    except ValidationError as error:
        raise BundleError(f"{folder / 'data.json'} is damaged: {error.errors()[0]['msg']}.", "Give the folder of a run.") from error
    if found.fingerprint == spec.fingerprint:
        # Of data that fit memory all is measured, of those that are streamed some: what was measured once holds for the whole run.
        found = replace(found, described=spec)
    recipe, bundle = build(recipe, found, model)
    return _Again(recipe, found, bundle, tuple(_causes(was, environment(recipe, bundle.model), spec.fingerprint, found)))


def _causes(was: Mapping[str, Any], now: Mapping[str, Any], fingerprint: str, data: Data) -> Iterator[_Cause]:
    if data.fingerprint != fingerprint:
        yield _Cause(f"the data are no longer what they were (fingerprint {fingerprint[:8]}, now {data.fingerprint[:8]})", is_data=True)
    for name, words in _CAUSES.items():
        if was[name] != now[name]:
            yield _Cause(f"{words} ({_short(was[name])}, now {_short(now[name])})")
    changed = sorted(name for name in {**was["code"], **now["code"]} if was["code"].get(name) != now["code"].get(name))
    if changed:
        yield _Cause(f"your own code changed ({', '.join(changed)})")


def _recipe(folder: Path) -> Recipe:
    """Return the recipe of a run, each value with its origin."""
    if not folder.exists():
        raise BundleError(f"There is no {folder}.", "Give the folder of a run.")
    try:
        # Going on writes and removes files in there.
        safe_read.check_no_links(folder)
    except ValueError as error:
        raise BundleError(f"{folder} cannot be resumed: {error}.", "Put the file or folder itself there.") from error
    recipe = recipe_of(folder)
    unsettled = [name for name in ("batch_size", "threads", "precision") if getattr(recipe, name) == "auto"]
    if unsettled:
        raise BundleError(f"{folder / 'recipe.toml'} does not say what {unsettled[0]} was.", "Give the folder of a run.")
    return recipe


def _ends(recipe: Recipe) -> Iterator[str]:
    """Say what of a run's length cannot be repeated."""
    if recipe.origin("epochs") == "resume" and recipe.schedule.name in ("one-cycle", "cosine"):
        yield "the run was made longer than it was begun, and the learning rate follows from its length"
    if recipe.max_seconds is not None:
        yield f"the run was ended by the clock (max_seconds = {recipe.max_seconds:g})"


def _weights(folder: Path) -> bytes:
    path = folder / "model" / WEIGHTS
    try:
        return safe_read.read_file(path)
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} cannot be read: {reason_of(error)}.", "Give the folder of a run.") from error


def _lines(path: Path) -> list[dict[str, Any]]:
    """Return what each line of a metrics file holds."""
    try:
        lines = [safe_read.parse_json(line) for line in safe_read.read_file(path).splitlines()]
        if not all(isinstance(line, dict) for line in lines):
            raise ValueError("a line is no JSON object")
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} cannot be read: {reason_of(error)}.", "Give the folder of a run.") from error
    return lines


def _rewinds(path: Path) -> list[Rewind]:
    try:
        return [
            Rewind(step=int(kept["step"]), factor=float(kept["factor"]), reason=str(kept["reason"]))
            for kept in read_json(path, rewinds=list)["rewinds"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{path} cannot be read: its rewinds are damaged.", "Give the folder of a run.") from error


def _threads(path: Path, recipe: Recipe) -> list[ThreadChange]:
    try:
        threads = Threads(recipe.threads_per_step)
        threads.load_state_dict({"changes": read_json(path, threads=list)["threads"]})
        return threads.changes
    except ValueError as error:
        raise BundleError(f"{path} cannot be read: its changes of threads are damaged.", "Give the folder of a run.") from error


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {inner}" for name, inner in value.items())
    return str(value)
