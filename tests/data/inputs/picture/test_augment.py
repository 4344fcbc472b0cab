"""Pictures change by (seed, epoch, place) alone; shifting is a padded crop, mirroring is exact; what cannot be done is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import pad

from epochal.data.inputs.picture.augment import Augment
from epochal.data.mixing import Mixing, build_mixing
from epochal.data.spec import DataSpec
from epochal.errors import RecipeError
from epochal.recipe import AugmentSettings, Recipe

SpecMaker = Callable[..., DataSpec]


def _pictures(count: int = 40, dtype: torch.dtype = torch.uint8, shape: tuple[int, ...] = (3, 5, 7)) -> Tensor:
    # No two pixels of a picture are alike, so that each shows where it came from.
    pixels = torch.arange(1, count * 105 + 1).reshape(count, *shape) % 251 + 1
    return pixels.to(dtype)


def build_augment(settings: AugmentSettings, spec: DataSpec, seed: int) -> Any:
    return spec.input.augment(settings, seed)


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


def test_a_picture_is_mirrored_in_every_other_epoch() -> None:
    pictures = torch.randint(0, 256, (100, 3, 5, 6), dtype=torch.uint8)
    augment = Augment(AugmentSettings(flip=True), 0)
    first, second, third = (augment(pictures, torch.arange(100), epoch) for epoch in (1, 2, 3))
    assert torch.equal(second, first.flip(-1))
    assert torch.equal(third, first)


def test_flip_and_shift_together_crop_the_mirrored_picture() -> None:
    pictures = _pictures(60)
    both = Augment(AugmentSettings(shift=1, flip=True), 5)(pictures, torch.arange(60), 3)
    shifted = Augment(AugmentSettings(shift=1), 5)(pictures, torch.arange(60), 3)
    mirrored = 0
    for after, plain in zip(both, shifted, strict=True):
        assert torch.equal(after, plain) or torch.equal(after, plain.flip(-1))
        mirrored += torch.equal(after, plain.flip(-1))
    assert 15 < mirrored < 45


EACH: list[dict[str, Any]] = [
    {"shift": 2, "flip": True},
    {"rotate": 20},
    {"scale": 0.2},
    {"shear": 10},
    {"brightness": 0.4},
    {"contrast": 0.4},
    {"saturation": 0.4},
    {"hue": 0.2},
    {"policy": "rand", "policy_magnitude": 8},
    {"erase": 0.9},
]
ALL: dict[str, Any] = {name: value for settings in EACH for name, value in settings.items()}
GREY: dict[str, Any] = {name: value for name, value in ALL.items() if name not in ("saturation", "hue")}


def _kind(channels: int, dtype: torch.dtype) -> Tensor:
    """Twelve pictures of noise."""
    pixels = torch.randint(0, 256, (12, channels, 5, 7), generator=torch.Generator().manual_seed(0))
    return pixels.to(dtype) if dtype == torch.uint8 else pixels.to(dtype) / 255


@given(st.permutations(range(12)), st.integers(1, 12), st.sampled_from([torch.uint8, torch.float32]), st.sampled_from([1, 3]))
def test_batches_do_not_matter(order: list[int], size: int, dtype: torch.dtype, channels: int) -> None:
    pictures = _kind(channels, dtype)
    augment = Augment(AugmentSettings(**(ALL if channels == 3 else GREY)), 3)
    whole = augment(pictures, torch.arange(12), 4)
    for places in torch.tensor(order).split(size):
        assert torch.equal(augment(pictures[places], places, 4), whole[places])


@pytest.mark.parametrize("settings", [*EACH, ALL], ids=lambda settings: "-".join(settings) if len(settings) < 3 else "all")
def test_neither_threads_nor_odd_sizes_matter(settings: dict[str, Any]) -> None:
    # Large enough that PyTorch's threads share the work on a single picture.
    pictures = torch.randint(0, 256, (5, 3, 201, 203), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    augment, places = Augment(AugmentSettings(**settings), 3), torch.arange(5)
    whole = augment(pictures, places, 1)
    torch.set_num_threads(2)
    try:
        alone = [augment(pictures[place : place + 1], places[place : place + 1], 1) for place in range(5)]
    finally:
        torch.set_num_threads(1)
    assert torch.equal(torch.cat(alone), whole)


@pytest.mark.parametrize("settings", [*EACH, ALL], ids=lambda settings: "-".join(settings) if len(settings) < 3 else "all")
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_epochs_and_seeds_differ(settings: dict[str, Any], dtype: torch.dtype) -> None:
    pictures, places = _kind(3, dtype), torch.arange(12)
    before = pictures.clone()
    wanted = AugmentSettings(**settings)
    changed = [Augment(wanted, seed)(pictures, places, epoch) for seed, epoch in ((0, 1), (0, 2), (1, 1), (0, 1))]
    assert (changed[0].dtype, changed[0].shape) == (dtype, pictures.shape)
    assert torch.equal(changed[0], changed[3])
    assert not torch.equal(changed[0], changed[1])
    assert not torch.equal(changed[0], changed[2])
    assert not torch.equal(changed[0], pictures)
    assert torch.equal(pictures, before)


def test_bytes_are_fractions_rounded_once() -> None:
    pictures, places = _kind(3, torch.uint8), torch.arange(12)
    # Rounding to bytes hides nothing larger than half a step.
    augment = Augment(AugmentSettings(rotate=20, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.2), 0)
    fractions = augment(pictures.float() / 255, places, 1)
    torch.testing.assert_close(augment(pictures, places, 1) / 255, fractions, rtol=0, atol=0.501 / 255)


def test_settings_that_are_off_change_nothing_else() -> None:
    pictures, places = _kind(3, torch.uint8), torch.arange(12)
    shifted = Augment(AugmentSettings(shift=2), 0)(pictures, places, 1)
    bright = Augment(AugmentSettings(brightness=0.3), 0)(shifted, places, 1)
    assert torch.equal(Augment(AugmentSettings(shift=2, brightness=0.3), 0)(pictures, places, 1), bright)


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


PICTURES: dict[str, Any] = {"shape": (3, 8, 8), "dtype": "uint8", "mean": (0.5,) * 3, "std": (0.2,) * 3}
GREYS: dict[str, Any] = {"shape": (1, 8, 8), "dtype": "uint8", "mean": (0.5,), "std": (0.2,)}


def test_build(make_spec: SpecMaker) -> None:
    picture = make_spec(**GREYS)
    assert build_augment(AugmentSettings(), picture, 0) is None
    assert build_augment(AugmentSettings(), make_spec(), 0) is None
    assert build_augment(AugmentSettings(mixup=0.2), picture, 0) is None
    assert isinstance(build_augment(AugmentSettings(flip=True), picture, 0), Augment)
    assert isinstance(build_augment(AugmentSettings(**GREY), picture, 0), Augment)
    assert isinstance(build_augment(AugmentSettings(**ALL), make_spec(**PICTURES), 0), Augment)
    assert build_mixing(AugmentSettings(**ALL), picture, 0) is None
    assert build_mixing(AugmentSettings(), make_spec(), 0) is None
    assert isinstance(build_mixing(AugmentSettings(mixup=0.2), picture, 0), Mixing)
    assert isinstance(build_mixing(AugmentSettings(mixup=0.2), make_spec(**GREYS, task="regression"), 0), Mixing)
    assert isinstance(build_mixing(AugmentSettings(cutmix=1), make_spec(**GREYS, task="multi-label"), 0), Mixing)


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ((0.5, 0.0, 1.0), (0.5, 0.0005, 0.0005)),
        # A channel that never changes is described by a deviation of 1.
        ((0.0, 0.3, 1.0), (1.0, 1.0, 1.0)),
    ],
)
def test_fractions_from_black_to_white_are_pixels(make_spec: SpecMaker, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    spec = make_spec(**{**PICTURES, "dtype": "float32", "mean": mean, "std": std})
    assert isinstance(build_augment(AugmentSettings(**ALL), spec, 0), Augment)


FLOATS = {**PICTURES, "dtype": "float32"}


@pytest.mark.parametrize(
    ("settings", "spec", "reported"),
    [
        (
            {"shift": 1},
            {},
            "The settings augment.shift and augment.flip are for pictures; these data have shape (2,).\nLeave them out.",
        ),
        (
            {"shear": 1},
            {},
            "The settings augment.rotate, augment.scale and augment.shear are for pictures; these data have shape (2,).\nLeave them out.",
        ),
        ({"erase": 0.5}, {}, "The setting augment.erase is for pictures; these data have shape (2,).\nLeave it out."),
        (
            {"mixup": 0.2},
            {},
            "The settings augment.mixup and augment.cutmix are for pictures; these data have shape (2,).\nLeave them out.",
        ),
        (
            {"hue": 0.1},
            GREYS,
            "The settings augment.saturation and augment.hue are for colour pictures; these have 1 channel.\nLeave them out.",
        ),
        (
            {"contrast": 0.1},
            {**PICTURES, "shape": (2, 8, 8), "mean": (0.5,) * 2, "std": (0.2,) * 2},
            "The settings augment.brightness and augment.contrast are for grey and colour pictures; these have 2 channels.\n"
            "Leave them out.",
        ),
        (
            {"policy": "rand"},
            {**PICTURES, "dtype": "int64"},
            "The setting augment.policy is for pixels of uint8 or float32; these are int64.\nConvert the inputs, or leave it out.",
        ),
        (
            {"cutmix": 1},
            {**PICTURES, "dtype": "int64"},
            "The settings augment.mixup and augment.cutmix are for pixels of uint8 or float32; these are int64.\n"
            "Convert the inputs, or leave them out.",
        ),
        (
            {"brightness": 0.1},
            {**FLOATS, "mean": (0.0, 0.5, 0.5), "std": (0.99, 0.2, 0.2)},
            "The settings augment.brightness and augment.contrast are for pixels of uint8, or float32 from 0 to 1; these go beyond "
            "(mean (0.0, 0.5, 0.5), deviation (0.99, 0.2, 0.2)).\nPass pictures as they are (models normalize them), or leave them out.",
        ),
        ({"policy": "rand"}, {**FLOATS, "mean": (0.5, 0.5, 130.0)}, None),
        (
            {"cutmix": 1.0, "mixup": 1.0},
            {**PICTURES, "task": "regression"},
            "The setting augment.cutmix does not work for regression.\nUse augment.mixup, or leave it out.",
        ),
    ],
)
def test_refused(make_spec: SpecMaker, settings: dict[str, Any], spec: dict[str, Any], reported: str | None) -> None:
    build = build_mixing if "mixup" in settings or "cutmix" in settings else build_augment
    with pytest.raises(RecipeError) as raised:
        build(AugmentSettings(**settings), make_spec(**spec), 0)
    assert reported is None or str(raised.value) == reported


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rotate", 181), ("scale", 1), ("shear", 90), ("brightness", 1.1), ("contrast", -0.1), ("saturation", 2), ("hue", 0.6),
        ("policy", "auto"), ("policy_magnitude", 11), ("erase", 1.1), ("mixup", -1), ("cutmix", 101),
    ],
)  # fmt: skip
def test_settings_have_ranges(name: str, value: Any) -> None:
    with pytest.raises(RecipeError, match=rf"^The setting augment\.{name} = "):
        Recipe().updated({name: value})


def test_everything_is_off_by_itself() -> None:
    recipe = Recipe().updated({"policy": None})
    assert recipe.augment == AugmentSettings()
    assert not any(value for name, value in recipe.augment if name not in ("policy_magnitude", "copies"))


@pytest.mark.parametrize(
    "settings", [{"shift": 3}, {"shift": 2, "flip": True}, {"rotate": 40}, {"scale": 0.4, "shear": 20}, {"policy": "rand"}]
)
def test_what_is_left_open_gets_the_colour_of_the_ground(settings: dict[str, Any]) -> None:
    """On pictures of one colour nothing is seen of movements, where it is filled in."""
    wanted = AugmentSettings(**settings)
    pictures = torch.tensor([250, 255, 240], dtype=torch.uint8)[:, None, None].expand(30, 3, 12, 10)
    moved = Augment(wanted, 0, (250, 255, 240))(pictures, torch.arange(30), 1)
    if wanted.policy is None:
        assert torch.equal(moved, pictures)
    else:
        assert (moved.flatten(2).max(2).values == moved.flatten(2).min(2).values).all()  # Colours change, but those of all pixels alike.
    black = Augment(wanted, 0)(pictures, torch.arange(30), 1)
    assert (black == 0).any()


def test_a_black_ground_is_what_there_was_without(pictures: tuple[Tensor, Tensor]) -> None:
    wanted = AugmentSettings(shift=2, flip=True)
    one, two = (Augment(wanted, 0, ground)(pictures[0], torch.arange(24), 1) for ground in ((), (0,)))
    assert torch.equal(one, two)
