"""Words left out of training texts at random: a function of (seed, epoch, position), so that a text's batch does not matter."""

from __future__ import annotations

import torch
from torch import Tensor

from epochal.random import key, uniform


class WordDropout:
    """Leave each word, or each n-gram, out with this probability; a text of which nothing would be left stays as it is."""

    def __init__(self, probability: float, seed: int) -> None:
        self.probability = probability
        self.seed = seed

    def __call__(self, texts: Tensor, positions: Tensor, epoch: int) -> Tensor:
        """Return texts, int32 [batch, length] or [batch, 2, length], with what is left moved together; 0 follows."""
        ids, length = texts.reshape(len(texts), -1, texts.shape[-1])[:, 0], texts.shape[-1]
        places = positions[:, None] * length + torch.arange(length, device=texts.device)
        is_kept = (uniform(key(self.seed, epoch, "words"), places) >= self.probability) & (ids > 0)
        is_kept |= ~is_kept.any(1, keepdim=True)
        order = (~is_kept).to(torch.uint8).argsort(dim=1, stable=True)
        if texts.ndim == 3:
            order, is_kept = order[:, None].expand_as(texts), is_kept[:, None]
        return (texts * is_kept).gather(-1, order)
