"""How data are to be read: what the user asked for, as one value from `load` to the sources."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from epochal.data.exclude import NOTHING, Exclusion
from epochal.data.inputs.base import InputRule
from epochal.data.inputs.picture.rule import ResizeMode
from epochal.data.spec import DataSpec

Unreadable = Literal["stop", "count"]


@dataclass(frozen=True)
class ReadOptions:
    """The options of `load`, checked. `memory` is in bytes; `None` leaves a choice to the source."""

    size: int | tuple[int, int] | None = None
    fit: ResizeMode | None = None
    memory: float | None = None
    like: DataSpec | None = None
    exclusion: Exclusion = field(default=NOTHING)
    unreadable: Unreadable = "stop"
    input: InputRule | str | None = None


NO_OPTIONS = ReadOptions()
