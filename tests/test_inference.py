"""The one loop without gradients: all outputs in order, and the model as it was."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from epochal.data.examples import Examples
from epochal.data.feed import feed
from epochal.inference import infer

CPU = torch.device("cpu")
X = torch.randn(13, 4, generator=torch.Generator().manual_seed(0))
EXAMPLES = Examples(X, torch.zeros(13).long(), "train", torch.arange(13))


def _model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Dropout(0.5), nn.Linear(5, 2))


@pytest.mark.parametrize("batch_size", [1, 5, 13, 100])
def test_all_outputs_in_order(batch_size: int) -> None:
    model = _model()
    outputs = infer(model, feed(EXAMPLES, batch_size, CPU), CPU)
    torch.testing.assert_close(outputs, model.eval()(X).detach())
    assert (outputs.dtype, outputs.requires_grad, outputs.is_inference()) == (torch.float32, False, False)


def test_every_module_is_left_in_its_mode() -> None:
    model = _model().train()
    model[1].eval()
    before = [module.training for module in model.modules()]
    statistics = model[1].running_mean.clone()  # type: ignore[operator]
    infer(model, feed(EXAMPLES, 5, CPU), CPU)
    assert [module.training for module in model.modules()] == before
    assert torch.equal(model[1].running_mean, statistics)  # type: ignore[arg-type]


def test_modes_are_restored_after_an_error() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError("broken")

    model = nn.Sequential(_model(), Broken()).train()
    with pytest.raises(ValueError, match="broken"):
        infer(model, feed(EXAMPLES, 5, CPU), CPU)
    assert all(module.training for module in model.modules())


def test_number_format() -> None:
    model = _model()
    exact = infer(model, feed(EXAMPLES, 5, CPU), CPU)
    rough = infer(model, feed(EXAMPLES, 5, CPU), CPU, "bf16")
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, exact)
    torch.testing.assert_close(rough, exact, rtol=0.05, atol=0.05)
