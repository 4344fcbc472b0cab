"""What the rest of Epochal knows about data: one frozen description that flows forward and is kept with every model."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict

Task = Literal["single-label", "multi-label", "regression"]
Fit = Literal["pad", "crop", "squash"]
SPLITS = ("train", "valid", "test")


class _Described(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class PictureRule(_Described):
    """How any picture becomes an input: the same for training, evaluation and prediction.

    `mode` is Pillow's: "L" (grey) or "RGB". `size` is (height, width) in pixels. `fit` says what happens to another shape:
    "pad" shrinks or grows it to fit inside and fills up with black, "crop" fills the size and cuts what hangs over on both
    sides, "squash" ignores the aspect ratio.
    """

    mode: Literal["L", "RGB"]
    size: tuple[int, int]
    fit: Fit


class DataSpec(_Described):
    """What was learned from data; nothing here can be traced back to an example.

    `shape` is one input without the batch: (channels, height, width) for pictures, (features,) for numbers. `dtype` is as it
    is fed: "uint8" pixels, "int64" or "float32" numbers. `outputs` names what the model gives: the classes, the labels or the
    predicted quantities. `mean` and `std` are measured on training inputs only, per channel of pictures and per feature of
    numbers, with uint8 counting 0 to 1. `target_mean` and `target_std` are those of each predicted quantity (regression only).
    `counts` is the number of examples in each split; `class_counts` that of each class or label. `fingerprint` is a SHA-256
    over all inputs and targets.
    """

    name: str
    task: Task
    shape: tuple[int, ...]
    dtype: Literal["uint8", "int64", "float32"]
    outputs: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    target_mean: tuple[float, ...] = ()
    target_std: tuple[float, ...] = ()
    counts: dict[str, int]
    class_counts: dict[str, tuple[int, ...]] = {}
    picture: PictureRule | None = None
    fingerprint: str

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
        shape = "×".join(str(side) for side in self.shape) or "1 number"
        counts = ", ".join(f"{count:,} {split}" for split, count in self.counts.items())
        kind = {"single-label": "classes", "multi-label": "labels", "regression": "outputs"}[self.task]
        return f"{self.name}: {shape} {self.dtype}, {len(self.outputs)} {kind}; {counts}"
