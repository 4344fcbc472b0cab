"""The traced step: the loss and gradients of a batch, by operations that were recorded once.

What PyTorch spends on modules and autograd, some microseconds per operation, is a large part of a small network's step. The operations
are the same kernels in the same order, so results are equal to the bit; that is checked before the first use. A recording holds for
batches of one shape, and as long as nothing changes that the forward pass depends on.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.backends import opt_einsum

from epochal.data.slices import Slice
from epochal.errors import RecipeError
from epochal.training.traced.library import is_library
from epochal.training.traced.program import Program, Step, write
from epochal.training.traced.purity import Condition, check_pure, hooks_of, is_hooked, is_watched, modules_of, optimizer_hooks
from epochal.training.traced.reader import PLAIN
from epochal.training.traced.recording import LossOf, NotTraceableError, record
from epochal.user_code import in_words

# Batches of one shape before it is recorded, which takes as long as some plain steps.
BEFORE = 3

# Lists that modules of PyTorch have are compared by value, to this depth. Functions that are read use none.
_NESTED = 3

# (parameters, gradients) -> the sums of these gradients over all processes.
AddUp = Callable[[Sequence[nn.Parameter], Sequence[Tensor | None]], Sequence[Tensor]]

# Seconds of a step from which on little is to be gained. Recording keeps all intermediate results in memory.
LONG = 0.02


class TracedStep:
    """Computes losses and gradients by recorded operations, where they are known to give the same bits as the plain step.

    `loss_of` gives the mean loss of (inputs, targets), and the model's outputs; `own_loss` is the user's own function in it, if it has
    one; `optimizer` is used between two steps. Of several processes, each computes a slice of every batch in the context `drawing`, which
    draws random numbers for the whole, and they `add_up` their gradients. `why_not` is the reason for plain steps, or "". Where the user
    `insists` on traced ones, a reason against them is a `RecipeError`.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_of: LossOf,
        own_loss: object = None,
        optimizer: object = None,
        *,
        add_up: AddUp | None = None,
        drawing: Callable[[Any], AbstractContextManager[object]] = nullcontext,
        why_not: str = "",
        insists: bool = False,
    ) -> None:
        self.model = model
        self.loss_of = loss_of
        self.own_loss = own_loss
        self.optimizer = optimizer
        self.add_up = add_up
        self.drawing = drawing
        self.insists = insists
        self.why_not = ""
        self._met: Counter[Any] = Counter()
        self._steps: dict[Any, tuple[Step, Tensor]] = {}
        self._parameters: list[nn.Parameter] = []
        self._tensors: list[Tensor] = []
        self._conditions: list[Condition] = []
        self._state: list[Any] = []
        self._last, self._shortest = 0.0, float("inf")
        if why_not:
            self._refuse(why_not)
        else:
            self._analyse()

    def __call__(
        self, inputs: Tensor, targets: Tensor, share: Tensor | float | None, own: Slice | None = None
    ) -> tuple[Tensor, Tensor] | None:
        """Add the gradients of a batch to those of the parameters, and return its loss, both multiplied by `share`; and its outputs.

        The batch may be a slice of a larger one: its `own`. Return `None`, and do nothing, where the plain step has to do it.
        """
        if self.why_not:
            return None
        shape = inputs.shape, inputs.dtype, inputs.stride(), targets.shape, targets.dtype, own and own.place
        found = self._steps.get(shape) or self._meet(shape, inputs, targets, own)
        if found is None:
            return None
        step, seed = found
        with torch.no_grad():
            loss, outputs, *gradients = step(inputs, targets, seed if share is None else seed * share)
            if self.add_up is not None:
                gradients = [*self.add_up(self._parameters, gradients)]
            for parameter, gradient in zip(self._parameters, gradients, strict=True):
                if parameter.grad is None:
                    parameter.grad = gradient
                elif gradient is not None:
                    parameter.grad += gradient
            assert loss is not None
            assert outputs is not None
            return loss if share is None else loss * share, outputs

    def check(self) -> None:
        """Start over if anything has changed that recordings depend on. To be called after code of the user's own has run."""
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        if not self.why_not and gradients and not _are_plain(gradients, self._tensors):
            self._refuse("gradients are kept from one step to the next, and in memory that they share")
        if not self.why_not and (self._state != self._now() or not all(one.is_same() for one in self._conditions)):
            self._steps.clear()
            self._analyse()

    def _analyse(self) -> None:
        try:
            self._conditions = list(check_pure(self.model, self.own_loss, self.optimizer))
        except NotTraceableError as error:
            self._refuse(str(error))
            return
        except Exception as error:  # noqa: BLE001 -- code of the user's may make anything fail that looks at it
            self._refuse(f"it cannot be analysed: {in_words(error)}")
            return
        self._parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self._tensors = [tensor for module in self._modules() for tensor in _tensors(module).values()]
        self._state = self._now()

    def _modules(self) -> Iterator[nn.Module]:
        for root in (self.model, self.own_loss):
            if isinstance(root, nn.Module):
                yield from modules_of(root)

    def _now(self) -> list[Any]:
        """Return what a step may depend on besides the values of parameters and buffers."""
        return [
            *_settings(), is_watched(), *map(len, optimizer_hooks(self.optimizer)), "step" in getattr(self.optimizer, "__dict__", {}),
            *(part for module in self._modules() for part in _state(module)),
        ]  # fmt: skip

    def _refuse(self, reason: str) -> None:
        if self.insists:
            raise RecipeError(f"The step cannot be traced: {reason}.", "Use step = auto.")
        self.why_not = reason

    def _meet(self, shape: Any, inputs: Tensor, targets: Tensor, own: Slice | None) -> tuple[Step, Tensor] | None:
        """Return a new recording for this shape, once it has come up often enough."""
        now = time.perf_counter()
        self._shortest, self._last = min(self._shortest, now - self._last), now
        self._met[shape] += 1
        if self._met[shape] <= BEFORE or (self._shortest > LONG and not self.insists):
            return None
        try:
            with self.drawing(own):
                self._steps[shape] = self._record(inputs, targets)
        except NotTraceableError as error:
            self._refuse(str(error))
        except Exception as error:  # noqa: BLE001 -- the plain step works, as it was tried; PyTorch may refuse to record or repeat some
            self._refuse(f"recording fails: {in_words(error)}")
        return self._steps.get(shape)

    def _record(self, inputs: Tensor, targets: Tensor) -> tuple[Step, Tensor]:
        """Return the step for batches such as this one, and what its backpropagation begins with."""
        with _unchanged(self._tensors, self._parameters) as restore:
            loss, outputs = self.loss_of(_copy(inputs), _copy(targets))
            loss.backward()
            wanted = self._results([loss.detach(), outputs.detach()], [parameter.grad for parameter in self._parameters])
            restore()
            program = self._written(inputs, targets)
            restore()
            # With other values, operations that depend on values would be others.
            if not program.is_same(self._written(inputs.flip(0), targets.flip(0))):
                raise NotTraceableError("two recordings differ")
            restore()
            step, seed = program.load(), torch.ones_like(loss)
            with torch.no_grad():
                again, same, *gradients = step(_copy(inputs), _copy(targets), seed)
            if not _identical(wanted, self._results([again, same], gradients)):
                raise NotTraceableError("recorded operations do not give the same bits")
        return step, seed

    def _written(self, inputs: Tensor, targets: Tensor) -> Program:
        return write(record(self.loss_of, self._parameters, _copy(inputs), _copy(targets)), self._parameters)

    def _results(self, made: Sequence[Tensor | None], gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Return all that a step gives and changes."""
        return [*made, torch.get_rng_state(), *gradients, *(tensor.detach().clone() for tensor in self._tensors)]


@contextmanager
def _unchanged(tensors: Sequence[Tensor], parameters: Sequence[nn.Parameter]) -> Iterator[Callable[[], None]]:
    """Leave tensors, gradients and the generator as they were; in between, the function restores them, with no gradients."""
    generator, gradients = torch.get_rng_state(), [parameter.grad for parameter in parameters]
    values = [tensor.detach().clone() for tensor in tensors]

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


def _are_plain(gradients: Sequence[Tensor], tensors: Sequence[Tensor]) -> bool:
    """Return whether gradients that somebody has kept, or put there, can be added to in any order."""
    if any(type(gradient) is not Tensor or gradient.layout is not torch.strided for gradient in gradients):
        return False
    memory = [gradient.untyped_storage().data_ptr() for gradient in gradients]
    return len({*memory} - {tensor.untyped_storage().data_ptr() for tensor in tensors}) == len(memory)


def _copy(tensor: Tensor) -> Tensor:
    """Return a copy that lies in memory in the same order: a forward pass may change its inputs."""
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype).copy_(tensor)


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


class _Same:
    """A value that is only equal to itself, and is kept, so that no other gets its place in memory."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.value is self.value

    __hash__ = object.__hash__


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in (*module._parameters.items(), *module._buffers.items()) if value is not None}


def _state(module: nn.Module) -> Iterator[Any]:
    """Yield what the forward pass of a module may depend on, without its children's."""
    yield from (_Same(module), type(module), *map(len, hooks_of(module)))
    own, depth = (module._parameters, module._buffers, module._modules), _NESTED if is_library(type(module)) else 0
    yield [(name, _token(value, depth)) for name, value in vars(module).items() if not any(value is one for one in own)]
    yield [(name, _Same(child)) for name, child in module._modules.items()]
    for name, tensor in _tensors(module).items():
        yield name, _Same(tensor), type(tensor), tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype
        yield tensor.requires_grad, is_hooked(tensor), getattr(tensor, "grad_dtype", None), list(vars(tensor))


def _token(value: object, depth: int) -> object:
    """Return something that is equal to that of another value only if both are the same for a forward pass."""
    if type(value) in PLAIN:
        # 0.0 is equal to -0.0, and 1 to True.
        return type(value), repr(value)
    if type(value) is tuple or (type(value) is list and depth):
        return type(value), [_token(one, depth - 1) for one in value]
    return _Same(value)


def _settings() -> list[Any]:
    """Return the settings of PyTorch that decide which operations compute something."""
    return [
        torch.get_default_dtype(), torch.are_deterministic_algorithms_enabled(), torch.is_grad_enabled(), torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu"), torch.is_autocast_cache_enabled(),
        torch.backends.mkldnn.enabled, torch.backends.mkldnn.deterministic, torch.get_float32_matmul_precision(),
        opt_einsum.enabled, opt_einsum.strategy,
        torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.mem_efficient_sdp_enabled(), torch.backends.cuda.math_sdp_enabled(),
    ]  # fmt: skip
