"""A learning-rate range test."""

import copy
import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

import epochal
from epochal.cli.main import cli
from epochal.errors import RecipeError, TakenError
from epochal.figures.rates import loss_by_rate
from epochal.recipe import Recipe
from epochal.run.prepare import prepare
from epochal.run.rates import HIGH, LOW, measure_rates
from tests.cli.test_chinese import left_in


@pytest.fixture(scope="module")
def clouds() -> tuple[Tensor, Tensor]:
    labels = torch.arange(200) % 2
    return torch.randn(200, 2, generator=torch.Generator().manual_seed(0)) + 3 * labels[:, None], labels


def test_a_rate_is_suggested_with_which_training_works(clouds: tuple[Tensor, Tensor]) -> None:
    found = epochal.find_rate(clouds, model="mlp", threads=1, device="cpu", steps=100)
    assert found.rates[0] == LOW
    assert all(later > before for before, later in zip(found.rates, found.rates[1:], strict=False))
    assert found.rates[-1] <= HIGH * 1.0001
    assert len(found.rates) == len(found.losses) == len(found.smoothed)
    assert found.suggested is not None
    assert found.suggested == float(f"{0.1 * found.rates[found.smoothed.index(min(found.smoothed))]:.2g}")
    assert "a tenth of the rate" in found.verdict[0]
    run = epochal.train(clouds, model="mlp", threads=1, device="cpu", lr=found.suggested, epochs=3, quiet=True)
    assert run.test is not None
    assert (run.test.accuracy or 0) > 0.9


def test_it_is_repeatable_and_restores_weights_and_generators(clouds: tuple[Tensor, Tensor]) -> None:
    prepared = prepare(clouds, Recipe().updated({"model": "mlp", "threads": 1, "device": "cpu"}))
    before, state = copy.deepcopy(prepared.bundle.model.state_dict()), torch.get_rng_state()
    first = measure_rates(prepared, 30)
    for name, tensor in prepared.bundle.model.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert torch.equal(torch.get_rng_state(), state)
    assert measure_rates(prepared, 30) == first


def test_tables_which_would_stop_early_are_tested_to_the_end() -> None:
    table = {"size": [float(row % 7) for row in range(60)], "kind": ["a", "b", "c"] * 20, "sold": ["yes", "no"] * 30}
    found = epochal.find_rate(table, {"patience": 1, "data.target": "sold"}, threads=1, device="cpu", steps=20)
    assert len(found.rates) > 10


def test_nothing_is_suggested_where_nothing_can_be_learned() -> None:
    noise = torch.zeros(100, 2), torch.arange(100) % 2
    found = epochal.find_rate(noise, model="linear", threads=1, device="cpu", steps=60)
    assert found.suggested is None
    assert found.verdict == ("The loss did not fall at any rate: there is nothing to suggest.",)


def test_what_cannot_work(clouds: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="too few"):
        epochal.find_rate(clouds, steps=3)
    with pytest.raises(TakenError):
        epochal.find_rate(clouds, out=tmp_path)


def test_the_command_writes_numbers_and_a_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["lr", "digits", "--model", "linear", "--threads", "1", "--device", "cpu", "--steps", "60"]
    said = CliRunner().invoke(cli, [*arguments, "--out", str(tmp_path / "lr"), "--json"])
    assert said.exit_code == 0, said.output
    found = json.loads(said.output.splitlines()[-1])
    assert {*found} == {"rates", "losses", "smoothed", "suggested", "current"}
    assert {path.name for path in (tmp_path / "lr").iterdir()} == {f"learning-rates.{kind}" for kind in ("json", "png", "svg")}
    assert f"Suggested: --lr {found['suggested']:g}" in said.output
    monkeypatch.setattr("epochal.language._chosen", "zh")
    said = CliRunner().invoke(cli, [*arguments, "--out", str(tmp_path / "again")])
    assert left_in(said.output) == []


def test_the_figure_has_what_is_said() -> None:
    figure = loss_by_rate([1e-3, 1e-2, 1e-1], [2.0, 1.0, 3.0], [2.0, 1.5, 2.0], 1e-3, 0.002)
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["steps", "smoothed", "suggested: 0.001", "recipe: 0.002"]
