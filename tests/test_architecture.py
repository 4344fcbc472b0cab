"""Imports go one way, in no circle, and never to torchvision."""

from __future__ import annotations

import ast
import graphlib
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

import epochal

PACKAGE = Path(epochal.__file__).parent

# Each imports only from those before it; modules of one package may import from each other, without a circle.
LAYERS = [
    "errors",
    "user_code",
    "shown",
    "notebook",
    "io.*",
    "terminal",
    "language",
    "page",
    "distributed.*",
    "progress",
    "recipe.*",
    "random",
    "device",
    "operations",
    "cores",
    "tasks.*",
    "data.*",
    "checks.*",
    "models.*",
    "inference",
    "evaluation.*",
    "training.*",
    "tuning.*",
    "watch.*",
    "predict",
    "bundle",
    "exports.*",
    "predictor",
    "serve.*",
    "figures.*",
    "report.*",
    "ejected.*",
    "run.*",
    "search.*",
    "bench",
    "doctor",
    "",
    "cli.*",
    "__main__",
]


def _name(file: Path, root: Path) -> str:
    """The module's name without "epochal.": "data.feed"; a package's is its folder's: "data"."""
    parts = file.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(node: ast.AST, known: set[str]) -> Iterator[str]:
    """Our modules that a file imports, anywhere in it, except for type checkers alone."""
    inside: Iterable[ast.AST] = ast.iter_child_nodes(node)
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        assert not node.level, f"relative import in line {node.lineno}"
        for alias in node.names:
            inner = f"{base}.{alias.name}"
            yield inner if inner.removeprefix("epochal.") in known else base
    elif isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
        inside = node.orelse
    for child in inside:
        yield from _imported(child, known)


def _graph(root: Path) -> dict[str, set[str]]:
    """Every module of the package with those of the package that it imports."""
    files = {_name(file, root): file for file in sorted(root.rglob("*.py"))}
    graph = {}
    for module, file in files.items():
        names = set(_imported(ast.parse(file.read_text("utf-8")), set(files)))
        ours = {"" if name == "epochal" else name.removeprefix("epochal.") for name in names if name.split(".")[0] == "epochal"}
        assert ours <= set(files), f"{module} imports {sorted(ours - set(files))}, which is not there"
        graph[module] = ours - {module}
    return graph


def _layer(module: str) -> int:
    found = [place for place, layer in enumerate(LAYERS) if fnmatch(module, layer) or f"{module}.*" == layer]
    assert len(found) == 1, f"epochal.{module} has no place in the layers of this test"
    return found[0]


def _upward(graph: dict[str, set[str]]) -> list[str]:
    return [
        f"{module} imports {other}"
        for module, others in graph.items()
        for other in sorted(others)
        if _layer(other) > _layer(module) or (_layer(other) == _layer(module) and "*" not in LAYERS[_layer(module)])
    ]


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    return _graph(PACKAGE)


def test_imports_go_one_way(graph: dict[str, set[str]]) -> None:
    assert len(graph) > 30
    assert "data.feed" in graph["training.loop"]
    assert _upward(graph) == []


def test_no_circle(graph: dict[str, set[str]]) -> None:
    graphlib.TopologicalSorter(graph).prepare()


def test_the_test_itself_sees_what_is_wrong(tmp_path: Path) -> None:
    files = {
        "__init__": "from epochal.training import loop",
        "data/a": "def f():\n    from epochal.training.loop import fit",
        "data/b": "import epochal.data.c",
        "data/c": "if TYPE_CHECKING:\n    from epochal.training import loop\nelse:\n    from epochal.data import b",
        "training/loop": "from epochal import data\nimport torch",
        "data/__init__": "",
        "training/__init__": "",
    }
    for name, content in files.items():
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    graph = _graph(tmp_path)
    assert graph["data.c"] == {"data.b"}
    assert graph["training.loop"] == {"data"}
    assert _upward(graph) == ["data.a imports training.loop"]
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter(graph).prepare()
    with pytest.raises(AssertionError, match=r"epochal\.strange has no place in the layers"):
        _layer("strange")


def _body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The lines from `def` to the end of a function, without its docstring."""
    first = function.body[0]
    docstring = (first.end_lineno or 0) - first.lineno + 1 if ast.get_docstring(function) is not None else 0
    return (function.end_lineno or 0) - function.lineno + 1 - docstring


def _too_long(text: str) -> list[str]:
    """What is too long in a file: itself, or functions; `fit` is the loop, to be read from top to bottom."""
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    found = [function.name for function in functions if _body_lines(function) > 60 and function.name != "fit"]
    return [*found, *(["the file"] if len(text.splitlines()) > 450 else [])]


def test_files_and_functions_are_short() -> None:
    found = {file.relative_to(PACKAGE).as_posix(): _too_long(file.read_text("utf-8")) for file in PACKAGE.rglob("*.py")}
    assert len(found) > 400
    assert {file: too_long for file, too_long in found.items() if too_long} == {}


def test_what_is_too_long_is_found() -> None:
    lines = "".join(f"    x = {number}\n" for number in range(59))
    assert _too_long(f'def f():\n    """A docstring."""\n{lines}') == []
    assert _too_long(f"async def f():\n{lines}    return x\n") == ["f"]
    assert _too_long(f"def fit():\n{lines}    return x\n") == []
    assert _too_long("\n" * 451) == ["the file"]


BROKEN = 'raise RuntimeError("operator torchvision::nms does not exist")\n'

PROGRAM = """
    import importlib, pkgutil, sys
    import epochal

    for module in pkgutil.walk_packages(epochal.__path__, "epochal."):
        if not module.name.endswith("__main__"):
            try:
                importlib.import_module(module.name)
            except ModuleNotFoundError as error:
                # An extra that is not installed.
                assert error.name.split(".")[0] in ("tensorboard", "mlflow"), error

    import torch
    from epochal.recipe import Recipe
    from epochal.training.loop import fit

    x = torch.randn(20, 1, 8, 8)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
    recipe = Recipe().updated({"batch_size": 10, "epochs": 1, "device": "cpu"})
    assert fit(model, (x, torch.arange(20) % 2), recipe).finished.steps == 2
    assert "torchvision" not in sys.modules
"""


def test_the_core_never_needs_torchvision(tmp_path: Path) -> None:
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(BROKEN)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    program = [sys.executable, "-c", textwrap.dedent(PROGRAM)]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    # The trap works.
    trapped = subprocess.run([sys.executable, "-c", "import torchvision"], env=environment, capture_output=True, text=True, check=False)
    assert "torchvision::nms does not exist" in trapped.stderr
