"""Which rows of a table are in which split, and which belong together, by two of its columns."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from epochal.data.inputs.table.values import Table, find_column, names_of, read_table, title_of
from epochal.data.options import ReadOptions
from epochal.data.sources.labels import complete_words
from epochal.data.sources.splits import split_name
from epochal.data.spec import SPLITS, DataSpec, Listing
from epochal.errors import DataError, RecipeError
from epochal.tasks.words import Words

# A column of this name says which split a row is in, if its values do.
_SPLIT = "split"


@dataclass(frozen=True)
class Rows:
    """The rows of each split (int64 [n]), or `None` if no column says; and the group of each row, if there are groups.

    `split` and `group` are the names of the columns, which are not learned from.
    """

    splits: Mapping[str, NDArray[np.int64]] | None = None
    groups: Words | None = None
    split: str = ""
    group: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that say this."""
        return tuple(name for name in (self.split, self.group) if name)

    @property
    def listing(self) -> Listing:
        """What of this is kept with a model."""
        return Listing(split=self.split, group=self.group)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know."""
        return (f"split by the column {self.split}",) if self.split else ()

    def of(self, table: Table) -> dict[str, Table]:
        """Return the table by split."""
        return {"train": table} if self.splits is None else {split: table.take(places) for split, places in self.splits.items()}

    def groups_of(self, split: str) -> Words | None:
        """Return the groups of the rows of a split."""
        if self.splits is None or self.groups is None:
            return self.groups
        return self.groups.take(self.splits[split])


def read_rows(what: Any, options: ReadOptions, taken: Collection[str], others: Iterable[str] = (), *, header: bool | None = None) -> Rows:
    """Read the columns of a table that say which split each row is in, and what belongs together.

    `taken` are columns that mean something else, and `others` the splits that other tables have; `header` is as for `read_table`.
    Raises `DataError` for a row that does not say.
    """
    names, asked, like = names_of(what, header), options.table, options.like
    split = find_column(asked.split, names, what) if asked.split else ""
    group = _group(options, names, what)
    if not split:
        likely = (like.listing.split if like is not None else "") or _SPLIT
        free = [name for name in names if name not in {*taken, *asked.ignore, *asked.kinds, group}]
        split = next((name for name in free if name.lower() == likely.lower()), "")
    for name, meaning in ((split, "says the splits"), (group, "is the group")):
        if name and (name in taken or name in asked.kinds or split == group):
            raise RecipeError(f"The column {name} {meaning}, and cannot be something else too.", "Choose another.")
    if not (split or group):
        return Rows()
    table = read_table(what, words={split, group}, skip={*names} - {split, group}, header=header)
    splits = _splits(table, split, options) if split else None
    for name in others:
        if splits is not None and name in splits:
            raise RecipeError(f"There are two sources of {name}: the column {split}, and a table.", f"Give one of them: --ignore {split}")
    return Rows(splits, read_groups(table, group), "" if splits is None else split, group)


def read_groups(what: Any, group: str, *, header: bool | None = None) -> Words | None:
    """Return the group of each row of a table; `None` if it has no such column. Raises `DataError` for a row without one."""
    if not group or group not in (what.columns if isinstance(what, Table) else names_of(what, header)):
        return None
    skip = () if isinstance(what, Table) else {*names_of(what, header)} - {group}
    table = what if isinstance(what, Table) else read_table(what, words={group}, skip=skip, header=header)
    return complete_words(table, group, f"the group {group}", "Fill it in: a row that belongs to no other needs a group of its own.")


def grouped_by(like: DataSpec | None) -> tuple[str, ...]:
    """Return the column by which the data of a training were grouped, if there was one."""
    return () if like is None or not like.listing.group else (like.listing.group,)


def _group(options: ReadOptions, names: Collection[str], what: Any) -> str:
    """Return the column of groups; "" without one, also if the groups are found in the names of files."""
    group, has_files = options.group or "", options.table.file is not None
    if not group or (has_files and group not in names and "(" in group):
        return ""
    return find_column(group, tuple(names), what)


def _splits(table: Table, column: str, options: ReadOptions) -> dict[str, NDArray[np.int64]] | None:
    """Return the rows of each split by the words in a column; `None` if it was not asked for and has other words."""
    values = table.columns[column].as_words()
    meant = [split_name(word) for word in values.words]
    if not options.table.split and not any(found is not None and found.is_sure for found in meant):
        return None
    assert values.codes is not None
    wrong = [place for place, found in enumerate(meant) if found is None or not found.is_sure]
    bad = np.flatnonzero(values.missing | np.isin(values.codes, wrong))
    if len(bad):
        code = int(values.codes[bad[0]])
        what = "is missing" if code < 0 else f"is '{values.words[code][:60]}', not train, valid or test"
        raise DataError(
            f"{table.where(int(bad[0]))}: the column {column} {what}.", f"Fix it; or if that column is something else: --ignore {column}"
        )
    places = np.array([SPLITS.index(found.split) for found in meant if found is not None])[values.codes]
    splits = {split: np.flatnonzero(places == number) for number, split in enumerate(SPLITS) if (places == number).any()}
    if "train" not in splits and options.like is not None:
        return {"train": splits.get("test", splits.get("valid", np.zeros(0, np.int64)))}
    if "train" not in splits:
        raise DataError(f"{title_of(table.name)}: the column {column} has no row of train.", "Write train for those to learn from.")
    return splits
