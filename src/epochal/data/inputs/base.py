"""What an input kind must answer: a rule, by which anything of that kind becomes one dense tensor of fixed shape and dtype.

A rule is a frozen value. It is chosen from training data (`choose`), measured on them (`learn`), kept with every model as the tagged
field `DataSpec.input`, and asked by everything that would else have to know what an input is. Kinds are listed in `kinds.py`.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, PositiveInt, model_validator
from torch import Tensor, nn

from epochal.data.inputs.changes import Changes, asked_changes
from epochal.data.inputs.values import Inputs
from epochal.data.numbers import as_tensor
from epochal.data.storage.npy import read_npy
from epochal.errors import DataError
from epochal.recipe import AugmentSettings

# An input may have so many numbers; beyond it a few of them would fill the memory.
MAX_NUMBERS = 100_000_000

_LARGEST = torch.finfo(torch.float32).max


class Augment(Protocol):
    """Random changes of training inputs, each a function of the seed, the epoch and the example's position."""

    def __call__(self, inputs: Tensor, positions: Tensor, epoch: int, /) -> Tensor:
        """Return changed copies of `inputs` [batch, *shape]; `positions` (int64 [batch]) and `epoch` decide how."""
        ...


class Items(NamedTuple):
    """Things to read inputs from, and in words what was skipped among them."""

    items: list[Any]
    notes: tuple[str, ...] = ()


class InputRule(BaseModel):
    """How anything of a kind becomes an input: the same for training, evaluation and prediction.

    `kind` is the tag of the class. `shape` is one input without the batch, `dtype` its type as it is fed, by PyTorch's name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    # An example, in the words of messages.
    noun: ClassVar[str] = "example"
    # Whether equal inputs are the same example, or may be equal by chance.
    is_distinct: ClassVar[bool] = False
    # Whether random changes of training examples are defined.
    can_augment: ClassVar[bool] = False

    kind: str
    shape: tuple[PositiveInt, ...]
    dtype: str

    @model_validator(mode="after")
    def _check_size(self) -> Self:
        if not self.shape:
            raise ValueError("shape has no sides")
        if self.size > MAX_NUMBERS:
            raise ValueError(f"an input of {self.size:,} numbers is larger than the limit of {MAX_NUMBERS:,}")
        return self

    @property
    def size(self) -> int:
        """How many numbers one input has."""
        return math.prod(self.shape)

    @classmethod
    @abstractmethod
    def choose(cls, sample: Tensor, split: str, notes: list[str]) -> Self:
        """Return the rule for inputs like `sample` [n, ...] of `split`; add to `notes` what the user should hear of it."""

    @property
    def sample_file(self) -> str:
        """What a file to predict could be called."""
        return "inputs.npy"

    @property
    def as_pictures(self) -> str:
        """How such inputs become pictures, in the words of a message; "" where they do not."""
        return ""

    @property
    @abstractmethod
    def default_model(self) -> str:
        """The name of the network for such inputs where the user names none."""

    @abstractmethod
    def preprocess(self, mean: Sequence[float] | None = None, std: Sequence[float] | None = None) -> nn.Module:
        """Return the layer from raw inputs [n, *shape] to what networks take.

        `mean` and `std` are settings of the user's own. Raises `RecipeError` where they do not fit.
        """

    def learn(self, inputs: Inputs) -> Self:
        """Return the rule with what is measured on training inputs."""
        return self

    def arrange(self, inputs: Tensor) -> Tensor | None:
        """Return inputs [n, ...] as [n, *shape]; `None` where they are others."""
        if inputs.shape[1:] == self.shape:
            return inputs
        if self.shape[0] == 1 and inputs.ndim == len(self.shape) and inputs.shape[1:] == self.shape[1:]:
            return inputs[:, None]
        return None

    def cast(self, inputs: Tensor, given: str, asked: str) -> Tensor:
        """Return `inputs` as `dtype`, where they mean the same; else raise `DataError`: "`given` TYPE; `asked` TYPE"."""
        if inputs.dtype != getattr(torch, self.dtype):
            raise DataError(f"{given} {type_name(inputs.dtype)}; {asked} {self.dtype}.", "Pass inputs of that type.")
        return inputs

    def convert(self, inputs: Tensor, name: Callable[[int], str], split: str, asked: str) -> Tensor:
        """Bring inputs [n, ...] to the rule's form: [n, *shape] of `dtype`.

        `name` names one of them, `split` all, and `asked` says whose form it is, in the words of an error. Raises `DataError`.
        """
        check_size(inputs, name(0))
        check_finite(inputs, name)
        arranged = self.arrange(inputs)
        # The first thing to be wrong is told: pictures of another type often lack their channel too.
        values = self.cast(inputs if arranged is None else arranged, f"Inputs of {split} are", f"{asked} are")
        if arranged is None:
            shape = tuple(inputs.shape[1:])
            raise DataError(f"Inputs of {split} have shape {shape}; {asked} have {self.shape}.", "Pass inputs of that shape.")
        return values.contiguous()

    def read(self, item: Any) -> Tensor:
        """Return raw inputs [n, *shape] for one thing to predict. Raises `DataError` where it cannot be read, or does not fit."""
        if isinstance(item, str | Path) and Path(item).suffix.lower() == ".npy":
            try:
                item = read_npy(Path(item))
            except (OSError, ValueError) as error:
                raise DataError(f"{item} cannot be read: {error}.", "Give an .npy file of plain numbers.") from error
        return self.accept(item)

    def accept(self, item: Any) -> Tensor:
        """Do what `read` says with anything but a file of numbers."""
        if isinstance(item, str | Path | Image.Image):
            raise self.misfit(str(item))
        inputs = as_tensor(item, "the inputs")
        # One or several, in any layout that `load` takes too.
        found = self.arrange(inputs[None])
        if found is None and inputs.ndim:
            found = self.arrange(inputs)
        if found is None:
            return self.refit(inputs)
        check_finite(found, lambda index: f"[{index}]")
        return self.cast(found, "The inputs are", "this model takes")

    def refit(self, inputs: Tensor) -> Tensor:
        """Return values of another shape as raw inputs [n, *shape]. Raises `DataError` where that cannot be."""
        raise self.misfit(f"an input of shape {tuple(inputs.shape)}")

    def misfit(self, given: str) -> DataError:
        """Return the error of what does not become such an input."""
        return DataError(f"This model takes inputs of shape {self.shape}, not {given}.", "Pass an array, or an .npy file, of that shape.")

    def items(self, item: Any) -> Items:
        """Return the things to read inputs from that `item` stands for: what is in a folder, or itself."""
        return Items([item])

    def differs(self, inputs: Inputs) -> str:
        """Say how inputs differ in scale from those that were measured, "" where they do not: "vary 255 times less"."""
        return ""

    def blank(self, inputs: Inputs) -> tuple[str, str]:
        """Say what is wrong with training inputs in which there is nothing to learn from, and what to do; ("", "") where there is."""
        return "", ""

    def check_changes(self, changes: Changes) -> None:
        """Raise `RecipeError` for random changes that such inputs are not for."""
        raise changes.refused(f"pictures; these data have shape {self.shape}.")

    def augment(self, settings: AugmentSettings, seed: int) -> Augment | None:
        """Return what changes inputs at random, one by one; `None` where `settings` ask for nothing. Raises `RecipeError`."""
        for changes in asked_changes(settings):
            self.check_changes(changes)
        return None

    def draw(self, example: Tensor) -> NDArray[np.uint8] | None:
        """Return the picture of one input, uint8 [height, width] or [height, width, 3]; `None` where there is none."""
        return None

    def zeros(self, device: torch.device | None = None) -> Tensor:
        """Return one input of zeros, in a batch: [1, *shape]."""
        return torch.zeros((1, *self.shape), dtype=getattr(torch, self.dtype), device=device)


def type_name(dtype: torch.dtype) -> str:
    """Return the name of a type as NumPy has it."""
    return str(dtype).removeprefix("torch.")


def check_size(inputs: Tensor, name: str) -> None:
    """Refuse inputs without a number; `name` names the first."""
    if not inputs.numel():
        raise DataError(f"The input {name} has no numbers: its shape is {tuple(inputs.shape[1:])}.", "Pass inputs with at least one.")


def check_finite(inputs: Tensor, name: Callable[[int], str]) -> None:
    """Refuse NaN, and what float32 calls infinite; `name` names an example."""
    if not inputs.is_floating_point():
        return
    values = inputs if inputs.itemsize >= 4 else inputs.float()  # float8 has no isfinite.
    is_right = values.abs() <= _LARGEST if inputs.dtype == torch.float64 else values.isfinite()
    if is_right.all():
        return
    bad = (~is_right).nonzero()[0].tolist()
    value = float(values[tuple(bad)])
    if math.isfinite(value):
        told, fix = f"{value:g} at {bad[1:]}, which is beyond float32 (up to {_LARGEST:.2g})", "Scale such numbers first."
    else:
        told, fix = f"a NaN or infinite value at {bad[1:]}", "Fix or remove that example."
    raise DataError(f"The input {name(bad[0])} has {told}.", fix)
