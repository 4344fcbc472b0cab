"""Pictures of how training went and of what the model gets right and wrong.

All are drawn by matplotlib's objects, without pyplot: no window, no figure left behind. What is drawn can be read without
colours, and with the colours by colour-blind people (palette: M. Okabe and K. Ito, "Color universal design", 2008).
"""

from __future__ import annotations

import functools
import io
import itertools
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar

import matplotlib as mpl
import numpy
import torch
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import BboxImage
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter
from matplotlib.transforms import Bbox, TransformedBbox
from rich.cells import cell_len
from torch import Tensor

from epochal.data.examples import Examples
from epochal.data.spec import DataSpec
from epochal.errors import DataError
from epochal.evaluation.evaluate import Evaluation
from epochal.evaluation.metrics import plain, r2_words
from epochal.fonts import families, find_fonts, printable, short
from epochal.io.files import check_output, write_bytes
from epochal.training.records import EpochDone
from epochal.tuning.profile import Profile

_BLUE, _VERMILLION, _GREY = "#0072B2", "#D55E00", "#5F5F5F"
_GREEN, _ORANGE, _SKY = "#009E73", "#E69F00", "#56B4E9"
# Who made them stands in both files, and tells them from other people's.
_MADE_BY = b"Epochal, by Matplotlib"
_FORMATS: dict[str, dict[str, Any]] = {
    "png": {"dpi": 150, "metadata": {"Software": _MADE_BY.decode()}},
    "svg": {"metadata": {"Creator": _MADE_BY.decode(), "Date": None}},
}
_CELLS_WITH_TEXT = 20
_MOST_PANELS = 4
_VERY_DIFFERENT = 30
_COLUMNS, _ROWS = 6, 2
_WIDTH, _HEADING = 9.6, 0.4

P = ParamSpec("P")
T = TypeVar("T")


def _styled(draw: Callable[P, T]) -> Callable[P, T]:
    """Draw in our style whatever the user's matplotlibrc says, and leave that as it is."""

    @functools.wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> T:
        with _style():
            return draw(*args, **kwargs)

    return styled


@contextmanager
def _style() -> Iterator[None]:
    # Newer type stubs of matplotlib list the allowed names, older ones take any.
    settings: Any = {
        "font.family": families(),
        "font.size": 9,
        "axes.titlesize": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": _GREY,
        "axes.labelcolor": _GREY,
        "xtick.color": _GREY,
        "ytick.color": _GREY,
        "legend.frameon": False,
        "figure.constrained_layout.w_pad": 0.08,
        "figure.constrained_layout.h_pad": 0.08,
        # A class may be called "$5": dollars are no mathematics here.
        "text.parse_math": False,
        # Text stays text: small files that can be searched, and a browser has the fonts that this machine may lack.
        "svg.fonttype": "none",
        # Matplotlib makes up ids in SVG files, and this is what makes them the same each time.
        "svg.hashsalt": "epochal",
    }
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(settings)
        yield


def _with_fonts_for(names: Sequence[str]) -> bool:
    """Draw from here on with fonts for names; return whether all their letters are there."""
    lacking = find_fonts(names)
    mpl.rcParams["font.family"] = families()
    return not lacking


def _readable(names: Sequence[str]) -> list[str]:
    """Return the names, with their numbers before them where no font here has their letters: boxes all look the same."""
    shown = [printable(name) for name in names]
    return shown if _with_fonts_for(names) else [f"{number}: {name}" for number, name in enumerate(shown)]


def draw_all(
    folder: Path, epochs: Sequence[EpochDone], evaluation: Evaluation | None, examples: Examples | None, spec: DataSpec
) -> list[Path]:
    """Write every figure that fits the task into `folder`, that of a run, which must exist; return the files.

    `evaluation` is that of `examples`, in their order; both are `None` where there were no test data.
    """
    figures: dict[str, Figure | None] = {"learning-curves": learning_curves(epochs)}
    if evaluation is not None and examples is not None:
        figures |= {
            "confusion": confusion(evaluation, spec.outputs) if evaluation.confusion is not None else None,
            "predictions": predictions(examples, evaluation, spec),
            "regression": regression(evaluation, spec.outputs) if evaluation.task == "regression" else None,
        }
    return [file for name, figure in figures.items() if figure is not None for file in _write(figure, folder / name)]


def save(figure: Figure, path: Path) -> list[Path]:
    """Write `figure` as PNG and as SVG to `path` plus .png and .svg; the same figure gives the same bytes.

    A figure of ours there is replaced. Raises `OutputError` where something else is, and when the disk refuses.
    """
    for kind in _FORMATS:
        check_output(_file(path, kind), _MADE_BY)
    return _write(figure, path)


@_styled
def _write(figure: Figure, path: Path) -> list[Path]:
    written = []
    for kind, options in _FORMATS.items():
        content = io.BytesIO()
        with warnings.catch_warnings():
            # Class names may be in a script that no font of this machine has: the PNG then shows boxes, beside the number of
            # the class; a browser shows the SVG right. Nobody can do anything about the warning for each such letter.
            warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font", UserWarning)
            figure.savefig(content, format=kind, **options)
        # What the first format laid out stays for the second.
        figure.set_layout_engine("none")
        write_bytes(_file(path, kind), content.getvalue())
        written.append(_file(path, kind))
    return written


def _file(path: Path, kind: str) -> Path:
    return path.with_name(f"{path.name}.{kind}")


@_styled
def learning_curves(epochs: Sequence[EpochDone]) -> Figure:
    """Return training and validation loss over the epochs and, with validation data, accuracy or R² beside it."""
    validated = [done.valid for done in epochs if done.valid is not None]
    # Laid out by hand, as there is room for any number at the axes: a layout engine would take as long as drawing does.
    wide = 9.0 if validated else 5.0
    figure = Figure(figsize=(wide, 3.4))
    panels = figure.subplots(1, 2 if validated else 1, squeeze=False)[0]
    figure.subplots_adjust(left=0.8 / wide, right=1 - 0.2 / wide, bottom=0.16, top=0.9, wspace=0.25)
    numbers = [done.epoch for done in epochs]
    _curve(panels[0], numbers, [done.train_loss for done in epochs], "training", _BLUE, "o", "-")
    panels[0].set(title="Loss", xlabel="epoch")
    if validated:
        kept = next(index for index in reversed(range(len(epochs))) if epochs[index].is_best)
        losses = [valid.loss for valid in validated]
        _curve(panels[0], numbers, losses, "validation", _VERMILLION, "s", "--")
        _mark(panels[0], numbers[kept], losses[kept], f"{losses[kept]:.4g}")
        _draw_scores(panels[1], numbers, validated, kept)
    for axes in panels:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
        axes.set_xlim(min(numbers) - 0.5, max(numbers) + 0.5)
        axes.grid(axis="y", alpha=0.3)
        axes.legend()
    return figure


def _draw_scores(axes: Axes, epochs: Sequence[int], validated: Sequence[Evaluation], kept: int) -> None:
    if validated[0].task == "regression":
        scores = [valid.r2 or 0.0 for valid in validated]
        words = f"{scores[kept]:.4f}"
        title = "Validation R²"
    else:
        scores = [valid.accuracy or 0.0 for valid in validated]
        words = f"{100 * scores[kept]:.2f} %"
        title = "Validation accuracy"
    _curve(axes, epochs, scores, "validation", _VERMILLION, "s", "--")
    _mark(axes, epochs[kept], scores[kept], words)
    axes.set(title=title, xlabel="epoch")
    if validated[0].task != "regression":
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, 0), min(high, 1))
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=" %"))


def _curve(axes: Axes, epochs: Sequence[int], values: Sequence[float], label: str, colour: str, marker: str, line: str) -> None:
    # Markers show the only point of a single epoch; over many epochs they would hide the line.
    marker = marker if len(epochs) <= 30 else ""
    axes.plot(epochs, values, line, color=colour, label=label, marker=marker, markersize=4, clip_on=False)


def _mark(axes: Axes, epoch: int, value: float, words: str) -> None:
    """Circle the epoch whose weights were kept; its number stands in the legend, where no line can cross it."""
    circle = {"markersize": 11, "markerfacecolor": "none", "markeredgecolor": "black"}
    axes.plot([epoch], [value], "o", label=f"kept: epoch {epoch}, {words}", clip_on=False, **circle)  # type: ignore[arg-type]


@_styled
def confusion(evaluation: Evaluation, names: Sequence[str]) -> Figure:
    """Return the confusion matrix: a row for each true class, a column for each predicted one.

    The colour is the share of the row, spread at the low end so that rare mistakes show; the numbers are counts, left out
    beyond twenty classes.
    """
    assert evaluation.confusion is not None
    counts = evaluation.confusion
    shares = (counts / counts.sum(1, keepdim=True).clamp(min=1)).numpy()
    shown = [short(name, 20) for name in _readable(names)]
    number = len(shown)
    side = max(2.4, 0.46 * number) if number <= _CELLS_WITH_TEXT else min(13.0, 5 + 0.09 * number)
    # Of many classes only some are named: a thousand names are slow to draw and too small to read.
    every = -(-number // 100)
    size = min(9.0, 0.75 * 72 * side * every / number)
    # Inches that the names take at the side and, where they do not fit side by side, below.
    room = size / 72 * 0.65 * max(map(cell_len, shown))
    turned = room > 0.9 * side * every / number
    figure = Figure(figsize=(side + room + 1.5, side + (room if turned else 0.15) + 0.7), layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
    percent = PercentFormatter(xmax=1, decimals=0, symbol=" %")
    bar = figure.colorbar(picture, ax=axes, shrink=0.8, ticks=[0, 0.01, 0.05, 0.1, 0.25, 0.5, 1], format=percent)
    bar.set_label("share of the true class")
    axes.set_xticks(range(0, number, every), shown[::every], rotation=90 if turned else 0, fontsize=size)
    axes.set_yticks(range(0, number, every), shown[::every], fontsize=size)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    right = int(counts.diagonal().sum())
    axes.set(xlabel="predicted", ylabel="true", title=f"{right:,} of {evaluation.count:,} right ({100 * right / evaluation.count:.1f} %)")
    if number <= _CELLS_WITH_TEXT:
        _write_counts(axes, counts, shares)
    return figure


def _write_counts(axes: Axes, counts: Tensor, shares: Any) -> None:
    """Write each count into its cell; a cell of none stays empty, so that the mistakes stand out."""
    widest = len(f"{int(counts.max()):,}")
    for row, column in counts.nonzero().tolist():
        colour = "white" if shares[row, column] > 0.35 else "black"
        axes.text(column, row, f"{int(counts[row, column]):,}", ha="center", va="center", color=colour, fontsize=9 if widest <= 4 else 7)


class _Answers(NamedTuple):
    """What was predicted for each example, how sure the model was, what is true, and whether that is the same."""

    predicted: list[str]
    sure: Tensor
    true: list[str]
    right: Tensor


@_styled
def predictions(examples: Examples, evaluation: Evaluation, spec: DataSpec) -> Figure | None:
    """Return a few pictures with what the model says: its most confident mistakes, and some that it gets right.

    `None` where the inputs are no pictures, or where right and wrong do not apply (regression).
    """
    if not _is_picture(spec.shape) or evaluation.task == "regression":
        return None
    read = _read(evaluation, _readable(spec.outputs))
    wrong = (~read.right).nonzero()[:, 0]
    wrong = wrong[read.sure[wrong].argsort(descending=True, stable=True)]
    right = read.right.nonzero()[:, 0]
    most = _COLUMNS * _ROWS
    evenly = torch.linspace(0, len(right) - 1, min(most, len(right))).round().long()
    blocks = [
        (f"✗ Wrong: {len(wrong):,} of {evaluation.count:,}, the most confident first", wrong[:most], _VERMILLION, "✗"),
        (f"✓ Right: {len(right):,} of {evaluation.count:,}, evenly chosen", right[evenly], _BLUE, "✓"),
    ]
    blocks = [block for block in blocks if len(block[1])]
    high = _cell(spec.shape)[1]
    heights = [_HEADING + high * -(-len(places) // _COLUMNS) for _, places, _, _ in blocks]
    top = sum(heights)
    figure = Figure(figsize=(_WIDTH, top))
    for (title, places, colour, mark), height in zip(blocks, heights, strict=True):
        place_in_inches: Any = {"transform": figure.dpi_scale_trans, "ha": "center", "va": "top"}
        figure.text(_WIDTH / 2, top - 0.1, title, color=colour, fontsize=11, fontweight="bold", **place_in_inches)
        _draw_block(figure, top - _HEADING, places.tolist(), colour, mark, examples, read)
        top -= height
    return figure


def _cell(shape: tuple[int, ...]) -> tuple[float, float]:
    """Return the width of a picture in a block, and the height of it with what is written above and below, in inches."""
    wide = _WIDTH / _COLUMNS - 0.3
    return wide, wide * _aspect(shape) + 0.7


def _draw_block(figure: Figure, top: float, places: Sequence[int], colour: str, mark: str, examples: Examples, read: _Answers) -> None:
    """Draw pictures in rows, from `top` inches above the lower edge downwards.

    They are laid out by hand: a set of axes for each, and a layout engine to place them, would take ten times as long.
    """
    inches = figure.dpi_scale_trans
    around: Any = {"transform": inches, "ha": "center", "va": "top", "fontsize": 8}
    for number, place in enumerate(places):
        picture = examples.input(place)
        wide, high = _cell(tuple(picture.shape))
        row, column = divmod(number, _COLUMNS)
        middle, above = _WIDTH / _COLUMNS * (column + 0.5), top - row * high
        figure.text(
            middle, above, f"{mark} {short(read.predicted[place], 18)}\ntrue: {short(read.true[place], 16)}", linespacing=1.2, **around
        )
        height, width = (share * wide for share in _fitted(picture))
        bounds = (middle - width / 2, above - 0.34 - height, width, height)
        image = BboxImage(TransformedBbox(Bbox.from_bounds(*bounds), inches), cmap="gray", norm=Normalize(0, 255), interpolation="nearest")
        image.set_data(_pixels(picture))
        figure.add_artist(image)
        figure.add_artist(Rectangle(bounds[:2], width, height, transform=inches, fill=False, edgecolor=colour, linewidth=2))
        figure.text(middle, bounds[1] - 0.05, _percent(float(read.sure[place])), color=_GREY, **around)


def _fitted(picture: Tensor) -> tuple[float, float]:
    """Return height and width of a picture that is to fit a cell of width 1."""
    high = _aspect(tuple(picture.shape))
    aspect = picture.shape[1] / picture.shape[2]
    return (high, high / aspect) if aspect > high else (aspect, 1.0)


def _read(evaluation: Evaluation, names: Sequence[str]) -> _Answers:
    if evaluation.task == "single-label":
        sure, best = evaluation.answers.max(1)
        targets = evaluation.targets
        return _Answers([names[index] for index in best.tolist()], sure, [names[index] for index in targets.tolist()], best == targets)
    found, there = evaluation.answers >= 0.5, evaluation.targets > 0.5
    # The probability of all the labels together, as if they were independent.
    sure = torch.maximum(evaluation.answers, 1 - evaluation.answers).prod(1)
    return _Answers(_joined(found, names), sure, _joined(there, names), (found == there).all(1))


def _joined(labels: Tensor, names: Sequence[str]) -> list[str]:
    return [", ".join(name for name, has in zip(names, row, strict=True) if has) or "none" for row in labels.tolist()]


@_styled
def regression(evaluation: Evaluation, names: Sequence[str]) -> Figure:
    """Return predicted against true values, a panel for each of the first four outputs; on the diagonal they are the same."""
    panels = min(len(names), _MOST_PANELS)
    columns = min(panels, 2)
    figure = Figure(figsize=(4.4 * columns, 4.2 * -(-panels // columns) + 0.3), layout="constrained")
    grid = figure.subplots(-(-panels // columns), columns, squeeze=False).reshape(-1)
    targets = evaluation.targets.reshape(len(evaluation.answers), -1)
    for axes in grid[panels:]:
        axes.set_visible(False)
    for index, (axes, name) in enumerate(zip(grid, _readable(names)[:panels], strict=False)):
        _scatter(axes, targets[:, index], evaluation.answers[:, index])
        axes.set_title(short(name, 40))
    assert evaluation.r2 is not None
    assert evaluation.mae is not None
    of = f" (the first {panels} of {len(names)} outputs)" if panels < len(names) else ""
    figure.suptitle(f"R² {r2_words(evaluation.r2)}, mean absolute error {plain(evaluation.mae, 4)}{of}")
    return figure


def _scatter(axes: Axes, true: Tensor, predicted: Tensor) -> None:
    low = min(float(true.min()), float(predicted.min()))
    high = max(float(true.max()), float(predicted.max()))
    margin = (high - low) * 0.05 or 0.5
    limits = (low - margin, high + margin)
    axes.plot(limits, limits, "--", color=_GREY, linewidth=1, label="predicted = true")
    # Many points overlap: transparency shows how many, and pixels instead of circles keep the SVG small.
    many = len(true) > 500
    axes.scatter(true, predicted, s=8 if many else 16, alpha=0.3 if many else 0.6, color=_BLUE, linewidths=0, rasterized=many)
    axes.set(xlim=limits, ylim=limits, aspect="equal", xlabel="true", ylabel="predicted")
    axes.legend(loc="upper left")


@_styled
def speeds(profiles: Sequence[Profile]) -> Figure:
    """Return examples a second by batch size, a line for each device, and how the time of a step divides into its phases."""
    figure = Figure(figsize=(_WIDTH, max(3.4, 1.6 + 0.3 * len(profiles))), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.2))
    devices = list(dict.fromkeys(one.device for one in profiles))
    for device, colour, marker in zip(devices, itertools.cycle((_BLUE, _VERMILLION, _GREEN, _GREY)), itertools.cycle("os^D"), strict=False):
        shown = sorted((one for one in profiles if one.device == device), key=lambda one: one.batch_size)
        sizes = [one.batch_size for one in shown]
        left.plot(sizes, [one.examples_per_second for one in shown], "-", marker=marker, color=colour, label=device, clip_on=False)
        floors = [one.floor or numpy.nan for one in shown]
        if not numpy.isnan(floors).all():
            left.plot(sizes, floors, ":", marker=marker, markerfacecolor="white", color=colour, label=f"{device}, its arithmetic alone")
    left.set(title="Examples per second", xlabel="batch size", xscale="log")
    # On one scale from zero, the slower of two very different devices would lie on the axis.
    all_speeds = [speed for one in profiles for speed in (one.examples_per_second, one.floor) if speed is not None]
    if max(all_speeds) > _VERY_DIFFERENT * min(all_speeds):
        left.set_yscale("log")
    else:
        left.set_ylim(0, None)
    left.set_xticks(
        sorted({one.batch_size for one in profiles}), labels=[str(size) for size in sorted({one.batch_size for one in profiles})]
    )
    left.minorticks_off()
    left.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    left.grid(axis="y", alpha=0.3)
    # Below, where no line can cross it.
    figure.legend(*left.get_legend_handles_labels(), ncols=4, loc="outside lower center")
    _draw_shares(right, profiles)
    return figure


def _draw_shares(axes: Axes, profiles: Sequence[Profile]) -> None:
    places = range(len(profiles))
    begins = numpy.zeros(len(profiles))
    for phase, colour, ink in zip(profiles[0].shares, (_GREY, _SKY, _BLUE, _ORANGE), ("white", "black", "white", "black"), strict=True):
        shares = numpy.array([one.shares[phase] for one in profiles])
        bars = axes.barh(places, shares, left=begins, color=colour, edgecolor="white", label=phase)
        axes.bar_label(
            bars, [f"{100 * share:.0f}" if share >= 0.05 else "" for share in shares], label_type="center", color=ink, fontsize=8
        )
        begins += shares
    axes.set_yticks(places, labels=[f"{one.device}, {one.batch_size}" for one in profiles])
    axes.invert_yaxis()
    axes.set_title("Share of the time of a step", pad=24)
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=" %"))
    axes.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1), handlelength=1, columnspacing=1)


@_styled
def single(picture: Tensor, title: str) -> Figure:
    """Return one picture, [channels, height, width] of 1 or 3 channels, under `title`. Raises `DataError` for anything else."""
    if not _is_picture(tuple(picture.shape)):
        raise DataError(f"Inputs of shape {tuple(picture.shape)} are no pictures.", "Only pictures can be drawn.")
    _with_fonts_for([title])
    words = textwrap.fill(printable(title), 38)
    figure = Figure(figsize=(4, 4 * _aspect(tuple(picture.shape)) + 0.4 + 0.2 * words.count("\n")), layout="constrained")
    axes = figure.subplots()
    _show(axes, picture)
    axes.set_title(words, fontsize=12)
    return figure


def _is_picture(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and shape[0] in (1, 3)


def _aspect(shape: tuple[int, ...]) -> float:
    """Height by width, within reason: a strip of a picture would leave no room for words."""
    return min(2.0, max(0.3, shape[1] / shape[2]))


def _show(axes: Axes, picture: Tensor) -> None:
    axes.imshow(_pixels(picture), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _pixels(picture: Tensor) -> Any:
    """Return [channels, height, width] as uint8 [height, width] of one channel, or [height, width, 3]."""
    pixels = picture.detach().cpu()
    if pixels.dtype != torch.uint8:
        # Other numbers have no black and white of their own: what is not 0 to 1 is stretched to it.
        pixels = pixels.float()
        low, high = min(0.0, float(pixels.min())), max(1.0, float(pixels.max()))
        pixels = ((pixels - low) / (high - low) * 255).round().to(torch.uint8)
    shown = numpy.asarray(pixels.movedim(0, -1))
    return shown[..., 0] if len(picture) == 1 else shown


def _percent(share: float) -> str:
    """Write a probability; one that is not 1 never reads as 100 %."""
    return f"{100 * share:.1f} %" if share < 0.9995 else "> 99.9 %"
