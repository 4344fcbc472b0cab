"""A complete model: weights, description and preprocessing in one folder that predicts without any training data.

    model.safetensors   weights and preprocessing constants
    bundle.json         how to build the network, its layers from raw inputs to outputs, a description of the data, and the SHA-256
                        of the weights

It may also be one file: such weights with the description in their metadata. It contains no pickle and no import path: loading one from an
untrusted source cannot run code.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BufferedReader
from pathlib import Path
from typing import Any, Literal

import safetensors
import torch
from pydantic import PositiveInt, TypeAdapter
from safetensors.torch import load as load_weights
from safetensors.torch import save as save_weights
from torch import Tensor, nn

from epochal.checks.seen import Keys, are_seen, read_seen
from epochal.data.examples import Examples, group_numbers
from epochal.data.feed import by_length, feed
from epochal.data.inputs.values import Inputs
from epochal.data.load import Data, load
from epochal.data.spec import DataSpec
from epochal.distributed.ranks import ALONE, Ranks
from epochal.errors import BundleError, DataError, NotFiniteError, OutputError, TakenError
from epochal.evaluation.by_example import Answers
from epochal.evaluation.evaluate import Evaluation, score
from epochal.evaluation.named import Metrics
from epochal.evaluation.slices import find_slices
from epochal.inference import infer
from epochal.io.checksums import verify_checksum, with_checksum
from epochal.io.files import json_text, new_directory, write_bytes, write_json
from epochal.io.safe_read import StoredTensor, open_file, parse_json, read_json, read_tensors
from epochal.models.build import is_pretrained, to_channels_last
from epochal.models.own_code import changed_code
from epochal.models.pretrained.head import AT_ONCE
from epochal.models.rebuild import first_line, rebuild
from epochal.models.summary import Summary, summarize
from epochal.models.windows import Windows, in_windows
from epochal.predict import Input, Predictions, Read, read_items
from epochal.shown import Rows, Shown, few
from epochal.tasks.base import Prediction
from epochal.tasks.losses import Loss
from epochal.user_code import concise

FORMAT = "epochal-bundle"
VERSION = 5
WEIGHTS = "model.safetensors"
DESCRIPTION = "bundle.json"
# Where the metadata of a bundle in one file have its description.
METADATA = "bundle"

_WHAT_TO_GIVE = "Give the folder of a run or of a bundle, or a file of --to safetensors."


@dataclass(frozen=True, repr=False)
class Bundle(Shown):
    """A model with everything it needs to predict.

    `model` takes raw inputs [n, *spec.shape] of `spec.dtype`. `origin` says how to rebuild its network: a name from `epochal models`
    and its options, or `None` for a network from the user's own code. `batch_size` is how many examples are computed at once, as in
    evaluation. `seen` has the keys of the training examples, or `None` if they were not kept. `code` has the SHA-256 of each of the user's
    files that defined the network when it was trained.
    """

    model: nn.Module
    spec: DataSpec
    origin: tuple[str, Mapping[str, Any]] | None
    batch_size: int = 1000
    seen: Keys | None = field(default=None, compare=False)
    code: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the model's outputs, in order: classes, labels or quantities."""
        return self.spec.outputs

    @property
    def is_large(self) -> bool:
        """Whether a thousand examples at once would take gigabytes."""
        return self.origin is not None and is_pretrained(self.origin[0])

    def _title(self) -> str:
        name = type(self.model.get_submodule("net")).__name__ if self.origin is None else self.origin[0]
        return f"{name}, {sum(weights.numel() for weights in self.model.parameters()):,} parameters"

    def _rows(self) -> Rows:
        return ("trained on", self.spec.describe()), ("outputs", few(self.classes))

    @concise
    def predict(
        self, what: Input | Iterable[Input] | Sequence[float] | Sequence[Sequence[float]], *, unreadable: Literal["stop", "count"] = "stop"
    ) -> Predictions:
        """Predict one input or many; the result is always a list, in the same order.

        `what` is the path of a picture (or of a folder of them, or of an .npy file of inputs), a Pillow picture, a picture as an array
        (uint8 [height, width] or [height, width, channels], of any size), an array, tensor or table (DataFrame) of raw inputs
        ([*spec.shape] or [n, *spec.shape]), or a list of these, or of numbers. For a model of tables it is a table: a file, a dict of
        columns or of one row, a list of dicts. A table may also list files, in the column that training had them in. The
        same picture or row gives the same prediction in each form.
        Raises `DataError` for inputs that cannot be read or whose dtype differs from that of the training data; warns if their scale
        differs. If `unreadable` is "count", unreadable inputs are left out and named, unless there are no others.
        """
        read = self.read(what, unreadable=unreadable)
        if read.names and (difference := self.differs(read.inputs)):
            warnings.warn(difference, stacklevel=3)
        return Predictions(self.predict_inputs(read.inputs) if read.names else (), read.names, read.unreadable, read.notes)

    def read(self, what: Any, *, unreadable: Literal["stop", "count"] = "stop") -> Read:
        """Return the raw inputs for anything that `predict` takes."""
        return read_items(what, self.spec.input, unreadable, self.spec.listing.file)

    def differs(self, inputs: Inputs) -> str:
        """Describe how raw inputs [n, *spec.shape] differ in scale from the training inputs; "" if they do not."""
        difference = self.spec.input.differs(inputs)
        return f"the inputs {difference} than those that the model was trained on" if difference else ""

    def predict_inputs(self, inputs: Tensor) -> list[Prediction]:
        """Predict raw inputs [n, *spec.shape] of `spec.dtype`."""
        return [self.spec.task.predict(values) for values in self.values(inputs).tolist()]

    def values(self, inputs: Tensor) -> Tensor:
        """Return the probabilities, or the quantities, of raw inputs [n, *spec.shape] of `spec.dtype`: [n, outputs]."""
        examples = Examples(inputs, torch.zeros(len(inputs), dtype=torch.int64), "inputs", torch.arange(len(inputs)))
        return self.spec.task.decode(self._outputs(examples))

    def inputs(self, item: Input) -> Tensor:
        """Return raw inputs [n, *spec.shape] for one item that `predict` takes."""
        return self.spec.input.read(item)

    @concise
    def evaluate(
        self,
        data: Any,
        loss: Loss | None = None,
        *,
        include_training: bool = False,
        unreadable: Literal["stop", "count"] = "stop",
        metrics: Metrics = None,
        ranks: Ranks = ALONE,
    ) -> Evaluation:
        """Return the scores of the model on the `test` split of `data`, or on all of `data` if it has no such split.

        `data` is anything that `load` takes; or `Data`, loaded with `like=bundle.spec`, so that pictures and classes mean the same.
        Examples that were used in training (see `checks/seen.py`) are left out and counted in `Evaluation.left_out`; with
        `include_training` they are evaluated too, and counted in `known`. A bundle copied without its run can only recognize its
        complete training data: then nothing is left out, and those examples are counted.

        Unreadable picture files are an error; or, if `unreadable` is "count", they are left out and named in the evaluation.
        `metrics` are further scores: names of common ones, or functions (see `evaluation/named.py`). Several `ranks` share the work.

        Raises `DataError` if no examples are left.
        """
        is_loaded = isinstance(data, Data)
        data = load(data, like=self.spec, unreadable=unreadable)
        self._check_like(data)
        measured = [data.test] if data.test is not None else list(data.splits.values())
        for difference in () if is_loaded else filter(None, {self.differs(examples.inputs) for examples in measured}):
            warnings.warn(difference, stacklevel=3)
        known = left_out = 0
        if self.seen is not None:
            seen = [torch.from_numpy(are_seen(examples, self.spec.input, self.seen)) for examples in measured]
            known = sum(int(places.sum()) for places in seen)
            if known and not include_training:
                known, left_out = 0, known
                measured = [part.take((~places).nonzero().flatten()) for part, places in zip(measured, seen, strict=True)]
                measured = [part for part in measured if len(part)]
        elif data.fingerprint == self.spec.fingerprint and data.test is None:
            known = sum(self.spec.counts.get(split, 0) for split in ("train", "valid"))
        if not measured:
            raise DataError(
                f"All examples of {data.name} ({left_out:,}), or equal ones, were used in training: nothing is left to measure on.",
                "Provide others; or measure on these: --include-training, or include_training=True.",
            )
        outputs = [self._outputs(examples, label="Evaluating", ranks=ranks) for examples in measured]
        targets = torch.cat([examples.targets for examples in measured])
        reported = loss or self.spec.task.reported_loss(self.model)
        found = score(torch.cat(outputs), targets, self.spec.task, reported, metrics, group_numbers(*measured))
        answers = Answers(self.spec.task, found.outputs, found.predictions, targets, found.groups)
        slices = find_slices(answers, measured, data.train, self.spec.input, data.attributes, "test")
        unreadable_files = () if is_loaded else data.unmeasured
        return replace(found, known=known, left_out=left_out, unreadable=unreadable_files, slices=slices)

    def _check_like(self, data: Data) -> None:
        """Raise `DataError` if `data` were not loaded for this model."""
        if (data.input.kind, data.input.shape, data.input.dtype) != (self.spec.input.kind, self.spec.shape, self.spec.dtype):
            raise DataError(
                f"Inputs of {data.name} are {data.input.dtype} of shape {data.input.shape}; "
                f"the model takes {self.spec.dtype} of shape {self.spec.shape}.",
                "Load them for this model: load(..., like=bundle.spec).",
            )
        if data.outputs != self.spec.outputs:
            raise DataError(
                f"{data.name} has the outputs {few(data.outputs)}; the model gives {few(self.spec.outputs)}.",
                "Load them for this model: load(..., like=bundle.spec).",
            )

    def with_decoder(self) -> nn.Sequential:
        """Return the model and the decoder of its outputs as one module for export: from raw inputs to probabilities or quantities."""
        return nn.Sequential(OrderedDict(model=self.model, decode=self.spec.task.decoder()))

    def with_windows(self, count: int) -> Bundle:
        """Return the same model for longer sounds: up to `count` windows of each are predicted from, and what they give is averaged.

        Silent windows count nothing; what the model says of noise that it was not trained on counts, too. Raises `DataError` if the
        model is not for sounds.
        """
        spec = self.spec.model_copy(update={"input": self.spec.input.with_windows(count)})
        layers = dict(self.model.named_children())
        net = layers["net"].net if isinstance(layers["net"], Windows) else layers["net"]
        layers["net"] = in_windows(net, spec)
        return replace(self, model=nn.Sequential(OrderedDict(layers)).eval(), spec=spec)

    def fingerprint(self) -> str:
        """Return a hash of the weights, thresholds and the form of inputs: models that predict otherwise have another one."""
        found = hashlib.sha256(f"{self.spec.shape}{self.spec.task.thresholds}".encode())
        for name, tensor in self.model.state_dict().items():
            found.update(name.encode())
            found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return found.hexdigest()

    def summary(self) -> Summary:
        """Return the layers with output shapes, parameters and FLOPs."""
        return summarize(self.model, self.spec)

    @concise
    def save(self, path: str | Path, *, replace: bool = False) -> Path:
        """Write the bundle as a new folder, atomically.

        An existing `path` is an error; with `replace`, a bundle there is replaced, and anything else is still an error.
        Raises `OutputError` if the folder cannot be written, and `NotFiniteError` if a weight is not finite.
        """
        path = Path(path)
        if path.exists() and not replace:
            raise TakenError(path, "Choose another name; or pass replace=True to replace a bundle.")
        if path.exists() and not (path.is_dir() and {entry.name for entry in path.iterdir()} == {WEIGHTS, DESCRIPTION}):
            raise OutputError(f"{path} is not a bundle, so it is not replaced.", "Choose another name.")
        for name, parameter in self.model.named_parameters():
            if not parameter.isfinite().all():
                raise NotFiniteError(f"The weight {name} has a value that is not finite: the model is not saved.", "Train it again.")
        # Tied weights share memory; the file stores each of them in full.
        weights = save_weights({name: tensor.detach().clone().contiguous() for name, tensor in self.model.state_dict().items()})
        description = self.description() | {"weights": {"bytes": len(weights), "sha256": hashlib.sha256(weights).hexdigest()}}
        with new_directory(path, replace=replace) as folder:
            write_bytes(folder / WEIGHTS, weights)
            write_json(folder / DESCRIPTION, with_checksum(description))
        return path

    def to_file(self, about: Mapping[str, str]) -> bytes:
        """Return the bundle as one .safetensors file, with further metadata `about` it."""
        weights = {name: tensor.detach().clone().contiguous() for name, tensor in self.model.state_dict().items()}
        plain = save_weights(weights)
        data = plain[8 + int.from_bytes(plain[:8], "little") :]
        kept = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        return save_weights(weights, {**about, METADATA: json_text(with_checksum(self.description() | {"weights": kept}))})

    def description(self) -> dict[str, Any]:
        """Return what bundle.json says of everything but the weights."""
        if self.origin is None:
            model: dict[str, Any] = {"own": type(self.model.get_submodule("net")).__name__, "code": dict(self.code)}
        else:
            model = {"name": self.origin[0], "options": dict(self.origin[1])}
        return {
            "format": FORMAT,
            "version": VERSION,
            "model": model,
            "layers": [name for name, _ in self.model.named_children()],
            "batch_size": self.batch_size,
            "data": self.spec.model_dump(mode="json"),
        }

    @classmethod
    @concise
    def load(cls, path: str | Path, model: nn.Module | str | None = None, *, log: Callable[[str], object] | None = None) -> Bundle:
        """Read a bundle from its folder, from the folder of a run, or from a file of `to_file` (epochal export --to safetensors).

        A bundle of the user's own network needs that network as `model` (or "my_file.py:Net"): its code is not in the bundle.
        If that code has changed since training, `log` is called with a note; without `log`, a warning is issued.
        Raises `BundleError` if a file is missing, damaged or of another version, and `ModelError` if that code cannot be run.
        """
        folder = _folder(Path(path))
        described = _description(folder)
        try:
            spec = DataSpec.model_validate(described["data"])
            kept, built = described["weights"], described["model"]
            origin = None if "own" in built else (str(built["name"]), dict(built["options"]))
            if (origin is None) != (model is not None):
                raise _wrong_code(folder, built)
            with open_file(weights_file(folder), follow=folder.is_file()) as file:
                size = os.fstat(file.fileno()).st_size
                stored = _stored(file, weights_file(folder), kept)
                net = model if origin is None else origin
                whole = rebuild(folder, spec, net, TypeAdapter(list[str]).validate_python(described["layers"]), stored)
                file.seek(0)
                weights = load_weights(file.read(size))
            _put(weights, whole, folder, origin is None)
            code = TypeAdapter(dict[str, str]).validate_python(built.get("code", {}))
            batch_size = TypeAdapter(PositiveInt).validate_python(described["batch_size"])
        except (KeyError, TypeError, ValueError, RuntimeError, safetensors.SafetensorError, OSError) as error:
            raise BundleError(f"{folder} is not a complete bundle: {first_line(error)}.", "Copy the bundle again.") from error
        if origin is not None:
            to_channels_last(whole)
        if origin is None and (changed := changed_code(whole.get_submodule("net"), code)):
            note = f"the code of the network has changed since training ({', '.join(changed)}): its predictions may be wrong."
            warnings.warn(note, stacklevel=3) if log is None else log(f"note: {note}")
        return cls(whole.eval(), spec, origin, batch_size, None if folder == Path(path) else read_seen(Path(path)), code)

    def _outputs(self, examples: Examples, label: str = "", ranks: Ranks = ALONE) -> Tensor:
        device = next((weights.device for weights in self.model.parameters()), torch.device("cpu"))
        if not self.is_large:
            return infer(self.model, feed(examples, self.batch_size, device), device, label=label, ranks=ranks)
        batches, order = by_length(examples, self.spec.input.lengths(examples.inputs), min(self.batch_size, AT_ONCE), device)
        outputs = infer(self.model, batches, device, label=label, ranks=ranks)
        return torch.empty_like(outputs).index_copy_(0, order, outputs)


def is_bundle(path: Path) -> bool:
    """Whether `path` is the folder of a bundle, or of a run with one."""
    return (path / "model" / DESCRIPTION).is_file() or (path / DESCRIPTION).is_file()


def needs_code(path: Path) -> bool:
    """Whether the network of a bundle is the user's own, whose code is not in it. Raises `BundleError`."""
    return "own" in _description(_folder(path))["model"]


def weights_file(path: Path) -> Path:
    """Return the file of the weights in a folder of a bundle or of a run, or the file that a bundle is."""
    return next((found for folder in (path / "model", path) if (found := folder / WEIGHTS).is_file()), path)


def _folder(path: Path) -> Path:
    if (path / "model" / DESCRIPTION).is_file():
        if (path / "model").is_symlink():
            raise BundleError(f"{path / 'model'} is a link, which could point anywhere.", "Give the folder that it points to.")
        return path / "model"
    if not path.exists():
        raise BundleError(f"There is no {path}.", "Give the folder of a run, or of a bundle.")
    if path.is_file():
        return path
    if not (path / DESCRIPTION).is_file():
        unfinished = (path / "recipe.toml").is_file()
        raise BundleError(
            f"{path} has no model in it" + (": its training did not finish." if unfinished else "."), "Give the folder of a run."
        )
    return path


def _description(path: Path) -> dict[str, Any]:
    """Return the description in the folder of a bundle, or in the metadata of its file. Raises `BundleError`."""
    where = path if path.is_file() else path / DESCRIPTION
    try:
        if path.is_file():
            with open_file(path) as file:
                text = read_tensors(file).metadata.get(METADATA)
            described = parse_json(text.encode()) if text is not None else {}
        else:
            described = read_json(where)
    except (OSError, ValueError) as error:
        reason = first_line(error)
        if path.is_file():
            raise BundleError(f"{path} cannot be read as a .safetensors file: {reason}.", _WHAT_TO_GIVE) from error
        raise BundleError(f"{where} cannot be read: {reason}.", "Copy the bundle again.") from error
    if not isinstance(described, dict) or described.get("format") != FORMAT:
        raise BundleError(f"{where} does not describe an Epochal bundle.", _WHAT_TO_GIVE)
    if not isinstance(described.get("model"), dict):
        raise BundleError(f"{where} does not say which model it is.", "Copy the bundle again.")
    if described.get("version") != VERSION:
        raise BundleError(
            f"{path} is a bundle of version {described.get('version')}; this Epochal reads version {VERSION}.",
            "Use the version of Epochal that wrote it, or train again.",
        )
    try:
        return verify_checksum(described)
    except ValueError as error:
        raise BundleError(f"{where} is damaged: {error}.", "Copy the bundle again.") from error


def _stored(file: BufferedReader, path: Path, kept: Mapping[str, Any]) -> Mapping[str, StoredTensor]:
    """Return the stored weights after checking the file's size, structure and checksum. Raises `BundleError`.

    Of a bundle in one file, the checksum is of the data behind the header, which has the checksum in it.
    """
    reason = "its content has changed since it was saved"
    try:
        found, size = read_tensors(file), os.fstat(file.fileno()).st_size
        begin = size - max((tensor.end for tensor in found.tensors.values()), default=0) if METADATA in found.metadata else 0
        if size - begin == kept["bytes"]:
            file.seek(begin)
            if hashlib.file_digest(file, "sha256").hexdigest() == kept["sha256"]:
                return found.tensors
    except ValueError as error:
        reason = str(error)
    raise BundleError(f"{path} is damaged: {reason}.", "Copy the bundle again.")


def _put(weights: Mapping[str, Tensor], model: nn.Module, folder: Path, is_own: bool) -> None:
    """Load weights into a model. Raises `BundleError` if those of the user's own network do not fit it."""
    try:
        model.load_state_dict(weights, assign=not is_own)
    except RuntimeError as error:
        if not is_own:
            raise
        reason = " ".join(str(error).splitlines()[1:2]).strip().rstrip(".")
        raise BundleError(f"The weights in {folder} do not fit your network: {reason}.", "Pass the network that was trained.") from error


def _wrong_code(folder: Path, built: Mapping[str, Any]) -> BundleError:
    if "own" not in built:
        return BundleError(f"{folder} contains the model {built['name']}, which needs no code of yours.", "Leave the model out.")
    own = built["own"]
    return BundleError(
        f"{folder} contains the weights of your own network {own}, but not its code.",
        f"Pass it again: --model my_file.py:{own}, or Bundle.load(path, model={own}()).",
    )
