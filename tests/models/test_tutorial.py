"""The tutorials' networks, by the number of their weights and by what they take."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from epochal.data.spec import DataSpec
from epochal.errors import ModelError
from epochal.models.build import TUTORIALS

SpecMaker = Callable[..., DataSpec]

DIGITS = tuple("0123456789")
# The counts that the tutorials' own programs print.
PARAMETERS = {
    "tutorial-mlp": 101_770,
    "tutorial-simple": 109_386,
    "tutorial-cnn": 1_199_882,
    "tutorial-small-cnn": 21_840,
    "tutorial-cifar": 16 * 28 + 32 * 145 + 2049 * 10 - 10 + 10,
}


def _shape(name: str) -> tuple[int, int, int]:
    return (3, 32, 32) if name == "tutorial-cifar" else (1, 28, 28)


def _spec(make_spec: SpecMaker, shape: tuple[int, int, int], outputs: tuple[str, ...] = DIGITS) -> DataSpec:
    return make_spec(shape=shape, outputs=outputs, mean=(0.0,) * shape[0], std=(1.0,) * shape[0])


def test_all_are_listed() -> None:
    assert set(PARAMETERS) == set(TUTORIALS)
    assert all(name.startswith("tutorial-") for name in TUTORIALS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_size_and_outputs(make_spec: SpecMaker, name: str) -> None:
    shape = _shape(name)
    net = TUTORIALS[name].build(_spec(make_spec, shape)).eval()
    assert sum(parameter.numel() for parameter in net.parameters()) == PARAMETERS[name]
    outputs = net(torch.rand(2, *shape))
    assert outputs.shape == (2, 10)
    # Those that end in log-probabilities say so, because they need another loss.
    gives_probabilities = bool(torch.allclose(outputs.logsumexp(1), torch.zeros(2), atol=1e-5))
    assert gives_probabilities == ("log-probabilities" in (TUTORIALS[name].build.__doc__ or ""))


@pytest.mark.parametrize("name", PARAMETERS)
def test_other_data(make_spec: SpecMaker, name: str) -> None:
    wanted = "×".join(map(str, _shape(name)))
    with pytest.raises(ModelError) as raised:
        TUTORIALS[name].build(_spec(make_spec, (1, 8, 8)))
    assert str(raised.value) == (
        f"The model {name} takes {wanted} pictures of 10 classes; these data have shape 1×8×8 and 10 outputs.\n"
        "Use conv or mlp, which take any."
    )
    with pytest.raises(ModelError, match=f"these data have shape {wanted} and 2 outputs"):
        TUTORIALS[name].build(_spec(make_spec, _shape(name), ("a", "b")))
