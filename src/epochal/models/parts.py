"""What a network says of its parts, by plain attributes that any `nn.Module` may have.

    head = "fc"                        the submodule that gives its outputs; timm's networks have get_classifier() instead
    lr_scale = 0.1                     of any module: its parameters learn with this share of the learning rate
    no_weight_decay = ("positions",)   parameters of any module without weight decay; in timm a function that returns them

A part is frozen as everywhere in PyTorch: by `requires_grad_(False)`, and by `eval()` where its running statistics shall stay.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from epochal.errors import ModelError


def head_of(model: nn.Module, outputs: Tensor) -> frozenset[Tensor]:
    """Return the parameters of the layer that gives `outputs`, which must carry their gradient: the marked head, or the last weight."""
    for module in model.modules():
        if isinstance(name := getattr(module, "head", None), str):
            try:
                return frozenset(module.get_submodule(name).parameters())
            except AttributeError as error:
                raise ModelError(f"{type(module).__name__} has no part '{name}', its head.", "Let head name one of its modules.") from error
        classifier = getattr(module, "get_classifier", None)
        if callable(classifier) and isinstance(head := classifier(), nn.Module):
            return frozenset(head.parameters())
    return frozenset(last_weights(outputs))


def parameter_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Return the parameters to train, by their names, in the groups of an optimizer: by share of the rate, with decay and without."""
    scales: dict[Tensor, float] = {}
    undecayed: set[Tensor] = set()
    # Inner modules come later, so that theirs is the last word.
    for module in model.modules():
        if isinstance(scale := getattr(module, "lr_scale", None), int | float):
            scales.update(dict.fromkeys(module.parameters(), float(scale)))
        names = getattr(module, "no_weight_decay", ())
        undecayed.update(module.get_parameter(name) for name in (names() if callable(names) else names))
    groups: dict[tuple[float, bool], list[tuple[str, nn.Parameter]]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((scales.get(parameter, 1.0), parameter in undecayed), []).append((name, parameter))
    return [
        {"params": named} | ({"lr_scale": scale} if scale != 1 else {}) | ({"weight_decay": 0.0} if stays else {})
        for (scale, stays), named in groups.items()
    ]


def last_weights(outputs: Tensor) -> list[Tensor]:
    """Return the parameters of several axes that are nearest to `outputs` in autograd's graph: the weight of the last layer."""
    nodes = [] if outputs.grad_fn is None else [outputs.grad_fn]
    while nodes:
        parameters = [getattr(node, "variable", None) for node in nodes]
        if found := [parameter for parameter in parameters if parameter is not None and parameter.ndim > 1]:
            return found
        nodes = list(dict.fromkeys(before for node in nodes for before, _ in node.next_functions if before is not None))
    return []
