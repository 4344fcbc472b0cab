"""The networks of well-known tutorials, layer for layer; each takes the pictures that it was written for."""

from __future__ import annotations

from torch import nn

from epochal.data.spec import DataSpec
from epochal.errors import ModelError
from epochal.shown import counted


def tutorial_mlp(spec: DataSpec) -> nn.Module:
    """Return 784-128-10 with ReLU."""
    _require(spec, "tutorial-mlp", (1, 28, 28))
    return nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 128), nn.ReLU(), nn.Linear(128, 10))


def tutorial_simple(spec: DataSpec) -> nn.Module:
    """Return 784-128-64-10 with ReLU."""
    _require(spec, "tutorial-simple", (1, 28, 28))
    return nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))


def tutorial_cnn(spec: DataSpec) -> nn.Module:
    """Return two 3x3 convolutions (32, 64), pooling, dropout, 9216-128-10; gives log-probabilities (for nll)."""
    _require(spec, "tutorial-cnn", (1, 28, 28))
    return nn.Sequential(
        nn.Conv2d(1, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3),
        nn.MaxPool2d(2),
        nn.Dropout2d(0.25),
        nn.Flatten(),
        nn.Linear(9216, 128),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(128, 10),
        nn.LogSoftmax(dim=1),
    )


def tutorial_small_cnn(spec: DataSpec) -> nn.Module:
    """Return two pooled 5x5 convolutions (10, 20) with dropout, 320-50-10; gives log-probabilities (for nll)."""
    _require(spec, "tutorial-small-cnn", (1, 28, 28))
    return nn.Sequential(
        nn.Conv2d(1, 10, 5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(10, 20, 5),
        nn.Dropout2d(),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(320, 50),
        nn.ReLU(),
        nn.Linear(50, 10),
        nn.LogSoftmax(dim=1),
    )


def tutorial_cifar(spec: DataSpec) -> nn.Module:
    """Return two pooled 3x3 convolutions (16, 32) and 2048-10, for 32x32 colour pictures."""
    _require(spec, "tutorial-cifar", (3, 32, 32))
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 8 * 8, 10),
    )


def _require(spec: DataSpec, name: str, shape: tuple[int, ...]) -> None:
    if spec.features != shape or len(spec.outputs) != 10:
        wanted = "×".join(map(str, shape))
        given = "×".join(map(str, spec.features))
        raise ModelError(
            f"The model {name} takes {wanted} pictures of 10 classes; "
            f"these data have shape {given} and {counted(len(spec.outputs), 'output')}.",
            "Use conv or mlp, which take any.",
        )
