"""One training by several processes: the same steps as one process would make, up to the order of sums.

Each process computes its slice of every batch. PyTorch's DistributedDataParallel adds up the gradients, each with its slice's share of the
mean over the batch, however uneven the slices are. Batch norm has the statistics of the whole batch, and dropout draws for the whole batch
and keeps its rows. What depends on a clock or a signal is decided by process 0, at the same step for all: for that they meet a few times
a second, not at every step.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from epochal.cores import seconds_wanted
from epochal.data.slices import Slice
from epochal.distributed.ranks import ALONE, Ranks
from epochal.errors import ModelError
from epochal.progress import silent
from epochal.recipe import Recipe
from epochal.training.batch_norm import Counting, batch_norms, over_all
from epochal.training.signals import Signals
from epochal.training.whole_draws import WholeDraws

if TYPE_CHECKING:
    from torch._C._distributed_c10d import GradBucket

    from epochal.training.state import Training

# Processes meet after as many steps as take about so many seconds, by the clock of process 0.
MEET_SECONDS = 0.25

# So much of what earlier meetings found counts in how long each process takes.
_KEPT = 0.8

_NAMED = 5
_NOTHING = nullcontext()


class Distributed:
    """What a process needs to train together with others: `forward` is the model whose gradients are added up.

    Alone, it is the model itself, and nothing here costs anything.
    """

    def __init__(
        self, model: nn.Module, recipe: Recipe, device: torch.device, ranks: Ranks = ALONE, log: Callable[[str], object] = silent
    ) -> None:
        self.ranks = ranks
        self.model = model
        self.forward = model
        self.is_synchronized = is_synchronized(model, recipe, ranks)
        self.sent: list[str] = []
        # What is compiled draws inside of its kernels: there each process has random numbers of its own.
        self.own_draws = (ranks.rank,) if ranks.size > 1 and recipe.compile == "on" else ()
        self._draws = WholeDraws()
        self._counting = Counting()
        self.sums = _Sums(ranks)
        if ranks.size > 1:
            equal = equal_buffers(model, batch_norm=self.is_synchronized)
            # Process 0 sends its other buffers to all in every step.
            self.sent = [name for name, _ in model.named_buffers() if name not in equal]
            self.forward = _adding_gradients(self, equal, recipe, device)
            log(f"note: {self.describe()}")

    def describe(self) -> str:
        """Return how the model is trained by several processes, in words."""
        if not batch_norms(self.model):
            return f"{self.ranks.size} processes train, each on a slice of every batch"
        if self.is_synchronized:
            return f"{self.ranks.size} processes train, each on a slice of every batch; batch norm sees the whole batch"
        return f"{self.ranks.size} processes train, each on a slice of every batch; batch norm sees the slice of each process"

    def training(self) -> AbstractContextManager[object]:
        """Return the context of all steps."""
        return over_all(self.model, self.ranks, self._counting) if self.is_synchronized else _NOTHING

    def part(self, own: Slice, *, is_last: bool) -> AbstractContextManager[object]:
        """Return the context of one part of a batch, forward and backward: gradients are exchanged with the last one."""
        return _NOTHING if self.ranks.size == 1 else self._part(own, is_last)

    @contextmanager
    def _part(self, own: Slice, is_last: bool) -> Iterator[None]:
        assert isinstance(self.forward, DistributedDataParallel)
        self._counting.weight = float(own.counts)
        with _NOTHING if is_last else self.forward.no_sync(), self.drawing(own):
            yield

    def drawing(self, own: Slice) -> AbstractContextManager[object]:
        """Return the context in which random numbers are drawn for a whole batch, and those of these rows are kept."""
        return _NOTHING if self.ranks.size == 1 or self.own_draws else self._draws.rows(own)

    def whole(self, weights: Sequence[Tensor | int], count: int) -> Tensor | int:
        """Return the weight of a whole batch of `count` examples, of which these are the `weights` of this process' parts."""
        tensors = [weight for weight in weights if isinstance(weight, Tensor)]
        return self.ranks.total(torch.stack(tensors).sum()) if tensors else count

    def why_not_traced(self, recipe: Recipe) -> str:
        """Return why the steps of several processes cannot be traced, or ""."""
        if self.ranks.size == 1:
            return ""
        if recipe.accumulate > 1:
            return "several processes add up gradients of several parts of a batch"
        if recipe.distributed.find_unused_parameters:
            return "several processes look for parameters that a step does not use"
        if self.is_synchronized:
            return "several processes compute batch norm together"
        if self.sent:
            return "several processes exchange buffers in every step"
        return ""

    def share_buffers(self, model: nn.Module) -> None:
        """Give all processes the buffers that process 0 has, in `model` or a copy of it: after a step, each has its own until the next."""
        for name in self.sent:
            self.ranks.from_leader(model.get_buffer(name))


class _Sums:
    """The gradients of all parameters, where DistributedDataParallel keeps them and adds them up: in groups, each in one piece of memory.

    Called with the gradients of a step that it has no part in, it adds these up over all processes in the same way, to the bit.
    """

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks
        self._groups: dict[int, Tensor] = {}
        self._gradients: dict[Tensor, Tensor] = {}

    def clear(self) -> None:
        """Forget all groups."""
        self._groups.clear()
        self._gradients.clear()

    def note(self, bucket: GradBucket) -> None:
        """Note a group, unless it is known."""
        if bucket.index() not in self._groups:
            self._groups[bucket.index()] = bucket.buffer()
            self._gradients.update(zip(bucket.parameters(), bucket.gradients(), strict=True))

    def __call__(self, parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor | None]) -> Sequence[Tensor]:
        """Return the sums of the `gradients` of all `parameters`: there are no others, and all of them have one."""
        sums = [self._gradients[parameter] for parameter in parameters]
        torch._foreach_copy_(sums, [gradient for gradient in gradients if gradient is not None])
        self.ranks.step_computed()
        # In their order, as a process that makes the plain step expects it.
        for summed in [_sum_up(group) for _, group in sorted(self._groups.items())]:
            summed.wait()
        return sums


def is_synchronized(model: nn.Module, recipe: Recipe, ranks: Ranks) -> bool:
    """Return whether a model has batch norm, and in training that sees the whole batch of several processes."""
    return ranks.size > 1 and recipe.distributed.batch_norm == "synchronized" and bool(batch_norms(model))


def _adding_gradients(distributed: Distributed, equal: Sequence[str], recipe: Recipe, device: torch.device) -> DistributedDataParallel:
    """Return the model as one whose gradients are the sums of those of all processes. Its buffers of these names are `equal` in all."""
    model = distributed.model
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, equal)
    made = DistributedDataParallel(
        model,
        device_ids=[device.index] if device.type == "cuda" else None,
        gradient_as_bucket_view=True,
        find_unused_parameters=recipe.distributed.find_unused_parameters,
    )
    # PyTorch examines annotations, and does not know those that are text.
    made.register_comm_hook(distributed, lambda state, bucket: _exchange(state, bucket))
    _arrange(made, distributed.sums)
    return made


def equal_buffers(model: nn.Module, *, batch_norm: bool) -> list[str]:
    """Return the names of buffers that are equal everywhere: process 0 would send them to all others in every step.

    Those of our own layers are constants (the words of a text bag alone have megabytes), and those of `batch_norm` over all count alike.
    """
    norms = {*batch_norms(model)}
    return [
        f"{name}.{buffer}".lstrip(".") for name, layer in model.named_modules() for buffer, _ in layer.named_buffers(recurse=False)
        if (batch_norm if layer in norms else type(layer).__module__.startswith("epochal."))
    ]  # fmt: skip


def _arrange(made: DistributedDataParallel, sums: _Sums) -> None:
    """Let the gradients be exchanged in the same groups in all steps, also in the first one after a checkpoint.

    PyTorch groups them anew after the first backward pass, and the order in which more than two processes add up a gradient depends on its
    place in a group. So the first two passes are without a step: of a sum of all parameters, times 0.
    """
    model = made.module
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        return
    model.forward = lambda: sum((parameter.sum() * 0 for parameter in parameters), torch.zeros((), device=parameters[0].device))
    try:
        for _ in range(2):
            sums.clear()
            made().backward()
    finally:
        del model.forward
        for parameter in parameters:
            parameter.grad = None


def _exchange(distributed: Distributed, bucket: GradBucket) -> torch.futures.Future[Tensor]:
    """Add up some of the gradients: their shares of the mean are in them already."""
    distributed.sums.note(bucket)
    if bucket.is_last():
        distributed.ranks.step_computed()
    return _sum_up(bucket.buffer())


def _sum_up(gradients: Tensor) -> torch.futures.Future[Tensor]:
    """Begin to replace gradients by their sums over all processes."""
    future: torch.futures.Future[Tensor] = dist.all_reduce(gradients, async_op=True).get_future().then(lambda done: done.value()[0])
    return future


def check_used(unused: Sequence[str], recipe: Recipe, ranks: Ranks) -> None:
    """Raise `ModelError` for parameters that steps do not use: other processes would wait for their gradients."""
    if ranks.size == 1 or not unused or recipe.distributed.find_unused_parameters:
        return
    more = f" and {len(unused) - _NAMED} more" * (len(unused) > _NAMED)
    raise ModelError(
        f"Several processes cannot train this model: a step does not use {', '.join(unused[:_NAMED])}{more}.",
        "Use them in forward, freeze them (requires_grad_(False)), or set distributed.find_unused_parameters = true, which takes time.",
    )


class Due(NamedTuple):
    """What is due between two steps."""

    report: bool = False
    end: bool = False
    checkpoint: bool = False


class Slowest(NamedTuple):
    """The process that computes longest in each step, and how much longer than the mean of the others: a share of that."""

    rank: int
    behind: float


class Meetings:
    """When the processes meet between steps, and what they agree on there: each says what it knows, and process 0 decides.

    `slowest` is the process that all others wait for, as of the last meetings.
    """

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks
        self.slowest: Slowest | None = None
        self._left = self._steps = 1
        self._met = time.perf_counter()
        self._wanted, self._waited = seconds_wanted(), 0.0
        self._by_rank = torch.zeros(ranks.size, dtype=torch.float64)

    def after_step(self, decide: Due, signals: Signals, waited: float) -> Due:
        """Return what is due for all, where process 0 would `decide` so; nothing between two meetings.

        So far this process has `waited` so many seconds of the epoch for data.
        """
        self._left -= 1
        if self._left:
            return Due()
        now = time.perf_counter()
        share = MEET_SECONDS / max(now - self._met, 1e-6)
        following = max(1, min(4 * self._steps, int(self._steps * share)))
        self._met = now
        own = torch.tensor([following, *decide, *_asked(signals), self._took(waited)], dtype=torch.float64)
        found = torch.stack(self.ranks.gather(own))
        self._left = self._steps = int(found[0, 0])
        _agree(signals, found[:, 4:6])
        self._compare(found[:, 6])
        report, end, checkpoint = found[0, 1:4].bool().tolist()
        return Due(report, end, checkpoint or signals.end is not None)

    def _took(self, waited: float) -> float:
        """Return how long this process has computed and waited for data since the last meeting, but not for the others."""
        wanted = seconds_wanted()
        # In a new epoch waiting is counted from 0.
        took = wanted - self._wanted + (waited - self._waited if waited >= self._waited else waited)
        self._wanted, self._waited = wanted, waited
        return took

    def _compare(self, took: Tensor) -> None:
        self._by_rank = _KEPT * self._by_rank + took
        longest, rank = self._by_rank.max(0)
        others = (self._by_rank.sum() - longest) / (len(took) - 1)
        self.slowest = Slowest(int(rank), float(longest / others) - 1)


def _asked(signals: Signals) -> tuple[float, float]:
    return float(signals.end or 0), float(signals.checkpoint)


def _agree(signals: Signals, asked: Tensor) -> None:
    """What a signal requested of one process is requested of all."""
    end, checkpoint = asked.max(0).values.tolist()
    signals.end = int(end) or None
    signals.checkpoint = bool(checkpoint)


def agree_on_signals(signals: Signals, ranks: Ranks) -> None:
    """Let all processes know of the signals that any of them got."""
    if ranks.size > 1:
        _agree(signals, torch.stack(ranks.gather(torch.tensor(_asked(signals), dtype=torch.float64))))


def share_state(training: Training, ranks: Ranks) -> None:
    """Give all processes the state of process 0."""
    if ranks.size == 1:
        return
    state = training.state_dict()
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    plain = {name: value for name, value in state.items() if name not in tensors}
    forms = {name: (str(tensor.dtype).removeprefix("torch."), list(tensor.shape)) for name, tensor in tensors.items()}
    text: str
    text, forms = ranks.tell(lambda: (json.dumps(plain), forms))
    told: dict[str, Any] = json.loads(text)
    for name, (dtype, shape) in forms.items():
        own = tensors[name].contiguous() if ranks.leads else torch.empty(shape, dtype=getattr(torch, dtype), device=training.device)
        told[name] = ranks.from_leader(own.to(training.device))
    if not ranks.leads:
        training.load_state_dict(told)
        # What all have counted of the losses and the examples, process 0 keeps.
        training.loss_sum.zero_()
        training.labels.clear()
