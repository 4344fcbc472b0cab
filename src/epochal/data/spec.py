"""What the rest of Epochal knows about data: one frozen description that flows forward and is kept with every model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SerializeAsAny,
    model_validator,
)

from epochal.tasks import TASKS
from epochal.tasks.base import Task

ResizeMode = Literal["pad", "crop", "squash"]
SPLITS = ("train", "valid", "test")

# An input may have so many numbers; beyond it a few of them would fill the memory.
MAX_NUMBERS = 100_000_000


class _Described(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class PictureRule(_Described):
    """How any picture becomes an input: the same for training, evaluation and prediction.

    `mode` is Pillow's: "L" (grey) or "RGB". `size` is (height, width) in pixels. `fit` says what happens to another shape:
    "pad" shrinks or grows it to fit inside and fills up, "crop" fills the size and cuts what hangs over on both sides, "squash"
    ignores the aspect ratio. `ground` is what fills up: "border" the colour of the edges there, where they have one, else black;
    "black" (of rules from before there was a choice) always black.
    """

    mode: Literal["L", "RGB"]
    size: tuple[PositiveInt, PositiveInt]
    fit: ResizeMode
    ground: Literal["black", "border"] = "black"

    @property
    def key(self) -> bytes:
        """What tells this rule from others that make other pixels."""
        return self.model_dump_json(exclude_defaults=True).encode()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the inputs that it makes."""
        return (1 if self.mode == "L" else 3, *self.size)


def _by_tag(tag: str, kinds: Mapping[str, type[BaseModel]]) -> BeforeValidator:
    """Let a mapping become the object of the kind that its `tag` names."""

    def read(value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        if value.get(tag) not in kinds:
            raise ValueError(f"the {tag} {value.get(tag)!r} is none of {', '.join(kinds)}")
        return kinds[value[tag]].model_validate(value)

    return BeforeValidator(read)


class DataSpec(_Described):
    """What was learned from data; nothing here can be traced back to an example.

    `shape` is one input without the batch: (channels, height, width) for pictures, (features,) for numbers. `dtype` is as it
    is fed: "uint8" pixels, "int64" or "float32" numbers, or "float64" ones that float32 would not tell apart. `task` says what the
    targets mean, and names the outputs of a model: the classes, the labels or the predicted quantities. `mean` and `std` are measured
    on training inputs only, per channel of pictures and per feature of numbers, with uint8 counting 0 to 1. `counts` is the number of
    examples in each split. `ground` is the colour that most training pictures have at their edges (0 to 255 per channel), which fills
    what random changes leave open; none where there is no such colour, or it is black. `fingerprint` is a SHA-256 over all inputs
    and targets.
    """

    name: str
    task: Annotated[SerializeAsAny[Task], _by_tag("name", TASKS)]
    shape: tuple[PositiveInt, ...]
    dtype: Literal["uint8", "int64", "float32", "float64"]
    mean: tuple[float, ...]
    std: tuple[PositiveFloat, ...]
    counts: dict[str, NonNegativeInt]
    picture: PictureRule | None = None
    ground: tuple[Annotated[int, Field(ge=0, le=255)], ...] = ()
    fingerprint: str

    @model_validator(mode="after")
    def _agree(self) -> Self:
        """Refuse a description that contradicts itself: it may come from a stranger's file."""
        scales = self.shape[0] if self.is_image or len(self.shape) == 1 else 1
        for is_wrong, told in (
            (not self.shape, "shape has no sides"),
            (self.size > MAX_NUMBERS, f"an input of {self.size:,} numbers is larger than the limit of {MAX_NUMBERS:,}"),
            (
                len(self.mean) != len(self.std) or len(self.mean) not in (1, scales),
                f"mean and std must have {scales} numbers, or one for all, for inputs of shape {self.shape}",
            ),
            (
                len(self.ground) not in (0, scales) or (bool(self.ground) and not (self.is_image and self.dtype == "uint8")),
                f"ground does not fit {self.dtype} inputs of shape {self.shape}",
            ),
            (
                self.picture is not None and (self.picture.shape != self.shape or self.dtype != "uint8"),
                f"the picture rule does not make {self.dtype} inputs of shape {self.shape}",
            ),
        ):
            if is_wrong:
                raise ValueError(told)
        return self

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of what a model gives: the classes, the labels or the predicted quantities."""
        return self.task.outputs

    @property
    def is_image(self) -> bool:
        """Whether an input is a picture of shape (channels, height, width)."""
        return len(self.shape) == 3

    @property
    def size(self) -> int:
        """How many numbers one input has."""
        return math.prod(self.shape)

    def describe(self) -> str:
        """Return the data in one line, for people."""
        return described(self.name, self.shape, self.dtype, self.task, self.counts)

    def __repr__(self) -> str:
        return f"DataSpec({self.describe()})"

    __str__ = __repr__


def described(name: str, shape: Sequence[int], dtype: str, task: Task, counts: Mapping[str, int]) -> str:
    """Return data in one line, for people."""
    sides = "×".join(str(side) for side in shape) or "1 number"
    return f"{name}: {sides} {dtype}, {len(task.outputs)} {task.noun}; {', '.join(f'{count:,} {split}' for split, count in counts.items())}"
