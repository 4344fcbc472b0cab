"""Finding where a value became NaN or infinite (step, layer, examples), and rewinding, if the recipe says so.

Training only notices some steps later that its loss is NaN or infinite, since checking each step would wait for the device. As every
step is a function of the seed and the position, the last checkpoint is restored and the same steps are repeated, slowly, with a check
of each layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from epochal.data.examples import Examples
from epochal.data.feed import Batch, Feed
from epochal.distributed.ranks import Ranks
from epochal.errors import NotFiniteError, RecipeError
from epochal.terminal import readable
from epochal.training.checkpoint import Checkpoints
from epochal.training.distributed import agree_on_signals
from epochal.training.records import EpochDone, Rewound
from epochal.training.state import Training
from epochal.training.traced.step import TracedStep

# The factor on the learning rate at each rewind, and how many there are at most: if an eighth is still too high, something is wrong.
FACTOR = 0.5
MOST = 3

_NAMED = 5
_FIX = "Look at these examples; use a smaller --lr, or set clip_norm."


def check_rewinding(training: Training, checkpoints: Checkpoints) -> None:
    """Raise `RecipeError` if training should be rewound, but there are no checkpoints."""
    if training.recipe.on_nan != "rewind":
        return
    if checkpoints.folder is None:
        raise RecipeError("The setting on_nan = rewind needs checkpoints to go back to.", "Name a run folder (out), or use on_nan = stop.")
    if not isinstance(training.optimizer, torch.optim.Optimizer):
        raise RecipeError("An optimizer that is not from torch.optim cannot be rewound: its state cannot be saved.", "Set on_nan = stop.")


def rewind(
    training: Training, batches: Feed, step: Callable[[Training, Batch], None], checkpoints: Checkpoints, error: NotFiniteError
) -> Rewound:
    """Go back to the last checkpoint and cut the learning rate, if the recipe says so; return where training continues.

    If that was tried there already, go back to the checkpoint before. Otherwise raise an error with the first step, layer and examples
    with a value that is not finite. Without a checkpoint, or if the repeated steps go well, these are unknown: then raise `error`.
    """
    until, history, began, changes = training.step, tuple(training.history), training.began, training.threads.changes
    if not checkpoints.restore(training):
        raise error
    last = training.step
    # The same steps use the same threads.
    training.threads.changes = changes
    found = _first(training, batches, step, until, history, checkpoints)
    cause = NotFiniteError(found, _FIX) if found else error
    if training.recipe.on_nan == "stop":
        raise cause from error
    earlier = training.schedule.rewinds
    if len(earlier) == MOST:
        raise NotFiniteError(f"{cause.problem} Training was rewound {MOST} times already.", cause.fix) from error
    # If a smaller rate did not help, training goes further back: these weights may already be diverging.
    did_not_help = bool(earlier) and earlier[-1].step == last
    if not (did_not_help and checkpoints.restore(training, before=last)):
        checkpoints.restore(training)
    # The name of a file may be no valid text, which a checkpoint cannot hold.
    rewound = Rewound(training.step, training.epoch, FACTOR, readable(cause.problem, "utf-8"))
    training.schedule.rewinds = [*earlier, rewound]
    # The lost time counts as training time.
    training.began = began
    if training.sharing is not None:
        training.sharing.forget()
    checkpoints.save(training)
    return rewound


def _first(
    training: Training,
    batches: Feed,
    step: Callable[[Training, Batch], None],
    until: int,
    history: tuple[EpochDone, ...],
    checkpoints: Checkpoints,
) -> str:
    """Repeat the steps up to `until`, after the epochs of `history`; return where the first value is that is not finite."""
    training.train_mode()
    while training.step < until:
        for batch in batches.epoch(training.epoch, start=training.steps_of_epoch):
            # Nothing is lost if a signal interrupts this: the checkpoint remains.
            agree_on_signals(checkpoints.signals, training.ranks)
            checkpoints.signals.exit_if_requested()
            checks = _Checks(training.recipe.accumulate)
            with training.distributed.training(), _watched(training, checks) as watched:
                step(watched, batch)
            training.step = watched.step
            if (found := checks.agreed(batch, batches.examples, training.ranks)) is not None:
                return f"Step {training.step} (epoch {training.epoch}): {found}"
            if training.step >= until:
                break
        else:
            if training.step < until:
                done = history[training.epoch - 1]
                training.schedule.epoch_done(done.train_loss if done.valid is None else done.valid.loss)
        training.epoch += 1
    return ""


class _Checks:
    """The checks of one step, by name, and the first of them that failed, with its rows in inputs and outputs.

    Several processes make the same checks, each of its own rows.
    """

    def __init__(self, parts: int) -> None:
        self.parts = parts
        self.names: list[str] = []
        self.failed: int | None = None
        self.rows: Tensor | None = None

    def __call__(self, what: str, tensor: Any, *, by_row: bool) -> None:
        """Check that a tensor is finite."""
        self.names.append(what)
        if self.failed is not None or not isinstance(tensor, Tensor) or not tensor.is_floating_point() or tensor.isfinite().all():
            return
        self.failed = len(self.names) - 1
        # The parts of a batch do not know which of its rows they are.
        if by_row and tensor.ndim > 0 and self.parts == 1:
            self.rows = (~tensor.isfinite().reshape(len(tensor), -1).all(1)).nonzero()[:, 0]

    def agreed(self, batch: Batch, examples: Examples, ranks: Ranks) -> str | None:
        """Return which check failed first in any process, and for which examples; `None` if none did."""
        own = len(self.names) if self.failed is None else self.failed
        first = min(int(number) for number in ranks.gather(torch.tensor(own)))
        if first == len(self.names):
            return None
        places = batch.places if self.rows is None else batch.places[self.rows]
        places = places.cpu() if own == first else torch.empty(0, dtype=torch.int64)
        counts = ranks.gather(torch.tensor([len(places), own == first and self.rows is not None]))
        every = [*dict.fromkeys(torch.cat(ranks.gather_rows(places, [int(count) for count, _ in counts])).tolist())]
        names = ", ".join(examples.where(place) for place in every[:_NAMED])
        more = f" and {len(every) - _NAMED} more" * (len(every) > _NAMED)
        whose = "From" if any(is_known for _, is_known in counts) else "Its batch"
        return f"{self.names[first]} has a value that is not finite. {whose}: {names}{more}."


@contextmanager
def _watched(training: Training, check: _Checks) -> Iterator[Training]:
    """Yield the same training, whose values go through `check`."""

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def after(module: nn.Module, inputs: Any, output: Any) -> None:
            check(f"the input of {name or 'the model'}", inputs[0] if inputs else None, by_row=True)
            check(f"the output of {name or 'the model'} ({type(module).__name__})", output, by_row=True)

        return after

    def update() -> None:
        check("the loss", training.loss_sum, by_row=False)
        for name, parameter in training.model.named_parameters():
            check(f"the gradient of {name}", parameter.grad, by_row=False)
        training.update()
        for name, parameter in training.model.named_parameters():
            check(f"after the update, {name}", parameter, by_row=False)

    # Inner modules finish before the outer one.
    hooks = [module.register_forward_hook(hook(name)) for name, module in training.model.named_modules()]
    try:
        plain = TracedStep(training.model, training.traced.loss_of, why_not="each layer is looked at")
        yield replace(training, update=update, forward=training.distributed.forward, traced=plain)
    finally:
        for handle in hooks:
            handle.remove()
