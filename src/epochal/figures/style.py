"""The look of our figures, and the files that they become.

All are drawn with matplotlib's objects, without pyplot and its global state. They can be read without
colours, and with the colours by colour-blind people (palette: M. Okabe and K. Ito, "Color universal design", 2008).
"""

from __future__ import annotations

import functools
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl
from matplotlib.figure import Figure

from epochal.evaluation.shown_examples import Block
from epochal.figures.fonts import families, find_fonts, printable
from epochal.io.files import check_output, write_bytes

BLUE, VERMILLION, GREY = "#0072B2", "#D55E00", "#5F5F5F"
GREEN, ORANGE, SKY = "#009E73", "#E69F00", "#56B4E9"
WIDTH = 9.6

# Both files name their maker, which distinguishes them from other people's.
_MADE_BY = b"Epochal, by Matplotlib"
_FORMATS: dict[str, dict[str, Any]] = {
    # Little more compression than this would take as long as drawing.
    "png": {"dpi": 150, "metadata": {"Software": _MADE_BY.decode()}, "pil_kwargs": {"compress_level": 3}},
    "svg": {"metadata": {"Creator": _MADE_BY.decode(), "Date": None}},
}

P = ParamSpec("P")
T = TypeVar("T")


def styled(draw: Callable[P, T]) -> Callable[P, T]:
    """Draw in our style whatever the user's matplotlibrc says, and leave that unchanged."""

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
        "axes.edgecolor": GREY,
        "axes.labelcolor": GREY,
        "xtick.color": GREY,
        "ytick.color": GREY,
        "legend.frameon": False,
        "figure.constrained_layout.w_pad": 0.08,
        "figure.constrained_layout.h_pad": 0.08,
        # A class may be called "$5": dollar signs do not begin a formula here.
        "text.parse_math": False,
        # Text stays text: small files that can be searched, and a browser has the fonts that this machine may lack.
        "svg.fonttype": "none",
        # Matplotlib derives ids in SVG files from this: the same ones each time.
        "svg.hashsalt": "epochal",
    }
    # Matplotlib would say of every font in the list that has no bold face, which few Chinese ones have, that another stands in.
    fonts = logging.getLogger("matplotlib.font_manager")
    level = fonts.level
    fonts.setLevel(logging.ERROR)
    try:
        with mpl.rc_context():
            mpl.rcdefaults()
            mpl.rcParams.update(settings)
            yield
    finally:
        fonts.setLevel(level)


def colour_of(block: Block) -> str:
    """Return the colour of mistakes, or of right answers."""
    return VERMILLION if block.is_wrong else BLUE


def with_fonts_for(names: Sequence[str]) -> bool:
    """Draw from here on with fonts that have the letters of `names`; return whether all of them were found."""
    lacking = find_fonts(names)
    mpl.rcParams["font.family"] = families()
    return not lacking


def readable(names: Sequence[str]) -> list[str]:
    """Return the names, preceded by their numbers if a font is missing for any of them: boxes all look the same."""
    shown = [printable(name) for name in names]
    return shown if with_fonts_for(names) else [f"{number}: {name}" for number, name in enumerate(shown)]


def save(figure: Figure, path: Path) -> list[Path]:
    """Write `figure` as PNG and as SVG to `path` plus .png and .svg; the same figure gives the same bytes.

    A figure of ours is replaced. Raises `OutputError` where another file is in the way, and when the disk refuses.
    """
    for kind in _FORMATS:
        check_output(_file(path, kind), _MADE_BY)
    return write(figure, path)


@styled
def write(figure: Figure, path: Path) -> list[Path]:
    """Write `figure` as `save` does, whatever is there already."""
    written = []
    for kind, options in _FORMATS.items():
        content = io.BytesIO()
        with warnings.catch_warnings():
            # Class names may be in a script that no installed font has: the PNG then shows boxes, after the number of the
            # class, and browsers show the SVG correctly. A warning for each character would not help.
            warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font", UserWarning)
            figure.savefig(content, format=kind, **options)
        # The second format keeps the layout of the first.
        figure.set_layout_engine("none")
        write_bytes(_file(path, kind), content.getvalue())
        written.append(_file(path, kind))
    return written


def _file(path: Path, kind: str) -> Path:
    return path.with_name(f"{path.name}.{kind}")
