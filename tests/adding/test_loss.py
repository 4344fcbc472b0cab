"""How to add a loss: a function of (outputs, targets) that returns the mean over the batch; it needs no line anywhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import Tensor
from torch.nn import functional

from epochal import resume, train
from epochal.errors import RecipeError


def focal(outputs: Tensor, targets: Tensor) -> Tensor:
    """Examples that are right already count less (Lin et al., 2017, "Focal loss for dense object detection")."""
    loss = functional.cross_entropy(outputs, targets, reduction="none")
    return ((1 - (-loss).exp()) ** 2 * loss).mean()


def test_it_trains_is_reported_and_is_asked_for_again(blobs: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    run = train(blobs, loss=focal, epochs=20, lr=0.05, out=tmp_path / "run", quiet=True)
    assert run.test is not None
    assert run.test.accuracy is not None
    assert run.test.accuracy >= 0.9
    assert run.test.loss == pytest.approx(float(focal(run.test.outputs, run.test.targets)))
    with pytest.raises(RecipeError, match=r"was trained with your own loss, focal\.\nPass it again, as loss=\.\.\."):
        resume(tmp_path / "run", data=blobs, epochs=21, quiet=True)
    longer = resume(tmp_path / "run", data=blobs, loss=focal, epochs=21, quiet=True)
    assert longer is not None
    assert len(longer.fit.epochs) == 21


def test_a_sum_is_refused(blobs: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(RecipeError, match="gives a sum over the batch"):
        train(blobs, loss=lambda outputs, targets: functional.cross_entropy(outputs, targets, reduction="sum"), quiet=True)
