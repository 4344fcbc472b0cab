"""One way to read the pictures of `remote.py`, in a process of its own.

    python -m benchmarks.remote_run write FOLDER SIDE COUNT     writes the data in the form of each way
    python -m benchmarks.remote_run WAY PLACE PACE EPOCHS FIRST

PLACE is a folder or a URL. Each batch of 64 pictures is one step, which takes as long as PACE (MB/s) says; 0 is no step at all. Reading
begins with batch FIRST. The last line is a JSON object: `begun` (seconds from opening to the first batch; imports do not count), `rates`
(MB/s of each epoch, from opening on), `mib` (what all processes hold, five times a second).
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.memory import family, held_by

BATCH, SHARD = 64, 1 << 26

# Yields the pictures of an epoch, batch after batch, from a batch on.
Epochs = Callable[[int, int], Iterator[Any]]


def pictures(side: int, count: int) -> tuple[Any, Any]:
    """Return noise: uint8 [count, 3, side, side], and classes."""
    draw = np.random.default_rng(0)
    return draw.integers(0, 256, (count, 3, side, side), np.uint8), draw.integers(0, 10, count)


def epochal_local(place: str) -> Epochs:
    """Examples in Epochal's cache, where it puts those of a folder of pictures that does not fit in memory."""
    import torch
    from epochal import load
    from epochal.data.examples import Examples
    from epochal.data.feed import feed
    from epochal.data.storage.fill import PackedInputs, write_pack

    packed = load(str(Path(place, "epochal")), memory=1e-9).train
    blocks = ((some[0].item(), packed.inputs[some].numpy()) for some in torch.arange(len(packed)).split(256))
    pack = write_pack(blocks, (len(packed), *packed.input(0).shape), torch.uint8, "noise")
    examples = Examples(PackedInputs(pack), packed.targets, "train", torch.arange(len(packed)))
    batches = feed(examples, BATCH, torch.device("cpu"), shuffle_seed=0)
    return lambda epoch, first: (batch.inputs for batch in batches.epoch(epoch, first))


def epochal(place: str) -> Epochs:
    """Packed data, in an order that is drawn from all of them."""
    import torch
    from epochal import load
    from epochal.data.feed import feed

    batches = feed(load(place, memory=1e-9).train, BATCH, torch.device("cpu"), shuffle_seed=0)
    return lambda epoch, first: (batch.inputs for batch in batches.epoch(epoch, first))


def webdataset(place: str) -> Epochs:
    """Tar files through curl, whose order is shuffled, with a buffer of 1,000 pictures, in two processes: as its documentation has it."""
    import webdataset as wds

    names = json.loads(Path(os.environ["REMOTE_FOLDER"], "tars.json").read_text())
    side = int(Path(os.environ["REMOTE_FOLDER"], "size").read_text().split()[0])

    def picture(sample: Any) -> Any:
        return np.frombuffer(sample["bin"], np.uint8).reshape(3, side, side), int(sample["cls"])

    data = wds.WebDataset([f"{place}/{name}" for name in names], shardshuffle=100, nodesplitter=wds.split_by_node)
    data = data.shuffle(1000).map(picture).batched(BATCH)
    loader = wds.WebLoader(data, batch_size=None, num_workers=2)
    # It has no position: what comes before is read and left out.
    return lambda _, first: (batch[0] for batch in itertools.islice(loader, first, None))


def litdata(place: str) -> Epochs:
    """Chunks in an object store, shuffled, in two processes."""
    import litdata
    from litdata.streaming import downloader

    # Its client refuses http:// otherwise.
    downloader._OBSTORE_CLIENT_OPTIONS["allow_http"] = True
    keys = {"aws_access_key_id": "any", "aws_secret_access_key": "any", "region_name": "us-east-1"}
    options = {"endpoint_url": place, **keys}
    data = litdata.StreamingDataset("s3://litdata", cache_dir=os.environ["REMOTE_CACHE"], storage_options=options, shuffle=True)
    loader = litdata.StreamingDataLoader(data, batch_size=BATCH, num_workers=2)

    # The state in the middle of the first epoch is what reading in the middle begins with.
    state, size = Path(os.environ["REMOTE_FOLDER"], "state.json"), Path(os.environ["REMOTE_FOLDER"], "size")
    middle = int(size.read_text().split()[1]) // (2 * BATCH)

    def epoch(number: int, first: int) -> Iterator[Any]:
        if first:
            loader.load_state_dict(json.loads(state.read_text()))
        for place, batch in enumerate(loader, 1):
            yield batch[0]
            if (number, first, place) == (1, 0, middle):
                state.write_text(json.dumps(loader.state_dict()))

    return epoch


WAYS = {way.__name__: way for way in (epochal_local, epochal, webdataset, litdata)}


def write(folder: Path, side: int, count: int) -> None:
    """Write the same pictures in the form of each way."""
    x, y = pictures(side, count)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "size").write_text(f"{side} {count}")
    import epochal as ours

    ours.pack((x, y), folder / "epochal")
    with _optional("webdataset"):
        import webdataset as wds

        (folder / "tars").mkdir(exist_ok=True)
        with wds.ShardWriter(str(folder / "tars" / "%04d.tar"), maxsize=SHARD, verbose=0) as tars:
            for number, (picture, label) in enumerate(zip(x, y, strict=True)):
                tars.write({"__key__": f"{number:06d}", "bin": picture.tobytes(), "cls": int(label)})
        (folder / "tars.json").write_text(json.dumps(sorted(tar.name for tar in (folder / "tars").glob("*.tar"))))
    with _optional("litdata"):
        import litdata as lit

        def one(number: int) -> Any:
            return x[number], int(y[number])

        lit.optimize(one, list(range(count)), str(folder / "litdata"), chunk_bytes=SHARD, num_workers=1, start_method="fork")


@contextmanager
def _optional(name: str) -> Iterator[None]:
    """Go on without a peer that is not installed: its row says so."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != name:
            raise


def read(epochs: Epochs, pace: float, count: int, first: int) -> dict[str, Any]:
    """Read epochs, and return what was measured but for opening."""
    rates, begun = [], 0.0
    for epoch in range(1, count + 1):
        began, size = time.perf_counter(), 0
        for inputs in epochs(epoch, first):
            begun = begun or time.perf_counter() - began
            size += inputs.nbytes
            if pace:
                time.sleep(inputs.nbytes / (1e6 * pace))
            if first:
                return {"begun": begun, "rates": []}
        rates.append(size / 1e6 / (time.perf_counter() - began))
    return {"begun": begun, "rates": rates}


def main() -> None:
    """Read, and print what was measured."""
    way, place, pace, epochs, first = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
    import epochal as _  # noqa: F401  imports do not count
    import torch

    torch.set_num_threads(1)
    mib: list[float] = []

    def look() -> None:
        while True:
            mib.append(round(sum(held_by(one) for one in family(os.getpid())) / (1 << 20), 1))
            time.sleep(0.2)

    began = time.perf_counter()
    opened = WAYS[way](place)
    opening = time.perf_counter() - began
    threading.Thread(target=look, daemon=True).start()
    found = read(opened, pace, epochs, first)
    print(json.dumps({**found, "begun": opening + found["begun"], "mib": mib}), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
