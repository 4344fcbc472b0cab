"""Every setting of an experiment: its type, unit, default and one-line description.

A setting in a group has a short name only where its field says so (`Short`): what people type never changes because a
setting is added elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.fields import FieldInfo

# Settings that cannot change the results, only how they are computed: a resumed run may change them.
RUNTIME_SETTINGS = ("step", "checkpoint_every", "workers", "data.memory")

_SHORT = "short"

T = TypeVar("T")

# The setting can be given without its group: "lr" for "optimizer.lr", on the command line --lr.
Short = Annotated[T, _SHORT]


class Settings(BaseModel):
    """Base of all groups of settings: frozen, strict about names and types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())


def _by_name(value: Any) -> Any:
    """Allow a group to be given only by its name: optimizer = "adam"."""
    return {"name": value} if isinstance(value, str) else value


def _split_names(value: Any) -> Any:
    """Let several names be given in one text, "f1, auc", and a name be a number."""
    if isinstance(value, int):
        return (str(value),)
    return tuple(word.strip() for word in value.split(",")) if isinstance(value, str) else value


def _split_pairs(value: Any) -> Any:
    """Let several pairs be given in one text: "zip=category,born=date"."""
    if not isinstance(value, str):
        return value
    pairs = (pair.rpartition("=") for pair in value.split(",") if pair.strip())
    return {name.strip(): kind.strip() for name, _, kind in pairs}


Names = Annotated[tuple[str, ...], BeforeValidator(_split_names)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1, le=2**31)]


class DataSettings(Settings):
    """How examples are read and split."""

    task: Short[Literal["auto", "single-label", "multi-label", "regression"]] = Field(
        "auto", description="what the targets mean; auto: inferred from their type and shape"
    )
    valid: Short[Fraction] = Field(
        0.1, description="fraction of the training data split off for validation, if the data have no validation part"
    )
    test: Short[Fraction] = Field(0.2, description="fraction of the data split off for the final test, if the data have no test part")
    split_seed: Short[Annotated[int, Field(ge=0, lt=2**63)] | None] = Field(
        None, description="determines which examples are split off; none: seed, so that runs of other seeds are tested on other examples"
    )
    valid_data: Short[str | None] = Field(None, description="tables: the file with the validation data")
    test_data: Short[str | None] = Field(None, description="tables: the file with the test data")
    target: Short[Names] = Field((), description="tables: the column to predict, or several: by name, or by number (-1 is the last)")
    ignore: Short[Names] = Field((), description="tables: columns to leave out")
    text: Short[Names] = Field((), description="tables: the columns of text to learn from")
    tokens: Short[Literal["auto", "ngrams", "words", "wordpiece", "bpe"]] = Field(
        "auto",
        description="what texts are made of; ngrams: words, runs of words and parts of words, without order; words: words in order; "
        "wordpiece, bpe: pieces of words in order, as minilm and wordllama know them; auto: what the model takes",
    )
    vocabulary: Short[str | None] = Field(
        None,
        description="texts: the pieces of words of a BERT network, vocab.txt or hub:OWNER/NAME, for wordpiece; none: what the model has",
    )
    columns: Short[Annotated[dict[str, str], BeforeValidator(_split_pairs)]] = Field(
        default_factory=dict, description="tables: what columns mean, as NAME=number, category or date: zip=category,born=date"
    )
    file: Short[str | None] = Field(
        None, description="tables of pictures or sounds: the column with their names, relative to the table's folder"
    )
    split_column: Short[str | None] = Field(
        None, description="tables: the column that says which split each row is in (train, valid, test); none: the one named split, if any"
    )
    group: Short[str | None] = Field(
        None,
        description="what stays in one split (people, patients): a column of the table; for files a regular expression whose first "
        "parenthesis matches that part of the name: '([a-z]+)_'",
    )
    size: Short[Count | tuple[Count, Count] | None] = Field(
        None, description="picture size in pixels, one number or [height, width]; none: taken from the files"
    )
    fit: Short[Literal["auto", "pad", "crop", "squash"]] = Field(
        "auto", description="how pictures of other shapes are made to fit that size; auto: chosen by their aspect ratios"
    )
    rate: Short[Annotated[int, Field(ge=1000, le=384_000)] | None] = Field(
        None, description="samples per second of sounds; none: the most common rate of the files, at most 16,000"
    )
    seconds: Positive | None = Field(
        None,
        description="length of sounds in seconds: shorter ones are padded, longer ones cropped, or cut into windows; none: that of "
        "nearly all files, at most 10",
    )
    windows: Short[Annotated[int, Field(ge=1, le=10_000)] | None] = Field(
        None, description="cut longer sounds into up to this many windows of that length, and average what is predicted from each"
    )
    memory: Short[Positive | None] = Field(
        None, description="GB of memory that examples may take before they are streamed from disk; none: half of what is free"
    )
    exclude: Short[str | None] = Field(
        None, description="file that lists examples to leave out, as written by `epochal check DATA --quarantine FILE`"
    )
    labels: Short[Names] = Field(
        (),
        description="files with corrected labels, as in labels.csv of a run: its column label says what is right, and yes in remove leaves "
        "an example out",
    )
    sampling: Short[Literal["shuffled", "balanced"]] = Field(
        "shuffled",
        description="which examples make up an epoch; shuffled: each one once; balanced: as many in all, but equally many of each class",
    )
    mean: Short[float | tuple[float, ...] | None] = Field(
        None, description="subtracted from inputs, per channel or feature (pixels count 0 to 1); none: measured on training data"
    )
    std: Short[float | tuple[float, ...] | None] = Field(
        None, description="inputs are divided by it, per channel or feature (pixels count 0 to 1); none: measured on training data"
    )
    scale_targets: Short[bool] = Field(
        True, description="regression: the built-in models predict, and the loss is computed, in units of each target's standard deviation"
    )


class AugmentSettings(Settings):
    """Random changes of training examples, in this order; those for validation and test stay as they are."""

    shift: Short[Annotated[int, Field(ge=0)]] = Field(
        0, description="shift pictures by up to this many pixels, filling in black, or the colour of their edges (a padded random crop)"
    )
    flip: Short[bool] = Field(False, description="mirror every other picture left to right, and the others in the next epoch")
    rotate: Short[Annotated[float, Field(ge=0, le=180)]] = Field(0.0, description="rotate pictures by up to this many degrees, either way")
    scale: Short[Fraction] = Field(0.0, description="scale pictures by up to this fraction: 0.1 is 0.9 to 1.1 times")
    shear: Short[Annotated[float, Field(ge=0, lt=90)]] = Field(
        0.0, description="shear pictures sideways by up to this many degrees, either way"
    )
    brightness: Short[Share] = Field(0.0, description="multiply pixels by a factor of 1 plus or minus up to this fraction")
    contrast: Short[Share] = Field(
        0.0, description="stretch pixels about their mean grey by a factor of 1 plus or minus up to this fraction"
    )
    saturation: Short[Share] = Field(
        0.0, description="stretch colours about their own grey by a factor of 1 plus or minus up to this fraction"
    )
    hue: Short[Annotated[float, Field(ge=0, le=0.5)]] = Field(
        0.0, description="rotate hues by up to this fraction of the colour circle, either way"
    )
    policy: Short[Literal["rand"] | None] = Field(
        None, description="rand: two random operations on each picture (RandAugment: movements, brightness, contrast, ...); none: off"
    )
    policy_magnitude: Short[Annotated[float, Field(ge=0, le=10)]] = Field(5.0, description="rand: strength of its operations, from 0 to 10")
    erase: Short[Share] = Field(0.0, description="probability that a rectangle of 2 to 33 % of the picture is blacked out")
    time_shift: Short[NotNegative] = Field(0.0, description="shift sounds by up to this many seconds, either way")
    time_mask: Short[NotNegative] = Field(0.0, description="silence a random stretch of each sound, of up to this many seconds")
    frequency_mask: Short[Fraction] = Field(
        0.0, description="silence a random band of frequencies of each sound, of up to this fraction of all that an ear tells apart"
    )
    noise: Short[Share] = Field(0.0, description="add noise to sounds, of up to this fraction of their loudest sample")
    word_dropout: Short[Fraction] = Field(0.0, description="leave out this fraction of the words, or n-grams, of each text")
    mixup: Short[Annotated[float, Field(ge=0, le=100)]] = Field(
        0.0, description="blend each picture and its target with another's, in shares drawn from Beta(a, a) with this a; 0: off"
    )
    cutmix: Short[Annotated[float, Field(ge=0, le=100)]] = Field(
        0.0,
        description="paste in a rectangle of another picture, its area drawn from Beta(a, a) with this a, and mix the targets "
        "accordingly; 0: off",
    )
    copies: Short[Count] = Field(
        4, description="with tune = head or last: of each example, a frozen trunk sees so many copies that were changed at random"
    )


class ModelSettings(Settings):
    """The network and its own options."""

    # A model's options are the parameters of its builder; they are checked where the models are known.
    model_config = ConfigDict(extra="allow")

    name: str = Field(
        "auto",
        description="a name from `epochal models`, or FILE.py:CLASS; auto: efficientnet-lite0 for few photographs, if it is "
        "installed, else conv for pictures and sounds (vgg for tiny pictures), bag for texts, mlp for numbers",
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
    smoothing: Short[Fraction] = Field(0.0, description="label smoothing of cross-entropy")
    class_weights: Short[Literal["equal", "balanced"] | tuple[Positive, ...]] = Field(
        "equal", description="weight of each class in cross-entropy, nll and bce; balanced: by inverse frequency"
    )
    delta: Short[Positive] = Field(1.0, description="the error at which huber changes from quadratic to linear")


class OptimizerSettings(Settings):
    """How gradients change the weights."""

    name: str = Field("adamw", description="sgd, adam, adamw, muon, adagrad, rmsprop, or any other class of torch.optim")
    lr: Short[Positive] = Field(0.002, description="learning rate; the highest one where the schedule changes it")
    momentum: Short[Fraction | None] = Field(None, description="momentum of sgd, rmsprop and muon; none: the optimizer's own default")
    nesterov: Short[bool] = Field(False, description="use Nesterov momentum, for sgd")
    weight_decay: Short[NotNegative | None] = Field(None, description="weight decay; none: the optimizer's own default")
    options: Short[dict[str, bool | int | float | tuple[float, ...]]] = Field(
        default_factory=dict, description="further arguments of the torch.optim class, by name"
    )


class ScheduleSettings(Settings):
    """How the learning rate changes over training."""

    name: Literal["constant", "step", "multi-step", "plateau", "cosine", "one-cycle"] = Field(
        "one-cycle", description="constant, step, multi-step, plateau, cosine or one-cycle"
    )
    warmup: Short[NotNegative] = Field(0.0, description="epochs of linear warm-up at the start (one-cycle has its own)")
    every: Short[Count] = Field(10, description="step: epochs between two reductions of the rate")
    at: Short[tuple[Count, ...]] = Field((), description="multi-step: the epochs after which the rate is reduced")
    factor: Short[Annotated[float, Field(gt=0, lt=1)]] = Field(
        0.1, description="step, multi-step, plateau: each reduction multiplies the rate by this"
    )
    patience: Count = Field(10, description="plateau: epochs without improvement before a reduction")
    rise: Short[Annotated[float, Field(gt=0, lt=1)]] = Field(0.3, description="one-cycle: fraction of training during which the rate rises")


class DistributedSettings(Settings):
    """How several processes train together (torchrun, --processes)."""

    batch_norm: Short[Literal["synchronized", "local"]] = Field(
        "synchronized",
        description="several processes: batch norm sees the whole batch, as in one process, or only the slice of each; local is faster",
    )
    find_unused_parameters: Short[bool] = Field(
        False,
        description="several processes: allow steps that leave parameters out, and look for these in each step",
    )


class AllSettings(Settings):
    """The settings of one experiment, without where they came from; see `Recipe`."""

    epochs: Count = Field(10, description="passes over the training data")
    batch_size: Count | Literal["auto"] = Field(
        64, description="examples per step; auto: a power of two near the fastest, measured if training is long enough, else 64"
    )
    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(
        0,
        description="determines every random choice: the split into training, validation and test (unless split_seed does), initial "
        "weights, order, augmentation, dropout",
    )
    device: str = Field(
        "auto", description="cpu, cuda, cuda:1, mps; auto: the fastest, measured if training is long enough, else cuda, mps or cpu"
    )
    threads: Count | Literal["auto"] = Field(
        "auto",
        description="CPU threads per step; auto: PyTorch's number, or fewer if that is measured to be faster, or if other "
        "programs keep the cores busy",
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "fp32",
        description="number format of the forward pass; weights stay fp32; auto: fp32 or bf16, measured if training is long enough",
    )
    compile: Literal["off", "on"] = Field(
        "off", description="let torch.compile turn the model into code of its own, which takes a while and then may be faster"
    )
    step: Literal["auto", "plain", "traced"] = Field(
        "auto",
        description="traced: record the operations of a step once and repeat them, which is faster for small networks and gives the same "
        "bits; plain: run modules and autograd in every step; auto: traced where the network is known to do nothing else",
    )
    max_steps: Count | None = Field(None, description="stop after this many steps")
    max_seconds: Positive | None = Field(None, description="stop after this many seconds of training")
    checkpoint_every: Positive = Field(
        60.0,
        description="seconds between checkpoints; further ones are written at the end of an epoch if that takes less than 1 % of the time",
    )
    on_nan: Literal["stop", "rewind"] = Field(
        "stop",
        description="if a loss, gradient or weight is NaN or infinite: stop, or go back to the last checkpoint and continue with half"
        " the learning rate, up to three times",
    )
    patience: Count | None = Field(None, description="stop after this many epochs without a better validation score")
    metrics: Names = Field(
        (), description="further scores on validation and test data: balanced accuracy, f1, auc, ... (in Python also functions)"
    )
    monitor: str = Field(
        "auto",
        description="the validation score that picks the best epoch: loss, accuracy or a metric (min NAME: lower is better); auto: "
        "loss, but with fewer than 1,000 examples the latest epoch whose accuracy is within the error of the best",
    )
    keep: Literal["best", "last"] = Field(
        "best", description="which epoch's weights to keep; best needs validation data: without them it is the last"
    )
    accumulate: Count = Field(
        1, description="split each batch into this many parts to save memory; the gradient stays that of the whole batch"
    )
    clip_norm: Positive | None = Field(None, description="scale gradients down to at most this norm")
    ema: Fraction = Field(0.0, description="keep a moving average of the weights with this decay; 0: off")
    eval_batch_size: Count = Field(1000, description="examples per batch in evaluation and prediction")
    workers: Annotated[int, Field(ge=0)] = Field(0, description="processes that read data that do not fit into memory")
    thresholds: Literal["default", "tuned"] = Field(
        "default",
        description="how answers follow from probabilities; default: the most probable class, each label of at least one half; tuned: by "
        "thresholds chosen on validation data, for balanced accuracy of classes and for F1 of labels; probabilities stay as they are",
    )
    folds: Annotated[int, Field(ge=2, le=1000)] | None = Field(
        None,
        description="cross-validation: also train so many models, each without one of so many parts of the data, on which it is then "
        "measured; nothing is split off for a test unless that is asked for; none: off",
    )
    repeats: Annotated[int, Field(ge=2, le=1000)] | None = Field(
        None,
        description="train so many times in all on the same split, with this seed, the next, and so on; what seeds change is told apart "
        "from what test examples do; none: off",
    )
    data: DataSettings = DataSettings()
    augment: AugmentSettings = AugmentSettings()
    tune: Literal["auto", "head", "last", "all"] = Field(
        "auto",
        description="what is trained of a pre-trained model; head: its head alone, on features that its trunk computes once; last: also "
        "the trunk's last part, on what those before compute once; all: the trunk too, at smaller rates towards the input; auto: "
        "by the number of examples, and by what it takes",
    )
    model: Annotated[ModelSettings, BeforeValidator(_by_name)] = ModelSettings()
    loss: Annotated[LossSettings, BeforeValidator(_by_name)] = LossSettings()
    optimizer: Annotated[OptimizerSettings, BeforeValidator(_by_name)] = OptimizerSettings()
    schedule: Annotated[ScheduleSettings, BeforeValidator(_by_name)] = ScheduleSettings()
    distributed: DistributedSettings = DistributedSettings()


def fields() -> Iterator[tuple[str, FieldInfo]]:
    """Yield every setting's dotted name and pydantic field, in the order of definition."""
    for name, field in AllSettings.model_fields.items():
        group = field.annotation
        if isinstance(group, type) and issubclass(group, Settings):
            yield from ((f"{name}.{inner}", value) for inner, value in group.model_fields.items())
        else:
            yield name, field


def short_names() -> dict[str, str]:
    """Return the settings that can be given without their group, or only by its name: {"lr": "optimizer.lr", "loss": "loss.name", ...}."""
    short: dict[str, str] = {}
    for full, field in fields():
        group, _, last = full.rpartition(".")
        if group and (last == "name" or _SHORT in field.metadata):
            name = group if last == "name" else last
            assert name not in short, f"{short[name]} and {full} have the same short name"
            short[name] = full
    return short
