"""What speaks for a prediction: how much it loses without each part of the input, which is the simplest way that holds for every model.

Pictures lose patches, texts words, rows of tables columns, and sounds moments. That takes some dozens of predictions, whatever the input.
"""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from epochal.data.inputs.base import InputRule
from epochal.data.inputs.numbers import NumbersRule
from epochal.data.inputs.picture.rule import PictureRule
from epochal.data.inputs.sound.rule import SoundRule
from epochal.data.inputs.table.rule import TableRule
from epochal.data.inputs.text.rule import TextRule
from epochal.serve.refusal import RefusedError
from epochal.tasks.base import Task

# The most parts of a text, a row or a sound, and the cells of a picture to a side.
_MOST, _CELLS = 64, 8

# Pixels at the edge of a picture are of one colour if this share of them is within so many levels.
_SAME, _CLOSE = 0.75, 16

# Words; in scripts without blanks between words, characters.
_SCRIPTS = "\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff"
_WORDS = re.compile(rf"[{_SCRIPTS}]|[^\s{_SCRIPTS}]+")


class Plan(NamedTuple):
    """Inputs that each lack a part [n, *shape], and how what they lose [n] becomes a map."""

    inputs: Tensor
    draw: Callable[[list[float]], dict[str, Any]]


def plan(rule: InputRule, example: Tensor, text: str) -> Plan:
    """Return what to compute for an input [*shape]; `text` is what it was made of, if it was one. Raises `RefusedError`."""
    match rule:
        case PictureRule():
            return _picture(rule, example)
        case TextRule():
            return _text(rule, text)
        case TableRule():
            return _row(rule, example)
        case SoundRule():
            return _sound(example)
        case NumbersRule() if example.ndim == 1 and len(example) <= _MOST:
            return _columns(rule, example, torch.tensor(rule.mean).expand(len(example)).to(example.dtype))
    raise RefusedError(422, "no_explanation", "There is no explanation for such inputs.", "Ask for predictions.")


def losses(values: Tensor, task: Task) -> list[float]:
    """Return what each of the inputs after the first loses of the first's answer, from -1 to 1: values [1 + n, outputs]."""
    is_quantity = not task.has_accuracy
    best = int(task.answers(values[:1])) if task.has_classes else 0 if is_quantity else int(values[0].argmax())
    lost = values[0, best] - values[1:, best]
    lost = torch.nan_to_num(lost.abs() if is_quantity else lost)
    most = float(lost.abs().max()) if len(lost) else 0.0
    return [round(share, 4) for share in (lost / most if most > 1e-6 else lost * 0).tolist()]


def seen(rule: InputRule, example: Tensor) -> str | None:
    """Return the input as the network sees it: a picture in PNG as a URL; `None` if it has none."""
    pixels = rule.draw(example)
    if pixels is None:
        return None
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _picture(rule: PictureRule, example: Tensor) -> Plan:
    """Patches of two cells to a side, which overlap; each cell has the mean of its patches."""
    rows, columns = (min(_CELLS, side) for side in rule.side)
    spans = _spans(rows, rule.side[0]), _spans(columns, rule.side[1])
    high, wide = (min(2, count) for count in (rows, columns))
    places = [(row, column) for row in range(rows - high + 1) for column in range(columns - wide + 1)]
    colour, inputs = _ground(rule, example), example.repeat(len(places), 1, 1, 1)
    for patch, (row, column) in zip(inputs, places, strict=True):
        patch[:, spans[0][row] : spans[0][row + high], spans[1][column] : spans[1][column + wide]] = colour

    def draw(lost: list[float]) -> dict[str, Any]:
        total, count = np.zeros((rows, columns)), np.zeros((rows, columns))
        for (row, column), share in zip(places, lost, strict=True):
            total[row : row + high, column : column + wide] += max(share, 0.0)
            count[row : row + high, column : column + wide] += 1
        mean = total / count
        values = (mean / mean.max() if mean.max() > 0 else mean).round(4).ravel().tolist()
        return {"kind": "picture", "width": columns, "height": rows, "values": values}

    return Plan(inputs, draw)


def _ground(rule: PictureRule, example: Tensor) -> Tensor:
    """Return the colour of the edges [channels, 1, 1] if they have one, else the mean of all training pictures."""
    edges = torch.cat((example[:, [0, -1]].flatten(1), example[:, :, [0, -1]].flatten(1)), 1).double()
    middle = edges.median(1, keepdim=True).values
    close = _CLOSE if rule.is_bytes else _CLOSE / 255 * float(edges.max() - edges.min())
    if float(((edges - middle).abs() <= close).all(0).double().mean()) < _SAME:
        middle = torch.tensor(rule.mean, dtype=torch.float64).expand(len(example))[:, None] * (255 if rule.is_bytes else 1)
    return middle.to(example.dtype)[..., None]


def _text(rule: TextRule, text: str) -> Plan:
    words = list(_WORDS.finditer(text))
    if not words:
        raise RefusedError(422, "no_explanation", "The text has no words.", "Send a text.")
    step = math.ceil(len(words) / _MOST)
    spans = [(words[place].start(), words[min(place + step, len(words)) - 1].end()) for place in range(0, len(words), step)]
    inputs = rule.encode([text[:begin] + text[end:] for begin, end in spans])

    def draw(lost: list[float]) -> dict[str, Any]:
        parts = [{"text": text[begin:end], "weight": share} for (begin, end), share in zip(spans, lost, strict=True)]
        return {"kind": "words", "parts": parts}

    return Plan(inputs, draw)


def _row(rule: TableRule, example: Tensor) -> Plan:
    """Each column is missing, where training had missing values; else a number is in the middle, and a word unseen."""
    if len(example) > _MOST:
        raise RefusedError(
            422, "no_explanation", f"There are no explanations of rows with more than {_MOST} columns.", "Ask for predictions."
        )
    usual = []
    for column in rule.columns:
        middle = min(zip(column.scores, column.knots, strict=True), key=lambda pair: abs(pair[0]), default=(0.0, 0.0))[1]
        usual.append(math.nan if column.missing else middle)
    return _columns(rule, example, torch.tensor(usual))


def _columns(rule: InputRule, example: Tensor, usual: Tensor) -> Plan:
    inputs = example.repeat(len(example), 1)
    inputs.fill_diagonal_(0)
    inputs += torch.diag(usual).nan_to_num(0.0).to(inputs.dtype)
    places = usual.isnan().nonzero().flatten()
    inputs[places, places] = math.nan

    def draw(lost: list[float]) -> dict[str, Any]:
        cells = zip(rule.cells(example), lost, strict=True)
        return {"kind": "columns", "parts": [{"name": cell.name, "value": cell.words, "weight": share} for cell, share in cells]}

    return Plan(inputs, draw)


def _sound(example: Tensor) -> Plan:
    """Moments are silent, all the same length; a map is as wide as the spectrogram, and of one row."""
    count = min(_MOST // 2, example.shape[-1])
    spans = _spans(count, example.shape[-1])
    inputs = example.repeat(count, *[1] * example.ndim)
    for place in range(count):
        inputs[place, ..., spans[place] : spans[place + 1]] = 0

    def draw(lost: list[float]) -> dict[str, Any]:
        return {"kind": "picture", "width": count, "height": 1, "values": [max(share, 0.0) for share in lost]}

    return Plan(inputs, draw)


def _spans(count: int, length: int) -> list[int]:
    """Return where `count` parts of a length begin, and where the last ends."""
    return [round(place * length / count) for place in range(count + 1)]
