"""One worker of `engine.py`: train in one of several ways, and report where the time of a step goes.

    python -m benchmarks.anatomy WAY THREADS

It reads requests from standard input, each a line with a JSON object: `network`, `batch_size` and `count` of examples. For each it
trains one epoch and prints one line, a JSON object:

`phases`    microseconds per step in each of `PHASES`
`whole`     microseconds per step in all
`start`     seconds of the slowest of the first steps: what recording or compiling takes
`weights`   checksum of the weights after the first epoch
`note`      what did not happen as its name says
`floor`     of the plain way: microseconds of a step's matrix products and convolutions alone

or `error`. The loop is Epochal's own, `train_epoch`; the ways differ only in how they come from a batch to its gradients.
"""

from __future__ import annotations

import copy
import hashlib
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from benchmarks.networks import WAYS, made, recipe

if TYPE_CHECKING:
    from epochal.data.feed import Batch, Feed
    from epochal.training.state import Training

PHASES = ("gather", "preprocess", "forward, backward", "update", "bookkeeping")
CPU = torch.device("cpu")

# The loss, and the model's outputs.
Made = tuple[Tensor, Tensor]

# (inputs, targets) -> loss and outputs; the gradients are in the parameters then. `None` for what the plain way has to do.
Gradients = Callable[[Tensor, Tensor], Made | None]


def plain(training: Training, _: Batch) -> Gradients:
    """As the page of the loop has it: modules and autograd."""

    def gradients(inputs: Tensor, targets: Tensor) -> Made:
        outputs = training.model(inputs)
        loss = training.loss(outputs, targets)
        loss.backward()
        return loss.detach(), outputs

    return gradients


def traced(training: Training, _: Batch) -> Gradients:
    """Epochal's traced step."""
    step = training.traced

    def gradients(inputs: Tensor, targets: Tensor) -> Made | None:
        return step(inputs, targets, None)

    return gradients


def script(training: Training, batch: Batch) -> Gradients:
    """The same operations, recorded by PyTorch's own means, in TorchScript's interpreter."""
    from torch.fx.experimental.proxy_tensor import make_fx

    model, before = training.model, copy.deepcopy(training.model.state_dict())
    names = [name for name, _ in model.named_parameters()]
    weights = list(model.parameters())
    places = [name for name, _ in model.named_buffers()]
    given = [*(weight.detach() for weight in weights), *model.buffers()]

    def whole(inputs: Tensor, targets: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            leaves = [weight.detach().requires_grad_() for weight in tensors[: len(names)]]
            values = dict(zip([*names, *places], [*leaves, *tensors[len(names) :]], strict=True))
            outputs = torch.func.functional_call(model, values, inputs)
            loss = training.loss(outputs, targets)
            return loss.detach(), outputs.detach(), *torch.autograd.grad(loss, leaves)

    with warnings.catch_warnings(action="ignore"), torch.no_grad():  # TorchScript is deprecated.
        graph = make_fx(whole)(batch.inputs, batch.targets, *given)
        for node in list(graph.graph.nodes):
            if node.target in (torch.ops.aten.detach.default, torch.ops.aten.alias.default):
                node.replace_all_uses_with(node.args[0])
                graph.graph.erase_node(node)
        graph.graph.eliminate_dead_code()
        graph.recompile()
        program = torch.jit.trace(lambda *values: graph(*values), (batch.inputs, batch.targets, *given), check_trace=False)
    # Recording has changed statistics of batch norm.
    model.load_state_dict(before)

    def gradients(inputs: Tensor, targets: Tensor) -> Made:
        with torch.no_grad():
            loss: Tensor
            outputs: Tensor
            loss, outputs, *found = program(inputs, targets, *given)
        for weight, gradient in zip(weights, found, strict=True):
            weight.grad = gradient
        return loss, outputs

    return gradients


def compiled(training: Training, _: Batch) -> Gradients:
    """`torch.compile` of model and loss."""
    # It is the same line of code for every case: beyond the usual 8, those would silently not be compiled.
    torch._dynamo.config.recompile_limit = 100

    def whole(inputs: Tensor, targets: Tensor) -> Made:
        outputs = training.model(inputs)
        return training.loss(outputs, targets), outputs

    loss_of = torch.compile(whole, dynamic=False)

    def gradients(inputs: Tensor, targets: Tensor) -> Made:
        loss, outputs = loss_of(inputs, targets)
        loss.backward()
        return loss.detach(), outputs

    return gradients


MAKERS = dict(zip(WAYS, (plain, traced, script, compiled), strict=True))


class Stopwatch:
    """Stands in for the feed, the traced step and the update of a training, passes calls on, and measures them."""

    def __init__(self, training: Training, feed: Feed, way: str) -> None:
        self.examples = feed.examples
        self.feed = feed
        self.begin()
        begun = time.perf_counter()
        self.gradients = MAKERS[way](training, next(feed.epoch(1)))
        self.start = time.perf_counter() - begun
        self.fallback = plain(training, next(feed.epoch(1)))
        self.checked = training.traced
        self.updated = training.update
        training.traced = self  # type: ignore[assignment]
        training.update = self.update

    def begin(self) -> None:
        """Start from zero."""
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self.slowest = 0.0
        self.fallbacks = 0

    def __len__(self) -> int:
        return len(self.feed)

    def epoch(self, number: int, start: int = 0, step: int = 1) -> Iterator[Batch]:
        """Yield the batches of an epoch."""
        begun = time.perf_counter()
        for batch in self.feed.epoch(number, start, step):
            self.seconds["gather"] += time.perf_counter() - begun
            yield batch
            begun = time.perf_counter()

    def check(self) -> None:
        """Let the traced step look at what it depends on."""
        self.checked.check()

    def __call__(self, inputs: Tensor, targets: Tensor, *_: object) -> Made:
        """Compute loss and gradients."""
        begun = time.perf_counter()
        made = self.gradients(inputs, targets)
        if made is None:
            self.fallbacks += 1
            made = self.fallback(inputs, targets)
            assert made is not None
        taken = time.perf_counter() - begun
        self.seconds["forward, backward"] += taken
        self.slowest = max(self.slowest, taken)
        return made

    def update(self) -> None:
        """Update the weights."""
        begun = time.perf_counter()
        self.updated()
        self.seconds["update"] += time.perf_counter() - begun


class Subject:
    """A network that is trained in one of the ways, epoch after epoch."""

    def __init__(self, network: str, batch_size: int, count: int, way: str, threads: int) -> None:
        from epochal.training.build import build_training, training_feed

        model, data = _made(network, count)
        settings = recipe(batch_size, threads)
        self.is_plain = way == "plain"
        self.feed = training_feed(data.train, data.spec, settings, CPU)
        self.training = build_training(copy.deepcopy(model), self.feed, data.spec, settings, CPU)
        self.training.train_mode()
        self.watch = Stopwatch(self.training, self.feed, way)
        # Recording and compiling happen in the first epoch, and thresholds are reached.
        self.epoch()
        self.start = self.watch.start + self.watch.slowest
        self.weights = _checksum(self.training.model.state_dict())

    def epoch(self) -> float:
        """Train one epoch; return its seconds."""
        from epochal.training.checkpoint import Checkpoints
        from epochal.training.loop import train_epoch

        self.watch.begin()
        begun = time.perf_counter()
        train_epoch(self.training, self.watch, lambda _: None, Checkpoints(None))
        self.training.epoch += 1
        return time.perf_counter() - begun

    def measure(self) -> dict[str, Any]:
        """Train one epoch; return the report."""
        whole, steps = self.epoch(), len(self.feed)
        seconds, fallbacks = self.watch.seconds, self.watch.fallbacks
        seconds["bookkeeping"] = whole - sum(seconds.values())
        # Most ways have it inside of what they record or compile: this is what the layer takes by itself.
        seconds["preprocess"] = self._preprocess()
        seconds["forward, backward"] -= seconds["preprocess"]
        report = {
            "phases": {phase: 1e6 * taken / steps for phase, taken in seconds.items()},
            "whole": 1e6 * whole / steps,
            "start": self.start,
            "weights": self.weights,
            "note": self._why_plain() if fallbacks else "",
        }
        return report | ({"floor": self._floor()} if self.is_plain else {})

    def _preprocess(self) -> float:
        layer, seconds = self.training.model.preprocess, 0.0
        with torch.no_grad():
            for batch in self.feed.epoch(1):
                begun = time.perf_counter()
                layer(batch.inputs)  # type: ignore[operator]
                seconds += time.perf_counter() - begun
        return seconds

    def _why_plain(self) -> str:
        return f"made plain steps: {self.watch.checked.why_not or 'they take longer than what is recorded'}"

    def _floor(self) -> float | None:
        from epochal.tuning.profile import arithmetic

        seconds = arithmetic(self.training, next(self.feed.epoch(1)), seconds=0.2)
        # It made a step, which belongs to no epoch.
        self.training.step -= 1
        return None if seconds is None else 1e6 * seconds


_made = cache(made)


def _checksum(state: dict[str, Tensor]) -> str:
    total = hashlib.sha256()
    for value in state.values():
        total.update(value.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def main() -> None:
    """Answer requests until there are no more."""
    from epochal.cores import sharing_cores
    from epochal.device import computing
    from epochal.user_code import in_words

    way, threads = sys.argv[1], int(sys.argv[2])
    subject = cache(Subject)
    for line in sys.stdin:
        request = json.loads(line)
        # As `fit` has it.
        with sharing_cores(), computing(threads):
            try:
                report = subject(**request, way=way, threads=threads).measure()
            except Exception as error:  # noqa: BLE001 - a compiler that is missing is a result, too
                report = {"error": in_words(error)}
        print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
