"""Models by name or from the user's own file; what does not fit the data is refused with the reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from epochal.data.inputs.preprocess import Preprocess
from epochal.data.spec import DataSpec
from epochal.errors import ModelError
from epochal.models.build import MODELS, TUTORIALS, assemble, build_net, check_model, eval_mode, load_net
from epochal.recipe import DataSettings
from epochal.tasks.regression import Rescale

SpecMaker = Callable[..., DataSpec]


@pytest.fixture
def picture_spec(make_spec: SpecMaker) -> DataSpec:
    return make_spec(shape=(1, 8, 8), dtype="uint8", mean=(0.5,), std=(0.25,))


def _refused(name: str, spec: DataSpec, options: dict[str, Any]) -> str:
    with pytest.raises(ModelError) as raised:
        build_net(name, spec, options)
    return str(raised.value)


def test_table() -> None:
    assert [*TUTORIALS] == sorted(TUTORIALS)
    assert [*MODELS] == [*sorted(MODELS.keys() - TUTORIALS.keys()), *TUTORIALS]
    for entry in MODELS.values():
        assert entry.description
        assert entry.build.__doc__


def test_default(make_spec: SpecMaker, picture_spec: DataSpec) -> None:
    large = make_spec(shape=(1, 13, 5), mean=(0.5,), std=(1.0,))
    assert [spec.input.default_model for spec in (large, picture_spec, make_spec())] == ["conv", "vgg", "mlp"]
    assert MODELS["mlp"].kind is None


@pytest.mark.parametrize(("name", "options"), [("conv", {"widths": (4,)}), ("mlp", {"widths": [3], "dropout": 0.5}), ("linear", {})])
def test_by_name(picture_spec: DataSpec, name: str, options: dict[str, Any]) -> None:
    net = build_net(name, picture_spec, options)
    assert net(torch.rand(2, 1, 8, 8)).shape == (2, 3)


def test_refused(make_spec: SpecMaker, picture_spec: DataSpec) -> None:
    assert _refused("covn", picture_spec, {}) == "Unknown model 'covn'.\nDid you mean 'conv'? A file works too: --model my_file.py:Net"
    assert _refused("mlp", picture_spec, {"width": 3}) == "The model mlp has no option 'width'.\nDid you mean 'widths'?"
    assert _refused("linear", picture_spec, {"widths": 3}) == "The model linear has no option 'widths'.\nIt has no options."
    assert _refused("conv", make_spec(), {}) == "The model conv is for pictures; these data have shape (2,).\nUse linear or mlp."
    assert _refused("resnet", picture_spec, {"depth": 9}) == (
        "The model resnet cannot be built with model.depth = 9: depth = 9 should be 8, 14, 20, 26, ... (6 n + 2), up to 1202.\n"
        "Change that option."
    )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mlp", {"widths": 3}),
        ("mlp", {"widths": [-1]}),
        ("mlp", {"widths": ["a"]}),
        ("mlp", {"widths": [0]}),
        ("mlp", {"widths": [2.5]}),
        ("mlp", {"dropout": 2.0}),
        ("conv", {"widths": [0]}),
        ("conv", {"widths": 3}),
        ("conv", {"dropout": "a"}),
        ("resnet", {"depth": "a"}),
        ("resnet", {"depth": 8, "width": 0}),
        ("resnet", {"depth": 8, "width": -1}),
    ],
)
def test_wrong_options(picture_spec: DataSpec, name: str, options: dict[str, Any]) -> None:
    assert _refused(name, picture_spec, options).startswith(f"The model {name} cannot be built with model.")


FILE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.layer = nn.Linear(2, 3)

    def forward(self, x):
        return self.layer(x)

class NeedsSpec(Net):
    def __init__(self, spec):
        super().__init__()
        self.outputs = spec.outputs

def make():
    return Net()

def make_for(spec, extra=1):
    return NeedsSpec(spec)

ready = Net()
number = 3

class Broken(Net):
    def __init__(self):
        raise KeyError("no such thing")

def not_a_net():
    return 3
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "my_net.py"
    path.write_text(FILE)
    return path


@pytest.mark.parametrize("name", ["Net", "NeedsSpec", "make", "make_for", "ready"])
def test_own_file(make_spec: SpecMaker, file: Path, name: str) -> None:
    net = load_net(f"{file}:{name}", make_spec())
    assert net(torch.rand(4, 2)).shape == (4, 3)
    if name in ("NeedsSpec", "make_for"):
        assert net.outputs == ("a", "b", "c")


@pytest.mark.parametrize(
    ("name", "reported"),
    [
        ("Nett", "{file} has no 'Nett'.\nDid you mean 'Net'?"),
        ("Broken", "{file}:Broken cannot be built: line 29: KeyError: 'no such thing'.\nFix that file."),
        ("not_a_net", "{file}:not_a_net gives a int, not an nn.Module.\nName a class of nn.Module, or a function returning one."),
        ("number", "{file}:number cannot be built: TypeError: 3 is not a callable object.\nFix that file."),
    ],
)
def test_wrong_names_in_own_file(make_spec: SpecMaker, file: Path, name: str, reported: str) -> None:
    with pytest.raises(ModelError) as raised:
        load_net(f"{file}:{name}", make_spec())
    assert str(raised.value) == reported.format(file=file)


@pytest.mark.parametrize(
    ("content", "reported"),
    [
        ("x = 1\nimport nothing_of_this_name\n", "cannot be run: line 2: ModuleNotFoundError: No module named 'nothing_of_this_name'."),
        ("def f(:\n", "cannot be run: SyntaxError: invalid syntax (my_net.py, line 1)."),
        ("import sys\nsys.exit(3)\n", "cannot be run: line 2: SystemExit: 3."),
        ("x = 1\n", "has no 'Net'.\nThere is none to choose from."),
    ],
)
def test_own_file_that_cannot_be_run(make_spec: SpecMaker, file: Path, content: str, reported: str) -> None:
    file.write_text(content)
    with pytest.raises(ModelError) as raised:
        load_net(f"{file}:Net", make_spec())
    assert str(raised.value).startswith(f"{file} {reported}")


def test_own_file_that_is_not_there(make_spec: SpecMaker, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as raised:
        load_net("Net", make_spec())
    assert str(raised.value) == "'Net' is not FILE.py:NAME.\nWrite for example my_file.py:Net"
    with pytest.raises(ModelError) as raised:
        load_net(f"{tmp_path}/none.py:Net", make_spec())
    assert str(raised.value) == f"There is no file {tmp_path}/none.py.\nCheck the path in --model."


def test_assemble(make_spec: SpecMaker, picture_spec: DataSpec) -> None:
    net = nn.Flatten()
    model = assemble(net, picture_spec, DataSettings(), rescale=True)
    assert [name for name, _ in model.named_children()] == ["preprocess", "net"]
    assert model.net is net
    white = torch.full((1, 1, 8, 8), 255, dtype=torch.uint8)
    torch.testing.assert_close(model(white), torch.full((1, 64), 2.0))
    own = assemble(net, picture_spec, DataSettings(mean=0, std=(0.5,)), rescale=True)
    torch.testing.assert_close(own(white), torch.full((1, 64), 2.0))
    assert isinstance(model.preprocess, Preprocess)


@pytest.mark.parametrize("rescale", [True, False])
def test_assemble_for_quantities(make_spec: SpecMaker, rescale: bool) -> None:
    spec = make_spec(task="regression", outputs=("y",), target_mean=(5.0,), target_std=(2.0,))
    model = assemble(nn.Linear(2, 1), spec, DataSettings(), rescale=rescale)
    assert any(isinstance(layer, Rescale) for layer in model) == rescale


def test_evaluating_restores_each_module() -> None:
    model = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2)).train()
    model[1].eval()
    with pytest.raises(ValueError, match="inside"), eval_mode(model):
        assert not any(module.training for module in model.modules())
        raise ValueError("inside")
    assert [module.training for module in model.modules()] == [True, True, False]


def test_check_returns_the_outputs_and_changes_nothing(make_spec: SpecMaker) -> None:
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 3)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    outputs = check_model(model, torch.rand(2, 2), make_spec())
    assert (outputs.shape, outputs.requires_grad, model.training) == ((2, 3), False, True)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_lazy_layers_can_be_trained_after_the_check(make_spec: SpecMaker) -> None:
    model = nn.Sequential(nn.LazyLinear(3))
    check_model(model, torch.rand(2, 2), make_spec())
    model(torch.rand(2, 2)).sum().backward()
    assert model[0].weight.grad is not None


class _Gives(nn.Module):
    def __init__(self, make: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.make = make

    def forward(self, x: Tensor) -> Any:
        return self.make(x)


@pytest.mark.parametrize(
    ("outputs", "make", "reported"),
    [
        (("a", "b", "c"), lambda x: x, "For 2 inputs the model gives outputs of shape (2, 2); the data ask for (2, 3).\n"),
        (("a", "b"), lambda x: x[:, 0], "For 2 inputs the model gives outputs of shape (2,); the data ask for (2, 2).\n"),
        (("a", "b"), lambda x: x[:1], "For 2 inputs the model gives outputs of shape (1, 2); the data ask for (2, 2).\n"),
        (("a", "b"), lambda x: (x, x), "For 2 inputs the model gives outputs of type tuple; the data ask for (2, 2).\n"),
        (
            ("a", "b"),
            lambda x: x @ x.T @ torch.rand(5, 1),
            "The model cannot take inputs of shape 2: mat1 and mat2 shapes cannot be multiplied",
        ),
        (("a", "b"), lambda x: x[:, 7], "The model cannot take inputs of shape 2: IndexError: index 7 is out of bounds"),
        (("a", "b"), lambda x: nn.functional.softmax(x, 9), "The model cannot take inputs of shape 2: "),
    ],
)
def test_model_that_does_not_fit(make_spec: SpecMaker, outputs: tuple[str, ...], make: Callable[[Tensor], Any], reported: str) -> None:
    with pytest.raises(ModelError) as raised:
        check_model(_Gives(make), torch.rand(2, 2), make_spec(outputs=outputs))
    assert str(raised.value).startswith(reported)


def test_fix_names_the_outputs(make_spec: SpecMaker) -> None:
    with pytest.raises(ModelError, match="Let its last layer have 3 outputs: a, b, c."):
        check_model(nn.Linear(2, 4), torch.rand(2, 2), make_spec())
    with pytest.raises(ModelError, match="Let its last layer have 7 outputs: a, b, c, d, e ..."):
        check_model(nn.Linear(2, 4), torch.rand(2, 2), make_spec(outputs=tuple("abcdefg")))


def test_one_quantity_needs_no_axis(make_spec: SpecMaker) -> None:
    spec = make_spec(task="regression", outputs=("y",))
    assert check_model(_Gives(lambda x: x[:, 0]), torch.rand(2, 2), spec).shape == (2,)
    assert check_model(_Gives(lambda x: x[:, :1]), torch.rand(2, 2), spec).shape == (2, 1)


def test_raw_pixels_without_preprocessing(picture_spec: DataSpec) -> None:
    with pytest.raises(ModelError) as raised:
        check_model(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), torch.zeros(2, 1, 8, 8, dtype=torch.uint8), picture_spec)
    assert str(raised.value).startswith("The model cannot take inputs of shape 1×8×8: mat1 and mat2 must have the same dtype")
    assert str(raised.value).endswith("A model given to fit gets inputs as they are (uint8); train puts preprocessing before it.")
