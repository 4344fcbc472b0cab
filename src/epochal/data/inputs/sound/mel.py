"""From samples to a picture that networks for pictures take: loudness over time, in bands of frequency as an ear hears them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

# Seconds between two columns, and seconds that a column covers; of long sounds there are at most so many columns.
_STEP, _SPAN, _MOST_COLUMNS = 0.01, 0.025, 300

# Sounds that are never louder than this (of 32,768) stay as soft as they are, so that silence does not become noise.
_SILENT = 64

# Added to the energy of each band, so that silence has a logarithm.
FLOOR = 1e-3


class Grid(NamedTuple):
    """The columns of a spectrogram in samples: from one to the next, covered by each, and the length of their Fourier transform."""

    step: int
    span: int
    points: int
    columns: int


def grid(length: int, rate: int) -> Grid:
    """Return the columns of a sound of `length` samples, `rate` in a second."""
    step = max(1, round(_STEP * rate), -(-length // _MOST_COLUMNS))
    span = max(2, round(_SPAN / _STEP * step))
    return Grid(step, span, 1 << (span - 1).bit_length(), 1 + length // step)


class LogMel(nn.Module):
    """The logarithm of energy in bands of equal width on the mel scale, minus a mean and divided by a deviation for each band.

    The loudest sample of each sound counts as 1: what is said matters, not how far away the microphone was.

    Input: int16 samples [batch, length], or [batch, windows, length]; output: float32 [batch, 1 or windows, bands, columns], low
    frequencies first.
    """

    window: Tensor
    filters: Tensor
    scale: Tensor
    bias: Tensor

    def __init__(self, length: int, rate: int, mean: Sequence[float], std: Sequence[float]) -> None:
        """There are as many bands as numbers in `mean` and `std`."""
        super().__init__()
        self.grid = grid(length, rate)
        self.register_buffer("window", torch.hann_window(self.grid.span))
        self.register_buffer("filters", mel_filters(len(mean), self.grid.points, rate))
        deviation = torch.tensor(std, dtype=torch.float64)[:, None]
        self.register_buffer("scale", (1 / deviation).float())
        self.register_buffer("bias", (-torch.tensor(mean, dtype=torch.float64)[:, None] / deviation).float())

    def forward(self, samples: Tensor) -> Tensor:
        """Return the spectrograms of sounds."""
        waves = samples.to(self.window.dtype)
        waves = waves / waves.abs().amax(tuple(range(1, waves.ndim)), keepdim=True).clamp(min=_SILENT)
        bands = (self.filters @ self.energy(waves.flatten(0, -2)) + FLOOR).log() * self.scale + self.bias
        return bands.view(samples.shape[0], -1, *bands.shape[1:])

    def energy(self, waves: Tensor) -> Tensor:
        """Return the energy of each frequency in waves [n, length]: [n, points // 2 + 1, columns]."""
        step, span, points, _ = self.grid
        found = torch.stft(waves, points, step, span, self.window, center=True, pad_mode="constant", return_complex=True)
        return found.real.square() + found.imag.square()

    def exportable(self) -> LogMel:
        """Return the same layer with convolutions instead of Fourier transforms, which exported files cannot have for any batch size."""
        return _Convolved(self)


class _Convolved(LogMel):
    """The same spectrograms by convolutions: with a cosine and a sine for each frequency."""

    waves: Tensor

    def __init__(self, layer: LogMel) -> None:
        nn.Module.__init__(self)
        self.grid = layer.grid
        for name, buffer in layer.named_buffers():
            self.register_buffer(name, buffer)
        _, span, points, _ = self.grid
        before = (points - span) // 2
        window = functional.pad(layer.window.double(), (before, points - span - before))
        # Whole turns are taken off before the product with pi, which would round their fractions away.
        turns = torch.outer(torch.arange(points // 2 + 1), torch.arange(points)) % points * (2 * math.pi / points)
        self.register_buffer("waves", (torch.cat((turns.cos(), turns.sin())) * window).float()[:, None])

    def energy(self, waves: Tensor) -> Tensor:
        """Return the same as `LogMel.energy`."""
        padded = functional.pad(waves[:, None], (self.grid.points // 2,) * 2)
        cosines, sines = functional.conv1d(padded, self.waves, stride=self.grid.step).chunk(2, 1)
        return cosines.square() + sines.square()


def levels(energy: float, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return what a spectrogram has in each band for this energy: float32 [bands, 1]."""
    return torch.tensor([[(math.log(energy) - middle) / deviation] for middle, deviation in zip(mean, std, strict=True)])


def mel_places(frequencies: Tensor, rate: int) -> Tensor:
    """Return where frequencies lie on the mel scale: 0 for 0, 1 for half the rate."""
    return (1 + frequencies / 700).log() / math.log(1 + rate / 2 / 700)


def mel_filters(bands: int, points: int, rate: int) -> Tensor:
    """Return triangles over the frequencies of a Fourier transform, float32 [bands, points // 2 + 1].

    Their corners are equally far apart on the mel scale, 2595 log10(1 + f / 700) (O'Shaughnessy, 1987), from 0 to half the rate. A
    triangle narrower than the distance of two frequencies takes its share of the nearest ones.
    """
    top = 2595 * torch.log10(torch.tensor(1 + rate / 2 / 700, dtype=torch.float64))
    corners = 700 * (10 ** (torch.linspace(0, 1, bands + 2, dtype=torch.float64) * top / 2595) - 1) * points / rate
    places = torch.arange(points // 2 + 1, dtype=torch.float64)
    low, middle, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    low, high = torch.minimum(low, middle - 1), torch.maximum(high, middle + 1)
    rising, falling = (places - low) / (middle - low), (high - places) / (high - middle)
    return torch.minimum(rising, falling).clamp(min=0).float()
