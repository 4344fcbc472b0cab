"""Predictions of any number of items, as a stream: what is read is predicted and forgotten, so memory stays the same."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any, Literal, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from epochal.bundle import Bundle
from epochal.cores import sharing_cores
from epochal.data.inputs.table.files import is_table
from epochal.data.inputs.table.rule import TableRule
from epochal.device import choose
from epochal.distributed.ranks import ALONE, Ranks
from epochal.errors import DataError, ElsewhereError, EpochalError, RecipeError
from epochal.exports import onnx_file
from epochal.exports.parity import compare
from epochal.models.pretrained.head import AT_ONCE
from epochal.predict import FoundItems, find_items, name_of, read_item
from epochal.progress import progress, silent
from epochal.tasks.base import Prediction

Runtime = Literal["auto", "eager", "compiled", "onnx"]
Run = Callable[[Tensor], Tensor]

# Another runtime is tried where the rest would take more seconds than it takes to make the model ready for it, and is used if it takes at
# most this share of the time.
_WORTH, _FASTER = 20.0, 0.8

# A batch is timed so often by each.
_TIMES = 3

# So many items are looked at for what of them is cut off.
_MEASURED = 1000


class Answer(NamedTuple):
    """What became of one input: its name, and the raw input [*shape] with its prediction; or the error, if it could not be read."""

    name: str
    input: Tensor | None
    prediction: Prediction | None
    error: DataError | None = None


class Predictor:
    """A model that is kept ready to predict.

    `runtime` computes: "eager" is PyTorch as it is, "compiled" its compiler (which takes long to start), "onnx" ONNX Runtime, which
    needs the extra `export` and the CPU. "auto" begins with "eager", and changes to ONNX Runtime where the items that are left take so long
    that measuring it is worthwhile, or when `decide` is called, if it is faster and agrees (see `exports.parity`); `runtime` is then
    what is used.

    Raises `RecipeError` for a runtime that is not possible, `BundleError` and `MissingError`.
    """

    def __init__(
        self, model: Bundle | str | Path, *, runtime: Runtime = "auto", device: str = "auto", batch_size: int | None = None
    ) -> None:
        if runtime != "auto" and runtime not in _RUNTIMES:
            raise RecipeError(f"There is no runtime '{runtime}'.", f"Known: auto, {', '.join(_RUNTIMES)}.")
        self.bundle = model if isinstance(model, Bundle) else Bundle.load(model)
        self.device = choose(device)
        self.batch_size = batch_size or (min(AT_ONCE, self.bundle.batch_size) if self.bundle.is_large else self.bundle.batch_size)
        self.is_decided = runtime != "auto"
        self.runtime = runtime if self.is_decided else "eager"
        self._run = _RUNTIMES[self.runtime](self.bundle, self.device)

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return the probabilities or the quantities of raw inputs [n, *spec.shape] of `spec.dtype`: [n, outputs], on the CPU."""
        return self._run(inputs)

    def find(self, what: Any) -> FoundItems:
        """Return the items in everything that `Bundle.predict` takes: the files of folders, and of lists of files."""
        return find_items(what, self.bundle.spec.input, self.bundle.spec.listing.file)

    def stream(
        self,
        what: Any,
        *,
        skip: int = 0,
        strict: bool = False,
        label: str = "",
        log: Callable[[str], object] = silent,
        ranks: Ranks = ALONE,
    ) -> Iterator[Answer]:
        """Yield an answer for each input in everything that `Bundle.predict` takes, or that `find` has returned, in its order.

        Items that cannot be read have an error instead of a prediction, which is raised if `strict`. The next
        batch is read while one is computed; of a table, some thousand rows at a time. `log` is called with notes on what was
        skipped, cut off, or decided. With a `label`, a progress bar of that name is shown. The first `skip` answers are left out; files of
        one input are not read for whole batches of them.

        Of several `ranks` each reads and computes some of the batches, and process 0 yields all answers, the others none. Neither their
        number nor `skip` changes what is in a batch, on which the last bits of predictions may depend.
        """
        spec = self.bundle.spec
        items, notes = what if isinstance(what, FoundItems) else self.find(what)
        for note in (*notes, *spec.input.lost(items[:_MEASURED])):
            log(note)
        began, done = time.perf_counter(), 0
        with sharing_cores(), progress(label, len(items)) as advance:
            for batch in _one_ahead(lambda stopped: self._batches(items, skip, stopped, ranks)):
                values = self(batch.inputs) if len(batch.inputs) else torch.empty(0, len(spec.outputs))
                for part in _exchanged(_Computed(batch.first, batch.entries, batch.inputs, values), ranks):
                    yield from self._answers(part, skip, strict=strict, leads=ranks.leads)
                advance(batch.last - done)
                done = batch.last
                if not self.is_decided:
                    left = (len(items) - done) * (time.perf_counter() - began) / done
                    self._decide_together(batch.inputs if left > _WORTH else batch.inputs[:0], log, ranks)

    def _answers(self, part: _Computed, skip: int, *, strict: bool, leads: bool) -> Iterator[Answer]:
        """Yield the answers in a computed batch but for those that are left out; only in process 0."""
        values = iter(zip(part.inputs, part.values.tolist(), strict=True))
        for place, (name, error) in enumerate(part.entries, part.first):
            one, row = next(values) if error is None else (None, [])
            if place < skip:
                continue
            if strict and error is not None:
                raise error if leads else ElsewhereError(error.problem)
            if leads:
                yield Answer(name, one, None if error is not None else self.bundle.spec.task.predict(row), error)

    def _batches(self, items: Sequence[Any], skip: int, stopped: Event, ranks: Ranks) -> Iterator[_Batch]:
        """Read items, and yield their inputs in batches, until that is no longer wanted.

        Each batch but the last has as many entries as the batch size says, of which some may be errors. In each round each process has one
        batch, which may be empty at the end; rounds that are left out whole are not read.
        """
        size, none = self.batch_size, self.bundle.spec.input.zeros()[:0]
        whole = size * ranks.size
        inputs, entries, count, last = [none], list[_Entry](), 0, 0

        def is_wanted() -> bool:
            return count % whole // size == ranks.rank and (count // whole + 1) * whole > skip

        for place, item in enumerate(items):
            if stopped.is_set():
                return
            for read, found in self._read(item, name_of(item, place, self.bundle.spec.input), is_wanted):
                while found:
                    room = size - count % size
                    if is_wanted():
                        inputs.append(read[:room])
                        entries += found[:room]
                        last = place + 1
                    count += min(room, len(found))
                    read, found = read[room:], found[room:]
                    if entries and count % size == 0:
                        yield _Batch(torch.cat(inputs), entries, count - len(entries), last)
                        inputs, entries = [none], []
        # In the last round some processes may have nothing, but take part.
        has_none = 0 < count % whole <= ranks.rank * size and (count // whole + 1) * whole > skip
        if entries or has_none:
            yield _Batch(torch.cat(inputs), entries, count - len(entries), len(items))

    def _read(self, item: Any, name: str, is_wanted: Callable[[], bool]) -> Iterator[tuple[Tensor, list[_Entry]]]:
        """Yield the inputs of an item, with an entry for each: of the rows of a table, in pieces. An error has an entry without an input.

        An item that surely has one input, and is not wanted, is not read.
        """
        none = self.bundle.spec.input.zeros()[:0]
        if not self._has_several(item) and not is_wanted():
            yield none, [(name, None)]
            return
        try:
            for read, names in self._pieces(item, name):
                yield read, [(one, None) for one in names]
        except DataError as error:
            yield none, [(name, error)]

    def _pieces(self, item: Any, name: str) -> Iterator[tuple[Tensor, list[str]]]:
        rule = self.bundle.spec.input
        if not isinstance(rule, TableRule) or not self._has_several(item):
            yield read_item(item, name, rule)
            return
        count = 0
        for rows, read in rule.pieces(Path(item)):
            yield read, [f"{name}[{count + number}]" for number in range(len(rows))]
            count += len(rows)

    def _has_several(self, item: Any) -> bool:
        """Whether an item may have more than one input."""
        if isinstance(item, str | Path):
            return Path(item).suffix.lower() == ".npy" or (isinstance(self.bundle.spec.input, TableRule) and is_table(Path(item)))
        return not isinstance(item, Image.Image | tuple)

    def _decide_together(self, inputs: Tensor, log: Callable[[str], object], ranks: Ranks) -> None:
        """Let process 0 decide for all processes, if it has inputs for that."""

        def lead() -> tuple[bool, Runtime]:
            if len(inputs):
                self.decide(inputs, log)
            return self.is_decided, self.runtime

        before = self.runtime
        self.is_decided, self.runtime = ranks.tell(lead)
        if self.runtime != before and not ranks.leads:
            self._run = _RUNTIMES[self.runtime](self.bundle, self.device)

    def decide(self, inputs: Tensor, log: Callable[[str], object] = silent) -> None:
        """If the runtime is "auto" and still open, change to ONNX Runtime if it is faster for these raw inputs, and agrees."""
        if self.is_decided:
            return
        self.is_decided = True
        if self.device.type != "cpu":
            return
        try:
            run = _onnx(self.bundle, self.device)
            compare(run, self.bundle, inputs)
        except EpochalError as error:
            log(f"ONNX Runtime is not used: {error.problem}")
            return
        now, then = (_seconds(one, inputs) for one in (self._run, run))
        if then < _FASTER * now:
            self.runtime, self._run = "onnx", run
            log(f"ONNX Runtime computes from here on: it is {now / then:.1f} times as fast as PyTorch here, and agrees")


# The name of an input, or of what could not be read, with its error.
_Entry = tuple[str, DataError | None]


class _Batch(NamedTuple):
    """Raw inputs; in order the entries of all, the number of the first of them, and up to which item they are."""

    inputs: Tensor
    entries: list[_Entry]
    first: int
    last: int


class _Computed(NamedTuple):
    """The number of the first entry of a batch, its entries, its raw inputs, and the values for these [n, outputs]."""

    first: int
    entries: list[_Entry]
    inputs: Tensor
    values: Tensor


def _exchanged(own: _Computed, ranks: Ranks) -> list[_Computed]:
    """Return what all processes have computed in a round."""
    if ranks.size == 1:
        return [own]
    words = json.dumps([own.first, [(name, error and (error.problem, error.fix)) for name, error in own.entries]]).encode()
    parts = [torch.frombuffer(bytearray(words), dtype=torch.uint8), _as_bytes(own.inputs), _as_bytes(own.values.double())]
    counts = [list(map(int, found)) for found in ranks.gather(torch.tensor([len(part) for part in parts]))]
    every = zip(*(ranks.gather_rows(part, sizes) for part, sizes in zip(parts, zip(*counts, strict=True), strict=True)), strict=True)
    made = []
    for told, inputs, values in every:
        first, entries = json.loads(told.numpy().tobytes())
        found = [(name, error and DataError(*error)) for name, error in entries]
        made.append(_Computed(first, found, inputs.view(own.inputs.dtype).view(-1, *own.inputs.shape[1:]), values.view(torch.float64)))
    return made


def _as_bytes(rows: Tensor) -> Tensor:
    """Return rows [n, ...] of any type as bytes [n, bytes]: not every type can be sent."""
    return rows.contiguous().flatten(1).view(torch.uint8)


def _one_ahead(read: Callable[[Event], Iterator[_Batch]]) -> Iterator[_Batch]:
    """Yield batches, the next of which is read meanwhile; whoever stops early does not wait for all of it."""
    stopped = Event()
    batches = read(stopped)
    with ThreadPoolExecutor(1, "epochal-read") as reader:
        try:
            waiting = reader.submit(next, batches, None)
            while (batch := waiting.result()) is not None:
                waiting = reader.submit(next, batches, None)
                yield batch
        finally:
            stopped.set()


def _seconds(run: Run, inputs: Tensor) -> float:
    """Return how long a batch takes: the least of a few times, since others use the cores."""
    times = []
    for _ in range(_TIMES):
        began = time.perf_counter()
        run(inputs)
        times.append(time.perf_counter() - began)
    return min(times)


def _eager(bundle: Bundle, device: torch.device) -> Run:
    model = bundle.with_decoder()
    if device.type != "cpu":
        model = copy.deepcopy(model)
    return _in_batches(bundle, model.to(device).eval(), device)


def _compiled(bundle: Bundle, device: torch.device) -> Run:
    model = copy.deepcopy(bundle.with_decoder()).to(device).eval()
    return _in_batches(bundle, torch.compile(model, dynamic=True), device)


def _in_batches(bundle: Bundle, model: Callable[[Tensor], Tensor], device: torch.device) -> Run:
    def run(inputs: Tensor) -> Tensor:
        # What is padding in all of them need not be computed.
        if bundle.is_large and (lengths := bundle.spec.input.lengths(inputs)) is not None and len(inputs):
            inputs = inputs[..., : max(1, int(lengths.max()))]
        with torch.inference_mode():
            values = model(inputs.to(device))
            return values.to(torch.promote_types(values.dtype, torch.float32)).cpu()

    return run


def _onnx(bundle: Bundle, device: torch.device) -> Run:
    if device.type != "cpu":
        raise RecipeError(f"ONNX Runtime computes on the CPU here, not on {device}.", 'Use device="cpu", or runtime="eager".')
    return onnx_file.decode(onnx_file.encode(bundle, {}), torch.get_num_threads())


_RUNTIMES: dict[str, Callable[[Bundle, torch.device], Run]] = {"eager": _eager, "compiled": _compiled, "onnx": _onnx}
