"""A search as a whole: the same whoever makes it, after any kill; and what it says in the end.

EPOCHAL_KILLS=20 EPOCHAL_WORKERS=4 python3 -m pytest tests/search/test_search.py      with so many kills, and processes
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

import epochal
from epochal.cli.main import cli
from epochal.data.load import Data
from epochal.errors import BundleError, DataError, MissingError, RecipeError
from epochal.evaluation.compared import Comparison
from epochal.io.lock import is_locked
from epochal.run.predictions import read_predictions
from epochal.search import job as jobs
from epochal.search.search import _affordable
from epochal.search.store import Result, Store
from epochal.training import loop
from tests.cli.test_chinese import left_in
from tests.forks import Ended, Fork, Server
from tests.search.conftest import ASKED, QUICK

KILLS = int(os.environ.get("EPOCHAL_KILLS", "3"))
WORKERS = int(os.environ.get("EPOCHAL_WORKERS", "2"))

# The same search on the command line.
COMMAND = [
    *("--set", "lr=log(1e-3,1)", "--set", "smoothing=0.0,0.1", "--set", "model=linear", "--set", "ema=0", "--schedule", "one-cycle"),
    *("--epochs", "4", "--batch-size", "16", "--device", "cpu", "--trials", "6", "--seeds", "2", "--patience", "none", "--target", "cloud"),
]


def _content(folder: Path) -> dict[str, Any]:
    """All that a search has found, but for times and names of folders."""

    def plain(path: Path) -> Any:
        return re.sub(r'"(seconds|sha256)": [^,}]*', "", path.read_text("utf-8").replace(str(folder), "F"))

    weights = {
        str(path.relative_to(folder)): {name: one.tolist() for name, one in load_file(path).items()}
        for path in sorted(folder.glob("retrained/*/*/model/*.safetensors"))
    }
    files = [*sorted(folder.glob("results/*.json")), folder / "result.json"]
    assert len(weights) == 4
    return {str(path.relative_to(folder)): plain(path) for path in files} | weights


def test_what_it_finds(searched: epochal.Search, clouds: Path) -> None:
    assert len(searched.trials) == 6
    assert searched.best
    assert isinstance(searched.comparison, Comparison)
    assert [len(setting.seeds) for setting in searched.comparison.settings] == [2, 2]
    assert searched.trials[0].values == {}
    assert searched.trials[0].epochs == 4
    assert sum(one.epochs == 4 for one in searched.trials) in (2, 3)
    assert {one.epochs for one in searched.trials} == {1, 2, 4}
    best = searched.trials[searched.best]
    assert best.cost == min(one.cost for one in searched.trials if one.epochs == 4)
    assert searched.recipe.optimizer.lr == best.values["optimizer.lr"]
    assert searched.is_better == any("is better than the default" in line for line in searched.verdict)
    assert "when it was chosen" in searched.verdict[-1]
    assert searched.result["verdict"] == list(searched.verdict)
    for kind in ("png", "svg"):
        assert searched.picture.with_suffix(f".{kind}").stat().st_size
    # What is said of validation is what the runs say.
    fresh = [json.loads(path.read_text()) for path in searched.folder.glob(f"retrained/trial-{searched.best}/*/result.json")]
    assert searched.validations[1].fresh == pytest.approx(sum(one["valid"]["loss"] for one in fresh) / 2)
    assert searched.validations[1].selected == best.loss


def test_its_recipe_trains_to_the_same_bits(searched: epochal.Search, clouds: Path) -> None:
    run = epochal.train(clouds, searched.recipe_file, seed=1, split_seed=0, threads=1, device="cpu", quiet=True)
    assert run.test is not None
    kept = read_predictions(searched.folder / "retrained" / f"trial-{searched.best}" / "seed-1")
    assert torch.equal(kept["outputs"], run.test.outputs)
    assert {"one-cycle", 16, "linear"} <= set(map(str, run.recipe.flat().values())) | {run.recipe.batch_size}


def test_a_trial_that_stops_and_goes_on_is_a_training_without_breaks(searched: epochal.Search, clouds: Path) -> None:
    best = searched.trials[searched.best]
    run = epochal.train(clouds, {**QUICK, **best.values}, threads=1, quiet=True)
    losses = [done.valid.loss for done in run.fit.epochs if done.valid is not None]
    assert min(losses) == best.loss
    rungs = searched.result["trials"][searched.best]["rungs"]
    assert [one["epochs"] for one in rungs] == [1, 2, 4]
    assert [one["loss"] for one in rungs] == [min(losses[:end]) for end in (1, 2, 4)]


def test_trials_never_see_test_data(searched: epochal.Search, clouds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def fit(model: torch.nn.Module, data: Data, *given: Any, **more: Any) -> Any:
        assert data.test is None
        assert data.valid is not None
        seen.append({*data.train.positions.tolist(), *data.valid.positions.tolist()})
        return loop.fit(model, data, *given, **more)

    monkeypatch.setattr(jobs, "fit", fit)
    monkeypatch.setattr(jobs.Job, "_retrain", _stop)
    with pytest.raises(KeyboardInterrupt):
        epochal.tune(clouds, out=tmp_path / "search", workers=1, **ASKED)
    tested = {*read_predictions(searched.folder / "retrained" / "default" / "seed-1")["positions"].tolist()}
    assert len(seen) >= 6
    assert len(tested) == 40
    assert all(not one & tested for one in seen)
    assert all(one == seen[0] for one in seen)


def _stop(*_: Any) -> None:
    raise KeyboardInterrupt


def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(
    searched: epochal.Search, clouds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, limit, step, said = 0, 0, loop.train_step, list[str]()

    def counted(*given: Any) -> None:
        nonlocal made
        made += 1
        if made == limit:
            raise KeyboardInterrupt
        step(*given)

    monkeypatch.setattr(loop, "train_step", counted)
    for moment in (25, 60, 95, 130):
        made, limit = 0, moment
        with pytest.raises(KeyboardInterrupt):
            epochal.tune(clouds, out=tmp_path / "search", workers=1, log=said.append, **ASKED)
        assert said[-1].endswith(f"the same command with --out {tmp_path / 'search'} goes on.")
    limit = 0
    epochal.tune(clouds, out=tmp_path / "search", workers=1, **ASKED)
    assert _content(tmp_path / "search") == _content(searched.folder)


def fork(folder: Path, arguments: list[str]) -> Ended:
    """Run the command, after printing its process."""

    def prepare() -> None:
        print(os.getpid(), flush=True)

    return Fork(folder, arguments, prepare).wait()


def test_killed_again_and_again_it_ends_the_same(searched: epochal.Search, clouds: Path, tmp_path: Path, forking: Server) -> None:
    server, draw, kills = forking.by(__name__), random.Random(0), 0
    arguments = ["tune", str(clouds), *COMMAND, "--workers", "1", "--out", "search"]
    while kills < KILLS:
        server.ask(folder=str(tmp_path), arguments=arguments)
        number, asked = int(server.answer()), time.monotonic()
        already = len([*tmp_path.glob("search/results/*.json")])
        while len([*tmp_path.glob("search/results/*.json")]) == already and time.monotonic() < asked + 5:
            time.sleep(0.002)
        time.sleep(draw.choice((0, 0.002, 0.01, 0.05)))
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
        kills += Ended(*server.answer()).code == -signal.SIGKILL
        if (tmp_path / "search" / "result.json").exists():
            break
    epochal.tune(clouds, out=tmp_path / "search", workers=1, **ASKED)
    assert _content(tmp_path / "search") == _content(searched.folder)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no locks for folders")
def test_several_processes_find_the_same_and_end_with_the_one_that_began_them(
    searched: epochal.Search, clouds: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "search"
    command = [sys.executable, "-m", "epochal", "tune", str(clouds), *COMMAND, "--workers", str(WORKERS), "--out", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        if KILLS < 20:
            # Their results are compared, and this process does the rest.
            _await(lambda: len([*folder.glob("results/*.json")]) >= 3)
            process.kill()
        process.wait()
    _await(lambda: not any(is_locked(path) for path in folder.glob("locks/*")))
    epochal.tune(clouds, out=folder, workers=1, **ASKED)
    assert _content(folder) == _content(searched.folder)


def _await(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_more_trials_keep_those_that_are_there(searched: epochal.Search, clouds: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(searched.folder, tmp_path / "search")
    before = {path.name: path.read_bytes() for path in folder.glob("results/*.json")}
    found = epochal.tune(clouds, out=folder, workers=1, **(ASKED | {"trials": 8}))
    assert len(found.trials) == 8
    assert {path.name: path.read_bytes() for path in folder.glob("results/*.json") if path.name in before} == before


def test_a_folder_of_another_search_is_refused(
    searched: epochal.Search, clouds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RecipeError, match="another search, with other values of recipe"):
        epochal.tune(clouds, out=searched.folder, workers=1, **(ASKED | {"epochs": 3}))
    with pytest.raises(RecipeError, match="another search, with other values of space"):
        epochal.tune(clouds, out=searched.folder, workers=1, **(ASKED | {"space": {"lr": "log(1e-3, 2)"}}))
    with pytest.raises(BundleError, match="is no search"):
        epochal.tune(clouds, out=tmp_path, workers=1, **ASKED)
    with monkeypatch.context() as patch, pytest.raises(RecipeError, match="another search, with other values of optuna"):
        patch.setattr("optuna.__version__", "0")
        epochal.tune(clouds, out=searched.folder, workers=1, **ASKED)
    folder = shutil.copytree(searched.folder, tmp_path / "search")
    (damaged := next(folder.glob("results/*.json"))).write_text("{}")
    with pytest.raises(BundleError, match=re.escape(damaged.name)):
        epochal.tune(clouds, out=folder, workers=1, **ASKED)


def test_trials_that_fail_are_told_and_go_no_further(clouds: Path, tmp_path: Path) -> None:
    asked = ASKED | {"space": {"lr": [0.002, 1e38]}, "trials": 8, "optimizer": "sgd", "lr": 0.002}
    found = epochal.tune(clouds, out=tmp_path / "search", workers=1, **asked)
    failed = [one for one in found.trials if one.score is None]
    assert failed
    assert all(one.values["optimizer.lr"] == 1e38 and "finite" in one.error for one in failed)
    # The same settings as the default are not better.
    assert found.best == 0
    assert found.comparison is None
    assert found.verdict == ("The default is the best of 8 trials: there is nothing to gain.",)
    assert found.recipe.optimizer.lr == 0.002
    assert "failed" in {row[1] for row in found.table()}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"trials": 3}, RecipeError, "too few"),
        ({"minutes": 1.0}, RecipeError, "one of the two"),
        ({"seeds": 1}, RecipeError, "several seeds"),
        ({"folds": 3}, RecipeError, "folds is not for a search"),
        ({"max_seconds": 3.0}, RecipeError, "max_seconds is not for a search"),
        ({"valid": 0.0}, DataError, "judged by validation data"),
        ({"test": 0.0}, DataError, "measured on test data"),
        ({"space": {"model": ["linear", "mpl"]}}, epochal.EpochalError, "Unknown model 'mpl'"),
        ({"space": {"model.widths": [[8], [9]]}}, epochal.EpochalError, "no option 'widths'"),
        ({"space": {"lr": "log(1,0)"}}, RecipeError, "two numbers above 0"),
    ],
)
def test_what_cannot_work_is_an_error_before_anything_starts(
    changes: dict[str, Any], error: type[Exception], message: str, clouds: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        epochal.tune(clouds, out=tmp_path / "search", workers=1, **(ASKED | changes))
    assert not (tmp_path / "search").exists()


def test_without_optuna_it_is_said_how_to_install_it(clouds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingError, match=re.escape('pip install "epochal[tune]"')):
        epochal.tune(clouds, out=tmp_path / "search", **ASKED)


def test_data_from_a_program_stay_in_it(tmp_path: Path) -> None:
    data = torch.randn(60, 2), torch.arange(60) % 2
    with pytest.raises(RecipeError, match="cannot be given to other processes"):
        epochal.tune(data, out=tmp_path / "search", workers=2, **{name: value for name, value in ASKED.items() if name != "target"})


def test_minutes_become_trials_by_what_the_default_takes(searched: epochal.Search, clouds: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(searched.folder, tmp_path / "search")
    store = Store(folder)
    for task, result in store.results().items():
        if not task.trial:
            store.write(task, result.model_copy(update={"seconds": 1.0}))
    job = jobs.Job(str(clouds), None, epochal.Recipe(), {}, None, Store(folder))
    said: list[str] = []
    # Three seconds for the default, four trainings of it, and half of one for each trial.
    assert _affordable(job, 1.0, 2, 1, said.append) == 28
    assert said == ["1 min is enough for 28 trials: a training takes 3.0 s"]
    assert _affordable(job, 1.0, 2, 2, said.append) > 56
    with pytest.raises(RecipeError, match=r"0\.1 min is too short"):
        _affordable(job, 0.1, 2, 1, said.append)


def test_the_command_says_what_the_search_is_worth(searched: epochal.Search, clouds: Path) -> None:
    said = CliRunner().invoke(cli, ["tune", str(clouds), *COMMAND, "--out", str(searched.folder), "--workers", "1", "--json"])
    assert said.exit_code == 0, said.output
    *lines, last = said.output.splitlines()
    assert {**json.loads(last), "sha256": None} == {**json.loads((searched.folder / "result.json").read_text()), "sha256": None}
    for line in (*searched.verdict, *searched.influence_lines()):
        assert line in lines
    assert any(str(searched.recipe_file) in line for line in lines)
    assert any(line.startswith("0 ") and line.endswith("default") for line in lines)


def test_what_is_searched_by_default_has_the_default_in_it(clouds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs.Job, "do", _stop)
    asked = {name: value for name, value in ASKED.items() if name not in ("space", "model", "batch_size")}
    with pytest.raises(KeyboardInterrupt):
        epochal.tune(clouds, out=tmp_path / "search", workers=1, **asked)
    search = json.loads((tmp_path / "search" / "search.json").read_text())
    assert {*search["space"]} == {"optimizer.lr", "optimizer.weight_decay", "model.widths", "model.dropout"}
    assert Result(values={}, score=None).cost == float("inf")


def test_under_a_chinese_locale_it_speaks_chinese(searched: epochal.Search, clouds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("epochal.language._chosen", "zh")
    said = CliRunner().invoke(cli, ["tune", str(clouds), *COMMAND, "--out", str(searched.folder), "--workers", "1"])
    assert said.exit_code == 0, said.output
    assert left_in(said.output) == []
