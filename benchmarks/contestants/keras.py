"""Keras 3 on its PyTorch backend: `fit` on PyTorch's bulk DataLoader, a little faster here than arrays (API page "Model training APIs").

`steps_per_execution` must be 1 on this backend, and `jit_compile="auto"`, the default, is eager here (same page); `keras_jit` compiles.
Optimizer: Keras's own Adam, with PyTorch's epsilon. First weights: drawn as PyTorch draws them.
"""

import os

os.environ["KERAS_BACKEND"] = "torch"
os.environ["KERAS_TORCH_DEVICE"] = "cpu"

import keras

from benchmarks.protocol import RATE, Job, Outcome, Stopwatch, bulk_loader, main, mnist


class Clock(keras.callbacks.Callback):
    """A clock."""

    def __init__(self) -> None:
        super().__init__()
        self.watch = Stopwatch()

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:  # noqa: ARG002
        """Start it."""
        self.watch.start()

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:  # noqa: ARG002
        """Stop it."""
        self.watch.stop()


def train(job: Job, *, jit_compile: bool | str = "auto") -> Outcome:
    """Train."""
    keras.utils.set_random_seed(job.seed)
    x, y, x_test, y_test = mnist(job.data_dir)
    layers = [keras.Input((1, 28, 28)), keras.layers.Flatten()]
    for width, activation in ((128, "relu"), (10, None)):
        uniform = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
        layers.append(keras.layers.Dense(width, activation, kernel_initializer=uniform))
    model, clock = keras.Sequential(layers), Clock()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(RATE, epsilon=1e-8), loss, jit_compile=jit_compile)
    model.fit(bulk_loader(x, y, job.batch_size), epochs=job.epochs, verbose=0, callbacks=[clock])
    right = model.predict(x_test.numpy(), batch_size=1000, verbose=0).argmax(1) == y_test.numpy()
    return Outcome(clock.watch.seconds, float(right.mean()))


if __name__ == "__main__":
    main(train)
