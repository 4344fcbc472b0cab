"""Epochal: the recipe that is the tutorial's program; pixels stay uint8, and scaling them is part of the model and of the time.

It has the threads that all have, PyTorch's default number, and does not look for a faster one.
"""

import epochal
import torch

from benchmarks.protocol import Job, Outcome, Stopwatch, main


def train(job: Job) -> Outcome:
    """Train."""
    clock = Stopwatch()

    def watch(record: object) -> None:
        # From before the first batch, or from the end of the epoch before, to the end of the epoch: all that lies between counts.
        if isinstance(record, epochal.EpochDone):
            clock.stop()
        if isinstance(record, epochal.Started | epochal.EpochDone):
            clock.start()

    run = epochal.train(
        "mnist", "tutorial-mlp", data_dir=job.data_dir, epochs=job.epochs, batch_size=job.batch_size, seed=job.seed, device="cpu",
        threads=torch.get_num_threads(), watchers=[watch], quiet=True,
    )  # fmt: skip
    return Outcome(clock.seconds, run.test.accuracy)


if __name__ == "__main__":
    main(train)
