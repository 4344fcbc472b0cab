"""Pictures [channels, height, width], from files, Pillow or arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor

from epochal.data.inputs.base import Items
from epochal.data.inputs.changes import Changes, asked_changes
from epochal.data.inputs.picture.augment import Augment
from epochal.data.inputs.picture.ink import LARGEST, Ink, measure_ink
from epochal.data.inputs.picture.read import colour_of, open_picture, to_tensor
from epochal.data.inputs.scaled import ScaledRule, choose_dtype
from epochal.data.inputs.values import Inputs
from epochal.data.walk import PICTURES, files_below
from epochal.errors import DataError
from epochal.recipe import AugmentSettings

ResizeMode = Literal["pad", "crop", "squash"]

# The colour of edges is determined from this many pictures.
_EDGES = 64

# The most pixels of a picture from a stranger: cameras of telephones make fewer.
MAX_SERVED = 64_000_000

# Up to this many pixels a side, striding saves little: the deeper network takes only seconds too.
_TINY = 12


class PictureRule(ScaledRule):
    """How any picture becomes an input: the same for training, evaluation and prediction.

    `shape` is (channels, height, width). Picture files become uint8 with one channel (grey) or three (RGB); rules of other dtypes or
    channels take only arrays. `fit` says how files of another shape are fitted: "pad" resizes them to fit inside and pads them with
    the common colour of their edges, or black; "crop" fills the size and crops both sides equally; "squash" ignores the aspect ratio.
    `edge_colour` (0 to 255 per channel) is the common colour of most training pictures at their edges, with which random changes
    fill uncovered areas; empty if there is none, or it is black. `ink` says how small grey pictures on paper of one colour are drawn.
    """

    noun: ClassVar[str] = "picture"
    is_distinct: ClassVar[bool] = True
    can_augment: ClassVar[bool] = True
    scaled: ClassVar[str] = "channels"
    behind: ClassVar[int] = 2
    measured: ClassVar[tuple[str, ...]] = ("mean", "std", "edge_colour", "ink")

    kind: Literal["picture"] = "picture"
    shape: tuple[PositiveInt, PositiveInt, PositiveInt]
    dtype: Literal["uint8", "int64", "float32", "float64"] = "uint8"
    fit: ResizeMode = "pad"
    edge_colour: tuple[Annotated[int, Field(ge=0, le=255)], ...] = ()
    ink: Ink | None = None

    @model_validator(mode="after")
    def _check_colour(self) -> Self:
        if self.edge_colour and (len(self.edge_colour) != self.scales or not self.is_bytes):
            raise ValueError(f"edge_colour does not fit {self.dtype} inputs of shape {self.shape}")
        return self

    @classmethod
    def choose(cls, sample: Tensor, split: str, notes: list[str]) -> Self:
        """Return the rule for pictures like `sample`, with a channel axis, which comes first."""
        shape = tuple(sample.shape[1:])
        if len(shape) == 2:
            shape = (1, *shape)
        if len(shape) != 3:
            raise DataError(f"Inputs of {split} have shape {shape}, which is not that of pictures.", "Pass [channels, height, width].")
        layout = _layout(*shape)
        if layout == "last":
            notes.append("the pictures have their channels last; they are used with channels first")
            shape = (shape[2], *shape[:2])
        if layout == "unclear":
            notes.append(f"inputs of shape {shape} may have channels first or last; they are used as {shape[0]} channels")
        arranged = cls(shape=shape).arrange(sample)
        assert arranged is not None
        return cls(shape=shape, dtype=choose_dtype(arranged, cls.axes(arranged.ndim), split))

    @property
    def mode(self) -> Literal["L", "RGB"] | None:
        """Pillow's mode of picture files that become such inputs; `None` if files cannot."""
        return {1: "L", 3: "RGB"}.get(self.shape[0]) if self.is_bytes else None  # type: ignore[return-value]

    @property
    def side(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.shape[1:]

    @property
    def key(self) -> bytes:
        """A key that differs between rules that produce different pixels from files."""
        return f"{self.mode} {self.side} {self.fit}".encode()

    @property
    def sample(self) -> tuple[str, ...]:
        """A picture, if files become such inputs."""
        return ("picture.png" if self.mode else "inputs.npy",)

    @property
    def script(self) -> tuple[str, ...]:
        """Pictures, if files become such inputs; else arrays."""
        return ("picture" if self.mode else "numbers",)

    @property
    def scales(self) -> int:
        """One for each channel."""
        return self.shape[0]

    @staticmethod
    def axes(ndim: int) -> list[int]:
        """Return all axes but the channels."""
        return [0, *range(2, ndim)]

    @property
    def default_model(self) -> str:
        """A small convolutional network."""
        return "vgg" if max(self.side) <= _TINY else "conv"

    def arrange(self, inputs: Tensor) -> Tensor | None:
        """Return pictures [n, ...] as [n, *shape], including those with channels last."""
        if (found := super().arrange(inputs)) is not None:
            return found
        return inputs.movedim(-1, 1) if inputs.shape[1:] == (*self.side, self.shape[0]) else None

    def accept(self, item: Any) -> Tensor:
        """Return the pictures [n, *shape] in an object or a file, fitted from any size."""
        is_array = isinstance(item, np.ndarray)
        if self.mode and (isinstance(item, str | Path | Image.Image) or (is_array and item.dtype == np.uint16 and item.ndim == 2)):
            return to_tensor(open_picture(item), self)[None]
        return super().accept(item)

    def read_content(self, content: bytes, name: str) -> Tensor:
        """Return the picture [1, *shape] in the content of a file, fitted from any size up to `MAX_SERVED` pixels."""
        if not self.mode:
            return super().read_content(content, name)
        return to_tensor(open_picture(content, name, MAX_SERVED), self)[None]

    def refit(self, inputs: Tensor) -> Tensor:
        """Return one uint8 picture of any size as [1, *shape]."""
        if not self.mode or inputs.dtype != torch.uint8 or inputs.ndim not in (2, 3):
            return super().refit(inputs)
        return to_tensor(open_picture(inputs.numpy()), self)[None]

    def items(self, item: Any) -> Items:
        """Return the pictures in a folder, or the item itself."""
        if self.mode and isinstance(item, str | Path) and Path(item).is_dir():
            inside, skipped = files_below(PICTURES, Path(item))
            return Items(list(inside), tuple(skipped))
        return Items([item])

    def learn(self, inputs: Inputs) -> Self:
        """Return the rule with mean and deviation of each channel, the colour of the edges, and how the pictures are drawn."""
        found = super().learn(inputs)
        if not self.is_bytes:
            return found
        some = inputs[torch.arange(0, len(inputs), -(-len(inputs) // _EDGES))]
        edges = torch.cat((some[..., [0, -1], :].flatten(2), some[..., [0, -1]].flatten(2)), 2)
        colour = colour_of(edges.movedim(1, -1).flatten(0, 1).numpy())
        is_drawn = self.shape[0] == 1 and max(self.side) <= LARGEST
        # Where what is drawn reaches the edges, these have no colour of their own: most such pictures are on black.
        ink = measure_ink(some[:, 0], colour[0] if colour else 0) if is_drawn else None
        return found.model_copy(update={"edge_colour": colour if any(colour) else (), "ink": ink})

    def blank(self, inputs: Inputs) -> tuple[str, str]:
        """Return what is wrong if all pictures are the same single colour. The search ends at the first that is not."""
        places = torch.arange(len(inputs)).split(1)
        pixel = inputs[places[0]].flatten()[0]
        if not self.is_bytes or not all(bool((inputs[place] == pixel).all()) for place in places):
            return "", ""
        return (
            f"every pixel of all training pictures is {int(pixel)}",
            "only the high byte of 16-bit pictures is used: if that loses everything, rescale them to 0-65535, or save them with 8 bits",
        )

    def check_changes(self, changes: Changes) -> None:
        """Raise `RecipeError` for random changes that are not defined for pictures of this dtype, channels and range."""
        super().check_changes(changes)
        if changes.fractions and self.dtype == "int64":
            raise changes.refused("pixels of uint8 or float32; these are int64.", "Convert the inputs, or ")
        if changes.channels and self.shape[0] not in changes.channels:
            kinds = "grey and colour" if 1 in changes.channels else "colour"
            raise changes.refused(f"{kinds} pictures; these have {self.shape[0]} channel{'s' if self.shape[0] > 1 else ''}.")
        if changes.pixels and not self._is_black_to_white():
            raise changes.refused(
                f"pixels of uint8, or float32 from 0 to 1; these go beyond (mean {self.mean}, deviation {self.std}).",
                "Pass pictures as they are (models normalize them), or ",
            )

    def _is_black_to_white(self) -> bool:
        """Whether all pixels can be from 0 to 1: then their variance is at most mean * (1 - mean) (Bhatia and Davis, 2000).

        Normalized pictures do not pass. A deviation of exactly 1 may also mean a constant channel.
        """
        if self.is_bytes:
            return True
        return all(
            0 <= mean <= 1 and (std == 1 or std**2 <= mean * (1 - mean) + 1e-6) for mean, std in zip(self.mean, self.std, strict=True)
        )

    def augment(self, settings: AugmentSettings, seed: int) -> Augment | None:
        """Return the function that changes single pictures."""
        super().augment(settings, seed)
        return Augment(settings, seed, self.edge_colour) if any(asked_changes(settings)) else None

    def draw(self, example: Tensor) -> NDArray[np.uint8] | None:
        """Return grey and colour pictures as uint8 pixels."""
        return pixels_of(example)


def pixels_of(picture: Tensor) -> NDArray[np.uint8] | None:
    """Return a picture [1 or 3, height, width] as uint8 [height, width] or [height, width, 3]; `None` for anything else."""
    if picture.ndim != 3 or len(picture) not in (1, 3):
        return None
    pixels = picture.detach().cpu()
    if pixels.dtype != torch.uint8:
        # Values beyond 0 to 1 are rescaled to that range.
        pixels = pixels.float()
        low, high = min(0.0, float(pixels.min())), max(1.0, float(pixels.max()))
        pixels = ((pixels - low) / (high - low) * 255).round().to(torch.uint8)
    shown: NDArray[np.uint8] = np.asarray(pixels.movedim(0, -1))
    return shown[..., 0] if len(picture) == 1 else shown


def are_pictures(sample: Tensor) -> bool:
    """Whether arrays [n, ...] are pictures by default: with three axes each, or two axes of uint8."""
    return sample.ndim == 4 or (sample.ndim == 3 and sample.dtype == torch.uint8)


def alike_fix(one: Tensor, two: Tensor) -> str:
    """Return how to make the inputs of a Dataset alike."""
    return "Make all inputs alike." + ' Pictures take resize() and convert("RGB").' * (one.ndim == two.ndim == 3)


def _layout(first: int, middle: int, last: int) -> str:
    """Return where the channels of pictures [first, middle, last] are: "first", "last" or "unclear".

    Most pictures are square or have 1, 3 or 4 channels, and nearly all have fewer channels than pixels to a side.
    """
    if first == last or first == middle == 1:
        return "first" if first == 1 else "unclear"
    if middle in (first, last):
        return "first" if middle == last else "last"
    is_usual = first in (1, 3, 4), last in (1, 3, 4)
    if is_usual[0] != is_usual[1]:
        return "first" if is_usual[0] else "last"
    if first == 1 or first < min(middle, last) / 2:
        return "first"
    return "last" if not is_usual[0] and last < min(first, middle) / 2 else "unclear"
