"""Programs of recorded steps: what is left out, what has to stay, and how gradients are handed over."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from epochal.training.traced.program import Program, write
from epochal.training.traced.recording import NotTraceableError, record
from tests.small import stateful_net

Forward = Callable[[Tensor], Tensor]


def _inputs(*shape: int) -> Tensor:
    return torch.randn(shape or (6, 2), generator=torch.Generator().manual_seed(1))


def _program(forward: Forward, parameters: list[nn.Parameter], x: Tensor) -> Program:
    """The program of the forward pass and its gradients; what it gives is its loss already."""
    return write(record(lambda inputs, _: (forward(inputs), inputs), parameters, x, torch.zeros(1)), parameters)


def _run(program: Program, x: Tensor) -> list[Tensor]:
    with torch.no_grad():
        loss, _, *gradients = program.load()(x, torch.zeros(1), torch.ones(()))
        return [value for value in (loss, *gradients) if value is not None]


def _plain(forward: Forward, parameters: list[nn.Parameter], x: Tensor) -> list[Tensor]:
    loss = forward(x)
    loss.backward()
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    for parameter in parameters:
        parameter.grad = None
    return [loss.detach(), *gradients]


def _assert_as_plain(forward: Forward, parameters: list[nn.Parameter], x: Tensor) -> Program:
    program = _program(forward, parameters, x)
    torch.manual_seed(5)
    wanted = _plain(forward, parameters, x)
    torch.manual_seed(5)
    found = _run(program, x)
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert torch.equal(one, other)
        assert one.stride() == other.stride()
    # The optimizer changes weights in place by gradients, and clipping gradients themselves: nothing may share memory.
    places = [value.untyped_storage().data_ptr() for value in (*found[1:], *parameters)]
    assert len({*places}) == len(places)
    return program


def _calls(program: Program) -> list[str]:
    """The names of what is called, in order."""
    names = re.findall(r"(c\d+)\(", program.source)
    return [str(getattr(program.values[name], "__name__", program.values[name])) for name in names]


def test_the_source_is_plain_and_short() -> None:
    net = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3))
    labels = torch.arange(6) % 3
    parameters = list(net.parameters())

    def loss_of(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        outputs = net(x)
        return functional.cross_entropy(outputs, y), outputs

    program = write(record(loss_of, parameters, _inputs(), labels), parameters)
    head, *lines, last = program.source.splitlines()
    assert head == "def step(inputs, targets, seed):"
    assert last.startswith("    return ")
    name = r"\w+"
    assert all(re.fullmatch(rf"    (del {name}(, {name})*|(({name}|\[{name}(, {name})*\]) = )?c\d+\(.*\))", line) for line in lines)
    # Forward and loss, five; their gradients, two; of the second layer, five (for its input, weight and bias); ReLU; of the first, four.
    assert len(_calls(program)) == 17
    assert not any("detach" in call for call in _calls(program))
    # All memory is freed where it is used last, but what is returned.
    written = re.findall(r"v\d+_\d+", " ".join(line.split(" = ")[0] for line in lines if " = " in line))
    freed = re.findall(r"v\d+_\d+", " ".join(line for line in lines if line.startswith("    del ")))
    assert sorted([*freed, *re.findall(r"v\d+_\d+", last)]) == sorted({*written})


def test_dead_code_is_left_out() -> None:
    weight = nn.Parameter(torch.ones(2))

    def forward(x: Tensor) -> Tensor:
        torch.exp(torch.cos(x))
        return (x * weight).sum()

    program = _assert_as_plain(forward, [weight], _inputs())
    assert not any(call.startswith(("exp.", "cos.")) for call in _calls(program))


def test_views_of_weights_are_made_once_and_follow_the_weights() -> None:
    net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 3))
    parameters = list(net.parameters())

    def forward(x: Tensor) -> Tensor:
        outputs: Tensor = net(x) @ parameters[2][:, :1]
        return outputs.square().mean()

    program = _assert_as_plain(forward, parameters, _inputs())
    places = [value.data_ptr() for value in program.values.values() if isinstance(value, Tensor)]
    # As it is, transposed, and its first column.
    assert places.count(parameters[2].data_ptr()) >= 2
    assert {*places} == {one.data_ptr() for one in parameters}
    with torch.no_grad():
        for parameter in parameters:
            parameter.mul_(-1.5)
    wanted, found = _plain(forward, parameters, _inputs()), _run(program, _inputs())
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


LAYOUTS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(2, 3), (6, 2)),
    "convolution": (lambda: nn.Conv2d(3, 4, 3), (2, 3, 5, 5)),
    "channels last": (lambda: nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last), (2, 3, 5, 5)),  # type: ignore[call-overload]
    "channels last, of one channel": (lambda: nn.Conv2d(1, 4, 3).to(memory_format=torch.channels_last), (2, 1, 5, 5)),  # type: ignore[call-overload]
    "channels last, 1x1": (lambda: nn.Conv2d(3, 4, 1).to(memory_format=torch.channels_last), (2, 3, 5, 5)),  # type: ignore[call-overload]
    "depthwise": (lambda: nn.Conv2d(4, 4, 3, groups=4).to(memory_format=torch.channels_last), (2, 4, 5, 5)),  # type: ignore[call-overload]
    "transposed": (lambda: _with_weight(torch.randn(2, 3).t()), (6, 2)),
    "with gaps": (lambda: _with_weight(torch.randn(3, 4)[:, ::2]), (6, 2)),
    "embedding": (lambda: nn.Embedding(5, 3), (6,)),
    "recurrent": (lambda: _First(nn.GRU(2, 3)), (4, 2, 2)),
}


class _First(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Any:
        return self.net(x)[0]


def _with_weight(weight: Tensor) -> nn.Module:
    layer = nn.Linear(2, 3)
    layer.weight = nn.Parameter(weight)
    return layer


@pytest.mark.parametrize("name", LAYOUTS)
def test_gradients_lie_as_autograd_hands_them_over(name: str) -> None:
    torch.manual_seed(0)
    make, shape = LAYOUTS[name]
    layer = make()
    x = torch.arange(6) % 5 if name == "embedding" else _inputs(*shape)
    _assert_as_plain(lambda inputs: layer(inputs).square().mean(), list(layer.parameters()), x)


SHARED: dict[str, tuple[list[tuple[int, ...]], Callable[..., Tensor]]] = {
    "expanded": ([(6, 2)], lambda x, a: (x + a).sum()),
    "the same for two": ([(6, 2), (6, 2)], lambda x, a, b: (x + a + b).square().sum()),
    "parts of one": ([(2, 2), (4, 2)], lambda x, a, b: (x * torch.cat([a, b])).exp().sum()),
    "views of one": ([(12,), (6, 2)], lambda x, a, b: (x + a.view(6, 2) + b).square().sum()),
    "the first": ([(1,), (2,)], lambda x, a, b: a.view(()) + (x * b).sum()),
    "the weight": ([(2,), (2,)], lambda x, a, b: (a * b).sum() + x.sum()),
    "the input": ([(6, 2)], lambda x, a: (a * x).sum()),
    "not used": ([(2,), (3,)], lambda x, a, b: (x * a).mean()),
}


@pytest.mark.parametrize("name", SHARED)
def test_each_gradient_has_memory_of_its_own(name: str) -> None:
    shapes, of = SHARED[name]
    parameters = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    program = _assert_as_plain(lambda x: of(x, *parameters), parameters, _inputs())
    step, x, seed = program.load(), _inputs(), torch.ones(())
    with torch.no_grad():
        first = step(x, torch.zeros(1), seed)
        kept = [None if value is None else value.clone() for value in first]
        for gradient in first[2:]:
            if gradient is not None:
                gradient.mul_(0)
        again = step(x, torch.zeros(1), seed)
    assert torch.equal(x, _inputs())
    assert seed.item() == 1
    assert all((one is None and two is None) or torch.equal(one, two) for one, two in zip(kept, again, strict=True))  # type: ignore[arg-type]


def test_random_operations_stay_even_where_nobody_reads_them() -> None:
    weight = nn.Parameter(torch.ones(2))

    def forward(x: Tensor) -> Tensor:
        torch.rand_like(x)
        return (functional.dropout(x, 0.5) * weight).sum()

    program = _assert_as_plain(forward, [weight], _inputs())
    assert any("rand_like" in call for call in _calls(program))
    torch.manual_seed(7)
    _plain(forward, [weight], _inputs())
    state = torch.get_rng_state()
    torch.manual_seed(7)
    _run(program, _inputs())
    assert torch.equal(torch.get_rng_state(), state)


def test_operations_in_place_stay() -> None:
    net, other = stateful_net(), stateful_net()
    program = _program(lambda x: net(x).square().mean(), list(net.parameters()), _inputs())
    other.load_state_dict(net.state_dict())
    for seed in range(3):
        torch.manual_seed(seed)
        _run(program, _inputs())
        torch.manual_seed(seed)
        other(_inputs())
    assert all(torch.equal(one, two) for one, two in zip(net.buffers(), other.buffers(), strict=True))
    assert net[1].num_batches_tracked == 4


def test_a_list_of_one_tensor() -> None:
    weight = nn.Parameter(torch.ones(2))
    _assert_as_plain(lambda x: (x.unsqueeze(0).unbind()[0] * weight).chunk(1)[0].split(6)[0].sum(), [weight], _inputs())


def test_zeros_keep_their_sign() -> None:
    weight = nn.Parameter(torch.ones(2))

    def forward(x: Tensor) -> Tensor:
        nothing = x < math.inf
        return (1 / (x * weight).masked_fill(nothing, 0.0)).sum().atan() + 3 * (1 / x.masked_fill(nothing, -0.0)).sum().atan()

    with torch.no_grad():
        assert forward(_inputs()).item() == pytest.approx(-math.pi)
    program = _program(forward, [weight], _inputs())
    assert _run(program, _inputs())[0].item() == pytest.approx(-math.pi)


@pytest.mark.parametrize(
    "read", [lambda x: x.sum().item(), lambda x: bool((x > 0).all()), lambda x: torch.equal(x, x + 1)], ids=["item", "bool", "equal"]
)
def test_reading_a_value_is_refused(read: Callable[[Tensor], object]) -> None:
    weight = nn.Parameter(torch.ones(2))

    def forward(x: Tensor) -> Tensor:
        read(x * 2)
        return (x * weight).sum()

    with pytest.raises(NotTraceableError, match="Python reads a value of a tensor"):
        _program(forward, [weight], _inputs())


def test_gradients_of_another_kind_are_refused() -> None:
    layer = nn.Embedding(5, 3, sparse=True)
    with pytest.raises(NotTraceableError, match="gives a tensor of another kind"):
        _program(lambda x: layer(x).sum(), list(layer.parameters()), torch.arange(5))


def test_recordings_that_differ_are_noticed() -> None:
    weight = nn.Parameter(torch.ones(6, 2))
    turn = itertools.count()
    constants = [torch.full((2,), 2.0) for _ in range(2)]
    forwards: dict[str, Forward] = {
        "same": lambda x: (x.relu() * constants[0] + weight).sum(),
        "operation": lambda x: (x.relu() if next(turn) % 2 else x.tanh()).sum() + weight.sum(),
        "number": lambda x: (x * float(next(turn))).sum() + weight.sum(),
        "tensor": lambda x: (x * constants[next(turn) % 2] + weight).sum(),
        "shape": lambda x: x[: 2 + next(turn) % 2].sum() + weight.sum(),
    }
    found = {name: _program(of, [weight], _inputs()).is_same(_program(of, [weight], _inputs().flip(0))) for name, of in forwards.items()}
    assert found == {"same": True, "operation": False, "number": False, "tensor": False, "shape": False}
