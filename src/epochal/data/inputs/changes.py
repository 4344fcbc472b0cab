"""Which random changes of training examples a recipe asks for, and what they require of the inputs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from epochal.errors import RecipeError
from epochal.recipe import AugmentSettings


class Changes(NamedTuple):
    """Settings with the same requirements: inputs of a kind, and whether these must be fractions, from black to white, or of certain
    channels."""

    settings: tuple[str, ...]
    fractions: bool = False
    pixels: bool = False
    channels: tuple[int, ...] = ()
    kind: str = "picture"

    def refused(self, why: str, fix: str = "") -> RecipeError:
        """Return the error that these settings are for `why`; `fix` says what else to do but leave them out."""
        names = [f"augment.{name}" for name in self.settings]
        several = len(names) > 1
        subject = f"The settings {', '.join(names[:-1])} and {names[-1]} are" if several else f"The setting {names[0]} is"
        leave = f"{'l' if fix else 'L'}eave {'them' if several else 'it'} out."
        return RecipeError(f"{subject} for {why}", f"{fix}{leave}")

    def asked(self, settings: AugmentSettings) -> bool:
        """Whether `settings` ask for any of these."""
        return any(getattr(settings, name) for name in self.settings)


SHIFTING = Changes(("shift", "flip"))
MOVING = Changes(("rotate", "scale", "shear"), fractions=True)
SHADING = Changes(("brightness", "contrast"), fractions=True, pixels=True, channels=(1, 3))
COLOURING = Changes(("saturation", "hue"), fractions=True, pixels=True, channels=(3,))
POLICY = Changes(("policy",), fractions=True, pixels=True, channels=(1, 3))
ERASING = Changes(("erase",))
SOUNDING = Changes(("time_shift", "time_mask", "frequency_mask", "noise"), kind="sound")
WORDING = Changes(("word_dropout",), kind="text")
MIXING = Changes(("mixup", "cutmix"), fractions=True)


def asked_changes(settings: AugmentSettings) -> Iterator[Changes]:
    """Yield the requested changes of single examples."""
    yield from (one for one in (SHIFTING, MOVING, SHADING, COLOURING, POLICY, ERASING, SOUNDING, WORDING) if one.asked(settings))
