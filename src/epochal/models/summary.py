"""The layers of a network: output shapes, parameters, and the arithmetic of one example."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import flop_registry

from epochal.data.spec import DataSpec
from epochal.models.build import check_model
from epochal.operations import OperationMode
from epochal.random import fork_rng
from epochal.user_code import concise


@dataclass(frozen=True)
class Layer:
    """One call of a layer. `shape` is that of its output without the batch; `flops` are those of one example."""

    name: str
    type: str
    shape: tuple[int, ...]
    parameters: int
    flops: int


@dataclass(frozen=True)
class Summary:
    """The layers of a network in the order of their calls, and totals for the whole network.

    A layer that is called twice is listed twice; its parameters count where they are first used. `parameters` and `flops` also
    have what belongs to no layer: parameters that a module uses by itself, and functions called between layers.
    `weight_bytes` is the memory that the parameters and buffers take.
    """

    layers: tuple[Layer, ...]
    parameters: int
    trainable: int
    flops: int
    weight_bytes: int

    def __str__(self) -> str:
        header = ("layer", "type", "output", "parameters", "FLOPs")
        rows = [_cells(layer) for layer in self.layers]
        parameters = self.parameters - sum(layer.parameters for layer in self.layers)
        flops = self.flops - sum(layer.flops for layer in self.layers)
        if parameters or flops:
            rows.append(("(between layers)", "", "", f"{parameters:,}", f"{flops:,}"))
        rows.append(("total", "", "", f"{self.parameters:,}", f"{self.flops:,}"))
        widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
        lines = [_line(row, widths) for row in (header, *rows)]
        rule = "─" * max(len(line) for line in lines)
        totals = f"{self.trainable:,} parameters are trained; the weights take {byte_words(self.weight_bytes)}; FLOPs are for one example."
        return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1], totals])

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON has it."""
        values = asdict(self)
        values["layers"] = [{**layer, "shape": list(layer["shape"])} for layer in values["layers"]]
        return values


@concise
def summarize(model: nn.Module, spec: DataSpec) -> Summary:
    """Return the layers of `model`, measured on one forward pass of an all-zero example as `spec` describes it.

    FLOPs are as `torch.utils.flop_counter` has them: those of matrix products, convolutions and attention, in which a
    multiplication and an addition are two; element-wise functions, pooling and normalization count nothing, and fused kernels
    that it does not know (LSTM on the CPU) neither. The model is left as it was. Raises `ModelError` if it does not fit the data.
    """
    weights = list(model.parameters())
    stored = [*weights, *model.buffers()]
    device = stored[0].device if stored else torch.device("cpu")
    inputs = spec.input.zeros(device)
    layers: list[Layer] = []
    counter = FlopCounter()
    with _plain_attention(), fork_rng(device), counter, _listing(model, counter, layers):
        check_model(model, inputs, spec)
    return Summary(
        layers=tuple(layers),
        parameters=sum(weight.numel() for weight in weights),
        trainable=sum(weight.numel() for weight in weights if weight.requires_grad),
        flops=counter.total,
        weight_bytes=sum(tensor.numel() * tensor.element_size() for tensor in stored),
    )


class FlopCounter(OperationMode):
    """Adds up the FLOPs of what is computed in its block, by the formulas of `torch.utils.flop_counter`.

    Its own `FlopCounterMode` also sorts them by module, and imports PyTorch's compiler, which takes longer than all else here.
    """

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        formula = flop_registry.get(getattr(func, "overloadpacket", None))
        if formula is None and hasattr(func, "decompose"):
            # In inference mode, operations come here that are made of others.
            with self:
                outputs = func.decompose(*args, **kwargs)
            if outputs is not NotImplemented:
                return outputs
        outputs = func(*args, **kwargs)
        if formula is not None:
            self.total += formula(*args, **kwargs, out_val=outputs)
        return outputs


@contextmanager
def _listing(model: nn.Module, counter: FlopCounter, layers: list[Layer]) -> Iterator[None]:
    """Append to `layers` each call of a module without children while the block runs."""
    before: list[int] = []
    counted: set[nn.Parameter] = set()

    def enter(*_: Any) -> None:
        before.append(counter.total)

    def leave(name: str, module: nn.Module, outputs: Any) -> None:
        own = set(module.parameters()) - counted
        counted.update(own)
        flops = counter.total - before.pop()
        layers.append(Layer(name, type(module).__name__, _shape(outputs), sum(weight.numel() for weight in own), flops))

    hooks = []
    for name, module in model.named_modules():
        if next(module.children(), None) is None:
            shown = name or type(module).__name__
            hooks.append(module.register_forward_pre_hook(enter))
            hooks.append(module.register_forward_hook(lambda module, _, outputs, name=shown: leave(name, module, outputs)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Let attention layers compute step by step: their fused kernel for inference is one of those that are not counted."""
    was_enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(was_enabled)


def _shape(outputs: Any) -> tuple[int, ...]:
    """The shape of the first tensor in what a layer gave (recurrent layers give several), without the batch."""
    while isinstance(outputs, tuple | list) and outputs:
        outputs = outputs[0]
    return tuple(outputs.shape[1:]) if isinstance(outputs, Tensor) else ()


def _cells(layer: Layer) -> tuple[str, ...]:
    return layer.name, layer.type, "×".join(map(str, layer.shape)), f"{layer.parameters:,}", f"{layer.flops:,}"


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    words, numbers = cells[:3], cells[3:]
    left = [f"{cell:<{width}}" for cell, width in zip(words, widths[:3], strict=True)]
    right = [f"{cell:>{width}}" for cell, width in zip(numbers, widths[3:], strict=True)]
    return "  ".join([*left, *right])


def byte_words(count: float) -> str:
    """Write a number of bytes for people."""
    for unit in ("bytes", "kB", "MB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"
