"""One task of a search: a trial up to a rung, on training and validation examples alone; or a whole run with its settings."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from epochal.data.load import Data
from epochal.device import using_threads
from epochal.errors import EpochalError, OutputError
from epochal.evaluation.named import monitored
from epochal.io.files import remove_unfinished
from epochal.progress import silent
from epochal.recipe import Recipe
from epochal.run.prepare import Clock, Prepared, read, settle
from epochal.run.resume import resume
from epochal.run.train import run
from epochal.search.plan import RUNGS, Plan, Task
from epochal.search.propose import propose
from epochal.search.space import Space, from_json, label, to_json
from epochal.search.store import Result, Store
from epochal.training.checkpoint import Checkpoints
from epochal.training.loop import fit
from epochal.training.own import Own
from epochal.training.records import EpochDone, Record

# Called with the share of a whole training that has been made since the last call.
Advance = Callable[[float], object]


@dataclass
class Job:
    """A search as its processes share it.

    `recipe` is the default, in which nothing is left that depends on the machine, `space` what is searched around it, and `default` has its
    values there, if the space holds them. `read` keeps data, without test examples, by what decides how they are read.
    """

    source: Any
    data_dir: str | None
    recipe: Recipe
    space: Space
    default: Mapping[str, Any] | None
    store: Store
    read: dict[str, tuple[Recipe, Data]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return all that another process needs to know."""
        return {
            "source": str(self.source),
            "data_dir": self.data_dir,
            "recipe": self.recipe.flat(),
            "origins": self.recipe.origins(),
            "space": to_json(self.space),
            "default": self.default,
            "folder": str(self.store.folder),
        }

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Job:
        """Return the job that `to_json` gave."""
        recipe = Recipe().updated(values["recipe"]).with_origins(values["origins"])
        store = Store(Path(values["folder"]))
        return Job(values["source"], values["data_dir"], recipe, from_json(values["space"]), values["default"], store)

    def values_of(self, trial: int) -> dict[str, Any]:
        """Return the settings of a trial: as they were when its first rung was finished, or else as they are proposed."""
        results = self.store.results()
        if (done := results.get(Task(trial, 0))) is not None:
            return done.values
        if not trial:
            return {}
        known = [(results[Task(other, 0)].values or self.default, results[Task(other, 0)].cost) for other in Plan.known_to(trial)]
        return propose(self.space, self.recipe.seed, trial, [(values, cost) for values, cost in known if values is not None])

    def recipe_of(self, trial: int) -> Recipe:
        """Return the recipe of a trial."""
        return self.recipe.updated(self.values_of(trial), f"trial {trial}")

    def do(self, task: Task, advance: Advance) -> None:
        """Do a task from where it is, and keep its result."""
        if task.seed is not None:
            self._retrain(task, advance)
            return
        begun = time.perf_counter()
        values = self.values_of(task.trial)
        try:
            found = self._train(task, values, advance)
        except OutputError:
            raise
        except EpochalError as error:
            if not task.trial:
                raise
            found = Result(values=values, score=None, error=error.problem)
        self.store.write(task, found.model_copy(update={"seconds": time.perf_counter() - begun}))

    def _train(self, task: Task, values: Mapping[str, Any], advance: Advance) -> Result:
        prepared = self.prepared(values, task.trial)
        recipe, learner = prepared.recipe, prepared.learner
        until, place = epochs_at(task.rung, recipe), self.store.place(task)
        place.mkdir(exist_ok=True)
        remove_unfinished(place)

        def watch(record: Record) -> None:
            if isinstance(record, EpochDone):
                advance(1 / recipe.epochs)

        def stop(done: EpochDone) -> str:
            return "rung" if done.epoch >= until else ""

        checkpoints = Checkpoints(place, recipe.checkpoint_every)
        with using_threads(recipe.threads_per_step):
            fitted = fit(learner.model, learner.data, recipe, stop=stop, checkpoints=checkpoints, watchers=(watch,))
        return judged(fitted.epochs[:until], recipe, values)

    def prepared(self, values: Mapping[str, Any], trial: int) -> Prepared:
        """Return a trial before its first step. Test examples are not among its data."""
        origin = f"trial {trial}"
        reading = {name: value for name, value in values.items() if name.startswith("data.") or name in ("model.name", "tune")}
        if (known := label(reading)) not in self.read:
            asked, data = read(self.source, self.recipe.updated(reading, origin), data_dir=self.data_dir)
            self.read[known] = asked, without_test(data)
        asked, data = self.read[known]
        return settle(asked.updated(values, origin), data, Own(), None, clock=Clock())

    def _retrain(self, task: Task, advance: Advance) -> None:
        place, done = self.store.place(task), 0.0
        recipe = self.recipe_of(task.trial).updated({"seed": task.seed, "data.split_seed": self.recipe.split_seed}, "search")

        def watch(record: Record) -> None:
            nonlocal done
            if isinstance(record, EpochDone):
                done += 1 / record.epochs
                advance(1 / record.epochs)

        if place.exists():
            data = None if isinstance(self.source, str | Path) else self.source
            model = recipe.model.name if ".py:" in recipe.model.name else None
            resume(place, data=data, model=model, watchers=(watch,), quiet=True)
        else:
            run(self.source, recipe, out=place, data_dir=self.data_dir, watchers=(watch,), log=silent)
        advance(max(0.0, 1 - done))


def without_test(data: Data) -> Data:
    """Return data of which no test example is left."""
    return replace(data, test=None, described=None)


def epochs_at(rung: int, recipe: Recipe) -> int:
    """Return how many epochs a trial has made at the end of a rung."""
    return math.ceil(RUNGS[rung] * recipe.epochs)


def judged(epochs: Sequence[EpochDone], recipe: Recipe, values: Mapping[str, Any]) -> Result:
    """Return the best of these epochs by the score that judges: the validation loss, or the one that is monitored."""
    name, sign = monitored("loss" if recipe.monitor == "auto" else recipe.monitor)
    costs = [math.inf if done.valid is None else -sign * done.valid.number(name) for done in epochs]
    costs = [cost if math.isfinite(cost) else math.inf for cost in costs]
    best = min(range(len(costs)), key=lambda place: costs[place])
    if not math.isfinite(costs[best]):
        return Result(values=dict(values), score=None, error=f"the validation {name} is not finite")
    found = epochs[best].valid
    assert found is not None
    # As it is read from a file: tuples are lists there.
    plain = json.loads(json.dumps(dict(values)))
    return Result(values=plain, score=costs[best], epoch=best + 1, epochs=len(epochs), loss=found.loss, accuracy=found.accuracy)


def share_of(task: Task) -> float:
    """Return how much of a whole training a task is."""
    if task.seed is not None:
        return 1.0
    return RUNGS[task.rung] - (RUNGS[task.rung - 1] if task.rung else 0.0)
