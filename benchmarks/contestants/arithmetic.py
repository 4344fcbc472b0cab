"""The matrix products of an epoch of 784-128-10 and nothing else: the floor under every program that computes these gradients."""

import torch

from benchmarks.protocol import Job, Outcome, Stopwatch, main

COUNT = 60_000
# Two products forward; backward two for the weights and one for the hidden layer, none for the inputs.
FLOPS_PER_EXAMPLE = 2 * (2 * 784 * 128 + 3 * 128 * 10)


def train(job: Job) -> Outcome:
    """Multiply; nothing is learned."""
    clock = Stopwatch()
    sizes = [job.batch_size] * (COUNT // job.batch_size) + [COUNT % job.batch_size] * (COUNT % job.batch_size > 0)
    products = {size: step_products(size) for size in set(sizes)}
    for _ in range(job.epochs):
        clock.start()
        for size in sizes:
            for left, right, out in products[size]:
                torch.mm(left, right, out=out)
        clock.stop()
    return Outcome(clock.seconds, None)


def step_products(size: int) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Return the factors of a step's products, and where to write each."""
    x, hidden, outputs = (torch.randn(size, width) for width in (784, 128, 10))
    first, second = torch.randn(128, 784), torch.randn(10, 128)
    factors = [(x, first.T), (hidden, second.T), (outputs.T, hidden), (outputs, second), (hidden.T, x)]
    return [(left, right, torch.empty(len(left), right.shape[1])) for left, right in factors]


if __name__ == "__main__":
    main(train)
