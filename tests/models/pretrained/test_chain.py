"""Where a trunk may be cut is found by trying."""

import torch
from torch import Tensor, nn

from epochal.models.pretrained.chain import chain_of, last_of


class _Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = x + self.inner(x)
        return found


class _Ordered(nn.Module):
    """Its parts follow one another, but it is no Sequential."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(4, 4)
        self.blocks = nn.Sequential(_Residual(), _Residual())
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.norm(self.blocks(self.stem(x)))
        return found


class _Jumping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.second(x) + self.first(x)
        return found


def test_parts_follow_one_another_at_any_depth() -> None:
    trunk, inputs = nn.Sequential(nn.Flatten(), _Ordered()), torch.randn(2, 4)
    parts = chain_of(trunk, inputs)
    assert [type(part).__name__ for part in parts] == ["Flatten", "Linear", "_Residual", "_Residual", "BatchNorm1d"]
    assert all(module.training for module in trunk.modules())


def test_what_is_no_chain_stays_whole() -> None:
    trunk = _Jumping()
    assert chain_of(trunk, torch.randn(2, 4)) == [trunk]
    assert last_of([trunk], 0.5) == 0


def test_the_last_parts_by_their_share_of_the_weights() -> None:
    parts = [nn.Linear(1, 1), nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1)]
    assert [last_of(parts, share) for share in (0.3, 0.5, 0.9)] == [3, 1, 0]
