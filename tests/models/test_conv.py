"""Convolutional networks take pictures of any size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from epochal.data.spec import DataSpec
from epochal.models.conv import airbench, conv, resnet, vgg

SpecMaker = Callable[..., DataSpec]


def _spec(make_spec: SpecMaker, channels: int, height: int, width: int) -> DataSpec:
    return make_spec(shape=(channels, height, width), mean=(0.0,) * channels, std=(1.0,) * channels)


OPTIONS: dict[Callable[..., nn.Module], dict[str, Any]] = {
    conv: {"widths": (4, 8)},
    vgg: {"widths": (4, 8)},
    resnet: {"depth": 8, "width": 4},
}


@pytest.mark.parametrize("build", OPTIONS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 8, 8), (3, 7, 12), (4, 32, 32)])
def test_any_size_and_number_of_channels(make_spec: SpecMaker, build: Callable[..., nn.Module], shape: tuple[int, int, int]) -> None:
    net = build(_spec(make_spec, *shape), **OPTIONS[build])
    assert net.eval()(torch.rand(2, *shape)).shape == (2, 3)


@pytest.mark.parametrize(("side", "kept", "inputs"), [(4, 4, 96), (8, 8, 384), (12, 6, 216), (28, 7, 294), (32, 8, 384), (100, 8, 384)])
def test_conv_halves_pictures_that_are_not_tiny(make_spec: SpecMaker, side: int, kept: int, inputs: int) -> None:
    net = conv(_spec(make_spec, 1, side, side), widths=[4, 6], hidden=5, dropout=0.3)
    layers = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert [tuple(layer.weight.shape) for layer in layers] == [(4, 1, 5, 5), (6, 4, 5, 5), (5, inputs), (3, 5)]
    assert inputs == 6 * kept * kept
    assert any(isinstance(layer, nn.AdaptiveAvgPool2d) for layer in net.modules()) == (side > 32)
    assert [layer.p for layer in net.modules() if isinstance(layer, nn.Dropout)] == [0.3]


def test_vgg_has_two_convolutions_a_stage(make_spec: SpecMaker) -> None:
    net = vgg(_spec(make_spec, 3, 8, 8), widths=[4, 6], dropout=0.3)
    sizes = [(layer.in_channels, layer.out_channels, layer.bias is None) for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    assert sizes == [(3, 4, True), (4, 4, True), (4, 6, True), (6, 6, True)]
    assert sum(isinstance(layer, nn.MaxPool2d) for layer in net.modules()) == 1
    assert [layer.p for layer in net.modules() if isinstance(layer, nn.Dropout)] == [0.3]


@pytest.mark.parametrize(("depth", "parameters"), [(20, 0.27), (56, 0.85)])
def test_resnet_has_the_size_of_the_paper(make_spec: SpecMaker, depth: int, parameters: float) -> None:
    # Table 6 of He et al. (2016) counts 0.27 M and 0.85 M; their shortcuts have no weights, ours a few thousand.
    net = resnet(_spec(make_spec, 3, 32, 32).model_copy(update={"outputs": tuple("abcdefghij")}), depth)
    shortcuts = sum(weight.numel() for name, weight in net.named_parameters() if "shortcut" in name)
    assert round((sum(weight.numel() for weight in net.parameters()) - shortcuts) / 1e6, 2) in (parameters, parameters + 0.01)
    weighted = [name for name, layer in net.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear) and "shortcut" not in name]
    assert len(weighted) == depth


def test_resnet_halves_the_picture_twice(make_spec: SpecMaker) -> None:
    net = resnet(_spec(make_spec, 3, 32, 32), 8, 4)
    seen: list[torch.Size] = []
    pooling = next(layer for layer in net.modules() if isinstance(layer, nn.AdaptiveAvgPool2d))
    pooling.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape))
    net.eval()(torch.rand(1, 3, 32, 32))
    assert seen == [torch.Size([1, 16, 8, 8])]


@pytest.mark.parametrize("depth", [-4, 2, 9, 19])
def test_resnet_of_another_depth(make_spec: SpecMaker, depth: int) -> None:
    with pytest.raises(ValueError, match=rf"depth = {depth} should be 8, 14, 20, 26, \.\.\. \(6 n \+ 2\)"):
        resnet(_spec(make_spec, 3, 8, 8), depth)


def test_airbench_is_the_network_of_the_paper(make_spec: SpecMaker) -> None:
    net = airbench(_spec(make_spec, 3, 32, 32), width=64)
    layers = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    assert [(layer.in_channels, layer.out_channels) for layer in layers] == [
        (24, 64),
        (64, 64),
        (64, 256),
        (256, 256),
        (256, 256),
        (256, 256),
    ]
    # Biases of filters and normalizations are trained too.
    assert sum(weight.numel() for weight in net.parameters()) == 24 + 9 * (24 * 64 + 64 * 64 + 64 * 256 + 3 * 256 * 256) + 1152 + 3 * 256
    x = torch.rand(2, 24, 6, 6)
    torch.testing.assert_close(layers[0](x)[:, :24], x)
    inner = nn.Sequential(*list(net.children())[:-1]).eval()
    torch.testing.assert_close(net.eval()(x := torch.rand(2, 3, 32, 32)), inner(x) / 9)


@pytest.mark.parametrize("channels", [1, 3])
def test_airbench_sees_colour_and_edges_about_as_strongly_as_brightness(make_spec: SpecMaker, channels: int) -> None:
    filters = airbench(_spec(make_spec, channels, 16, 16), width=1).get_submodule("0")
    assert isinstance(filters.weight, torch.Tensor)
    assert filters.weight.shape == (8 * channels, channels, 2, 2)
    grey = torch.full((1, channels, 4, 4), 2.0)
    edge = grey * torch.tensor([1.0, -1, 1, -1])
    seen = [filters(picture)[0, :, 0, 0].round(decimals=4) for picture in (grey, edge)]
    assert seen[0].nonzero().flatten().tolist() == [0, 4 * channels]
    assert seen[1].nonzero().flatten().tolist() == [1, 4 * channels + 1]
    torch.testing.assert_close(seen[0][0], torch.tensor(0.32 * 2 * 2 * 3**0.5), atol=1e-4, rtol=0)
    torch.testing.assert_close(seen[1], -seen[1].roll(4 * channels))
    assert [name for name, _ in filters.named_parameters()] == ["bias"]


def test_airbench_normalizes_with_a_bias_that_learns_fast(make_spec: SpecMaker) -> None:
    layer = next(layer for layer in airbench(_spec(make_spec, 3, 16, 16), width=4).modules() if isinstance(layer, nn.BatchNorm2d))
    plain = nn.BatchNorm2d(4, momentum=0.4)
    x, bias = torch.randn(8, 4, 3, 3), torch.tensor([0.5, -1.0, 2.0, 0.0])
    with torch.no_grad():
        plain.bias.copy_(bias)
        next(layer.parameters()).copy_(bias / 8)
    for mode in (True, False):
        torch.testing.assert_close(layer.train(mode)(x), plain.train(mode)(x))
    layer(x)[:, 0].sum().backward()
    assert next(layer.parameters()).grad[0] == 8 * x[:, 0].numel()  # type: ignore[index]


def test_mirroring_is_for_predictions_alone(make_spec: SpecMaker) -> None:
    spec = _spec(make_spec, 3, 16, 16)
    net, plain = airbench(spec, width=4, mirror=True), airbench(spec, width=4)
    plain.load_state_dict(net.state_dict())
    x = torch.rand(3, 3, 16, 16)
    torch.testing.assert_close(net(x), plain(x), rtol=0, atol=0)
    net.eval(), plain.eval()
    torch.testing.assert_close(net(x), (plain(x) + plain(x.flip(-1))) / 2)
    torch.testing.assert_close(net(x), net(x.flip(-1)))


@pytest.mark.parametrize(
    ("shape", "width", "reported"), [((3, 8, 32), 4, "9 pixels"), ((4, 32, 32), 4, "grey or RGB"), ((3, 9, 9), 0, "width = 0")]
)
def test_airbench_for_what_it_is_not(make_spec: SpecMaker, shape: tuple[int, ...], width: int, reported: str) -> None:
    with pytest.raises(ValueError, match=reported):
        airbench(_spec(make_spec, *shape), width=width)
