"""The tutorial's CNN as a program of its own: torchvision's data, a loop by hand, SGD; after each epoch it is tested.

    python -m benchmarks.tutorial_cnn --data-dir FOLDER --target 0.99 --epochs 20 --seed 0

It ends when `target` or the last epoch is reached. The last line is a JSON object of three lists, an entry for each epoch: `accuracy`
(on the test data), `training_seconds` (so far, without tests) and `elapsed` (since the program began, with all).
"""

import time

_BEGAN = time.perf_counter()

import argparse  # noqa: E402
import json  # noqa: E402
from pathlib import Path  # noqa: E402

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

from benchmarks.contestants.tutorial import loaders, test  # noqa: E402


class Net(nn.Module):
    """Two 3x3 convolutions (32, 64), pooling, dropout, 9216-128-10, log-probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 32, 3, 1), nn.Conv2d(32, 64, 3, 1)
        self.dropout1, self.dropout2 = nn.Dropout2d(0.25), nn.Dropout(0.5)
        self.fc1, self.fc2 = nn.Linear(9216, 128), nn.Linear(128, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return log-probabilities, [batch, 10]."""
        x = F.relu(self.conv1(x))
        x = F.max_pool2d(self.conv2(x), 2)
        x = torch.flatten(self.dropout1(x), 1)
        x = self.dropout2(F.relu(self.fc1(x)))
        return F.log_softmax(self.fc2(x), dim=1)


def main() -> None:
    """Train and test in turns."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--target", type=float, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    train_loader, test_loader = loaders(options.data_dir, 64)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.025, momentum=0.9)
    results: dict[str, list[float]] = {"accuracy": [], "training_seconds": [], "elapsed": []}
    trained = 0.0
    for _ in range(options.epochs):
        started = time.perf_counter()
        model.train()
        for data, target in train_loader:
            optimizer.zero_grad()
            loss = F.nll_loss(model(data), target)
            loss.backward()
            optimizer.step()
        trained += time.perf_counter() - started
        results["accuracy"].append(test(model, torch.device("cpu"), test_loader))
        results["training_seconds"].append(trained)
        results["elapsed"].append(time.perf_counter() - _BEGAN)
        if results["accuracy"][-1] >= options.target:
            break
    print(json.dumps(results))


if __name__ == "__main__":
    main()
