"""The network's outputs for each validation and test example, saved in the run folder: later scores need neither data nor network.

predictions/valid.safetensors   outputs [n, outputs] (logits), targets, positions int64 [n] in the split's source
predictions/test.safetensors    the same for the test data, and known bool [n]: which of them were used in training too; so far as there
                                are such, keys int64 [n] of their content, groups int64 [n] that they belong to, and names: of their
                                files, uint8, with a 0 between them
predictions/folds.safetensors   the same of all examples that are in folds, out of fold, and fold int64 [n], without known; with --folds

result.json has the SHA-256 of each file and of the weights that the outputs come from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from epochal.bundle import Bundle
from epochal.checks.seen import are_seen, content_keys
from epochal.data.examples import Examples, group_numbers
from epochal.data.inputs.base import InputRule
from epochal.data.load import Data
from epochal.errors import BundleError, reason_of
from epochal.evaluation.evaluate import Evaluation, score
from epochal.evaluation.named import Metrics
from epochal.io import safe_read
from epochal.io.checksums import CHANGED
from epochal.io.files import as_bytes, as_text, new_directory, write_bytes
from epochal.run.folder import PREDICTIONS, RESULT, read_json, read_weights
from epochal.tasks.losses import Loss

Answered: TypeAlias = Literal["test", "folds"]

_FIX = "Remove it: then evaluate computes it again, which needs the data."


def write_predictions(folder: Path, evaluated: Mapping[str, Evaluation | None], data: Data, bundle: Bundle) -> dict[str, str]:
    """Write the outputs of each split, all or none; return the SHA-256 of each file and of the weights. Raises `OutputError`."""
    assert bundle.seen is not None
    sums = {"weights": hashlib.sha256(read_weights(folder)).hexdigest()}
    with new_directory(folder / PREDICTIONS) as draft:
        for name, evaluation in evaluated.items():
            if evaluation is not None:
                examples = data.splits[name]
                tensors = {"outputs": evaluation.outputs, "targets": evaluation.targets, "positions": examples.positions}
                if name == "test":
                    known = are_seen(examples, bundle.spec.input, bundle.seen)
                    tensors |= {"known": torch.from_numpy(known)} | _about(examples, bundle.spec.input)
                content = save({key: tensor.cpu().contiguous() for key, tensor in tensors.items()})
                write_bytes(draft / _file(name), content)
                sums[name] = hashlib.sha256(content).hexdigest()
    return sums


def write_out_of_fold(folder: Path, evaluation: Evaluation, examples: Examples, fold: Tensor, rule: InputRule) -> dict[str, str]:
    """Write the answers out of fold to `examples`, in their order, whose folds are `fold` int64 [n]; return the SHA-256 of the file."""
    tensors = {"outputs": evaluation.outputs, "targets": evaluation.targets, "positions": examples.positions, "fold": fold}
    content = save({key: tensor.cpu().contiguous() for key, tensor in (tensors | _about(examples, rule)).items()})
    write_bytes(folder / PREDICTIONS / _file("folds"), content)
    return {"folds": hashlib.sha256(content).hexdigest()}


def _about(examples: Examples, rule: InputRule) -> dict[str, Tensor]:
    """Return what is known of examples beside their inputs, as tensors."""
    found: dict[str, Tensor] = {}
    if (keys := content_keys(examples, rule)) is not None:
        found["keys"] = torch.from_numpy(keys.view(np.int64))
    if (groups := group_numbers(examples)) is not None:
        found["groups"] = groups
    if examples.files is not None:
        names = as_bytes("\0".join(map(examples.where, range(len(examples)))))
        found["names"] = torch.frombuffer(bytearray(names), dtype=torch.uint8)
    return found


def names_in(tensors: Mapping[str, Tensor]) -> list[str] | None:
    """Return the names of the files that saved outputs belong to; `None` for examples without files."""
    return as_text(tensors["names"].numpy().tobytes()).split("\0") if "names" in tensors else None


def has_predictions(folder: Path, name: Answered = "test") -> bool:
    """Whether the run has finished, with outputs on test data, or of all folds."""
    return (folder / RESULT).exists() and (folder / PREDICTIONS / _file(name)).exists()


def read_predictions(folder: Path, fix: str = _FIX, name: Answered = "test") -> dict[str, Tensor]:
    """Return the saved outputs on test data, or out of fold, and what belongs to them.

    Raises `BundleError`, with this `fix`, for damaged ones, and another model's.
    """
    path = folder / PREDICTIONS / _file(name)
    sums = read_json(folder / RESULT, predictions=dict[str, str])["predictions"]
    if sums.get("weights") != hashlib.sha256(read_weights(folder)).hexdigest():
        raise BundleError(f"{path} does not belong to the model in {folder}.", fix)
    try:
        content = safe_read.read_file(path)
        if hashlib.sha256(content).hexdigest() != sums.get(name):
            raise ValueError(CHANGED)
        return load(content)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise BundleError(f"{path} cannot be read: {reason_of(error)}.", fix) from error


def score_predictions(folder: Path, bundle: Bundle, loss: Loss, metrics: Metrics) -> Evaluation:
    """Return the scores of the saved outputs on test data. Raises `BundleError` as `read_predictions` does."""
    tensors = read_predictions(folder)
    try:
        found = score(tensors["outputs"], tensors["targets"], bundle.spec.task, loss, metrics, tensors.get("groups"))
        return replace(found, known=int(tensors["known"].sum()))
    except (ValueError, KeyError, IndexError, RuntimeError) as error:
        path = folder / PREDICTIONS / _file("test")
        raise BundleError(f"{path} cannot be read: {reason_of(error)}.", _FIX) from error


def _file(name: str) -> str:
    return f"{name}.safetensors"
