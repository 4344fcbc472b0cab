"""A package called timm, with one small network, which is all that these tests need of the real one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

SOURCE = """
from dataclasses import dataclass

import torch
from torch import nn
# As timm's layers and its data loading do.
import torchvision.transforms.functional as F
from torchvision.ops.misc import FrozenBatchNorm2d
from torchvision.transforms import InterpolationMode

__version__ = "9.9.9"
NAMES = {InterpolationMode.BILINEAR: "bilinear", InterpolationMode.BICUBIC: "bicubic"}


class Resize(F.Resize):
    pass


@dataclass
class Config:
    input_size: tuple = (3, 12, 12)
    mean: tuple = (0.5, 0.4, 0.3)
    std: tuple = (0.2, 0.25, 0.3)


class Tiny(nn.Module):
    def __init__(self, num_classes, in_chans):
        super().__init__()
        self.num_features = 6
        self.pretrained_cfg = {"classifier": "head.fc"}
        self.stem = nn.Conv2d(in_chans, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        # Not in its state_dict: a network that is built without memory does not get it from there.
        self.register_buffer("index", torch.arange(6).flip(0), persistent=False)
        self.head = nn.Module()
        if num_classes:
            self.head.norm = nn.LayerNorm(6)
        self.head.fc = nn.Linear(6, num_classes) if num_classes else nn.Identity()

    def forward(self, x):
        return self.head.fc(self.norm(self.stem(x)).relu().mean((2, 3))[:, self.index])


def list_models(filter="", include_tags=False):
    return ["tiny.a1", "tiny.b2"] if include_tags else ["tiny"]


def get_pretrained_cfg(name, allow_unregistered=True):
    if name not in ("tiny", "tiny.a1", "tiny.b2"):
        raise RuntimeError("Invalid pretrained tag")
    return Config()


def create_model(name, pretrained=False, num_classes=1000, in_chans=3):
    assert not pretrained
    assert name in ("tiny", "tiny.a1", "tiny.b2")
    return Tiny(num_classes, in_chans)
"""


def install_timm(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `import timm` find the package, which is written to `folder`, until the test ends."""
    folder.mkdir()
    (folder / "timm.py").write_text(SOURCE)
    forget_timm(monkeypatch)
    monkeypatch.syspath_prepend(folder)


def forget_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the next `import timm` look for it, and forget what it found when the test ends."""
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.delitem(sys.modules, "timm")


def tiny_weights(seed: int = 0, classes: int = 1000) -> dict[str, torch.Tensor]:
    """The weights of the network `tiny`, as its authors publish them: with the head for their classes."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        "stem.weight": torch.randn(6, 3, 3, 3, generator=generator),
        "stem.bias": torch.randn(6, generator=generator),
        "norm.weight": torch.rand(6, generator=generator),
        "norm.bias": torch.rand(6, generator=generator),
        "norm.running_mean": torch.randn(6, generator=generator),
        "norm.running_var": torch.rand(6, generator=generator) + 0.5,
        "norm.num_batches_tracked": torch.tensor(100),
    }
    head = {"head.norm.weight": torch.ones(6), "head.norm.bias": torch.zeros(6)}
    return {**tensors, **head, "head.fc.weight": torch.randn(classes, 6), "head.fc.bias": torch.randn(classes)}


def write_weights(path: Path, seed: int = 0, **changes: torch.Tensor | None) -> Path:
    """Write them to `path`; `changes` are other tensors, by names with _ for the dots; `None` leaves one out."""
    tensors = tiny_weights(seed)
    for name, tensor in changes.items():
        whole = next((known for known in tensors if known.replace(".", "_") == name), name)
        tensors.pop(whole, None)
        if tensor is not None:
            tensors[whole] = tensor
    safetensors.torch.save_file(tensors, path)
    return path
