"""Bring your own optimizer and schedule: a rate for each part of the network, and a function of the step that scales them all."""

from torch import Tensor, nn
from torch.optim import AdamW

import epochal

STEPS = 8 * 20  # 1,258 training pictures in batches of 64 are 20 steps an epoch


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
        self.head = nn.Linear(16 * 4 * 4, 10)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.head(self.features(pictures))


net = Net()


def optimizer(_: list[nn.Parameter]) -> AdamW:
    # With one rate for all: AdamW(parameters, lr=0.01). Without a schedule the rates stay constant.
    return AdamW([{"params": net.features.parameters(), "lr": 0.003}, {"params": net.head.parameters(), "lr": 0.01}])


def schedule(step: int) -> float:
    """The factor on each group's rate: up for a tenth of the steps, then down."""
    return min((step + 1) / (STEPS / 10), (STEPS - step) / (STEPS * 0.9))


if __name__ == "__main__":
    run = epochal.train("digits", model=net, epochs=8, optimizer=optimizer, schedule=schedule)
    print([group["lr"] for group in run.fit.optimizer["groups"]])
    print(run.test)
