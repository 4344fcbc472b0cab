"""A run as one plain program: it needs nothing of Epochal, ends with the same bits, and is short.

EPOCHAL_EJECT=full .venv/bin/python -m pytest tests/run/test_eject.py     all networks and recipes on every kind of data
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import epochal
from epochal.data.load import load
from epochal.ejected.assemble import pruned
from epochal.ejected.plan import refusals
from epochal.ejected.translate import TABLE, texts
from epochal.errors import BundleError, DataError, EpochalError, ExportError, OutputError, TakenError
from epochal.recipe import Recipe
from epochal.run.eject import MOST_LINES, _named, eject
from epochal.run.folder import Changes
from epochal.training.sharing import ThreadChange
from tests.kinds import KINDS
from tests.small import small_recipe

IS_FULL = os.environ.get("EPOCHAL_EJECT") == "full"

# Runs programs one after another, to import only once what they import, where there is no Epochal.
_HOST = """
import runpy, sys
sys.modules["epochal"] = None
for path in sys.argv[1:]:
    print("#", path)
    runpy.run_path(path, run_name="__main__")
"""

_ALLOWED = {"copy", "hashlib", "math", "zlib", "collections", "pathlib", "numpy", "torch", "safetensors"}


def _draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def _pictures(channels: int = 1, side: int = 12, light: bool = False) -> tuple[Tensor, Tensor]:
    labels = torch.arange(70) % 2
    pixels = (_draw(70, channels, side, side) * 20 + 60).clamp(0, 150)
    pixels[labels == 1, :, :, side // 2 :] += 100
    if light:
        pixels[..., [0, -1], :] = pixels[..., [0, -1]] = 255
    return pixels.to(torch.uint8), labels


def _file(kind: str) -> Callable[[Path], tuple[Any, dict[str, Any]]]:
    """Data of a kind in a file, and what says how it is read."""

    def make(folder: Path) -> tuple[Any, dict[str, Any]]:
        name, *words = KINDS[kind](folder)
        given = dict(zip(words[::2], words[1::2], strict=True))
        return folder / name, {option[2:]: (given[option],) for option in ("--target", "--text") if option in given}

    return make


def _values(make: Callable[[], Any]) -> Callable[[Path], tuple[Any, dict[str, Any]]]:
    return lambda folder: (make(), {})


_X = _draw(80, 5)
DATA: dict[str, Callable[[Path], tuple[Any, dict[str, Any]]]] = {
    "pictures": _values(_pictures),
    "tiny": _values(lambda: _pictures(side=8)),
    "colour": _values(lambda: _pictures(3, 14, light=True)),
    "mnist": _values(lambda: (_pictures(1, 28)[0].repeat(2, 1, 1, 1), torch.arange(140) % 10)),
    "light": _values(lambda: _pictures(3, 32, light=True)),
    "cifar": _values(lambda: (_pictures(3, 32)[0].repeat(2, 1, 1, 1), torch.arange(140) % 10)),
    "numbers": _values(lambda: (_X, (_X[:, 0] > _X[:, 1]).long())),
    "times": _values(lambda: (_X.double() + 1e9, (_X[:, 0] > _X[:, 1]).long())),
    "counts": _values(lambda: ((_X * 50).long() + 10**12, (_X[:, 0] > _X[:, 1]).long())),
    "labels": _values(lambda: (_X, (_X[:, :3] > 0).long())),
    "quantities": _values(lambda: (_X, _X[:, :2] * 30 + 5)),
    "far": _values(lambda: (_X, _X[:, 0].double() + 1e6)),
    **{kind: _file(kind) for kind in KINDS},
}


class Case(NamedTuple):
    """The name of data, a network, a recipe, and settings."""

    data: str
    model: Any = None
    recipe: str | None = None
    settings: Any = ()


CASES = {
    "pictures": Case("pictures", settings={"shift": 1, "flip": True, "smoothing": 0.1}),
    "table": Case("table", settings={"epochs": 4, "patience": 2}),
    "texts": Case("texts"),
    "sounds": Case("sounds", settings={"time_shift": 0.02, "noise": 0.1}),
    "numbers": Case(
        "numbers", "mlp", settings={"optimizer": "sgd", "momentum": 0.9, "schedule": "plateau", "clip_norm": 1.0, "keep": "last"}
    ),
    "quantities": Case("quantities", settings={"loss": "huber", "schedule": "cosine", "warmup": 0.5}),
    "labels": Case("labels", {"name": "mlp", "dropout": 0.2}, settings={"class_weights": "balanced", "valid": 0.0, "max_steps": 7}),
    "muon": Case("pictures", {"name": "conv", "widths": [8]}, settings={"optimizer": "muon", "lr": 0.05, "options": {"plain_lr": 0.5}}),
}

_MODELS = {
    "pictures": ("conv", "linear", "mlp", {"name": "resnet", "depth": 8}, "vgg", "vit"),
    "texts": ("bag", "gru", "lstm", "transformer"),
    "table": ("tabular", "mlp", "linear"),
    "sounds": ("conv", "vgg", "mlp", "linear"),
    "mnist": ("tutorial-mlp", "tutorial-simple", "tutorial-cnn", "tutorial-small-cnn"),
}

if IS_FULL:
    CASES |= {f"{data} {model}": Case(data, model) for data, models in _MODELS.items() for model in models}
    CASES |= {f"{data} alone": Case(data) for data in DATA if data not in CASES}
    CASES |= {f"recipe {name}": Case("mnist", recipe=name) for name in ("mnist", "mnist-fast")}
    CASES |= {
        f"recipe {name}": Case("mnist", recipe=name) for name in ("tutorial-mlp", "tutorial-simple", "tutorial-cnn", "tutorial-small-cnn")
    }
    CASES |= {f"recipe {name}": Case("cifar", recipe=name) for name in ("photos", "tutorial-cifar", "cifar10")}
    CASES |= {
        "airbench": Case("cifar", {"name": "airbench", "width": 4}, settings={"precision": "bf16"}),
        "airbench on light": Case("light", "airbench", settings={"shift": 2}),
    }
    CASES |= {
        "recipe photos on light": Case("colour", recipe="photos"),
        "recipe tutorial-line": Case("quantities", recipe="tutorial-line"),
        "moved": Case("colour", "mlp", settings={"rotate": 9.0, "scale": 0.1, "shear": 5.0, "valid": 0.0}),
        "erased": Case("pictures", settings={"erase": 0.5, "precision": "bf16"}),
        "words left out": Case("texts", {"name": "bag", "hidden": 8}, settings={"word_dropout": 0.2}),
        "steps": Case("numbers", settings={"schedule": "step", "every": 1, "optimizer": "rmsprop", "ema": 0.9}),
        "at": Case("numbers", settings={"schedule": "multi-step", "at": (1, 2), "optimizer": "adagrad", "monitor": "accuracy"}),
        "weights": Case("numbers", settings={"class_weights": "balanced", "patience": 1, "epochs": 5}),
        "no gradient": Case("quantities", settings={"loss": "l1", "scale_targets": False}),
        "threads": Case("pictures", settings={"threads": 2}),
    }  # fmt: skip


class Ejected(NamedTuple):
    """A run, its program, and what that printed."""

    run: epochal.Run
    program: Path
    printed: list[str]


def _train(case: Case, folder: Path) -> tuple[epochal.Run, Any]:
    folder.mkdir()
    source, read = DATA[case.data](folder)
    settings = {"epochs": 2, "batch_size": 16, "threads": 1, "device": "cpu", **read, **dict(case.settings)}
    return epochal.train(source, case.recipe, model=case.model, out=folder / "run", quiet=True, **settings), source


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ejected")


@pytest.fixture(scope="module")
def ejected(folder: Path) -> dict[str, Ejected]:
    """Every case: trained, ejected in both languages, and run in one process."""
    runs, programs = {}, {}
    for name, case in CASES.items():
        runs[name], source = _train(case, folder / name)
        for language in ("en", "zh"):
            made = eject(folder / name / "run", folder / name / language / "program.py", language=language, data=source)
            programs[name, language] = made.program
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"PYTHONUTF8": "1"}
    command = [sys.executable, "-c", _HOST, *(str(programs[name, "en"]) for name in CASES), str(programs["pictures", "zh"])]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    said = dict(part.split("\n", 1) for part in done.stdout.split("# ")[1:])
    return {name: Ejected(runs[name], programs[name, "en"], said[str(programs[name, "en"])].splitlines()) for name in CASES} | {
        "chinese": Ejected(runs["pictures"], programs["pictures", "zh"], said[str(programs["pictures", "zh"])].splitlines())
    }


@pytest.mark.parametrize("name", [*CASES, "chinese"])
def test_the_weights_are_the_same_bits(name: str, ejected: dict[str, Ejected]) -> None:
    run, program, printed = ejected[name]
    assert run.folder is not None
    weights = program.with_suffix(".weights.safetensors").read_bytes()
    assert weights == (run.folder / "model" / "model.safetensors").read_bytes()
    assert printed[-1].endswith(": True") or printed[-1].endswith("：True")


@pytest.mark.parametrize("name", [*CASES, "chinese"])
def test_the_scores_are_the_same(name: str, ejected: dict[str, Ejected]) -> None:
    run, _, printed = ejected[name]
    if run.test is None:
        assert len(printed) <= len(run.fit.epochs) + 2
        return
    measured = f"{run.test.mae:.6g}" if run.test.accuracy is None else f"{run.test.accuracy:.2%}"
    assert measured in printed[-2]
    assert f"{run.test.count:,}" in printed[-2]


@pytest.mark.parametrize("name", CASES)
def test_a_program_is_short_and_imports_little(name: str, ejected: dict[str, Ejected]) -> None:
    source = ejected[name].program.read_text()
    assert source.count("\n") <= MOST_LINES
    assert "uses." not in source
    assert "epochal" not in source
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = {node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in nodes}
    assert {str(module).split(".")[0] for module in modules} <= _ALLOWED
    # All that is defined at the top is used.
    tree = ast.parse(source)
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assert defined <= used
    assert set(re.findall(r"^([A-Z_]+) =", source, re.MULTILINE)) <= used


@pytest.mark.usefixtures("ejected")
def test_programs_are_as_ruff_has_them(folder: Path) -> None:
    ruff, settings = [sys.executable, "-m", "ruff"], ["--config", str(Path(__file__).parents[2] / "pyproject.toml"), "--no-cache"]
    programs = [str(path) for path in folder.rglob("program.py")]
    ignored = ["--ignore", "D1,INP,S,T20"]
    for arguments in (["check", *ignored], ["format", "--diff"]):
        done = subprocess.run([*ruff, *arguments, *settings, *programs], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def test_nothing_is_left_in_english(folder: Path, ejected: dict[str, Ejected]) -> None:
    left = {
        text
        for path in folder.rglob("zh/program.py")
        for text in texts(path.read_text("utf-8"))
        if not re.search("[\u4e00-\u9fff]", text) and not re.fullmatch("[0-9 ×]+", text)
    }
    assert left == set()


def test_every_text_of_a_program_has_chinese() -> None:
    place = Path(epochal.__file__).parent / "ejected"
    said = {text for piece in (place / "pieces").glob("*.py") for text in texts(piece.read_text("utf-8"))}
    chinese = json.loads(TABLE.read_text("utf-8"))
    assert {text for text in said if text not in chinese} == set()
    # The others are comments on settings.
    plan = (place / "plan.py").read_text("utf-8")
    assert [
        text for text in chinese if text not in said and text.removesuffix(", for each channel").removesuffix(" at most") not in plan
    ] == []


def test_what_is_there_stays(folder: Path, ejected: dict[str, Ejected]) -> None:
    run, program, _ = ejected["table"]
    assert run.folder is not None
    with pytest.raises(TakenError):
        eject(run.folder, program)
    beside = folder / "other.safetensors"
    beside.write_bytes(b"mine")
    with pytest.raises(TakenError):
        eject(run.folder, folder / "other.py")
    with pytest.raises(OutputError, match="is not the name of a Python program"):
        eject(run.folder, folder / "program.txt")
    assert beside.read_bytes() == b"mine"
    assert not (folder / "other.py").exists()


def test_other_data_are_refused(folder: Path, ejected: dict[str, Ejected]) -> None:
    run = ejected["numbers"].run
    assert run.folder is not None
    with pytest.raises(DataError, match="the data have changed"):
        eject(run.folder, folder / "changed.py", data=(_X + 1, (_X[:, 0] > _X[:, 1]).long()))
    with pytest.raises(DataError, match="Python program"):
        eject(run.folder, folder / "changed.py")
    assert not (folder / "changed.py").exists()


def test_a_name_is_no_code(folder: Path) -> None:
    made = folder / 'x"""'
    made.mkdir()
    (made / "evil\\.csv").write_text("a,b\n" + "".join(f"{row % 7},{'xy'[row % 2]}\n" for row in range(60)))
    epochal.train(made / "evil\\.csv", target="b", epochs=1, threads=1, device="cpu", out=made / "run", quiet=True)
    program = eject(made / "run", made / '""" + 1.py').program.read_text()
    assert "_" in (ast.get_docstring(ast.parse(program)) or "")


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"mixup": 0.2}, "augment.mixup"),
        ({"policy": "rand"}, "augment.policy"),
        ({"device": "cuda"}, "device = cuda"),
        ({"compile": "on"}, "compile = on"),
        ({"max_seconds": 5.0}, "max_seconds"),
        ({"sampling": "balanced"}, "data.sampling = balanced"),
        ({"thresholds": "tuned"}, "thresholds = tuned"),
        ({"monitor": "f1"}, "monitor = f1"),
        ({"accumulate": 2}, "accumulate"),
        ({"model.name": "ast"}, "the network ast"),
        ({}, ""),
    ],
)
def test_what_is_not_written_is_named(settings: dict[str, Any], what: str) -> None:
    data = load(_pictures()).split(0.1, 0.2, 0)
    assert [name for name, _ in refusals(Recipe().updated({"device": "cpu", **settings}), data)] == [what] * bool(what)


def test_changes_of_the_number_of_threads_are_written(folder: Path, ejected: dict[str, Ejected], monkeypatch: pytest.MonkeyPatch) -> None:
    changes = Changes(rewinds=[], threads=[ThreadChange(3, 1, 2), ThreadChange(5, 2, 1)])
    monkeypatch.setattr("epochal.run.eject.read_changes", lambda *_: changes)
    run = ejected["table"].run
    assert run.folder is not None
    source = eject(run.folder, folder / "threads.py").program.read_text()
    assert "THREADS_FROM = {3: 1, 5: 2}" in source
    assert "torch.set_num_threads(THREADS_FROM.get(step, torch.get_num_threads()))" in source


def _own_net() -> nn.Module:
    return nn.Linear(5, 2)


def _own_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.cross_entropy(outputs, targets)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"model": _own_net()}, "A run with your own network Linear cannot be ejected: you have its code already."),
        ({"loss": _own_loss}, "A run with your own loss _own_loss cannot be ejected: you have its code already."),
        ({"model": {"name": "mlp", "widths": [2] * 60}}, r"would have \d+ lines, which is more than 200"),
    ],
)
def test_own_code_and_long_programs_are_refused(given: dict[str, Any], said: str, tmp_path: Path) -> None:
    source = DATA["numbers"](tmp_path)[0]
    epochal.train(source, small_recipe(epochs=1), out=tmp_path / "run", quiet=True, **given)
    with pytest.raises(ExportError, match=said):
        eject(tmp_path / "run", tmp_path / "program.py", data=source)
    assert not (tmp_path / "program.py").exists()
    assert not (tmp_path / "program.safetensors").exists()


def test_a_run_must_be_finished(tmp_path: Path) -> None:
    source = DATA["numbers"](tmp_path)[0]
    epochal.train(source, small_recipe(epochs=1), out=tmp_path / "run", quiet=True)
    (tmp_path / "run" / "result.json").unlink()
    with pytest.raises(BundleError, match="has not finished"):
        eject(tmp_path / "run", data=source)
    with pytest.raises(EpochalError):
        eject(tmp_path / "nowhere")


_PIECE = """a = 1
if uses.x:
    b = 2

    if not uses.y:
        c = 3
elif uses.y:
    d = 4
else:
    e = 5
if a:
    f = 6
else:
    g = 7"""


@pytest.mark.parametrize(("uses", "names"), [((), "aefg"), (("x",), "abcfg"), (("y",), "adfg"), (("x", "y"), "abfg")])
def test_only_what_is_used_is_taken(uses: tuple[str, ...], names: str) -> None:
    def found() -> Iterator[str]:
        for node in ast.walk(ast.parse("\n".join(pruned(_PIECE.splitlines(), uses)))):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id

    assert "".join(sorted(found())) == names


def test_a_program_says_what_its_outputs_stand_for(ejected: dict[str, Ejected]) -> None:
    for name, one in ejected.items():
        (line,) = (
            line for line in one.program.read_text("utf-8").splitlines() if line.startswith(("Its outputs stand for", "输出依次代表"))
        )
        assert all(output in line for output in one.run.data.outputs), name
    many = _named([f"class {number}" for number in range(100)], ", ")
    assert many.endswith("class 8, class 9, ...")
    assert _named(["x" * 99], ", ") == "x" * 30
