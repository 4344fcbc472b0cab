"""Changes in the user's code since training are detected."""

from __future__ import annotations

import hashlib
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy
import pytest
from click.testing import CliRunner
from torch import Tensor, nn

from epochal.bundle import Bundle
from epochal.cli.main import cli
from epochal.models.build import load_net
from epochal.models.own_code import changed_code, own_code
from epochal.run.train import train

Arrays = tuple[Tensor, Tensor]
NET = """from torch import nn
import shapes
from shapes import turned
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 3)
    def forward(self, x):
        return turned(self.layer(x))
"""


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A network's file, and one that it uses."""
    monkeypatch.delitem(sys.modules, "shapes", raising=False)
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "shapes.py").write_text("def turned(x): return x\n")
    return tmp_path / "net.py"


def test_the_files_of_a_network_and_those_that_they_use(net: Path, make_spec: Any) -> None:
    model = load_net(f"{net}:Net", make_spec())
    trained = {"net.py": _digest(net), "shapes.py": _digest(net.parent / "shapes.py")}
    assert own_code(model) == own_code(nn.Sequential(nn.Linear(1, 1), model)) == trained
    assert own_code(nn.Sequential(nn.Linear(1, 1))) == {}
    assert changed_code(model, trained) == []
    # Under another name it is the same code.
    assert changed_code(model, {"old.py": trained["net.py"]}) == []
    (net.parent / "shapes.py").write_text("def turned(x): return -x\n")
    assert changed_code(model, trained) == ["shapes.py"]


def test_a_class_without_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = type("Typed", (nn.Linear,), {"__module__": "__main__"})
    monkeypatch.setattr("inspect.getfile", lambda _: "/nowhere/cell.py")
    monkeypatch.setattr("inspect.getsource", lambda _: "class Typed(nn.Linear): pass")
    assert own_code(kind(1, 1)) == {"Typed": hashlib.sha256(b"class Typed(nn.Linear): pass").hexdigest()}
    monkeypatch.undo()
    assert own_code(kind(1, 1)) == {}


def test_a_bundle_tells_that_the_code_changed(net: Path, blobs: Arrays, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = train(blobs, {"epochs": 1}, model=f"{net}:Net", out=run, quiet=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same = Bundle.load(run, f"{net}:Net")
    assert same.code == done.bundle.code
    numpy.save(tmp_path / "x.npy", blobs[0][:3].numpy())
    net.write_text(NET.replace("turned(self.layer(x))", "-turned(self.layer(x))"))
    reported = "the code of the network has changed since training (net.py): its predictions may be wrong."
    with pytest.warns(UserWarning, match=re.escape(reported)) as caught:
        other = Bundle.load(run / "model", f"{net}:Net")
    assert caught[0].filename == __file__
    # What is saved again is still what was trained.
    with pytest.warns(UserWarning, match=re.escape(reported)):
        Bundle.load(other.save(tmp_path / "copy"), f"{net}:Net")
    for arguments in (["predict", run, tmp_path / "x.npy"], ["summary", run]):
        shown = CliRunner().invoke(cli, [*map(str, arguments), "--model", f"{net}:Net"])
        assert f"note: {reported}" in shown.stderr, shown
    numpy.savez(tmp_path / "d.npz", x=blobs[0].numpy(), y=blobs[1].numpy())
    shown = CliRunner().invoke(cli, ["evaluate", str(run), str(tmp_path / "d.npz"), "--model", f"{net}:Net", "--include-training"])
    assert f"note: {reported}" in shown.output, shown
