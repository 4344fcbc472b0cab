"""Bring your own module: any nn.Module that takes float inputs and returns one output per class. Also on the command line:

epochal train digits --model examples/own_module.py:Net
"""

from torch import Tensor, nn

import epochal


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
        self.head = nn.Linear(16 * 4 * 4, 10)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.head(self.features(pictures))


if __name__ == "__main__":
    run = epochal.train("digits", model=Net(), epochs=10)
    print(run.test)
    print(run.summary())
