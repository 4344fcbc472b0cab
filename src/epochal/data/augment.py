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
        reach = self.settings.shift
        count, channels, height, width = pictures.shape
        down = self._whole("shift down", positions, epoch, 2 * reach + 1)
        right = self._whole("shift right", positions, epoch, 2 * reach + 1)
        source = torch.arange(count, device=pictures.device)
        padded = functional.pad(pictures, (reach, reach, reach, reach))
        if self.settings.flip:
            # Mirrored copies follow the others; on them the same window begins at the other side.
            mirrored = self._whole("flip", positions, epoch, 2)
            padded = torch.cat((padded, padded.flip(-1)))
            source = source + count * mirrored
            right = torch.where(mirrored == 1, 2 * reach - right, right)
        # Every row of every window is a run of `width` values in memory: finding where they begin and copying runs is several
        # times faster than moving pixels one by one.
        tall, wide = padded.shape[-2:]
        planes = source[:, None] * channels + torch.arange(channels, device=source.device)
        rows = down[:, None] + torch.arange(height, device=source.device)
        begins = (planes[:, :, None] * tall + rows[:, None, :]) * wide + right[:, None, None]
        runs = padded.view(-1).unfold(0, width, 1)
        return runs.index_select(0, begins.flatten()).view(count, channels, height, width)

    def _whole(self, name: str, positions: Tensor, epoch: int, values: int) -> Tensor:
        """A whole number from 0 to `values` - 1 for each example."""
        return (uniform(key(self.seed, epoch, name), positions) * values).long()


def build_augment(settings: AugmentSettings, spec: DataSpec, seed: int) -> Augment | None:
    """Return what `settings` ask for, or `None` where they ask for nothing. Raises `RecipeError` for data without pictures."""
    if not (settings.shift or settings.flip):
        return None
    if not spec.is_image:
        raise RecipeError(
            f"The settings augment.shift and augment.flip are for pictures; these data have shape {spec.shape}.", "Leave them out."
        )
    return Augment(settings, seed)
