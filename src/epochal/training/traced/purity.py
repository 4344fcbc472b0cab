"""Whether a forward pass depends on nothing but its inputs, parameters, buffers and mode: only then can its operations be repeated.

Counters, random choices of Python, branches on values, prints and hooks would run once, while the step is recorded, and never again.
PyTorch's own modules and ours are known not to have any. Of other code, each statement is read: what is not known to be harmless is not
accepted, and `NotTraceableError` says what it is and where.
"""

from __future__ import annotations

from collections.abc import Iterator, Sized
from pathlib import Path
from types import FunctionType

import torch
from torch import Tensor, nn

from epochal.training.traced.reader import TORCH, Outside, Reader, is_in
from epochal.training.traced.recording import NotTraceableError
from epochal.user_code import is_user_code

_OURS = str(Path(__file__).parents[2])

# Modules of PyTorch whose forward pass uses values of tensors, or changes more than buffers.
_EXCEPTIONS = {"AdaptiveLogSoftmaxWithLoss", "FractionalMaxPool2d", "FractionalMaxPool3d", "SyncBatchNorm"}

# What a subclass may define beside `forward` and methods of its own, without changing how PyTorch calls it.
_HARMLESS = {"__init__", "__repr__", "extra_repr", "reset_parameters", "train", "__doc__", "__module__", "__annotations__"}
_MACHINERY = {"__call__", "_call_impl", "_wrapped_call_impl", "_slow_forward", "__getattr__", "__getattribute__", "__setattr__"}


def check_pure(model: nn.Module, own_loss: object) -> Iterator[Outside]:
    """Raise `NotTraceableError` unless forward pass and loss are functions of inputs, targets, parameters, buffers and mode.

    `own_loss` is the user's own function, if there is one. Yield what this depends on outside of the modules: it is true while these
    are the same.
    """
    check_functions()
    for module in (*model.modules(), *(own_loss.modules() if isinstance(own_loss, nn.Module) else ())):
        yield from _check_module(module)
    if own_loss is None or isinstance(own_loss, nn.Module):
        return
    if not isinstance(own_loss, FunctionType):
        raise NotTraceableError(f"the loss is of type {type(own_loss).__name__}")
    if not is_in(own_loss, TORCH, _OURS):
        yield from Reader(own_loss).check()


def _check_module(module: nn.Module) -> Iterator[Outside]:
    """Check one module, without its children."""
    kind = type(module)
    name = kind.__name__
    if any(hooks_of(module)):
        raise NotTraceableError(f"{name} has hooks")
    if overridden := {"forward", "_call_impl", "__call__"} & vars(module).keys():
        raise NotTraceableError(f"{name} has its {sorted(overridden)[0]} replaced")
    for what in [*module.parameters(recurse=False), *module.buffers(recurse=False)]:
        if type(what) not in (nn.Parameter, Tensor):
            raise NotTraceableError(f"{name} has a {type(what).__name__}")
        if what._backward_hooks or getattr(what, "_post_accumulate_grad_hooks", None):
            raise NotTraceableError(f"a parameter of {name} has hooks")
    forward = kind.forward
    yield Outside(kind, "forward", forward)
    if not isinstance(forward, FunctionType):
        raise NotTraceableError(f"the forward of {name} is not a function")
    for base in kind.__mro__:
        if _is_library(base) or base is object:
            continue
        if changed := sorted(_MACHINERY & vars(base).keys()):
            raise NotTraceableError(f"{base.__name__} defines {changed[0]}")
    if is_in(forward, TORCH):
        _check_library(module)
    elif not is_in(forward, _OURS):
        yield from Reader(forward, module).check()


def _check_library(module: nn.Module) -> None:
    """Check a module whose forward is PyTorch's: nothing that it calls may be replaced, or read values."""
    kind = type(module)
    own = [base for base in kind.__mro__ if not _is_library(base) and base is not object]
    first = next(base for base in kind.__mro__ if _is_library(base))
    for base in own:
        if replaced := sorted(name for name in vars(base) if name not in _HARMLESS and hasattr(first, name)):
            raise NotTraceableError(f"{base.__name__} replaces {replaced[0]} of {first.__name__}")
    if first.__name__ in _EXCEPTIONS or not first.__module__.startswith("torch.nn.modules."):
        raise NotTraceableError(f"{first.__name__} uses values of tensors")


def hooks_of(module: nn.Module) -> Iterator[Sized]:
    """Yield the hooks of a module, and those for all modules."""
    yield from (value for name, value in vars(module).items() if name.endswith("_hooks") and "state_dict" not in name)
    everywhere = vars(nn.modules.module)
    yield from (value for name, value in everywhere.items() if name.startswith("_global") and name.endswith("_hooks"))


def _is_library(kind: type) -> bool:
    return kind.__module__.startswith(("torch.", "epochal.")) or kind.__module__ == "builtins"


def check_functions() -> None:
    """Check that nobody has replaced functions of PyTorch, which its modules call."""
    for space in (torch, nn.functional, Tensor):
        for name, value in vars(space).items():
            if isinstance(value, FunctionType) and is_user_code(value.__code__.co_filename):
                raise NotTraceableError(f"{space.__name__}.{name} has been replaced")
