"""From a name and a description of the data to a network; one table, no registration."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from epochal.data.inputs.picture.photographs import MODEL as PHOTOGRAPHS
from epochal.data.inputs.picture.photographs import SIDE
from epochal.data.spec import DataSpec
from epochal.data.storage.hub import PREFIX as HUB
from epochal.device import free_memory
from epochal.errors import ModelError, suggest
from epochal.models.conv import airbench, conv, resnet, vgg
from epochal.models.mlp import linear, mlp, tabular
from epochal.models.patches import ast, vit
from epochal.models.pretrained.head import HEAD
from epochal.models.pretrained.hub_nets import HubWeights, hub_bert, hub_input, hub_net, is_bert
from epochal.models.pretrained.pictures import LITE0, PICTURES, SCALE, efficientnet_lite0
from epochal.models.pretrained.texts import ENCODER, MINILM, VECTORS, WORDLLAMA, minilm, wordllama
from epochal.models.pretrained.timm_nets import PREFIX as TIMM
from epochal.models.pretrained.timm_nets import timm_net, timm_settings
from epochal.models.pretrained.weights import Weights
from epochal.models.pretrained.weights_file import WeightsFile
from epochal.models.text import bag, gru, lstm, transformer
from epochal.models.tutorial import tutorial_cifar, tutorial_cnn, tutorial_mlp, tutorial_simple, tutorial_small_cnn
from epochal.models.windows import in_windows
from epochal.recipe import DataSettings
from epochal.shown import counted
from epochal.user_code import in_words


class Entry(NamedTuple):
    """A builder, what it is in one line, and the only kind of input that it is for, if there is one.

    `asks` are the settings that it works with, where the user gave none; those of data are asked for before data are read. `weights` are
    those that its trunk was given by training on other data; `tuned` are the settings that it learns best with, by what is trained (see
    `AllSettings.tune`), and with `enough` examples, training all of it is better.
    """

    build: Callable[..., nn.Module]
    description: str
    kind: str | None = "picture"
    asks: Mapping[str, Any] = {}
    weights: Weights | WeightsFile | HubWeights | None = None
    tuned: Mapping[str, Mapping[str, Any]] = {}
    enough: int | None = None


# The networks of well-known tutorials, for comparison; they are listed apart from the others.
TUTORIALS: dict[str, Entry] = {
    "tutorial-cifar": Entry(tutorial_cifar, "16-32 convolutions for 32×32 colour pictures, from a PyTorch tutorial"),
    "tutorial-cnn": Entry(tutorial_cnn, "32-64 convolutions and 9216-128-10 for MNIST, from a PyTorch tutorial"),
    "tutorial-mlp": Entry(tutorial_mlp, "784-128-10 for MNIST, from a PyTorch tutorial"),
    "tutorial-simple": Entry(tutorial_simple, "784-128-64-10 for MNIST, from a PyTorch tutorial"),
    "tutorial-small-cnn": Entry(tutorial_small_cnn, "10-20 convolutions and 320-50-10 for MNIST, from a PyTorch tutorial"),
}

_WORDS = {"data.tokens": "words", "epochs": 5, "optimizer.lr": 0.003}

MODELS: dict[str, Entry] = {
    "airbench": Entry(airbench, "learns small colour pictures fast, width=32; mirror=true predicts from both mirror images"),
    "ast": Entry(ast, "transformer over squares of a spectrogram (AST), patch=8, dim=64, layers=3, heads=4", "sound"),
    "bag": Entry(
        bag,
        "n-grams of a text, learned and summed, dim=4 for each output, hidden=0; the default for texts",
        "text",
        {"data.tokens": "ngrams"},
    ),
    "conv": Entry(conv, "strided 5×5 convolutions of widths=[16,32] and hidden=64 units; fast; the default for pictures"),
    PHOTOGRAPHS: Entry(
        efficientnet_lite0,
        "pre-trained on 1.3 million photographs (ImageNet), its head learns in seconds; the default for few photographs, if installed",
        asks={"data.size": SIDE, **SCALE},
        weights=LITE0,
        tuned=PICTURES,
        enough=500,
    ),
    "gru": Entry(gru, "recurrent network (GRU) over the words of a text, hidden=64, bidirectional=true", "text", _WORDS),
    "linear": Entry(linear, "one linear layer: softmax regression or linear regression", kind=None),
    "lstm": Entry(lstm, "recurrent network (LSTM) over the words of a text, hidden=64, bidirectional=true", "text", _WORDS),
    "minilm": Entry(
        minilm,
        "pre-trained on a billion pairs of English sentences, for few texts: its head learns in seconds",
        "text",
        {"data.tokens": "wordpiece"},
        MINILM,
        {"head": HEAD, "all": ENCODER},
        enough=1000,
    ),
    "mlp": Entry(mlp, "fully connected layers of widths=[128,64]; the default for numbers", kind=None),
    "resnet": Entry(resnet, "residual network for small pictures, depth=20, width=16"),
    "tabular": Entry(
        tabular, "embeddings of categories and numbers, and layers of widths=[128,128], dropout=0.2; the default for tables", "table"
    ),
    "transformer": Entry(transformer, "transformer encoder over the words of a text, dim=64, layers=2, heads=4", "text", _WORDS),
    "vgg": Entry(vgg, "two 3×3 convolutions in stages of widths=[32,64,128]; slower; the default for tiny pictures"),
    "vit": Entry(vit, "transformer over squares of a picture (ViT), patch=4 for 28×28 and 32×32, dim=64, layers=4, heads=4"),
    "wordllama": Entry(
        wordllama,
        "the mean of pre-trained vectors of pieces of words, for few texts, the fastest",
        "text",
        {"data.tokens": "bpe"},
        WORDLLAMA,
        {"head": HEAD, "all": VECTORS},
        enough=1000,
    ),
    **TUTORIALS,
}


def is_listed(name: str) -> bool:
    """Whether a name is that of a model here, rather than of the user's own code."""
    return name in MODELS or name.startswith((TIMM, HUB))


def is_pretrained(name: str) -> bool:
    """Whether a model begins with weights that were trained on other data."""
    return name.startswith((TIMM, HUB)) or (name in MODELS and MODELS[name].weights is not None)


def entry_of(name: str, options: Mapping[str, Any]) -> Entry | None:
    """Return what is known of a model by its name; `None` for one that is not listed.

    Raises `ModelError` if it is one of another package that is not installed, or does not have it.
    """
    if name.startswith(HUB):
        hub = HubWeights(name, str(options.get("revision", "")), str(options.get("sha256", "")))
        asks, is_text = hub_input(name, options), is_bert(options)
        build, tuned = (hub_bert, MODELS["minilm"].tuned) if is_text else (hub_net, PICTURES)
        return Entry(build, "a model of the hub", "text" if is_text else "picture", asks, hub, tuned, 1000 if is_text else None)
    if not name.startswith(TIMM):
        return MODELS.get(name)
    weights = WeightsFile(name, str(options.get("weights", "")), str(options.get("sha256", "")))
    return Entry(partial(timm_net, name), "a network of timm", asks=timm_settings(name), weights=weights, tuned=PICTURES)


def build_net(name: str, spec: DataSpec, options: Mapping[str, Any]) -> nn.Module:
    """Return a new network that takes inputs of `spec.features` and gives one output for each of `spec.outputs`.

    Raises `ModelError` for an unknown name or option, a wrong option value, or data that the network is not for.
    """
    entry = entry_of(name, options)
    if entry is None:
        hint = suggest(name, MODELS.keys() - TUTORIALS.keys(), also=TUTORIALS)
        raise ModelError(f"Unknown model '{name}'.", f"{hint} A file works too: --model my_file.py:Net")
    check_options(name, entry, options)
    kinds = {spec.input.kind, spec.input.networks, *((None,) if spec.input.has_quantities else ())}
    if entry.kind not in kinds:
        fix = f"{spec.input.as_pictures}; or use" if spec.input.as_pictures else "Use"
        others = [other for other, one in MODELS.items() if one.kind in kinds and other not in TUTORIALS]
        taken = "quantities" if entry.kind is None else f"{entry.kind}s"
        raise ModelError(f"The model {name} is for {taken}; these data have shape {spec.shape}.", f"{fix} {' or '.join(others)}.")
    tokens = entry.asks.get("data.tokens")
    if (found := getattr(spec.input, "tokens", tokens)) != tokens:
        raise ModelError(f"The model {name} works with tokens = {tokens}; these data are {found}.", f'Load them with tokens="{tokens}".')
    try:
        net = entry.build(spec, **options)
    except (TypeError, ValueError, RuntimeError) as error:
        given = ", ".join(f"model.{option} = {value!r}" for option, value in options.items())
        raise ModelError(f"The model {name} cannot be built with {given or 'these data'}: {error}.", "Change that option.") from error
    to_channels_last(net)
    return net


def check_options(name: str, entry: Entry, options: Iterable[str]) -> None:
    """Raise `ModelError` for an option that a model does not have."""
    known = list(inspect.signature(entry.build).parameters)[1:]
    for option in options:
        if option not in known:
            hint = suggest(option, known) if known else "It has no options."
            raise ModelError(f"The model {name} has no option '{option}'.", hint)


def check_room(name: str, spec: DataSpec, options: Mapping[str, Any]) -> None:
    """Raise `ModelError` if the weights of a network would not fit in memory; none is allocated."""
    with torch.device("meta"), _WithoutValues():
        parameters = list(build_net(name, spec, options).parameters())
    count, needed, free = (sum(one.numel() for one in parameters), sum(one.nbytes for one in parameters), free_memory())
    if free is not None and needed > free:
        raise ModelError(
            f"The model {name} would have {count:,} parameters, which take {needed / 1e9:,.1f} GB; {free / 1e9:,.1f} GB are free.",
            f"Choose smaller options: {', '.join(options) or 'it has none; use another model'}.",
        )


class _WithoutValues(TorchFunctionMode):
    """Leaves out initial values, which tensors without memory do not have: for normal ones, PyTorch would import its compiler for a
    second, and 70 MB."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.normal_ or func is nn.init.normal_:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def to_channels_last(net: nn.Module) -> None:
    """Lay out the weights of convolutions with the channels of a pixel side by side: up to 1.4 times as fast, and no value changes.

    Pictures take this layout by themselves then. Networks of the user's own keep theirs: their code may depend on it.
    """
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def own_net(own: nn.Module | str | None, spec: DataSpec) -> nn.Module:
    """Return the user's own network: a module as it is, or what FILE.py:NAME builds."""
    if isinstance(own, torch.jit.ScriptModule):
        raise ModelError("TorchScript modules cannot be trained here.", "Pass the nn.Module that it was made from.")
    if isinstance(own, nn.Module):
        return own
    if inspect.isclass(own):
        raise ModelError(f"{own.__name__} is a class, not a network.", f"Pass {own.__name__}().")
    if own is not None and not isinstance(own, str):
        raise ModelError(f"The model is of type {type(own).__name__}.", "Pass a name, FILE.py:NAME, or an nn.Module.")
    return load_net(own or "", spec)


def load_net(where: str, spec: DataSpec) -> nn.Module:
    """Return the module that the user's own code builds: `where` is FILE.py:NAME, a class or function of no argument or the spec.

    This runs the file. It is only ever called with what the user typed, never with what a file says.
    """
    path, _, name = where.rpartition(":")
    if not path.endswith(".py"):
        raise ModelError(f"'{where}' is not FILE.py:NAME.", "Write for example my_file.py:Net")
    file = Path(path)
    if not file.is_file():
        raise ModelError(f"There is no file {path}.", "Check the path in --model.")
    try:
        module = _run_file(file)
    except (Exception, SystemExit) as error:  # a user's file may raise anything; the error and its line are reported
        raise ModelError(f"{path} cannot be run: {_place(error, path)}{type(error).__name__}: {error}.", "Fix that file.") from error
    if not hasattr(module, name):
        names = [known for known, value in vars(module).items() if inspect.isclass(value) and issubclass(value, nn.Module)]
        raise ModelError(f"{path} has no '{name}'.", suggest(name, names))
    make = getattr(module, name)
    try:
        net = make if isinstance(make, nn.Module) else make(spec) if _takes_spec(make) else make()
    except Exception as error:
        raise ModelError(f"{where} cannot be built: {_place(error, path)}{type(error).__name__}: {error}.", "Fix that file.") from error
    if not isinstance(net, nn.Module):
        raise ModelError(
            f"{where} gives a {type(net).__name__}, not an nn.Module.", "Name a class of nn.Module, or a function returning one."
        )
    return net


def _run_file(file: Path) -> ModuleType:
    """Run a file as a module that knows its neighbours, as `python FILE` would."""
    described = importlib.util.spec_from_file_location(f"epochal_user_{file.stem}", file)
    assert described is not None
    assert described.loader is not None
    module = importlib.util.module_from_spec(described)
    # Dataclasses and the like look their module up by name.
    sys.modules[described.name] = module
    sys.path.insert(0, str(file.resolve().parent))
    try:
        described.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    return module


def assemble(net: nn.Module, spec: DataSpec, settings: DataSettings, *, rescale: bool) -> nn.Sequential:
    """Return the whole model, from raw inputs to raw outputs: `preprocess`, `net` (for each window) and, if `rescale`, the task's output
    layer."""
    layers: dict[str, nn.Module] = {"preprocess": spec.input.preprocess(_list(settings.mean), _list(settings.std))}
    layers["net"] = in_windows(net, spec)
    if rescale and (last := spec.task.output_layer()) is not None:
        layers["rescale"] = last
    whole = nn.Sequential(OrderedDict(layers))
    if not any(module.training for module in net.modules()):
        # The whole is in evaluation mode if all of the network is: then nothing of it was frozen.
        whole.eval()
    return whole


@contextmanager
def preserve_mode(model: nn.Module) -> Iterator[None]:
    """Leave each module of `model` in the mode it was in, whatever the block switches."""
    modes = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put `model` into evaluation mode for the block, and leave each of its modules in the mode it was in."""
    with preserve_mode(model):
        model.eval()
        yield


def frozen_modules(model: nn.Module) -> tuple[nn.Module, ...]:
    """Return the modules that the user has put into evaluation mode, such as batch norm whose statistics shall stay.

    A model that is in evaluation mode as a whole has none: it was only used before.
    """
    modules = list(model.modules())
    frozen = tuple(module for module in modules if not module.training)
    return () if len(frozen) == len(modules) else frozen


def train_mode(model: nn.Module, frozen: Iterable[nn.Module]) -> None:
    """Put `model` into training mode, but for `frozen` ones of its modules."""
    model.train()
    for module in frozen:
        module.training = False


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Leave the modes, buffers and attributes of all modules of `model` as they were, whatever a forward pass in the block does to them."""
    modules = list(model.modules())
    attributes = [dict(vars(module)) for module in modules]
    buffers = [{name: (buffer, buffer.clone()) for name, buffer in module.named_buffers(recurse=False)} for module in modules]
    try:
        yield
    finally:
        with torch.no_grad():
            for module, were, kept in zip(modules, attributes, buffers, strict=True):
                for name in vars(module).keys() - were.keys():
                    del vars(module)[name]
                vars(module).update(were)
                for name, (buffer, value) in kept.items():
                    setattr(module, name, buffer if torch.equal(buffer, value) else buffer.copy_(value))


def check_model(model: nn.Module, inputs: Tensor, spec: DataSpec) -> Tensor:
    """Return the outputs for a few inputs [n, *spec.shape] on the model's device, or raise `ModelError` if model and data do not fit."""
    shape = "×".join(map(str, spec.shape))
    try:
        # Not in inference mode: lazy layers make their weights here, which have to be trained later.
        with eval_mode(model), torch.no_grad():
            outputs = model(inputs)
    except (Exception, SystemExit) as error:  # a user's network may raise anything
        fix = (
            f"A model given to fit gets inputs as they are ({spec.dtype}); train puts preprocessing before it."
            if spec.dtype != "float32"
            else ""
        )
        raise ModelError(
            f"The model cannot take inputs of shape {shape}: {in_words(error)}", fix or "Change its layers, or the data."
        ) from error
    return check_outputs(outputs, len(inputs), spec)


def check_outputs(outputs: Any, inputs: int, spec: DataSpec, when: str = "") -> Tensor:
    """Return the outputs of a model for so many inputs, or raise `ModelError` if they are not what the data ask for.

    `when` says when it gives them, if not always.
    """
    wanted = (inputs, len(spec.outputs))
    given = tuple(outputs.shape) if isinstance(outputs, Tensor) else None
    if given != wanted and not (wanted[1] == 1 and given == wanted[:1]):
        found = f"shape {given}" if given is not None else f"type {type(outputs).__name__}"
        raise ModelError(
            f"For {wanted[0]} inputs the model gives outputs of {found}{when}; the data ask for {wanted}.",
            f"Let its last layer have {counted(wanted[1], 'output')}: {', '.join(spec.outputs[:5])}{' ...' if wanted[1] > 5 else ''}."
            if given is not None
            else _unpacking(outputs),
        )
    if not outputs.is_floating_point():
        raise ModelError(
            f"The model gives outputs of {outputs.dtype}{when}, where numbers with a fraction are needed.",
            "Let it return the values of its last layer, without argmax or rounding.",
        )
    checked: Tensor = outputs
    return checked


def _unpacking(outputs: Any) -> str:
    """Say how a model that gives more than a tensor can be used: by a module of a few lines around it."""
    if isinstance(outputs, Mapping) and outputs:
        part = f'["{next(iter(outputs))}"]'
    elif isinstance(outputs, tuple | list) and outputs:
        part = "[0]"
    else:
        return "Let it return a tensor."
    return f"""Let it return only the main output (for auxiliary heads, torchvision's networks take aux_logits=False), or wrap it:
    class Main(torch.nn.Module):
        def __init__(self, net): super().__init__(); self.net = net
        def forward(self, x): out = self.net(x); return out if isinstance(out, torch.Tensor) else out{part}"""


def _list(values: float | tuple[float, ...] | None) -> tuple[float, ...] | None:
    return (values,) if isinstance(values, int | float) else values


def _takes_spec(make: Any) -> bool:
    parameters = inspect.signature(make).parameters.values()
    return any(p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)


def _place(error: BaseException, path: str) -> str:
    """Name the last line of the user's file that the error came through."""
    place, trace = "", error.__traceback__
    while trace is not None:
        if Path(trace.tb_frame.f_code.co_filename).name == Path(path).name:
            place = f"line {trace.tb_lineno}: "
        trace = trace.tb_next
    return place
