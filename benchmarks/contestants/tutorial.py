"""The tutorial's program as written: torchvision's MNIST and transforms, one picture at a time through a DataLoader.

Only the clock, the model's place in the file, and where the data come from are ours.
"""

import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
import torch.utils.data
from torch import nn, optim

from benchmarks.protocol import Job, Outcome, Stopwatch, idx, let_torchvision_import, main

let_torchvision_import()

from torchvision import datasets, transforms  # noqa: E402

_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(28 * 28, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x):
        x = x.view(-1, 28 * 28)
        x = F.relu(self.fc1(x))
        return self.fc2(x)


def train(model, device, train_loader, optimizer, epoch):
    model.train()
    for batch_idx, (data, target) in enumerate(train_loader):
        data, target = data.to(device), target.to(device)
        optimizer.zero_grad()
        output = model(data)
        loss = F.cross_entropy(output, target)
        loss.backward()
        optimizer.step()
        if batch_idx % 100 == 0:
            print(f"Epoch: {epoch} [{batch_idx * len(data)}/{len(train_loader.dataset)}] Loss: {loss.item():.6f}")


def test(model, device, test_loader):
    model.eval()
    correct = 0
    with torch.no_grad():
        for data, target in test_loader:
            data, target = data.to(device), target.to(device)
            output = model(data)
            pred = output.argmax(dim=1)
            correct += pred.eq(target).sum().item()
    return correct / len(test_loader.dataset)


def loaders(data_dir: Path, batch_size: int):
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081))])
    with tempfile.TemporaryDirectory() as root:
        raw = Path(root, "MNIST", "raw")
        raw.mkdir(parents=True)
        for name in _FILES:
            (raw / name).write_bytes(idx(data_dir, name))
        train_loader = torch.utils.data.DataLoader(
            dataset=datasets.MNIST(root, train=True, download=False, transform=transform), batch_size=batch_size, shuffle=True
        )
        test_loader = torch.utils.data.DataLoader(
            dataset=datasets.MNIST(root, train=False, download=False, transform=transform), batch_size=1000, shuffle=False
        )
    return train_loader, test_loader


def program(job: Job) -> Outcome:
    train_loader, test_loader = loaders(job.data_dir, job.batch_size)
    device = torch.device("cpu")
    model = Net().to(device)
    optimizer = optim.Adam(model.parameters(), lr=0.001)
    clock = Stopwatch()
    for epoch in range(1, job.epochs + 1):
        clock.start()
        train(model, device, train_loader, optimizer, epoch)
        clock.stop()
    return Outcome(clock.seconds, test(model, device, test_loader))


if __name__ == "__main__":
    main(program)
