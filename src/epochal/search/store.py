"""The folder of a search: plain files, each whole or not there, so that any number of processes can read and add to it.

search.json         what was asked for
results/*.json      what each trial reached at each rung
trials/7/           checkpoints of a trial
retrained/          whole runs with the best and with the default settings, one for each seed
locks/              who is working on what
figures/            pictures
best.toml           the recipe that was found
result.json         the numbers; written last

There is no database: a result is a function of the seed and of a few earlier results, so it does not matter in which order, where, or how
often it is computed, and a killed process leaves nothing that has to be repaired.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from epochal.errors import BundleError, RecipeError, reason_of
from epochal.io import safe_read
from epochal.io.checksums import verify_checksum, with_checksum
from epochal.io.files import json_text, new_directory, write_errors, write_json
from epochal.io.lock import lock_at_once
from epochal.run.folder import RESULT
from epochal.search.plan import Plan, Task

SEARCH = "search.json"
_RESULTS, _TRIALS, _RETRAINED, _LOCKS = "results", "trials", "retrained", "locks"

_FIX = "Remove this file: then this trial is trained again."


class Result(BaseModel):
    """What a trial reached at a rung: the best epoch so far, by the `score` that judges (less is better; `None` if the trial failed)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    values: dict[str, Any]
    score: float | None
    epoch: int = 0
    epochs: int = 0
    loss: float | None = None
    accuracy: float | None = None
    error: str = ""
    seconds: Annotated[float, Field(ge=0)] = 0.0

    @property
    def cost(self) -> float:
        """The score; infinite for a trial that failed."""
        return math.inf if self.score is None else self.score


@dataclass
class Store:
    """The folder of a search, and what has been read of it."""

    folder: Path
    _read: dict[Task, Result] = field(default_factory=dict)

    def begin(self, asked: Mapping[str, Any]) -> bool:
        """Create the folder, or make sure that it was made for what is `asked`; return whether it is new.

        Raises `RecipeError` for a folder of another search, and `BundleError` if it is damaged, or is none.
        """
        if not self.folder.exists():
            with write_errors(self.folder):
                self.folder.parent.mkdir(parents=True, exist_ok=True)
            with new_directory(self.folder) as draft:
                for name in (_RESULTS, _TRIALS, _RETRAINED, _LOCKS):
                    (draft / name).mkdir()
                write_json(draft / SEARCH, with_checksum(dict(asked)))
            return True
        was, asked = self.asked(), json.loads(json_text(asked))
        # More trials, or seeds, are found in the same way.
        unlike = [name for name in asked if name not in ("trials", "seeds") and asked[name] != was.get(name)]
        if unlike:
            raise RecipeError(
                f"{self.folder} is another search, with other values of {', '.join(unlike)}.",
                "Repeat the command that began it, or choose another --out.",
            )
        self.note(trials=asked["trials"] or was["trials"], seeds=asked["seeds"])
        return False

    def note(self, **changes: Any) -> None:
        """Write what was asked for with changes."""
        write_json(self.folder / SEARCH, with_checksum(self.asked() | changes))

    def asked(self) -> dict[str, Any]:
        """Return what was asked for."""
        if not (self.folder / SEARCH).exists():
            raise BundleError(f"{self.folder} exists already, and is no search.", "Choose another --out.")
        return _json(self.folder / SEARCH, "Choose another --out.")

    def results(self) -> dict[Task, Result]:
        """Return what all finished tasks of trials reached."""
        for path in (self.folder / _RESULTS).glob("trial-*-rung-*.json"):
            _, trial, _, rung = path.stem.split("-")
            task = Task(int(trial), int(rung) - 1)
            if task not in self._read:
                try:
                    self._read[task] = Result.model_validate(_json(path, _FIX))
                except ValidationError as error:
                    raise BundleError(f"{path} is damaged: {error.errors()[0]['msg']}.", _FIX) from error
        return self._read

    def scores(self) -> dict[Task, float]:
        """Return the score of each finished task of a trial; less is better."""
        return {task: result.cost for task, result in self.results().items()}

    def open_tasks(self, plan: Plan) -> list[Task]:
        """Return what can be done now."""
        wanted = plan.open_tasks(self.scores(), ())
        return [task for task in wanted if task.seed is None or not (self.place(task) / RESULT).exists()]

    def write(self, task: Task, result: Result) -> None:
        """Keep what a trial reached."""
        write_json(self.folder / _RESULTS / f"{task.name}.json", with_checksum(result.model_dump()))

    def place(self, task: Task) -> Path:
        """Return the folder of a trial, or of a run with its settings."""
        if task.seed is None:
            return self.folder / _TRIALS / str(task.trial)
        return self.folder / _RETRAINED / ("default" if not task.trial else f"trial-{task.trial}") / f"seed-{task.seed}"

    def claim(self, task: Task) -> AbstractContextManager[bool]:
        """Hold a task for the block, unless another process does: the value says which."""
        lock = self.folder / _LOCKS / task.name
        with write_errors(lock):
            lock.mkdir(exist_ok=True)
        return lock_at_once(lock)


def _json(path: Path, fix: str) -> dict[str, Any]:
    try:
        return verify_checksum(safe_read.read_json(path))
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} cannot be read: {reason_of(error)}.", fix) from error
