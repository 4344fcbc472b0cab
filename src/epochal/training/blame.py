"""Where numbers stopped being finite: the step, the layer, and the examples.

Training only notices that its loss is no number some steps later, since looking at each step would wait for the device. As every
step is a function of the seed and the position, the last checkpoint is taken up again, and the same steps are made once more,
slowly, with a look at each layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from epochal.data.feed import Batch, Feed
from epochal.errors import NotFiniteError
from epochal.training.checkpoint import Checkpoints
from epochal.training.state import Training

_NAMED = 5
_FIX = "Look at these examples; use a smaller --lr, or set clip_norm."


@contextmanager
def blaming(training: Training, batches: Feed, step: Callable[[Training, Batch], None], checkpoints: Checkpoints | None) -> Iterator[None]:
    """Where the block finds a value that is not finite, raise an error that names the first step, layer and examples with one.

    Without a checkpoint, or where the same steps now go well, that is not known: then the error is the block's own.
    """
    try:
        yield
    except NotFiniteError as error:
        until = training.step
        if checkpoints is None or not checkpoints.restore(training):
            raise
        told = _first(training, batches, step, until)
        if not told:
            raise
        raise NotFiniteError(told, _FIX) from error


def _first(training: Training, batches: Feed, step: Callable[[Training, Batch], None], until: int) -> str:
    """Make the steps up to `until` again; say of the first value that is not finite where it is."""
    training.model.train()
    found: list[tuple[str, Tensor | None]] = []
    while training.step < until:
        for batch in batches.epoch(training.epoch, start=training.steps_of_epoch):
            with _watched(training, found) as watched:
                step(watched, batch)
            training.step = watched.step
            if found:
                what, rows = found[0]
                places = batch.places if rows is None else batch.places[rows]
                names = ", ".join(batches.examples.where(int(place)) for place in places[:_NAMED])
                more = f" and {len(places) - _NAMED} more" * (len(places) > _NAMED)
                whose = "Its batch" if rows is None else "From"
                return f"Step {training.step} (epoch {training.epoch}): {what} has a value that is not finite. {whose}: {names}{more}."
            if training.step >= until:
                break
        training.epoch += 1
    return ""


@contextmanager
def _watched(training: Training, found: list[tuple[str, Tensor | None]]) -> Iterator[Training]:
    """Yield the same training, which notes the first thing that is not finite, and for an input or output the rows that are not."""

    def look(what: str, tensor: Any, *, by_row: bool) -> None:
        if isinstance(tensor, Tensor) and tensor.is_floating_point() and not found and not tensor.isfinite().all():
            # The parts of a batch do not say which rows of it they are.
            is_batch = by_row and tensor.ndim > 0 and training.recipe.accumulate == 1
            found.append((what, (~tensor.isfinite().reshape(len(tensor), -1).all(1)).nonzero()[:, 0] if is_batch else None))

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def after(module: nn.Module, inputs: Any, output: Any) -> None:
            look(f"the input of {name or 'the model'}", inputs[0] if inputs else None, by_row=True)
            look(f"the output of {name or 'the model'} ({type(module).__name__})", output, by_row=True)

        return after

    def update() -> None:
        look("the loss", training.loss_sum, by_row=False)
        for name, parameter in training.model.named_parameters():
            look(f"the gradient of {name}", parameter.grad, by_row=False)
        training.update()
        for name, parameter in training.model.named_parameters():
            look(f"after the update, {name}", parameter, by_row=False)

    leaves = [(name, module) for name, module in training.model.named_modules() if not list(module.children())]
    hooks = [module.register_forward_hook(hook(name)) for name, module in leaves]
    try:
        yield replace(training, update=update, compiled=None)
    finally:
        for one in hooks:
            one.remove()
