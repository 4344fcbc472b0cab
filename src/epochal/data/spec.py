"""What the rest of Epochal knows about data: one frozen description that is passed on and saved with every model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, NonNegativeInt, SerializeAsAny

from epochal.data.inputs.base import InputRule
from epochal.data.inputs.kinds import KINDS
from epochal.tasks import TASKS
from epochal.tasks.base import Task

SPLITS = ("train", "valid", "test")


def _by_tag(tag: str, kinds: Mapping[str, type[BaseModel]]) -> BeforeValidator:
    """Validate a mapping as the class that its `tag` names."""

    def read(value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        name = value.get(tag)
        if not isinstance(name, str) or name not in kinds:
            raise ValueError(f"the {tag} {name!r} is not one of {', '.join(kinds)}")
        return kinds[name].model_validate(value)

    return BeforeValidator(read)


AnyRule = Annotated[SerializeAsAny[InputRule], _by_tag("kind", KINDS)]


class Listing(BaseModel):
    """How the examples of a training were listed and split.

    Of a table, `file` is the column with the names of pictures or sounds, and `target` are those that were predicted from them; with
    `joins`, labels that differ only by blanks, case or a full stop are one. `split` is the column that says which split a row is in.
    `group` is the column, or the pattern in file names, by which examples belong together (those of a person, for example) and stay in
    one split; `groups` is how many there are in each.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str = ""
    target: tuple[str, ...] = ()
    joins: bool = False
    split: str = ""
    group: str = ""
    groups: dict[str, NonNegativeInt] = Field(default_factory=dict)


NO_LISTING = Listing()


class DataSpec(BaseModel):
    """A description of data, from which no example can be recovered.

    `input` is the rule by which inputs are read, with statistics of the training inputs. `task` says what the targets mean, and names
    the outputs of a model: the classes, the labels or the predicted quantities. `counts` is the number of examples in each split.
    `fingerprint` is a SHA-256 of all inputs and targets. `listing` says which columns of a table they came from, and what
    stays together.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    input: AnyRule
    task: Annotated[SerializeAsAny[Task], _by_tag("name", TASKS)]
    counts: dict[str, NonNegativeInt]
    fingerprint: str
    listing: Listing = NO_LISTING

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input without the batch: (channels, height, width) for pictures, (features,) for numbers."""
        return self.input.shape

    @property
    def features(self) -> tuple[int, ...]:
        """One input without the batch as networks take it, after the rule's own layer."""
        return self.input.features

    @property
    def dtype(self) -> str:
        """The name of the PyTorch dtype of inputs."""
        return self.input.dtype

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of a model's outputs: the classes, the labels or the predicted quantities."""
        return self.task.outputs

    def describe(self) -> str:
        """Return a description in one line."""
        return described(self.name, self.input, self.task, self.counts)

    def __repr__(self) -> str:
        return f"DataSpec({self.describe()})"

    __str__ = __repr__


def described(name: str, rule: InputRule, task: Task, counts: Mapping[str, int]) -> str:
    """Return a description of data in one line."""
    sides, splits = "×".join(map(str, rule.shape)), ", ".join(f"{count:,} {split}" for split, count in counts.items())
    return f"{name}: {sides} {rule.dtype}, {len(task.outputs)} {task.noun}; {splits}"
