"""Hugging Face's Trainer with a model of one's own, which returns its loss (API page "Trainer", "your own model").

Data: PyTorch's bulk DataLoader, by `get_train_dataloader` (guide "Subclassing Trainer methods"). Optimizer: "adamw_torch_fused"
without weight decay, which is Adam. Constant rate, no clipping, no logging, no filter of NaNs: the work of the others, and no more.
"""

import tempfile
from typing import Any

from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.protocol import RATE, Job, Outcome, Stopwatch, accuracy, bulk_loader, let_torchvision_import, main, mlp, mnist

let_torchvision_import()

from transformers import Trainer, TrainerCallback, TrainingArguments  # noqa: E402


class Model(nn.Module):
    """The model as Trainer wants it."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.loss_of = mlp(), nn.CrossEntropyLoss()

    def forward(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss and the outputs."""
        outputs = self.net(x)
        return self.loss_of(outputs, labels), outputs


class Named(TensorDataset):
    """Examples by name, as Trainer wants them."""

    def __getitem__(self, index: Any) -> dict[str, Tensor]:
        """Return examples by their numbers."""
        x, y = super().__getitem__(index)
        return {"x": x, "labels": y}


class OwnTrainer(Trainer):
    """A Trainer that reads in bulk."""

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return the batches."""
        loader = bulk_loader(*self.train_dataset.tensors, self.args.train_batch_size)
        return DataLoader(self.train_dataset, sampler=loader.sampler, batch_size=None)


class Clock(TrainerCallback):
    """A clock."""

    def __init__(self) -> None:
        self.watch = Stopwatch()

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        """Start it."""
        self.watch.start()

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        """Stop it."""
        self.watch.stop()


def train(job: Job) -> Outcome:
    """Train."""
    x, y, x_test, y_test = mnist(job.data_dir)
    model, clock = Model(), Clock()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=job.epochs,
            per_device_train_batch_size=job.batch_size,
            learning_rate=RATE,
            lr_scheduler_type="constant",
            optim="adamw_torch_fused",
            weight_decay=0.0,
            max_grad_norm=0.0,
            logging_strategy="no",
            logging_nan_inf_filter=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            seed=job.seed,
        )
        OwnTrainer(model, arguments, train_dataset=Named(x, y), callbacks=[clock]).train()
    return Outcome(clock.watch.seconds, accuracy(model.net, x_test, y_test))


if __name__ == "__main__":
    main(train)
