"""Training in TensorBoard."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from epochal.errors import OutputError
from epochal.io.files import write_errors
from epochal.terminal import readable
from epochal.training.records import EpochDone, Finished, Record, Started
from epochal.watch.scalars import epoch_scalars

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoard:
    """Writes event files for TensorBoard into `folder`: the numbers of each epoch, the recipe, and its settings with the scores.

    The scores with the settings are those of the epoch whose weights were kept. Events are flushed after every
    epoch. As a context manager it also closes its file when training fails.
    Raises `OutputError` if the package is missing or the folder cannot be written.
    """

    def __init__(self, folder: str | Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise OutputError("The package tensorboard is not installed.", "pip install 'epochal[track]'") from error
        self.folder = Path(folder)
        self._make = SummaryWriter
        self._writer: SummaryWriter | None = None
        self._settings: dict[str, Any] = {}
        self._kept: dict[str, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close()

    def __call__(self, record: Record) -> None:
        """Write `record`."""
        if isinstance(record, Started):
            self._begin(record)
        elif isinstance(record, EpochDone):
            self._epoch(record)
        elif isinstance(record, Finished):
            self._end()

    def _begin(self, started: Started) -> None:
        self._close()
        with write_errors(self.folder):
            self._writer = self._make(str(self.folder))
        self._settings = {name: _setting(value) for name, value in started.recipe.flat().items() if value is not None}
        # TensorBoard shows text as Markdown, in which an indented block is shown verbatim.
        text = "".join(f"    {line}\n" for line in started.recipe.to_toml().splitlines())
        self._writer.add_text("recipe", readable(text, "utf-8"))
        self._writer.add_text("data", readable(started.spec.describe(), "utf-8"))

    def _epoch(self, done: EpochDone) -> None:
        assert self._writer is not None
        scalars = epoch_scalars(done)
        if done.is_best:
            self._kept = scalars
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, done.epoch)
        self._writer.flush()

    def _end(self) -> None:
        assert self._writer is not None
        scores = {f"kept/{name}": value for name, value in self._kept.items() if name.startswith(("train/", "valid/"))}
        # Without a name, TensorBoard would put these into a separate run, in a folder named by the clock.
        self._writer.add_hparams(self._settings, scores, run_name=".")
        self._close()

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _setting(value: Any) -> bool | int | float | str:
    return value if isinstance(value, bool | int | float | str) else readable(str(value), "utf-8")
