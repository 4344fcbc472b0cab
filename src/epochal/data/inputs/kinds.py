"""The input kinds. A new one is a class with the interface of `InputRule`, and a line here."""

from __future__ import annotations

from torch import Tensor

from epochal.data.inputs.base import InputRule
from epochal.data.inputs.numbers import NumbersRule
from epochal.data.inputs.picture.rule import PictureRule, are_pictures
from epochal.data.inputs.sound.rule import SoundRule
from epochal.data.inputs.table.rule import TableRule
from epochal.data.inputs.text.rule import TextRule

KINDS: dict[str, type[InputRule]] = {
    "numbers": NumbersRule,
    "picture": PictureRule,
    "sound": SoundRule,
    "table": TableRule,
    "text": TextRule,
}


def kind_of(sample: Tensor) -> type[InputRule]:
    """Return the default kind of arrays [n, ...]."""
    return PictureRule if are_pictures(sample) else NumbersRule
