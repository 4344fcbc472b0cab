"""One experiment, from data to a folder that holds all that came of it.

recipe.toml         every setting with its origin
data.json           the data's description, where they came from, and how they were split
environment.json    versions and machine
metrics.jsonl       a line for each epoch
checkpoints/        where training can go on from: the last two
model/              the bundle: the model alone
seen.bin            8 or 16 bytes for each example used in training, by which `evaluate` leaves it out
figures/            pictures
result.json         the numbers; written last, so a folder that has it is whole
"""

from __future__ import annotations

import copy
import math
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from epochal.bundle import Bundle
from epochal.checks.loaded import in_one_line
from epochal.checks.seen import keys_of, write_seen
from epochal.cores import sharing_cores
from epochal.data.examples import Examples
from epochal.data.load import Data, load
from epochal.data.sources import SOURCES
from epochal.device import choose, computing, describe, machine, using_threads
from epochal.errors import BundleError, DataError, ModelError, RecipeError, TakenError, TrainingError, UnreadableError, reason_of
from epochal.evaluation.advice import advice
from epochal.evaluation.evaluate import Evaluation, evaluate
from epochal.evaluation.named import Metrics, all_metrics
from epochal.io import safe_read
from epochal.io.checksums import verify_checksum, with_checksum
from epochal.io.files import finite, first_free, new_directory, remove_directory, write_errors, write_json
from epochal.io.lock import exclusive_lock
from epochal.models.build import assemble, build_net, check_room, default_model, own_net
from epochal.models.own_code import own_code
from epochal.models.summary import Summary
from epochal.predict import Input, Predictions
from epochal.random import fork_rng
from epochal.recipe import DEFAULT, Recipe, as_recipe, restore_recipe, save_recipe
from epochal.shown import Rows, Shown
from epochal.tasks.losses import LossFunction
from epochal.terminal import command
from epochal.training.checkpoint import Checkpoints, checkpoints_in
from epochal.training.loop import TrainingHistory, fit, train_step
from epochal.training.optim import MakeOptimizer
from epochal.training.own import names_of, with_own
from epochal.training.records import Watcher
from epochal.training.schedule import ScheduleFunction
from epochal.training.state import prepare, training_feed
from epochal.tuning.autotune import resolve_auto
from epochal.user_code import concise
from epochal.watch.console import Console
from epochal.watch.metrics_file import MetricsFile

RESULT = "result.json"

_COARSE = (
    "targets are far from 0 for their spread, and a network that answers in float32 cannot tell them all apart: subtract a constant "
    "from them, or let it answer in float64"
)

# So many positions of a split are listed in data.json.
_LISTED = 500_000


def silent(_: str) -> None:
    """Hear, and say nothing."""


@dataclass(frozen=True, repr=False)
class Run(Shown):
    """A finished experiment: the model, its settings, its data, and how good it is on data it never saw.

    `valid` and `test` hold the outputs and targets of each example; they are `None` where there are no such data. `seconds` is the time
    of each phase. `folder` is `None` where nothing was written.
    """

    bundle: Bundle
    recipe: Recipe
    data: Data
    fit: TrainingHistory
    valid: Evaluation | None
    test: Evaluation | None
    seconds: Mapping[str, float]
    folder: Path | None
    result: Mapping[str, Any]

    def _title(self) -> str:
        return f"{self.recipe.model.name} on {self.data.name}, {len(self.fit.epochs)} epochs in {self.seconds.get('total', 0.0):.3g} s"

    def _rows(self) -> Rows:
        told = () if self.test is None else advice(self.test, self.data.spec, self.recipe)
        return [
            ("test", "there was no test data" if self.test is None else str(self.test)),
            *(("" if number else "advice", words) for number, words in enumerate(told)),
            ("model", self.fit.finished.kept_weights()),
            ("folder", "none: nothing was written" if self.folder is None else str(self.folder)),
        ]

    @concise
    def predict(self, what: Input | Sequence[Input], *, unreadable: Literal["stop", "count"] = "stop") -> Predictions:
        """Predict one input or many; see `Bundle.predict`."""
        return self.bundle.predict(what, unreadable=unreadable)

    def summary(self) -> Summary:
        """Return the layers with output shapes, parameters and FLOPs."""
        return self.bundle.summary()


@concise
def train(
    data: Any,
    recipe: Recipe | str | Path | Mapping[str, Any] | None = None,
    *,
    model: str | nn.Module | Mapping[str, Any] | None = None,
    loss: str | LossFunction | Mapping[str, Any] | None = None,
    optimizer: str | MakeOptimizer | Mapping[str, Any] | None = None,
    schedule: str | ScheduleFunction | Mapping[str, Any] | None = None,
    metrics: Metrics = None,
    out: str | Path | None = None,
    data_dir: str | Path | None = None,
    watchers: Sequence[Watcher] = (),
    quiet: bool = False,
    **settings: Any,
) -> Run:
    """Load, split, build, train, test once, and keep: the whole road.

    `data` is anything that `load` takes. `recipe` is a preset's name, a TOML file or a `Recipe`; `settings` go on top, by the
    names of `Recipe` (`epochs=3`, `lr=0.1`, `schedule="cosine"`). `model` is a name, "my_file.py:Net" or an `nn.Module` that
    takes preprocessed inputs (float32) and is trained in place, from the weights that it has. `loss`, `optimizer` and
    `schedule` may be functions, as in `fit`; so may `metrics`, which are measured on validation and test data: names of usual ones,
    functions of (answers, targets), or such functions by name (see `evaluation/named.py`). `out` names the run folder, which must not
    exist yet; without it nothing is written. What was found, notes and progress are printed, unless `quiet`; each of `watchers` hears
    every record too, such as `epochal.TensorBoard("logs")`, `epochal.MLflow()` or a function of your own.

    Raises an `EpochalError` for anything that cannot work, before the first step; a folder begun is then removed.
    """
    given = {"model": model, "loss": loss, "optimizer": optimizer, "schedule": schedule}
    by_name = {name: value for name, value in given.items() if isinstance(value, str | Mapping)}
    own: dict[str, Any] = {name: value for name, value in given.items() if name not in by_name}
    if metrics is not None and not isinstance(metrics, Mapping):
        listed = [metrics] if isinstance(metrics, str) else list(metrics)
        settings["metrics"] = [one for one in listed if isinstance(one, str)]
        metrics = [one for one in listed if not isinstance(one, str)]
    resolved = as_recipe(recipe).updated({**settings, **by_name}, "given")
    with ExitStack() as stack:
        console = None if quiet else stack.enter_context(Console())
        return run(
            data,
            resolved,
            **own,
            metrics=metrics or None,
            out=None if out is None else Path(out),
            data_dir=data_dir,
            watchers=watchers if console is None else (console, *watchers),
            log=silent if console is None else console.say,
        )


@sharing_cores()
def run(
    source: Any,
    recipe: Recipe,
    *,
    model: nn.Module | None = None,
    loss: LossFunction | None = None,
    optimizer: MakeOptimizer | None = None,
    schedule: ScheduleFunction | None = None,
    metrics: Metrics = None,
    out: Path | Iterable[Path] | None = None,
    data_dir: str | Path | None = None,
    watchers: Sequence[Watcher] = (),
    log: Callable[[str], object] = silent,
) -> Run:
    """Do what `train` says with a finished recipe. `log` hears in words what was found and chosen on the way.

    Of several names for the run folder, `out`, the first that is free is taken.
    """
    clock = Clock()
    _check_new(out)
    own = {"loss": loss, "optimizer": optimizer, "schedule": schedule, "metrics": metrics}
    recipe, data, bundle, summary = _begin(source, recipe, model, own, data_dir, log, clock)
    with ExitStack() as stack:
        missing: list[Path] = []

        def write(path: Path) -> None:
            missing[:] = [parent for parent in path.parents if not parent.exists()]
            with ExitStack() as lock:
                with new_directory(path) as folder:
                    # The lock goes along when the folder gets its name: nobody can resume this run while it trains.
                    lock.enter_context(exclusive_lock(folder))
                    save_recipe(folder / "recipe.toml", recipe)
                    write_json(folder / "data.json", with_checksum(_describe_data(source, data, recipe, data_dir)))
                    write_json(folder / "environment.json", with_checksum(environment(recipe, bundle.model) | {"own": names_of(own)}))
                stack.push(lock.pop_all())

        folder = None if out is None else first_free(out, write)
        stack.enter_context(kept(folder, missing, log))
        return train_and_keep(recipe, data, bundle, summary, own, folder, watchers, log, clock)


def dry_run(
    source: Any,
    recipe: Recipe,
    *,
    model: nn.Module | None = None,
    out: Path | None = None,
    data_dir: str | Path | None = None,
    log: Callable[[str], object] = silent,
) -> tuple[Recipe, Summary]:
    """Do what `run` does before training, and one step on a copy of the model; keep nothing.

    Returns the settled recipe and the model's summary. Raises what `run` would raise before its first step, and `TrainingError`
    where that step gives no finite loss.
    """
    _check_new(out)
    recipe, data, bundle, summary = _begin(source, recipe, model, {}, data_dir, log, Clock())
    device = choose(recipe.device)
    with fork_rng(device), computing(recipe.threads_per_step):
        batches = training_feed(data.train, data.spec, recipe, device)
        training = prepare(
            copy.deepcopy(bundle.model), batches, data.spec, recipe, device, None, None, has_valid=data.valid is not None, log=log
        )
        training.train_mode()
        train_step(training, next(batches.epoch(1)))
        loss = training.loss_sum.item() / min(recipe.examples_per_step, len(data.train))
    if not math.isfinite(loss):
        raise TrainingError(f"The loss of the first step is {loss}.", "Check the inputs' scale, and the model.")
    log(f"one step runs: loss {loss:.4f}")
    return recipe, summary


def _check_new(out: Path | Iterable[Path] | None) -> None:
    if isinstance(out, Path) and out.exists():
        raise TakenError(out)


def _begin(
    source: Any,
    recipe: Recipe,
    model: nn.Module | None,
    own: Mapping[str, Any],
    data_dir: str | Path | None,
    log: Callable[[str], object],
    clock: Clock,
) -> tuple[Recipe, Data, Bundle, Summary]:
    """Read and split the data, build the model, and resolve every setting."""
    # A device that is not there is told before data are read.
    choose(recipe.device)
    with_own(recipe, own)

    data = load_for(source, recipe, data_dir)
    if data.batch_size is not None and recipe.origin("batch_size") == DEFAULT:
        recipe = recipe.updated({"batch_size": data.batch_size}, "data loader")
    data = data.split(recipe.data.valid, recipe.data.test, recipe.seed)
    log(data.spec.describe())
    for note in data.notes:
        log(f"note: {note}")
    if told := in_one_line(data):
        log(f"check: {told}" + (f" ({command('epochal', 'check', source)} tells more)" if isinstance(source, str | Path) else ""))
    clock.lap("load")

    recipe, bundle = build(recipe, data, model)
    summary = bundle.summary()
    log(f"model {recipe.model.name}: {summary.flops:,} FLOPs per example")
    if data.spec.task.needs_float64 and data.spec.task.output_units(bundle.model) is None:
        log(f"note: {_COARSE}")
    all_metrics(recipe.metrics, recipe.monitor, own.get("metrics"), data.spec.task)
    is_own = any(own.get(name) is not None for name in ("loss", "optimizer"))
    recipe = resolve_auto(with_own(recipe, own), bundle.model, data, train_step, own=is_own, log=log)
    clock.lap("build")
    return recipe, data, bundle, summary


def train_and_keep(
    recipe: Recipe,
    data: Data,
    bundle: Bundle,
    summary: Summary,
    own: Mapping[str, Any],
    folder: Path | None,
    watchers: Sequence[Watcher],
    log: Callable[[str], object],
    clock: Clock,
) -> Run:
    """Train, or go on with it; test; and fill the run folder. `own` are the arguments of `fit` that are the user's own functions."""
    device = choose(recipe.device)
    with using_threads(recipe.threads_per_step), ExitStack() as stack:
        checkpoints = None
        if folder is not None:
            checkpoints = Checkpoints(folder / "checkpoints", recipe.checkpoint_every, log)
            if not checkpoints.found():
                # Training begins from the first step: what an earlier beginning left there is void.
                with write_errors(folder):
                    (folder / "metrics.jsonl").unlink(missing_ok=True)
            watchers = (*watchers, stack.enter_context(MetricsFile(folder / "metrics.jsonl")))
        fitted = fit(bundle.model, data, recipe, **own, watchers=watchers, checkpoints=checkpoints)
        bundle.model.eval()
        bundle = replace(bundle, seen=keys_of(data))
        if folder is not None:
            # First of all: whatever fails from here on, the weights are kept.
            if (folder / "model").exists():
                remove_directory(folder / "model")
            bundle.save(folder / "model")
            assert bundle.seen is not None
            write_seen(folder, bundle.seen)
        clock.lap("train")
        # As it was when training ended: the last bits of results depend on the number of threads.
        torch.set_num_threads(fitted.finished.threads[-1].threads if fitted.finished.threads else recipe.threads_per_step)

        reported = data.spec.task.reported_loss(bundle.model, recipe.loss, own["loss"])
        measured = all_metrics(recipe.metrics, recipe.monitor, own["metrics"], data.spec.task)
        judge = partial(evaluate, bundle.model, spec=data.spec, loss=reported, device=device, batch_size=recipe.eval_batch_size)
        # As in training; there the outputs of each epoch are not kept.
        valid = None if data.valid is None else judge(data.valid, precision=recipe.precision, metrics=measured)
        test = None if data.test is None else judge(data.test, label="Testing", metrics=measured)
        clock.lap("evaluate")

        if folder is not None:
            _draw(folder / "figures", fitted, test, data, log)
        clock.lap("keep")
        result = _result(folder, recipe, data, summary, fitted, {"valid": valid, "test": test}, names_of(own), clock.seconds)
        if folder is not None:
            write_json(folder / RESULT, with_checksum(result))
    return Run(bundle, recipe, data, fitted, valid, test, clock.seconds, folder, result)


@contextmanager
def as_they_were() -> Iterator[None]:
    """Where files of the data that a run was trained on cannot be read any more, say that these are needed."""
    try:
        yield
    except UnreadableError as error:
        raise DataError(error.problem, "Bring back the data as they were, or train again.") from error


def recipe_of(folder: Path) -> Recipe:
    """Return the recipe of a run, each value with its origin. Raises `BundleError`."""
    if not (folder / "recipe.toml").exists():
        raise BundleError(f"{folder} is no run: it has no recipe.toml.", "Give the folder of a run.")
    try:
        return restore_recipe(folder / "recipe.toml")
    except RecipeError as error:
        raise BundleError(error.problem, error.fix) from error


def load_for(source: Any, recipe: Recipe, data_dir: str | Path | None, exclude: Sequence[str] | None = None) -> Data:
    """Load what the recipe says, or check that data which are loaded already agree with it.

    `exclude` are the names that the recipe's list held when the run began.
    """
    wanted = recipe.data
    task = None if wanted.task == "auto" else wanted.task
    fit_ = None if wanted.fit == "auto" else wanted.fit
    if isinstance(source, Data):
        # The data are read already: a setting that asks for something else would be ignored.
        rule = source.picture
        size = (wanted.size, wanted.size) if isinstance(wanted.size, int) else wanted.size
        for name, asked, has in (("task", task, source.task.name), ("size", size, rule and rule.size), ("fit", fit_, rule and rule.fit)):
            if asked is not None and asked != has:
                raise RecipeError(
                    f"The setting data.{name} = {asked} comes too late: these data are loaded, as {has}.", f"Pass {name} to load."
                )
        for name, given in (("memory", wanted.memory), ("exclude", wanted.exclude)):
            if given is not None:
                raise RecipeError(f"The setting data.{name} = {given} comes too late: these data are loaded.", f"Pass {name} to load.")
    left_out = wanted.exclude if exclude is None else exclude
    return load(source, data_dir=data_dir, task=task, size=wanted.size, fit=fit_, memory=wanted.memory, exclude=left_out)


def build(recipe: Recipe, data: Data, own: nn.Module | None = None) -> tuple[Recipe, Bundle]:
    """Build the whole model, its first weights decided by the seed, and fill in the settings that the data decide."""
    spec = data.spec
    is_own = own is not None or ".py" in recipe.model.name
    if is_own and recipe.model.options:
        raise RecipeError(
            f"A model of your own takes no options from the recipe: {', '.join(recipe.model.options)}.", "Set them in its code."
        )
    told_by_data: dict[str, Any] = {"model.name": default_model(spec)} if recipe.model.name == "auto" and own is None else {}
    if recipe.loss.name == "auto":
        told_by_data["loss.name"] = spec.task.resolve_loss(recipe.loss)
    if own is not None:
        if recipe.origin("model.name") != DEFAULT and recipe.model.name != type(own).__name__:
            raise RecipeError(f"The recipe asks for the model {recipe.model.name}, but another was passed.", "Give one of the two.")
        told_by_data["model.name"] = type(own).__name__
    recipe = recipe.updated(told_by_data, "data")
    name, options = recipe.model.name, recipe.model.options
    if not is_own:
        check_room(name, spec, options)
    with fork_rng(torch.device("cpu")):
        torch.manual_seed(recipe.seed)
        net = own_net(name if own is None else own, spec) if is_own else build_net(name, spec, options)
    whole = assemble(net, spec, recipe.data, rescale=recipe.data.scale_targets and not is_own)
    strange = [name for name, value in whole.state_dict().items() if not isinstance(value, torch.Tensor)]
    if strange:
        raise ModelError(f"The model's state '{strange[0]}' is not a tensor and could not be kept.", "Leave it out of its state_dict.")
    # Now: the files may be edited while training goes on.
    code = own_code(net) if is_own else {}
    return recipe, Bundle(whole, spec, None if is_own else (name, options), recipe.eval_batch_size, code=code)


@contextmanager
def kept(folder: Path | None, made: Sequence[Path], log: Callable[[str], object]) -> Iterator[None]:
    """Where the block ends before its time, say what is kept.

    A run folder with nothing worth keeping is removed, and so are the parents that were `made` for it.
    """
    if folder is None:
        yield
        return
    before = _identity(folder / "model")
    try:
        yield
    except BaseException as end:
        model, has_checkpoints = _identity(folder / "model"), bool(checkpoints_in(folder / "checkpoints"))
        if model is not None and model != before:
            log(f"The trained model is kept in {folder / 'model'}.")
        # Checkpoints that cannot be used have been told of.
        if has_checkpoints and not isinstance(end, BundleError):
            log(f"To go on from the last checkpoint: {command('epochal', 'resume', folder)}")
        # Not where a user has put a copy of a checkpoint.
        if model is None and not any((folder / "checkpoints").glob("step-*")):
            shutil.rmtree(folder, ignore_errors=True)
            for parent in made:
                # Another run may have begun beside this one: only what is empty goes.
                with suppress(OSError):
                    parent.rmdir()
        raise


def _identity(folder: Path) -> tuple[int, int] | None:
    """Return what tells a folder from one that was there before under its name; `None` where there is none."""
    if not folder.exists():
        return None
    status = folder.stat()
    return status.st_ino, status.st_ctime_ns


def _draw(folder: Path, fitted: TrainingHistory, test: Evaluation | None, data: Data, log: Callable[[str], object]) -> None:
    from epochal.figures import draw_all
    from epochal.figures.fonts import boxes

    with write_errors(folder):
        folder.mkdir(exist_ok=True)
    draw_all(folder, fitted.epochs, test, data.test, data.spec)
    if test is not None and (note := boxes(data.outputs)):
        log(f"note: {note}")


def _describe_data(source: Any, data: Data, recipe: Recipe, data_dir: str | Path | None) -> dict[str, Any]:
    """Return what data.json holds: enough to read the same data again and to see which example was in which split."""
    return {
        "source": place_of(source) if isinstance(source, str | Path) else None,
        "data_dir": None if data_dir is None else str(Path(data_dir).expanduser().resolve()),
        "spec": data.spec.model_dump(mode="json"),
        "notes": list(data.notes),
        "excluded": list(data.excluded),
        "split": {name: _describe_split(name, examples, recipe) for name, examples in data.splits.items()},
    }


def place_of(source: str | Path) -> str:
    """Return what names the same data from any folder: the whole path, or the name of a data set."""
    return source if isinstance(source, str) and source in SOURCES else str(Path(source).expanduser().resolve())


def _describe_split(name: str, examples: Examples, recipe: Recipe) -> dict[str, Any]:
    if examples.part == name == "train" and len(examples) and int(examples.positions[-1]) == len(examples) - 1:
        return {"from": name, "count": len(examples)}
    if examples.part == name != "train":
        return {"from": name, "count": len(examples)}
    cut: dict[str, Any] = {"from": examples.part, "count": len(examples), "seed": recipe.seed}
    # The rest of train is what no other split took; listing the smaller parts tells all. Very many are told by the seed alone.
    return cut if name == "train" or len(examples) > _LISTED else {**cut, "positions": examples.positions.tolist()}


def environment(recipe: Recipe, model: nn.Module) -> dict[str, Any]:
    """Return what environment.json holds: all but data and settings that results depend on, and the command."""
    packages = ("epochal", "torch", "numpy", "pillow", "safetensors")
    with using_threads(recipe.threads_per_step):
        device = describe(choose(recipe.device))
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "device": device,
        "threads": recipe.threads_per_step,
        "processor": machine()[0],
        "packages": {name: metadata.version(name) for name in packages},
        "code": own_code(model),
        "command": sys.argv,
    }


def _result(
    out: Path | None,
    recipe: Recipe,
    data: Data,
    summary: Summary,
    fitted: TrainingHistory,
    measured: Mapping[str, Evaluation | None],
    own: Mapping[str, str],
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """Return what result.json holds."""
    result = {
        "run": None if out is None else str(out),
        "recipe": recipe.model_dump(mode="json"),
        "data": data.spec.model_dump(mode="json"),
        "model": {"name": recipe.model.name, "parameters": summary.parameters, "flops": summary.flops},
        "epochs": len(fitted.epochs),
        "best_epoch": fitted.finished.best_epoch,
        "ended_by": fitted.finished.reason,
        "rewinds": [asdict(rewind) for rewind in fitted.finished.rewinds],
        "threads": [asdict(change) for change in fitted.finished.threads],
        **{split: None if evaluation is None else evaluation.to_json() for split, evaluation in measured.items()},
        "own": dict(own),
        "optimizer": fitted.optimizer,
        "training_seconds": fitted.finished.seconds,
        "seconds": dict(seconds),
    }
    whole: dict[str, Any] = finite(result)
    return whole


class Clock:
    """Seconds by phase."""

    def __init__(self) -> None:
        self.started = self.last = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """End the phase of that name."""
        now = time.perf_counter()
        self.seconds[name] = now - self.last
        self.last = now
        self.seconds["total"] = now - self.started


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
        raise BundleError(f"{path} cannot be read: {reason_of(error)}.", "Give the folder of a run.") from error
    return value
