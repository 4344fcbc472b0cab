"""A large table: seconds and memory to read it, and how fast the default settings learn from it.

python3 benchmarks/tables.py              writes benchmarks/results/tables.*
python3 benchmarks/tables.py --quick      few rows; writes nothing

Linux only: it reads /proc. The table is of its own making: 14 numbers, 5 categories of up to 1,000 values, gaps, and a class that depends
on seven of them and on chance.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.environment import enter
from benchmarks.program import count, parser, run_json
from benchmarks.report import publish, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The batches of small tables, beside those that are chosen.
_SMALL = 256
_KEYS = ("torch", "started", "trained", "read", "batch_size", "rows", "train", "columns", "epochs")


def make(path: Path, rows: int) -> None:
    """Write a table with a header."""
    import numpy as np

    random = np.random.default_rng(0)
    effects = random.normal(size=(3, 1000))
    with path.open("w", encoding="utf-8") as file:
        file.write(",".join([*(f"n{place}" for place in range(14)), *(f"k{place}" for place in range(5)), "y"]) + "\n")
        for begin in range(0, rows, 10_000):
            size = min(10_000, rows - begin)
            numbers, kinds = random.normal(size=(14, size)), random.integers(0, 1000, (2, 5, size)).min(0)
            score = np.sin(2 * numbers[0]) * numbers[1] + np.abs(numbers[2]) * effects[0][kinds[0]] + np.where(numbers[6] > 1, 1.5, 0)
            score += 0.7 * effects[1][kinds[1]] + 0.5 * effects[2][kinds[2]] * np.sign(numbers[3])
            is_high = random.random(size) < 1 / (1 + np.exp(-1.2 * score))
            columns = [[f"{value:.4f}" for value in column] for column in numbers.tolist()]
            columns += [[f"w{value}" for value in column] for column in kinds.tolist()]
            for column, gaps in zip(columns, random.random((19, size)) < 0.03, strict=True):
                for place in np.flatnonzero(gaps).tolist():
                    column[place] = ""
            columns.append(["yes" if high else "no" for high in is_high.tolist()])
            file.writelines(",".join(row) + "\n" for row in zip(*columns, strict=True))


def main() -> int:
    """Measure, print and write; return 1 where something did not run."""
    made = parser(__doc__, "tables")
    made.add_argument("--rows", type=count, default=1_000_000, help="[%(default)s]")
    made.add_argument("--epochs", type=count, default=4, help="over them [%(default)s]")
    options = made.parse_args()
    if sys.platform != "linux":
        made.error("memory is measured on Linux only")
    enter("benchmarks.tables")
    if options.quick:
        options.rows, options.epochs = 20_000, 1
    records = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "table.csv"
        make(file, options.rows)
        for more in ([], ["--batch-size", str(_SMALL)]):
            arguments = [str(file), "--target", "y", "--epochs", str(options.epochs), *more]
            # The second run finds in the cache what the first has read.
            cache = {"EPOCHAL_CACHE": str(Path(folder) / "cache")}
            records.append(run_json([sys.executable, "-m", "benchmarks.table_run", *arguments], _KEYS, **cache))
            print(records[-1].get("error") or _brief(records[-1]), flush=True)
    if failed := [record["error"] for record in records if "error" in record]:
        print(*failed, sep="\n")
        return 1
    publish(options, "A large table", report_text(records), {"records": records}, figure(records))
    return 0


def _size(record: dict[str, Any]) -> float:
    """Return the bytes of the inputs: a float32 for each value."""
    return float(4 * record["rows"] * record["columns"])


def _speed(record: dict[str, Any]) -> float:
    """Return rows per second of the processor, in training and validating."""
    return float(record["train"] * len(record["epochs"]) / record["epochs"][-1][1])


def _brief(record: dict[str, Any]) -> str:
    losses = ", ".join(f"{loss:.4f} after {busy:.0f} s" for _, busy, loss in record["epochs"])
    peaks = " and ".join(f"{(record[name] - record['torch']) / _size(record):.2f}" for name in ("started", "trained"))
    begin = f"batches of {record['batch_size']}: read in {record['read'][1]:.1f} s"
    return f"{begin}, {peaks} × the inputs; {_speed(record):,.0f} rows/s; {losses}"


def report_text(records: Sequence[dict[str, Any]]) -> str:
    """Return the page of results in Markdown."""
    first = records[0]
    reading = [
        [
            name,
            f"{record['read'][0]:.1f}",
            f"{record['read'][1]:.1f}",
            *(f"{(record[key] - record['torch']) / _size(record):.2f} ×" for key in ("started", "trained")),
        ]
        for name, record in zip(("from the file", "again, from the cache"), records, strict=False)
    ]
    epochs = [
        [f"{record['batch_size']:,}", str(number), f"{seconds:.1f}", f"{busy:.1f}", f"{loss:.4f}"]
        for record in records
        for number, (seconds, busy, loss) in enumerate(record["epochs"], 1)
    ]
    speeds = [[f"{record['batch_size']:,}", f"{_speed(record):,.0f}"] for record in records]
    return (
        f"{first['rows']:,} rows and {first['columns']} columns: {_size(first) / 1e6:,.0f} MB of inputs. Busy are seconds of the "
        "processor, in all threads.\n\n"
        "Everything before training: imports, reading, splitting, measuring, and the model. Memory is the most that the process has "
        "held by then, beyond what it had held when PyTorch was imported, as a multiple of the inputs.\n\n"
        + table(["read", "seconds", "busy", "memory until training", "memory until its end"], reading)
        + "\nTraining with default settings, and with the batches of small tables:\n\n"
        + table(["batch", "epoch", "seconds", "busy", "validation loss"], epochs)
        + "\n"
        + table(["batch", "rows per busy second"], speeds)
    )


def figure(records: Sequence[dict[str, Any]]) -> Figure:
    """Return the validation loss over time."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(6, 3.6), layout="constrained")
    axes = made.subplots()
    for record in records:
        _, busy, losses = zip(*record["epochs"], strict=True)
        axes.plot(busy, losses, marker="o", label=f"batches of {record['batch_size']:,}")
    axes.set(title=f"A table of {records[0]['rows']:,} rows", xlabel="seconds of the processor", ylabel="validation loss")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend()
    return made


if __name__ == "__main__":
    sys.exit(main())
