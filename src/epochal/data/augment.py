"""Random changes of whole batches of training pictures, as tensor operations on the device.

What happens to an example is a function of (seed, epoch, its position): neither the batch that it stands in nor the process
that prepares it can change a pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from epochal.data.draws import Draws
from epochal.data.inputs.picture.colour import jitter, rounded, white_of
from epochal.data.inputs.picture.geometry import erase, move, random_matrix, shift_and_flip
from epochal.data.inputs.picture.policy import rand_augment
from epochal.data.mixing import Mixing
from epochal.data.spec import DataSpec
from epochal.errors import RecipeError
from epochal.recipe import AugmentSettings


class Augment:
    """Change pictures [batch, channels, height, width] one by one; each keeps its dtype and its target.

    What shifts and turns leave open gets the level of `ground` in each channel, or is black where there is none.
    """

    def __init__(self, settings: AugmentSettings, seed: int, ground: Sequence[int] = ()) -> None:
        self.settings = settings
        self.seed = seed
        self.ground = ground

    def __call__(self, pictures: Tensor, positions: Tensor, epoch: int) -> Tensor:
        """Return changed copies of `pictures`; `positions` (int64 [batch]) and `epoch` decide how."""
        wanted, draws = self.settings, Draws(self.seed, epoch, positions)
        ground = pictures.new_tensor(self.ground) if self.ground else None
        if wanted.shift or wanted.flip:
            pictures = shift_and_flip(pictures, draws, wanted.shift, wanted.flip, ground)
        # What blends pixels works on fractions, rounded once at the end.
        dtype, white = pictures.dtype, white_of(pictures.dtype)
        if _any(wanted, _MOVING):
            pictures = move(pictures.float(), random_matrix(draws, wanted.rotate, wanted.scale, wanted.shear), ground=ground)
        if _any(wanted, _SHADING + _COLOURING):
            pictures = jitter(pictures.float(), draws, wanted, white)
        if wanted.policy == "rand":
            pictures = rand_augment(pictures.float(), draws, wanted.policy_magnitude, white, ground)
        pictures = rounded(pictures, dtype)
        return erase(pictures, draws, wanted.erase) if wanted.erase else pictures


_SHIFTING = ("shift", "flip")
_MOVING = ("rotate", "scale", "shear")
_SHADING = ("brightness", "contrast")
_COLOURING = ("saturation", "hue")
_MIXING = ("mixup", "cutmix")


class _Group(NamedTuple):
    """Settings that need the same of pictures: fractions of a pixel's value to make sense, values from black to white, channels."""

    settings: tuple[str, ...]
    fractions: bool = False
    pixels: bool = False
    channels: tuple[int, ...] = ()


_CHANGES = (
    _Group(_SHIFTING),
    _Group(_MOVING, fractions=True),
    _Group(_SHADING, fractions=True, pixels=True, channels=(1, 3)),
    _Group(_COLOURING, fractions=True, pixels=True, channels=(3,)),
    _Group(("policy",), fractions=True, pixels=True, channels=(1, 3)),
    _Group(("erase",)),
)
_MIXTURES = (_Group(_MIXING, fractions=True),)


def build_augment(settings: AugmentSettings, spec: DataSpec, seed: int) -> Augment | None:
    """Return what changes pictures one by one, or `None` where `settings` ask for nothing.

    Raises `RecipeError` for data without pictures, and for pictures that a setting is not for.
    """
    return Augment(settings, seed, spec.ground) if _asked(settings, spec, _CHANGES) else None


def build_mixing(settings: AugmentSettings, spec: DataSpec, seed: int) -> Mixing | None:
    """Return what mixes examples, or `None` where `settings` ask for nothing. Raises `RecipeError` as `build_augment` does."""
    if not _asked(settings, spec, _MIXTURES):
        return None
    if settings.cutmix and not spec.task.allows_cutmix:
        raise RecipeError(f"The setting augment.cutmix does not work for {spec.task.name}.", "Use augment.mixup, or leave it out.")
    return Mixing(settings, spec, seed)


def _any(settings: AugmentSettings, names: tuple[str, ...]) -> bool:
    return any(getattr(settings, name) for name in names)


def _asked(settings: AugmentSettings, spec: DataSpec, groups: tuple[_Group, ...]) -> bool:
    """Whether `settings` ask for any of `groups`, all of which must be possible."""
    asked = [group for group in groups if _any(settings, group.settings)]
    for group in asked:
        _check(group, spec)
    return bool(asked)


def _check(group: _Group, spec: DataSpec) -> None:
    names = [f"augment.{name}" for name in group.settings]
    several = len(names) > 1
    subject = f"The settings {', '.join(names[:-1])} and {names[-1]} are" if several else f"The setting {names[0]} is"
    leave = "eave them out." if several else "eave it out."
    if not spec.is_image:
        raise RecipeError(f"{subject} for pictures; these data have shape {spec.shape}.", f"L{leave}")
    if group.fractions and spec.dtype == "int64":
        raise RecipeError(f"{subject} for pixels of uint8 or float32; these are int64.", f"Convert the inputs, or l{leave}")
    if group.channels and spec.shape[0] not in group.channels:
        kinds = "grey and colour" if 1 in group.channels else "colour"
        channels = f"{spec.shape[0]} channel{'s' if spec.shape[0] > 1 else ''}"
        raise RecipeError(f"{subject} for {kinds} pictures; these have {channels}.", f"L{leave}")
    if group.pixels and not _from_black_to_white(spec):
        raise RecipeError(
            f"{subject} for pixels of uint8, or float32 from 0 to 1; these go beyond (mean {spec.mean}, deviation {spec.std}).",
            f"Bring pictures as they are (models normalize them), or l{leave}",
        )


def _from_black_to_white(spec: DataSpec) -> bool:
    """Whether pixels can all be from 0 to 1: their variance is then at most mean * (1 - mean) (Bhatia and Davis, 2000).

    Normalized pictures do not pass. A deviation of exactly 1 also stands for a channel that never changes.
    """
    if spec.dtype == "uint8":
        return True
    return all(0 <= mean <= 1 and (std == 1 or std**2 <= mean * (1 - mean) + 1e-6) for mean, std in zip(spec.mean, spec.std, strict=True))
