"""Pictures change by (seed, epoch, place) alone; shifting is a padded crop, mirroring is exact."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import pad

from epochal.data.augment import Augment, build_augment
from epochal.data.spec import DataSpec
from epochal.errors import RecipeError
from epochal.recipe import AugmentSettings

SpecMaker = Callable[..., DataSpec]


def _pictures(count: int = 40, dtype: torch.dtype = torch.uint8, shape: tuple[int, ...] = (3, 5, 7)) -> Tensor:
    # No two pixels of a picture are alike, so that each shows where it came from.
    pixels = torch.arange(1, count * 105 + 1).reshape(count, *shape) % 251 + 1
    return pixels.to(dtype)


def _crops(picture: Tensor, reach: int) -> dict[tuple[int, int], Tensor]:
    height, width = picture.shape[-2:]
    wide = pad(picture, (reach,) * 4)
    return {
        (down, right): wide[:, down : down + height, right : right + width]
        for down in range(2 * reach + 1)
        for right in range(2 * reach + 1)
    }


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_shift_is_a_padded_crop(dtype: torch.dtype) -> None:
    pictures = _pictures(200, dtype)
    changed = Augment(AugmentSettings(shift=2), 0)(pictures, torch.arange(200), 1)
    assert (changed.dtype, changed.shape) == (dtype, pictures.shape)
    offsets = []
    for before, after in zip(pictures, changed, strict=True):
        found = [offset for offset, crop in _crops(before, 2).items() if torch.equal(crop, after)]
        assert len(found) == 1
        offsets += found
    # Every offset is reached, both edges too, about equally often (8 each).
    assert {down for down, _ in offsets} == {right for _, right in offsets} == {0, 1, 2, 3, 4}
    assert len(set(offsets)) == 25


def test_flip_mirrors_half_of_the_pictures_exactly() -> None:
    pictures = _pictures(400)
    changed = Augment(AugmentSettings(flip=True), 0)(pictures, torch.arange(400), 1)
    mirrored = (changed == pictures.flip(-1)).flatten(1).all(1)
    kept = (changed == pictures).flatten(1).all(1)
    assert bool((mirrored ^ kept).all())
    assert 160 < int(mirrored.sum()) < 240


def test_flip_and_shift_together_crop_the_mirrored_picture() -> None:
    pictures = _pictures(60)
    both = Augment(AugmentSettings(shift=1, flip=True), 5)(pictures, torch.arange(60), 3)
    shifted = Augment(AugmentSettings(shift=1), 5)(pictures, torch.arange(60), 3)
    mirrored = 0
    for after, plain in zip(both, shifted, strict=True):
        assert torch.equal(after, plain) or torch.equal(after, plain.flip(-1))
        mirrored += torch.equal(after, plain.flip(-1))
    assert 15 < mirrored < 45


@given(st.permutations(range(12)), st.integers(1, 12))
def test_batches_do_not_matter(order: list[int], size: int) -> None:
    pictures, augment = _pictures(12), Augment(AugmentSettings(shift=2, flip=True), 3)
    whole = augment(pictures, torch.arange(12), 4)
    for places in torch.tensor(order).split(size):
        assert torch.equal(augment(pictures[places], places, 4), whole[places])


def test_epochs_and_seeds_differ() -> None:
    pictures, places = _pictures(), torch.arange(40)
    settings = AugmentSettings(shift=2, flip=True)
    changed = [Augment(settings, seed)(pictures, places, epoch) for seed, epoch in ((0, 1), (0, 2), (1, 1), (0, 1))]
    assert torch.equal(changed[0], changed[3])
    assert not torch.equal(changed[0], changed[1])
    assert not torch.equal(changed[0], changed[2])


def test_pictures_are_copied() -> None:
    pictures = _pictures()
    before = pictures.clone()
    Augment(AugmentSettings(shift=1), 0)(pictures, torch.arange(40), 1).zero_()
    assert torch.equal(pictures, before)


def test_channels_move_together() -> None:
    pictures = _pictures(20, shape=(1, 5, 21)).expand(-1, 3, -1, -1)
    changed = Augment(AugmentSettings(shift=2, flip=True), 0)(pictures, torch.arange(20), 1)
    assert torch.equal(changed[:, 0], changed[:, 1])
    assert torch.equal(changed[:, 0], changed[:, 2])


def test_build(make_spec: SpecMaker) -> None:
    picture = make_spec(shape=(1, 8, 8), mean=(0.0,), std=(1.0,))
    assert build_augment(AugmentSettings(), picture, 0) is None
    assert build_augment(AugmentSettings(), make_spec(), 0) is None
    assert isinstance(build_augment(AugmentSettings(flip=True), picture, 0), Augment)
    with pytest.raises(RecipeError) as raised:
        build_augment(AugmentSettings(shift=1), make_spec(), 0)
    assert str(raised.value) == (
        "The settings augment.shift and augment.flip are for pictures; these data have shape (2,).\nLeave them out."
    )
