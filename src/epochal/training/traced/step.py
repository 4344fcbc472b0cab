"""The traced step: the loss and gradients of a batch, by operations that were recorded once.

What PyTorch spends on modules and autograd, some microseconds per operation, is a large part of a small network's step. The operations
are the same kernels in the same order, so results are equal to the bit; that is checked before the first use. A recording holds for
batches of one shape, and as long as nothing changes that the forward pass depends on.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from epochal.errors import RecipeError
from epochal.training.traced.program import Program, Step, write
from epochal.training.traced.purity import check_functions, check_pure, hooks_of
from epochal.training.traced.reader import Outside
from epochal.training.traced.recording import NotTraceableError, record
from epochal.user_code import in_words

# Batches of one shape before it is recorded, which takes as long as some plain steps.
BEFORE = 3

# Attributes of modules with such values are compared by value, others by identity.
_PLAIN = (bool, int, float, complex, str, type(None), torch.dtype)

# Seconds of a step from which on little is to be gained. Recording keeps all intermediate results in memory.
LONG = 0.02


class TracedStep:
    """Computes losses and gradients by recorded operations, where they are known to give the same bits as the plain step.

    `loss_of` is the mean loss of (inputs, targets); `own_loss` is the user's own function in it, if it has one. `why_not` is the reason
    for plain steps, or "". Where the user `insists` on traced ones, a reason against them is a `RecipeError`.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_of: Callable[[Tensor, Tensor], Tensor],
        own_loss: object = None,
        *,
        why_not: str = "",
        insists: bool = False,
    ) -> None:
        self.model = model
        self.loss_of = loss_of
        self.own_loss = own_loss
        self.insists = insists
        self.why_not = ""
        self._met: Counter[Any] = Counter()
        self._steps: dict[Any, tuple[Step, Tensor]] = {}
        self._parameters: list[nn.Parameter] = []
        self._outside: list[Outside] = []
        self._state: list[Any] = []
        self._last, self._shortest = 0.0, float("inf")
        if why_not:
            self._refuse(why_not)
        else:
            self._analyse()

    def __call__(self, inputs: Tensor, targets: Tensor, share: Tensor | float | None) -> Tensor | None:
        """Add the gradients of a batch to those of the parameters, and return its loss, both multiplied by `share`.

        Return `None`, and do nothing, where the plain step has to do it.
        """
        if self.why_not:
            return None
        shape = inputs.shape, inputs.dtype, inputs.stride(), targets.shape, targets.dtype
        found = self._steps.get(shape) or self._meet(shape, inputs, targets)
        if found is None:
            return None
        step, seed = found
        with torch.no_grad():
            loss, *gradients = step(inputs, targets, seed if share is None else seed * share)
            for parameter, gradient in zip(self._parameters, gradients, strict=True):
                if parameter.grad is None:
                    parameter.grad = gradient
                elif gradient is not None:
                    parameter.grad += gradient
            assert loss is not None
            return loss if share is None else loss * share

    def check(self) -> None:
        """Start over if anything has changed that recordings depend on. To be called after code of the user's own has run."""
        if self.why_not:
            return
        try:
            check_functions()
        except NotTraceableError as error:
            self._refuse(str(error))
        if not self.why_not and (self._state != _state(self._modules()) or not all(one.is_same() for one in self._outside)):
            self._steps.clear()
            self._analyse()

    def _analyse(self) -> None:
        try:
            self._outside = list(check_pure(self.model, self.own_loss))
        except NotTraceableError as error:
            self._refuse(str(error))
        self._parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self._state = _state(self._modules())

    def _modules(self) -> list[nn.Module]:
        return [*self.model.modules(), *(self.own_loss.modules() if isinstance(self.own_loss, nn.Module) else ())]

    def _refuse(self, reason: str) -> None:
        if self.insists:
            raise RecipeError(f"The step cannot be traced: {reason}.", "Use step = auto.")
        self.why_not = reason

    def _meet(self, shape: Any, inputs: Tensor, targets: Tensor) -> tuple[Step, Tensor] | None:
        """Return a new recording for this shape, once it has come up often enough."""
        now = time.perf_counter()
        self._shortest, self._last = min(self._shortest, now - self._last), now
        self._met[shape] += 1
        if self._met[shape] <= BEFORE or (self._shortest > LONG and not self.insists):
            return None
        try:
            self._steps[shape] = self._record(inputs, targets)
        except NotTraceableError as error:
            self._refuse(str(error))
        except Exception as error:  # noqa: BLE001 -- the plain step works, as it was tried; PyTorch may refuse to record or repeat some
            self._refuse(f"recording fails: {in_words(error)}")
        return self._steps.get(shape)

    def _record(self, inputs: Tensor, targets: Tensor) -> tuple[Step, Tensor]:
        """Return the step for batches such as this one, and what its backpropagation begins with."""
        # All that a step may change, if only in place: even its inputs, and weights (`nn.Embedding` shortens some).
        tensors = [inputs, targets, *(tensor for module in self._modules() for tensor in _tensors_of(module))]

        def results(loss: Tensor | None, gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
            return [loss, *gradients, torch.get_rng_state(), *(tensor.clone() for tensor in tensors)]

        with _unchanged(tensors, self._parameters) as restore:
            loss = self.loss_of(inputs, targets)
            loss.backward()
            wanted = results(loss.detach(), [parameter.grad for parameter in self._parameters])
            restore()
            program = self._written(inputs, targets)
            restore()
            # With other values, operations that depend on values would be others.
            if not program.is_same(self._written(inputs.flip(0), targets.flip(0))):
                raise NotTraceableError("two recordings differ")
            restore()
            step, seed = program.load(), torch.ones_like(loss)
            with torch.no_grad():
                made, *gradients = step(inputs, targets, seed)
            if not _identical(wanted, results(made, gradients)):
                raise NotTraceableError("recorded operations do not give the same bits")
        return step, seed

    def _written(self, inputs: Tensor, targets: Tensor) -> Program:
        return write(record(self.loss_of, self._parameters, inputs, targets), self._parameters)


@contextmanager
def _unchanged(tensors: Sequence[Tensor], parameters: Sequence[nn.Parameter]) -> Iterator[Callable[[], None]]:
    """Leave tensors, gradients and the generator as they were; in between, the function restores them, with no gradients."""
    generator, gradients = torch.get_rng_state(), [parameter.grad for parameter in parameters]
    values = [tensor.clone() for tensor in tensors]

    def restore() -> None:
        torch.set_rng_state(generator)
        for parameter in parameters:
            parameter.grad = None
        with torch.no_grad():
            for tensor, value in zip(tensors, values, strict=True):
                # What has not changed may not be possible to write to, such as a buffer that is expanded.
                if not _same_bits(tensor, value):
                    tensor.copy_(value)

    try:
        restore()
        yield restore
    finally:
        restore()
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient


def _identical(some: Sequence[Tensor | None], others: Sequence[Tensor | None]) -> bool:
    """Return whether tensors are equal in every bit, and lie in memory in the same order."""
    return all(
        one is other if one is None or other is None else one.stride() == other.stride() and _same_bits(one, other)
        for one, other in zip(some, others, strict=True)
    )


def _same_bits(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.equal(*(tensor.contiguous().view(-1).view(torch.uint8) for tensor in (one, other)))


def _tensors_of(module: nn.Module) -> list[Tensor]:
    """Return the parameters and buffers of a module itself."""
    return [*module.parameters(recurse=False), *module.buffers(recurse=False)]


def _state(modules: Sequence[nn.Module]) -> list[Any]:
    """Return what forward pass and loss may depend on besides the values of parameters and buffers."""
    state: list[Any] = [torch.get_default_dtype(), torch.are_deterministic_algorithms_enabled()]
    for module in modules:
        own = [(name, value if isinstance(value, _PLAIN) else id(value)) for name, value in vars(module).items()]
        state.append((id(module), type(module), own, *map(len, hooks_of(module))))
        for tensor in _tensors_of(module):
            hooks = len(tensor._backward_hooks or ())
            state.append((id(tensor), tensor.data_ptr(), tensor.stride(), tensor.requires_grad, hooks))
    return state
