"""Whether PyTorch is as it was installed: its functions and classes can be replaced by code that nobody has read."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Mapping
from types import FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from epochal.training.traced.reader import OURS, TORCH, is_in
from epochal.training.traced.recording import NotTraceableError
from epochal.user_code import is_user_code

# What may be found in PyTorch's namespaces, by the first part of its name.
_ORIGINS = {"torch", "epochal", "typing_extensions", *sys.stdlib_module_names}


class Namespace(NamedTuple):
    """What the names of a module or class of Python stand for."""

    names: Mapping[str, Any]
    values: dict[str, Any]
    may_grow: bool

    def is_same(self) -> bool:
        """Return whether they still do."""
        return (self.may_grow or len(self.names) == len(self.values)) and self.names.items() >= self.values.items()


def is_library(kind: type) -> bool:
    """Return whether a class is PyTorch's or ours, and not only named so."""
    known = getattr(sys.modules.get(kind.__module__), kind.__name__, None) is kind
    return kind is object or (known and kind.__module__.partition(".")[0] in ("torch", "epochal", "typing"))


def is_genuine(function: object, name: str) -> bool:
    """Return whether a function is the one that is called `name` where PyTorch or Epochal defines it, not one that wraps another."""
    if not isinstance(function, FunctionType) or "<locals>" in name:
        return False
    return function.__code__.co_qualname == name and is_in(function, TORCH, OURS)


def check_library(kinds: set[type]) -> Iterator[Namespace]:
    """Check all that modules of these classes may call in PyTorch; yield the namespaces. Raises `NotTraceableError`."""
    nn_modules = {sys.modules[kind.__module__] for kind in kinds if kind.__module__.startswith("torch.nn.modules.")}
    # Of classes, the user's own among them, any new name matters: it may hide another.
    spaces: list[ModuleType | type] = [torch, nn.functional, torch._C._nn, torch._VF, *nn_modules, Tensor, *kinds]
    for space in spaces:
        if isinstance(space, ModuleType) or is_library(space):
            for name, value in vars(space).items():
                if not _is_theirs(value):
                    raise NotTraceableError(f"{space.__name__}.{name} has been replaced")
        yield Namespace(vars(space), dict(vars(space)), may_grow=isinstance(space, ModuleType))


def _is_theirs(value: object, around: tuple[object, ...] = ()) -> bool:
    """Return whether a value runs no code but PyTorch's, Python's and ours, with all that it wraps."""
    if isinstance(value, FunctionType):
        if not (is_in(value, TORCH, OURS) or _is_pythons(value)):
            return False
        inner = [cell.cell_contents for cell in value.__closure__ or ()]
        wrapped = [one for one in inner if not any(one is other for other in around)]
        return all(_is_theirs(one, (*around, value)) for one in wrapped)
    if isinstance(value, MethodType):
        return _is_theirs(value.__func__, around) and _is_theirs(value.__self__, around)
    if isinstance(value, property):
        return all(_is_theirs(one, around) for one in (value.fget, value.fset))
    if isinstance(value, staticmethod | classmethod):
        return _is_theirs(value.__func__, around)
    kind = value if isinstance(value, type) else type(value)
    return kind.__module__.partition(".")[0] in _ORIGINS and not isinstance(value, functools.partial)


def _is_pythons(function: FunctionType) -> bool:
    return str(function.__module__).partition(".")[0] in _ORIGINS and not is_user_code(function.__code__.co_filename)
