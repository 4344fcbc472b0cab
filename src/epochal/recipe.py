"""Every setting of an experiment: its type, unit, default and one-line description, in one frozen value.

A `Recipe` is built in layers, later ones winning: defaults, a named preset or TOML file, what the data bring, the user's
own words. Each value remembers which layer it came from. A value that the user gave is never changed; one that cannot work
stops the run before its first step.

    Recipe()                                            all defaults
    load_recipe("tutorial-mlp")                         a preset, or the path of a TOML file
    recipe.updated({"lr": 0.01, "epochs": 5})           short names work where only one setting ends so
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr

from epochal.errors import RecipeError, reason_of, suggest
from epochal.io.checksums import text_with_checksum, verified_text
from epochal.io.files import as_text, write_text
from epochal.io.safe_read import MAX_TOML, open_file, text_of

DEFAULT = "default"

# Settings that cannot change what comes out, only how it is come by: a run may go on with others than it was begun with.
RUNTIME_SETTINGS = ("checkpoint_every", "workers", "data.memory")

_DEEPEST_NAME = 100


def _named(value: Any) -> Any:
    """Let a group be given by its name alone: optimizer = "adam"."""
    return {"name": value} if isinstance(value, str) else value


def _words_of(value: Any) -> Any:
    """Let several names be given in one text: "f1, auc"."""
    return tuple(word.strip() for word in value.split(",")) if isinstance(value, str) else value


class Settings(BaseModel):
    """Base of all groups of settings: frozen, strict about names and types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())


Fraction = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1, le=2**31)]


class DataSettings(Settings):
    """How examples are read and split."""

    task: Literal["auto", "single-label", "multi-label", "regression"] = Field(
        "auto", description="what the targets mean; auto: told from their type and shape"
    )
    valid: Fraction = Field(0.1, description="fraction of the training data cut off for validation, where the data bring none")
    test: Fraction = Field(0.2, description="fraction of the data cut off for the final test, where the data bring none")
    size: Count | tuple[Count, Count] | None = Field(
        None, description="picture size in pixels, one number or [height, width]; none: told from the files"
    )
    fit: Literal["auto", "pad", "crop", "squash"] = Field(
        "auto", description="how pictures of other shapes fit that size; auto: told from their aspect ratios"
    )
    memory: Positive | None = Field(
        None, description="GB of memory that examples may take before they are streamed from the disk; none: half of what is free"
    )
    exclude: str | None = Field(
        None, description="file that lists examples to leave out, as `epochal check DATA --quarantine FILE` writes it"
    )
    sampling: Literal["shuffled", "balanced"] = Field(
        "shuffled",
        description="what an epoch is made of; shuffled: each example once; balanced: as many examples, but as many of each class",
    )
    mean: float | tuple[float, ...] | None = Field(
        None, description="subtracted from inputs, per channel or feature (pixels count 0 to 1); none: measured on training data"
    )
    std: float | tuple[float, ...] | None = Field(
        None, description="inputs are divided by it, per channel or feature (pixels count 0 to 1); none: measured on training data"
    )
    scale_targets: bool = Field(
        True, description="regression: let our models predict, and count the loss, in units of each quantity's spread"
    )


class AugmentSettings(Settings):
    """Random changes of training pictures, in this order; validation and test pictures stay as they are."""

    shift: Annotated[int, Field(ge=0)] = Field(
        0, description="shift pictures by up to so many pixels, filling in black, or the colour of their edges (a padded random crop)"
    )
    flip: bool = Field(False, description="mirror every other picture left to right, and in the next epoch the others")
    rotate: Annotated[float, Field(ge=0, le=180)] = Field(0.0, description="rotate pictures by up to so many degrees, either way")
    scale: Fraction = Field(0.0, description="change their size by up to this fraction: 0.1 is 0.9 to 1.1 times")
    shear: Annotated[float, Field(ge=0, lt=90)] = Field(0.0, description="slant them sideways by up to so many degrees, either way")
    brightness: Share = Field(0.0, description="multiply pixels by a factor of 1 plus or minus up to this fraction")
    contrast: Share = Field(0.0, description="stretch pixels about their mean grey by 1 plus or minus up to this fraction")
    saturation: Share = Field(0.0, description="stretch colours about their own grey by 1 plus or minus up to this fraction")
    hue: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.0, description="turn colours by up to this fraction of the colour circle, either way"
    )
    policy: Literal["rand"] | None = Field(
        None, description="rand: two random operations on each picture (RandAugment: movements, brightness, contrast, ...); none: off"
    )
    policy_magnitude: Annotated[float, Field(ge=0, le=10)] = Field(5.0, description="rand: strength of its operations, from 0 to 10")
    erase: Share = Field(0.0, description="probability of a black rectangle of 2 to 33 % of the picture")
    mixup: Annotated[float, Field(ge=0, le=100)] = Field(
        0.0, description="blend each picture and its target with another's, in shares from Beta(a, a) of this a; 0: off"
    )
    cutmix: Annotated[float, Field(ge=0, le=100)] = Field(
        0.0, description="paste a rectangle of another picture, sized by Beta(a, a) of this a, and mix the targets likewise; 0: off"
    )


class ModelSettings(Settings):
    """The network and its own options."""

    # A model's options are the parameters of its builder; they are checked where the models are known.
    model_config = ConfigDict(extra="allow")

    name: str = Field(
        "auto", description="a name from `epochal models`, or FILE.py:CLASS; auto: conv for pictures (vgg for tiny ones), mlp for numbers"
    )

    @property
    def options(self) -> dict[str, Any]:
        """What was given besides the name."""
        return dict(self.model_extra or {})


class LossSettings(Settings):
    """What training minimizes."""

    name: Literal["auto", "cross-entropy", "nll", "bce", "mse", "l1", "huber"] = Field(
        "auto", description="auto: cross-entropy for one label, bce for several, mse for numbers"
    )
    smoothing: Fraction = Field(0.0, description="label smoothing of cross-entropy")
    class_weights: Literal["equal", "balanced"] | tuple[Positive, ...] = Field(
        "equal", description="weight of each class in cross-entropy, nll and bce; balanced: by inverse frequency"
    )
    delta: Positive = Field(1.0, description="where huber turns from square to straight")


class OptimizerSettings(Settings):
    """How gradients change the weights."""

    name: str = Field("adamw", description="sgd, adam, adamw, muon, adagrad, rmsprop, or any other class of torch.optim")
    lr: Positive = Field(0.002, description="learning rate; the highest one where the schedule changes it")
    momentum: Fraction | None = Field(None, description="momentum of sgd, rmsprop and muon; none: the optimizer's own default")
    nesterov: bool = Field(False, description="Nesterov's form of momentum, for sgd")
    weight_decay: NotNegative | None = Field(None, description="weight decay; none: the optimizer's own default")
    options: dict[str, bool | int | float | tuple[float, ...]] = Field(
        default_factory=dict, description="further arguments of the torch.optim class, by name"
    )


class ScheduleSettings(Settings):
    """How the learning rate changes over training."""

    name: Literal["constant", "step", "multi-step", "plateau", "cosine", "one-cycle"] = Field(
        "one-cycle", description="constant, step, multi-step, plateau, cosine or one-cycle"
    )
    warmup: NotNegative = Field(0.0, description="epochs of linear rise at the start (one-cycle has its own)")
    every: Count = Field(10, description="step: epochs between two cuts")
    at: tuple[Count, ...] = Field((), description="multi-step: the epochs after which the rate is cut")
    factor: Annotated[float, Field(gt=0, lt=1)] = Field(0.1, description="step, multi-step, plateau: the rate is multiplied by it")
    patience: Count = Field(10, description="plateau: epochs without improvement before a cut")
    rise: Annotated[float, Field(gt=0, lt=1)] = Field(0.3, description="one-cycle: share of training in which the rate rises")


class Recipe(Settings):
    """All settings of one experiment."""

    epochs: Count = Field(10, description="passes over the training data")
    batch_size: Count | Literal["auto"] = Field(
        64, description="examples per step; auto: a power of two near the fastest, measured where training is long enough, else 64"
    )
    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(
        0, description="decides every random choice: what is cut off for validation and test, initial weights, order, augmentation, dropout"
    )
    device: str = Field(
        "auto", description="cpu, cuda, cuda:1, mps; auto: the fastest, measured where training is long enough, else cuda, mps or cpu"
    )
    threads: Count | Literal["auto"] = Field(
        "auto",
        description="CPU threads of one step; auto: PyTorch's number, or fewer where that is measured to be faster, or where other "
        "programs keep the cores busy",
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "fp32",
        description="number format of the forward pass; weights stay fp32; auto: fp32 or bf16, measured where training is long enough",
    )
    compile: Literal["auto", "on", "off"] = Field(
        "auto",
        description="let torch.compile turn forward and backward pass into code of their own (on CUDA, one graph); auto: where it was "
        "measured to pay within this training",
    )
    max_steps: Count | None = Field(None, description="stop after so many steps")
    max_seconds: Positive | None = Field(None, description="stop after so many seconds of training")
    checkpoint_every: Positive = Field(
        60.0, description="seconds between two checkpoints; more are written at the ends of epochs, where that takes less than 1 %"
    )
    on_nan: Literal["stop", "rewind"] = Field(
        "stop",
        description="where a loss, gradient or weight is NaN or infinite: stop, or go back to the last checkpoint and on from there "
        "with half the learning rate, up to three times",
    )
    patience: Count | None = Field(None, description="stop after so many epochs without a better validation score")
    metrics: Annotated[tuple[str, ...], BeforeValidator(_words_of)] = Field(
        (), description="further scores on validation and test data: balanced accuracy, f1, auc, ... (in Python also functions)"
    )
    monitor: str = Field(
        "auto",
        description="the validation score that picks the best epoch: loss, accuracy or a metric (min NAME: lower is better); auto: loss, "
        "but with fewer than 1,000 examples the latest epoch whose accuracy is as good as the best within its error",
    )
    keep: Literal["best", "last"] = Field(
        "best", description="which epoch's weights to keep; best needs validation data, without which it is the last"
    )
    accumulate: Count = Field(
        1, description="split each batch into so many parts to save memory; the gradient stays that of the whole batch"
    )
    clip_norm: Positive | None = Field(None, description="scale gradients down to this norm")
    ema: Fraction = Field(0.0, description="keep a moving average of the weights with this decay; 0: off")
    eval_batch_size: Count = Field(1000, description="examples per batch in evaluation and prediction")
    workers: Annotated[int, Field(ge=0)] = Field(0, description="processes that read data which do not fit memory")
    data: DataSettings = DataSettings()
    augment: AugmentSettings = AugmentSettings()
    model: Annotated[ModelSettings, BeforeValidator(_named)] = ModelSettings()
    loss: Annotated[LossSettings, BeforeValidator(_named)] = LossSettings()
    optimizer: Annotated[OptimizerSettings, BeforeValidator(_named)] = OptimizerSettings()
    schedule: Annotated[ScheduleSettings, BeforeValidator(_named)] = ScheduleSettings()

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    @property
    def examples_per_step(self) -> int:
        """The batch size of a recipe in which it is no longer "auto"."""
        assert self.batch_size != "auto", "resolve_auto comes first"
        return self.batch_size

    @property
    def threads_per_step(self) -> int:
        """The CPU threads of a recipe in which their number is no longer "auto"."""
        assert self.threads != "auto", "resolve_auto comes first"
        return self.threads

    def origin(self, setting: str) -> str:
        """Where the value of a setting such as "optimizer.lr" came from: "default", a preset's name, "command line", "measured", ..."""
        return self._origins.get(setting, DEFAULT)

    def origins(self) -> dict[str, str]:
        """The origin of every setting by its dotted name."""
        return {name: self.origin(name) for name in self.flat()}

    def flat(self) -> dict[str, Any]:
        """Every setting by its dotted name, in the order of definition."""
        return dict(_flatten(self.model_dump()))

    def updated(self, changes: Mapping[str, Any], origin: str = "given") -> Recipe:
        """Return a recipe with `changes` on top, each remembering its `origin`.

        `changes` may be nested or dotted, and short where only one setting has the name: `{"lr": 0.1}` is
        `{"optimizer.lr": 0.1}`. Choosing another model drops the options of the one before.
        Raises `RecipeError` for an unknown name, a wrong type, or a value out of range.
        """
        values, origins = self.flat(), dict(self._origins)
        flat = {_full_name(name): value for name, value in _flatten(changes)}
        # Options that were given before the data chose the model are that model's.
        if "model.name" in flat and self.model.name not in ("auto", flat["model.name"]):
            for option in self.model.options:
                values.pop(f"model.{option}")
                origins.pop(f"model.{option}", None)
        for name, value in flat.items():
            values[name] = value
            origins[name] = origin
        recipe = _validated(_nest(values), origin)
        recipe._origins.update(origins)
        return recipe

    def __repr__(self) -> str:
        chosen = ", ".join(f"{name} = {value!r}" for name, value in self.flat().items() if self.origin(name) != DEFAULT)
        return f"Recipe({chosen or 'all defaults'})"

    __str__ = __repr__

    def to_toml(self) -> str:
        """Return the recipe as TOML, each value followed by its origin. Settings that are none are left out."""
        import tomlkit

        document = tomlkit.document()
        for name, value in self.flat().items():
            if value is None or value == {}:
                continue
            *groups, last = name.split(".")
            table: Any = document
            for group in groups:
                if group not in table:
                    table.add(group, tomlkit.table())
                table = table[group]
            item = tomlkit.item(list(value) if isinstance(value, tuple) else value)
            item.comment(self.origin(name))
            table.add(last, item)
        return tomlkit.dumps(document)


def load_recipe(name: str | Path) -> Recipe:
    """Return a preset by its name (see `presets`) or a recipe from the path of a TOML file.

    Raises `RecipeError` when there is neither, or when the file is not TOML or holds an unknown or wrong setting.
    """
    known = presets()
    if str(name) in known:
        text, where = (resources.files("epochal") / "recipes" / f"{name}.toml").read_text("utf-8"), f"recipe {name}"
    elif Path(name).suffix == ".toml":
        text, where = _read(Path(name), text_of), str(name)
    else:
        raise RecipeError(f"Unknown recipe '{name}'.", f"{suggest(str(name), known)} `epochal recipes` lists them; a TOML file works too.")
    return _from_toml(text, where)


def _from_toml(text: str, where: str) -> Recipe:
    try:
        changes = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # For an integer with very many digits, no TOMLDecodeError.
        raise RecipeError(f"{where} is not valid TOML: {error}.", "Fix that line.") from error
    try:
        return Recipe().updated(changes, where)
    except RecipeError as error:
        if where in error.problem:
            raise
        raise RecipeError(f"{where}: {error.problem}", error.fix) from error


def keep_recipe(path: Path, recipe: Recipe) -> None:
    """Write a recipe so that `read_kept` gives it back, whole or not at all. Raises `OutputError`."""
    write_text(path, text_with_checksum(recipe.to_toml()))


def read_kept(path: Path) -> Recipe:
    """Return the recipe that `keep_recipe` wrote, each value with the origin that stands behind it. Raises `RecipeError`."""
    import tomlkit

    text = _read(path, as_text)
    recipe = _from_toml(text, str(path))
    try:
        document = tomlkit.parse(verified_text(text))
    except ValueError as error:
        fix = "Bring it back as it was; to train again with what it says now, name it as --recipe."
        raise RecipeError(f"{path} cannot be used: {error}.", fix) from error
    for name in recipe.flat():
        *groups, last = name.split(".")
        table: Any = document
        for group in groups:
            table = table.get(group, {})
        # A group in several pieces, which `to_toml` does not write, has no comments to read.
        if last in table and hasattr(table, "item"):
            recipe._origins[name] = table.item(last).trivia.comment.removeprefix("# ")
    return recipe


def _read(path: Path, decode: Callable[[bytes], str]) -> str:
    try:
        with open_file(path) as file:
            content = file.read(MAX_TOML + 1)
        if len(content) > MAX_TOML:
            raise ValueError(f"it has more than {MAX_TOML:,} bytes")
        text = decode(content)
        # Readers of TOML take time that grows with the square of a name's depth.
        if any(piece.count(".") > _DEEPEST_NAME for piece in re.split(r"[^\w.\"'\s-]|\n", text)):
            raise ValueError("a name in it is too deep")
        return text
    except (OSError, ValueError) as error:
        raise RecipeError(f"Cannot read the recipe {path}: {reason_of(error)}.", "Check the path.") from error


def as_recipe(recipe: Recipe | str | Path | Mapping[str, Any] | None) -> Recipe:
    """Return the recipe that a Python program means: a `Recipe`, a preset's name or a TOML file, a mapping of settings, or none."""
    if recipe is None or isinstance(recipe, Recipe):
        return recipe or Recipe()
    if isinstance(recipe, Mapping):
        return Recipe().updated(recipe)
    if isinstance(recipe, str | Path):
        return load_recipe(recipe)
    raise RecipeError(f"A {type(recipe).__name__} is no recipe.", "Pass a Recipe, a preset's name, a TOML file, or a mapping of settings.")


def presets() -> dict[str, str]:
    """Return the names of the presets, each with its one-line description (the first line of its file)."""
    files = (resources.files("epochal") / "recipes").iterdir()
    found = {file.name.removesuffix(".toml"): file for file in files if file.name.endswith(".toml")}
    return {name: found[name].read_text("utf-8").split("\n", 1)[0].lstrip("# ") for name in sorted(found)}


def fields() -> Iterator[tuple[str, Any]]:
    """Yield every setting's dotted name and pydantic field, in the order of definition."""
    for name, field in Recipe.model_fields.items():
        group = _group(field)
        if group is None:
            yield name, field
        else:
            yield from ((f"{name}.{inner}", value) for inner, value in group.model_fields.items())


def type_of(setting: str) -> Any:
    """Return the type of a setting by its name, full or short; of a model's option, which only the model knows, `Any`.

    Raises `RecipeError` for an unknown name.
    """
    field = dict(fields()).get(_full_name(setting))
    return Any if field is None else field.annotation


def _group(field: Any) -> type[Settings] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Settings) else None


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        # optimizer.options is itself a mapping: it is one value.
        if isinstance(value, Mapping) and name.rpartition(".")[2] != "options":
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _nest(values: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, value in values.items():
        group, dot, inner = name.partition(".")
        if dot:
            nested.setdefault(group, {})[inner] = value
        else:
            nested[name] = value
    return nested


def _full_name(name: str) -> str:
    """Return the dotted name that `name` stands for."""
    known = [known for known, _ in fields()]
    if name in known or name.startswith("model."):
        return name
    if f"{name}.name" in known:
        return f"{name}.name"
    matches = [full for full in known if full.endswith(f".{name}")]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise RecipeError(f"The setting '{name}' could be any of {', '.join(matches)}.", "Write it out.")
    short = {full.rpartition(".")[2]: full for full in known}
    raise RecipeError(f"Unknown setting '{name}'.", suggest(name, {*known, *short}))


def _validated(values: dict[str, Any], origin: str) -> Recipe:
    # TOML and JSON have lists where the settings are tuples.
    try:
        return Recipe.model_validate(_tuples(values))
    except pydantic.ValidationError as error:
        # Where a setting may be of several kinds, the error that lies deepest is that of the kind which was meant.
        first = max(error.errors(), key=lambda found: len(found["loc"]))
        name = ".".join(str(part) for part in first["loc"] if isinstance(part, str) and part in _words())
        described = dict(fields()).get(name)
        fix = f"{name}: {described.description}." if described is not None and described.description else ""
        message = first["msg"].removeprefix("Input should be ")
        raise RecipeError(f"The setting {name} = {first['input']!r} ({origin}) cannot be used: it should be {message}.", fix) from error


def _words() -> set[str]:
    return {word for name, _ in fields() for word in name.split(".")}


def _tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    if isinstance(value, dict):
        return {name: _tuples(item) for name, item in value.items()}
    return value
