"""Every loader by the kind of file that it reads, and one call of it that is watched: what comes out, what it touches, what it takes."""

from __future__ import annotations

import os
import pickle
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.cells import cell_len
from torch import nn

import epochal
from epochal.bundle import Bundle
from epochal.data.examples import Examples
from epochal.data.inputs.numbers import NumbersRule
from epochal.data.inputs.picture.read import measure_picture, open_picture, to_tensor
from epochal.data.inputs.picture.rule import PictureRule
from epochal.data.inputs.sound.read import measure_sound, read_sound
from epochal.data.inputs.sound.rule import SoundRule
from epochal.data.inputs.table.rule import TableRule
from epochal.data.inputs.text.read import read_text
from epochal.data.sources import cifar10
from epochal.data.sources.idx import read_idx
from epochal.data.spec import DataSpec
from epochal.data.storage.cache import Pack
from epochal.errors import EpochalError
from epochal.recipe import Recipe, restore_recipe
from epochal.run.evaluate import evaluate_run
from epochal.run.resume import resume
from epochal.tasks.single_label import SingleLabel
from epochal.training.build import build_training, training_feed
from epochal.training.checkpoint import Checkpoints
from epochal.training.state import Training

SPEC = DataSpec(
    name="made",
    task=SingleLabel(outputs=("a", "b"), counts={"train": (4, 4)}),
    input=NumbersRule(shape=(3,), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
    counts={"train": 8},
    fingerprint="0",
)


def training() -> Training:
    """A training that is about to begin, of a network as small as can be."""
    torch.manual_seed(0)
    examples = Examples(torch.randn(8, 3), torch.arange(8) % 2, "train", torch.arange(8))
    recipe = Recipe().updated({"device": "cpu", "threads": 1, "batch_size": 4, "ema": 0.9})
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    batches = training_feed(examples, SPEC, recipe, torch.device("cpu"))
    return build_training(net, batches, SPEC, recipe, torch.device("cpu"), has_valid=False)


def _picture(path: Path) -> None:
    measure_picture(str(path))
    to_tensor(open_picture(path), PictureRule(shape=(3, 8, 8)))


def _sound(path: Path) -> None:
    measure_sound(str(path))
    read_sound(str(path), SoundRule(shape=(800,), rate=8000))


def _table(path: Path) -> None:
    """Read a table to train on, then for a model and for predictions."""
    data = epochal.load(path, target="-1")
    assert isinstance(data.input, TableRule)
    epochal.load(path, like=data.split(0.2, 0.2).spec)
    for _ in data.input.pieces(path):
        pass


def _text_table(path: Path) -> None:
    data = epochal.load(path, text="1", target="-1")
    data.input.items(path)


def _pack(path: Path) -> None:
    pack = Pack(path)
    pack.read([0])


def _checkpoint(path: Path) -> None:
    made = training()
    if Checkpoints(path, 60).restore(made):
        made.update()


def _predict(path: Path) -> None:
    Bundle.load(path).predict([[1.0, 2.0, 3.0]])


def _gullible(path: Path) -> None:
    """Do all that a loader must not do, as the file wants."""
    match path.read_text().split():
        case ["unpickle", name]:
            pickle.loads(Path(name).read_bytes())
        case ["take", count]:
            bytearray(int(count)).strip()
        case ["write", name]:
            Path(name).write_text("evil")
        case ["wait", seconds]:
            time.sleep(float(seconds))
        case ["import", name]:
            __import__(name)


LOADERS: dict[str, Callable[[Path], object]] = {
    "archive": epochal.load,
    "bundle": _predict,
    "checkpoint": _checkpoint,
    "cifar10": cifar10.read_cifar10,
    "gullible": _gullible,
    "idx": read_idx,
    "npy": lambda path: epochal.load(path / "x.npy"),
    "npz": epochal.load,
    "pack": _pack,
    "picture": _picture,
    "recipe": restore_recipe,
    "resume": lambda path: resume(path, watchers=()),
    "run": evaluate_run,
    "safetensors": epochal.load,
    "sound": _sound,
    "table": _table,
    "text": read_text,
    "texts in a table": _text_table,
}

# A file must never make a loader do any of these, or open a file for writing elsewhere.
_FORBIDDEN = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "subprocess.Popen",
    "pickle.find_class",
    "socket.connect",
    "ctypes.dlopen",
    "exec",
    "import",
    "os.putenv",
    "marshal.loads",
    "code.__new__",
)

# PyTorch's own libraries are asked for their settings; and where it is built for CUDA, it asks NVIDIA's driver how many GPUs there are.
_LIBRARIES = (str(Path(torch.__file__).parent), "libnvidia-ml.so")

# Wrong values in arrays are reported with their index, and wrong settings with their names.
_TOLD_BY_PLACE = ("npy", "npz", "resume", "run", "safetensors", "table", "texts in a table")


class Watch:
    """What the audit hook has seen in a block; a hook cannot be taken away again, so there is one for the process."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.allowed: Path | None = None
        # The progress bar reads its table of wide letters when it meets the first.
        cell_len("\u4f60")
        sys.addaudithook(self._hook)

    @contextmanager
    def on(self, allowed: Path) -> Iterator[list[str]]:
        """Note what is forbidden, in the block; writing below `allowed` is not."""
        self.seen, self.allowed = [], allowed
        try:
            yield self.seen
        finally:
            self.allowed = None

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.allowed is None:
            return
        is_loaded = event == "import" and arguments[0] in sys.modules
        is_ours = is_loaded or (event == "ctypes.dlopen" and str(arguments[0]).startswith(_LIBRARIES))
        if event in _FORBIDDEN and not is_ours:
            self.seen.append(f"{event} {str(arguments)[:200]}")
        if event == "open" and isinstance(arguments[0], str | bytes) and _writes(arguments[1], arguments[2]):
            path = Path(os.path.realpath(os.fsdecode(arguments[0])))
            if not path.is_relative_to(self.allowed) and path != Path("/proc/self/clear_refs"):
                self.seen.append(f"open {path} for writing")


def _writes(mode: str | None, flags: int) -> bool:
    return bool(flags & (os.O_WRONLY | os.O_RDWR)) if mode is None else any(letter in mode for letter in "wax+")


class Outcome(NamedTuple):
    """`reported` is the message of an `EpochalError`, "" where the file was read; `wrong` says what should not be."""

    reported: str
    wrong: str
    seconds: float
    megabytes: float


def load(kind: str, path: Path, watch: Watch, *, seconds: float = 10.0, megabytes: float = 200.0) -> Outcome:
    """Load one file, or folder, as the kind that it pretends to be."""
    reported, wrong = "", list[str]()
    before = _reset_peak()
    begun = _own_seconds()
    with watch.on(path.parent.resolve()) as seen:
        try:
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                LOADERS[kind](path)
        except EpochalError as error:
            reported = str(error)
        except Exception as error:  # noqa: BLE001  it is what is looked for
            wrong.append(f"{type(error).__name__}: {error}")
    took, more = _own_seconds() - begun, _peak() - before
    if warned:
        wrong.append(f"it warned: {warned[0].message}")
    if seen:
        wrong.append(f"it did: {'; '.join(seen[:3])}")
    if reported and kind not in _TOLD_BY_PLACE and path.name not in reported and path.parent.name not in reported:
        wrong.append(f"the file is not named: {reported}")
    if took > seconds:
        wrong.append(f"it took {took:.1f} s")
    if more > megabytes:
        wrong.append(f"it took {more:.0f} MB")
    return Outcome(reported, "; ".join(wrong), took, more)


def _own_seconds() -> float:
    """Return what the clock says, less the seconds for which this process has waited for a core (Linux, where it counts them)."""
    schedule = Path("/proc/self/schedstat")
    return time.monotonic() - (int(schedule.read_text().split()[1]) / 1e9 if schedule.exists() else 0.0)


def _reset_peak() -> float:
    """Let the peak of memory begin at what is used now (Linux), and return that in MB."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return _peak()


def _peak() -> float:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1000 for line in file if line.startswith("VmHWM:"))


def fresh(path: Path) -> Path:
    """Return `path`, where nothing is any more."""
    shutil.rmtree(path, ignore_errors=True)
    path.unlink(missing_ok=True)
    return path
