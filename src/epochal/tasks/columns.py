"""Columns of targets: their content, and their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from epochal.errors import DataError
from epochal.shown import are, counted


def is_binary(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether all targets are 0 or 1."""
    return all(bool(((tensor == 0) | (tensor == 1)).all()) for tensor in tensors.values())


def is_one_hot(tables: Mapping[str, Tensor]) -> bool:
    """Return whether each row of targets has a single 1, and is 0 elsewhere."""
    return is_binary(tables) and all(bool((table.sum(1) == 1).all()) for table in tables.values())


def name_columns(
    columns: dict[str, Tensor], names: tuple[str, ...] | None, known: tuple[str, ...] | None, stem: str = ""
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Name the columns of targets, or put them into the order of `known`, the outputs of a trained model.

    Columns without `names` are named by the `stem` and their number, or are the known ones in order. Raises `DataError`.
    """
    width = columns["train"].shape[1]
    if names is not None and len(names) != width:
        raise DataError(
            f"There {are(len(names))} {counted(len(names), 'name')} for {counted(width, 'column')} of targets.",
            "Give one for each column, or choose another task.",
        )
    if known is None:
        return columns, names or ((stem,) if stem and width == 1 else tuple(f"{stem}{number}" for number in range(width)))
    if names is None:
        if width != len(known):
            raise DataError(f"The targets have {counted(width, 'column')}; the model gives {len(known)}.", "Pass the same columns.")
        return columns, known
    places = match_names(names, known, "output", "Name the columns as in training.")
    lacking = [name for name in known if name not in names]
    if lacking:
        raise DataError(f"The targets lack a column '{lacking[0]}', which the model gives.", "Pass the same columns.")
    order = torch.tensor(places).argsort()
    return {name: table[:, order] for name, table in columns.items()}, known


def match_names(names: Sequence[str], known: Sequence[str], what: str, fix: str) -> list[int]:
    """Return the places of `names` among `known`, the outputs of a trained model. Raises `DataError`, with a `fix`."""
    places = {name: place for place, name in enumerate(known)}
    unknown = [name for name in names if name not in places]
    if unknown:
        listed = ", ".join(known[:10]) + ", ..." * (len(known) > 10)
        raise DataError(f"The model does not know the {what} '{unknown[0]}'; it knows {listed}.", fix)
    return [places[name] for name in names]
