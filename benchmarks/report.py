"""Reports of results: numbers with their spread, tables, bars, and files that name the command, the machine and the versions."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.environment import RESULTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, GREY = "#0072B2", "#B0B0B0"
_PACKAGES = (
    *("epochal", "torch", "torchvision", "lightning", "skorch", "keras", "fastai", "transformers", "accelerate"),
    *("lightgbm", "scikit-learn", "soundfile", "webdataset", "litdata", "numpy", "pillow"),
)


@dataclass(frozen=True)
class Spread:
    """The middle, the least and the most of some numbers."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of `values`."""
        return cls(statistics.median(values), min(values), max(values))

    def __format__(self, form: str) -> str:
        return f"{self.median:{form}} ({self.low:{form}}–{self.high:{form}})"


@dataclass(frozen=True)
class Mean:
    """The mean of some numbers, and their standard deviation, where they are several."""

    mean: float
    std: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Mean:
        """Return the mean of `values`."""
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)

    def __format__(self, form: str) -> str:
        return f"{self.mean:{form}}" + ("" if self.std is None else f" ± {self.std:{form}}")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose first column is words and whose others are numbers."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def bars(axes: Axes, title: str, names: Sequence[str], spreads: Sequence[Spread], words: Sequence[str], ours: Sequence[bool]) -> None:
    """Draw medians as bars from the top down, `words` behind each; thin lines show the least and the most; ours are blue."""
    middles = [spread.median for spread in spreads]
    reach = [[spread.median - spread.low for spread in spreads], [spread.high - spread.median for spread in spreads]]
    axes.barh(range(len(spreads)), middles, xerr=reach, color=[BLUE if own else GREY for own in ours], ecolor="black", capsize=2)
    for place, (spread, word) in enumerate(zip(spreads, words, strict=True)):
        axes.annotate(f"  {word}", (spread.high, place), va="center", fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_title(title, fontsize=10)
    axes.set_xlim(0, 1.3 * max((spread.high for spread in spreads), default=1.0))
    axes.spines[["top", "right"]].set_visible(False)


def publish(options: argparse.Namespace, title: str, text: str, content: dict[str, Any], figure: Figure) -> None:
    """Print the Markdown `text`, and write NAME.json (all of `content`), .md, .png and .svg, unless this was only a quick look."""
    print(text)
    if not options.quick:
        for file in write(RESULTS, options.name, title, text, content, figure):
            print(f"wrote {os.path.relpath(file)}")


def write(folder: Path, name: str, title: str, text: str, content: dict[str, Any], figure: Figure) -> list[Path]:
    """Write NAME.json, NAME.md, NAME.png and NAME.svg into `folder`, and return the files."""
    from epochal.figures import save

    folder.mkdir(parents=True, exist_ok=True)
    # First of all, for it refuses to replace pictures that are not ours.
    pictures = save(figure, folder / name)
    data, page = folder / f"{name}.json", folder / f"{name}.md"
    conditions = {"command": _command(), **_machine()}
    data.write_text(json.dumps({**conditions, **content}, indent=1, ensure_ascii=False) + "\n", "utf-8")
    listed = "  \n".join(f"{key}: {value}" for key, value in {**conditions, "packages": _listed(conditions["packages"])}.items())
    page.write_text(f"# {title}\n\n{text.strip()}\n\n![{title}]({name}.svg)\n\n{listed}\n", "utf-8")
    return [data, page, *pictures]


def _command() -> str:
    """What was typed, less where the folders of this machine lie."""
    words = ["FOLDER" if Path(word).is_dir() else word for word in sys.argv[1:]]
    return " ".join(["python3", f"benchmarks/{Path(sys.argv[0]).name}", *words])


def _machine() -> dict[str, Any]:
    """What the numbers depend on besides the programs: processor, system, versions."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor() or platform.machine())
    return {
        "processor": f"{model}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _listed(packages: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in packages.items())
