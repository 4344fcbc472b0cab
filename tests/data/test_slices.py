"""The slices of all processes are a batch: no row is missing, and none counts twice."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from epochal.data.feed import feed
from epochal.data.slices import Slices
from tests.data.test_feed import _examples


@given(st.integers(1, 70), st.integers(1, 9), st.integers(1, 9))
def test_every_row_counts_once(count: int, size: int, parts: int) -> None:
    slices = [Slices(rank, size, parts).of(count) for rank in range(size)]
    chunks = torch.arange(count).chunk(parts)
    for number, chunk in enumerate(chunks):
        mine = [own[number] for own in slices]
        rows = [row for one in mine if one.counts for row in range(one.begin, one.end)]
        assert rows == chunk.tolist()
        # All take part, also those that have no row of their own, and none has much more than another.
        assert {(one.first, one.last) for one in mine} == {(int(chunk[0]), int(chunk[-1]) + 1)}
        assert all(one.first <= one.begin < one.end <= one.last for one in mine)
        assert max(one.rows for one in mine) - min(one.rows for one in mine if one.counts) <= 1
    assert {len(own) for own in slices} == {len(chunks)}


@given(st.integers(2, 4), st.integers(1, 3), st.integers(3, 8))
def test_processes_read_what_one_reads(size: int, parts: int, batch_size: int) -> None:
    examples = _examples(torch.arange(13 * 16, dtype=torch.uint8).reshape(13, 1, 4, 4))
    device = torch.device("cpu")
    alone = [*feed(examples, batch_size, device, shuffle_seed=5).epoch(2)]
    several = [[*feed(examples, batch_size, device, shuffle_seed=5, slices=Slices(rank, size, parts)).epoch(2)] for rank in range(size)]
    for number, batch in enumerate(alone):
        found = [piece for own in several for piece in own[number].split()]
        places = torch.cat([places for _, _, places in found])
        assert sorted(places.tolist()) == sorted(batch.places.tolist())
        for inputs, targets, own in found:
            assert torch.equal(inputs[: len(own)], examples.inputs[own])
            assert torch.equal(targets[: len(own)], examples.targets[own])
        assert {own[number].whole for own in several} == {len(batch.places)}
