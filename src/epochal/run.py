"""One experiment, from data to a folder that holds all that came of it.

recipe.toml         every setting with its origin
data.json           the data's description, where they came from, and how they were split
environment.json    versions and machine
metrics.jsonl       a line for each epoch
checkpoints/        where training can go on from: the last two while it goes on, then the last one
model/              the bundle: the model alone
figures/            pictures
result.json         the numbers; written last, so a folder that has it is whole
"""

from __future__ import annotations

import json
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import nn

from epochal.bundle import Bundle, Input, Prediction
from epochal.data.examples import Examples
from epochal.data.load import Data, load
from epochal.data.sources import SOURCES
from epochal.device import choose, describe, machine, using_threads
from epochal.errors import BundleError, DataError, ModelError, OutputError, RecipeError
from epochal.evaluation.evaluate import Evaluation, evaluate
from epochal.files import finite, new_directory, told, write_json, write_text
from epochal.models.build import MODELS, assemble, build_net, default_model, own_net
from epochal.models.summary import Summary
from epochal.random import isolated
from epochal.recipe import DEFAULT, Recipe, as_recipe, load_recipe, read_kept
from epochal.tasks import LossFunction, reported_loss, resolve_loss
from epochal.training.checkpoint import Checkpoints
from epochal.training.loop import Fit, fit, train_step
from epochal.training.optim import MakeOptimizer
from epochal.training.probe import settle
from epochal.training.records import Watcher
from epochal.watch.console import Console
from epochal.watch.metrics_file import MetricsFile

RESULT = "result.json"


@dataclass(frozen=True)
class Run:
    """A finished experiment: the model, its settings, its data, and how good it is on data it never saw.

    `test` is `None` where there are no test data. `seconds` is the time of each phase. `folder` is `None` where nothing was
    written.
    """

    bundle: Bundle
    recipe: Recipe
    data: Data
    fit: Fit
    test: Evaluation | None
    seconds: Mapping[str, float]
    folder: Path | None
    result: Mapping[str, Any] = field(repr=False)

    def predict(self, what: Input | Sequence[Input]) -> list[Prediction]:
        """Predict one input or many; see `Bundle.predict`."""
        return self.bundle.predict(what)

    def summary(self) -> Summary:
        """Return the layers with output shapes, parameters and FLOPs."""
        return self.bundle.summary()


def train(
    data: Any,
    recipe: Recipe | str | Path | Mapping[str, Any] | None = None,
    *,
    model: str | nn.Module | Mapping[str, Any] | None = None,
    loss: str | LossFunction | Mapping[str, Any] | None = None,
    optimizer: str | MakeOptimizer | Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    data_dir: str | Path | None = None,
    watchers: Sequence[Watcher] | None = None,
    **settings: Any,
) -> Run:
    """Load, split, build, train, test once, and keep: the whole road.

    `data` is anything that `load` takes. `recipe` is a preset's name, a TOML file or a `Recipe`; `settings` go on top, by the
    names of `Recipe` (`epochs=3`, `lr=0.1`, `schedule="cosine"`). `model` is a name, "my_file.py:Net" or an `nn.Module` that
    takes preprocessed inputs (float32) and is trained in place, from the weights that it has. `loss` and `optimizer` may be
    functions, as in `fit`. `out` names the run folder, which must not exist yet; without it nothing is written. `watchers`
    replaces the progress that is printed; `()` is silent.

    Raises an `EpochalError` for anything that cannot work, before the first step; a folder begun is then removed.
    """
    given = {"model": model, "loss": loss, "optimizer": optimizer}
    by_name = {name: value for name, value in given.items() if isinstance(value, str | Mapping)}
    own: dict[str, Any] = {name: value for name, value in given.items() if name not in by_name}
    resolved = as_recipe(recipe).updated({**settings, **by_name}, "given")
    with ExitStack() as stack:
        if watchers is None:
            watchers = (stack.enter_context(Console()),)
        return run(
            data,
            resolved,
            **own,
            out=None if out is None else Path(out),
            data_dir=data_dir,
            watchers=watchers,
        )


def run(
    source: Any,
    recipe: Recipe,
    *,
    model: nn.Module | None = None,
    loss: LossFunction | None = None,
    optimizer: MakeOptimizer | None = None,
    out: Path | None = None,
    data_dir: str | Path | None = None,
    watchers: Sequence[Watcher] = (),
    tell: Callable[[str], object] = lambda _: None,
) -> Run:
    """Do what `train` says with a finished recipe. `tell` hears in words what was found and chosen on the way."""
    clock = _Clock()
    if out is not None and out.exists():
        raise OutputError(f"{out} exists already.", "Choose another name with --out, or remove it first.")
    # A device that is not there is told before data are read.
    choose(recipe.device)
    _refuse_idle(recipe, {"loss": loss, "optimizer": optimizer})

    data = load_for(source, recipe, data_dir)
    if data.batch_size is not None and recipe.origin("batch_size") == DEFAULT:
        recipe = recipe.updated({"batch_size": data.batch_size}, "data loader")
    data = data.split(recipe.data.valid, recipe.data.test, recipe.seed)
    tell(data.spec.describe())
    for note in data.notes:
        tell(f"note: {note}")
    clock.lap("load")

    recipe, bundle = build(recipe, data, model)
    summary = bundle.summary()
    tell(f"model {recipe.model.name}: {summary.flops:,} FLOPs per example")
    own_functions = loss is not None or optimizer is not None
    recipe = settle(recipe, bundle.model, data, train_step, own=own_functions, tell=tell)
    clock.lap("build")

    own = {"loss": loss, "optimizer": optimizer}
    missing = [] if out is None else [parent for parent in out.parents if not parent.exists()]
    if out is not None:
        with new_directory(out) as folder:
            write_text(folder / "recipe.toml", recipe.to_toml())
            write_json(folder / "data.json", _describe_data(source, data, recipe, data_dir))
            write_json(folder / "environment.json", environment(choose(recipe.device)) | {"own": _names(own)})
    with _kept(out, missing, tell):
        return _train_and_keep(recipe, data, bundle, summary, loss, optimizer, out, watchers, tell, clock)


def resume(
    folder: str | Path,
    *,
    epochs: int | None = None,
    data: Any = None,
    model: str | nn.Module | None = None,
    loss: LossFunction | None = None,
    optimizer: MakeOptimizer | None = None,
    data_dir: str | Path | None = None,
    watchers: Sequence[Watcher] | None = None,
    tell: Callable[[str], object] = lambda _: None,
) -> Run | None:
    """Go on with the run in `folder` from its last checkpoint, to the bits that it would have come to without a break.

    `epochs` makes it longer, also when it has finished; a finished run without that is left alone, and the answer is `None`. What
    came from the user's own code or memory has to be passed again: `data`, `model`, `loss`, `optimizer`. `data_dir` is for named data
    that have moved. `tell` hears what was found; `watchers` are as in `train`.

    Raises `DataError` where the data are no longer what they were, `BundleError` where the folder is no run, or damaged.
    """
    folder = Path(folder)
    clock = _Clock()
    recipe = _kept_recipe(folder)
    described, kept = _read_json(folder / "data.json"), _read_json(folder / "environment.json")
    if epochs is not None and epochs <= recipe.epochs:
        raise RecipeError(f"{folder} has {recipe.epochs} epochs already.", "Give more.")
    if (folder / RESULT).exists() and epochs is None:
        tell(f"{folder} has finished; --epochs N makes it longer.")
        return None
    own: dict[str, Any] = {"loss": loss, "optimizer": optimizer}
    for name, was in kept["own"].items():
        if own[name] is None:
            raise RecipeError(f"{folder} was trained with a {name} of your own, {was}.", f"Pass it again: epochal.resume(..., {name}=...).")
    source = described["source"] if data is None else data
    if source is None:
        raise DataError(f"{folder} was trained on data from a Python program.", "Pass them again: epochal.resume(..., data=...).")
    if isinstance(model, str):
        recipe, model = recipe.updated({"model.name": model}, "given"), None
    elif model is None and recipe.model.name not in MODELS:
        raise ModelError(
            f"{folder} trains your own network {recipe.model.name}, whose code is not in it.", "Pass it again: --model my_file.py:Net"
        )

    found = load_for(source, recipe, data_dir or described["data_dir"])
    if found.fingerprint != described["spec"]["fingerprint"]:
        raise DataError(f"{found.name} is no longer what {folder} was trained on.", "Bring back the data as they were, or train anew.")
    found = found.split(recipe.data.valid, recipe.data.test, recipe.seed)
    clock.lap("load")
    recipe, bundle = build(recipe, found, model)
    now = environment(choose(recipe.device))
    for name, was in kept.items():
        if name in ("device", "threads", "processor", "packages") and now[name] != was:
            tell(f"note: {name} was {was}, now {now[name]}: results may differ in the last bits.")
    if epochs is not None:
        recipe = recipe.updated({"epochs": epochs}, "resume")
        # From here on the run is no longer a finished one.
        with told(folder):
            (folder / RESULT).unlink(missing_ok=True)
        write_text(folder / "recipe.toml", recipe.to_toml())
    clock.lap("build")
    with ExitStack() as stack:
        if watchers is None:
            watchers = (stack.enter_context(Console()),)
        stack.enter_context(_kept(folder, [], tell))
        return _train_and_keep(recipe, found, bundle, bundle.summary(), loss, optimizer, folder, watchers, tell, clock)


def _train_and_keep(
    recipe: Recipe,
    data: Data,
    bundle: Bundle,
    summary: Summary,
    loss: LossFunction | None,
    optimizer: MakeOptimizer | None,
    folder: Path | None,
    watchers: Sequence[Watcher],
    tell: Callable[[str], object],
    clock: _Clock,
) -> Run:
    """Train, or go on with it; test; and fill the run folder."""
    device = choose(recipe.device)
    with using_threads(recipe.threads_per_step), ExitStack() as stack:
        checkpoints = None
        if folder is not None:
            checkpoints = Checkpoints(folder / "checkpoints", recipe.checkpoint_every, tell)
            watchers = (*watchers, stack.enter_context(MetricsFile(folder / "metrics.jsonl")))
        fitted = fit(bundle.model, data, recipe, loss=loss, optimizer=optimizer, watchers=watchers, checkpoints=checkpoints)
        bundle.model.eval()
        if folder is not None:
            # First of all: whatever fails from here on, the weights are kept.
            shutil.rmtree(folder / "model", ignore_errors=True)
            bundle.save(folder / "model")
        clock.lap("train")

        reported = reported_loss(data.spec, bundle.model, recipe.loss, loss)
        test = None
        if data.test is not None:
            test = evaluate(bundle.model, data.test, data.spec, reported, device=device, batch_size=recipe.eval_batch_size, label="Testing")
        clock.lap("evaluate")

        if folder is not None:
            _draw(folder / "figures", fitted, test, data)
        clock.lap("keep")
        result = _result(folder, recipe, data, summary, fitted, test, _names({"loss": loss, "optimizer": optimizer}), clock.seconds)
        if folder is not None:
            write_json(folder / RESULT, result)
    return Run(bundle, recipe, data, fitted, test, clock.seconds, folder, result)


def evaluate_run(
    folder: Path,
    data: Any = None,
    *,
    data_dir: str | Path | None = None,
    model: str | nn.Module | None = None,
    tell: Callable[[str], object] = lambda _: None,
) -> Evaluation:
    """Return how good the model that a run kept is: on its own test data, read and split again, or on other `data`.

    Of other data the test split counts if they have one, else all; `tell` hears which.

    Raises `DataError` where its own data are no longer what they were, or the other data do not fit the model.
    """
    bundle = Bundle.load(folder, model)
    recipe = load_recipe(folder / "recipe.toml")
    kept = _read_json(folder / "data.json")
    if data is not None:
        found = load(data, data_dir=data_dir, like=bundle.spec)
    elif kept["source"] is None:
        raise DataError(f"{folder} was trained on data from a Python program.", "Name the data to evaluate on.")
    else:
        found = load(kept["source"], data_dir=data_dir, memory=recipe.data.memory, like=bundle.spec)
        if found.fingerprint != bundle.spec.fingerprint:
            raise DataError(f"{kept['source']} is no longer what {folder} was trained on.", "To evaluate on it all the same, name it.")
        found = found.split(recipe.data.valid, recipe.data.test, recipe.seed)
        if found.test is None:
            raise DataError(f"{folder} was trained without test data.", "Name the data to evaluate on.")
    tell(f"measured on {'the test split' if found.test is not None else 'all examples'} of {found.name}")
    return bundle.evaluate(found, reported_loss(bundle.spec, bundle.model, recipe.loss))


def load_for(source: Any, recipe: Recipe, data_dir: str | Path | None) -> Data:
    """Load what the recipe says, or check that data which are loaded already agree with it."""
    wanted = recipe.data
    task = None if wanted.task == "auto" else wanted.task
    fit_ = None if wanted.fit == "auto" else wanted.fit
    if isinstance(source, Data):
        # The data are read already: a setting that asks for something else would be ignored.
        rule = source.picture
        size = (wanted.size, wanted.size) if isinstance(wanted.size, int) else wanted.size
        for name, asked, has in (("task", task, source.task), ("size", size, rule and rule.size), ("fit", fit_, rule and rule.fit)):
            if asked is not None and asked != has:
                raise RecipeError(
                    f"The setting data.{name} = {asked} comes too late: these data are loaded, as {has}.", f"Pass {name} to load."
                )
        if wanted.memory is not None:
            raise RecipeError(f"The setting data.memory = {wanted.memory:g} comes too late: these data are loaded.", "Pass memory to load.")
    return load(source, data_dir=data_dir, task=task, size=wanted.size, fit=fit_, memory=wanted.memory)


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
        told_by_data["loss.name"] = resolve_loss(recipe.loss, spec)
    if own is not None:
        if recipe.origin("model.name") != DEFAULT and recipe.model.name != type(own).__name__:
            raise RecipeError(f"The recipe asks for the model {recipe.model.name}, but another was passed.", "Give one of the two.")
        told_by_data["model.name"] = type(own).__name__
    recipe = recipe.updated(told_by_data, "data")
    name, options = recipe.model.name, recipe.model.options
    with isolated(torch.device("cpu")):
        torch.manual_seed(recipe.seed)
        net = own_net(name if own is None else own, spec) if is_own else build_net(name, spec, options)
    whole = assemble(net, spec, recipe.data, rescale=recipe.data.scale_targets and not is_own)
    strange = [name for name, value in whole.state_dict().items() if not isinstance(value, torch.Tensor)]
    if strange:
        raise ModelError(f"The model's state '{strange[0]}' is not a tensor and could not be kept.", "Leave it out of its state_dict.")
    return recipe, Bundle(whole, spec, None if is_own else (name, options), recipe.eval_batch_size)


@contextmanager
def _kept(folder: Path | None, made: Sequence[Path], tell: Callable[[str], object]) -> Iterator[None]:
    """Where the block ends before its time, say what is kept.

    A run folder with nothing worth keeping is removed, and so are the parents that were `made` for it.
    """
    try:
        yield
    except BaseException:
        if folder is not None and (folder / "model").exists():
            tell(f"The trained model is kept in {folder / 'model'}.")
        elif folder is not None and any((folder / "checkpoints").glob("step-*")):
            tell(f"To go on from the last checkpoint: epochal resume {folder}")
        elif folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
            for parent in made:
                # Another run may have begun beside this one: only what is empty goes.
                with suppress(OSError):
                    parent.rmdir()
        raise


def _refuse_idle(recipe: Recipe, own: Mapping[str, Any]) -> None:
    """Refuse settings that the user gave for a loss or an optimizer, but that a function of the user's own would ignore."""
    for group, function in own.items():
        given = [name for name in recipe.flat() if name.startswith(f"{group}.") and recipe.origin(name) in ("given", "command line")]
        if function is not None and given:
            raise RecipeError(f"The setting {given[0]} does not reach a {group} function of your own.", "Leave it out, or use it in there.")


def _draw(folder: Path, fitted: Fit, test: Evaluation | None, data: Data) -> None:
    from epochal.figures import draw_all

    with told(folder):
        folder.mkdir(exist_ok=True)
    draw_all(folder, fitted.epochs, test, data.test, data.spec)


def _names(own: Mapping[str, Any]) -> dict[str, str]:
    """Return what the user's own functions are called."""
    return {name: getattr(value, "__qualname__", type(value).__name__) for name, value in own.items() if value}


def _describe_data(source: Any, data: Data, recipe: Recipe, data_dir: str | Path | None) -> dict[str, Any]:
    """Return what data.json holds: enough to read the same data again and to see which example was in which split."""
    is_path = isinstance(source, Path) or (isinstance(source, str) and source not in SOURCES)
    named = str(Path(source).resolve()) if is_path else source if isinstance(source, str) else None
    return {
        "source": named,
        "data_dir": None if data_dir is None else str(Path(data_dir).expanduser().resolve()),
        "spec": data.spec.model_dump(mode="json"),
        "notes": list(data.notes),
        "split": {name: _describe_split(name, examples, recipe) for name, examples in data.splits.items()},
    }


def _describe_split(name: str, examples: Examples, recipe: Recipe) -> dict[str, Any]:
    if examples.part == name == "train" and len(examples) and int(examples.positions[-1]) == len(examples) - 1:
        return {"from": name, "count": len(examples)}
    if examples.part == name != "train":
        return {"from": name, "count": len(examples)}
    cut: dict[str, Any] = {"from": examples.part, "count": len(examples), "seed": recipe.seed}
    # The rest of train is what no other split took; listing the smaller parts tells all.
    return cut if name == "train" else {**cut, "positions": examples.positions.tolist()}


def environment(device: torch.device) -> dict[str, Any]:
    """Return what environment.json holds: versions, machine and command."""
    packages = ("epochal", "torch", "numpy", "pillow", "safetensors")
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "device": describe(device),
        "threads": torch.get_num_threads(),
        "processor": machine()[0],
        "packages": {name: metadata.version(name) for name in packages},
        "command": sys.argv,
    }


def _result(
    out: Path | None,
    recipe: Recipe,
    data: Data,
    summary: Summary,
    fitted: Fit,
    test: Evaluation | None,
    own: Mapping[str, str],
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """Return what result.json holds."""
    best = next(epoch for epoch in fitted.epochs if epoch.epoch == fitted.finished.best_epoch)
    result = {
        "run": None if out is None else str(out),
        "recipe": recipe.model_dump(mode="json"),
        "data": data.spec.model_dump(mode="json"),
        "model": {"name": recipe.model.name, "parameters": summary.parameters, "flops": summary.flops},
        "epochs": len(fitted.epochs),
        "best_epoch": fitted.finished.best_epoch,
        "ended_by": fitted.finished.reason,
        "valid": best.valid.to_json() if best.valid is not None else None,
        "test": test.to_json() if test is not None else None,
        "own": dict(own),
        "seconds": dict(seconds),
    }
    whole: dict[str, Any] = finite(result)
    return whole


class _Clock:
    """Seconds by phase."""

    def __init__(self) -> None:
        self.started = self.last = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = now - self.last
        self.last = now
        self.seconds["total"] = now - self.started


def _kept_recipe(folder: Path) -> Recipe:
    """Return the recipe of a run, each value with its origin."""
    if not folder.exists():
        raise BundleError(f"There is no {folder}.", "Give the folder of a run.")
    try:
        return read_kept(folder / "recipe.toml")
    except RecipeError as error:
        raise BundleError(f"{folder} is no run that can be gone on with: {error.problem}", "Give the folder of a run.") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} cannot be read: {error}.", "Give the folder of a run.") from error
    return value
