"""The interface of an input kind: a rule that turns anything of that kind into one dense tensor of fixed shape and dtype.

A rule is a frozen value. It is chosen for the training data (`choose`), measures them (`learn`), and is saved with every model as
the tagged field `DataSpec.input`. Nothing else needs to know what kind an input is. Kinds are listed in `kinds.py`.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
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

# The most numbers of one input: a few larger ones would fill the memory.
MAX_NUMBERS = 100_000_000

_LARGEST = torch.finfo(torch.float32).max


class Augment(Protocol):
    """Random changes of training inputs, each a function of the seed, the epoch and the example's position."""

    def __call__(self, inputs: Tensor, positions: Tensor, epoch: int, /) -> Tensor:
        """Return changed copies of `inputs` [batch, *shape]; `positions` (int64 [batch]) and `epoch` decide how."""
        ...


class Items(NamedTuple):
    """Items to read inputs from, and notes on what was skipped."""

    items: list[Any]
    notes: tuple[str, ...] = ()


class Cell(NamedTuple):
    """A value of an input that has names: in words, and whether it is a quantity, of which there can be more or less."""

    name: str
    words: str
    is_quantity: bool


class InputRule(BaseModel):
    """How anything of a kind becomes an input: the same for training, evaluation and prediction.

    `kind` is the tag of the class. `shape` is that of one input without the batch, `dtype` the name of its PyTorch dtype.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    # The word for an example in messages.
    noun: ClassVar[str] = "example"
    # Whether equal inputs are always the same example, not equal by chance.
    is_distinct: ClassVar[bool] = False
    # Whether networks get quantities, which layers for any numbers take, and not the numbers of words.
    has_quantities: ClassVar[bool] = True
    # Whether random changes of training examples are defined.
    can_augment: ClassVar[bool] = False
    # The fields with what `learn` finds.
    measured: ClassVar[tuple[str, ...]] = ()
    # The preset whose settings hold where the user gave none.
    preset: ClassVar[str] = ""

    kind: str
    shape: tuple[PositiveInt, ...]
    dtype: str

    @model_validator(mode="after")
    def _check_size(self) -> Self:
        if not self.shape:
            raise ValueError("shape is empty")
        if self.size > MAX_NUMBERS:
            raise ValueError(f"an input of {self.size:,} numbers is larger than the limit of {MAX_NUMBERS:,}")
        return self

    @property
    def size(self) -> int:
        """The number of values in one input."""
        return math.prod(self.shape)

    @property
    def features(self) -> tuple[int, ...]:
        """The shape that `preprocess` gives one input: what networks take."""
        return self.shape

    @property
    def windows(self) -> int:
        """Into how many windows an input may be cut, from each of which a network predicts."""
        return 1

    def with_windows(self, count: int) -> Self:
        """Return the same rule for inputs of up to `count` windows. Raises `DataError` if they are not cut."""
        raise DataError(f"This model takes {self.noun}s, which are not cut into windows.", "Leave windows out.")

    @property
    def networks(self) -> str:
        """The kind whose networks such inputs are for, after `preprocess`."""
        return self.kind

    @classmethod
    @abstractmethod
    def choose(cls, sample: Tensor, split: str, notes: list[str]) -> Self:
        """Return the rule for inputs like `sample` [n, ...] of `split`; add to `notes` what the user should know about it."""

    @property
    def sample(self) -> tuple[str, ...]:
        """What the command `predict` takes, as an example: the name of a file that somebody may have."""
        return ("inputs.npy",)

    @property
    def script(self) -> tuple[str, ...]:
        """The file in `exports/scripts` that reads such inputs without Epochal, and another that it needs; none if they cannot be."""
        return ()

    @property
    def script_files(self) -> Mapping[str, bytes]:
        """What these need besides the model, by the names of files."""
        return {}

    @property
    def as_pictures(self) -> str:
        """How to turn such inputs into pictures, as part of a message; "" if that is not possible."""
        return ""

    @property
    @abstractmethod
    def default_model(self) -> str:
        """The name of the default network for such inputs."""

    @abstractmethod
    def preprocess(self, mean: Sequence[float] | None = None, std: Sequence[float] | None = None) -> nn.Module:
        """Return the layer that turns raw inputs [n, *shape] into what networks take.

        `mean` and `std` are the user's settings, if any. Raises `RecipeError` if they do not fit.
        """

    def learn(self, inputs: Inputs) -> Self:
        """Return the rule with statistics of the training inputs."""
        return self

    def reads_as(self, other: InputRule) -> bool:
        """Whether another rule makes the same inputs of the same items, whatever training inputs were measured for either."""
        return type(self) is type(other) and self._reading() == other._reading()

    def _reading(self) -> dict[str, Any]:
        """Return what inputs depend on: all that is not `measured`."""
        return self.model_dump(exclude={*self.measured})

    def lengths(self, inputs: Inputs) -> Tensor | None:
        """Return how many values along the last axis are not padding, for each input: int64 [n]; `None` if inputs are not padded."""
        return None

    def arrange(self, inputs: Tensor) -> Tensor | None:
        """Return inputs [n, ...] as [n, *shape]; `None` if their shape does not fit."""
        if inputs.shape[1:] == self.shape:
            return inputs
        if self.shape[0] == 1 and inputs.ndim == len(self.shape) and inputs.shape[1:] == self.shape[1:]:
            return inputs[:, None]
        return None

    def cast(self, inputs: Tensor, given: str, asked: str) -> Tensor:
        """Return `inputs` as `dtype` if that keeps their meaning; else raise `DataError`: "`given` TYPE; `asked` TYPE"."""
        if inputs.dtype != getattr(torch, self.dtype):
            raise DataError(f"{given} {type_name(inputs.dtype)}; {asked} {self.dtype}.", "Pass inputs of that type.")
        return inputs

    def convert(self, inputs: Tensor, name: Callable[[int], str], split: str, asked: str) -> Tensor:
        """Convert inputs [n, ...] to the rule's form: [n, *shape] of `dtype`.

        Raises `DataError`, in which `name` names one input, `split` all, and `asked` whose form is expected.
        """
        check_size(inputs, name(0))
        check_finite(inputs, name)
        arranged = self.arrange(inputs)
        # A wrong dtype is reported before a wrong shape: pictures of another dtype often lack a channel axis too.
        values = self.cast(inputs if arranged is None else arranged, f"Inputs of {split} are", f"{asked} are")
        if arranged is None:
            shape = tuple(inputs.shape[1:])
            raise DataError(f"Inputs of {split} have shape {shape}; {asked} have {self.shape}.", "Pass inputs of that shape.")
        return values.contiguous()

    def read(self, item: Any) -> Tensor:
        """Return raw inputs [n, *shape] for one item to predict. Raises `DataError` if it cannot be read or does not fit."""
        if isinstance(item, str | Path) and Path(item).suffix.lower() == ".npy":
            try:
                item = read_npy(Path(item))
            except (OSError, ValueError) as error:
                raise DataError(f"{item} cannot be read: {error}.", "Give an .npy file of plain numbers.") from error
        return self.accept(item)

    def accept(self, item: Any) -> Tensor:
        """Do the same as `read` for anything but an .npy file."""
        if isinstance(item, str | Path | Image.Image):
            raise self.misfit(str(item))
        inputs = as_tensor(item, "the inputs")
        # One or several, in any layout that `load` takes.
        found = self.arrange(inputs[None])
        if found is None and inputs.ndim:
            found = self.arrange(inputs)
        if found is None:
            return self.refit(inputs)
        check_finite(found, lambda index: f"[{index}]")
        return self.cast(found, "The inputs are", "this model takes")

    def read_content(self, content: bytes, name: str) -> Tensor:
        """Return raw inputs [n, *shape] for the content of a file, which may come from a stranger: `name` is no path.

        Raises `DataError`, which calls it `name`, if it cannot be read or does not fit.
        """
        raise self.misfit(f"the file {name}")

    def refit(self, inputs: Tensor) -> Tensor:
        """Return values of another shape as raw inputs [n, *shape]. Raises `DataError` if that is not possible."""
        raise self.misfit(f"an input of shape {tuple(inputs.shape)}")

    def misfit(self, given: str) -> DataError:
        """Return the error for an item that is not such an input."""
        return DataError(f"This model takes inputs of shape {self.shape}, not {given}.", "Pass an array, or an .npy file, of that shape.")

    def is_item(self, what: Any) -> bool:
        """Whether `what` is one item although it looks like a list or a dict of several."""
        return False

    def items(self, item: Any) -> Items:
        """Return the items to read inputs from: the contents of a folder, or `item` itself."""
        return Items([item])

    def lost(self, items: Sequence[Any]) -> tuple[str, ...]:
        """Return a note if a large part of items to predict does not fit into their inputs."""
        return ()

    def title(self, item: Any) -> str | None:
        """Return the name of an item to predict, if it has one."""
        return str(item) if isinstance(item, str | Path) else None

    def differs(self, inputs: Inputs) -> str:
        """Describe how inputs differ in scale from those measured: "vary 255 times less"; "" if they do not."""
        return ""

    def blank(self, inputs: Inputs) -> tuple[str, str]:
        """Return what is wrong if there is nothing to learn from in the training inputs, and a fix; otherwise ("", "")."""
        return "", ""

    def check_changes(self, changes: Changes) -> None:
        """Raise `RecipeError` for random changes that are not defined for such inputs."""
        if changes.kind != self.kind:
            raise changes.refused(f"{changes.kind}s; these data have shape {self.shape}.")

    def augment(self, settings: AugmentSettings, seed: int) -> Augment | None:
        """Return the function that changes single inputs at random; `None` if `settings` ask for none. Raises `RecipeError`."""
        for changes in asked_changes(settings):
            self.check_changes(changes)
        return None

    def draw(self, example: Tensor) -> NDArray[np.uint8] | None:
        """Return a picture of one input, uint8 [height, width] or [height, width, 3]; `None` if it has none."""
        return None

    def cells(self, example: Tensor) -> list[Cell]:
        """Return the values of one input by name, if it is a row [columns] of these; else none."""
        return []

    def zeros(self, device: torch.device | None = None) -> Tensor:
        """Return a batch of one input of zeros: [1, *shape]."""
        return torch.zeros((1, *self.shape), dtype=getattr(torch, self.dtype), device=device)


def type_name(dtype: torch.dtype) -> str:
    """Return the name of a dtype as in NumPy."""
    return str(dtype).removeprefix("torch.")


def check_size(inputs: Tensor, name: str) -> None:
    """Raise `DataError` for inputs without any numbers; `name` is that of the first."""
    if not inputs.numel():
        raise DataError(f"The input {name} is empty: its shape is {tuple(inputs.shape[1:])}.", "Pass inputs with at least one number.")


def check_finite(inputs: Tensor, name: Callable[[int], str]) -> None:
    """Raise `DataError` for NaN and what is infinite in float32; `name` names an example."""
    if not inputs.is_floating_point():
        return
    values = inputs if inputs.itemsize >= 4 else inputs.float()  # float8 has no isfinite.
    is_right = values.abs() <= _LARGEST if inputs.dtype == torch.float64 else values.isfinite()
    if is_right.all():
        return
    bad = (~is_right).nonzero()[0].tolist()
    value = float(values[tuple(bad)])
    if math.isfinite(value):
        found, fix = f"{value:g} at {bad[1:]}, which is beyond float32 (up to {_LARGEST:.2g})", "Scale such numbers first."
    else:
        found, fix = f"a NaN or infinite value at {bad[1:]}", "Fix or remove that example."
    raise DataError(f"The input {name(bad[0])} has {found}.", fix)
