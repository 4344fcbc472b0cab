"""Mixtures of two training examples: mixup and CutMix.

Each example is mixed with the one that follows it in the epoch's order, the last with the first. The order is a function of the
seed and the epoch, so the mixtures do not depend on batches; every example is in exactly two mixtures; and a batch has to read
only one additional example.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor
from torch.nn import functional

from epochal.data.draws import Draws
from epochal.data.inputs.changes import MIXING
from epochal.data.inputs.picture.colour import rounded
from epochal.data.inputs.picture.geometry import rectangle
from epochal.data.spec import DataSpec
from epochal.errors import RecipeError
from epochal.recipe import AugmentSettings

# Shares come from a table with this many quantiles of the beta distribution.
_QUANTILES = 4096
_STEPS = 2**16


def build_mixing(settings: AugmentSettings, spec: DataSpec, seed: int) -> Mixing | None:
    """Return the function that mixes examples, or `None` if `settings` ask for none.

    Raises `RecipeError` if such inputs or targets cannot be mixed.
    """
    if not MIXING.asked(settings):
        return None
    spec.input.check_changes(MIXING)
    if settings.cutmix and not spec.task.allows_cutmix:
        raise RecipeError(f"The setting augment.cutmix does not work for {spec.task.name}.", "Use augment.mixup, or leave it out.")
    return Mixing(settings, spec, seed)


class Mixing:
    """Mix pictures and their targets. If both kinds are on, one is chosen at random for each example."""

    def __init__(self, settings: AugmentSettings, spec: DataSpec, seed: int) -> None:
        self.settings = settings
        self.task = spec.task
        self.seed = seed

    def __call__(self, pictures: Tensor, targets: Tensor, places: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """Return mixtures of each example with the next: one fewer than there are examples.

        Pictures keep their dtype. Targets become float32: probabilities [batch, classes] for one label, mixtures of 0 and 1
        for several, mixtures of quantities.
        """
        draws = Draws(self.seed, epoch, places[:-1])
        kept, share = self._shares(draws, *pictures.shape[-2:])
        mixed = rounded(pictures[:-1] * kept + pictures[1:] * (1 - kept), pictures.dtype)
        targets = self.task.soft_targets(targets)
        return mixed, targets[:-1] * share[:, None] + targets[1:] * (1 - share[:, None])

    def _shares(self, draws: Draws, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Return the example's own share of each pixel [batch, 1, 1 or height, 1 or width], and of its target [batch]."""
        if not self.settings.cutmix:
            return _mixup(draws, self.settings.mixup)
        if not self.settings.mixup:
            return _cutmix(draws, self.settings.cutmix, height, width)
        blends = draws.whole("mixup or cutmix", 2) == 0
        blended, cut = _mixup(draws, self.settings.mixup), _cutmix(draws, self.settings.cutmix, height, width)
        return torch.where(blends[:, None, None, None], blended[0], cut[0]), torch.where(blends, blended[1], cut[1])


def _mixup(draws: Draws, alpha: float) -> tuple[Tensor, Tensor]:
    """The same share of every pixel (Zhang et al., "mixup: beyond empirical risk minimization", ICLR 2018)."""
    share = beta_quantiles(alpha, draws.places.device)[draws.whole("mixup", _QUANTILES)]
    return share[:, None, None, None], share


def _cutmix(draws: Draws, alpha: float, height: int, width: int) -> tuple[Tensor, Tensor]:
    """All pixels except a rectangle, which the other picture fills (Yun et al., "CutMix", ICCV 2019).

    It has the picture's proportions and a random center, and is clipped to the picture; the share is that of the pixels.
    """
    side = (1 - beta_quantiles(alpha, draws.places.device)[draws.whole("cutmix", _QUANTILES)]).sqrt()
    tall, wide = (side * height).floor(), (side * width).floor()
    top = draws.whole("cutmix row", height) - (tall / 2).floor()
    left = draws.whole("cutmix column", width) - (wide / 2).floor()
    bottom, right = (top + tall).clamp(max=height), (left + wide).clamp(max=width)
    top, left = top.clamp(min=0), left.clamp(min=0)
    inside = rectangle(top, bottom, left, right, height, width)
    return (~inside).float(), 1 - (bottom - top) * (right - left) / (height * width)


@functools.lru_cache(maxsize=8)
def beta_quantiles(alpha: float, device: torch.device) -> Tensor:
    """Return the quantiles (k + 0.5) / 4096 of Beta(`alpha`, `alpha`), float32.

    A random one of them nearly has that distribution, and takes a single random number; exact samplers reject and draw again. The
    density of t = log(x / (1 - x)) is smooth and falls like exp(-alpha |t|) for any alpha, so a plain sum gives its integral.
    """
    reach = 30 / alpha + 3
    t = torch.linspace(-reach, reach, _STEPS, dtype=torch.float64)
    density = (alpha * (functional.logsigmoid(t) + functional.logsigmoid(-t) + 2 * math.log(2))).exp()
    sums = density.cumsum(0) - density / 2
    wanted = (torch.arange(_QUANTILES, dtype=torch.float64) + 0.5) / _QUANTILES * sums[-1]
    after = torch.searchsorted(sums, wanted)
    part = (wanted - sums[after - 1]) / (sums[after] - sums[after - 1])
    return (t[after - 1] + part * (t[after] - t[after - 1])).sigmoid().float().to(device)
