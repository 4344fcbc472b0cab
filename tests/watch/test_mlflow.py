import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from epochal.errors import OutputError
from epochal.watch.mlflow import MLflow


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the watcher sets in the environment goes when a test is over."""
    for name in ("MLFLOW_DISABLE_TELEMETRY", "MLFLOW_ALLOW_FILE_STORE", "MLFLOW_TRACKING_URI"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    # The client of an address where nobody answers should not try for minutes.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def the_run(folder: Path, experiment: str = "epochal") -> tuple[Any, Any]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=str(folder))
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    (run,) = client.search_runs([found.experiment_id])
    return client, run


def test_recipe_metrics_and_tags_are_kept(records: Any, log: Any, tmp_path: Path) -> None:
    with MLflow(tmp_path / "store") as watcher:
        log(watcher, records.training())
    client, run = the_run(tmp_path / "store")
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "two mlp"
    assert run.data.params["optimizer.lr"] == "0.25"
    assert run.data.params["max_steps"] == "None"
    assert run.data.tags["epochal.fingerprint"] == "f00d"
    assert run.data.tags["epochal.ended_by"] == "epochs"
    assert run.data.metrics["best_epoch"] == 2
    history = client.get_metric_history(run.info.run_id, "valid/loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.6), (2, 0.5), (3, 0.55)]


@pytest.mark.parametrize(("error", "status"), [(RuntimeError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_a_training_that_does_not_end_ends_its_run(records: Any, tmp_path: Path, error: type[BaseException], status: str) -> None:
    with pytest.raises(error), MLflow(tmp_path.as_uri(), experiment="mine") as watcher:
        watcher(records.started())
        watcher(records.epoch(1, None))
        raise error
    _, run = the_run(tmp_path, "mine")
    assert run.info.status == status
    assert run.data.metrics["train/loss"] == 0.625


def test_an_experiment_is_used_again(records: Any, log: Any, tmp_path: Path) -> None:
    for _ in range(2):
        log(MLflow(tmp_path), records.training())
    with pytest.raises(ValueError, match="too many values"):
        the_run(tmp_path)


def test_a_store_lost_on_the_way_is_a_warning_and_training_goes_on(records: Any, tmp_path: Path) -> None:
    with MLflow(tmp_path) as watcher:
        watcher(records.started())
        client, run = the_run(tmp_path)
        client.delete_run(run.info.run_id)
        with pytest.warns(RuntimeWarning, match="MLflow failed: .*Training continues without it"):
            watcher(records.epoch(1))
        watcher(records.epoch(2))
        watcher(records.finished())


def test_a_lost_store_does_not_hide_why_training_failed(records: Any, tmp_path: Path) -> None:
    watcher = MLflow(tmp_path)
    watcher(records.started())
    shutil.rmtree(tmp_path)
    with pytest.warns(RuntimeWarning, match="MLflow failed"):
        watcher.__exit__(ZeroDivisionError, ZeroDivisionError(), None)


def test_a_server_that_does_not_answer_is_reported_before_training() -> None:
    with pytest.raises(OutputError, match=r"MLflow cannot store runs at http://127\.0\.0\.1:9: (?s:.*)the address of a running server"):
        MLflow("http://127.0.0.1:9")


def test_a_missing_package_is_reported_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    with pytest.raises(OutputError, match=r"(?s)mlflow is not installed.*pip install 'epochal\[track\]'"):
        MLflow(tmp_path)


@pytest.mark.parametrize(("user", "tracked"), [({}, "False"), ({"MLFLOW_DISABLE_TELEMETRY": "false"}, "True")])
def test_nobody_is_tracked_by_surprise(tmp_path: Path, user: dict[str, str], tracked: str) -> None:
    # In a process of its own, as MLflow makes up its mind at import, and is silent under pytest and CI by itself. Its client asks
    # its makers' server in a thread and is gone when there is no answer, so the question is what counts.
    code = """
import socket, sys, threading
asked = []
def refuse(host, *_, **__):
    asked.append(host)
    raise OSError("no network in tests")
socket.getaddrinfo = refuse
from epochal.watch.mlflow import MLflow
MLflow(sys.argv[1])
for thread in threading.enumerate():
    if thread is not threading.main_thread():
        thread.join(30)
print(bool(asked))
"""
    environment = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    environment |= {"HOME": str(tmp_path), **user}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "store")], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == tracked
