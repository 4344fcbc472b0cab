"""What lies beside an exported ONNX file: a small program that shows how it is used, and the files that this needs."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from importlib.resources import files
from itertools import groupby
from typing import NamedTuple

from epochal.bundle import Bundle

PROGRAM = "predict_onnx.py"

# Where programs turn texts into numbers.
_TOKENS = "tokens"

# A folder, not a package: what is in it is only run where it is put together.
_FOLDER = "epochal.exports.scripts"


def beside(bundle: Bundle) -> Mapping[str, bytes]:
    """Return the files beside an ONNX file, by name, which are the same for all models of a kind; none where no program reads it.

    The program takes ONNX Runtime and NumPy, and Pillow for pictures. What it does not read as the model does, it refuses.
    """
    rule = bundle.spec.input
    if not rule.script:
        return {}
    reader, *tokens = rule.script
    texts = {PROGRAM: _program(reader), **{f"{_TOKENS}.py": _source(name) for name in tokens}}
    return {**{name: text.encode() for name, text in texts.items()}, **rule.script_files}


class _Parts(NamedTuple):
    """A piece of a program: its docstring, its imports, and what follows them."""

    about: str
    imports: list[str]
    code: str


def _program(reader: str) -> str:
    """Return the program that reads inputs by one of the files in `scripts`, and has the frame that is common to all."""
    read, frame = _parts(_source(reader)), _parts(_source("frame"))
    own = [re.sub(rf"from {_FOLDER}\.\w+ ", f"from {_TOKENS} ", line) for line in read.imports]
    imports = sorted(
        {*own, *(line for line in frame.imports if _FOLDER not in line)}, key=lambda line: (_section(line), line.startswith("from"), line)
    )
    blocks = "\n\n".join("\n".join(lines) for _, lines in groupby(imports, _section))
    about = f'"""Predict without PyTorch: python {PROGRAM} MODEL.onnx FILE...\n\n{read.about}"""'
    gap = "\n\n\n" if read.code.startswith("def ") else "\n\n"
    return f"{about}\n\n{blocks}{gap}{read.code}\n\n\n{frame.code}\n"


def _parts(source: str) -> _Parts:
    lines = source.splitlines()
    places = [place for place, line in enumerate(lines) if line.startswith(("import ", "from "))]
    return _Parts(lines[0].strip('"'), [lines[place] for place in places], "\n".join(lines[places[-1] + 1 :]).strip("\n"))


def _section(line: str) -> int:
    """Return where an import stands: Python's own modules, those that are installed, the file beside the program."""
    module = line.split()[1].split(".")[0]
    return 0 if module in sys.stdlib_module_names else 2 if module == _TOKENS else 1


def _source(name: str) -> str:
    return files("epochal.exports").joinpath("scripts", f"{name}.py").read_text("utf-8")
