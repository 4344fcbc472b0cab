"""A run on a large table, in a process of its own; the last line is a JSON object with its memory, seconds and losses.

    python -m benchmarks.table_run FILE --target NAME --epochs 3 --batch-size 256

`torch` is the most memory that the process had held when PyTorch was imported, `started` and `trained` when training began and ended; all
are bytes. `epochs` are (seconds, seconds of the processor, validation loss), from the beginning of training on.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any


def peak() -> int:
    """Return the most memory that this process has held, in bytes; getrusage would count that of the process that started it."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def main() -> None:
    """Read the command line, train, and print what was measured."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--target", required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--batch-size", type=int)
    options = parser.parse_args()
    import torch  # noqa: F401

    found: dict[str, Any] = {"torch": peak(), "epochs": []}
    import epochal
    from epochal.training.records import EpochDone, Finished, Started

    begun = {"seconds": time.perf_counter(), "busy": time.process_time()}

    def watch(record: object) -> None:
        passed = time.perf_counter() - begun["seconds"], time.process_time() - begun["busy"]
        if isinstance(record, Started):
            found.update(started=peak(), read=passed, batch_size=record.recipe.batch_size)
            begun.update(seconds=time.perf_counter(), busy=time.process_time())
        elif isinstance(record, EpochDone) and record.valid is not None:
            found["epochs"].append((*passed, record.valid.loss))
        elif isinstance(record, Finished):
            found.update(trained=peak())

    settings = {} if options.batch_size is None else {"batch_size": options.batch_size}
    run = epochal.train(options.file, target=options.target, epochs=options.epochs, quiet=True, watchers=[watch], **settings)
    found.update(rows=sum(map(len, run.data.splits.values())), train=len(run.data.train), columns=run.data.input.size)
    print("\n" + json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
