"""skorch's NeuralNetClassifier on tensors, without validation split and with `callbacks="disable"` (API page of NeuralNet).

Data: PyTorch's DataLoader in bulk, by `iterator_train__...` (FAQ: "How do I shuffle my train batches?"). Optimizer: fused Adam,
by `optimizer__fused`.
"""

from typing import Any

import torch
from skorch import NeuralNetClassifier
from torch import nn
from torch.utils.data import BatchSampler, RandomSampler

from benchmarks.protocol import RATE, Job, Outcome, Stopwatch, accuracy, main, mlp, mnist

clock = Stopwatch()


class Timed(NeuralNetClassifier):
    """A net with a clock; these methods run even where callbacks are disabled."""

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        """Start the clock."""
        clock.start()
        super().on_epoch_begin(net, **kwargs)

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Stop the clock."""
        super().on_epoch_end(net, **kwargs)
        clock.stop()


def train(job: Job) -> Outcome:
    """Train."""
    x, y, x_test, y_test = mnist(job.data_dir)
    net = Timed(
        mlp,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        optimizer__fused=True,
        lr=RATE,
        max_epochs=job.epochs,
        train_split=None,
        callbacks="disable",
        verbose=0,
        iterator_train__sampler=BatchSampler(RandomSampler(range(len(x))), job.batch_size, drop_last=False),
        iterator_train__batch_size=None,
    )
    net.fit(x, y)
    return Outcome(clock.seconds, accuracy(net.module_, x_test, y_test))


if __name__ == "__main__":
    main(train)
