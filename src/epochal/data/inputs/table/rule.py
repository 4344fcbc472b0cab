"""Tables: rows whose columns are numbers, dates or categories."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import model_validator
from torch import Tensor, nn

from epochal.data.inputs.base import Cell, InputRule, Items
from epochal.data.inputs.table.columns import Column, encode_column
from epochal.data.inputs.table.files import about_encoding
from epochal.data.inputs.table.layer import ScaleTable, levels
from epochal.data.inputs.table.values import Table, holds_table, names_of, pieces, read_table, title_of
from epochal.data.inputs.values import Inputs, in_memory
from epochal.data.numbers import as_tensor
from epochal.errors import DataError, RecipeError
from epochal.shown import counted

_LARGEST = torch.finfo(torch.float32).max

# So many values of the training rows are measured at most, and so many rows are looked at together.
_MEASURED, _AT_ONCE = 1 << 25, 1 << 12

_NAMED = 5

# Numbers beyond those of training are reported from so many rows on, and from this share of them.
_MANY = 10
_BEYOND = 0.1


class TableRule(InputRule):
    """Rows [columns] of float32: numbers less their column's offset, codes of words (0: unseen), and NaN for what is missing.

    `columns` are those that are learned from, in order; `target` are the names of the columns to predict. Where `has_header` is false,
    names are the places of columns. With `joins`, labels that differ only by blanks, case or a full stop are one.
    """

    noun: ClassVar[str] = "row"
    preset: ClassVar[str] = "table"

    kind: Literal["table"] = "table"
    dtype: Literal["float32"] = "float32"
    columns: tuple[Column, ...]
    target: tuple[str, ...] = ()
    has_header: bool = True
    joins: bool = False

    @model_validator(mode="after")
    def _check_columns(self) -> Self:
        if self.shape != (len(self.columns),) or len(set(self.names)) < len(self.columns):
            raise ValueError(f"{len(self.columns)} columns of {len(set(self.names))} names do not make rows of shape {self.shape}")
        return self

    @classmethod
    def choose(cls, sample: Tensor, split: str, notes: list[str]) -> Self:  # noqa: ARG003
        """Refuse arrays: they have no columns with names."""
        raise DataError("Arrays cannot be read as a table.", 'Pass a dict of columns, or leave out input="table".')

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns that are learned from."""
        return tuple(column.name for column in self.columns)

    @property
    def numbers(self) -> int:
        """The number of columns that are numbers or dates: the first features are their scores."""
        return sum(column.is_number for column in self.columns)

    @property
    def flags(self) -> int:
        """The number of features that say whether a number is missing: they follow the scores."""
        return sum(column.is_number and column.missing > 0 for column in self.columns)

    @property
    def levels(self) -> tuple[int, ...]:
        """The number of codes of each of the last features: those of categories, then those of numbers that are repeated."""
        ordered = sorted(self.columns, key=lambda column: column.is_number)
        return tuple(found for column in ordered if (found := levels(column)))

    @property
    def features(self) -> tuple[int, ...]:
        """Scores, flags and codes: see `ScaleTable`."""
        return (self.numbers + self.flags + len(self.levels),)

    @property
    def script(self) -> tuple[str, ...]:
        """Separated values."""
        return ("table",)

    @property
    def default_model(self) -> str:
        """Embeddings of categories and numbers, then fully connected layers."""
        return "tabular"

    def preprocess(self, mean: Sequence[float] | None = None, std: Sequence[float] | None = None) -> nn.Module:
        """Return the layer that fills gaps, scales numbers, and leaves out words that are rare."""
        if mean is not None or std is not None:
            raise RecipeError(
                "The settings data.mean and data.std are not for tables: numbers are scaled by their ranks.", "Leave them out."
            )
        return ScaleTable(self.columns)

    def _reading(self) -> dict[str, Any]:
        return {"columns": [(column.name, column.kind, column.offset, column.words) for column in self.columns]}

    def learn(self, inputs: Inputs) -> Self:
        """Return the rule with what is measured of each column of the training inputs."""
        values = in_memory(inputs)
        # Of very many rows, a part says as much.
        step = -(-len(inputs) * self.size // _MEASURED)
        places = torch.arange(0, len(inputs), step)
        rows = torch.cat([inputs[some] for some in places.split(_AT_ONCE)]) if values is None else values[::step]
        columns = (column.learn(rows[:, place].numpy(), len(self.columns)) for place, column in enumerate(self.columns))
        return self.model_copy(update={"columns": tuple(columns)})

    def convert(self, inputs: Tensor, name: Callable[[int], str], split: str, asked: str) -> Tensor:
        """Return inputs as they are; see `InputRule.convert`. NaN is what is missing."""
        if inputs.shape[1:] != self.shape or inputs.dtype != torch.float32:
            raise DataError(
                f"Inputs of {split} are {inputs.dtype} of shape {tuple(inputs.shape[1:])}; "
                f"{asked} are rows of {counted(self.shape[0], 'column')}.",
                "Pass a table.",
            )
        self._check_finite(inputs, name)
        return inputs.contiguous()

    def _check_finite(self, inputs: Tensor, name: Callable[[int], str]) -> None:
        for begin, rows in zip(range(0, len(inputs), _AT_ONCE), inputs.split(_AT_ONCE), strict=True):
            if (is_wrong := rows.isinf()).any():
                row, column = is_wrong.nonzero()[0].tolist()
                raise DataError(
                    f"{name(begin + row)}: column {self.names[column]} is infinite, or beyond {_LARGEST:.2g}.", "Fix it, or leave it empty."
                )

    def encode(self, table: Table) -> Tensor:
        """Return the rows of a table as inputs, float32 [n, columns]; columns that it lacks are missing in all rows."""
        found = torch.from_numpy(np.stack([encode_column(table, column) for column in self.columns], 1))
        self._check_finite(found, table.where)
        return found

    def is_item(self, what: Any) -> bool:
        """Whether `what` is one table, or a row of one."""
        return holds_table(what)

    def items(self, item: Any) -> Items:
        """Return the item, with notes on how its columns differ from those of training."""
        if not holds_table(item):
            return Items([item])
        return Items([item], tuple(self.differing(item)))

    def differing(self, what: Any) -> Iterator[str]:
        """Yield how the columns of a table differ from those of training. Raises `DataError` where most are missing."""
        yield from about_encoding(what)
        names = self.names_in(what)
        there, used = {*names}, {*self.names, *self.target}
        lacking = [name for name in self.names if name not in there]
        if len(lacking) > len(self.names) / 2:
            raise DataError(
                f"{title_of(what)} lacks {len(lacking)} of the {counted(len(self.names), 'column')} that the model was trained on: "
                f"{_some(lacking)}.",
                f"Give it the same columns, {'and a header with their names' if self.has_header else 'without a header'}.",
            )
        if lacking:
            yield f"columns that are not there count as missing values: {_some(lacking)}"
        more = [name for name in names if name not in used]
        if more:
            yield f"columns that the model does not use: {_some(more)}"

    def accept(self, item: Any) -> Tensor:
        """Read a table: a path, a dict of columns or of one row, a list of dicts; or an array, if all columns are numbers."""
        if holds_table(item):
            return self.encode(self.read_table(item))
        if isinstance(item, str | Path) or any(not column.is_number for column in self.columns):
            raise self.misfit(str(item) if isinstance(item, str | Path) else f"a {type(item).__name__}")
        rows = as_tensor(item, "the inputs").double()
        rows = rows[None] if rows.ndim == 1 else rows
        if rows.ndim != 2 or rows.shape[1] != len(self.columns):
            raise self.misfit(f"an array of shape {tuple(rows.shape)}")
        found = (rows - torch.tensor([column.offset for column in self.columns], dtype=torch.float64)).float()
        self._check_finite(found, lambda row: f"Row {row}")
        return found

    def read_content(self, content: bytes, name: str) -> Tensor:
        """Return the rows [n, columns] in the content of a file: separated values, or JSON lines."""
        # A table is read twice, and its errors name the file.
        suffix = next((end for end in (".jsonl", ".ndjson", ".tsv") if name.lower().endswith(end)), ".csv")
        with TemporaryDirectory() as folder:
            path = Path(folder, f"table{suffix}")
            path.write_bytes(content)
            try:
                for _ in self.differing(path):
                    pass
                return self.accept(path)
            except DataError as error:
                raise DataError(error.problem.replace(str(path), name), error.fix.replace(str(path), name)) from error

    def names_in(self, what: Any) -> tuple[str, ...]:
        """Return the names of the columns of a table, which has a header if that of training had one."""
        return names_of(what, self.has_header)

    def read_table(self, what: Any, words: Sequence[str] = ()) -> Table:
        """Read the columns of a table that the model uses, and others as words, or very many numbers."""
        texts, numbers = self._texts_and_numbers()
        skip = {*self.names_in(what)} - {*self.names, *words}
        return read_table(what, words={*texts, *words}, numbers={*numbers, *words}, skip=skip, header=self.has_header)

    def pieces(self, path: Path) -> Iterator[tuple[list[list[str]], Tensor]]:
        """Yield the rows of a file as text, a few thousand at a time, with the inputs that they become."""
        texts, numbers = self._texts_and_numbers()
        for rows, table in pieces(path, words=texts, numbers=numbers, header=self.has_header):
            yield rows, self.encode(table)

    def _texts_and_numbers(self) -> tuple[set[str], set[str]]:
        numbers = {column.name for column in self.columns if column.kind == "number"}
        return {*self.names} - numbers, numbers

    def misfit(self, given: str) -> DataError:
        """Return the error for an item that is not a table."""
        return DataError(
            f"This model takes tables with the columns {_some(self.names)}, not {given}.",
            "Pass a file (.csv, .tsv, .jsonl, .parquet), a dict of columns, or a list of dicts.",
        )

    def differs(self, inputs: Inputs) -> str:
        """Describe which columns have words that training data had not, or many numbers beyond theirs."""
        counts: Counter[str] = Counter()
        for some in torch.arange(len(inputs)).split(_AT_ONCE):
            counts += self.unseen(inputs[some])
        return self.about_unseen(counts, len(inputs))

    def unseen(self, rows: Tensor) -> Counter[str]:
        """Count, for each column, the words that training data had not, and the numbers beyond all of theirs."""
        found: Counter[str] = Counter()
        for column, values in zip(self.columns, rows.T, strict=True):
            if not column.is_number:
                found[column.name] = int((values == 0).sum())
            elif column.knots:
                found[column.name] = int(((values < column.knots[0]) | (values > column.knots[-1])).sum())
        return +found

    def cells(self, example: Tensor) -> list[Cell]:
        """Return the values of a row, those that are missing or unseen too."""
        return [
            Cell(column.name, column.words_of(value), column.is_number)
            for column, value in zip(self.columns, example.tolist(), strict=True)
        ]

    def about_unseen(self, counts: Counter[str], rows: int) -> str:
        """Describe what `unseen` counted in so many rows: "have other words in city (3 rows)"; of numbers only where they are many."""
        numbers = {column.name for column in self.columns if column.is_number}
        least = max(_MANY, rows * _BEYOND)
        words, values = (
            _some([f"{name} ({counts[name]:,} {'row' if counts[name] == 1 else 'rows'})" for name in names])
            for names in (
                [name for name, _ in counts.most_common() if name not in numbers],
                [name for name, count in counts.most_common() if name in numbers and count >= least],
            )
        )
        if words and values:
            return f"have other words in {words} and larger or smaller numbers in {values}"
        return f"have other words in {words}" if words else f"have larger or smaller numbers in {values}" if values else ""


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
