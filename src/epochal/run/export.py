"""Export the model of a run, compared with it on the run's own test data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from epochal.bundle import Bundle
from epochal.data.inputs.values import Inputs
from epochal.errors import OutputError
from epochal.exports.export import Exported, check_format, check_new
from epochal.exports.export import export as export_bundle
from epochal.io.files import finite
from epochal.progress import silent
from epochal.run.evaluate import own_data
from epochal.run.folder import RECIPE, RESULT, read_json, read_recipe
from epochal.serve.web import export_page
from epochal.user_code import concise

EXPORT = "export"


@concise
def export(
    folder: str | Path,
    to: str = "onnx",
    out: str | Path | None = None,
    *,
    examples: Any = None,
    data_dir: str | Path | None = None,
    model: str | nn.Module | None = None,
    runtime: str | Path | None = None,
    log: Callable[[str], object] = silent,
) -> Exported:
    """Export the model that a run kept: one file that takes raw inputs, and answers with probabilities or quantities.

    `to` is "onnx", "torch-export" or "safetensors". The file is `out`, or by default RUN/export/model with the suffix of its format.
    With "web", it is a folder, by default RUN/export/web: a page on which the model runs in the browser; `runtime` is the file of its
    runtime's npm package, which is downloaded otherwise.
    Before it is written, it is compared with the model on all test examples of the run, or on `examples`: anything that `predict`
    takes. `folder` may also be that of a bundle alone, with `out` and `examples`. `model` is the run's own network, if it has one.

    Raises `ExportError` where an answer differs, `DataError` where there are no examples to compare with, and `OutputError`.
    """
    is_page = to == "web"
    folder, made = Path(folder), check_format("onnx" if is_page else to)
    bundle = Bundle.load(folder, model, log=log)
    is_run = (folder / RECIPE).exists()
    if out is None and not is_run:
        raise OutputError(f"{folder} is a model without its run.", "Name the file: --out FILE, or out=...")
    path = Path(out) if out is not None else folder / EXPORT / ("web" if is_page else f"model{made.suffix}")
    check_new(path)
    inputs = test_inputs(folder, bundle, data_dir) if examples is None else bundle.read(examples).inputs
    about = _about(folder) if is_run else {}
    if is_page:
        return export_page(bundle, folder, path, inputs, about, None if runtime is None else Path(runtime))
    return export_bundle(bundle, to, path, inputs, about)


def test_inputs(folder: Path, bundle: Bundle, data_dir: str | Path | None) -> Inputs:
    """Return the raw inputs of a run's test data; without any, those of validation or training."""
    recipe = read_recipe(folder) if (folder / RECIPE).exists() else None
    data = own_data(folder, recipe, bundle.spec, data_dir, "Name data to compare with: --examples FILE.")
    return next(part for part in (data.test, data.valid, data.train) if part is not None).inputs


def _about(folder: Path) -> Mapping[str, Any]:
    """Return the settings of a run, and how good its model is on test data."""
    if not (folder / RESULT).exists():
        return {}
    result = read_json(folder / RESULT)
    return {"settings": result["recipe"], "metrics": finite(result["test"] or result["valid"] or {})}
