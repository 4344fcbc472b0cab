"""From a run to what its program uses, its settings, and the tensors beside it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from epochal.data.inputs.scaled import ScaledRule
from epochal.data.inputs.sound.augment import quick_length
from epochal.data.inputs.sound.rule import SoundRule
from epochal.data.inputs.table.layer import ScaleTable
from epochal.data.inputs.text.rule import TextRule
from epochal.data.inputs.values import in_memory
from epochal.data.load import Data
from epochal.ejected.written import written
from epochal.models.build import eval_mode
from epochal.models.parts import head_of, parameter_groups
from epochal.recipe import OptimizerSettings, Recipe
from epochal.training.best import FEW
from epochal.training.optim import build_optimizer
from epochal.training.sharing import ThreadChange

# So many means and deviations stand in the program, more of them beside it.
_SHOWN = 4

_BEGINNINGS = {
    "Preprocess": "Standardize({mean}, {std})",
    "ScaleTable": "ScaleTable()",
    "Ngrams": "Ngrams()",
    "Words": "Words()",
    "LogMel": "Spectrogram()",
}


@dataclass
class Plan:
    """What a program has: the names of what it `uses`, its `settings` (code and comment by name), code to put in, and `tensors`."""

    uses: set[str] = field(default_factory=set)
    settings: dict[str, tuple[str, str]] = field(default_factory=dict)
    inlined: dict[str, str] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def use(self, **used: object) -> None:
        """Add those names whose value is not false."""
        self.uses |= {name for name, value in used.items() if value}

    def set(self, name: str, value: object, comment: str) -> None:
        """Add a setting."""
        self.settings[name] = (_code(value), comment)


def _code(value: object) -> str:
    """Return a value as code, with quotation marks as Ruff has them."""
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_code, value))}]"
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(map(_code, sorted(value)))}}}"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_code(name)}: {_code(inner)}' for name, inner in value.items())}}}"
    return repr(value)


def plan(recipe: Recipe, data: Data, model: nn.Module, weights: str, threads: Sequence[ThreadChange]) -> Plan:
    """Return what the program of a run has, whose `recipe` is resolved, and whose `model` has the weights that training begins with.

    `weights` is the SHA-256 of the file with those it ended with; `threads` are the changes of the number of threads.
    """
    made = Plan()
    made.set("SEED", recipe.seed, "determines every random choice")
    made.set("GOLDEN", 0x9E3779B97F4A7C15, "2^64 divided by the golden ratio: random numbers are made by it")
    made.inlined["THREADS"] = str(recipe.threads_per_step)
    _of_data(made, recipe, data)
    _of_layers(made, recipe, data, model)
    _of_augmentation(made, recipe, data)
    _of_loss(made, recipe, data)
    _of_optimizer(made, recipe, model, data.input.zeros())
    _of_length(made, recipe, data, threads)
    _of_choice(made, recipe, data)
    made.use(bf16=recipe.precision == "bf16", clip=recipe.clip_norm is not None, average=recipe.ema)
    made.set("CLIP_NORM", recipe.clip_norm, "the largest norm of a gradient")
    made.set("EMA", recipe.ema, "decay of the moving average of the weights")
    made.set("RUN_WEIGHTS", weights, "SHA-256 of the file with the weights of the run")
    made.inlined["KEPT"] = "average" if recipe.ema else "model"
    return made


def _of_data(made: Plan, recipe: Recipe, data: Data) -> None:
    for name, examples in data.splits.items():
        inputs = in_memory(examples.inputs)
        assert inputs is not None
        made.tensors |= {f"{name}.inputs": inputs, f"{name}.targets": examples.targets}
    made.use(valid=data.valid is not None, test=data.test is not None)
    made.set("BATCH_SIZE", recipe.examples_per_step, "examples per step")
    made.inlined["EVAL_BATCH"] = str(recipe.eval_batch_size)
    shapes = (made.tensors[f"train.{what}"].shape for what in ("inputs", "targets"))
    made.inlined["SHAPES"] = ", ".join(" × ".join(map(str, shape)) for shape in shapes)
    made.inlined["ORDER"] = 'shuffled(len(inputs), epoch, "order")'


def _of_layers(made: Plan, recipe: Recipe, data: Data, model: nn.Module) -> None:
    rule, net, first = data.spec.input, model.get_submodule("net"), model.get_submodule("preprocess")
    mean = std = ""
    if isinstance(rule, ScaledRule):
        mean, std = _scales(made, recipe, rule)
    else:
        made.tensors |= {f"preprocess.{name}": values for name, values in first.named_buffers()}
    if isinstance(first, ScaleTable):
        found = {"numbers": first.numbers, "gaps": first.flags, "words": first.categories, "repeated": first.repeated}
        made.use(**{name: len(places) for name, places in found.items()})
        made.tensors |= {f"embed.{name}": values for name, values in net.get_submodule("0").named_buffers()}
    if isinstance(rule, SoundRule):
        grid: Any = getattr(first, "grid", None)
        made.set("STEP", grid.step, "samples from one column of a spectrogram to the next")
        made.inlined |= {"SPAN": str(grid.span), "POINTS": str(grid.points)}
    if isinstance(rule, TextRule):
        made.set("ROWS", rule.rows, "rows of the table of embeddings: padding, unknown words, and each known one")
        made.set("LENGTH", data.spec.features[-1], "words of a text at most")
    dropout = [rate for module in net.modules() if (rate := _dropout(module))]
    made.use(random_layers=dropout, dropout=dropout)
    made.set("DROPOUT", dropout[0] if dropout else 0.0, "the share of values that are left out at random in training")
    made.inlined["OUTPUTS"] = str(len(data.outputs))
    _of_options(made, net)
    with torch.no_grad():
        code = written(net, first(rule.zeros()))
    made.use(shapes=isinstance(net, nn.Sequential))
    made.inlined["NETWORK"] = re.sub(r"\bOUTPUTS\b", made.inlined["OUTPUTS"], code)
    layers = {"preprocess": _BEGINNINGS[type(first).__name__].format(mean=mean, std=std)}
    has_convolutions = any(parameter.ndim == 4 for parameter in net.parameters())
    layers["net"] = "network()" + ".to(memory_format=torch.channels_last)" * has_convolutions
    made.use(convolutions=has_convolutions, masks=type(net).__name__ == "Transformer")
    if (last := getattr(model, "rescale", None)) is not None:
        layers["rescale"] = "Rescale()"
        made.tensors |= {f"rescale.{name}": values for name, values in last.named_buffers()}
        made.use(units=True, double_targets=last.scale.dtype == torch.float64)
    made.inlined["LAYERS"] = f"{{{', '.join(f'{_code(name)}: {code}' for name, code in layers.items())}}}"


def _of_options(made: Plan, net: nn.Module) -> None:
    """Add settings of some networks."""
    missing = getattr(getattr(net, "patches", None), "missing", (0,))
    made.use(missing=any(missing))
    made.set("MISSING", missing, "pixels that are missing left, right, above and below")
    if type(filters := next(net.children(), net)).__name__ == "_Contrasts":
        made.tensors["filters"] = filters.get_buffer("weight")
        narrow = any(layer.in_channels > layer.out_channels for layer in net.modules() if isinstance(layer, nn.Conv2d))
        made.use(mirror=type(net).__name__ == "_Mirroring", narrow=narrow)
    if type(net).__name__ == "Bag":
        head: Any = net.get_submodule("head")
        made.use(hidden=len(head) > 1)
        made.set("HIDDEN", head[0].out_features, "units of the hidden layer")


def _dropout(module: nn.Module) -> float:
    """Return the probability with which a module leaves values out."""
    rate = module.p if isinstance(module, nn.modules.dropout._DropoutNd) else getattr(module, "dropout", 0.0)
    return rate if isinstance(rate, float) else 0.0


def _scales(made: Plan, recipe: Recipe, rule: ScaledRule) -> tuple[str, str]:
    """Return the code of means and deviations, which are settings or, where there are many, tensors."""
    made.use(
        pictures=rule.behind == 2, pixels=rule.dtype == "uint8", whole_numbers=rule.dtype == "int64", double=rule.dtype == "float64"
    )  # fmt: skip
    codes = []
    for name, given, found in (("mean", recipe.data.mean, rule.mean), ("std", recipe.data.std, rule.std)):
        values = found if given is None else given if isinstance(given, tuple) else (given,)
        values = tuple(values) * (len(found) if len(values) == 1 else 1)
        if len(values) <= _SHOWN:
            what = "mean of the inputs" if name == "mean" else "standard deviation of the inputs"
            made.set(name.upper(), values, what + (", for each channel" if len(values) > 1 else ""))
            codes.append(name.upper())
        else:
            made.tensors[name] = torch.tensor(values, dtype=torch.float64)
            codes.append(f'data["{name}"]')
    return codes[0], codes[1]


def _of_augmentation(made: Plan, recipe: Recipe, data: Data) -> None:
    asked, rule = recipe.augment, data.spec.input
    edges = getattr(rule, "edge_colour", ())
    moving = asked.rotate or asked.scale or asked.shear
    made.use(shift=asked.shift, flip=asked.flip, changing=asked.shift or asked.flip)
    made.use(moving=moving, erasing=asked.erase, edges=edges)
    made.set("SHIFT", asked.shift, "pixels by which pictures are shifted at most")
    made.inlined["EDGES"] = _code(edges)
    made.set("ROTATE", asked.rotate, "degrees by which pictures are rotated at most")
    made.set("SHEAR", asked.shear, "degrees by which pictures are sheared at most")
    made.set("SCALE", asked.scale, "the fraction by which pictures are made larger or smaller at most")
    made.set("ERASE", asked.erase, "the probability that a rectangle is blacked out")
    if isinstance(rule, SoundRule):
        length, rate = rule.shape[-1], rule.rate
        shift, mask = (min(length, round(seconds * rate)) for seconds in (asked.time_shift, asked.time_mask))
        levels = asked.frequency_mask or asked.noise
        made.use(time_shift=shift, time_mask=mask, frequency_mask=asked.frequency_mask, noise=asked.noise, levels=levels)
        made.use(sounds=shift or mask or levels)
        made.set("RATE", rate, "samples per second")
        made.set("TIME_SHIFT", shift, "samples by which sounds are shifted at most")
        made.set("TIME_MASK", mask, "samples that are silenced at most")
        made.set("FREQUENCY_MASK", asked.frequency_mask, "the share of the frequencies that are silenced at most")
        made.set("NOISE", asked.noise, "noise at most, as a share of the loudest sample")
        made.set("FFT_POINTS", quick_length(length), "samples of a fast Fourier transform of a whole sound")
    made.use(wording=asked.word_dropout, ngrams=len(data.spec.shape) == 2)
    made.set("WORD_DROPOUT", asked.word_dropout, "the share of words that are left out")


def _of_loss(made: Plan, recipe: Recipe, data: Data) -> None:
    name, task, smoothing = recipe.loss.name, data.spec.task, recipe.loss.smoothing
    has_weights = recipe.loss.class_weights != "equal"
    made.use(regression=task.name == "regression", several_labels=task.name == "multi-label", class_weights=has_weights)
    of_labels = "((outputs.sigmoid() >= 0.5) == (wanted > 0.5)).all(1)"
    right = of_labels if task.name == "multi-label" else "(outputs.softmax(1).argmax(1) == wanted)"
    made.inlined["COUNT_RIGHT"] = f"int({right}.sum())"
    if task.name == "regression":
        wanted = "wanted" if "double_targets" in made.uses or data.train.targets.dtype == torch.float32 else "wanted.float()"
        units = " / units" * ("units" in made.uses)
        for place, outputs in (("TRAIN_LOSS", "model(batch)"), ("VALID_LOSS", "outputs")):
            delta = ", delta=DELTA" * (name == "huber")
            made.inlined[place] = f"nn.functional.{name}_loss({outputs}{units}, {wanted}{units}{delta})"
        made.set("DELTA", recipe.loss.delta, "the error at which the loss changes from quadratic to linear")
        return
    function = {"cross-entropy": "cross_entropy", "nll": "nll_loss", "bce": "binary_cross_entropy_with_logits"}[name]
    weights = (", pos_weight=weights" if name == "bce" else ", weights") * has_weights
    made.inlined["TRAIN_LOSS"] = f"nn.functional.{function}(model(batch), wanted{weights}{', label_smoothing=SMOOTHING' * (smoothing > 0)})"
    made.inlined["VALID_LOSS"] = f"nn.functional.{function}(outputs, wanted)"
    made.set("SMOOTHING", smoothing, "of labels: the share that is spread over all classes")
    if recipe.loss.class_weights != "balanced":
        made.inlined["CLASS_WEIGHTS"] = f"torch.tensor({_code(recipe.loss.class_weights)})"
    elif name == "bce":
        made.use(label_weights=True)
    else:
        count = len(data.outputs)
        made.inlined["CLASS_WEIGHTS"] = f"len(targets) / ({count} * targets.bincount(minlength={count}).float().clamp(min=1))"


def _of_optimizer(made: Plan, recipe: Recipe, model: nn.Module, inputs: Tensor) -> None:
    settings, groups, default = recipe.optimizer, parameter_groups(model), OptimizerSettings()
    made.set("LEARNING_RATE", settings.lr, "the highest learning rate" if recipe.schedule.name != "constant" else "the learning rate")
    made.set("MOMENTUM", settings.momentum, "the share of the last step that the next one keeps")
    made.set("WEIGHT_DECAY", settings.weight_decay, "pulls weights towards 0")
    if settings.name.lower() == "muon":
        _of_muon(made, settings, model, inputs)
        return
    undecayed = frozenset(name for group in groups if group.get("weight_decay") == 0.0 for name, _ in group["params"])
    made.use(undecayed=undecayed)
    made.set("UNDECAYED", undecayed, "parameters without weight decay")
    optimizer = build_optimizer(settings, groups)
    arguments = {
        "lr": "LEARNING_RATE",
        **({"momentum": "MOMENTUM"} if settings.momentum != default.momentum else {}),
        **({"nesterov": "True"} if settings.nesterov else {}),
        **({"weight_decay": "WEIGHT_DECAY"} if settings.weight_decay != default.weight_decay else {}),
        **{name: repr(value) for name, value in settings.options.items()},
        **({"fused": "True"} if optimizer.defaults.get("fused") and "fused" not in settings.options else {}),
    }
    what = "groups" if undecayed else "model.parameters()"
    called = ", ".join([what, *(f"{name}={value}" for name, value in arguments.items())])
    made.inlined["OPTIMIZER"] = f"torch.optim.{type(optimizer).__name__}({called})"


def _of_muon(made: Plan, settings: OptimizerSettings, model: nn.Module, inputs: Tensor) -> None:
    made.use(muon=True)
    rate = settings.options.get("plain_lr", 0.1)
    made.set("MOMENTUM", 0.95 if settings.momentum is None else settings.momentum, "the share of the last step that the next one keeps")
    made.set("WEIGHT_DECAY", settings.weight_decay or 0.0, "pulls the matrices of hidden layers towards 0")
    made.set("PLAIN_LR", rate, "the highest learning rate of all other parameters")
    with eval_mode(model):
        head = head_of(model, model(inputs))
    matrices = {name: one for name, one in model.named_parameters() if one.ndim > 1}
    last = {name for name, one in matrices.items() if one in head}
    made.inlined["IS_NO_HEAD"] = f"name != {_code(*last)}" if len(last) == 1 else f"name not in {_code(last)}"
    made.use(tall=any(len(one) > one[0].numel() for name, one in matrices.items() if name not in last))


def _of_length(made: Plan, recipe: Recipe, data: Data, threads: Sequence[ThreadChange]) -> None:
    schedule, steps = recipe.schedule, -(-len(data.train) // recipe.examples_per_step)
    total = min(recipe.epochs * steps, recipe.max_steps or recipe.epochs * steps)
    warmup = round(schedule.warmup * steps)
    made.use(max_steps=total < recipe.epochs * steps, threads=threads, plateau=schedule.name == "plateau", warmup=warmup)
    made.set("EPOCHS", math.ceil(total / steps), "passes over the training data" + " at most" * (recipe.patience is not None))
    made.set("STEPS_PER_EPOCH", steps, "steps of an epoch")
    made.set("TOTAL_STEPS", total, "steps of all epochs")
    made.set("THREADS_FROM", {change.step: change.threads for change in threads}, "other numbers of threads after so many steps")
    is_cosine = schedule.name == "cosine"
    made.use(
        one_cycle=schedule.name == "one-cycle", cosine=is_cosine and not warmup, cosine_after_warmup=is_cosine and warmup,
        every=schedule.name == "step", at=schedule.name == "multi-step",
    )  # fmt: skip
    has_rates, has_optimizer = schedule.name != "constant" or warmup, "muon" not in made.uses
    made.use(rates=has_rates and has_optimizer, several_groups=has_rates and "undecayed" in made.uses)
    if not has_rates:
        share = "1.0"
    elif schedule.name == "plateau":
        share = "FACTOR**cuts"
    else:
        share = "share" if "cosine" in made.uses else "learning_rate(step)"
    made.inlined["SHARE"] = share
    made.set("WARMUP_STEPS", warmup, "steps in which the learning rate rises")
    made.set("RISE", schedule.rise, "the share of training during which the learning rate rises")
    made.set("EVERY", schedule.every, "epochs between two reductions of the learning rate")
    made.set("AT", schedule.at, "epochs after which the learning rate is reduced")
    made.set("FACTOR", schedule.factor, "each reduction multiplies the learning rate by this")
    made.set("PLATEAU_PATIENCE", schedule.patience, "epochs without improvement before a reduction")
    seen = "seen" if "max_steps" in made.uses else "len(inputs)"
    made.inlined["MEAN_LOSS"] = f"loss_sum / {seen}"
    made.inlined["PLATEAU_LOSS"] = "valid_loss" if data.valid is not None else f"float(loss_sum) / {seen}"


def _of_choice(made: Plan, recipe: Recipe, data: Data) -> None:
    """Add how the epoch is chosen whose weights are kept."""
    if data.valid is None:
        return
    has_accuracy, few = data.spec.task.has_accuracy, len(data.valid) < FEW
    is_loose = recipe.monitor == "auto" and has_accuracy and few
    by_loss = not (is_loose or recipe.monitor == "accuracy")
    keeps_best, is_patient = recipe.keep == "best", recipe.patience is not None
    made.use(by_loss=by_loss, valid_loss=by_loss or "plateau" in made.uses, patience=is_patient, keep_best=keeps_best)
    made.use(loose=is_loose and keeps_best, score=keeps_best or is_patient)
    # The epoch of the best score is that which is kept, or one of its own.
    made.inlined["IMPROVED"] = "best_epoch" if keeps_best and not is_loose else "improved"
    made.use(improved=is_patient and made.inlined["IMPROVED"] == "improved")
    made.set("PATIENCE", recipe.patience, "epochs without a better score on validation data until training ends")


def refusals(recipe: Recipe, data: Data) -> Iterator[tuple[str, str]]:
    """Yield what of a run is not written as plain PyTorch, and why."""
    augment, monitor = recipe.augment, recipe.monitor
    too_long = "it would make the program longer than its limit"
    for name in ("brightness", "contrast", "saturation", "hue", "policy", "mixup", "cutmix"):
        if getattr(augment, name):
            yield f"augment.{name}", too_long
    others: Mapping[str, tuple[bool, str]] = {
        "the network ast": (recipe.model.name == "ast", too_long),
        f"device = {recipe.device}": (recipe.device != "cpu", "only on the CPU the bits are the same each time"),
        "compile = on": (recipe.compile == "on", "compiled networks have other bits"),
        "max_seconds": (recipe.max_seconds is not None, "the clock ended it"),
        "data.sampling = balanced": (recipe.data.sampling == "balanced", too_long),
        "thresholds = tuned": (recipe.thresholds == "tuned", too_long),
        f"monitor = {monitor}": (monitor not in ("auto", "loss", "accuracy"), too_long),
        "accumulate": (recipe.accumulate > 1, too_long),
        "data.windows": (data.spec.input.windows > 1, too_long),
        "schedule.warmup": (recipe.schedule.name == "plateau" and recipe.schedule.warmup > 0, "it is not written together with plateau"),
    }
    yield from ((what, why) for what, (is_asked, why) in others.items() if is_asked)
    if any(in_memory(examples.inputs) is None for examples in data.splits.values()):
        yield "data that are read while it trains", "they would not fit into one file"
