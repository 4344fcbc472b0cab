"""Measure memory: of training on MNIST in several ways, and of a folder of pictures larger than the memory that is allowed.

python3 benchmarks/memory.py --data-dir FOLDER     writes benchmarks/results/memory.*
python3 benchmarks/memory.py --quick               few pictures; writes nothing

Linux only: it reads /proc. The pictures are of its own making.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.environment import enter, variables
from benchmarks.pictures import make_pictures
from benchmarks.program import count, data_option, parser
from benchmarks.report import Spread, publish, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_INTERVAL = 0.05
_MIB = 1 << 20


def watch(command: Sequence[str], **more: str) -> dict[str, Any]:
    """Run a program, with `more` environment variables, and return its memory, or {"error": why it failed}.

    `peak_mib` is the most resident memory of any one of its processes, as the kernel counts it. `seconds` and `mib` are a curve: what all
    its processes hold together, where a page that several share counts once.
    """
    seconds, mib = [], []
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        # Linux hands getrusage's maximum on to a new program: this process must stay smaller than those it starts.
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, env={**variables(), **more})
        started = time.perf_counter()
        while True:
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
            if ended:
                break
            held = sum(held_by(pid) for pid in family(process.pid))
            if held:
                seconds.append(round(time.perf_counter() - started, 2))
                mib.append(round(held / _MIB, 1))
            time.sleep(_INTERVAL)
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        lines = errors.read().strip().splitlines()
    if process.returncode:
        return {"error": lines[-1] if lines else f"ended with code {process.returncode}"}
    return {"peak_mib": round(usage.ru_maxrss / 1024, 1), "seconds": seconds, "mib": mib}


def family(pid: int) -> Iterator[int]:
    """Yield the process and all that came from it."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            born = [int(word) for word in children.read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue  # The thread has ended since.
        for child in born:
            yield from family(child)


def held_by(pid: int) -> int:
    """Return the bytes of memory that a process holds; of a page shared by n processes the n-th part."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0  # It has ended since.
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def programs(data_dir: Path, place: Path) -> dict[str, list[str]]:
    """Return the commands that train on MNIST, and the least that any of them can hold."""
    train = [sys.executable, "-m", "epochal", "train", "mnist", "--data-dir", str(data_dir), "--epochs", "1", "--device", "cpu"]
    arguments = ["--data-dir", str(data_dir), "--epochs", "1", "--batch-size", "64"]
    return {
        "import torch": [sys.executable, "-c", "import torch"],
        "PyTorch: TensorDataset, DataLoader (MLP)": [sys.executable, "-m", "benchmarks.contestants.plain", *arguments],
        "the tutorial's program (MLP)": [sys.executable, "-m", "benchmarks.contestants.tutorial", *arguments],
        "epochal train mnist --recipe tutorial-mlp": [*train, "--recipe", "tutorial-mlp", "--out", str(place / "mlp")],
        "epochal train mnist": [*train, "--out", str(place / "default")],
    }


def streaming(pictures: Path, size: float, epochs: int, place: Path) -> dict[str, dict[str, Any]]:
    """Train on a folder whose pixels take `size` GB, with half of that allowed and with twice that; each reads the files again."""
    found = {}
    for name, allowed in (("streamed: half of it allowed", size / 2), ("in memory: twice that allowed", 2 * size)):
        out = place / name.partition(":")[0]
        settings = ["--memory", f"{allowed:.6f}", "--model", "mlp", "--epochs", str(epochs), "--batch-size", "256", "--device", "cpu"]
        command = [sys.executable, "-m", "epochal", "train", str(pictures), *settings, "--out", str(out / "run")]
        record = found[name] = watch(command, EPOCHAL_CACHE=str(out / "cache"))
        if "error" not in record:
            phases = json.loads((out / "run" / "result.json").read_text("utf-8"))["seconds"]
            record["training"] = training(record["seconds"][-1], phases)
        print(f"{name}: {_brief(found[name])}", flush=True)
    return found


def training(ended: float, phases: Mapping[str, float]) -> tuple[float, float]:
    """Return the seconds at which training began and ended in a process that `ended`, from the seconds that `epochal train` reports."""
    end = ended - (phases["total"] - phases["load"] - phases["build"] - phases["train"])
    return end - phases["train"], end


def _in_training(record: dict[str, Any]) -> list[tuple[float, float]]:
    """Return the part of a record's curve that is training, as (second, MiB)."""
    begin, end = record["training"]
    return [(second, mib) for second, mib in zip(record["seconds"], record["mib"], strict=True) if begin <= second <= end]


def main() -> int:
    """Measure, print and write; return 1 where something did not run."""
    made = parser(__doc__, "memory")
    data_option(made)
    made.add_argument("--count", type=count, default=60_000, help="how many pictures to make [%(default)s]")
    made.add_argument("--side", type=count, default=64, help="their height and width in pixels [%(default)s]")
    made.add_argument("--epochs", type=count, default=5, help="over the pictures [%(default)s]")
    options = made.parse_args()
    if sys.platform != "linux":
        made.error("memory is measured on Linux only")
    enter("benchmarks.memory")
    if options.quick:
        options.count, options.epochs = 1_000, 1
    size = 3 * options.side**2 * options.count / 1e9
    trained: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for name, command in programs(options.data_dir, place).items():
            trained[name] = watch(command, EPOCHAL_CACHE=str(place / "cache"))
            print(f"{name}: {_brief(trained[name])}", flush=True)
        make_pictures(place / "pictures", options.count, options.side)
        streamed = streaming(place / "pictures", size, options.epochs, place)
    pictures = (
        f"{options.count:,} pictures of {options.side}×{options.side}, {1e9 * size / _MIB:,.0f} MiB of pixels; epochs: {options.epochs}"
    )
    content = {"mnist": trained, "pictures": streamed, "pictures_gb": size}
    publish(options, "Memory", report_text(trained, streamed, pictures), content, figure(trained, streamed, 1e9 * size / _MIB))
    return 1 if any("error" in record for record in (trained | streamed).values()) else 0


def _brief(record: dict[str, Any]) -> str:
    return record.get("error") or f"{record['peak_mib']:,.0f} MiB at most, {record['seconds'][-1]:.1f} s"


def report_text(trained: dict[str, dict[str, Any]], streamed: dict[str, dict[str, Any]], pictures: str) -> str:
    """Return the page of results in Markdown."""
    rows = [[name, record.get("error") or f"{record['peak_mib']:,.0f} MiB"] for name, record in trained.items()]
    curves = []
    for name, record in streamed.items():
        if "error" in record:
            curves.append([name, f"did not run: {record['error']}", "", ""])
        else:
            late = Spread.of([mib for _, mib in _in_training(record)])
            curves.append([name, f"{record['peak_mib']:,.0f} MiB", f"{max(record['mib']):,.0f} MiB", f"{late:,.0f} MiB"])
    return (
        "The most resident memory of a whole process that trains on MNIST for one epoch.\n\n"
        + table(["program", "peak"], rows)
        + f"\n`epochal train FOLDER`: {pictures}.\n\n"
        + table(["memory", "peak of one process", "peak of all together", "while it trains: median (least–most)"], curves)
    )


def figure(trained: dict[str, dict[str, Any]], streamed: dict[str, dict[str, Any]], size: float) -> Figure:
    """Return the memory of each program over time; the pictures' pixels take `size` MiB."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(11, 3.8), layout="constrained")
    titles = ("Training on MNIST", f"A folder of pictures, {size:,.0f} MiB of pixels")
    for axes, title, records in zip(made.subplots(1, 2), titles, (trained, streamed), strict=True):
        for name, record in records.items():
            if "error" not in record:
                (line,) = axes.plot(record["seconds"], record["mib"], label=name)
                if "training" in record:
                    axes.plot(
                        *zip(*_in_training(record), strict=True), color=line.get_color(), linewidth=4, alpha=0.4, label="while it trains"
                    )
        axes.set(title=title, xlabel="seconds", ylabel="MiB, all processes together")
        axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.lines:
            axes.legend(fontsize=7)
    return made


if __name__ == "__main__":
    sys.exit(main())
