"""One compiled function gives the gradients that the plain loop gets, up to rounding."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from epochal.errors import RecipeError
from epochal.recipe import Recipe
from epochal.tasks import own_loss
from epochal.training.compiled import Compiled

CPU = torch.device("cpu")

# The compiler of PyTorch 2.13 itself uses what PyTorch 2.13 advises against.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")


def _compiled(model: nn.Module, **changes: Any) -> Compiled:
    return Compiled(model, own_loss(nn.functional.cross_entropy), Recipe().updated({"batch_size": 8, **changes}), CPU)


def _batch() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(8, 3, 6, 6), torch.arange(8) % 2


@pytest.mark.usefixtures("_compiler")
def test_loss_gradients_and_statistics_are_those_of_the_plain_loop() -> None:
    inputs, targets = _batch()
    ours = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
    ours[0].requires_grad_(False)
    theirs = copy.deepcopy(ours)
    compiled = _compiled(ours)
    for _ in range(2):
        value = compiled(inputs, targets)
        theirs.zero_grad()
        loss = nn.functional.cross_entropy(theirs(inputs), targets)
        loss.backward()
        torch.testing.assert_close(value, loss.detach())
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert (mine.grad is None) == (other.grad is None)
            if mine.grad is not None:
                torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-6)
    for kept, wanted in zip(ours.buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(kept, wanted)


@pytest.mark.usefixtures("_compiler")
def test_what_cannot_be_one_graph_is_told() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(108, 2)

        def forward(self, x: Tensor) -> Tensor:
            if float(x.sum()) > 0:
                x = x + 1
            outputs: Tensor = self.layer(x.flatten(1))
            return outputs

    with pytest.raises(RecipeError, match=r"cannot be compiled: .*\n.*compile = off"):
        _compiled(Branching())(*_batch())


@pytest.mark.usefixtures("_compiler")
def test_no_compiler_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    no_compiler = torch._inductor.config.patch({"cpp.cxx": (str(tmp_path / "none"),)})
    with no_compiler, pytest.raises(RecipeError, match="cannot be compiled: .*(none|compiler)"):
        _compiled(nn.Sequential(nn.Flatten(), nn.Linear(108, 2), nn.Tanh()))(*_batch())


@pytest.mark.parametrize("changes", [{"accumulate": 2}, {"precision": "fp16"}])
def test_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=f"compile = on does not work with {next(iter(changes))}"):
        _compiled(nn.Linear(3, 2), **changes)


def test_an_older_pytorch_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo import config

    if hasattr(config, "trace_autograd_ops"):
        monkeypatch.delitem(vars(config)["_config"], "trace_autograd_ops")
    with pytest.raises(RecipeError, match="cannot compile a backward pass"):
        _compiled(nn.Sequential(nn.Flatten(), nn.Linear(108, 2)))(*_batch())
