"""Trial steps: whether network, loss and data fit together, before the first real step.

The network is used as in training: in training mode, forward, loss and backward, with each size of batch that will occur. No weight
changes, and the network is left as it was, so training gives the same bits as without a trial.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor, nn

from epochal.data.examples import Examples
from epochal.data.feed import targets_on
from epochal.data.slices import Slices
from epochal.data.spec import DataSpec
from epochal.device import precision
from epochal.distributed.ranks import ALONE, Ranks
from epochal.errors import ModelError, RecipeError
from epochal.models.build import check_outputs, eval_mode, train_mode, untouched
from epochal.models.parts import head_of
from epochal.random import key, seeded
from epochal.recipe import Recipe
from epochal.shown import counted
from epochal.tasks.losses import Loss, LossFunction, check_own_loss
from epochal.training.distributed import is_synchronized
from epochal.user_code import in_words, is_user_code

# The most different examples that are read; larger batches repeat them.
_READ = 8
_WHEN = " in training mode"


class Trial:
    """A model with a few examples to try, chosen so that their targets differ if those of all examples do.

    After `run`, `head` are the parameters of the output layer, and `unused` names those that no step had a gradient for.
    """

    def __init__(
        self,
        model: nn.Module,
        frozen: Sequence[nn.Module],
        examples: Examples,
        spec: DataSpec,
        recipe: Recipe,
        device: torch.device,
        ranks: Ranks = ALONE,
    ) -> None:
        self.model = model
        self.frozen = frozen
        self.examples = examples
        self.spec = spec
        self.recipe = recipe
        self.device = device
        self.ranks = ranks
        self.head: frozenset[Tensor] = frozenset()
        self.unused: tuple[str, ...] = ()
        by_target = examples.targets.reshape(len(examples), -1).double().sum(1).argsort(stable=True)
        few = examples.take(by_target[_spread(min(_READ, len(examples)), len(examples))])
        with seeded(key(recipe.seed, "check")):
            self._inputs = torch.stack([few.input(number) for number in range(len(few))]).to(device)
        is_mixed = recipe.augment.mixup or recipe.augment.cutmix
        self._targets = targets_on(device, spec.task.soft_targets(few.targets) if is_mixed else few.targets)

    def inputs(self, count: int) -> Tensor:
        """Return `count` inputs, or as many as there are."""
        return self._inputs[_spread(min(count, len(self.examples)), len(self._inputs))]

    def run(self, loss: Loss, own: LossFunction | None, total_steps: int) -> str:
        """Try a step with each size of batch that occurs in that many steps, the largest first; return a note, or "".

        `own` is the user's own function, if `loss` wraps one. Raises `ModelError` or `RecipeError` if a step fails.
        """
        name = self.spec.task.resolve_loss(self.recipe.loss) if own is None else None
        sizes = self._sizes(total_steps)
        try:
            with untouched(self.model), seeded(key(self.recipe.seed, "trial")):
                with eval_mode(self.model), torch.enable_grad(), precision(self.device, self.recipe.precision):
                    outputs = self.model(self.inputs(_READ))
                    self.head = head_of(self.model, outputs)
                    note = self.spec.task.check_ending(outputs, self.examples.targets, name)
                train_mode(self.model, self.frozen)
                for size in sizes:
                    try:
                        self._step(size, loss, own if size == sizes[0] else None)
                    except ModelError as error:
                        if size < sizes[0] or (size == 1 and isinstance(error.__cause__, ValueError)):
                            raise self._odd_size(size, error) from error.__cause__
                        raise
            trained = [(name, one) for name, one in self.model.named_parameters() if one.requires_grad]
            self.unused = tuple(name for name, parameter in trained if parameter.grad is None)
        finally:
            for parameter in self.model.parameters():
                parameter.grad = None
        return note

    def _step(self, size: int, loss: Loss, own: LossFunction | None) -> None:
        """Make a step with `size` examples, without the update."""
        rows = _spread(size, len(self._inputs)) if size < len(self._inputs) else torch.arange(size) % len(self._inputs)
        targets = self._targets[rows]
        with precision(self.device, self.recipe.precision):
            outputs = self._forward(self._inputs[rows])
            if own is not None:
                check_own_loss(own, outputs.detach(), targets)
            try:
                value = loss(outputs, targets)
            except RuntimeError as error:
                raise RecipeError(
                    f"The loss cannot take the model's outputs: {in_words(error)}.", "Change the model, or the loss."
                ) from error
        if not value.requires_grad:
            if not outputs.requires_grad:
                raise ModelError(
                    f"The model's outputs carry no gradient{_WHEN}, so it cannot learn.",
                    "Let its forward compute without torch.no_grad(), .detach(), .data and argmax.",
                )
            raise RecipeError(
                "The loss function gives a value that carries no gradient, so the model cannot learn from it.",
                "Compute it from the outputs by operations of PyTorch, without torch.no_grad(), .detach(), .item() and argmax.",
            )
        try:
            value.backward()
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # the user's code may have a backward of its own
            if "inplace" not in str(error):
                raise ModelError(f"The backward pass fails: {in_words(error)}.", "Change the model, or the loss.") from error
            raise ModelError(
                f"The backward pass fails, as something that it needs was changed in place{self._changed(rows, loss)}: {in_words(error)}.",
                "Make new tensors instead: x = x + 1, not x += 1; torch.relu(x), not torch.relu_(x); inplace=False.",
            ) from error

    def _forward(self, inputs: Tensor) -> Tensor:
        try:
            outputs = self.model(inputs)
        except torch.OutOfMemoryError:
            raise
        except (Exception, SystemExit) as error:  # a user's network may raise anything
            raise ModelError(f"The model fails{_WHEN}: {in_words(error)}.", "Fix its forward; in evaluation mode it works.") from error
        return check_outputs(outputs, len(inputs), self.spec, _WHEN)

    def _changed(self, rows: Tensor, loss: Loss) -> str:
        """Return the line of the user's code whose result was modified later, as " (net.py, line 12)", if PyTorch knows it."""
        with (
            warnings.catch_warnings(record=True, action="always") as caught,
            suppress(Exception),
            torch.autograd.detect_anomaly(check_nan=False),
        ):
            loss(self.model(self._inputs[rows]), self._targets[rows]).backward()
        lines = [line for one in caught for line in re.findall(r'File "([^"]+)", line (\d+)', str(one.message)) if is_user_code(line[0])]
        return f" ({Path(lines[-1][0]).name}, line {lines[-1][1]})" if lines else ""

    def _sizes(self, total_steps: int) -> list[int]:
        """Return the numbers of examples that go through the model at once in some step, in any of the processes, the largest first."""
        count, batch = len(self.examples), self.recipe.examples_per_step
        steps = -(-count // batch)
        sizes = {min(batch, count)} | ({count - (steps - 1) * batch} if total_steps >= steps else set())
        together = is_synchronized(self.model, self.recipe, self.ranks)
        found = set()
        for rank in range(self.ranks.size):
            for part in (part for size in sizes for part in Slices(rank, self.ranks.size, self.recipe.accumulate).of(size)):
                # Batch norm needs two, and there it gets them from another process.
                found.add(max(part.rows, min(2, part.last - part.first)) if together else part.rows)
        return sorted(found, reverse=True)

    def _odd_size(self, size: int, error: ModelError) -> RecipeError:
        recipe, cause = self.recipe, error.__cause__
        why = error.problem.removesuffix(".") if cause is None else in_words(cause)
        given = "a single example" if size == 1 else f"{size} examples at once"
        who = "the model" if self.ranks.size == 1 else f"the model in one of {self.ranks.size} processes"
        fix = "Choose another batch_size (or accumulate), or let the model take any number of examples."
        if size == 1:
            fix = "Choose another batch_size (or accumulate), so that at least two are together."
        if size == 1 and self.ranks.size > 1 and recipe.distributed.batch_norm == "local":
            fix = "Choose another batch_size (or accumulate), so that each gets at least two; or distributed.batch_norm = synchronized."
        return RecipeError(
            f"With {counted(len(self.examples), 'training example')}, batch_size = {recipe.examples_per_step} and "
            f"accumulate = {recipe.accumulate} {who} would be given {given}, which it cannot train on: {why}.",
            fix,
        )


def _spread(count: int, among: int) -> Tensor:
    """Return evenly spaced integers from 0 to `among` - 1, both included."""
    return torch.arange(count) * (among - 1) // max(1, count - 1)
