"""Training in MLflow."""

from __future__ import annotations

import os
import re
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from epochal.errors import OutputError
from epochal.terminal import readable
from epochal.training.records import EpochDone, Finished, Record, Started
from epochal.watch.scalars import epoch_scalars


class MLflow:
    """Logs training as one MLflow run: the recipe as parameters, the numbers of each epoch as metrics, the data as tags.

    `tracking_uri` is a server's address, a database or a folder; without it, MLflow's own default (MLFLOW_TRACKING_URI).
    As a context manager it also ends the run, as failed or killed, if training does not finish. Raises `OutputError`
    if the package is missing or the store cannot be used; if the store is lost later, that is a warning, and training continues.

    MLflow sends usage data to its makers; Epochal switches that off, unless MLFLOW_DISABLE_TELEMETRY is set.
    """

    def __init__(self, tracking_uri: str | Path | None = None, experiment: str = "epochal") -> None:
        # Both are read while MLflow is imported or its client created; there are no other switches. By default MLflow refuses
        # folders in favour of databases, which mlflow-skinny cannot write: a user who names a folder wants a folder.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        uri = None if tracking_uri is None else str(tracking_uri)
        if uri is not None and (uri.startswith("file:") or "://" not in uri):
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        try:
            from mlflow.tracking import MlflowClient
        except ImportError as error:
            raise OutputError("The package mlflow is not installed.", "pip install 'epochal[track]'") from error
        try:
            self._client = MlflowClient(tracking_uri=uri)
            found = self._client.get_experiment_by_name(experiment)
            self._experiment = found.experiment_id if found is not None else self._client.create_experiment(experiment)
        # MLflow raises a bare Exception for a folder that is not as it expects.
        except Exception as error:
            where = f"at {uri}" if uri is not None else "at its default place"
            raise OutputError(
                f"MLflow cannot store runs {where}: {_first_line(error)}",
                "Give a folder or the address of a running server; databases need the full package (pip install mlflow).",
            ) from error
        self._run: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._surviving():
            self._end("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")

    def __call__(self, record: Record) -> None:
        """Log `record`."""
        with self._surviving():
            if isinstance(record, Started):
                self._begin(record)
            elif self._run is not None and isinstance(record, EpochDone):
                self._log(self._run, epoch_scalars(record), record.epoch)
            elif self._run is not None and isinstance(record, Finished):
                self._log(self._run, {"best_epoch": record.best_epoch, "seconds": record.seconds}, record.epochs)
                self._client.set_tag(self._run, "epochal.ended_by", record.reason)
                self._end("FINISHED")

    @contextmanager
    def _surviving(self) -> Iterator[None]:
        """Turn a lost store into a single warning: hours of training are worth more than their log."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  as above
            self._run = None
            warnings.warn(f"MLflow failed: {_first_line(error)} Training continues without it.", RuntimeWarning, stacklevel=2)

    def _begin(self, started: Started) -> None:
        from mlflow.entities import Param

        self._end("FAILED")
        spec, recipe = started.spec, started.recipe
        tags = {
            "epochal.data": readable(spec.describe(), "utf-8"),
            "epochal.fingerprint": spec.fingerprint,
            "epochal.device": str(started.device),
            "epochal.parameters": str(started.parameters),
        }
        run = self._client.create_run(self._experiment, tags=tags, run_name=readable(f"{spec.name} {recipe.model.name}", "utf-8"))
        self._run = run.info.run_id
        self._client.log_batch(self._run, params=[Param(name, readable(str(value), "utf-8")) for name, value in recipe.flat().items()])

    def _log(self, run: str, scalars: dict[str, Any], epoch: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        # MLflow refuses other characters.
        named = {re.sub(r"[^\w.\- /:]", "_", name): value for name, value in scalars.items()}
        self._client.log_batch(run, metrics=[Metric(name, value, now, epoch) for name, value in named.items()])

    def _end(self, status: str) -> None:
        if self._run is not None:
            run, self._run = self._run, None
            self._client.set_terminated(run, status)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
