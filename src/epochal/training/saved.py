"""The state of training in a checkpoint: tensors and JSON values by name. Values are validated before they are used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Protocol, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

# Names are paths: "best/weights/0.bias" is what `best` calls "weights/0.bias".
State: TypeAlias = dict[str, Any]
Count = Annotated[int, Field(ge=0)]


class Stateful(Protocol):
    """An object with a state from which it can continue."""

    def state_dict(self) -> State:
        """Return everything that determines what comes next."""

    def load_state_dict(self, state: State, /) -> object:
        """Continue from a state. Raises `ValueError` for one that no training can reach."""


class Saved(BaseModel):
    """JSON values of exactly these types."""

    model_config = ConfigDict(strict=True, extra="forbid")

    @classmethod
    def read(cls, state: Mapping[str, Any], tensors: Mapping[str, Tensor] | None = None) -> Self:
        """Return the saved values; `state` must also have tensors with the names and shapes of `tensors`. Raises `ValueError`."""
        check_tensors({name: value for name, value in state.items() if isinstance(value, Tensor)}, tensors or {})
        try:
            # As JSON, so that objects become dataclasses.
            return cls.model_validate_json(json.dumps({name: value for name, value in state.items() if not isinstance(value, Tensor)}))
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def nested(parts: Mapping[str, Mapping[str, Any]]) -> State:
    """Return the states of `parts` as one."""
    return {f"{part}/{name}": value for part, state in parts.items() for name, value in state.items()}


def part(state: Mapping[str, Any], name: str) -> State:
    """Return the state of a part."""
    return {path.removeprefix(f"{name}/"): value for path, value in state.items() if path.startswith(f"{name}/")}


def check_tensors(state: Mapping[str, Any], wanted: Mapping[str, Tensor]) -> None:
    """Raise `ValueError` unless the tensors in `state` have the names and shapes of those that are `wanted`."""
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor) or name not in wanted or tensor.shape != wanted[name].shape:
            raise ValueError(f"{name}{described(tensor)} does not belong to it")
    if missing := wanted.keys() - state.keys():
        raise ValueError(f"{min(missing)} is missing")


def described(value: object) -> str:
    """Return the shape of a tensor in words."""
    return f" of shape {tuple(value.shape)}" if isinstance(value, Tensor) else ""
