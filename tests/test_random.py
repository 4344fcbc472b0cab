"""Random numbers are functions of a position: always the same, and as good as random."""

from __future__ import annotations

import math
import random as python_random

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from epochal.random import bits, fork_rng, key, permutation, seed_generators, seeded, uniform

N = 100_000


def test_golden_values() -> None:
    # Pinned: another value here means that no kept experiment can be repeated.
    assert key(0, 1, "order") == 16726151909269057528
    assert key() == 0
    assert permutation(key(0, 1, "order"), 10).tolist() == [0, 2, 1, 5, 9, 8, 3, 6, 4, 7]
    assert uniform(key(0, "flip"), torch.arange(4)).tolist() == [
        0.6742824912071228,
        0.8370571136474609,
        0.21128350496292114,
        0.7516129612922668,
    ]


def test_first_numbers_are_those_of_splitmix64() -> None:
    # The reference program's output for seed 1234567 (https://rosettacode.org/wiki/Pseudo-random_numbers/Splitmix64).
    wanted = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
    got = bits(1234567, torch.arange(1, 6))
    assert [number % 2**64 for number in got.tolist()] == wanted


@given(st.lists(st.one_of(st.integers(-(2**63), 2**64 - 1), st.text(max_size=5)), max_size=4))
def test_key_is_64_bits_and_knows_its_parts(parts: list[int | str]) -> None:
    number = key(*parts)
    assert 0 <= number < 2**64
    assert number == key(*parts)
    assert number != key(*parts, 0)
    assert number != key(*parts, "")


def test_key_knows_the_order_of_its_parts() -> None:
    keys = {key(a, b, word) for a in range(40) for b in range(40) for word in ("flip", "order")}
    assert len(keys) == 40 * 40 * 2


@given(st.integers(0, 300), st.integers(0, 2**64 - 1))
def test_permutation_has_every_number_once(count: int, stream: int) -> None:
    assert permutation(stream, count).sort().values.tolist() == list(range(count))


def test_permutation_of_many_is_the_order_of_their_bits() -> None:
    count = 2**19 + 3
    assert torch.equal(permutation(key(1), count), bits(key(1), torch.arange(count)).argsort(stable=True))


def test_permutation_differs_by_epoch_and_seed() -> None:
    orders = {tuple(permutation(key(seed, epoch, "order"), 50).tolist()) for seed in range(10) for epoch in range(10)}
    assert len(orders) == 100


def test_every_place_is_equally_likely() -> None:
    # Where does example 0 stand, over 5,000 orders of 10? Chi-square with 9 degrees of freedom is below 27.9 in 99.9 %.
    places = torch.tensor([int((permutation(key(7, epoch), 10) == 0).nonzero()) for epoch in range(5_000)])
    counts = torch.bincount(places, minlength=10).double()
    assert float(((counts - 500) ** 2 / 500).sum()) < 27.9


@given(st.integers(0, 2**64 - 1), st.lists(st.integers(0, 2**40), min_size=1, max_size=20))
def test_uniform_depends_on_the_position_alone(stream: int, positions: list[int]) -> None:
    whole = uniform(stream, torch.tensor(positions))
    single = [float(uniform(stream, torch.tensor(position))) for position in positions]
    assert whole.tolist() == single
    assert uniform(stream, torch.tensor(positions).reshape(-1, 1)).shape == (len(positions), 1)
    assert whole.dtype == torch.float32
    assert bool(((whole >= 0) & (whole < 1)).all())


def test_uniform_is_uniform() -> None:
    draws = uniform(key(3, "test"), torch.arange(N)).double()
    assert abs(float(draws.mean()) - 0.5) < 4 * math.sqrt(1 / 12 / N)
    assert abs(float(draws.var()) - 1 / 12) < 4 * math.sqrt(1 / 180 / N)
    counts = torch.histc(draws, 100, 0, 1)
    # Chi-square with 99 degrees of freedom is below 149 in 99.9 %.
    assert float(((counts - N / 100) ** 2 / (N / 100)).sum()) < 149


def _correlation(one: Tensor, two: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([one, two]).double())[0, 1])


@pytest.mark.parametrize("lag", [1, 2, 64, 256])
def test_neighbouring_positions_are_independent(lag: int) -> None:
    draws = uniform(key(3, "test"), torch.arange(N))
    assert abs(_correlation(draws[:-lag], draws[lag:])) < 4 / math.sqrt(N)


def test_neighbouring_streams_are_independent() -> None:
    positions = torch.arange(N)
    draws = {parts: uniform(key(*parts), positions) for parts in ((0, 1, "a"), (0, 2, "a"), (1, 1, "a"), (0, 1, "b"))}
    first = draws.pop((0, 1, "a"))
    for other in draws.values():
        assert abs(_correlation(first, other)) < 4 / math.sqrt(N)
        # Nor is one a shifted copy of the other.
        assert abs(_correlation(first[1:], other[:-1])) < 4 / math.sqrt(N)


def test_every_bit_is_as_often_1_as_0() -> None:
    numbers = bits(key("bits"), torch.arange(N))
    shares = torch.stack([((numbers >> bit) & 1).double().mean() for bit in range(64)])
    assert float((shares - 0.5).abs().max()) < 5 * 0.5 / math.sqrt(N)


def test_isolated_leaves_the_global_generator() -> None:
    before = torch.get_rng_state()
    with fork_rng(torch.device("cpu")):
        torch.manual_seed(5)
        torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)


def test_isolated_also_after_an_error() -> None:
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="inside"), fork_rng(torch.device("cpu")):
        torch.rand(3)
        raise ValueError("inside")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("seed", [0, 5, 2**64 - 1])
def test_seed_generators_is_manual_seed(seed: int) -> None:
    with fork_rng(torch.device("cpu")):
        torch.manual_seed(seed)
        wanted = torch.rand(3)
        seed_generators(torch.device("cpu"), seed)
        assert torch.equal(torch.rand(3), wanted)


def _draw() -> tuple[float, float, float]:
    return python_random.random(), float(numpy.random.rand()), float(torch.rand(()))


def test_drawn_from_leads_all_three_generators() -> None:
    states = python_random.getstate(), str(numpy.random.get_state(legacy=False)), torch.get_rng_state()
    draws = []
    for stream in (1, 1, 2**64 - 1):
        with seeded(stream):
            draws.append(_draw())
    assert draws[0] == draws[1]
    assert all(a != b for a, b in zip(draws[0], draws[2], strict=True))
    assert python_random.getstate() == states[0]
    assert str(numpy.random.get_state(legacy=False)) == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])
