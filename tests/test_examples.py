"""Every example runs as a program; those on MNIST and CIFAR-10 run on small stand-ins of the same files.

EPOCHAL_EXAMPLES=full .venv/bin/python -m pytest tests/test_examples.py        none of them learns for a few steps only
"""

import ast
import gzip
import os
import runpy
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import epochal
from tests.trunks import shrink

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bright squares, one place for each digit, in MNIST's files and in a folder like CIFAR-10's."""
    root = tmp_path_factory.mktemp("data")
    (root / "mnist").mkdir()
    random = np.random.default_rng(0)
    for name, count in (("train", 640), ("t10k", 100)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        pictures = random.integers(0, 60, (count, 28, 28), dtype=np.uint8)
        for picture, label in zip(pictures, labels.tolist(), strict=True):
            row, column = divmod(label, 4)
            picture[4 + 7 * row : 10 + 7 * row, 1 + 7 * column : 7 + 7 * column] = 255
        for kind, array in (("images-idx3", pictures), ("labels-idx1", labels)):
            header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            (root / "mnist" / f"{name}-{kind}-ubyte.gz").write_bytes(gzip.compress(header + array.tobytes(), 1))
    for split, count in (("train", 6), ("test", 2)):
        for kind_number in range(10):
            folder = root / "cifar" / split / f"kind{kind_number}"
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(20 * kind_number, 20 * kind_number + 20, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


EXPECTED = {
    "01_own_dataset.py": ([], "batches of 32"),
    "02_simple_nn.py": (["DATA/mnist", "--epochs", "2"], "Epoch [2/2], Loss: "),
    "03_device_and_dtype.py": ([], "inputs: torch.float32 labels: torch.int64"),
    "04_autograd.py": ([], "dy/dx = 4.0\ndy/da = 2.0\nd(x^4)/dx = 32.0\n"),
    "05_linear_regression.py": ([], "w = 2.00, b = 3.00"),
    "06_own_optimizer.py": ([], "Epoch 9,w:"),
    "07_mnist_cnn.py": (["DATA/mnist", "--epochs", "1"], f"Train epoch 1: 640/640, [{'-' * 50}>] 100%\nTest: average loss: "),
    "08_mnist_mlp.py": (["DATA/mnist", "--epochs", "2"], "Epoch: 2 [0/640] Loss: "),
    "09_batch_and_device.py": (["DATA/mnist", "--epochs", "1"], "batch 128 on cpu: "),
    "10_save_and_show.py": (["DATA/mnist", "--epochs", "5", "--out", "kept"], "pred result: 0"),
    "11_mnist_small_cnn.py": (["DATA/mnist", "--epochs", "1"], "Accuracy "),
    "12_cifar10_cnn.py": (["DATA/cifar", "--epochs", "1"], "Accuracy "),
    "13_catalogue.py": ([], "is really"),
    "14_rnn.py": ([], "Dora lost the race against Anna: Anna"),
    "15_transformer.py": ([], "pictures: Accuracy "),
    "16_text.py": ([], "精彩，非常好看: good"),
    "17_audio.py": ([], "the recording has a siren"),
    "18_table.py": ([], "columns that are not there count as missing values: "),
    "19_transfer.py": ([], "sounds, conv                Accuracy "),
    "20_own_trunk.py": ([], "odd or even, learning slowly Accuracy "),
    "own_dataset.py": ([], "Accuracy "),
    "own_module.py": ([], "Accuracy "),
    "own_optimizer.py": ([], "[0.003, 0.01]\nAccuracy "),
}


IS_FULL = os.environ.get("EPOCHAL_EXAMPLES") == "full"

# These learn for a few steps, after which their output says no more than this.
BRIEF = {
    "13_catalogue.py": "is really",
    "14_rnn.py": "Dora lost the race against Anna: ",
    "15_transformer.py": "pictures: Accuracy ",
    "17_audio.py": "the recording has a ",
    "19_transfer.py": "sounds, conv                Accuracy ",
    "20_own_trunk.py": "odd or even, learning slowly Accuracy ",
    "own_dataset.py": "Accuracy ",
}


def test_every_example_is_run() -> None:
    assert sorted(path.name for path in EXAMPLES.glob("*.py")) == sorted(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_example(name: str, stand_ins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, expected = EXPECTED[name]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [name, *(argument.replace("DATA", str(stand_ins)) for argument in arguments)])
    if name in BRIEF and not IS_FULL:
        expected = BRIEF[name]
        real = epochal.train
        monkeypatch.setattr(epochal, "train", lambda *given, **settings: real(*given, **(settings | {"epochs": 1, "max_steps": 5})))
        shrink(monkeypatch)
    with torch.random.fork_rng():
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    assert expected in capsys.readouterr().out


@pytest.mark.parametrize("name", EXPECTED)
def test_every_example_says_what_it_is(name: str) -> None:
    assert ast.get_docstring(ast.parse((EXAMPLES / name).read_text("utf-8")))
