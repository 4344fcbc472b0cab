"""The same picture twice, and nearly: the arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from epochal.checks.duplicates import equal, joined, nearly_equal, row_keys
from tests.checks.conftest import Scene


@given(st.lists(st.integers(0, 6), max_size=30))
def test_equal_things_are_grouped(values: list[int]) -> None:
    # Keys that collide: 0 and 3 and 6 have the same.
    groups = equal(np.array([value % 3 for value in values], np.uint64), lambda place: values[place])
    expected = {value: [place for place, other in enumerate(values) if other == value] for value in values}
    assert sorted(groups) == sorted(group for group in expected.values() if len(group) > 1)


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=20))
def test_pairs_are_joined(pairs: list[tuple[int, int]]) -> None:
    groups = joined(pairs)
    number = {place: index for index, group in enumerate(groups) for place in group}
    assert sorted(number) == sorted({place for pair in pairs for place in pair})
    assert all(number[one] == number[two] for one, two in pairs)
    assert groups == sorted(sorted(group) for group in groups)
    # No fewer groups than there must be: each can be walked through by pairs.
    for group in groups:
        reached = {group[0]}
        for _ in group:
            reached |= {place for pair in pairs if reached & set(pair) for place in pair}
        assert reached == set(group)


@given(st.integers(1, 40), st.integers(0, 5), st.sampled_from([torch.uint8, torch.float32, torch.int64]))
def test_equal_rows_have_equal_keys_and_others_do_not(width: int, seed: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(0, 3, (50, width), generator=generator).to(dtype)
    keys = row_keys(rows)
    _, expected = rows.unique(dim=0, return_inverse=True)
    _, found = np.unique(keys, return_inverse=True)
    assert len(set(zip(expected.tolist(), found.tolist(), strict=True))) == len(expected.unique()) == len(set(found.tolist()))


def test_rows_of_many_blocks() -> None:
    rows = torch.arange(300_000).reshape(-1, 3)
    assert len(np.unique(row_keys(rows))) == 100_000
    assert (row_keys(torch.cat([rows, rows]))[100_000:] == row_keys(rows)).all()


def test_pairs_within_and_across_blocks(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    thumbs = torch.stack([torch.from_numpy(np.array(scene(seed, (16, 16)).convert("L"))) for seed in range(60)])
    thumbs = torch.cat([thumbs, thumbs[:10].flip(-1), thumbs[20:30]])
    colours = thumbs.float().mean((1, 2))[:, None].expand(-1, 3).contiguous()
    expected = {(place, 60 + place, True) for place in range(10)} | {(20 + place, 70 + place, False) for place in range(10)}

    def found() -> set[tuple[int, int, bool]]:
        pairs = nearly_equal(thumbs, colours)
        return {(one, two, mirrored) for (one, two), mirrored in zip(pairs.places.tolist(), pairs.mirrored.tolist(), strict=True)}

    assert found() == expected
    monkeypatch.setattr("epochal.checks.duplicates.ROWS", 7)
    monkeypatch.setattr("epochal.checks.duplicates.COLUMNS", 11)
    assert found() == expected


def test_flat_pictures_are_not_near_each_other() -> None:
    levels = torch.arange(20, dtype=torch.uint8)[:, None, None].expand(-1, 16, 16)
    assert len(nearly_equal(levels.contiguous(), levels.float().mean((1, 2))[:, None].expand(-1, 3)).places) == 0
    nothing = torch.zeros((0, 16, 16), dtype=torch.uint8)
    assert len(nearly_equal(nothing, torch.zeros(0, 3)).places) == 0


def test_pictures_that_are_alike_by_nature_are_not_copies(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Among pictures that are all similar, only one that is nearer than all others is a copy."""

    def levels(seed: int) -> torch.Tensor:
        return torch.from_numpy(np.array(scene(seed, (16, 16)).convert("L"))).float()

    first, others = levels(0), torch.stack([levels(seed) for seed in range(1, 40)])
    share = 0.15 + 0.15 * torch.rand(200, 1, 1, generator=torch.Generator().manual_seed(0))
    # The more alike they are, the more of them there are.
    crowd = first + share * (torch.stack([levels(seed) for seed in range(300, 500)]) - first)
    thumbs = torch.cat([crowd, others, others[:5].flip(-1)]).round().clamp(0, 255).to(torch.uint8)
    pairs = nearly_equal(thumbs, torch.full((len(thumbs), 3), 100.0))
    copies = {(200 + place, 239 + place) for place in range(5)}
    assert copies <= set(map(tuple, pairs.places.tolist()))
    assert pairs.crowded > 50
    monkeypatch.setattr("epochal.checks.duplicates.CROWD", 1000)
    assert len(nearly_equal(thumbs, torch.full((len(thumbs), 3), 100.0)).places) > 10 * len(pairs.places)


def test_very_many_that_are_all_alike_are_one_group(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("epochal.checks.duplicates.MANY", 50)
    thumbs = torch.from_numpy(np.array(scene(0, (16, 16)).convert("L"))).expand(500, 16, 16).contiguous()
    pairs = nearly_equal(thumbs, torch.full((500, 3), 100.0))
    assert len(pairs.places) < 2000
    assert joined(pairs.places.tolist()) == [list(range(500))]
