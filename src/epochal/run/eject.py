"""Eject: write a run as one plain PyTorch program, which needs nothing of Epochal."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

from safetensors.torch import save

from epochal.data.load import Data
from epochal.ejected.assemble import assemble
from epochal.ejected.plan import plan, refusals
from epochal.ejected.translate import in_chinese
from epochal.errors import BundleError, DataError, ExportError, OutputError, TakenError
from epochal.io.files import write_bytes, write_errors, write_text
from epochal.models.build import is_listed, is_pretrained
from epochal.progress import silent
from epochal.recipe import Recipe
from epochal.run.folder import ENVIRONMENT, RESULT, how_to_resume, read_changes, read_json, read_weights
from epochal.run.reopen import reopen, resolved_recipe
from epochal.training.own import Own
from epochal.user_code import concise

# A program that is longer would not be read.
MOST_LINES = 200

# So many characters of a name stand in a program.
_LONGEST = 30
# And of all outputs together, in one line.
_ROOM = 90

_FIX = "Its weights can be exported: epochal export RUN --to safetensors"


@dataclass(frozen=True)
class Ejected:
    """A program, how many lines it has, and the file with its data, beside it."""

    program: Path
    lines: int
    data: Path


@concise
def eject(
    folder: str | Path,
    out: str | Path | None = None,
    *,
    language: Literal["en", "zh"] = "en",
    data: Any = None,
    data_dir: str | Path | None = None,
    log: Callable[[str], object] = silent,
) -> Ejected:
    """Write the finished run in `folder` as one PyTorch program of at most 200 lines, `out`, by default RUN/eject/script.py.

    It imports PyTorch, NumPy and safetensors alone, has only what the run used, and ends with the same weights, to the bit, on the same
    machine with the same number of threads. Beside it is a file with the examples as they were decoded. Its comments are English, or
    Chinese with `language` "zh". `data` and `data_dir` are as in `reproduce`.

    Raises `ExportError`, before anything is written, for a run with something that cannot be written so, and `OutputError`.
    """
    folder = Path(folder)
    path = Path(out) if out is not None else folder / "eject" / "script.py"
    if path.suffix != ".py":
        raise OutputError(f"{path} is not the name of a Python program.", "Choose one that ends in .py")
    beside = path.with_suffix(".safetensors")
    for taken in (path, beside):
        if taken.exists():
            raise TakenError(taken)
    program, content = _written(folder, path.name, language, data, data_dir, log)
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(beside, content)
    write_text(path, program)
    return Ejected(path, program.count("\n"), beside)


def _written(
    folder: Path, name: str, language: str, source: Any, data_dir: str | Path | None, log: Callable[[str], object]
) -> tuple[str, bytes]:
    """Return the program and the content of the file with its data."""
    if not (folder / RESULT).exists():
        raise BundleError(f"{folder} has not finished, so there is nothing to eject.", f"First: {how_to_resume(folder)}")
    recipe = resolved_recipe(folder)
    _check_code(folder, recipe)
    prepared, causes = reopen(folder, recipe, Own(), source, None, data_dir)
    for cause in causes:
        if cause.is_data:
            raise DataError(f"{folder}: {cause.words}.", "Restore the original data, or train again.")
        log(f"note: {cause.words}: the bits of the weights may be others")
    changes, data = read_changes(folder, prepared.recipe), prepared.data
    if changes.rewinds:
        raise _refused("a learning rate that was cut after a NaN", "where it went back to is not known")
    for what, why in refusals(prepared.recipe, data):
        raise _refused(what, why)
    weights = hashlib.sha256(read_weights(folder)).hexdigest()
    made = plan(prepared.recipe, data, prepared.bundle.model, weights, changes.threads)
    program = assemble(
        _about(prepared.recipe, data, name, language), made.uses, made.settings, made.inlined, in_chinese if language == "zh" else str
    )
    lines = program.count("\n")
    if lines > MOST_LINES:
        raise ExportError(
            f"The program of {folder} would have {lines} lines, which is more than {MOST_LINES}.", f"Use a smaller network. {_FIX}"
        )
    tensors = {key: values.detach().clone().contiguous() for key, values in made.tensors.items()}
    return program, save(tensors)


def _check_code(folder: Path, recipe: Recipe) -> None:
    """Raise `ExportError` for code that is not ours, and weights that training did not begin with at random."""
    name = recipe.model.name
    if not is_listed(name):
        raise _refused(f"your own network {name}", "you have its code already")
    if is_pretrained(name):
        raise _refused(f"the pre-trained {name}", "its weights come from a package")
    for kind, called in read_json(folder / ENVIRONMENT, own=dict)["own"].items():
        if kind != "metrics":
            raise _refused(f"your own {kind} {called}", "you have its code already")
    if recipe.origin("epochs") == "resume":
        raise _refused("more epochs than at its start", "the learning rate followed from its length")


def _refused(what: str, why: str) -> ExportError:
    return ExportError(f"A run with {what} cannot be ejected: {why}.", _FIX)


def _about(recipe: Recipe, data: Data, name: str, language: str) -> str:
    """Return the docstring of a program. Names of files may have anything in them, which must not become code."""
    model, source, own, beside = map(_plain, (recipe.model.name, data.name, name, Path(name).with_suffix(".safetensors").name))
    count, outputs = f"{len(data.train):,}", _named(data.outputs, "、" if language == "zh" else ", ")
    if language == "zh":
        return (
            f"用 PyTorch 在 {source} 上训练网络 {model}，共 {count} 个训练样本：从数据到权重的全过程。\n\n输出依次代表：{outputs}。\n"
            f"运行：python {own}。数据在同一文件夹的 {beside} 中。在原来的机器上，最后的权重与原来的训练逐位相同。"
        )
    return (
        f"Train the network {model} on {source}, {count} training examples: all of it, from data to weights.\n\n"
        f"Its outputs stand for, in order: {outputs}.\n"
        f"Run: python {own}. The data are in {beside}, beside it. On the machine of the run it ends with the same weights."
    )


def _named(outputs: Sequence[str], separator: str) -> str:
    """Return the names of outputs, as many as a line has room for."""
    named = [_plain(name) for name in outputs]
    room = sum(width <= _ROOM for width in accumulate(len(name) + len(separator) for name in named))
    return separator.join([*named[: max(1, room)], *["..."] * (room < len(named))])


def _plain(name: str) -> str:
    return "".join(letter if letter.isprintable() and letter not in '"\\' else "_" for letter in name)[:_LONGEST]
