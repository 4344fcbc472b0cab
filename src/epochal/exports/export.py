"""Export a model: as one file, compared with the model itself before it is written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from epochal.bundle import Bundle
from epochal.data.examples import Examples
from epochal.data.inputs.values import Inputs
from epochal.errors import EpochalError, ExportError, TakenError
from epochal.exports import int8, onnx_file, program, tensors
from epochal.exports.parity import Parity, compare
from epochal.exports.script import beside
from epochal.io.files import write_bytes, write_errors, write_json
from epochal.models.build import entry_of
from epochal.shown import Rows, Shown


class Format(NamedTuple):
    """How a model becomes a file, how that is run (weights alone by the bundle's own network), and what lies beside it."""

    suffix: str
    encode: Callable[[Bundle, Mapping[str, str]], bytes]
    decode: Callable[[bytes, Bundle], Callable[[Tensor], Tensor]]
    beside: Callable[[Bundle], Mapping[str, bytes]] = lambda _bundle: {}


FORMATS: dict[str, Format] = {
    "onnx": Format(".onnx", onnx_file.encode, lambda content, _: onnx_file.decode(content), beside),
    "torch-export": Format(".pt2", program.encode, lambda content, _: program.decode(content)),
    "safetensors": Format(".safetensors", tensors.encode, tensors.decode),
}


@dataclass(frozen=True, repr=False)
class Exported(Shown):
    """An exported model: its file, those beside it, and how it was compared with the bundle."""

    path: Path
    size: int
    parity: tuple[Parity, ...]
    beside: tuple[Path, ...] = ()
    int8: int8.Int8 | None = None

    def _title(self) -> str:
        return f"{self.path}, {self.size / 1e6:,.1f} MB"

    def _rows(self) -> Rows:
        examples, worst = sum(row.examples for row in self.parity), max(row.difference for row in self.parity)
        return ("the same label", f"for {examples:,} of {examples:,} examples"), ("values differ by", f"at most {worst:.1g}")

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "file": str(self.path),
            "bytes": self.size,
            "beside": [str(path) for path in self.beside],
            "parity": [row._asdict() for row in self.parity],
            **({} if self.int8 is None else {"int8": self.int8.to_json()}),
        }


def check_format(to: str) -> Format:
    """Return a format by its name. Raises `ExportError` for an unknown one."""
    if to not in FORMATS:
        raise ExportError(f"There is no format '{to}'.", f"Known: {', '.join(FORMATS)}.")
    return FORMATS[to]


class Quantize(NamedTuple):
    """How a model becomes int8: by the ranges of values for `training` inputs; it loses at most `max_loss` points on `examples`.

    For quantities, their root mean square error grows by at most so many percent.
    """

    training: Inputs
    examples: Examples
    max_loss: float = 0.5


def export(
    bundle: Bundle, to: str, out: Path, inputs: Inputs, about: Mapping[str, Any] | None = None, *, quantize: Quantize | None = None
) -> Exported:
    """Write a model as one file that takes raw inputs [n, *spec.shape] of `spec.dtype`, and answers with `Bundle.values`.

    `to` is one of `FORMATS`. Before anything is written, the file's answers for raw `inputs` are compared with the model's (see
    `parity`). `about` is kept in the file beside the names of the outputs: settings, metrics and so on. With `quantize`, an ONNX file
    computes in eight bits: its answers are compared with those that it gives to each input alone, and what it loses is measured.

    Raises `ExportError` where the model cannot be exported, the answers differ, or too much is lost, `MissingError` without the packages
    of the format, and `OutputError`.
    """
    made = check_format(to)
    check_new(out)
    others = _beside(out, made.beside(bundle))
    content = encoded(made, bundle, about or {})
    cost = None
    if quantize is not None:
        content, cost = _in_int8(bundle, content, quantize)
    run = made.decode(content, bundle)
    parity = compare(run, bundle, inputs, label="Comparing", values=None if quantize is None else int8.one_by_one(run))
    for folder in {out.parent, *(path.parent for path in others)}:
        with write_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
    report = out.with_name(out.name + ".parity.json")
    exported = Exported(out, len(content), parity, (report, *others), cost)
    found = {name: value for name, value in exported.to_json().items() if name in ("parity", "int8")}
    write_json(report, {"sha256": hashlib.sha256(content).hexdigest(), **found})
    for path, other in others.items():
        write_bytes(path, other)
    # The file itself is last: where it is, the others are.
    write_bytes(out, content)
    return exported


def _in_int8(bundle: Bundle, content: bytes, quantize: Quantize) -> tuple[bytes, int8.Int8]:
    """Return an ONNX file as one that computes in eight bits, and what that costs. Raises `ExportError` if it costs too much."""
    made = int8.quantized(content, quantize.training)
    runs = onnx_file.decode(made, threads=1), onnx_file.decode(content, threads=1)
    cost = int8.measure(*runs, bundle.values, quantize.examples, bundle.spec.task, (len(content), len(made)))
    cost.check(quantize.max_loss)
    return onnx_file.described(made, {"int8": json.dumps(cost.to_json())}), cost


def check_new(out: Path) -> None:
    """Raise `TakenError` if there is such a file."""
    if out.exists():
        raise TakenError(out)


def _beside(out: Path, files: Mapping[str, bytes]) -> dict[Path, bytes]:
    """Return where the files beside `out` are written: in a folder of their own, if others of these names belong to another model."""
    folders = out.parent, out.with_name(f"{out.name}.files")
    for folder in folders:
        if all(_is_free(folder / name, content) for name, content in files.items()):
            return {folder / name: content for name, content in files.items()}
    raise TakenError(folders[-1], "Export into another folder.")


def _is_free(path: Path, content: bytes) -> bool:
    """Whether there is no file, or one with that content."""
    try:
        return path.read_bytes() == content
    except FileNotFoundError:
        return True
    except OSError:
        return False


def encoded(made: Format, bundle: Bundle, about: Mapping[str, Any]) -> bytes:
    """Return a model as a file of a format. Raises `ExportError` with the reason where that fails, whatever the exporter raises."""
    described = {name: json.dumps(value, ensure_ascii=False) for name, value in {**_about(bundle), **about}.items()}
    try:
        return made.encode(bundle, described)
    except EpochalError:
        raise
    except Exception as error:
        lines = [line for line in str(error).splitlines() if line.strip()] or [""]
        reason = next((line for line in lines if "Error" in line and ":" in line), lines[0])
        raise ExportError(
            f"The model cannot be exported: {type(error).__name__}: {reason.strip()}", "Use another format, or change the network."
        ) from error


def _about(bundle: Bundle) -> dict[str, Any]:
    """Return what every exported file says of itself."""
    spec = bundle.spec
    entry = None if bundle.origin is None else entry_of(*bundle.origin)
    licence = getattr(entry.weights, "licence", "") if entry is not None else ""
    return {
        "classes": spec.outputs,
        "task": spec.task.name,
        "thresholds": spec.task.thresholds,
        "input": {
            **spec.input.model_dump(mode="json", exclude={"known", "vocabulary"}),
            "files": {name: hashlib.sha256(content).hexdigest() for name, content in spec.input.script_files.items()},
        },
        "model": bundle.origin[0] if bundle.origin is not None else type(bundle.model.get_submodule("net")).__name__,
        "data": {"name": spec.name, "counts": dict(spec.counts), "fingerprint": spec.fingerprint},
        "licence": licence,
        "versions": {name: metadata.version(name) for name in ("epochal", "torch")},
    }
