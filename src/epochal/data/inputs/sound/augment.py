"""Random changes of whole batches of training sounds, as tensor operations on the device.

The changes of an example are a function of (seed, epoch, position): neither its batch nor the process that prepares it can change a
sample.
"""

from __future__ import annotations

import torch
from torch import Tensor

from epochal.data.draws import Draws
from epochal.data.inputs.sound.mel import mel_places
from epochal.random import key, uniform
from epochal.recipe import AugmentSettings

_LOUDEST = 32_767


class SoundAugment:
    """Change sounds [batch, samples] of int16, or [batch, windows, samples], `rate` samples per second; each keeps its target."""

    def __init__(self, settings: AugmentSettings, seed: int, rate: int) -> None:
        self.settings = settings
        self.seed = seed
        self.rate = rate

    def __call__(self, sounds: Tensor, positions: Tensor, epoch: int) -> Tensor:
        """Return changed copies of `sounds`; `positions` (int64 [batch]) and `epoch` decide how."""
        if sounds.ndim == 3:
            windows = sounds.shape[1]
            each = positions[:, None] * windows + torch.arange(windows, device=sounds.device)
            return self(sounds.flatten(0, 1), each.flatten(), epoch).view_as(sounds)
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
        if not (wanted.frequency_mask or wanted.noise):
            return sounds
        is_inside, levels = _between_ends(sounds), sounds.float()
        if wanted.frequency_mask:
            size = draws.between("frequency mask", 0, wanted.frequency_mask)
            low = draws.uniform("mask frequency") * (1 - size)
            levels = without_band(levels, low, low + size, self.rate)
        if wanted.noise:
            noise = uniform(key(self.seed, epoch, "noise"), positions[:, None] * length + places) * 2 - 1
            levels = levels + noise * draws.between("noise level", 0, wanted.noise)[:, None] * levels.abs().amax(1, keepdim=True)
        # Padding stays silent.
        changed: Tensor = (levels * is_inside).round().clamp(-_LOUDEST - 1, _LOUDEST)
        return changed.to(sounds.dtype)


def without_band(sounds: Tensor, low: Tensor, high: Tensor, rate: int) -> Tensor:
    """Return sounds, float32 [batch, samples], without the frequencies between two places on the mel scale [batch] (SpecAugment: Park et
    al., Interspeech 2019)."""
    length = sounds.shape[1]
    points = quick_length(length)
    places = mel_places(torch.arange(points // 2 + 1, device=sounds.device) * (rate / points), rate)
    is_kept = (places < low[:, None]) | (places >= high[:, None])
    # One by one: transforms of several may round otherwise than that of one.
    each = [torch.fft.irfft(torch.fft.rfft(sound, points) * kept, points)[:length] for sound, kept in zip(sounds, is_kept, strict=True)]
    return torch.stack(each)


def quick_length(length: int) -> int:
    """Return the first number from `length` on without prime factors beyond 5: other Fourier transforms take up to ten times as long."""
    while True:
        rest = length
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return length
        length += 1


def _between_ends(sounds: Tensor) -> Tensor:
    """Return which samples lie between the first and the last that is not 0."""
    is_sound = sounds != 0
    return (is_sound.cumsum(1) > 0) & (is_sound.flip(1).cumsum(1) > 0).flip(1)
