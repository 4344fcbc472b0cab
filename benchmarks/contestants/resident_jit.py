"""The best loop by hand, model and loss compiled by `torch.compile`, which needs a C++ compiler, and time at first."""

from functools import partial

from benchmarks.contestants.resident import train
from benchmarks.protocol import main

if __name__ == "__main__":
    main(partial(train, compiled=True))
