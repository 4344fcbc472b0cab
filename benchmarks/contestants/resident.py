"""The best loop that a person writes by hand: resident tensors, one gather for a batch, fused Adam, no DataLoader."""

import torch
from torch import Tensor, nn

from benchmarks.protocol import Job, Outcome, Stopwatch, accuracy, adam, main, mlp, mnist


def train(job: Job, *, compiled: bool = False) -> Outcome:
    """Train."""
    x, y, x_test, y_test = mnist(job.data_dir)
    model, loss_of, clock = mlp(), nn.CrossEntropyLoss(), Stopwatch()
    optimizer = adam(model)

    def loss_for(inputs: Tensor, targets: Tensor) -> Tensor:
        return loss_of(model(inputs), targets)

    if compiled:
        loss_for = torch.compile(loss_for)
    for _ in range(job.epochs):
        clock.start()
        model.train()
        for places in torch.randperm(len(x)).split(job.batch_size):
            loss = loss_for(x.index_select(0, places), y.index_select(0, places))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        clock.stop()
    return Outcome(clock.seconds, accuracy(model, x_test, y_test))


if __name__ == "__main__":
    main(train)
