"""Report: the page of a finished run, written at the end of it, and again whenever somebody asks.

It is made from the files of the run's folder alone. `examples.json`, written at the end of training, has the examples that it shows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from epochal.data.load import Data
from epochal.data.spec import DataSpec
from epochal.errors import BundleError, reason_of
from epochal.evaluation.advice import advice
from epochal.evaluation.assessment import Assessment
from epochal.evaluation.evaluate import Evaluation
from epochal.evaluation.folds import CrossValidation
from epochal.evaluation.label_errors import LabelErrors
from epochal.evaluation.repeats import Repeats
from epochal.io.checksums import with_checksum
from epochal.io.files import check_output, finite, write_json, write_text
from epochal.recipe import Recipe
from epochal.report.exhibits import Exhibits, choose_exhibits
from epochal.report.facts import Facts
from epochal.report.page import MARK, render
from epochal.run.folder import DATA, ENVIRONMENT, EXAMPLES, REPORT, RESULT, read_epochs, read_json, read_recipe
from epochal.run.prepare import check_command
from epochal.tasks.scores import Scores

_FIX = "Give the folder of a finished run."


def report(folder: Path, out: Path | None = None) -> Path:
    """Write the report of the finished run in `folder` to `out`, by default into the folder; return where it is.

    Raises `BundleError` for what is no finished run, and `OutputError` where another file is in the way.
    """
    if not (folder / RESULT).exists():
        raise BundleError(f"{folder} is not a finished run: it has no result.json.", _FIX)
    page, path = render_run(folder, read_json(folder / RESULT)), out or folder / REPORT
    check_output(path, MARK.encode())
    write_text(path, page)
    return path


def write_report(folder: Path, result: Mapping[str, Any], recipe: Recipe | None = None) -> None:
    """Write the report into the folder of a run that is about to end with this `result`; see `report`."""
    write_text(folder / REPORT, render_run(folder, result, recipe))


def write_examples(
    folder: Path, judged: tuple[Evaluation | None, Evaluation | None], wrong: LabelErrors | None, data: Data, recipe: Recipe
) -> None:
    """Keep the examples that the report shows; `judged` are the evaluations of validation and test data."""
    valid, test = judged
    evaluation, examples = (test, data.test) if test is not None else (valid, data.valid)
    shown = choose_exhibits(evaluation, examples, () if wrong is None else wrong.listed, data.train, data.spec, recipe)
    write_json(folder / EXAMPLES, with_checksum(finite(shown.to_json())))


def keep(write: Callable[[], object], log: Callable[[str], object]) -> None:
    """Write something for the report: a run without one is whole, so that nothing that fails here may end it."""
    try:
        write()
    except Exception as error:  # noqa: BLE001
        log(f"note: the report could not be written: {type(error).__name__}: {reason_of(error)}")


def render_run(folder: Path, result: Mapping[str, Any], recipe: Recipe | None = None, script: str = "") -> str:
    """Return the report of the run in `folder`, whose result.json holds `result`; a server may give it a `script`, by its address.

    Raises `BundleError` for damaged files.
    """
    try:
        return render(_facts(folder, result, recipe or read_recipe(folder)), script)
    except (ValidationError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise BundleError(f"{folder} has no report: a file of it is damaged ({reason_of(error)}).", _FIX) from error


def _facts(folder: Path, result: Mapping[str, Any], recipe: Recipe) -> Facts:
    data = read_json(folder / DATA, split=dict)
    spec = DataSpec.model_validate(result["data"])
    folds = None if result.get("folds") is None else CrossValidation.from_json(result["folds"])
    # Without test data, what models say of examples that they were not trained on, if all have been asked.
    split = "test" if result["test"] is not None else "folds" if folds is not None and folds.is_complete else "valid"
    measured = result["folds"]["evaluation"] if split == "folds" else result[split]
    scores = None if measured is None else Scores.from_json(measured)
    assessment = None if result["assessment"] is None else Assessment.from_json(result["assessment"])
    has_examples = (folder / EXAMPLES).exists()
    lines: tuple[str, ...] = ()
    if scores is not None:
        lines = advice(scores, spec, recipe, check_command(Path(data["source"] or "DATA"), recipe, data["data_dir"]))
    return Facts(
        folder.resolve().name,
        spec,
        recipe,
        result,
        read_epochs(folder),
        data,
        read_json(folder / ENVIRONMENT, packages=dict),
        Exhibits.from_json(read_json(folder / EXAMPLES)) if has_examples else Exhibits(),
        split,
        scores,
        assessment,
        () if scores is None else measured.get("confusion", ()),
        lines,
        folds,
        None if measured is None else measured.get("groups"),
        None if result.get("repeats") is None else Repeats.from_json(result["repeats"]),
    )
