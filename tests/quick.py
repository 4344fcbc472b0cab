"""What tests need not wait for: figures, operators that were read before, and a disk that is to outlive a power cut."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import IO, Any

import pytest
from matplotlib.figure import Figure

from epochal import figures
from epochal.figures import labels

# What makes the figures of a run, where it is looked up.
_MAKERS: list[tuple[Any, str, Callable[..., Any]]] = [
    *(
        (figures, name, getattr(figures, name))
        for name in ("column_importance", "confusion", "learning_curves", "predictions", "residuals", "scatter")
    ),
    (labels, "score_by_labels", labels.score_by_labels),
]
_SAVE = Figure.savefig


def _empty(*_: object) -> Figure:
    """Stand in for what makes a figure."""
    return Figure()


def _say(figure: Figure, file: IO[bytes], **options: Any) -> None:
    """Stand in for drawing: write how it was asked for."""
    file.write(repr(options).encode())


def draw_nothing(patch: pytest.MonkeyPatch | None = None) -> None:
    """Let files of figures be there, with nothing in them: until `patch` is undone, or for the whole life of this process."""
    patch = patch or pytest.MonkeyPatch()
    for place, name, _ in _MAKERS:
        patch.setattr(place, name, _empty)
    patch.setattr(Figure, "savefig", _say)


def draw(patch: pytest.MonkeyPatch) -> None:
    """Draw figures as users see them, until `patch` is undone."""
    for place, name, make in _MAKERS:
        patch.setattr(place, name, make)
    patch.setattr(Figure, "savefig", _SAVE)


def read_operators_once(patch: pytest.MonkeyPatch) -> None:
    """Keep the operators of ONNX and PyTorch, until `patch` is undone: each export would list them anew, in most of a second."""
    from torch._export import utils
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    # No test adds operators to PyTorch.
    patch.setattr(utils, "_materialize_cpp_cia_ops", functools.cache(utils._materialize_cpp_cia_ops))

    patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(functools.cache(ONNXRegistry.from_torchlib)))


def sync_nothing(fd: object) -> None:
    """Stand in for `os.fsync`."""


def flush_nothing() -> None:
    """Let this process leave it to the system when a file reaches the disk."""
    os.fsync = sync_nothing
