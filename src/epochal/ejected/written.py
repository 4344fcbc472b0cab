"""Networks written out as code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from epochal.errors import ExportError


def _conv(layer: Any) -> str:
    stride, padding = layer.stride[0], layer.padding[0]
    options = f", stride={stride}" * (stride > 1) + f", padding={padding}" * (padding > 0) + ", bias=False" * (layer.bias is None)
    return f"nn.Conv2d({layer.in_channels}, {layer.out_channels}, {layer.kernel_size[0]}{options})"


def _residual(block: Any) -> str:
    conv = block.first[0]
    return f"Residual({conv.in_channels}, {conv.out_channels}{f', stride={conv.stride[0]}' * (conv.stride[0] > 1)})"


def _recurrent(net: Any) -> str:
    one = net.directions[0]
    kind = f"nn.{type(one).__name__}"
    return f"Recurrent({kind}, ROWS, dim={one.input_size}, hidden={one.hidden_size}, directions={len(net.directions)}, outputs=OUTPUTS)"


def _blocks(net: Any) -> str:
    return f"dim={net.norm.normalized_shape[0]}, layers={len(net.blocks)}, heads={net.blocks[0].heads}, outputs=OUTPUTS"


def _patches(net: Any) -> str:
    patches = net.patches
    conv = patches.project
    sizes = f"rows={len(patches.rows)}, columns={len(patches.columns)}, patch={conv.kernel_size[0]}, dim={conv.out_channels}"
    return f"Vit(Patches({conv.in_channels}, {sizes}), {_blocks(net)})"


def _embed(layer: Any) -> str:
    return f"Embed(plain={layer.plain}, codes={layer.words.num_embeddings})"


_STAGE = ("Conv2d", "MaxPool2d", "_Normalized", "GELU", "Conv2d", "_Normalized", "GELU")

# How each layer is written, by the name of its class.
_WRITTEN: Mapping[str, Callable[[Any], str]] = {
    "AdaptiveMaxPool2d": lambda layer: f"nn.AdaptiveMaxPool2d({layer.output_size})",
    "AdaptiveAvgPool2d": lambda layer: f"nn.AdaptiveAvgPool2d({layer.output_size})",
    "BatchNorm2d": lambda layer: f"nn.BatchNorm2d({layer.num_features})",
    "Conv2d": _conv,
    "Dropout": lambda layer: f"nn.Dropout({layer.p})",
    "Dropout2d": lambda layer: f"nn.Dropout2d({layer.p})",
    "Flatten": lambda layer: "nn.Flatten()",  # noqa: ARG005
    "GELU": lambda layer: "nn.GELU()",  # noqa: ARG005
    "Linear": lambda layer: f"nn.Linear({layer.in_features}, {layer.out_features}{', bias=False' * (layer.bias is None)})",
    "LogSoftmax": lambda layer: f"nn.LogSoftmax(dim={layer.dim})",
    "MaxPool2d": lambda layer: f"nn.MaxPool2d({layer.kernel_size}{', ceil_mode=True' * layer.ceil_mode})",
    "ReLU": lambda layer: "nn.ReLU()",  # noqa: ARG005
    # Ours.
    "Bag": lambda net: f"Bag(ROWS, dim={net.table.embedding_dim}, outputs=OUTPUTS)",
    "Embed": _embed,
    "First": lambda layer: f"First({layer.fixed}, {layer.in_features - layer.fixed}, {layer.out_features})",
    "Recurrent": _recurrent,
    "Transformer": lambda net: f"Transformer(ROWS, LENGTH, {_blocks(net)})",
    "Vit": _patches,
    "_Contrasts": lambda layer: f"contrasts({layer.weight.shape[1]}, {layer.weight.shape[0]})",
    "_Residual": _residual,
}


def written(net: nn.Module, features: Tensor) -> str:
    """Return the code of a network: an expression; of a sequence, comments say what each layer makes of `features` [1, ...].

    Raises `ExportError` for a layer that is not known.
    """
    if not isinstance(net, nn.Sequential):
        return _layer(net)
    layers, shapes = list(net), _shapes(net, features)
    lines = [f"    {code},  # {' × '.join(map(str, shapes[last]))}" for code, last in _sequence(layers)]
    return "\n".join([f"{'Airbench' if _named(layers[-1:]) == ('_Scaled',) else 'nn.Sequential'}(", *lines, ")"])


def _sequence(layers: Sequence[Any]) -> Iterator[tuple[str, int]]:
    """Yield the code of each layer or stage, and the place of its last layer."""
    place = 0
    while place < len(layers):
        first, size = layers[place], 1
        if _named(layers[place : place + len(_STAGE)]) == _STAGE:
            size = len(_STAGE)
            yield f"*stage({first.in_channels}, {first.out_channels})", place + size - 1
        # Airbench itself scales.
        elif type(first).__name__ != "_Scaled":
            yield _layer(first), place
        place += size


def _named(layers: Sequence[nn.Module]) -> tuple[str, ...]:
    return tuple(type(layer).__name__ for layer in layers)


def _layer(layer: nn.Module) -> str:
    name = type(layer).__name__
    if type(layer) is nn.Sequential:
        return f"nn.Sequential({', '.join(map(_layer, layer.children()))})"
    if name not in _WRITTEN:
        raise ExportError(f"The network has a layer {name}, which is not written as plain PyTorch.", "Use another model.")
    return _WRITTEN[name](layer)


def _shapes(net: nn.Module, features: Tensor) -> list[tuple[int, ...]]:
    """Return the shape that each layer of a sequence gives for one input."""
    was_training, found = net.training, []
    net.eval()
    with torch.inference_mode():
        for layer in net.children():
            features = layer(features)
            found.append(tuple(features.shape[1:]))
    net.train(was_training)
    return found
