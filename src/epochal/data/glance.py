"""A few examples as a notebook shows them: as pictures, as text, or as values of a row, each with its target."""

from __future__ import annotations

from base64 import b64encode
from html import escape
from io import BytesIO
from typing import TYPE_CHECKING

import torch
from numpy.typing import NDArray

from epochal.data.examples import Examples
from epochal.data.inputs.base import InputRule
from epochal.data.inputs.values import access
from epochal.shown import table
from epochal.tasks.base import Task

if TYPE_CHECKING:
    import numpy as np

# So many examples; and of each so many values, or letters of its text.
_EXAMPLES, _VALUES, _LETTERS = 6, 6, 100

# Pictures are shown with this side, and those of up to `_EXACT` pixels are kept to the bit.
_SIDE, _EXACT = 72, 64


def glance(examples: Examples, rule: InputRule, task: Task) -> str:
    """Return HTML that shows some of the examples, evenly chosen; nothing where inputs are not in memory, or cannot be shown."""
    places = sorted({*torch.linspace(0, len(examples) - 1, _EXAMPLES).round().int().tolist()})
    judged = task.judge(task.sample_predictions(examples.targets), examples.targets, task.outputs)
    if judged is None or access(examples.inputs) != "memory":
        return ""
    inputs, true = [examples.input(place) for place in places], [judged.true(place) for place in places]
    drawn = [rule.draw(one) for one in inputs]
    if drawn[0] is not None:
        return "".join(_figure(pixels, words) for pixels, words in zip(drawn, true, strict=True) if pixels is not None)
    if examples.texts is not None:
        texts = [examples.text(place) for place in places]
        cut = [text[:_LETTERS] + "…" * (len(text) > _LETTERS) for text in texts]
        return table(("", "text"), [*zip(true, cut, strict=True)])
    cells = [rule.cells(one)[:_VALUES] for one in inputs]
    more = ("…",) * (len(rule.cells(inputs[0])) > _VALUES)
    return table(
        ("", *(cell.name for cell in cells[0]), *more),
        [(words, *(cell.words for cell in row)) for words, row in zip(true, cells, strict=True)] if cells[0] else (),
    )


def as_url(pixels: NDArray[np.uint8], side: int) -> str:
    """Return pixels [height, width] or [height, width, 3] as the address of a picture, which is in it, of at most this side."""
    from PIL import Image

    picture = Image.fromarray(pixels)
    exact = max(picture.size) <= _EXACT
    picture.thumbnail((side, side), Image.Resampling.BILINEAR)
    content = BytesIO()
    picture.save(content, "PNG" if exact else "JPEG", **({} if exact else {"quality": 82}))
    return f"data:image/{'png' if exact else 'jpeg'};base64,{b64encode(content.getvalue()).decode()}"


def _figure(pixels: NDArray[np.uint8], words: str) -> str:
    style = f"height:{_SIDE}px;image-rendering:pixelated;border-radius:4px;display:block;margin:0"
    return (
        '<figure style="display:inline-block;margin:.3em .6em 0 0">'
        f'<img alt="" src="{as_url(pixels, 2 * _SIDE)}" style="{style}"><figcaption><small>{escape(words)}</small></figcaption></figure>'
    )
