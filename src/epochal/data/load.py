"""From what the user named to checked examples with a description: `load`, and the `Data` that it returns."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import torch
from torch import Tensor

from epochal.cores import sharing_cores
from epochal.data.examples import Examples, Found, Lazy, Part, address
from epochal.data.exclude import Exclusion, as_exclusion
from epochal.data.inputs.picture.read import colour_of
from epochal.data.sources import find
from epochal.data.sources.objects import find_objects
from epochal.data.spec import MAX_NUMBERS, SPLITS, DataSpec, PictureRule, ResizeMode, described
from epochal.data.split import split_off
from epochal.data.standard import Form, apart, form_of, measure, to_form, type_name
from epochal.errors import DataError, RecipeError, UnreadableError
from epochal.random import key, seeded
from epochal.shown import Rows, Shown, few
from epochal.tasks.base import Task, TaskName
from epochal.tasks.targets import encode
from epochal.user_code import concise

_VARYING = (
    "the examples of {} are cut off from a dataset that gives other values at every reading, so what scores are measured on changes "
    'too; for clean scores pass a dataset without random changes for them: {{"train": ..., "valid": ..., "test": ...}}'
)

# The edges of so many pictures tell which colour they have.
_EDGES = 64


@dataclass(frozen=True, repr=False)
class Data(Shown):
    """Labelled examples in up to three splits, checked and described.

    `valid` and `test` are `None` until the data bring them or `split` cuts them off. `task` says what the targets mean, and names
    the outputs. `notes` are choices made in reading that the user should hear about. `excluded` names the examples that were left out.
    `described` is what was measured on these data before, once they are split, where they are read again.
    """

    name: str
    task: Task
    fingerprint: str
    train: Examples
    valid: Examples | None = None
    test: Examples | None = None
    picture: PictureRule | None = None
    notes: tuple[str, ...] = ()
    batch_size: int | None = None
    excluded: tuple[str, ...] = ()
    described: DataSpec | None = None

    def _title(self) -> str:
        with seeded(key("measure")):
            first = self.train.input(0)
        counts = {name: len(examples) for name, examples in self.splits.items()}
        dtype = str(first.dtype).removeprefix("torch.")
        return described(self.name, first.shape, dtype, self.task, counts)

    def _rows(self) -> Rows:
        return (("task", self.task.name), ("outputs", few(self.outputs)), *(("note", note) for note in self.notes))

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the classes, labels or quantities."""
        return self.task.outputs

    @property
    def splits(self) -> dict[str, Examples]:
        """The splits that there are, by name."""
        found = {"train": self.train, "valid": self.valid, "test": self.test}
        return {name: examples for name, examples in found.items() if examples is not None}

    @property
    def unmeasured(self) -> tuple[str, ...]:
        """The excluded names that would be measured on: those in the folder of the test split, where there is one."""
        if self.test is None or self.test.files is None:
            return self.excluded
        folders = {
            name: {above for file in part.files or () for above in PurePosixPath(file).parents} for name, part in self.splits.items()
        }
        only = folders["test"] - folders["train"] - folders.get("valid", set())
        return tuple(name for name in self.excluded if not only.isdisjoint(PurePosixPath(name).parents))

    @concise
    def split(self, valid: float = 0.1, test: float = 0.2, seed: int = 0) -> Data:
        """Return the data with the missing splits cut off from `train` by `seed`; splits that are there stay as they are.

        `valid` and `test` are fractions of `train` as the source brought it; 0 goes without. Classes keep their proportions.
        """
        train, brought = self.train, len(self.train)
        found = {"test": self.test, "valid": self.valid}
        cuts = {name: fraction for name, fraction in (("test", test), ("valid", valid)) if found[name] is None and fraction > 0}
        if sum(cuts.values()) >= 1:
            told = " and ".join(f"data.{name} = {fraction}" for name, fraction in cuts.items())
            raise DataError(f"{told} leave nothing to train on.", "Use smaller fractions.")
        for name, fraction in cuts.items():
            train, found[name] = split_off(train, fraction, seed, name, brought=brought)
        notes = self.notes
        if cuts and train.varies:
            notes += (_VARYING.format(" and ".join(name for name in SPLITS if name in cuts)),)
        return replace(self, train=train, valid=found["valid"], test=found["test"], notes=notes)

    @cached_property
    def spec(self) -> DataSpec:
        """The description of these data that models are built from, measured on `train` as it now is, if it was not before."""
        if self.described is not None:
            return self.described
        with seeded(key("measure")):
            first = self.train.input(0)
            input_mean, input_std = measure(self.train.inputs)
            ground = _ground(self.train)
        return DataSpec(
            name=self.name,
            task=self.task.learn({name: examples.targets for name, examples in self.splits.items()}),
            shape=tuple(first.shape),
            dtype=type_name(first.dtype),
            mean=tuple(input_mean.reshape(-1).tolist()),
            # A channel or feature that never changes is only shifted.
            std=tuple(input_std.where(input_std > 0, 1.0).reshape(-1).tolist()),
            counts={name: len(examples) for name, examples in self.splits.items()},
            picture=self.picture,
            ground=ground,
            fingerprint=self.fingerprint,
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
    unreadable: Literal["stop", "count"] = "stop",
) -> Data:
    """Read and check data.

    `what` is a name (`epochal datasets` lists them); a path of a picture folder, an .npz, .npy or .safetensors file; or in
    Python (x, y) as tensors or arrays, a map-style `Dataset`, a `DataLoader`, or a mapping {"train": ..., "valid": ..., "test": ...}
    of these. `data_dir` (or the variable EPOCHAL_DATA) is where named data are looked
    for, and downloaded to. `task` is told from the targets unless given.
    `size` (pixels, or (height, width)) and `fit` say how picture files become inputs. `memory` is how many GB examples may take
    before they are streamed from the disk; by default, half of what is free. `like` is the description of the data that
    a model was trained on, when these are for that model: pictures are then read as those were, and classes keep their numbers.
    `exclude` is the file of a list of examples to leave out, as `epochal check` writes it, or a list of their names; left out picture
    files are not read at all. Where picture files cannot be read, that is an error; or, where `unreadable` says "count", they are left
    out, told in a note, and named among `Data.excluded`.

    Numbers [n] become [n, 1]; grey pictures [n, h, w] of uint8 become [n, 1, h, w]; channels come first. Inputs become uint8, int64 or
    float32, or stay float64 where float32 would not tell them apart; all splits must be of one type.
    Raises `DataError` saying what is wrong, where, and what to do.
    """
    if isinstance(what, Data):
        return what
    allowed, exclusion = None if memory is None else memory * 1e9, as_exclusion(exclude)
    if isinstance(what, str | Path):
        place = data_dir or os.environ.get("EPOCHAL_DATA")
        read = partial(find, what, data_dir=Path(place) if place else None, size=size, fit=fit, memory=allowed, like=like)
        found, exclusion = _read(read, exclusion, unreadable)
    else:
        found = find_objects(what, memory=allowed, like=like)
    if exclusion.names and found.parts["train"].files is None:
        found = _without(found, exclusion)
    _check_memory(found, allowed)
    with seeded(key("load")):
        return _assemble(found, task, like, tuple(exclusion.names))


def _read(read: Callable[..., Found], exclusion: Exclusion, unreadable: Literal["stop", "count"]) -> tuple[Found, Exclusion]:
    """Read picture files but those of the `exclusion`; where unreadable files only count, without these, and return what was left out."""
    try:
        return read(exclusion=exclusion), exclusion
    except UnreadableError as error:
        if unreadable == "stop":
            raise
        lost = dict.fromkeys(error.names, "unreadable")
        exclusion = Exclusion({**exclusion.names, **lost}, 'unreadable = "count"')
        found = read(exclusion=exclusion)
        return replace(found, notes=(f"left out: {error.problem}", *found.notes)), exclusion


def _without(found: Found, exclusion: Exclusion) -> Found:
    """Leave out examples that have no files, by their places."""
    exclusion.check((address(name, index) for name, part in found.parts.items() for index in range(len(part.inputs))), found.name)
    parts = {name: part.without(exclusion.names, name) for name, part in found.parts.items()}
    for name, part in parts.items():
        exclusion.spared(len(part.inputs), name)
    return replace(found, parts=parts)


def _check_memory(found: Found, allowed: float | None) -> None:
    """Refuse examples that only memory can hold, and that take more of it than is `allowed` (bytes)."""
    taken = sum(part.inputs.nbytes for part in found.parts.values() if isinstance(part.inputs, Tensor))
    if allowed is not None and taken > allowed:
        raise RecipeError(
            f"The setting data.memory = {allowed / 1e9:g} does not work with {found.name}: its examples take {taken / 1e9:.3g} GB.",
            "Only folders of pictures and a Dataset can be streamed; allow more, or leave it out.",
        )


def _assemble(found: Found, task: TaskName | None, like: DataSpec | None, excluded: tuple[str, ...] = ()) -> Data:
    """Check what a source found, and encode its targets."""
    notes = list(found.notes)
    for name, part in found.parts.items():
        if len(part.inputs) != len(part.targets):
            raise _unequal(found.name, name, part)
        if not len(part.inputs):
            raise DataError(f"{found.name}: {name} is empty.", "Bring examples, or leave the split out.")
    if _swapped(found.parts["train"]):
        notes.append("each input is one of a few whole numbers, each target a row: if they are swapped, pass (inputs, targets)")
    if like is None and found.picture is not None:
        form, asked = Form(found.picture.shape, torch.uint8), "those of train"  # Of files it is known where the channels are.
    elif like is None:
        form, asked = form_of(found.parts["train"], "train", notes), "those of train"
    else:
        form, asked = Form(like.shape, getattr(torch, like.dtype)), "those of the model"
    if prod(form.shape) > MAX_NUMBERS:
        raise DataError(f"{found.name}: inputs of shape {form.shape} have more than {MAX_NUMBERS:,} numbers.", "Make them smaller.")
    inputs = {name: to_form(part, name, form, asked) for name, part in found.parts.items()}
    if like is not None:
        scales = {name: apart(values, like.std) for name, values in inputs.items()}
        notes += [f"inputs of {name} {told} than those that the model was trained on" for name, told in scales.items() if told]
    if like is None and (told := _blank(inputs["train"])):
        fix = "16-bit pictures keep their high byte: if that loses everything, rescale them to 0-65535, or save them with 8 bits"
        if found.picture is not None:
            raise DataError(f"{found.name}: {told}.", f"{fix}.")
        notes.append(f"{told}; {fix}")  # A program may try things out with zeros.
    targets = {name: part.targets for name, part in found.parts.items()}
    encoded = encode(
        targets, found.classes, task, lambda name, index: found.parts[name].where(name, index), None if like is None else like.task
    )
    splits = {
        name: Examples(
            inputs[name],
            encoded.targets[name],
            name,
            torch.arange(len(part.inputs)) if part.positions is None else part.positions,
            part.files,
            part.hashes,
            part.varies,
        )
        for name, part in found.parts.items()
    }
    return Data(
        name=found.name,
        task=encoded.task,
        fingerprint=_fingerprint(splits, {name: part.digest for name, part in found.parts.items()}, encoded.task.outputs),
        picture=found.picture or _rule_of(splits["train"].input(0)),
        notes=(*dict.fromkeys((*notes, *encoded.notes)),),
        batch_size=found.batch_size,
        excluded=excluded,
        train=splits["train"],
        valid=splits.get("valid"),
        test=splits.get("test"),
    )


def _unequal(data: str, split: str, part: Part) -> DataError:
    """Say that there are not as many inputs as targets, and whether one of the two lies on its side."""
    fix = "They must be as many."
    for values, others, what in ((part.inputs, part.targets, "inputs"), (part.targets, part.inputs, "targets")):
        if isinstance(values, Tensor) and values.ndim == 2 and values.shape[1] == len(others):
            fix = f"Transpose the {what}: they have shape {tuple(values.shape)}, and an example is a row."
    return DataError(f"{data}: {split} has {len(part.inputs)} inputs but {len(part.targets)} targets.", fix)


def _swapped(part: Part) -> bool:
    """Whether inputs look like labels, and targets like inputs."""
    inputs, targets = part.inputs, part.targets
    if not isinstance(inputs, Tensor) or not isinstance(targets, Tensor) or inputs[0].numel() > 1 or targets.ndim < 2:
        return False
    is_label = not inputs.is_floating_point() and len(inputs.unique()) <= max(2, len(inputs) // 10)
    return is_label and targets.shape[1] > 1 and bool(((targets != 0) & (targets != 1)).any())


def _blank(inputs: Tensor | Lazy) -> str:
    """Say what is wrong with pictures in which there is nothing to see. The first in which there is something ends the search."""
    first = inputs[0]
    pixel = first.flatten()[0]
    is_picture = first.dtype == torch.uint8 and first.ndim == 3
    if not (is_picture and all(bool((inputs[place] == pixel).all()) for place in range(len(inputs)))):
        return ""
    return f"all training pictures are the same, every pixel of them is {int(pixel)}"


def _ground(examples: Examples) -> tuple[int, ...]:
    """Return the colour that most of some pictures have at their edges; none where there is no such colour, or it is black."""
    first = examples.input(0)
    is_slow = examples.files is None and not isinstance(examples.inputs, Tensor)  # Who knows what a Dataset does for an example.
    if is_slow or first.ndim != 3 or first.dtype != torch.uint8:
        return ()
    some = torch.stack([examples.input(place) for place in range(0, len(examples), -(-len(examples) // _EDGES))])
    edges = torch.cat((some[..., [0, -1], :].flatten(2), some[..., [0, -1]].flatten(2)), 2)
    colour = colour_of(edges.movedim(1, -1).flatten(0, 1).numpy())
    return colour if any(colour) else ()


def _rule_of(first: Tensor) -> PictureRule | None:
    """The rule by which picture files become inputs like `first`, where they can."""
    if first.ndim != 3 or first.dtype != torch.uint8 or first.shape[0] not in (1, 3):
        return None
    return PictureRule(mode="L" if first.shape[0] == 1 else "RGB", size=(first.shape[1], first.shape[2]), fit="pad", ground="border")


def _fingerprint(splits: Mapping[str, Examples], digests: Mapping[str, bytes | None], outputs: tuple[str, ...]) -> str:
    """SHA-256 over the names, inputs and targets of all splits.

    Instead of inputs that were made from files count their `digests`; of others that are read one by one, nothing does.
    """
    digest = hashlib.sha256(repr(outputs).encode())
    for name in SPLITS:
        if name not in splits:
            continue
        examples, made_from = splits[name], digests[name]
        digest.update(f"{name} {len(examples)}".encode())
        digest.update(examples.targets.numpy().tobytes())
        if made_from is not None:
            digest.update(made_from)
        elif isinstance(examples.inputs, Tensor):
            digest.update(f"{tuple(examples.inputs.shape)} {examples.inputs.dtype}".encode())
            digest.update(examples.inputs.contiguous().numpy().data)
    return digest.hexdigest()
