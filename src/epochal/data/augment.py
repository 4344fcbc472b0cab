"""Random changes of whole batches of training pictures, as tensor operations on the device.

What happens to an example is a function of (seed, epoch, its position): neither the batch that it stands in nor the process
that prepares it can change a pixel.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from epochal.data.spec import DataSpec
from epochal.errors import RecipeError
from epochal.random import key, uniform
from epochal.recipe import AugmentSettings


class Augment:
    """Shift and mirror pictures [batch, channels, height, width] of any dtype."""

    def __init__(self, settings: AugmentSettings, seed: int) -> None:
        self.settings = settings
        self.seed = seed

    def __call__(self, pictures: Tensor, positions: Tensor, epoch: int) -> Tensor:
        """Return changed copies of `pictures`; `positions` (int64 [batch]) and `epoch` decide how."""
        height, width = pictures.shape[-2:]
        device = pictures.device
        rows = torch.arange(height, device=device).expand(len(pictures), -1)
        columns = torch.arange(width, device=device).expand(len(pictures), -1)
        if self.settings.flip:
            mirrored = uniform(key(self.seed, epoch, "flip"), positions) < 0.5
            columns = torch.where(mirrored[:, None], width - 1 - columns, columns)
        if reach := self.settings.shift:
            pictures = functional.pad(pictures, (reach, reach, reach, reach))
            rows = rows + self._offset("shift down", positions, epoch)
            columns = columns + self._offset("shift right", positions, epoch)
        batch = torch.arange(len(pictures), device=device)[:, None, None]
        # Indexing around a slice puts the channels last: [batch, height, width, channels].
        return pictures[batch, :, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)

    def _offset(self, name: str, positions: Tensor, epoch: int) -> Tensor:
        """A whole number from 0 to twice the reach for each example: where its window on the padded picture begins."""
        draw = uniform(key(self.seed, epoch, name), positions)
        return (draw * (2 * self.settings.shift + 1)).long()[:, None]


def build_augment(settings: AugmentSettings, spec: DataSpec, seed: int) -> Augment | None:
    """Return what `settings` ask for, or `None` where they ask for nothing. Raises `RecipeError` for data without pictures."""
    if not (settings.shift or settings.flip):
        return None
    if not spec.is_image:
        raise RecipeError(
            f"The settings augment.shift and augment.flip are for pictures; these data have shape {spec.shape}.", "Leave them out."
        )
    return Augment(settings, seed)
