"""Plain PyTorch as its quickstart teaches it: a TensorDataset, a DataLoader, Adam as it comes."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.protocol import RATE, Job, Outcome, Stopwatch, accuracy, main, mlp, mnist


def train(job: Job) -> Outcome:
    """Train."""
    x, y, x_test, y_test = mnist(job.data_dir)
    loader = DataLoader(TensorDataset(x, y), batch_size=job.batch_size, shuffle=True)
    model, loss_of, clock = mlp(), nn.CrossEntropyLoss(), Stopwatch()
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    for _ in range(job.epochs):
        clock.start()
        model.train()
        for inputs, targets in loader:
            loss = loss_of(model(inputs), targets)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        clock.stop()
    return Outcome(clock.seconds, accuracy(model, x_test, y_test))


if __name__ == "__main__":
    main(train)
