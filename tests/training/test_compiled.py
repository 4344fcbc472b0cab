"""A compiled model learns what the plain one learns, up to rounding."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from epochal.errors import RecipeError
from epochal.training.compiled import compiled
from epochal.training.loop import fit
from tests.small import small_recipe

CPU = torch.device("cpu")


_recipe = partial(small_recipe, epochs=2, batch_size=8)


def _net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


# The compiler of PyTorch 2.13 itself uses what PyTorch 2.13 advises against.
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
def test_training_learns_the_same_up_to_rounding(blobs: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    # Otherwise a process for each core is started, which first imports PyTorch.
    monkeypatch.setattr("torch._inductor.config.compile_threads", 1)
    # Compiling takes longest: once, with what could get in its way.
    changes = {"accumulate": 2, "clip_norm": 1.0, "ema": 0.9}
    models = {"off": _net(), "on": _net()}
    losses = [
        [epoch.train_loss for epoch in fit(model, blobs, _recipe(compile=setting, **changes)).epochs] for setting, model in models.items()
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    torch.testing.assert_close(models["on"].state_dict(), models["off"].state_dict(), rtol=1e-3, atol=1e-5)


def test_only_whole_batches_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def counting(model: nn.Module, **_: object) -> Any:
        def forward(inputs: Tensor) -> Any:
            seen.append(len(inputs))
            return model(inputs)

        return forward

    monkeypatch.setattr(torch, "compile", counting)
    forward = compiled(nn.Linear(2, 3), _recipe(accumulate=3), CPU, 3)
    for size in (3, 2, 8):
        assert forward(torch.zeros(size, 2)).shape == (size, 3)
    assert seen == [3]


def test_what_cannot_be_compiled_is_told(blobs: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(model: nn.Module, **_: object) -> Any:
        def forward(inputs: Tensor) -> Tensor:
            raise RuntimeError("No working C++ compiler found")

        return forward

    monkeypatch.setattr(torch, "compile", failing)
    with pytest.raises(RecipeError, match=r"The model cannot be compiled: .*No working C\+\+ compiler found .*\nUse compile = off\."):
        fit(_net(), blobs, _recipe(compile="on"))
