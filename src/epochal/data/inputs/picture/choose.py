"""The default size of pictures, and the default way to fit files to it."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from statistics import median, median_low

from epochal.data.inputs.base import MAX_NUMBERS
from epochal.data.inputs.picture.read import Measured
from epochal.data.inputs.picture.rule import PictureRule, ResizeMode
from epochal.errors import DataError

# By default the short side of an input has at most this many pixels: small networks learn fast on that.
_SHORT_SIDE = 64


def choose_rule(
    measured: Sequence[Measured], size: int | tuple[int, int] | None, fit: ResizeMode | None
) -> tuple[PictureRule, tuple[str, ...]]:
    """Return a suitable rule for the measured pictures, with notes on choices that matter.

    `size` (pixels, or (height, width)) and `fit` are used if given. Otherwise small pictures of one size keep it, and
    others are resized to a short side of 64 pixels or less, in their common aspect ratio or square.
    """
    aspects = [picture.width / picture.height for picture in measured]
    chosen = _choose_size(measured, aspects) if size is None else (size, size) if isinstance(size, int) else size
    wanted = chosen[1] / chosen[0]
    least_kept = min(min(aspect / wanted, wanted / aspect) for aspect in aspects)
    # Pictures of similar aspect ratios are all distorted in the same way: that hurts less than losing edges or adding bars.
    why: dict[ResizeMode, str] = {
        "squash": "aspect ratios agree",
        "crop": f"at least {least_kept:.0%} of every picture stays",
        "pad": f"aspect ratios vary from {min(aspects):.2g} to {max(aspects):.2g}",
    }
    best: ResizeMode = "squash" if _agree(aspects) else "crop" if least_kept >= 0.9 else "pad"
    channels = 1 if all(picture.grey for picture in measured) else 3
    if channels * prod(chosen) > MAX_NUMBERS:
        raise DataError(
            f"The size of {chosen[0]:,}×{chosen[1]:,} pixels is beyond the limit of {MAX_NUMBERS:,} numbers.", "Choose a smaller data.size."
        )
    rule = PictureRule(shape=(channels, *chosen), fit=fit or best)

    # A choice is worth a note if another one would have given different pixels.
    is_resized = any((picture.height, picture.width) != chosen for picture in measured)
    is_size_chosen = size is None and is_resized
    is_fit_chosen = fit is None and is_resized and least_kept < 0.98
    if not (is_size_chosen or is_fit_chosen):
        return rule, ()
    reason = f" ({best}: {why[best]})" if is_fit_chosen else ""
    settings = ["data.size"] * is_size_chosen + ["data.fit"] * is_fit_chosen
    change = "changes" if len(settings) == 1 else "change"
    return rule, (
        f"pictures of {_span(measured)} pixels are read at {chosen[0]}×{chosen[1]}{reason}; {' and '.join(settings)} {change} it",
    )


def _choose_size(measured: Sequence[Measured], aspects: Sequence[float]) -> tuple[int, int]:
    height, width = measured[0][:2]
    if _is_one_size(measured) and max(height, width) <= _SHORT_SIDE:
        return height, width
    short = min(_SHORT_SIDE, median_low(min(picture.height, picture.width) for picture in measured))
    if not _agree(aspects) or min(aspects) <= 1 <= max(aspects):
        return short, short
    aspect = median(aspects)
    return (short, round(short * aspect)) if aspect > 1 else (round(short / aspect), short)


def _is_one_size(measured: Sequence[Measured]) -> bool:
    return all(picture[:2] == measured[0][:2] for picture in measured)


def _agree(aspects: Sequence[float]) -> bool:
    return max(aspects) <= 1.1 * min(aspects)


def _span(measured: Sequence[Measured]) -> str:
    if _is_one_size(measured):
        return f"{measured[0].height}×{measured[0].width}"
    sides = [side for picture in measured for side in (picture.height, picture.width)]
    return f"{min(sides):,} to {max(sides):,}"
