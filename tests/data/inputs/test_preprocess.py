"""Scaling is a layer: the same numbers as torchvision's Normalize, fused into one multiplication and addition."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from epochal.data.load import load
from epochal.data.spec import DataSpec
from epochal.errors import RecipeError
from epochal.tasks.regression import Rescale

SpecMaker = Callable[..., DataSpec]


def test_pictures_are_normalized_per_channel(make_spec: SpecMaker) -> None:
    spec = make_spec(shape=(3, 2, 2), dtype="uint8", mean=(0.1, 0.5, 0.9), std=(0.2, 0.3, 0.4))
    pixels = torch.randint(0, 256, (4, 3, 2, 2), dtype=torch.uint8)
    wanted = (pixels.float() / 255 - torch.tensor((0.1, 0.5, 0.9)).reshape(3, 1, 1)) / torch.tensor((0.2, 0.3, 0.4)).reshape(3, 1, 1)
    got = spec.input.preprocess()(pixels)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_numbers_are_normalized_per_feature(make_spec: SpecMaker, dtype: torch.dtype) -> None:
    spec = make_spec(dtype=str(dtype).removeprefix("torch."), mean=(100.0, -3.0), std=(10.0, 0.5))
    got = spec.input.preprocess()(torch.tensor([[110, -3], [90, -2]], dtype=dtype))
    torch.testing.assert_close(got, torch.tensor([[1.0, 0.0], [-1.0, 2.0]]))


def test_own_numbers_win_and_one_serves_all(make_spec: SpecMaker) -> None:
    spec = make_spec(shape=(3, 2, 2), dtype="uint8", mean=(0.1,) * 3, std=(0.1,) * 3)
    white = torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
    torch.testing.assert_close(spec.input.preprocess((0.5,), (0.25,))(white), torch.full((1, 3, 2, 2), 2.0))
    # One may be given, the other measured.
    torch.testing.assert_close(spec.input.preprocess((0.5,))(white), torch.full((1, 3, 2, 2), 5.0))


def test_tables_without_channels_share_one_scale(make_spec: SpecMaker) -> None:
    layer = make_spec(shape=(4, 5), mean=(1.0,), std=(2.0,)).input.preprocess()
    torch.testing.assert_close(layer(torch.full((2, 4, 5), 5.0)), torch.full((2, 4, 5), 2.0))


@pytest.mark.parametrize(
    ("shape", "mean", "std", "reported"),
    [
        (
            (3, 2, 2),
            (0.5, 0.5),
            (1.0,),
            "The setting data.mean has 2 numbers, but the data have 3 channels.\nGive one number, or one for each.",
        ),
        ((3,), (0.5,), (1.0, 1.0), "The setting data.std has 2 numbers, but the data have 3 features.\nGive one number, or one for each."),
        ((3,), (0.5,), (0.0,), "The setting data.std must be above 0.\nLeave it out to have it measured."),
        ((3,), (0.5,), (1.0, -1.0, 1.0), "The setting data.std must be above 0.\nLeave it out to have it measured."),
    ],
)
def test_refused(make_spec: SpecMaker, shape: tuple[int, ...], mean: tuple[float, ...], std: tuple[float, ...], reported: str) -> None:
    with pytest.raises(RecipeError) as raised:
        make_spec(shape=shape, mean=(0.0,) * 3, std=(1.0,) * 3).input.preprocess(mean, std)
    assert str(raised.value) == reported


def test_its_numbers_are_kept_with_the_weights_but_not_trained(make_spec: SpecMaker) -> None:
    layer = make_spec(mean=(1.0, 2.0)).input.preprocess()
    assert list(layer.state_dict()) == ["scale", "bias"]
    assert list(layer.parameters()) == []


def test_rescale_undoes_the_scaling_of_targets(make_spec: SpecMaker) -> None:
    spec = make_spec(task="regression", outputs=("a", "b"), target_mean=(10.0, -1.0), target_std=(2.0, 0.5))
    layer = spec.task.output_layer()
    assert isinstance(layer, Rescale)
    got = layer(torch.tensor([[0.0, 0.0], [1.0, -2.0]]))
    torch.testing.assert_close(got, torch.tensor([[10.0, -1.0], [12.0, -2.0]]))


def test_whole_numbers_far_from_zero_keep_their_differences(make_spec: SpecMaker) -> None:
    times = 1_700_000_000 + torch.arange(100)[:, None]
    spec = load((times, torch.arange(100) % 2)).spec
    scaled = spec.input.preprocess()(times)
    assert scaled.dtype == torch.float32
    assert len(scaled.unique()) == 100
    torch.testing.assert_close(scaled.mean(), torch.tensor(0.0), atol=1e-6, rtol=0)
    torch.testing.assert_close(scaled.std(correction=0), torch.tensor(1.0))
    assert list(spec.input.preprocess().state_dict()) == ["offset", "scale", "bias"]
    # The shapes of what is kept depend on the spec alone, and numbers that no int64 holds do no harm.
    own = spec.input.preprocess((1e30,), (1e30,))
    assert own.state_dict()["offset"].shape == (1,)
    torch.testing.assert_close(own(times), torch.full((100, 1), -1.0))
