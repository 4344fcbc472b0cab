import gzip
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits

from epochal.data.sources import digits
from epochal.errors import DataError


def test_the_digits_are_those_of_scikit_learn() -> None:
    found = digits.read()
    part: Any
    part, theirs = found.parts["train"], load_digits()
    assert (found.name, list(found.parts), found.classes) == ("digits", ["train"], tuple("0123456789"))
    assert part.inputs.shape == (1797, 1, 8, 8)
    assert part.inputs.dtype == torch.uint8
    assert part.targets.dtype == torch.int64
    assert part.targets.tolist() == theirs.target.tolist()
    assert part.inputs[:, 0].tolist() == (theirs.images * 255 / 16).round().astype(int).tolist()
    assert part.inputs.max() == 255


def fake_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Any) -> None:
    data = tmp_path / "datasets" / "data"
    data.mkdir(parents=True)
    (data / "digits.csv.gz").write_bytes(content)
    spec = ModuleSpec("sklearn", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(digits, "find_spec", lambda name: spec)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"no gzip", r"digits\.csv\.gz cannot be read: .*\nReinstall scikit-learn"),
        (gzip.compress(b"1,2,x"), r"digits\.csv\.gz cannot be read"),
        (gzip.compress(b"1,2,3\n" * 50)[:-9], r"digits\.csv\.gz cannot be read"),
        (gzip.compress(b"1,2\n3,4"), r"digits\.csv\.gz has shape \(2, 2\), not \(1797, 65\)"),
    ],
    ids=["no gzip", "no number", "cut short", "other shape"],
)
def test_a_damaged_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Any, text: str) -> None:
    fake_package(tmp_path, monkeypatch, content)
    with pytest.raises(DataError, match=text):
        digits.read()


def test_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"is not installed\.\nInstall it: pip install scikit-learn"):
        digits.read()


def test_scikit_learn_is_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "sklearn"]:
        monkeypatch.delitem(sys.modules, name)
    digits.read()
    assert "sklearn" not in sys.modules
