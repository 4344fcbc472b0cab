"""`load` turns what the user named into checked, described examples: `Data`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from epochal.cores import sharing_cores
from epochal.data.attributes import NO_ATTRIBUTES, Attributes
from epochal.data.examples import Correction, Examples, Found, Part, places_key
from epochal.data.exclude import Exclusion, as_exclusion
from epochal.data.fingerprint import fingerprint_of
from epochal.data.glance import glance
from epochal.data.inputs.base import MAX_NUMBERS, InputRule, check_size
from epochal.data.inputs.kinds import KINDS, kind_of
from epochal.data.inputs.picture.rule import ResizeMode
from epochal.data.inputs.sound.rule import SoundRule
from epochal.data.inputs.text.rule import Tokens
from epochal.data.inputs.values import Inputs, View, arranged, in_memory, subset
from epochal.data.options import NO_OPTIONS, ReadOptions, TableOptions, Unreadable
from epochal.data.sources import find
from epochal.data.sources.groups import group_by_name, group_by_value
from epochal.data.sources.manifest import is_manifest
from epochal.data.sources.manifest import read as read_manifest
from epochal.data.sources.objects import find_objects
from epochal.data.sources.sounds import find_sounds
from epochal.data.sources.vocabulary import read_vocabulary
from epochal.data.spec import NO_LISTING, SPLITS, DataSpec, Listing, described
from epochal.data.split import split_off
from epochal.device import release_memory
from epochal.errors import DataError, RecipeError, UnreadableError, suggest
from epochal.random import key, seeded
from epochal.shown import Rows, Shown, counted, few
from epochal.tasks.base import Task, TaskName
from epochal.tasks.targets import encode
from epochal.user_code import concise

_VARYING = (
    "the examples of {} are split off from a dataset whose values change each time they are read, so scores vary as well; "
    'for clean scores pass a dataset without random changes for them: {{"train": ..., "valid": ..., "test": ...}}'
)

# The dtype of inputs that are not in memory is chosen from this many.
_PROBED = 64


@dataclass(frozen=True, repr=False)
class Data(Shown):
    """Labelled examples in up to three splits, checked and described.

    `input` is the rule by which inputs are read; `task` says what the targets mean, and names the outputs. `valid` and `test` are
    `None` unless the source has them or `split` has made them. `notes` are choices made in reading that the user should know about.
    `excluded` names the examples that were left out, and `corrected` says which labels were corrected, one after the other. `described` is
    the description measured earlier on these data, after splitting, if they are being read again. `listing` says which columns of a table
    they came from, and what stays in one split; `attributes`, which others are known of examples. `model` is the pre-trained one that
    pictures were read for, if any. Of packed data, `learned` has rules with the statistics of training parts, by `places_key`.
    """

    name: str
    input: InputRule
    task: Task
    fingerprint: str
    train: Examples
    valid: Examples | None = None
    test: Examples | None = None
    notes: tuple[str, ...] = ()
    batch_size: int | None = None
    excluded: tuple[str, ...] = ()
    corrected: tuple[Correction, ...] = ()
    described: DataSpec | None = None
    listing: Listing = NO_LISTING
    attributes: Attributes = NO_ATTRIBUTES
    model: str | None = None
    learned: Mapping[str, InputRule] = field(default_factory=dict)

    def _title(self) -> str:
        counts = {name: len(examples) for name, examples in self.splits.items()}
        return described(self.name, self.input, self.task, counts)

    def _rows(self) -> Rows:
        return (("task", self.task.name), ("outputs", few(self.outputs)), *(("note", note) for note in self.notes))

    def _below(self) -> str:
        return glance(self.train, self.input, self.task)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the classes, labels or quantities."""
        return self.task.outputs

    @property
    def splits(self) -> dict[str, Examples]:
        """The existing splits by name."""
        found = {"train": self.train, "valid": self.valid, "test": self.test}
        return {name: examples for name, examples in found.items() if examples is not None}

    @property
    def unmeasured(self) -> tuple[str, ...]:
        """The excluded names that would be in the test split: those in its folder, if it has one; otherwise all."""
        if self.test is None or self.test.files is None or self.listing.file:
            return self.excluded
        folders = {
            name: {above for file in part.files or () for above in PurePosixPath(file).parents} for name, part in self.splits.items()
        }
        only = folders["test"] - folders["train"] - folders.get("valid", set())
        return tuple(name for name in self.excluded if not only.isdisjoint(PurePosixPath(name).parents))

    @concise
    def split(self, valid: float = 0.1, test: float = 0.2, seed: int = 0, *, in_place: bool = False) -> Data:
        """Return the data with the missing splits split off from `train` by `seed`; existing splits stay as they are.

        `valid` and `test` are fractions of the original `train`; 0 means no such split. Classes keep their proportions. If examples
        have groups, these stay together, and the fractions are met as nearly as they can be.
        With `in_place`, inputs in memory are not copied, but moved within their tensor: these data are then void.
        """
        # Inputs are taken at the end, once: large ones would be in memory three times.
        parts, total = {"train": replace(self.train, inputs=torch.arange(len(self.train)))}, len(self.train)
        cuts = {name: fraction for name, fraction in (("test", test), ("valid", valid)) if name not in self.splits and fraction > 0}
        if sum(cuts.values()) >= 1:
            settings = " and ".join(f"data.{name} = {fraction}" for name, fraction in cuts.items())
            raise DataError(f"{settings} leave nothing to train on.", "Use smaller fractions.")
        if not cuts:
            return self
        release_memory()
        for place, (name, fraction) in enumerate(cuts.items()):
            parts["train"], parts[name] = split_off(parts["train"], fraction, seed, name, total=total, keep=len(cuts) - place)
        notes = self.notes
        if self.train.groups is not None:
            counts = _groups({**self.splits, **parts})
            by, numbers = self.listing.group, ", ".join(f"{counts[name]:,} {name}" for name in SPLITS if name in counts)
            note = f"split by groups of {by}, which stay together: {numbers}" if by else f"split by groups, which stay together: {numbers}"
            notes += (note,)
        if self.train.varies:
            notes += (_VARYING.format(" and ".join(name for name in SPLITS if name in cuts)),)
        parts = self._taken(parts, in_place=in_place)
        release_memory()
        return replace(self, train=parts["train"], valid=parts.get("valid", self.valid), test=parts.get("test", self.test), notes=notes)

    def _taken(self, parts: Mapping[str, Examples], *, in_place: bool) -> dict[str, Examples]:
        """Return examples whose inputs are places in `train`, each in one part and in order, with the inputs that are there."""
        index = [torch.as_tensor(part.inputs) for part in parts.values()]
        values = in_memory(self.train.inputs) if in_place else None
        taken = [subset(self.train.inputs, places) for places in index] if values is None else arranged(values, *index)
        return {name: replace(part, inputs=inputs) for (name, part), inputs in zip(parts.items(), taken, strict=True)}

    @cached_property
    def spec(self) -> DataSpec:
        """The description of these data from which models are built: `described`, or measured on the current `train`."""
        if self.described is not None:
            return self.described
        rule = self.learned.get(places_key(self.train)) if self.learned else None
        if rule is None:
            with seeded(key("measure")):
                rule = self.input.learn(self.train.inputs)
        release_memory()
        return DataSpec(
            name=self.name,
            input=rule,
            task=self.task.learn({name: examples.targets for name, examples in self.splits.items()}),
            counts={name: len(examples) for name, examples in self.splits.items()},
            fingerprint=self.fingerprint,
            listing=self.listing.model_copy(update={"groups": _groups(self.splits)}),
        )


@concise
@sharing_cores()
def load(
    what: Any,
    *,
    data_dir: str | Path | None = None,
    task: TaskName | None = None,
    size: int | tuple[int, int] | None = None,
    fit: ResizeMode | None = None,
    memory: float | None = None,
    like: DataSpec | None = None,
    exclude: str | Path | Sequence[str] | None = None,
    unreadable: Unreadable = "stop",
    input: InputRule | str | None = None,  # noqa: A002 -- the name of what it chooses
    target: str | int | Sequence[str] = (),
    text: str | Sequence[str] = (),
    ignore: str | Sequence[str] = (),
    columns: Mapping[str, str] | None = None,
    valid_data: str | Path | None = None,
    test_data: str | Path | None = None,
    rate: int | None = None,
    seconds: float | None = None,
    tokens: Tokens | None = None,
    file: str | int | None = None,
    split_column: str | int | None = None,
    group: Any = None,
    windows: int | None = None,
    vocabulary: str | Path | None = None,
    pretrained: bool | int | tuple[int, int] | None = None,
) -> Data:
    """Read and check data.

    `what` is a name (`epochal datasets` lists them); the path of a picture folder, an .npz, .npy or .safetensors file; or in
    Python (x, y) as tensors or arrays, a map-style `Dataset`, a `DataLoader`, or a mapping {"train": ..., "valid": ..., "test": ...}
    of these. `data_dir` (or the variable EPOCHAL_DATA) is where named data are searched and downloaded to. `task` is inferred from the
    targets unless given.
    `size` (pixels, or (height, width)) and `fit` say how picture files become inputs. `pretrained` is the size for a pre-trained model, or
    whether they are read for efficientnet-lite0; by default, few photographs are, if it is installed. `memory` is how many GB examples may
    take before they are streamed from disk; by default, half of what is free. `like` is the `DataSpec` of a model that these data are for:
    pictures are then read as for its training, and classes keep their numbers.
    `exclude` is a file that lists examples to leave out, as written by `epochal check`, or a list of their names; excluded picture
    files are not read at all. Unreadable picture files are an error; or, if `unreadable` is "count", they are left out, reported in a
    note, and named in `Data.excluded`. `input` is the kind that arrays are read as, "picture" or "numbers", or a rule for such inputs;
    by default, arrays with three axes per input are pictures, and uint8 arrays with two.
    Of tables, `target` names the columns to predict, or numbers them (-1 is the last), `text` those of text to learn from, `ignore`
    those to leave out, and `columns` says what others mean ("number", "category" or "date"; of a target, "joined": labels that differ
    only by blanks, case or a full stop are one); `valid_data` and `test_data` are files with further splits. In a program a table is a
    dict of columns, a list of dicts, or a table of pandas, Polars or Arrow.

    A table may list pictures or sounds: `file` is the column with their names, relative to the table's folder. A column named split, or
    another `split_column`, says which split each row is in: train, valid or test. Examples that have the same `group` stay in one split
    when others are split off: that is a column; for files a regular expression whose first parenthesis matches a part of their names; or a
    value for each example of train, as a list, an array or a column, or a mapping from split to these.

    Of sounds, `rate` is how many samples per second they are read with, and `seconds` how long an input is; by default, both are chosen
    for the training files. Longer sounds lose both ends, or are cut into up to `windows` of that length. A program passes
    (sounds, targets) with input="sound": an array or (samples, rate) for each sound.

    Texts are a folder of .txt files for each class, a table with the column `text`, or in Python lists of strings; `tokens` says what they
    are made of: "ngrams" (by default), or "words" in their order, for recurrent networks and transformers. `vocabulary` is the file of
    pieces of words that a BERT network has, or hub:OWNER/NAME.

    Numbers [n] become [n, 1]; grey pictures [n, h, w] of uint8 become [n, 1, h, w]; channels come first. Inputs become uint8, int64 or
    float32, or stay float64 if float32 could not distinguish them; all splits must have the same dtype.
    Raises `DataError` saying what is wrong, where, and what to do.
    """
    if isinstance(what, Data):
        return what
    if isinstance(input, str) and input not in KINDS:
        raise DataError(f"Unknown kind of input '{input}'.", suggest(input, KINDS))
    targets, texts, ignored = (tuple([str(names)] if isinstance(names, str | int) else map(str, names)) for names in (target, text, ignore))
    valid, test = (None if path is None else str(path) for path in (valid_data, test_data))
    listed, splits = (None if name is None else str(name) for name in (file, split_column))
    table = TableOptions(targets, texts, ignored, dict(columns or {}), valid, test, listed, splits)
    allowed, excluded = None if memory is None else memory * 1e9, as_exclusion(exclude)
    by = group or None if isinstance(group, str) else None
    words = "" if vocabulary is None else read_vocabulary(str(vocabulary), tokens)
    known = False if pretrained is None and task == "regression" else pretrained
    options = ReadOptions(size, fit, allowed, like, excluded, unreadable, input, table, rate, seconds, tokens, by, windows, words, known)
    if isinstance(what, str | Path):
        place = data_dir or os.environ.get("EPOCHAL_DATA")
        found, options = _readable(partial(find, what, Path(place) if place else None), options)
    else:
        is_listed, are_sounds = is_manifest(what, options), _are_sounds(options)
        found, options = _readable(partial(read_manifest if is_listed else find_sounds if are_sounds else find_objects, what), options)
    if group is not None and not isinstance(group, str):
        found = group_by_value(found, group)
    if options.exclusion.names and (found.parts["train"].files is None or found.fingerprint is not None):
        found = _without(found, options.exclusion)
    if options.group is not None and found.parts["train"].groups is None:
        found = group_by_name(found, options.group)
    _check_memory(found, options.memory)
    with seeded(key("load")):
        return make_data(found, task, options)


def _are_sounds(options: ReadOptions) -> bool:
    """Whether what a program passes are sounds."""
    known = options.input if options.like is None else options.like.input
    return known == "sound" or isinstance(known, SoundRule)


def _readable(read: Callable[[ReadOptions], Found], options: ReadOptions) -> tuple[Found, ReadOptions]:
    """Read data; if unreadable files are only to be counted, read again with options that exclude them."""
    try:
        return read(options), options
    except UnreadableError as error:
        if options.unreadable == "stop" or options.exclusion.names.keys() >= {*error.names}:
            raise
        names = {**options.exclusion.names, **dict.fromkeys(error.names, "unreadable")}
        options = replace(options, exclusion=Exclusion(names, 'unreadable = "count"'))
        found, options = _readable(read, options)
        return replace(found, notes=(f"left out: {error.problem}", *found.notes)), options


def _without(found: Found, exclusion: Exclusion) -> Found:
    """Leave out examples that were read already, by name."""
    exclusion.check((part.where(name, index) for name, part in found.parts.items() for index in range(len(part.inputs))), found.name)
    parts = {name: part.without(exclusion.names, name) for name, part in found.parts.items()}
    for name, part in parts.items():
        exclusion.check_remaining(len(part.inputs), name)
    return found.changed(parts)


def _check_memory(found: Found, allowed: float | None) -> None:
    """Refuse examples that cannot be streamed and take more memory than `allowed` (bytes)."""
    taken = sum(values.nbytes for part in found.parts.values() if (values := in_memory(part.inputs)) is not None)
    if allowed is not None and taken > allowed:
        raise RecipeError(
            f"The setting data.memory = {allowed / 1e9:g} does not work with {found.name}: its examples take {taken / 1e9:.3g} GB.",
            "Only files of pictures, sounds, texts and tables, and a Dataset can be streamed; allow more, or leave it out.",
        )


def make_data(found: Found, task: TaskName | None, options: ReadOptions = NO_OPTIONS) -> Data:
    """Check what a source found, convert inputs to one form, and encode targets."""
    notes, like = list(found.notes), options.like
    for name, part in found.parts.items():
        if len(part.inputs) != len(part.targets):
            raise _unequal(found.name, name, part)
        if not len(part.inputs):
            raise DataError(f"{found.name}: {name} is empty.", "Add examples, or leave the split out.")
    if _swapped(found.parts["train"]):
        notes.append("the inputs look like labels and the targets like inputs: if they are swapped, pass (inputs, targets)")
    rule = _rule(found, options, notes)
    asked = f"those of {'the model' if like is not None else 'the rule' if isinstance(options.input, InputRule) else 'train'}"
    inputs = {name: _converted(part, name, rule, asked) for name, part in found.parts.items()}
    if like is not None:
        scales = {name: rule.differs(values) for name, values in inputs.items()}
        notes += [f"inputs of {name} {scale} than those that the model was trained on" for name, scale in scales.items() if scale]
    else:
        problem, fix = rule.blank(inputs["train"])
        if problem and found.input is not None:
            raise DataError(f"{found.name}: {problem}.", f"{fix[0].upper()}{fix[1:]}.")
        notes += [f"{problem}; {fix}"] if problem else []  # A program may try things out with zeros.
    targets = {name: part.targets for name, part in found.parts.items()}
    encoded = encode(
        targets,
        found.classes,
        task or found.task,
        lambda name, index: found.parts[name].where(name, index),
        None if like is None else like.task,
    )
    splits = {name: part.examples(inputs[name], encoded.targets[name], name) for name, part in found.parts.items()}
    return Data(
        name=found.name,
        input=rule,
        task=encoded.task,
        fingerprint=found.fingerprint
        or fingerprint_of(splits, {name: part.digest for name, part in found.parts.items()}, encoded.task.outputs),
        notes=(*dict.fromkeys((*notes, *encoded.notes)),),
        batch_size=found.batch_size,
        excluded=tuple(options.exclusion.names),
        listing=found.listing,
        attributes=found.attributes,
        model=found.model,
        learned=found.learned,
        train=splits["train"],
        valid=splits.get("valid"),
        test=splits.get("test"),
    )


def _rule(found: Found, options: ReadOptions, notes: list[str]) -> InputRule:
    """Return the rule by which inputs are read: that of the model they are for, of the files, of the user, or a suitable one."""
    if options.like is not None:
        return options.like.input
    if found.input is not None:
        return found.input
    if isinstance(options.input, InputRule):
        return options.input
    sample = _sample(found.parts["train"].inputs)
    check_size(sample, found.parts["train"].where("train", 0))
    if sample[0].numel() > MAX_NUMBERS:
        shape = tuple(sample.shape[1:])
        raise DataError(f"{found.name}: inputs of shape {shape} have more than {MAX_NUMBERS:,} numbers.", "Make them smaller.")
    kind = kind_of(sample) if options.input is None else KINDS[options.input]
    return kind.choose(sample, "train", notes)


def _sample(inputs: Inputs) -> Tensor:
    """Return representative inputs [n, ...]."""
    values = in_memory(inputs)
    if values is not None:
        return values
    first = inputs[torch.tensor([0])]
    # A few show which dtype is needed.
    return first if first.dtype != torch.float64 else inputs[torch.arange(0, len(inputs), -(-len(inputs) // _PROBED))]


def _converted(part: Part, split: str, rule: InputRule, asked: str) -> Inputs:
    """Convert inputs to the rule's form, lazily if they are not in memory; errors begin the expected form with `asked`."""
    convert = partial(_convert, part=part, split=split, rule=rule, asked=asked)
    everything, values = torch.arange(len(part.inputs)), in_memory(part.inputs)
    if values is not None:
        return convert(values, everything)
    view = View(part.inputs, everything, convert)
    view[everything[:1]]  # Report now what is wrong with all of them.
    return view


def _convert(inputs: Tensor, index: Tensor, *, part: Part, split: str, rule: InputRule, asked: str) -> Tensor:
    """Convert inputs, those at `index` of `part`, to the rule's form."""
    return rule.convert(inputs, lambda place: part.where(split, int(index[place])), split, asked)


def _groups(splits: Mapping[str, Examples]) -> dict[str, int]:
    """Return how many groups each split has; nothing if there are none."""
    named = {name: examples.group_names() for name, examples in splits.items()}
    return {name: len(set(groups)) for name, groups in named.items() if groups is not None}


def _unequal(data: str, split: str, part: Part) -> DataError:
    """Return the error for different numbers of inputs and targets; its fix says which of them seems transposed."""
    fix = "Pass one target for each input."
    for values, others, what in ((in_memory(part.inputs), part.targets, "inputs"), (part.targets, part.inputs, "targets")):
        if isinstance(values, Tensor) and values.ndim == 2 and values.shape[1] == len(others):
            fix = f"Transpose the {what}: they have shape {tuple(values.shape)}, and an example is a row."
    return DataError(f"{data}: {split} has {counted(len(part.inputs), 'input')} but {counted(len(part.targets), 'target')}.", fix)


def _swapped(part: Part) -> bool:
    """Whether inputs look like labels, and targets like inputs."""
    inputs, targets = in_memory(part.inputs), part.targets
    if inputs is None or not isinstance(targets, Tensor) or inputs[0].numel() > 1 or targets.ndim < 2:
        return False
    is_label = not inputs.is_floating_point() and len(inputs.unique()) <= max(2, len(inputs) // 10)
    return is_label and targets.shape[1] > 1 and bool(((targets != 0) & (targets != 1)).any())
