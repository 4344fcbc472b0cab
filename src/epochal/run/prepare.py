"""What every run needs before its first step: data read and split, a model with initial weights, and every setting resolved."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from torch import nn

from epochal.bundle import Bundle
from epochal.checks.loaded import in_one_line
from epochal.data.corrections import correct, corrected_by
from epochal.data.examples import Correction
from epochal.data.inputs.changes import MIXING
from epochal.data.load import Data, load
from epochal.data.sources.vocabulary import read_vocabulary
from epochal.data.storage.hub import PREFIX as HUB
from epochal.device import choose
from epochal.distributed.ranks import ranks
from epochal.errors import ModelError, RecipeError
from epochal.evaluation.decision import check_thresholds
from epochal.evaluation.named import all_metrics
from epochal.models.build import assemble, build_net, check_options, check_room, entry_of, is_listed, is_pretrained, own_net
from epochal.models.own_code import own_code
from epochal.models.pretrained.hub_nets import hub_settings
from epochal.models.summary import Summary
from epochal.progress import silent
from epochal.random import fork_rng
from epochal.recipe import DEFAULT, Recipe, load_recipe
from epochal.run.learner import Learner, learner_of
from epochal.run.tune import with_tune
from epochal.shown import counted
from epochal.terminal import command, options
from epochal.training.own import Own, with_own
from epochal.tuning.autotune import resolve_auto
from epochal.tuning.penalty import FOLDS, MOST, Penalty, cross_validated

# Settings about the columns and files of tables.
_OF_TABLES = ("target", "text", "ignore", "columns", "valid_data", "test_data", "file", "split_column", "group")

# Settings of how sounds are read.
_OF_SOUNDS = ("rate", "seconds", "windows")

# A preset's batches are made smaller, down to this size, until an epoch has so many steps; and larger, up to a size, while it has many.
_LEAST_BATCH, _LEAST_STEPS = 16, 16
_MOST_BATCH, _MANY_STEPS = 4096, 200

# Its epochs are made more, until there are so many steps in all of them.
_LEAST_UPDATES = 100

# And its epochs fewer, down to so many, until there are so many examples in all of them.
_LEAST_EPOCHS, _MANY_EXAMPLES = 5, 20_000_000

# The origin of what cross-validation found.
_VALIDATED = "cross-validation"

_COARSE = (
    "targets are far from 0 for their spread, and a network with float32 outputs cannot distinguish them all: subtract a constant "
    "from them, or let it compute its outputs in float64"
)


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


@dataclass(frozen=True)
class Prepared:
    """A run before its first step.

    Nothing in `recipe` is "auto". `data` are split, `bundle` has the weights that training begins with, and `learner` is what is trained
    of it, and on what. `own` are the user's own functions. `clock` has run since the run was asked for. `asked` is the recipe without
    what depends on the training examples. `penalty` is the weight decay that was chosen by cross-validation, if it was.
    """

    recipe: Recipe
    data: Data
    bundle: Bundle
    learner: Learner
    own: Own
    summary: Summary
    clock: Clock
    asked: Recipe
    penalty: Penalty | None = None

    @property
    def device(self) -> torch.device:
        """Where to train and evaluate."""
        return ranks().device(self.recipe.device)


def prepare(
    source: Any,
    recipe: Recipe,
    own: Own = Own(),  # noqa: B008  it is frozen
    *,
    model: nn.Module | None = None,
    data_dir: str | Path | None = None,
    log: Callable[[str], object] = silent,
) -> Prepared:
    """Read and split the data, build the model, and resolve every setting. `log` is called with messages about what was found and chosen.

    Raises an `EpochalError` for what cannot work.
    """
    clock = Clock()
    asked, data = read(source, recipe, own, model=model, data_dir=data_dir, log=log)
    clock.lap("load")
    return settle(asked, data, own, model, clock=clock, log=log)


def read(
    source: Any,
    recipe: Recipe,
    own: Own = Own(),  # noqa: B008  it is frozen
    *,
    model: nn.Module | None = None,
    data_dir: str | Path | None = None,
    log: Callable[[str], object] = silent,
) -> tuple[Recipe, Data]:
    """Read and split the data as `prepare` does; return them with the recipe in which all is settled that decides how they are read."""
    # What is wrong with the settings alone is reported before data are read.
    choose(recipe.device)
    with_own(recipe, own)
    recipe = with_named(recipe, log)
    if model is None and (entry := entry_of(recipe.model.name, recipe.model.options)) is not None:
        check_options(recipe.model.name, entry, recipe.model.options)
        if entry.weights is not None:
            if (given := recipe.data.vocabulary) not in (None, entry.asks.get("data.vocabulary")):
                raise RecipeError(
                    f"The setting data.vocabulary = {given} does not work with {recipe.model.name}, which has its own.", "Leave it out."
                )
            entry.weights.path()
    if recipe.folds is not None and recipe.origin("data.test") == DEFAULT:
        # Every example is tested on without being split off.
        recipe = recipe.updated({"data.test": 0.0}, "folds")
    recipe, data = load_for(recipe, source, data_dir, model)
    if data.valid is None and recipe.data.valid and recipe.origin("data.valid") == DEFAULT:
        recipe = recipe.updated({"data.valid": 0.0}, "few examples")
    check_thresholds(recipe, data.spec.task)
    if data.batch_size is not None and recipe.origin("batch_size") == DEFAULT:
        recipe = recipe.updated({"batch_size": data.batch_size}, "data loader")
    log(data.spec.describe())
    for note in data.notes:
        log(f"note: {note}")
    if findings := in_one_line(data):
        is_place = isinstance(source, str | Path)
        log(f"check: {findings} ({check_command(source, recipe, data_dir)} shows more)" if is_place else f"check: {findings}")
    return recipe, data


def settle(
    asked: Recipe, data: Data, own: Own, model: nn.Module | None, *, clock: Clock, log: Callable[[str], object] = silent
) -> Prepared:
    """Build the model for data that are read and split, and resolve every setting of the recipe that is `asked` for; see `prepare`."""
    recipe = _with_preset(asked, data)
    for note in _about_count(recipe, data):
        log(f"note: {note}")
    recipe, bundle = build(recipe, data, model, log)
    summary = bundle.summary()
    log(f"model {recipe.model.name}: {summary.flops:,} FLOPs per example")
    if data.spec.task.needs_float64 and data.spec.task.output_units(bundle.model) is None:
        log(f"note: {_COARSE}")
    all_metrics(recipe.metrics, recipe.monitor, own.metrics, data.spec.task)
    is_own = own.loss is not None or own.optimizer is not None
    learner = learner_of(recipe, bundle, data, log)
    if learner.data is not data:
        clock.lap("features")
    recipe, penalty = penalized(recipe, learner, own, log)
    recipe = resolve_auto(with_own(recipe, own), learner.model, learner.data, own=is_own, log=log)
    clock.lap("build")
    return Prepared(recipe, data, bundle, learner, own, summary, clock, asked, penalty)


def penalized(recipe: Recipe, learner: Learner, own: Own, log: Callable[[str], object] = silent) -> tuple[Recipe, Penalty | None]:
    """Return the recipe with the weight decay that cross-validation finds for a head alone, where the user gave none."""
    if recipe.tune != "head" or recipe.origin("optimizer.weight_decay") not in (DEFAULT, "model", _VALIDATED) or own.loss or own.optimizer:
        return recipe, None
    data = learner.data
    loss = data.spec.task.loss(recipe.loss, len(data.train), units=data.spec.task.output_units(learner.model))
    found = cross_validated(learner.model, "head.linear", data.train, data.spec.task, loss, recipe.seed)
    if found is None:
        return recipe, None
    log(f"cross-validation: {found.evaluation}")
    decay = f"optimizer.weight_decay = {found.weight_decay:.3g}"
    log(f"{decay}, with which {FOLDS} heads had the least loss on what they had not seen")
    return recipe.updated({"optimizer.weight_decay": found.weight_decay}, _VALIDATED), found


def check_command(source: str | Path, recipe: Recipe, data_dir: str | Path | None) -> str:
    """Return the command that checks the same data, read in the same way."""
    given = {name: getattr(recipe.data, name) for name in _OF_TABLES}
    return command("epochal", "check", source, *options({"data_dir": data_dir, **given}))


def _with_preset(recipe: Recipe, data: Data) -> Recipe:
    """Return the recipe with what suits this kind of input, where the user gave nothing. The data are read: theirs stay."""
    if not data.input.preset or is_pretrained(recipe.model.name):
        return recipe
    preset = load_recipe(data.input.preset)
    entry = entry_of(recipe.model.name, recipe.model.options)
    # What suits the model is told by the model.
    own = set() if entry is None else entry.asks.keys()
    wanted = {name: value for name, value in preset.flat().items() if preset.origin(name) != DEFAULT and name not in own}
    if data.valid is None:
        # Nothing can be chosen by validation.
        wanted.pop("patience", None)
    if "batch_size" in wanted:
        # With few examples an epoch would hardly have a step, and patience, which counts epochs, would end training at once. With many,
        # small batches take longer, and learn no better.
        most, many = (1 << max(len(data.train) // steps, 1).bit_length() - 1 for steps in (_LEAST_STEPS, _MANY_STEPS))
        wanted["batch_size"] = min(max(wanted["batch_size"], min(many, _MOST_BATCH)), max(_LEAST_BATCH, most))
        wanted["epochs"] = min(wanted["epochs"], max(_LEAST_EPOCHS, _MANY_EXAMPLES // len(data.train)))
    size = wanted.get("batch_size", recipe.batch_size)
    if isinstance(size, int) and "epochs" in wanted:
        # Few examples hardly change anything in few epochs.
        wanted["epochs"] = max(wanted["epochs"], -(-_LEAST_UPDATES // -(-len(data.train) // size)))
    return _filled(recipe, wanted, f"recipe {data.input.preset}", of_data=False)


def _about_count(recipe: Recipe, data: Data) -> Iterator[str]:
    """Yield which settings of a preset were changed because there are many examples, or few."""
    if not data.input.preset:
        return
    plain, ours, origin = load_recipe(data.input.preset).flat(), recipe.flat(), f"recipe {data.input.preset}"
    many = counted(len(data.train), data.input.noun)
    if recipe.origin("batch_size") == origin and ours["batch_size"] > plain["batch_size"]:
        yield f"batches of {ours['batch_size']:,}, since there are {many} (--batch-size)"
    if recipe.origin("epochs") == origin and ours["epochs"] < plain["epochs"]:
        yield f"at most {counted(ours['epochs'], 'epoch')}, since there are {many} (--epochs)"
    if recipe.origin("epochs") == origin and ours["epochs"] > plain["epochs"]:
        yield f"{ours['epochs']} epochs, since there are only {many} (--epochs)"


def _at_revision(recipe: Recipe, log: Callable[[str], object]) -> Recipe:
    """Return the recipe with what names exactly one state of a model of the hub, if it is one of those."""
    if not recipe.model.name.startswith(HUB):
        return recipe
    return recipe.updated(hub_settings(recipe.model.name, recipe.model.options, log), "hub")


def with_named(recipe: Recipe, log: Callable[[str], object] = silent) -> Recipe:
    """Return the recipe with what the model that it names asks of data where the user gave nothing; of the hub, with its exact state."""
    return with_model(_at_revision(recipe, log), of_data=True)


def with_model(recipe: Recipe, *, of_data: bool) -> Recipe:
    """Return the recipe with what its model asks for where the user gave nothing: settings of data, or others."""
    entry = entry_of(recipe.model.name, recipe.model.options)
    wanted = {} if entry is None else {**entry.asks, **entry.tuned.get(recipe.tune, {})}
    return _filled(recipe, wanted, "model", of_data=of_data)


def _filled(recipe: Recipe, wanted: Mapping[str, Any], origin: str, *, of_data: bool) -> Recipe:
    """Return the recipe with those of the settings that are `wanted`, of data or others, for which the user gave nothing."""
    left = {name: value for name, value in wanted.items() if name.startswith("data.") == of_data and recipe.origin(name) == DEFAULT}
    return recipe.updated(left, origin)


def load_for(recipe: Recipe, source: Any, data_dir: str | Path | None = None, own: nn.Module | None = None) -> tuple[Recipe, Data]:
    """Load and split data as the recipe says; where it leaves the model open, return it with a pre-trained one that suits the data."""
    pretrained = _may_be_pretrained(recipe, own)
    data = load_data(source, recipe, data_dir, pretrained=pretrained)
    return _as_read(_pretrained_for(recipe, data, pretrained), data), data


def read_for(recipe: Recipe, source: Any, data_dir: str | Path | None = None) -> tuple[Recipe, Data]:
    """Do what `load_for` does, without splitting the data."""
    pretrained = _may_be_pretrained(recipe, None)
    data = read_data(source, recipe, data_dir, pretrained=pretrained)
    return _pretrained_for(recipe, data, pretrained), data


def _may_be_pretrained(recipe: Recipe, own: nn.Module | None) -> bool | None:
    """Whether a pre-trained model is taken; `None` where that is left to the data."""
    asked = recipe.data
    if own is not None or recipe.model.name != "auto" or recipe.model.options:
        return False
    if recipe.tune in ("head", "last"):
        return True
    # These are not for a frozen trunk, or one that was trained with pixels of another scale.
    return False if MIXING.asked(recipe.augment) or asked.mean is not None or asked.std is not None else None


def _pretrained_for(recipe: Recipe, data: Data, pretrained: bool | int | tuple[int, int] | None) -> Recipe:
    """Return the recipe with the pre-trained model that data were read for, if one may be taken, and what it asks for."""
    if pretrained is False or data.model is None:
        return recipe
    height, width = data.input.shape[1:]
    size = {} if recipe.data.size is not None else {"data.size": height if height == width else (height, width)}
    return with_model(recipe.updated({"model.name": data.model, **size}, "data"), of_data=True)


def _as_read(recipe: Recipe, data: Data) -> Recipe:
    """Return the recipe without what its model asks for of pictures where inputs are others, or cannot be resized."""
    if is_pretrained(recipe.model.name) and data.input.windows > 1:
        raise RecipeError(
            f"The setting data.windows = {data.input.windows} does not work with {recipe.model.name}, which learns from single windows.",
            "Leave it out: epochal predict RUN FILE --windows N averages over windows.",
        )
    asked = {name for name in ("data.size", "data.mean", "data.std") if recipe.origin(name) == "model"}
    if data.input.kind == "picture":
        asked &= {"data.size"} if data.train.files is None else set()
    return recipe.updated(dict.fromkeys(asked), DEFAULT)


def load_data(
    source: Any,
    recipe: Recipe,
    data_dir: str | Path | None = None,
    exclude: Sequence[str] | None = None,
    kind: str | None = None,
    corrected: Sequence[Sequence[Any]] | None = None,
    *,
    pretrained: bool | int | tuple[int, int] | None = False,
) -> Data:
    """Load and split data as the recipe says; data that are loaded already must agree with it.

    `exclude` are the names that the recipe's list held when the run began, `corrected` what its lists of corrected labels said then, and
    `kind` is what its inputs were read as. `pretrained` is as in `load`.
    """
    data = read_data(source, recipe, data_dir, exclude, kind, pretrained=pretrained)
    return split_data(_pretrained_for(recipe, data, pretrained), data, source, corrected)


def read_data(
    source: Any,
    recipe: Recipe,
    data_dir: str | Path | None = None,
    exclude: Sequence[str] | None = None,
    kind: str | None = None,
    *,
    pretrained: bool | int | tuple[int, int] | None = False,
) -> Data:
    """Load data as the recipe says, and do not split them; see `load_data`."""
    wanted = recipe.data
    task = None if wanted.task == "auto" else wanted.task
    fit = None if wanted.fit == "auto" else wanted.fit
    tokens = None if wanted.tokens == "auto" else wanted.tokens
    others = {name: getattr(wanted, name) for name in (*_OF_TABLES, *_OF_SOUNDS, "vocabulary")}
    pixels = wanted.size
    if recipe.origin("data.size") == "model" and not (isinstance(source, Data) and source.train.files is not None):
        # What has no size that can be chosen is taken as it is.
        pixels, pretrained = None, wanted.size
    if isinstance(source, Data):
        # The data are read already: a setting that asks for something else would be ignored.
        size = (pixels, pixels) if isinstance(pixels, int) else pixels
        side, how = (getattr(source.input, name, None) for name in ("side", "fit"))
        read = getattr(source.input, "tokens", tokens)
        for name, asked, has in (("task", task, source.task.name), ("size", size, side), ("fit", fit, how), ("tokens", tokens, read)):
            if asked is not None and asked != has:
                raise RecipeError(
                    f"The setting data.{name} = {asked} comes too late: these data are loaded, as {has}.", f"Pass {name} to load."
                )
        if wanted.vocabulary and read_vocabulary(wanted.vocabulary, tokens) == getattr(source.input, "vocabulary", ""):
            del others["vocabulary"]
        for name, given in {"memory": wanted.memory, "exclude": wanted.exclude, **others}.items():
            if given:
                raise RecipeError(f"The setting data.{name} = {given} comes too late: these data are loaded.", f"Pass {name} to load.")
    left_out = wanted.exclude if exclude is None else exclude
    return load(
        source,
        data_dir=data_dir,
        task=task,
        size=pixels,
        fit=fit,
        memory=wanted.memory,
        exclude=left_out,
        input=kind,
        tokens=tokens,
        pretrained=pretrained,
        **others,
    )


def split_data(recipe: Recipe, data: Data, source: Any, corrected: Sequence[Sequence[Any]] | None = None) -> Data:
    """Split data that were read from `source`, and correct their labels; see `load_data`. What `data` had is then void."""
    wanted = recipe.data
    # A few examples split off would say little, while all serve cross-validation.
    is_few = len(data.train) < MOST and is_pretrained(recipe.model.name) and recipe.tune in ("auto", "head")
    is_open = recipe.patience is None and recipe.origin("data.valid") == DEFAULT
    valid = 0.0 if is_few and is_open else wanted.valid
    # Nobody else has what was read from files.
    data = data.split(valid, wanted.test, recipe.split_seed, in_place=isinstance(source, str | Path))
    # Last: a run with corrected labels is tested on the same examples as without.
    if corrected is None:
        return reduce(corrected_by, (Path(path).expanduser() for path in wanted.labels), data)
    return correct(data, [Correction(*one) for one in corrected[len(data.corrected) :]])


def _with_weights(recipe: Recipe, net: nn.Module) -> Recipe:
    """Give a network the weights that it was pre-trained to, if it is one of those; return the recipe that names exactly them."""
    entry = entry_of(recipe.model.name, recipe.model.options)
    if entry is None or entry.weights is None:
        return recipe
    exact = entry.weights.load_into(net.get_submodule("trunk"))
    return recipe.updated({name: value for name, value in exact.items() if recipe.flat().get(name) != value}, "weights")


def build(recipe: Recipe, data: Data, own: nn.Module | None = None, log: Callable[[str], object] = silent) -> tuple[Recipe, Bundle]:
    """Build the whole model, with initial weights that follow from the seed, and fill in the settings that depend on data and model."""
    spec = data.spec
    is_own = own is not None or (".py" in recipe.model.name and not is_listed(recipe.model.name))
    if is_own and recipe.model.options:
        raise RecipeError(f"Your own model takes no options from the recipe: {', '.join(recipe.model.options)}.", "Set them in its code.")
    from_data: dict[str, Any] = {"model.name": spec.input.default_model} if recipe.model.name == "auto" and own is None else {}
    if recipe.loss.name == "auto":
        from_data["loss.name"] = spec.task.resolve_loss(recipe.loss)
    if own is not None:
        if recipe.origin("model.name") != DEFAULT and recipe.model.name != type(own).__name__:
            raise RecipeError(f"The recipe asks for the model {recipe.model.name}, but another was passed.", "Give one of the two.")
        from_data["model.name"] = type(own).__name__
    recipe = recipe.updated(from_data, "data")
    name, options = recipe.model.name, recipe.model.options
    if not is_own:
        check_room(name, spec, options)
    with fork_rng(torch.device("cpu")):
        torch.manual_seed(recipe.seed)
        net = own_net(name if own is None else own, spec) if is_own else build_net(name, spec, options)
    if not is_own:
        recipe = _with_weights(recipe, net)
    whole = assemble(net, spec, recipe.data, rescale=recipe.data.scale_targets and not is_own)
    recipe = with_model(with_tune(recipe, whole, data, log), of_data=False)
    not_tensors = [name for name, value in whole.state_dict().items() if not isinstance(value, torch.Tensor)]
    if not_tensors:
        raise ModelError(f"The model's state '{not_tensors[0]}' is not a tensor and cannot be saved.", "Leave it out of its state_dict.")
    # Read now: the files may be edited during training.
    code = own_code(net) if is_own else {}
    # Where the weights of its trunk were is nobody else's business.
    kept = {option: value for option, value in recipe.model.options.items() if option != "weights"}
    return recipe, Bundle(whole, spec, None if is_own else (name, kept), recipe.eval_batch_size, code=code)
