"""EfficientNet-Lite0, a convolutional network of 4.7 million weights for phones and processors.

Tan and Le, "EfficientNet" (ICML 2019), in the lite variant that Google published with it in 2020: without squeeze-and-excitation, and
with ReLU6 instead of swish.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

# Features of a picture, before the head.
FEATURES = 1280

_CHANNELS = 32

# TensorFlow's batch normalization: its momentum is 1 less ours.
_EPSILON, _MOMENTUM = 1e-3, 0.01


class _Stage(NamedTuple):
    """Blocks of the same width; the first has the stride. `expansion` is how many times wider their inner layers are."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    width: int


_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)


class Convolution(nn.Conv2d):
    """A convolution padded as in TensorFlow ("SAME"): where the padding is odd, there is one more on the right and below."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return [n, channels, ceil(height / stride), ceil(width / stride)]."""
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        around = []
        for side in (inputs.shape[3], inputs.shape[2]):
            needed = max(0, (-(-side // stride) - 1) * stride + kernel - side)
            around += [needed // 2, needed - needed // 2]
        left, right, top, bottom = around
        if (left, top) == (right, bottom):
            return F.conv2d(inputs, self.weight, self.bias, self.stride, (top, left), groups=self.groups)
        return F.conv2d(F.pad(inputs, around), self.weight, self.bias, self.stride, groups=self.groups)


class Block(nn.Module):
    """An inverted residual: 1x1 convolution to a wider layer, one by channel, and 1x1 back (MobileNetV2, CVPR 2018)."""

    def __init__(self, channels: int, stage: _Stage, stride: int) -> None:
        super().__init__()
        wide = channels * stage.expansion
        layers = _layer(channels, wide, 1) if stage.expansion > 1 else []
        layers += _layer(wide, wide, stage.kernel, stride, groups=wide)
        self.layers = nn.Sequential(*layers, *_layer(wide, stage.width, 1)[:-1])
        self.is_residual = stride == 1 and channels == stage.width

    def forward(self, inputs: Tensor) -> Tensor:
        """Return [n, width, height / stride, width / stride]."""
        outputs: Tensor = self.layers(inputs)
        return outputs + inputs if self.is_residual else outputs


class Colour(nn.Module):
    """Grey pictures get three equal channels."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return [n, 3, height, width] for [n, 3 or 1, height, width]."""
        return inputs.expand(-1, 3, -1, -1)


class Mean(nn.Module):
    """The mean over all places."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return [n, channels] for [n, channels, height, width]."""
        return inputs.mean((2, 3))


class EfficientNetLite0(nn.Sequential):
    """The trunk: pictures of any size [n, 3 or 1, height, width] -> features [n, 1280]."""

    def __init__(self) -> None:
        blocks, channels = [], _CHANNELS
        for stage in _STAGES:
            for number in range(stage.blocks):
                blocks.append(Block(channels, stage, 1 if number else stage.stride))
                channels = stage.width
        stem, last = nn.Sequential(*_layer(3, _CHANNELS, 3, 2)), nn.Sequential(*_layer(channels, FEATURES, 1))
        super().__init__(OrderedDict(colour=Colour(), stem=stem, blocks=nn.Sequential(*blocks), last=last, mean=Mean()))


def _layer(channels: int, width: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    norm = nn.BatchNorm2d(width, eps=_EPSILON, momentum=_MOMENTUM)
    return [Convolution(channels, width, kernel, stride, groups=groups, bias=False), norm, nn.ReLU6()]
