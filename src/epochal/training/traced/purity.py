"""Whether a forward pass depends on nothing but its inputs, parameters, buffers and mode: only then can its operations be repeated.

Counters, random choices of Python, branches on values, prints and hooks would run once, while the step is recorded, and never again.
PyTorch's own modules and ours are known not to have any. Of other code, each statement is read: what is not known to be harmless is not
accepted, and `NotTraceableError` says what it is and where.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence, Sized
from types import FunctionType
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from epochal.training.traced.library import check_library, is_genuine, is_library
from epochal.training.traced.reader import Reader, is_plain
from epochal.training.traced.recording import NotTraceableError


class Condition(Protocol):
    """Something that must stay as it is."""

    def is_same(self) -> bool:
        """Return whether it still is."""


# Modules of PyTorch whose forward pass uses values of tensors, or changes more than buffers.
_EXCEPTIONS = {"AdaptiveLogSoftmaxWithLoss", "FractionalMaxPool2d", "FractionalMaxPool3d", "SyncBatchNorm"}

# What a class may define beside `forward` and names of its own, without changing how PyTorch and Python use its modules.
_HARMLESS = {
    "__init__", "__repr__", "extra_repr", "train", "__doc__", "__module__", "__qualname__", "__annotations__", "__dict__", "__weakref__",
    "__orig_bases__", "__parameters__", "__constants__", "__abstractmethods__", "__static_attributes__", "__firstlineno__",
    "__annotate_func__", "__annotations_cache__", "__type_params__",
}  # fmt: skip


def check_pure(model: nn.Module, own_loss: object, optimizer: object = None) -> Iterator[Condition]:
    """Raise `NotTraceableError` unless forward pass and loss are functions of inputs, targets, parameters, buffers and mode.

    `own_loss` is the user's own function, if there is one. Yield what this depends on outside of the modules: it is true while these
    are the same.
    """
    _check_surroundings(optimizer)
    modules = [module for root in (model, own_loss) if isinstance(root, nn.Module) for module in modules_of(root)]
    yield from check_library({kind for module in modules for kind in type(module).__mro__})
    for module in modules:
        yield from _check_module(module)
    if own_loss is None or isinstance(own_loss, nn.Module):
        return
    if not isinstance(own_loss, FunctionType):
        raise NotTraceableError(f"the loss is of type {type(own_loss).__name__}")
    if not is_genuine(own_loss, own_loss.__name__):
        yield from Reader(own_loss).check()


def modules_of(module: nn.Module) -> Iterator[nn.Module]:
    """Yield a module and all below it, each once: `modules` may be overridden."""
    found = {module: None}
    for one in (todo := [module]):
        for child in one._modules.values():
            if child is not None and child not in found:
                found[child] = None
                todo.append(child)
    yield from found


def hooks_of(module: nn.Module) -> Iterator[Sized]:
    """Yield the hooks of a module, and those for all modules."""
    yield from (value for name, value in vars(module).items() if name.endswith("_hooks") and "state_dict" not in name)
    everywhere = vars(nn.modules.module)
    yield from (value for name, value in everywhere.items() if name.startswith("_global") and name.endswith("_hooks"))


def is_hooked(tensor: Tensor) -> bool:
    """Return whether something is called when a tensor gets its gradient."""
    if tensor._backward_hooks or getattr(tensor, "_post_accumulate_grad_hooks", None):
        return True
    if not tensor.requires_grad:
        return False
    # What adds gradients up has hooks too, as long as somebody keeps it. They can be counted by adding one.
    node = torch.autograd.graph.get_gradient_edge(tensor).node
    handles = [register(lambda *_: None) for register in (node.register_hook, node.register_prehook)]
    counts = [len(handle.hooks_dict_ref() or ()) for handle in handles]
    for handle in handles:
        handle.remove()
    return max(counts) > 1


def is_watched() -> bool:
    """Return whether somebody looks at all operations, or at all tensors that are kept for backpropagation."""
    return bool(
        torch._C._len_torch_function_stack() or torch._C._len_torch_dispatch_stack() or _has_saving_hooks() or torch.is_anomaly_enabled()
    )


def _has_saving_hooks() -> bool:
    try:
        # This refuses to be entered where there are some.
        with torch.autograd.graph.disable_saved_tensors_hooks("not now"):
            return False
    except RuntimeError:
        return True


def optimizer_hooks(optimizer: object) -> list[Sized]:
    """Return what is called around the steps of an optimizer, and of all optimizers."""
    everywhere = vars(sys.modules["torch.optim.optimizer"])
    of_all = [value for name, value in everywhere.items() if name.startswith("_global") and name.endswith("_hooks")]
    return of_all + [value for name, value in getattr(optimizer, "__dict__", {}).items() if name.endswith("_hooks") and "state" not in name]


def _check_surroundings(optimizer: object) -> None:
    if is_watched():
        raise NotTraceableError("a mode of PyTorch looks at each operation")
    replaced = {"step", "zero_grad"} & getattr(optimizer, "__dict__", {}).keys()
    if replaced or any(optimizer_hooks(optimizer)):
        raise NotTraceableError("your own optimizer calls more than its step")


def _check_module(module: nn.Module) -> Iterator[Condition]:
    """Check one module, without its children."""
    kind = type(module)
    name = kind.__name__
    if any(hooks_of(module)):
        raise NotTraceableError(f"{name} has hooks")
    if overridden := {"forward", "_call_impl", "_compiled_call_impl", "__call__"} & vars(module).keys():
        raise NotTraceableError(f"{name} has its {sorted(overridden)[0]} replaced")
    for which in (module._parameters, module._buffers, module._modules):
        if type(which) is not dict:
            raise NotTraceableError(f"{name} keeps its parameters in a {type(which).__name__}")
    if "parametrizations" in module._modules:
        raise NotTraceableError(f"{name} computes its parameters (parametrizations)")
    for what in (*module._parameters.values(), *module._buffers.values()):
        if what is None:
            continue
        if type(what) not in (nn.Parameter, Tensor):
            raise NotTraceableError(f"{name} has a {type(what).__name__}")
        if is_hooked(what):
            raise NotTraceableError(f"a parameter of {name} has hooks")
        if shadowed := [attribute for attribute in vars(what) if hasattr(Tensor, attribute)]:
            raise NotTraceableError(f"a parameter of {name} has its {shadowed[0]} replaced")
    if any(buffer is not None and buffer.requires_grad for buffer in module._buffers.values()):
        raise NotTraceableError(f"a buffer of {name} requires gradients")
    own = [base for base in kind.__mro__ if not is_library(base)]
    for base in own:
        for changed in sorted(vars(base).keys() - _HARMLESS - {"forward"}):
            if hasattr(nn.Module, changed) or (changed.startswith("__") and changed.endswith("__")):
                raise NotTraceableError(f"{base.__name__} defines {changed}")
    owner = next(base for base in kind.__mro__ if "forward" in vars(base))
    forward = vars(owner)["forward"]
    if not isinstance(forward, FunctionType):
        raise NotTraceableError(f"the forward of {name} is not a function")
    if not is_library(owner):
        yield from Reader(forward, module).check()
    elif not is_genuine(forward, f"{owner.__qualname__}.forward") and owner is not nn.Module:
        raise NotTraceableError(f"the forward of {owner.__name__} has been replaced")
    elif owner.__module__.startswith("torch."):
        _check_torchs(module, own)


def _check_torchs(module: nn.Module, own: Sequence[type]) -> None:
    """Check a module whose forward is PyTorch's: nothing that it calls may be replaced, or read values."""
    first = next(base for base in type(module).__mro__ if is_library(base))
    if first.__name__ in _EXCEPTIONS or not first.__module__.startswith("torch.nn.modules."):
        raise NotTraceableError(f"{first.__name__} uses values of tensors")
    for base in own:
        for name, value in vars(base).items():
            if name not in _HARMLESS and (hasattr(first, name) or (hasattr(value, "__get__") and not isinstance(value, FunctionType))):
                raise NotTraceableError(f"{base.__name__} replaces {name} of {first.__name__}")
    # Containers use their modules alone.
    used = {} if first in (nn.Sequential, nn.ModuleList, nn.ModuleDict) else vars(module)
    for name, value in used.items():
        if not name.startswith("_") and not _is_constant(value) and not is_genuine(value, getattr(value, "__name__", "")):
            raise NotTraceableError(f"{type(module).__name__} has its {name} as a {type(value).__name__}")


def _is_constant(value: Any) -> bool:
    if isinstance(value, list | Mapping):
        return all(map(_is_constant, value if isinstance(value, list) else value.values()))
    name = getattr(value, "__name__", "")
    return is_plain(value) or (inspect.isbuiltin(value) and value in (getattr(nn.functional, name, None), getattr(torch, name, None)))
