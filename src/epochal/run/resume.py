"""Resume: continue the training of a run from its last checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from epochal.cores import sharing_cores
from epochal.distributed.ranks import ranks
from epochal.errors import BundleError, DataError, RecipeError
from epochal.evaluation.named import Metrics
from epochal.io.files import remove_unfinished, write_errors
from epochal.io.lock import exclusive_lock
from epochal.progress import silent
from epochal.recipe import RUNTIME_SETTINGS, Recipe, save_recipe
from epochal.run.complete import Run, complete
from epochal.run.folder import CHECKPOINTS, MODEL, RECIPE, RESULT, move_data, tidy
from epochal.run.folds import forget_folds, is_unfinished, plan_folds
from epochal.run.reopen import Cause, resolved_recipe
from epochal.run.repeats import finished_repeats, plan_repeats
from epochal.run.together import reopen_together
from epochal.run.train import with_folds, with_repeats
from epochal.shown import counted
from epochal.tasks.losses import LossFunction
from epochal.training.checkpoint import checkpoints_in
from epochal.training.optim import MakeOptimizer
from epochal.training.own import NOT_USED, Own
from epochal.training.records import Started, Watcher
from epochal.training.schedule import Schedule, ScheduleFunction
from epochal.user_code import concise
from epochal.watch.notebook import screen


@concise
@sharing_cores()
def resume(
    folder: str | Path,
    *,
    epochs: int | None = None,
    data: Any = None,
    model: str | nn.Module | None = None,
    loss: LossFunction | None = None,
    optimizer: MakeOptimizer | None = None,
    schedule: ScheduleFunction | None = None,
    metrics: Metrics = None,
    data_dir: str | Path | None = None,
    watchers: Sequence[Watcher] = (),
    quiet: bool = False,
    log: Callable[[str], object] | None = None,
    **settings: Any,
) -> Run | None:
    """Continue the run in `folder` from its last checkpoint; the result is the same, to the bit, as without a break.

    `epochs` makes it longer, also when it has finished; a finished run that has as many is left alone, and the result is `None`. What
    came from the user's own code or memory has to be passed again: `data`, `model`, `loss`, `optimizer`, `schedule`, `metrics`.
    `data_dir` is for named data that have moved; the run keeps the new place of those, and of other `data`. `watchers` and `quiet`
    are as in `train`; `log` is called with what else is printed. `settings` may be those that cannot change results
    (`recipe.RUNTIME_SETTINGS`): they replace the run's own from here on.

    Raises `DataError` where the data have changed, `BundleError` where the folder is not a run, or is damaged.
    """
    folder = Path(folder)
    here = ranks()
    with here.together(), ExitStack() as stack:
        console = None if quiet or not here.leads else stack.enter_context(screen())
        log = log or (silent if console is None else console.say)
        if folder.exists() and here.leads:
            stack.enter_context(exclusive_lock(folder))
        before = here.first(partial(_unfinished_recipe, folder, epochs, settings))
        if before is None:
            log(f"{folder} has finished; --epochs N makes it longer.")
            return None
        if epochs == before.epochs:
            epochs = None
        recipe = before.updated(settings | ({} if epochs is None else {"epochs": epochs}), "resume")
        prepared, changes = reopen_together(folder, recipe, Own(loss, optimizer, schedule, metrics), data, model, data_dir)
        # The first process changes nothing before all have read what is there.
        here.meet()
        own = model if isinstance(model, nn.Module) else None
        folding, repeating = plan_folds(prepared, own, log), plan_repeats(prepared, own, log)
        here.tell(partial(_check_state, folder, changes, log))
        if here.leads:
            remove_unfinished(folder)
            stack.enter_context(tidy(folder, [], log))
        prepared.clock.lap("load")

        def begun(started: Started) -> None:
            # The run can continue, since its checkpoint has been read: only now is it marked as unfinished, and changed.
            with write_errors(folder):
                (folder / RESULT).unlink(missing_ok=True)
            if epochs is not None:
                forget_folds(folder)
            if epochs is not None or settings:
                save_recipe(folder / RECIPE, prepared.recipe)
            if isinstance(data, str | Path) or data_dir is not None:
                move_data(folder, data, data_dir)
            if epochs is not None and (note := _about_rate(before, started, len(prepared.data.train))):
                log(note)

        done = complete(prepared, folder, watchers if console is None else (console, *watchers), log, begun if here.leads else None)
        return with_repeats(with_folds(done, folding, log), repeating, log)


def _unfinished_recipe(folder: Path, epochs: int | None, settings: Mapping[str, Any]) -> Recipe | None:
    """Return the recipe of a run that may go on as asked for; `None` if it has finished."""
    recipe = resolved_recipe(folder)
    if epochs is not None and epochs < recipe.epochs:
        raise RecipeError(f"{folder} has {counted(recipe.epochs, 'epoch')} already.", "Give more.")
    # The same command again, after an interruption, goes on; and so do processes that are started again.
    if (folder / RESULT).exists() and epochs in (None, recipe.epochs) and not _lacks_models(folder, recipe):
        return None
    _refuse_changes(folder, recipe, settings)
    return recipe


def _check_state(folder: Path, changes: Sequence[Cause], log: Callable[[str], object]) -> None:
    """Say what has changed since the run began, and whether it has a checkpoint; raise an error where it cannot go on."""
    for cause in changes:
        if cause.is_data:
            raise DataError(f"{folder}: {cause.words}.", "Restore the original data, or train again.")
        log(f"note: {cause.words}: results may differ from those of a run without a break.")
    if not checkpoints_in(folder / CHECKPOINTS):
        if (folder / MODEL).exists():
            raise BundleError(f"{folder} has no checkpoint to resume from.", "Train again.")
        log("note: there is no checkpoint yet: training starts from the beginning.")


def _lacks_models(folder: Path, recipe: Recipe) -> bool:
    """Whether folds or repeats are missing of a run that has finished but for these."""
    return is_unfinished(folder, recipe.folds) or (
        recipe.repeats is not None and len(finished_repeats(folder, recipe)) < recipe.repeats - 1
    )


def _about_rate(before: Recipe, started: Started, examples: int) -> str:
    """Return a note on the learning rate if a run is made longer and its schedule depends on the number of epochs; else ""."""
    after, steps = started.recipe, -(-examples // started.recipe.examples_per_step)
    if after.schedule.name not in ("one-cycle", "cosine") or not started.step:
        return ""
    ends = [min(recipe.epochs * steps, recipe.max_steps or recipe.epochs * steps) for recipe in (before, after)]
    if started.step > ends[0]:
        return ""
    # Only the user's own optimizer knows its rate: then these are shares of it.
    is_own = after.origin("optimizer.lr").startswith(NOT_USED)
    was, now = (
        (1 if is_own else recipe.optimizer.lr) * Schedule(recipe.schedule, recipe.epochs, steps, end).factor(max(0, step))
        for recipe, end, step in ((before, ends[0], started.step - 1), (after, ends[1], started.step))
    )
    return (
        f"note: the learning rate of {after.schedule.name} follows from the number of epochs: it continues at "
        f"{now:.3g}{' times its highest' * is_own} (it was at {was:.3g}), as if {after.epochs} had been set from the start"
    )


def _refuse_changes(folder: Path, recipe: Recipe, settings: Mapping[str, Any]) -> None:
    """Raise `RecipeError` for settings that would change results."""
    begun = recipe.flat()
    for name, value in recipe.updated(settings).flat().items():
        if name not in RUNTIME_SETTINGS and value != begun[name]:
            raise RecipeError(
                f"{folder} is resumed with its own settings: {name} affects results.",
                f"Leave it out, or train again; these can change: {', '.join(RUNTIME_SETTINGS)}.",
            )
