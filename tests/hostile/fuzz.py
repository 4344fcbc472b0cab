"""Changed files through every loader, for as long as is wanted: python -m tests.hostile.fuzz --seconds 3600

Whatever is no `EpochalError` that names the file, takes longer than 10 seconds or too much memory, touches what it should not, or
ends the process, is a crash: it is reported with its seed, and the file is kept. `--seed N --only KINDS` repeats it.
"""

from __future__ import annotations

import argparse
import collections
import json
import multiprocessing
import os
import random
import shutil
import struct
import tempfile
import time
import traceback
import warnings
import zipfile
import zlib
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from tests.hostile.loading import LOADERS, Watch, fresh, load
from tests.hostile.mutate import change
from tests.hostile.seeds import few_records, make
from tests.quick import draw_nothing

# A picture takes what its pixels take, of which there may be 178 million.
MEGABYTES = {"picture": 2500.0}
SLOW = ("archive", "cifar10", "resume", "run")
PATIENCE = 60
_CANNOT_CHANGE = (ValueError, TypeError, LookupError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, struct.error)


def _case(seeds: dict[str, list[Path]], number: int, folder: Path, only: str) -> tuple[str, Path]:
    """Make the case of that number: its kind, and the changed file or folder."""
    chance = random.Random(number)
    kinds = only.split(",") if only else [kind for kind in sorted(seeds) for _ in range(1 if kind in SLOW else 8)]
    kind = chance.choice(kinds)
    seed = chance.choice(seeds[kind])
    path = fresh(folder / "case") / seed.name
    path.parent.mkdir(parents=True)
    (shutil.copytree if seed.is_dir() else shutil.copyfile)(seed, path)
    for _ in range(chance.choice((1, 1, 2))):
        try:
            change(kind, path, chance)
        except _CANNOT_CHANGE:
            break  # What was changed already cannot be taken apart again.
    return kind, path


def _work(tasks: Connection, seeds: dict[str, list[Path]], folder: Path, only: str) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    few_records()
    os.environ["EPOCHAL_CACHE"] = str(folder / "case" / "cache")
    watch = Watch()
    for kind, paths in seeds.items():  # What is imported late is imported now.
        for path in paths:
            warm = fresh(folder / "warm") / path.name
            warm.parent.mkdir()
            (shutil.copytree if path.is_dir() else shutil.copyfile)(path, warm)
            LOADERS[kind](warm)
    while True:
        number = tasks.recv()
        kind, path = _case(seeds, number, folder, only)
        tasks.send((kind, path.name))
        try:
            outcome = load(kind, path, watch, megabytes=MEGABYTES.get(kind, 200.0))
            tasks.send(outcome)
        except BaseException:  # noqa: BLE001  it is reported
            tasks.send(traceback.format_exc())


def main() -> int:
    """Fuzz, and report the results; the exit code is 1 if there was a crash."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0, help="the number of the first case")
    parser.add_argument("--cases", type=int, default=10**9)
    parser.add_argument("--only", default="", help=f"kinds, with commas between them: {', '.join(sorted(LOADERS))}")
    parser.add_argument("--crashes", type=Path, default=Path("crashes"), help="where files that crashed are kept")
    options = parser.parse_args()
    begun = time.monotonic()
    counts: collections.Counter[str] = collections.Counter()
    crashes = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        draw_nothing()
        context = multiprocessing.get_context("fork")  # All that is imported is imported once.
        maker = context.Process(target=_make, args=(folder / "seeds",))
        maker.start()
        maker.join()
        seeds = {kind: [Path(path) for path in paths] for kind, paths in json.loads((folder / "seeds.json").read_text()).items()}
        worker, ours = None, None
        begun = time.monotonic()
        for number in range(options.seed, options.seed + options.cases):
            if time.monotonic() - begun > options.seconds:
                break
            if worker is None:
                ours, theirs = context.Pipe()
                worker = context.Process(target=_work, args=(theirs, seeds, folder, options.only), daemon=True)
                worker.start()
                theirs.close()
            assert ours is not None
            kind, name, wrong, reported = "?", "?", "", ""
            try:
                ours.send(number)
                if not ours.poll(300):
                    raise TimeoutError("making the case")
                kind, name = ours.recv()
                if not ours.poll(PATIENCE):
                    raise TimeoutError(f"more than {PATIENCE} s")
                outcome = ours.recv()
                wrong, reported = (outcome, "") if isinstance(outcome, str) else (outcome.wrong, outcome.reported)
            except (EOFError, ConnectionError, TimeoutError) as error:
                worker.kill()
                worker.join()
                wrong, worker = f"the process ended ({worker.exitcode}): {error!r}", None
            counts[f"{kind} {'crashed' if wrong else 'refused' if reported else 'read'}"] += 1
            if wrong:
                crashes += 1
                print(f"CRASH --seed {number} --only '{options.only}' ({kind} {name}): {wrong}", flush=True)
                kept = options.crashes / f"{kind}-{number}"
                kept.parent.mkdir(parents=True, exist_ok=True)
                if (folder / "case").exists():
                    shutil.copytree(folder / "case", kept, dirs_exist_ok=True)
        if worker is not None:
            worker.kill()
            worker.join()
    print(
        json.dumps(
            {"cases": counts.total(), "crashes": crashes, "seconds": round(time.monotonic() - begun), **dict(sorted(counts.items()))}
        ),
        flush=True,
    )
    return 1 if crashes else 0


def _make(folder: Path) -> None:
    torch.set_num_threads(1)
    found = make(folder)
    folder.with_suffix(".json").write_text(json.dumps({kind: [str(path) for path in paths] for kind, paths in found.items()}))


if __name__ == "__main__":
    raise SystemExit(main())
