"""Numbers: a row of features, or a table or block of values that belong together."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from torch import Tensor

from epochal.data.inputs.base import Cell, type_name
from epochal.data.inputs.scaled import BLUR, ScaledRule, choose_dtype, measure
from epochal.tasks.scores import plain


class NumbersRule(ScaledRule):
    """Inputs [n, features] with a mean and deviation for each feature; or inputs with more axes, which share one of each."""

    scaled: ClassVar[str] = "features"

    kind: Literal["numbers"] = "numbers"

    @classmethod
    def choose(cls, sample: Tensor, split: str, notes: list[str]) -> Self:
        """Return the rule for inputs of the shape of `sample`, with the dtype that keeps their values."""
        shape = tuple(sample.shape[1:]) or (1,)
        if len(shape) == 2 and shape[0] == shape[1] >= 8:
            size = f"{shape[0]}×{shape[1]} {type_name(sample.dtype)}"
            notes.append(f"inputs of {size} are used as tables of numbers; x[:, None] makes pictures of them")
        arranged = sample.reshape(-1, *shape)
        rule = cls(shape=shape, dtype=choose_dtype(arranged, cls.axes(arranged.ndim), split))
        if len(shape) == 2 and not rule.is_bytes:
            columns = measure(arranged.flatten(0, 1), [0]).std
            lost = ((columns > 0) & (columns < BLUR * measure(arranged, [0, 1, 2]).std)).nonzero().flatten().tolist()
            if lost:
                why = f"number {lost[0]} of a row varies so little compared with the others that it is lost: scale it first"
                notes.append(f"inputs of shape {shape} share one mean and deviation; {why}")
        return rule

    @property
    def scales(self) -> int:
        """One for each feature of a row, else one."""
        return self.shape[0] if len(self.shape) == 1 else 1

    @staticmethod
    def axes(ndim: int) -> list[int]:
        """Return all axes but that of the features of a row."""
        return [0] if ndim == 2 else list(range(ndim))

    @property
    def script(self) -> tuple[str, ...]:
        """Arrays."""
        return ("numbers",)

    @property
    def as_pictures(self) -> str:
        """Tables need another axis, blocks another kind."""
        return {2: "x[:, None] makes pictures with one channel of them", 3: 'input="picture" loads them as such'}.get(len(self.shape), "")

    def cells(self, example: Tensor) -> list[Cell]:
        """Return the numbers of a row."""
        values = example.tolist() if example.ndim == 1 else []
        return [Cell(f"number {place}", plain(value, 6), is_quantity=True) for place, value in enumerate(values)]

    @property
    def default_model(self) -> str:
        """Fully connected layers."""
        return "mlp"
