"""EfficientNet-Lite0 as it was published."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from epochal.errors import ModelError
from epochal.models.pretrained.efficientnet import Convolution, EfficientNetLite0
from epochal.models.pretrained.pictures import LITE0


@pytest.mark.parametrize("size", [7, 8, 9, 16])
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_padding_is_that_of_tensorflow(size: int, kernel: int, stride: int) -> None:
    # TensorFlow: ceil(size / stride) outputs; what has to be added is shared, the odd one after.
    convolution = Convolution(2, 3, kernel, stride, bias=False)
    inputs = torch.randn(1, 2, size, size)
    count = -(-size // stride)
    needed = max(0, (count - 1) * stride + kernel - size)
    before, after = needed // 2, needed - needed // 2
    expected = F.conv2d(F.pad(inputs, (before, after, before, after)), convolution.weight, stride=stride)
    found = convolution(inputs)
    assert found.shape == (1, 3, count, count)
    torch.testing.assert_close(found, expected)


def test_it_has_the_published_size() -> None:
    # Table of the release: 4.7 million parameters, of which 1,281,000 are in the head for ImageNet's classes.
    assert sum(parameter.numel() for parameter in EfficientNetLite0().parameters()) == 4_652_008 - 1_281_000


def test_grey_pictures_have_three_equal_channels() -> None:
    trunk, grey = EfficientNetLite0().eval(), torch.randn(2, 1, 33, 40)
    with torch.no_grad():
        assert torch.equal(trunk(grey), trunk(grey.expand(-1, 3, -1, -1)))


def test_the_published_weights_fit() -> None:
    try:
        LITE0.path()
    except ModelError as error:
        pytest.skip(str(error))
    trunk = EfficientNetLite0().eval()
    LITE0.load_into(trunk)
    # As computed by the package efficientnet_lite_pytorch 0.1.0, which the weights were made for.
    inputs = 1.5 * torch.sin(0.37 * torch.arange(3 * 64 * 64)).reshape(1, 3, 64, 64)
    with torch.no_grad():
        before = nn.Sequential(*list(trunk)[:3])(inputs)
        features = trunk.get_submodule("ending.last")(trunk.get_submodule("ending.block")(before)).mean((2, 3))[0]
        found = trunk(inputs)[0]
    assert features.shape == (1280,)
    torch.testing.assert_close(
        features[[5, 257, 453, 688, 892, 1104]],
        torch.tensor([1.934709, 2.190627, 1.587429, 3.404354, 0.874153, 4.803511]),
        rtol=1e-4,
        atol=1e-5,
    )
    torch.testing.assert_close(features.double().sum().item(), 1038.6383180753328, rtol=1e-5, atol=0.0)
    # What the head is given: both parts of length 1.
    torch.testing.assert_close(found, torch.cat([F.normalize(part, dim=0) for part in (features, before.mean((2, 3))[0])]))
