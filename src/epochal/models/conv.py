"""Convolutional networks for small pictures."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from epochal.data.spec import DataSpec
from epochal.models.mlp import check_widths

# Pictures are halved while they have more pixels per side, and averaged down to this many before the linear layers.
_SIDE = 8

# The deepest network of the paper.
_DEEPEST = 1202


def conv(spec: DataSpec, widths: Sequence[int] = (16, 32), hidden: int = 64, dropout: float = 0.0) -> nn.Module:
    """Return our default for small pictures: 5x5 convolutions of these widths, halving the picture, and a hidden layer.

    Striding instead of pooling, and few channels while the picture is large, make it several times faster on a CPU than
    networks that convolve at full size. Tiny pictures are not halved. Batch normalization as in `vgg`.
    """
    check_widths(widths)
    if hidden < 1:
        raise ValueError("hidden should be 1 or more")
    channels, *sides = spec.features
    layers: list[nn.Module] = []
    for width in widths:
        stride = 2 if max(sides) > _SIDE else 1
        layers.append(_convolution(channels, width, stride, kernel=5))
        channels, sides = width, [-(-side // stride) for side in sides]
    if max(sides) > _SIDE:
        sides = [min(side, _SIDE) for side in sides]
        layers.append(nn.AdaptiveAvgPool2d((sides[0], sides[1])))
    size = channels * sides[0] * sides[1]
    head = [nn.Flatten(), nn.Linear(size, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, len(spec.outputs))]
    return nn.Sequential(*layers, *head)


def vgg(spec: DataSpec, widths: Sequence[int] = (32, 64, 128), dropout: float = 0.0) -> nn.Module:
    """Return a stage per width, each of two 3x3 convolutions, halving the picture in between (after VGG, ICLR 2015).

    Convolutions have batch normalization (Ioffe and Szegedy, ICML 2015) in place of a bias. The last stage is averaged over
    the picture, so that any size works.
    """
    check_widths(widths)
    channels = spec.features[0]
    layers: list[nn.Module] = []
    for stage, width in enumerate(widths):
        if stage:
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
        layers += [_convolution(channels, width), _convolution(width, width)]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(channels, len(spec.outputs)))


def resnet(spec: DataSpec, depth: int = 20, width: int = 16) -> nn.Module:
    """Return the residual network for small pictures of He et al. (CVPR 2016, section 4.2), of depth 6 n + 2.

    Three stages of n blocks with `width`, 2 `width` and 4 `width` channels. Where a stage changes the shape, the shortcut is a
    1x1 convolution (their option B).
    """
    if not 8 <= depth <= _DEEPEST or (depth - 2) % 6:
        raise ValueError(f"depth = {depth} should be 8, 14, 20, 26, ... (6 n + 2), up to {_DEEPEST}")
    if width < 1:
        raise ValueError(f"width = {width} should be 1 or more")
    stem = _convolution(spec.features[0], width)
    blocks: list[nn.Module] = []
    channels = width
    for stage in range(3):
        for number in range((depth - 2) // 6):
            wide = width * 2**stage
            blocks.append(_Residual(channels, wide, stride=2 if stage and not number else 1))
            channels = wide
    return nn.Sequential(stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, len(spec.outputs)))


def airbench(spec: DataSpec, width: int = 32, mirror: bool = False) -> nn.Module:
    """Return the network of airbench (Jordan, 2024, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU"), narrower: `width` is 64 there.

    Fixed filters of 2x2 pixels, then three stages of two 3x3 convolutions with `width`, 4 `width` and 4 `width` channels, each
    halving the picture. Convolutions start as the identity on their input channels (as in DiracNets, Zagoruyko and
    Komodakis, 2017), and outputs are divided by 9. Unlike there, the filters are the same for all data, instead of whitening
    them. With `mirror`, predictions are the mean of the outputs for a picture and its mirror image, as there: twice the work, and
    only appropriate if both show the same class.
    """
    channels, *sides = spec.features
    if width < 1:
        raise ValueError(f"width = {width} should be 1 or more")
    if channels not in (1, 3) or min(sides) < 9:
        raise ValueError(f"pictures should be grey or RGB, with at least 9 pixels a side, not {spec.features}")
    filters = _Contrasts(channels)
    net = (_Mirroring if mirror else nn.Sequential)(
        filters,
        nn.GELU(),
        *_stage(len(filters.weight), width),
        *_stage(width, 4 * width),
        *_stage(4 * width, 4 * width),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(4 * width, len(spec.outputs), bias=False),
        _Scaled(1 / 9),
    )
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d) and layer.in_channels <= layer.out_channels:
            nn.init.dirac_(layer.weight.data[: layer.in_channels])
    return net


def _stage(channels: int, width: int) -> tuple[nn.Module, ...]:
    first = nn.Conv2d(channels, width, 3, padding=1, bias=False)
    second = nn.Conv2d(width, width, 3, padding=1, bias=False)
    return first, nn.MaxPool2d(2), _Normalized(width), nn.GELU(), second, _Normalized(width), nn.GELU()


class _Contrasts(nn.Module):
    """Fixed filters of 2x2 pixels: mean, edges and diagonal (Haar) of brightness and of two opponent colours, and their negatives.

    Each is scaled so that its standard deviation on natural pictures is near 1; otherwise a network first has to learn to see
    anything but brightness. Input: [n, 1 or 3, h, w], normalized; output: [n, 8 or 24, h - 1, w - 1].
    """

    weight: Tensor

    # One over the standard deviation in photographs of 32×32 pixels: of mean, two edges and diagonal in brightness, red - blue and green.
    # Weak signals (colour in fine detail) are amplified less.
    _GAINS = ((0.32, 2.0, 1.6, 4.5), (1.0, 16.0, 12.0, 36.0), (2.8, 24.0, 19.0, 36.0))

    def __init__(self, channels: int) -> None:
        super().__init__()
        haar = torch.tensor([[[1.0, 1], [1, 1]], [[1, -1], [1, -1]], [[1, 1], [-1, -1]], [[1, -1], [-1, 1]]]) / 2
        opponents = torch.tensor([[1.0, 1, 1], [1, 0, -1], [-1, 2, -1]])
        colours = nn.functional.normalize(opponents) if channels == 3 else torch.tensor([[3**0.5]])
        gains = torch.tensor(self._GAINS[:channels])
        filters = torch.einsum("kf,kc,fhw->kfchw", gains, colours, haar).flatten(0, 1)
        self.register_buffer("weight", torch.cat([filters, -filters]))
        self.bias = nn.Parameter(torch.zeros(len(self.weight)))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(x, self.weight, self.bias)


class _Normalized(nn.BatchNorm2d):
    """Batch normalization without a learned scale, whose bias learns 64 times as fast: a factor of 8 acts on it and on its gradient.

    Its running statistics adapt fast, since training is short.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width, momentum=0.4, affine=False)
        self.eighth = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize [n, width, h, w]."""
        momentum = self.momentum or 0.0
        return nn.functional.batch_norm(x, self.running_mean, self.running_var, None, 8 * self.eighth, self.training, momentum, self.eps)


class _Mirroring(nn.Sequential):
    """Layers that predict by the mean of the outputs for a picture and its mirror image; training is unchanged."""

    def forward(self, x: Tensor) -> Tensor:
        outputs = x if self.training else torch.cat([x, x.flip(-1)])
        for layer in self:
            outputs = layer(outputs)
        return outputs if self.training else outputs.unflatten(0, (2, -1)).mean(0)


class _Scaled(nn.Module):
    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


def _convolution(channels: int, width: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    layer = nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(width), nn.ReLU())


class _Residual(nn.Module):
    """ReLU(F(x) + x), where F is two convolutions."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.first = _convolution(channels, width, stride)
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
        self.shortcut = (
            nn.Identity()
            if channels == width and stride == 1
            else nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))
        )

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.relu(self.second(self.first(x)) + self.shortcut(x))
