"""fastai's Learner, without progress bar (not imported) and without printing (`no_logging`: documentation, "Learner").

Data: fastai's DataLoader with `do_item` and `create_batch` replaced so that a batch is one gather, which is how fastai reads data
that fit memory itself (documentation, "Tabular core": TabDataLoader). Optimizer: PyTorch's fused Adam in `OptimWrapper`
(documentation, "Optimizers").
"""

from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.protocol import RATE, Job, Outcome, Stopwatch, accuracy, let_torchvision_import, main, mlp, mnist

let_torchvision_import()

from fastai.callback.core import Callback  # noqa: E402
from fastai.data.core import DataLoaders  # noqa: E402
from fastai.data.load import DataLoader  # noqa: E402
from fastai.learner import Learner  # noqa: E402
from fastai.optimizer import OptimWrapper  # noqa: E402


class Gathered(DataLoader):
    """Batches gathered by index from resident tensors."""

    def do_item(self, s: int | None) -> int:
        """Leave an example's number as it is."""
        return s or 0

    def create_batch(self, b: list[int]) -> tuple[Tensor, ...]:
        """Gather the examples of these numbers."""
        return self.dataset[b]


class Clock(Callback):
    """A clock."""

    def __init__(self) -> None:
        self.watch = Stopwatch()

    def before_train(self) -> None:
        """Start it, before an epoch's first batch."""
        self.watch.start()

    def after_train(self) -> None:
        """Stop it, before validation."""
        self.watch.stop()


def train(job: Job) -> Outcome:
    """Train."""
    x, y, x_test, y_test = mnist(job.data_dir)
    training = Gathered(torch.utils.data.TensorDataset(x, y), bs=job.batch_size, shuffle=True)
    # A Learner wants validation data; its clock stands still meanwhile.
    validation = Gathered(torch.utils.data.TensorDataset(x_test, y_test), bs=1000)
    make = partial(OptimWrapper, opt=partial(torch.optim.Adam, fused=True))
    clock = Clock()
    dls = DataLoaders(training, validation, device=torch.device("cpu"))
    learner = Learner(dls, mlp(), loss_func=nn.CrossEntropyLoss(), opt_func=make, lr=RATE, cbs=clock)
    with learner.no_logging():
        learner.fit(job.epochs)
    return Outcome(clock.watch.seconds, accuracy(learner.model, x_test, y_test))


if __name__ == "__main__":
    main(train)
