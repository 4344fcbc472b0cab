"""Lightning's Trainer in "barebones" mode, which its API page ("Trainer", flag barebones) gives for measuring raw speed.

Data: PyTorch's bulk DataLoader. Optimizer: PyTorch's fused Adam, from `configure_optimizers`.
"""

import logging
import warnings

from torch import Tensor, nn, optim

from benchmarks.protocol import Job, Outcome, Stopwatch, accuracy, adam, bulk_loader, let_torchvision_import, main, mlp, mnist

let_torchvision_import()

import lightning  # noqa: E402


class Module(lightning.LightningModule):
    """The model as Lightning wants it."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.loss_of, self.clock = mlp(), nn.CrossEntropyLoss(), Stopwatch()

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Return the loss."""
        inputs, targets = batch
        return self.loss_of(self.net(inputs), targets)

    def configure_optimizers(self) -> optim.Optimizer:
        """Return the optimizer."""
        return adam(self.net)

    def on_train_epoch_start(self) -> None:
        """Start the clock."""
        self.clock.start()

    def on_train_epoch_end(self) -> None:
        """Stop the clock."""
        self.clock.stop()


def train(job: Job) -> Outcome:
    """Train."""
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    x, y, x_test, y_test = mnist(job.data_dir)
    module = Module()
    trainer = lightning.Trainer(barebones=True, max_epochs=job.epochs, accelerator="cpu", devices=1)
    trainer.fit(module, bulk_loader(x, y, job.batch_size))
    return Outcome(module.clock.seconds, accuracy(module.net, x_test, y_test))


if __name__ == "__main__":
    main(train)
