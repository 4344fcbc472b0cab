"""Random changes of whole batches of training pictures, as tensor operations on the device.

The changes of an example are a function of (seed, epoch, position): neither its batch nor the process that prepares it can change a
pixel.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from epochal.data.draws import Draws
from epochal.data.inputs.changes import COLOURING, MOVING, SHADING, SHIFTING
from epochal.data.inputs.picture.colour import jitter, rounded, white_of
from epochal.data.inputs.picture.geometry import erase, move, random_matrix, shift_and_flip
from epochal.data.inputs.picture.policy import rand_augment
from epochal.recipe import AugmentSettings


class Augment:
    """Change pictures [batch, channels, height, width] one by one; each keeps its dtype and its target.

    Areas uncovered by shifts and rotations are filled with the colour `ground` (one level per channel), or black if it is empty.
    """

    def __init__(self, settings: AugmentSettings, seed: int, ground: Sequence[int] = ()) -> None:
        self.settings = settings
        self.seed = seed
        self.ground = ground

    def __call__(self, pictures: Tensor, positions: Tensor, epoch: int) -> Tensor:
        """Return changed copies of `pictures`; `positions` (int64 [batch]) and `epoch` decide how."""
        wanted, draws = self.settings, Draws(self.seed, epoch, positions)
        ground = pictures.new_tensor(self.ground) if self.ground else None
        if SHIFTING.asked(wanted):
            pictures = shift_and_flip(pictures, draws, wanted.shift, wanted.flip, ground)
        # What blends pixels works on fractions, rounded once at the end.
        dtype, white = pictures.dtype, white_of(pictures.dtype)
        if MOVING.asked(wanted):
            pictures = move(pictures.float(), random_matrix(draws, wanted.rotate, wanted.scale, wanted.shear), ground=ground)
        if SHADING.asked(wanted) or COLOURING.asked(wanted):
            pictures = jitter(pictures.float(), draws, wanted, white)
        if wanted.policy == "rand":
            pictures = rand_augment(pictures.float(), draws, wanted.policy_magnitude, white, ground)
        pictures = rounded(pictures, dtype)
        return erase(pictures, draws, wanted.erase) if wanted.erase else pictures
