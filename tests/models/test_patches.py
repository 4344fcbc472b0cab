"""Transformers over patches of pictures and of spectrograms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from epochal import train
from epochal.data.inputs.sound.rule import SoundRule
from epochal.data.spec import DataSpec
from epochal.errors import ModelError
from epochal.models.build import build_net
from epochal.tasks.single_label import SingleLabel
from tests.tones import tone

RATE, LENGTH = 8000, 4000
TONES = [tone(300 + 200 * seed, 0.05 + 0.08 * seed, seed=seed) for seed in range(5)]


def spec_of(length: int) -> DataSpec:
    learned = SoundRule(shape=(LENGTH,), rate=RATE).learn(samples(TONES, LENGTH))
    rule = SoundRule(shape=(length,), rate=RATE, mean=learned.mean, std=learned.std)
    task = SingleLabel(outputs=("low", "high"), counts={"train": (1, 1)})
    return DataSpec(name="tones", input=rule, task=task, counts={"train": 2}, fingerprint="")


def samples(sounds: list[Any], length: int, begin: int = 0) -> Tensor:
    """Return sounds as inputs, with all the padding behind them."""
    inputs = torch.zeros(len(sounds), length, dtype=torch.int16)
    for row, sound in zip(inputs, sounds, strict=True):
        row[begin : begin + len(sound)] = torch.from_numpy((sound * 20000).astype(np.int16))
    return inputs


def ast_for(length: int, **options: Any) -> tuple[nn.Module, DataSpec]:
    torch.manual_seed(0)
    spec = spec_of(length)
    return build_net("ast", spec, options).eval(), spec


def outputs(net: nn.Module, spec: DataSpec, inputs: Tensor) -> Tensor:
    with torch.no_grad():
        found: Tensor = net(spec.input.preprocess()(inputs))
    return found


@settings(max_examples=25, deadline=None)
@given(
    sounds=st.lists(st.tuples(st.integers(1, 3600), st.floats(100, 3000), st.integers(0, 99)), min_size=1, max_size=4),
    more=st.integers(1, 4000),
    patch=st.sampled_from([3, 8]),
)
def test_padding_never_changes_an_output(sounds: list[tuple[int, float, int]], more: int, patch: int) -> None:
    short, spec = ast_for(LENGTH, patch=patch)
    long, longer = ast_for(LENGTH + more, patch=patch)
    state = short.state_dict()
    missing = len(long.get_parameter("patches.columns")) - len(state["patches.columns"])
    long.load_state_dict(state | {"patches.columns": functional.pad(state["patches.columns"], (0, 0, 0, missing), value=3.0)})
    waves = [tone(hertz, seconds / RATE, RATE, seed) for seconds, hertz, seed in sounds]
    found, wanted = outputs(long, longer, samples(waves, LENGTH + more)), outputs(short, spec, samples(waves, LENGTH))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)


def test_a_sound_has_the_same_outputs_alone_and_among_others() -> None:
    net, spec = ast_for(LENGTH)
    inputs = torch.cat([samples(TONES, LENGTH), spec.input.zeros()])
    together = outputs(net, spec, inputs)
    assert together.isfinite().all()
    for place in range(len(inputs)):
        torch.testing.assert_close(outputs(net, spec, inputs[place : place + 1])[0], together[place], rtol=0, atol=1e-6)


def test_where_a_sound_is_matters_less_than_what_it_is() -> None:
    """Positions are learned: a later sound has other outputs, and another sound too."""
    net, spec = ast_for(LENGTH)
    one, later, other = (outputs(net, spec, samples([TONES[number]], LENGTH, begin)) for number, begin in ((0, 0), (0, 1600), (4, 0)))
    assert not one.allclose(later)
    assert not one.allclose(other)


@pytest.mark.parametrize(("shape", "patch"), [((1, 28, 28), 4), ((3, 32, 32), 4), ((3, 7, 12), 2), ((1, 1, 1), 1), ((1, 40, 41), 6)])
def test_any_size(make_spec: Callable[..., DataSpec], shape: tuple[int, int, int], patch: int) -> None:
    spec = make_spec(shape=shape, mean=(0.0,) * shape[0], std=(1.0,) * shape[0])
    net = build_net("vit", spec, {"dim": 8, "layers": 1})
    assert net.get_parameter("patches.project.weight").shape == (8, shape[0], patch, patch)
    assert net.eval()(torch.rand(2, *shape)).shape == (2, 3)


@pytest.mark.parametrize(
    ("options", "reported"),
    [
        ({"heads": 3}, "a width of 64 cannot be divided among 3 heads"),
        ({"patch": 0}, "patch should be 1 or more"),
        ({"layers": -1}, "dim, layers and heads should be 1 or more"),
    ],
)
def test_refused(make_spec: Callable[..., DataSpec], options: dict[str, Any], reported: str) -> None:
    spec = make_spec(shape=(1, 8, 8), mean=(0.0,), std=(1.0,))
    with pytest.raises(ModelError, match=f"The model vit cannot be built with model.*{reported}"):
        build_net("vit", spec, options)
    with pytest.raises(ModelError, match=r"The model ast is for sounds; these data have shape \(1, 8, 8\).*\nUse airbench or conv"):
        build_net("ast", spec, {})


def test_it_learns() -> None:
    run = train("digits", model={"name": "vit", "layers": 2, "dim": 32, "patch": 2}, epochs=6, batch_size=16, quiet=True, device="cpu")
    assert run.test is not None
    assert (run.test.accuracy or 0) > 0.9
