"""Export the model of a run, compared with it on the run's own test data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from epochal.bundle import Bundle
from epochal.data.examples import Examples
from epochal.data.load import Data
from epochal.errors import ExportError, OutputError
from epochal.exports.export import Exported, Quantize, check_format, check_new
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
    quantize: bool = False,
    max_loss: float = 0.5,
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

    With `quantize`, an ONNX file computes in whole numbers of eight bits, by ranges that are measured on training data; by default it is
    RUN/export/int8/model.onnx. It loses at most `max_loss` percentage points of accuracy on all test examples; or the root mean square
    error of quantities grows by at most so many percent.

    Raises `ExportError` where an answer differs, or more is lost, `DataError` where there are no examples to compare with, and
    `OutputError`.
    """
    is_page = to == "web"
    folder, made = Path(folder), check_format("onnx" if is_page else to)
    bundle = Bundle.load(folder, model, log=log)
    is_run = (folder / RECIPE).exists()
    if out is None and not is_run:
        raise OutputError(f"{folder} is a model without its run.", "Name the file: --out FILE, or out=...")
    if quantize:
        _check_quantize(to, examples, max_loss)
    name = "web" if is_page else f"model{made.suffix}"
    path = Path(out) if out is not None else folder / EXPORT / ("int8" if quantize else "") / name
    check_new(path)
    about = _about(folder) if is_run else {}
    if quantize:
        data = _own_data(folder, bundle, data_dir, "int8 needs the data of the run: leave --quantize out.")
        measured = _measured(data)
        return export_bundle(bundle, to, path, measured.inputs, about, quantize=Quantize(data.train.inputs, measured, max_loss))
    inputs = test_examples(folder, bundle, data_dir).inputs if examples is None else bundle.read(examples).inputs
    if is_page:
        return export_page(bundle, folder, path, inputs, about, None if runtime is None else Path(runtime))
    return export_bundle(bundle, to, path, inputs, about)


def test_examples(folder: Path, bundle: Bundle, data_dir: str | Path | None) -> Examples:
    """Return a run's test data; without any, those of validation or training."""
    return _measured(_own_data(folder, bundle, data_dir, "Name data to compare with: --examples FILE."))


def _own_data(folder: Path, bundle: Bundle, data_dir: str | Path | None, fix: str) -> Data:
    return own_data(folder, read_recipe(folder) if (folder / RECIPE).exists() else None, bundle.spec, data_dir, fix)


def _measured(data: Data) -> Examples:
    """Return the test examples of a run; without any, those of validation or training."""
    return next(part for part in (data.test, data.valid, data.train) if part is not None)


def _check_quantize(to: str, examples: Any, max_loss: float) -> None:
    if to != "onnx":
        raise ExportError(f"{to} is not computed in eight bits.", "Use --to onnx, or leave --quantize out.")
    if examples is not None:
        raise ExportError(
            "The loss of accuracy is measured on examples with known answers, which --examples has not.",
            "Leave --examples out: then all test examples of the run are used.",
        )
    if not 0 <= max_loss <= 100:
        raise ExportError(f"The loss may be 0 to 100, not {max_loss:g}.", "Change --max-loss.")


def _about(folder: Path) -> Mapping[str, Any]:
    """Return the settings of a run, and how good its model is on test data."""
    if not (folder / RESULT).exists():
        return {}
    result = read_json(folder / RESULT)
    return {"settings": result["recipe"], "metrics": finite(result["test"] or result["valid"] or {})}
