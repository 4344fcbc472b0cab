"""Plain PyTorch with the fastest DataLoader and Adam of its documentation: what the peers below are given."""

from torch import nn

from benchmarks.protocol import Job, Outcome, Stopwatch, accuracy, adam, bulk_loader, main, mlp, mnist


def train(job: Job) -> Outcome:
    """Train."""
    x, y, x_test, y_test = mnist(job.data_dir)
    loader = bulk_loader(x, y, job.batch_size)
    model, loss_of, clock = mlp(), nn.CrossEntropyLoss(), Stopwatch()
    optimizer = adam(model)
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
