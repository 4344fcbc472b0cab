"""A FILE is a table in UTF-8, .csv (with commas) or .tsv, with all columns that the model takes. Dates are as 2024-02-29, or with 12:30."""

import csv
from bisect import bisect
from datetime import UTC, datetime
from itertools import chain

import numpy as np


def read(path: str, rule: dict):
    """Yield the line of each row, and its values: numbers less an offset, codes of words (0: unknown), NaN where they are missing."""
    columns, mark = rule["columns"], "\t" if path.lower().endswith(".tsv") else ","
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file, delimiter=mark, skipinitialspace=mark == ",", strict=True)
        first = [cell.strip() for cell in next(rows)]
        names = first if rule["has_header"] else [str(place) for place in range(len(first))]
        if lacking := [column["name"] for column in columns if names.count(column["name"]) != 1]:
            raise ValueError(f"there is no column, or there are several, named {', '.join(lacking)}")
        for row in filter(None, rows if rule["has_header"] else chain([first], rows)):
            if len(row) != len(names):
                raise ValueError(f"line {rows.line_num}: the number of values is {len(row)}, and of columns {len(names)}")
            found = [value(row[names.index(column["name"])].strip(), column) for column in columns]
            yield f"{path}:{rows.line_num}", np.array(found, np.float32)


def value(word: str, column: dict) -> float:
    """Return what a cell says as the model takes it."""
    if word in {"", "?", "NA", "N/A", "n/a", "#N/A", "nan", "NaN", "NAN", "null", "NULL", "None", "<NA>", "NaT"}:
        return np.nan
    if column["kind"] == "category":
        place = bisect(column["words"], word)
        return place if place and column["words"][place - 1] == word else 0
    if column["kind"] == "date":
        date = datetime.fromisoformat(word)
        return date.replace(tzinfo=date.tzinfo or UTC).timestamp() / 86_400 - column["offset"]
    if "_" in word or not abs(float(word)) < 3e38:
        raise ValueError(f"'{word}' is not a number")
    return float(word) - column["offset"]
