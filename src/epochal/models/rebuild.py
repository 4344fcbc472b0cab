"""Building the network of a stored model again, as its description says: which may come from a stranger."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from epochal.data.spec import DataSpec
from epochal.device import free_memory
from epochal.errors import BundleError, EpochalError, MissingError, ModelError
from epochal.io.safe_read import StoredTensor
from epochal.models.build import assemble, build_net, check_model, own_net
from epochal.random import fork_rng
from epochal.recipe import DataSettings

# What safetensors calls the dtypes of weights and buffers.
_STORED_AS = {torch.float32: "F32", torch.float64: "F64", torch.float16: "F16", torch.bfloat16: "BF16"}
_STORED_AS |= {torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL"}


def rebuild(
    path: Path,
    spec: DataSpec,
    model: tuple[str, Mapping[str, Any]] | nn.Module | str | None,
    layers: list[str],
    stored: Mapping[str, StoredTensor],
) -> nn.Module:
    """Build the complete model with these `layers` for the `stored` weights; `model` is a built-in one with options, or the user's own.

    Built-in models are built on the meta device first: what an untrusted file asks for must match its weights, and leave memory for
    an input. Raises `BundleError`, and `ModelError` where the user's own code cannot be run.
    """
    is_ours = isinstance(model, tuple)
    if isinstance(model, str):
        with fork_rng(torch.device("cpu")):
            model = own_net(model, spec)
    device = torch.device("meta" if is_ours else "cpu")

    def built(device: torch.device) -> nn.Module:
        with device if device.type == "meta" else fork_rng(device):
            net = build_net(model[0], spec, model[1]) if isinstance(model, tuple) else own_net(model, spec)
        return assemble(net, spec, DataSettings(), rescale="rescale" in layers)

    try:
        whole = built(device)
        if [name for name, _ in whole.named_children()] != layers:
            raise ModelError(f"its layers are {', '.join(layers) or 'none'}, which is not possible for this model.")
        if is_ours:
            whole.to(device)
            _check_stored(whole, stored)
        with _room(whole, spec):
            check_model(whole, spec.input.zeros(device), spec)
        if is_ours and dict(whole.named_buffers()).keys() - whole.state_dict().keys():
            # What is not stored, such as tables of positions, is computed where the network is built.
            whole = built(torch.device("cpu"))
    except MissingError as error:
        raise BundleError(f"The model in {path} cannot be rebuilt: {error.problem}", error.fix) from error
    except (EpochalError, RuntimeError, RecursionError) as error:
        raise BundleError(
            f"The model in {path} cannot be rebuilt: {first_line(error)}", "Use the version of Epochal, or the code, that wrote it."
        ) from error
    return whole


def _check_stored(model: nn.Module, stored: Mapping[str, StoredTensor]) -> None:
    """Compare the weights that a model needs with those stored. Raises `ModelError`."""
    wanted = {name: (_STORED_AS.get(tensor.dtype), tuple(tensor.shape)) for name, tensor in model.state_dict().items()}
    found = {name: (tensor.dtype, tensor.shape) for name, tensor in stored.items()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            words = [f"{dtype} of shape {shape}" for dtype, shape in (values[name] for values in (wanted, found) if name in values)]
            mismatch = " instead of ".join(reversed(words)) if len(words) == 2 else "missing" if name in wanted else "not part of it"
            raise ModelError(f"its weights do not match: {name} is {mismatch}.")


@contextmanager
def _room(model: nn.Module, spec: DataSpec) -> Iterator[None]:
    """Raise `ModelError` if the largest layer would not fit in memory, for the one input that passes through `model` in the block."""
    taken = 0

    def see(_: nn.Module, inputs: tuple[Any, ...], outputs: Any) -> None:
        nonlocal taken
        taken = max(taken, sum(value.nbytes for value in (*inputs, outputs) if isinstance(value, Tensor)))

    hooks = [module.register_forward_hook(see) for module in model.modules()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
    free = free_memory()
    if free is not None and taken > free:
        raise ModelError(f"one input of shape {spec.shape} would take {taken / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB are free.")


def first_line(error: BaseException) -> str:
    """Return what an error says, in a line."""
    if isinstance(error, ValidationError):
        return error.errors()[0]["msg"]
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
