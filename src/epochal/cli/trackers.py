"""Options for programs that track training: TensorBoard and MLflow."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from epochal.training.records import Watcher

tensorboard = click.option(
    "--tensorboard", type=click.Path(path_type=Path), metavar="DIR", help="Also write TensorBoard's event files into this folder."
)
mlflow = click.option("--mlflow", metavar="URI", help="Also track with MLflow, at this tracking URI.")


def trackers(stack: ExitStack, folder: Path | None, uri: str | None) -> list[Watcher]:
    """Return the watchers that were asked for; `stack` closes them."""
    found: list[Watcher] = []
    if folder is not None:
        from epochal.watch.tensorboard import TensorBoard

        found.append(stack.enter_context(TensorBoard(folder)))
    if uri is not None:
        from epochal.watch.mlflow import MLflow

        found.append(stack.enter_context(MLflow(uri)))
    return found
