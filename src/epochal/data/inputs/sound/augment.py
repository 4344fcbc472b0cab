"""Random changes of whole batches of training sounds, as tensor operations on the device.

The changes of an example are a function of (seed, epoch, position): neither its batch nor the process that prepares it can change a
sample.
"""

from __future__ import annotations

import torch
from torch import Tensor

from epochal.data.draws import Draws
from epochal.random import key, uniform
from epochal.recipe import AugmentSettings

_LOUDEST = 32_767


class SoundAugment:
    """Change sounds [batch, samples] of int16, `rate` samples per second, one by one; each keeps its target."""

    def __init__(self, settings: AugmentSettings, seed: int, rate: int) -> None:
        self.settings = settings
        self.seed = seed
        self.rate = rate

    def __call__(self, sounds: Tensor, positions: Tensor, epoch: int) -> Tensor:
        """Return changed copies of `sounds`; `positions` (int64 [batch]) and `epoch` decide how."""
        wanted, draws, length = self.settings, Draws(self.seed, epoch, positions), sounds.shape[1]
        places = torch.arange(length, device=sounds.device)
        reach = min(length, round(wanted.time_shift * self.rate))
        if reach:
            source = places - (draws.whole("time shift", 2 * reach + 1) - reach)[:, None]
            moved = sounds.gather(1, source.clamp(0, length - 1))
            sounds = torch.where((source >= 0) & (source < length), moved, 0)
        longest = min(length, round(wanted.time_mask * self.rate))
        if longest:
            size = draws.whole("time mask", longest + 1)
            begin = (draws.uniform("mask begin") * (length - size + 1)).long()
            is_masked = (places >= begin[:, None]) & (places < (begin + size)[:, None])
            sounds = torch.where(is_masked, 0, sounds)
        if not wanted.noise:
            return sounds
        levels = sounds.float()
        noise = uniform(key(self.seed, epoch, "noise"), positions[:, None] * length + places) * 2 - 1
        most = draws.between("noise level", 0, wanted.noise)[:, None] * levels.abs().amax(1, keepdim=True)
        noisy: Tensor = levels + noise * most
        return noisy.round().clamp(-_LOUDEST - 1, _LOUDEST).to(sounds.dtype)
