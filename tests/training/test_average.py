"""The moving average of weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from epochal.training.average import MovingAverage


@pytest.mark.parametrize("decay", [0.05, 0.9])
def test_moving_average_by_hand(decay: float) -> None:
    layer, norm = nn.Linear(2, 1), nn.BatchNorm1d(1)
    model = nn.Sequential(layer, norm)
    average = MovingAverage(model, decay)
    kept, average_of_inputs = average.module.state_dict(), model.state_dict()["1.running_mean"]
    wanted = layer.weight.detach().clone()
    for step in range(30):
        with torch.no_grad():
            layer.weight += torch.tensor([[1.0, -step]])
            average_of_inputs += 1
        average.update_parameters(model)
        share = min(decay, (1 + step) / (10 + step)) if step else 0.0
        wanted = share * wanted + (1 - share) * layer.weight.detach()
        torch.testing.assert_close(kept["0.weight"], wanted)
        # Running statistics are the model's latest, not an average.
        assert torch.equal(kept["1.running_mean"], torch.full((1,), step + 1.0))
    assert not torch.equal(kept["0.weight"], layer.weight)
