"""A pre-trained network answers another question about such pictures from few answers: its layers are kept, only the last one is new.

Networks of other packages are used likewise: net = torchvision.models.resnet18(weights="DEFAULT"); net.fc = nn.Linear(512, 2).
"""

import torch
from sklearn.datasets import load_digits
from torch import nn

import epochal

pixels, labels = load_digits(return_X_y=True)
pictures, labels = torch.tensor(pixels / 16).float().reshape(-1, 1, 8, 8), torch.tensor(labels)


class Net(nn.Module):
    """Convolutions that find features, and a layer that tells classes by them."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        convolutions = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(512, 64), nn.ReLU())
        self.last = nn.Linear(64, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.features(x))


# It learns to tell ten digits. torch.save(weights, FILE) and torch.load(FILE) would keep what it knows for another program.
run = epochal.train((pictures[:1200], labels[:1200]), model=Net(10), epochs=15, quiet=True)
print(f"ten digits: {run.test}")
weights = run.bundle.model.net.features.state_dict()

# Now it is asked whether digits are odd, with 30 pictures to learn that from.
few, others = slice(1200, 1230), slice(1230, None)
data = {"train": (pictures[few], labels[few] % 2), "test": (pictures[others], labels[others] % 2)}
for how in ("from scratch", "frozen", "learning slowly"):
    torch.manual_seed(0)
    net = Net(2)
    if how != "from scratch":
        net.features.load_state_dict(weights)
    if how == "frozen":
        net.features.requires_grad_(False)
    if how == "learning slowly":
        net.features.lr_scale = 0.1  # a tenth of the learning rate
    run = epochal.train(data, model=net, epochs=40, batch_size=5, valid=0.0, quiet=True)
    print(f"odd or even, {how:<15} {run.test}")
