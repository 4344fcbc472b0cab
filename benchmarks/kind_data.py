"""Tables, texts and sounds that `kinds.py` measures on, as training and test files of one form.

Each is split by `number`: where there is a test file, that is used every time; otherwise a shuffled fold of five is held out, so that five
numbers hold out each row once.
"""

from __future__ import annotations

import csv
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pandas import DataFrame  # type: ignore[import-untyped]

FOLDS = 5
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
TARGET, TEXT = "label", "text"


@dataclass(frozen=True)
class Table:
    """Rows with the column `target`; `quantity` says whether that is one. `test` is the file of test rows, if there is one.

    With `apart`, rows that are equal but for the target lie in the same fold.
    """

    file: str
    target: str
    quantity: bool = False
    test: str = ""
    separator: str = ","
    header: bool = True
    apart: bool = False


@dataclass(frozen=True)
class Texts:
    """How to read texts with labels; `test` is the file of test texts, if there is one. With `signs`, there are no blanks between words."""

    read: Callable[[Path], DataFrame]
    file: str
    test: str = ""
    signs: bool = False


@dataclass(frozen=True)
class Sounds:
    """Spoken digits: the given split, or one that leaves a speaker out of training."""

    without: str = ""


def _tabbed(file: Path) -> DataFrame:
    from pandas import read_csv

    return read_csv(file, sep="\t", header=None, names=[TEXT, TARGET], quoting=csv.QUOTE_NONE, dtype=str, keep_default_na=False)


def _reviews(file: Path) -> DataFrame:
    from pandas import read_csv

    return read_csv(file, dtype=str, keep_default_na=False).rename(columns={"review": TEXT})


def _news(file: Path) -> DataFrame:
    from pandas import DataFrame, read_csv

    rows = read_csv(file, header=None, dtype=str, keep_default_na=False)
    return DataFrame({TARGET: rows[0], TEXT: rows[1] + " " + rows[2]})


TABLES = {
    "adult": Table("tables/adult-train.csv", "income", test="tables/adult-test.csv"),
    "wine": Table("tables/winequality-white.csv", "quality", separator=";"),
    "wine, copies apart": Table("tables/winequality-white.csv", "quality", separator=";", apart=True),
    "abalone": Table("tables/abalone.csv", "rings", quantity=True),
    "german": Table("tables/german.csv", "20", header=False),
    "autos": Table("tables/autos.csv", "price", quantity=True),
}
TEXTS = {
    "SST-2": Texts(_tabbed, "text/sst2/train.tsv", "text/sst2/test.tsv"),
    "THUCNews": Texts(_tabbed, "text/thucnews/dev.txt", "text/thucnews/test.txt", signs=True),
    "waimai": Texts(_reviews, "text/waimai_10k.csv", signs=True),
    "AG News": Texts(_news, "text/ag_news-test.csv"),
}
SOUNDS = {"digits": Sounds(), **{f"digits without {name}": Sounds(name) for name in SPEAKERS}}
ALL: dict[str, Table | Texts | Sounds] = {**TABLES, **TEXTS, **SOUNDS}


def write_files(data: Table | Texts, folder: Path, number: int, place: Path, labels: int | None = None) -> tuple[Path, Path]:
    """Write the rows of a split below `place`; return the files of training and test rows, with a header and commas.

    With `labels`, only so many rows of each class, drawn by `number`, are for training.
    """
    train, test = split(data, folder, number)
    if labels is not None:
        train = train.groupby(data.target if isinstance(data, Table) else TARGET).sample(labels, random_state=number)
    files = place / "train.csv", place / "test.csv"
    for rows, file in zip((train, test), files, strict=True):
        rows.to_csv(file, index=False)
    return files


def split(data: Table | Texts, folder: Path, number: int) -> tuple[DataFrame, DataFrame]:
    """Return training and test rows, all values as they are written."""
    rows = _rows(data, folder / data.file)
    if data.test:
        return rows, _rows(data, folder / data.test)
    from sklearn.model_selection import KFold, StratifiedGroupKFold, StratifiedKFold

    target = rows[data.target if isinstance(data, Table) else TARGET]
    how = {"n_splits": FOLDS, "shuffle": True, "random_state": number // FOLDS}
    if isinstance(data, Table) and data.quantity:
        folds = KFold(**how).split(rows)
    elif isinstance(data, Table) and data.apart:
        inputs = rows.drop(columns=data.target)
        folds = StratifiedGroupKFold(**how).split(rows, target, inputs.groupby(list(inputs)).ngroup())
    else:
        folds = StratifiedKFold(**how).split(rows, target)
    train, test = list(folds)[number % FOLDS]
    return rows.iloc[train], rows.iloc[test]


def _rows(data: Table | Texts, file: Path) -> DataFrame:
    if isinstance(data, Texts):
        return data.read(file)
    from pandas import read_csv

    header = "infer" if data.header else None
    rows = read_csv(file, sep=data.separator, header=header, dtype=str, keep_default_na=False, skipinitialspace=True)
    rows.columns = rows.columns.map(str)
    # The labels of adult's test file end in a full stop.
    rows[data.target] = rows[data.target].str.removesuffix(".")
    return rows


def write_sounds(data: Sounds, folder: Path, place: Path) -> Path:
    """Unpack spoken digits below `place`, split as asked; return the folder."""
    with tarfile.open(folder / "audio/fsdd.tar.xz") as archive:
        archive.extractall(place, filter="data")
    root = place / "fsdd"
    if data.without:
        for file in list(root.glob("*/*/*.wav")):
            part = "test" if file.name.startswith(f"{data.without}_") else "train"
            wanted = root / part / file.parent.name / file.name
            if wanted != file:
                shutil.move(file, wanted)
    return root
