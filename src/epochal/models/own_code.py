"""The files that define the user's own network, by their SHA-256: whether it is still the one that was trained."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

from torch import nn

from epochal.user_code import is_user_code


def own_code(model: nn.Module) -> dict[str, str]:
    """Return the SHA-256 of each of the user's files that modules of `model` come from or use; for interactive code, of each class."""
    found: dict[str, str] = {}
    seen: set[str] = set()
    for kind in {type(module) for module in model.modules()}:
        try:
            path = Path(inspect.getfile(kind))
            if not is_user_code(str(path)):
                continue
            found[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
        except (TypeError, OSError):
            # Interactive code has no file; a notebook still knows the source.
            if source := _source(kind):
                found[kind.__qualname__] = hashlib.sha256(source.encode()).hexdigest()
            continue
        for other in _used(sys.modules.get(kind.__module__), path.parent, seen):
            found[other.name] = hashlib.sha256(other.read_bytes()).hexdigest()
    return dict(sorted(found.items()))


def changed_code(model: nn.Module, trained: Mapping[str, str]) -> list[str]:
    """Return the names of the files in `trained` whose content no longer defines `model`; a file may have been renamed."""
    now = {*own_code(model).values()}
    return [name for name, digest in trained.items() if digest not in now]


def _used(module: ModuleType | None, folder: Path, seen: set[str]) -> Iterator[Path]:
    """Yield the files in or below `folder` that a module refers to, recursively."""
    for value in list(vars(module).values()) if module is not None else ():
        other = value if isinstance(value, ModuleType) else sys.modules.get(getattr(value, "__module__", None) or "")
        file = getattr(other, "__file__", None)
        if other is None or not file or file in seen or not is_user_code(file) or not Path(file).is_relative_to(folder):
            continue
        seen.add(file)
        if Path(file).is_file():
            yield Path(file)
        yield from _used(other, folder, seen)


def _source(kind: type) -> str:
    try:
        return inspect.getsource(kind)
    except (TypeError, OSError):
        return ""
