"""The pictures in the book: `python -m docs.pictures` trains on data that it makes, and writes what reports and figures show of that."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

import torch

import epochal
from epochal.report import charts

HERE = Path(__file__).parent
PICTURES = HERE / "pictures"

# On a page of its own a chart has no colours to take: these are the report's, in the light.
_COLOURS = "svg { --text: #1c1e21; --soft: #5f6670; --card: #fff; --line: #dfe2e7; font-family: sans-serif; background: #fff }"


def draw() -> None:
    """Write all pictures."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        _confusion()
        _curves()
        _calibration()
        os.chdir(HERE)


def _confusion() -> None:
    """The confusion matrix of the fabrics of start/photos.md."""
    block = re.search(r"^```python\n(.*?)^```$", (HERE / "en" / "start" / "photos.md").read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert block is not None
    exec(block[1], {})
    run = epochal.train("fabrics", epochs=20, out="run", quiet=True)
    print(run.test)
    shutil.copy("run/figures/confusion.png", PICTURES)


def _curves() -> None:
    """Learning curves of a network that is far too large for points that overlap."""
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(400) % 2
    points = torch.randn(400, 20, generator=random) + 0.5 * labels[:, None] * (torch.arange(20) < 4)
    model = {"name": "mlp", "widths": [256, 256]}
    run = epochal.train((points, labels), model=model, epochs=30, schedule="constant", valid=0.4, out="curves", quiet=True)
    print(run.test)
    shutil.copy("curves/figures/learning-curves.svg", PICTURES / "curves.svg")


def _calibration() -> None:
    """The reliability diagram of such a network, whose last epoch was kept."""
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(3000) % 2
    points = torch.randn(3000, 20, generator=random) + 0.4 * labels[:, None] * (torch.arange(20) < 4)
    run = epochal.train((points, labels), model={"name": "mlp", "widths": [128]}, epochs=20, test=0.5, keep="last", quiet=True)
    assert run.assessment is not None
    found = run.assessment.calibration
    assert found is not None
    words = charts.Words("calibration", "Reliability", "The share of answers that is right by their confidence.", "confidence", "right")
    drawn = charts.reliability(words, [(one.confidence, one.right, one.interval) for one in found.bins])
    # In a file of its own it has white ground, and is cut at its edges, which texts of the axes cross.
    style = f"<style>{_COLOURS}{re.sub(r'@media screen.*', '', charts.STYLE)}</style>"
    drawn = drawn.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" width="560" ', 1).replace("<title", f"{style}<title", 1)
    drawn = drawn.replace('viewBox="0 0 420 300"', 'viewBox="-6 -10 440 316"', 1)
    (PICTURES / "calibration.svg").write_text(drawn, "utf-8")


if __name__ == "__main__":
    draw()
