"""A recording as straight-line Python: the same operations in the same order, without modules and without autograd.

Only what changes no bit is left out: `detach`, results that nobody reads, and views of weights, which are made once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from epochal.training.traced.recording import Call, NotTraceableError, Recording

_aten = torch.ops.aten

# They return what they are given.
_SAME = (_aten.detach.default, _aten.alias.default, _aten.lift_fresh.default)

# PyTorch's own bindings of these take a microsecond less per call than the operations themselves.
_BOUND: dict[Any, Callable[..., Any]] = {
    _aten._log_softmax.default: torch._log_softmax,
    _aten._log_softmax_backward_data.default: torch._log_softmax_backward_data,
    _aten.add.Tensor: torch.add,
    _aten.add_.Tensor: Tensor.add_,
    _aten.addcmul.default: torch.addcmul,
    _aten.addmm.default: torch.addmm,
    _aten.bmm.default: torch.bmm,
    _aten.mm.default: torch.mm,
    _aten.mul.Tensor: torch.mul,
    _aten.relu.default: torch.relu,
    _aten.sub.Tensor: torch.sub,
    _aten.sum.dim_IntList: torch.sum,
    _aten.t.default: torch.t,
    _aten.transpose.int: torch.transpose,
    _aten.view.default: Tensor.view,
}

# (inputs, targets, seed of backpropagation) -> the loss, the outputs, and the gradient of each parameter.
Step = Callable[[Tensor, Tensor, Tensor], Sequence[Tensor | None]]


@dataclass(frozen=True)
class Program:
    """The source of a step, and the values that its names have outside."""

    source: str
    values: dict[str, Any]

    def is_same(self, other: Program) -> bool:
        """Return whether another recording gave the same program, on the very same tensors."""
        return self.source == other.source and all(
            _storage(value) == _storage(other.values[name]) if isinstance(value, Tensor) else value == other.values[name]
            for name, value in self.values.items()
        )

    def load(self) -> Step:
        """Return the function."""
        space = dict(self.values)
        exec(compile(self.source, "<traced step>", "exec"), space)  # noqa: S102
        return space["step"]  # type: ignore[no-any-return]


def write(recording: Recording, parameters: Sequence[nn.Parameter]) -> Program:
    """Return the program of a recording. Raises `NotTraceableError`."""
    writer = _Writer()
    for name, tensor in (("inputs", recording.inputs), ("targets", recording.targets)):
        writer.define(tensor, name)
    for call in recording.calls:
        writer.add(call, recording.seed)
    results = [writer.name(recording.loss), writer.name(recording.outputs), *writer.gradients(recording, parameters)]
    return writer.program(results)


@dataclass
class _Line:
    """A statement: what it calls, what the result is assigned to, the names it reads and writes, and whether it must stay."""

    call: str
    target: str
    reads: list[str]
    writes: list[str]
    must_stay: bool


@dataclass
class _Writer:
    lines: list[_Line] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    # Backpropagation may get a saved tensor as another object on the same memory.
    places: dict[tuple[Any, ...], str] = field(default_factory=dict)

    def define(self, tensor: Tensor, name: str) -> str:
        """Let `name` stand for a tensor."""
        self.names[id(tensor)] = name
        self.places[_storage(tensor)] = name
        return name

    def name(self, value: Any) -> str:
        """Return an expression for a value that a call was given: a tensor of the program, or a constant."""
        if isinstance(value, Tensor):
            known = self.names.get(id(value)) or self.places.get(_storage(value))
            # Weights, buffers, and tensors that the loss has: as they are at each step, but without their own gradient.
            return known or self.define(value, self.bind(value.detach()))
        # Not by `bind`, where 0.0 and -0.0 are equal.
        if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
            return repr(value)
        if isinstance(value, list | tuple):
            return f"[{', '.join(map(self.name, value))}]"
        return self.bind(value)

    def bind(self, value: Any) -> str:
        """Return a name for a value from outside."""
        for name, known in self.values.items():
            if known is value or (not isinstance(value, Tensor) and type(known) is type(value) and known == value):
                return name
        name = f"c{len(self.values)}"
        self.values[name] = value
        return name

    def add(self, call: Call, seed: Tensor) -> None:
        """Add an operation."""
        operation, results = call.operation, _tensors(call.result)
        if any(result is seed for result in results):
            self.define(seed, "seed")
            return
        if any(result.layout is not torch.strided or type(result) is not Tensor for result in results):
            raise NotTraceableError(f"{operation} gives a tensor of another kind")
        arguments = [self.name(value) for value in call.arguments]
        keywords = [f"{name}={self.name(value)}" for name, value in call.keywords.items()]
        if operation in _SAME:
            self.define(call.result, arguments[0])
            return
        given = _tensors((call.arguments, list(call.keywords.values())))
        reads = [self.name(value) for value in given]
        if operation.is_view and isinstance(call.result, Tensor):
            # Views of weights always show the same memory; others may be what there was before, such as a transpose of a transpose.
            known = self.places.get(_storage(call.result))
            if known is None and all(name in self.values for name in reads):
                known = self.bind(call.result.detach())
            if known is not None:
                self.define(call.result, known)
                return
        changes = operation._schema.is_mutable
        draws = torch.Tag.nondeterministic_seeded in operation.tags
        writes = [
            self.define(value, f"v{len(self.lines)}_{place}") if isinstance(value, Tensor) and id(value) not in self.names else "_"
            for place, value in enumerate(call.result if isinstance(call.result, list | tuple) else [call.result])
        ]
        function = self.bind(_BOUND.get(operation, operation))
        # An operation may give a list of a single tensor.
        target = f"[{', '.join(writes)}]" if isinstance(call.result, list | tuple) else writes[0]
        self.lines.append(_Line(f"{function}({', '.join(arguments + keywords)})", target, reads, writes, changes or draws))

    def gradients(self, recording: Recording, parameters: Sequence[nn.Parameter]) -> list[str]:
        """Return the names of gradients as PyTorch hands them to parameters: in their layout, each in memory of its own."""
        given = (recording.inputs, recording.targets, recording.seed)
        taken = {_memory(value) for value in (*given, *self.values.values()) if isinstance(value, Tensor)}
        names = []
        for gradient, parameter in zip(recording.gradients, parameters, strict=True):
            if gradient is None:
                names.append("None")
                continue
            name = self.name(gradient)
            if gradient.stride() != parameter.stride() or _memory(gradient) in taken:
                copy, layout = f"g{len(names)}", self.name(parameter)
                self.lines.append(_Line(f"{self.bind(torch.empty_like)}({layout}).copy_({name})", copy, [name], [copy], must_stay=False))
                name = copy
            taken.add(_memory(gradient))
            names.append(name)
        return names

    def program(self, results: list[str]) -> Program:
        """Return the program, without lines that are not needed; memory is freed where it is used for the last time."""
        needed, kept = set(results), []
        for line in reversed(self.lines):
            if line.must_stay or needed & {*line.writes}:
                needed.update(line.reads)
                kept.append(line)
        seen, body = {*results, *self.values, "inputs", "targets", "seed", "_"}, []
        for line in kept:
            last = sorted({*line.reads, *line.writes} - seen)
            seen.update(last)
            if last:
                body.append(f"    del {', '.join(last)}")
            body.append(f"    {line.target} = {line.call}" if {*line.writes} - {"_"} else f"    {line.call}")
        source = "\n".join(["def step(inputs, targets, seed):", *reversed(body), f"    return {', '.join(results)}"])
        return Program(source, self.values)


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [tensor for one in value for tensor in _tensors(one)] if isinstance(value, list | tuple) else []


def _storage(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
