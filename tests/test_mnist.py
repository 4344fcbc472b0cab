"""The tutorial programs on the real MNIST; they run where EPOCHAL_DATA has it."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from epochal.data.load import Data, load
from epochal.run.train import train


@pytest.fixture(scope="module")
def mnist() -> Data:
    place = os.environ.get("EPOCHAL_DATA")
    if not place or not (Path(place) / "mnist").is_dir():
        pytest.skip("EPOCHAL_DATA does not name a folder that has mnist/")
    return load("mnist")


def test_the_real_mnist(mnist: Data) -> None:
    assert mnist.spec.counts == {"train": 60_000, "test": 10_000}
    assert mnist.spec.task.class_counts["test"] == (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009)
    rule: Any = mnist.spec.input
    assert rule.mean == pytest.approx((0.1307,), abs=1e-4)
    assert rule.std == pytest.approx((0.3081,), abs=1e-4)


def test_the_tutorial_mlp_reaches_97_percent(mnist: Data) -> None:
    test = train(mnist, "tutorial-mlp", watchers=()).test
    assert test is not None
    assert test.accuracy is not None
    assert 0.97 <= test.accuracy <= 0.985


def test_the_tutorial_cnn_learns(mnist: Data) -> None:
    parts = {name: mnist.splits[name].take(torch.arange(count)) for name, count in (("train", 4000), ("test", 1000))}
    some = {name: (part.inputs, part.targets) for name, part in parts.items()}
    # Over six seeds 60 steps reach 88 to 91 %; 40 steps reach 79 to 86.
    test = train(some, "tutorial-cnn", max_steps=60, watchers=()).test
    assert test is not None
    assert test.accuracy is not None
    assert test.accuracy >= 0.8
