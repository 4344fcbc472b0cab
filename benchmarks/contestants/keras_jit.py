"""Keras 3 with `jit_compile=True`, which is `torch.compile` on its PyTorch backend (API page "Model training APIs").

It needs a C++ compiler, and compiles for a while in its first epoch.
"""

from functools import partial

from benchmarks.contestants.keras import train
from benchmarks.protocol import main

if __name__ == "__main__":
    main(partial(train, jit_compile=True))
