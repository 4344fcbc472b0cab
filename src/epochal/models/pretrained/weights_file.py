"""Weights from files of the user's: of one format that holds nothing but tensors, and they fit the network by name and shape."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor, nn

from epochal.errors import ModelError, reason_of
from epochal.io.safe_read import open_file, read_tensors

# What PyTorch's pickles are usually called.
_PICKLES = (".pth", ".pt", ".bin", ".ckpt", ".pkl", ".tar")

# So many names are given as examples.
_NAMED = 3


@dataclass(frozen=True)
class WeightsFile:
    """A .safetensors file with weights for `model`, by the names that timm gives them.

    `sha256` is that of its content, or "" where any will do: before the first run with it. `restore` says what to do if it is another.
    """

    model: str
    file: str
    sha256: str = ""
    restore: str = "Restore it, or train again."

    def path(self) -> Path:
        """Return where the file is. Raises `ModelError` if there is none."""
        if not self.file:
            raise ModelError(
                f"The model {self.model} is to be trained further, from weights that are not given.",
                "Name the file: --set model.weights=FILE.safetensors",
            )
        found = Path(self.file).expanduser().absolute()
        if not found.is_file():
            raise ModelError(f"There is no file {found} with the weights of {self.model}.", "Check the path in model.weights.")
        if found.suffix in _PICKLES:
            raise ModelError(
                f"{found} may be a pickle, which could run code when it is read; weights are read from .safetensors files alone.",
                'If you trust it: python -c "import torch, safetensors.torch as s; '
                f's.save_file(torch.load({str(found)!r}, weights_only=True), {str(found.with_suffix(".safetensors"))!r})"',
            )
        return found

    def load_into(self, trunk: nn.Module) -> dict[str, Any]:
        """Give the network of timm in `trunk` these weights, and return the settings that name exactly them; see `give`."""
        net = trunk.get_submodule("net")
        head = net.pretrained_cfg.get("classifier") or ()  # type: ignore[operator, union-attr]
        # The last layer goes with what only leads to it: of "head.linear" all else of "head" that the trunk does not have.
        unused = tuple(f"{name.rpartition('.')[0] or name}." for name in ([head] if isinstance(head, str) else head))
        return self.give(net, unused)

    def give(self, net: nn.Module, unused: tuple[str, ...], ours: Callable[[str], str] = str) -> dict[str, Any]:
        """Give a network these weights, and return the settings that name exactly them.

        `unused` begins names of what it does not need, and `ours` returns what it calls the others. Raises `ModelError` if the content
        has changed since the recipe was written, or does not fit.
        """
        path, wanted = self.path(), net.state_dict()
        tensors, sha256 = self._read(path)
        tensors = {ours(name): tensor for name, tensor in tensors.items()}
        tensors = {name: tensor for name, tensor in tensors.items() if name in wanted or not name.startswith(unused or (" ",))}
        if differences := _differences(wanted, tensors):
            raise ModelError(f"The weights in {path} are not those of {self.model}: {differences}.", "Give the file of this very model.")
        net.load_state_dict(tensors)
        return {"model.weights": str(path), "model.sha256": sha256}

    def _read(self, path: Path) -> tuple[dict[str, Tensor], str]:
        """Return the tensors, and the SHA-256 of the content that they were read from."""
        try:
            with open_file(path) as file:
                read_tensors(file)
                file.seek(0)
                content = file.read(os.fstat(file.fileno()).st_size)
            found = hashlib.sha256(content).hexdigest()
            if self.sha256 in ("", found):
                return safetensors.torch.load(content), found
        except (OSError, ValueError, safetensors.SafetensorError) as error:
            raise ModelError(f"{path} cannot be read as a .safetensors file: {reason_of(error).rstrip('.')}.", "Check the file.") from error
        raise ModelError(f"{path} is not the file that is expected: its SHA-256 is {found}, not {self.sha256}.", self.restore)


def _differences(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """Say in what tensors differ from those that a network has: how many, and which for example; "" where they do not."""
    shapes = [
        f"{name} is {list(found[name].shape)} instead of {list(wanted[name].shape)}"
        for name in wanted
        if name in found and wanted[name].shape != found[name].shape
    ]
    missing = [name for name in wanted if name not in found]
    more = sorted(found.keys() - wanted.keys())
    parts = (
        (missing, f"of its {len(wanted)} tensors missing"),
        (more, f"of the file's {len(found)} not part of it"),
        (shapes, "of another shape"),
    )
    return "; ".join(f"{len(names)} {what} ({_some(names)})" for names, what in parts if names)


def _some(names: Sequence[str]) -> str:
    return ", ".join([*names[:_NAMED], *["..."] * (len(names) > _NAMED)])
