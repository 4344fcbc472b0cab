"""A corpus through the loaders, in a process of its own, and what came of each file: python -m tests.hostile.run OUT models archives"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from tests.hostile.corpus import Case, archives, controls, damaged_pictures, models, of_tables
from tests.hostile.loading import LOADERS, Watch, fresh, load
from tests.hostile.seeds import make
from tests.quick import draw_nothing

IS_FULL = os.environ.get("EPOCHAL_HOSTILE") == "full"


def _cases(what: str, seeds: dict[str, list[Path]], canary: Path) -> Iterator[Case]:
    """Yield the cases of a corpus: all, or some of each sort."""
    if what == "controls":
        yield from controls(canary)
    elif what == "pictures":
        yield from damaged_pictures(every=1 if IS_FULL else 40)
    else:
        found = archives() if what == "archives" else of_tables(canary) if what == "tables" else models(seeds, canary)
        yield from islice(found, 0, None, 1 if IS_FULL else 13)


def _tree(folder: str) -> dict[str, tuple[int, int, int]]:
    """Return all that is below a folder, with what would change."""
    found = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            status = entry.stat(follow_symlinks=False)
            found[entry.path] = (status.st_mode, status.st_size, status.st_mtime_ns)
            if entry.is_dir(follow_symlinks=False):
                found |= _tree(entry.path)
    return found


def main(out: str, *corpora: str) -> None:
    """Load every case of the corpora ("models", "archives", "pictures", "tables", "controls"), and write what came of each to `out`."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary).resolve()
        os.environ["EPOCHAL_CACHE"] = str(home / "case" / "cache")
        os.chdir(home)
        draw_nothing()
        watch = Watch()
        seeds = make(home / "seeds")
        for case in _warm(seeds):
            LOADERS[case.kind](case.make(fresh(home / "case")))
        results = {what: [_result(what, case, home, watch) for case in _cases(what, seeds, home / "canary")] for what in corpora}
        shutil.rmtree(home / "case", ignore_errors=True)
    Path(out).write_text(json.dumps(results))


def _result(what: str, case: Case, home: Path, watch: Watch) -> dict[str, Any]:
    folder = fresh(home / "case")
    folder.mkdir()
    path = case.make(folder)
    canaries = home / "canary", folder / "canary"
    before = _tree(str(home))
    seconds, megabytes = 1 if what == "controls" else 10, 1000 if what in ("pictures", "tables") else 200
    outcome = load(case.kind, path, watch, seconds=seconds, megabytes=megabytes)
    # What an archive unpacks to has its place; a run that is resumed writes into its folder.
    own = ("case", "case/cache", "case/cache/archives")
    different = sorted(os.path.relpath(path, home) for path, _ in _tree(str(home)).items() ^ before.items())
    changed = [name for name in different if what != "models" or not name.startswith("case/")]
    result = {
        "name": case.name,
        "reported": outcome.reported[:500],
        "wrong": outcome.wrong,
        "seconds": outcome.seconds,
        "megabytes": outcome.megabytes,
        "changed": [name for name in changed if name not in own],
        "canary": any(canary.exists() for canary in canaries),
    }
    for canary in canaries:
        canary.unlink(missing_ok=True)
    return result


def _warm(seeds: dict[str, list[Path]]) -> Iterator[Case]:
    """Yield valid files, so that what is imported late is imported before anybody watches."""
    for kind, paths in seeds.items():
        for path in paths:
            yield Case(str(path), kind, partial(_copy, path))


def _copy(path: Path, folder: Path) -> Path:
    folder.mkdir()
    target = folder / path.name
    (shutil.copytree if path.is_dir() else shutil.copyfile)(path, target)
    return target


if __name__ == "__main__":
    main(*sys.argv[1:])
