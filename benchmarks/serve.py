"""Measure the server: added latency, throughput beside offline prediction, a plain FastAPI endpoint and LitServe, and overload.

    python3 benchmarks/serve.py                 writes benchmarks/results/serve.*
    python3 benchmarks/serve.py --minutes 10    four times as many requests as can be answered, for ten minutes
    python3 benchmarks/serve.py --quick         a second of each, to see that all runs; writes nothing

Requests come from a second process on this machine at a rate that does not depend on the answers; their time begins when they were due.
Two models: "photos" is EfficientNet-Lite0 on JPEG files of 500 × 375 pixels, "digits" a small network on PNG files of 28 × 28.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.request import urlopen

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.environment import enter, variables
from benchmarks.program import parser, run_json
from benchmarks.report import Spread, bars, publish, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WAYS = {"epochal": "epochal serve", "onnx": "epochal serve --runtime onnx", "litserve": "LitServe", "fastapi": "FastAPI, plain"}
KEYS = ("sent", "statuses", "goodput", "p50", "p99", "refused_p50", "refused_p99", "health_p50", "health_most")

# A rate is sustained if so large a share is answered, and 99 % of these within so many times the time without load, or so many ms.
ANSWERED, WITHIN, LEAST = 0.99, 4.0, 50.0

# So many pictures in one request, for the rate of bulk.
BULK = 64


class Workload(NamedTuple):
    """A model, and what is sent to it, in files: one picture as it is and in JSON, and a form of many."""

    name: str
    run: Path
    body: Path
    medium: str
    text: Path
    form: Path

    def sent(self, way: str) -> tuple[Path, str]:
        """Return the body for a server, and its type."""
        return (self.text, "application/json") if way == "litserve" else (self.body, self.medium)


def make(name: str, place: Path, *, quick: bool) -> Workload:
    """Train a model for some seconds, and write what is sent to it."""
    import epochal
    import numpy as np
    from PIL import Image

    chance = np.random.default_rng(0)
    is_photo = name == "photos"
    size, form, medium = ((375, 500, 3), "JPEG", "image/jpeg") if is_photo else ((28, 28), "PNG", "image/png")
    files = []
    for number in range(32):
        # Blocks of noise compress as photographs do.
        small = chance.integers(0, 255, (size[0] // 4 + 1, size[1] // 4 + 1, *size[2:]), np.uint8)
        picture = Image.fromarray(small).resize((size[1], size[0]))
        file = place / name / "ab"[number % 2] / f"{number}.{form.lower()}"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture.save(file)
        files.append(file.read_bytes())
    run = place / f"run-{name}"
    model = "efficientnet-lite0" if is_photo and not quick else "conv"
    more = {} if is_photo and not quick else {"size": 28}
    epochal.train(place / name, model=model, epochs=1, out=run, watchers=(), **more)
    body, text, many = (place / f"{name}.{kind}" for kind in ("body", "text", "form"))
    body.write_bytes(files[0])
    text.write_text(json.dumps({"picture": base64.b64encode(files[0]).decode()}), "utf-8")
    part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    many.write_bytes(b"".join(part + files[place % 32] + b"\r\n" for place in range(BULK)) + b"--x--")
    return Workload(name, run, body, medium, text, many)


def offline(work: Workload, threads: int, seconds: float) -> dict[str, float]:
    """Return pictures per second by `epochal.Predictor`: from files in memory as they are sent, and from decoded inputs."""
    import torch
    from epochal.predictor import Predictor
    from PIL import Image

    torch.set_num_threads(threads)
    predictor = Predictor(work.run, runtime="eager")
    content = work.body.read_bytes()
    decoded = torch.cat([predictor.bundle.inputs(Image.open(io.BytesIO(content)))] * BULK)

    def per_second(inputs: Any) -> float:
        predictor(decoded[:8])
        done, begin = 0, time.perf_counter()
        while time.perf_counter() - begin < seconds:
            done += len(predictor(inputs()))
        return done / (time.perf_counter() - begin)

    one = per_second(lambda: predictor.bundle.inputs(Image.open(io.BytesIO(content))))
    files = per_second(lambda: torch.cat([predictor.bundle.inputs(Image.open(io.BytesIO(content))) for _ in range(BULK)]))
    return {"one": one, "files": files, "decoded": per_second(lambda: decoded)}


@contextmanager
def serving(way: str, work: Workload, threads: int) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Start a server, and yield its port and process once it answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    run, own = str(work.run), way in ("epochal", "onnx")
    command = [sys.executable, "-m", *(("epochal", "serve", run, "--port") if own else (f"benchmarks.serve_{way}", run)), str(port)]
    command += ["--threads", str(threads), "--runtime", "onnx" if way == "onnx" else "eager"] if own else [str(threads)]
    process = subprocess.Popen(command, env=variables(), stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        for _ in range(600):
            if process.poll() is not None:
                raise RuntimeError(f"{way} ended with code {process.returncode}")
            with suppress(OSError), urlopen(f"http://127.0.0.1:{port}/healthz", timeout=60):
                break
            time.sleep(0.1)
        load(port, 10, 3, *work.sent(way))
        yield port, process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def load(port: int, rate: float, seconds: float, body: Path, medium: str) -> dict[str, Any]:
    """Send requests at a rate from another process."""
    command = [sys.executable, "-m", "benchmarks.serve_load", str(port), "--rate", str(rate), "--seconds", str(seconds)]
    return run_json([*command, "--body", str(body), "--type", medium], KEYS)


def capacity(port: int, sent: tuple[Path, str], first: float, seconds: float) -> dict[str, Any]:
    """Return what is measured at the highest rate that the server sustains, to 5 %, and without load."""
    idle = load(port, max(1.0, first / 20), seconds, *sent)
    limit = max(LEAST, WITHIN * idle.get("p50", 0.0))
    low, high, best, rate = 0.0, 0.0, idle, first
    while not high or high / max(low, 1e-9) > 1.05:
        found = load(port, rate, seconds, *sent)
        is_sustained = "error" not in found and found["statuses"].get("200", 0) >= ANSWERED * found["sent"] and found["p99"] <= limit
        if is_sustained:
            low, best = rate, found
        else:
            high = rate
        if high and high < first / 64:
            break
        rate = (low + high) / 2 if low and high else rate * 2 if low else rate / 2
    return {"idle": idle, "rate": low, "limit": limit, "at": best}


def bulk(port: int, work: Workload, expected: float, seconds: float) -> float:
    """Return pictures per second in requests of many: the best of a few rates around what is expected."""
    rates = (0.8, 0.9, 1.0, 1.1)
    medium = "multipart/form-data; boundary=x"
    found = [load(port, max(0.5, share * expected / BULK), max(seconds, 4 * BULK / expected), work.form, medium) for share in rates]
    return BULK * max((one["goodput"] for one in found if "error" not in one), default=0.0)


def overload(port: int, process: subprocess.Popen[bytes], work: Workload, rate: float, minutes: float) -> dict[str, Any]:
    """Send four times as many requests as are sustained, and then few; returns both, and the memory before and after."""
    before = memory(process.pid)
    found = load(port, 4 * rate, 60 * minutes, work.body, work.medium)
    after_memory = memory(process.pid)
    time.sleep(2)
    after = load(port, max(1.0, rate / 20), 5 * min(1.0, minutes), work.body, work.medium)
    return {"load": found, "after": after, "memory": [before, after_memory]}


def memory(pid: int) -> float:
    """Return the resident memory of a process, in MB; 0 where that is not known."""
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1e3
    return 0.0


def measure(options: argparse.Namespace, place: Path, records: list[dict[str, Any]]) -> None:
    """Measure everything, adding to `records`."""
    seconds = 1.0 if options.quick else 10.0
    for name in ("digits", "photos"):
        work = make(name, place, quick=options.quick)
        rates = offline(work, options.threads, seconds)
        print(f"{name}: offline {rates['files']:,.0f} pictures/s", flush=True)
        for way in WAYS:
            record = {"work": name, "way": way, "offline": rates}
            records.append(record)
            try:
                with serving(way, work, options.threads) as (port, process):
                    record |= capacity(port, work.sent(way), rates["files"] / 4, seconds)
                    if way in ("epochal", "onnx"):
                        record["bulk"] = bulk(port, work, rates["decoded"], seconds)
                    if way == "epochal":
                        record["overload"] = overload(port, process, work, record["rate"], 0.05 if options.quick else options.minutes)
            except RuntimeError as error:
                record["error"] = str(error)
            print(f"  {WAYS[way]}: {record.get('rate', 0):,.0f} requests/s {record.get('error', '')}", flush=True)


def tables(records: Sequence[dict[str, Any]]) -> str:
    """Return all tables."""
    done = [record for record in records if "rate" in record]
    text = "Requests per second that are answered, 99 % of them within four times the time without load (at least 50 ms):\n\n"
    rows = [
        [
            f"{record['work']}, {WAYS[record['way']]}",
            f"{record['rate']:,.0f}",
            f"{record['at']['p99']:,.1f}",
            f"{record['idle']['p50']:,.1f}",
            f"{1000 / record['offline']['one']:,.1f}",
        ]
        for record in done
    ]
    text += table(["model, server", "requests/s", "p99, ms", "p50 without load, ms", "decoding and model alone, ms"], rows)
    text += f"\nPictures per second in requests of {BULK}:\n\n"
    rows = [
        [
            f"{record['work']}, {WAYS[record['way']]}",
            f"{record['bulk']:,.0f}",
            *(f"{record['offline'][key]:,.0f}" for key in ("files", "decoded")),
        ]
        for record in done
        if "bulk" in record
    ]
    text += table(["model, server", "served", "offline, files", "offline, decoded"], rows)
    text += "\nFour times as many requests as are sustained:\n\n"
    rows = [_overloaded(record) for record in done if "error" not in record.get("overload", {"load": {"error": ""}})["load"]]
    header = [
        "model",
        "answered/s",
        "of the sustained",
        "p99 of them, ms",
        "refused after, ms (p50, p99)",
        "/healthz, ms (p50, most)",
        "memory, MB",
    ]
    return text + table([*header, "p99 two seconds later, ms"], rows)


def _overloaded(record: dict[str, Any]) -> list[str]:
    found, (before, after) = record["overload"]["load"], record["overload"]["memory"]
    return [
        record["work"],
        f"{found['goodput']:,.0f}",
        f"{100 * found['goodput'] / record['rate']:.0f} %" if record["rate"] else "–",
        f"{found['p99']:,.1f}",
        f"{found['refused_p50']:,.1f}, {found['refused_p99']:,.1f}",
        f"{found['health_p50']:,.1f}, {found['health_most']:,.1f}",
        f"{before:,.0f} → {after:,.0f}",
        f"{record['overload']['after'].get('p99', 0):,.1f}",
    ]


def figure(records: Sequence[dict[str, Any]]) -> Figure:
    """Draw the rates that are sustained."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(8, 3), layout="constrained")
    for axes, name in zip(made.subplots(1, 2), ("digits", "photos"), strict=True):
        mine = [record for record in records if record["work"] == name and "rate" in record]
        spreads = [Spread.of([record["rate"]]) for record in mine]
        names = [WAYS[record["way"]] for record in mine]
        bars(
            axes,
            f"{name}: requests/s",
            names,
            spreads,
            [f"{spread.median:,.0f}" for spread in spreads],
            [n.startswith("epochal") for n in names],
        )
    return made


def main() -> int:
    """Measure, print and write; return 1 where a server did not run."""
    made = parser(__doc__, "serve")
    made.add_argument("--minutes", type=float, default=1.0, help="of overload [%(default)s]")
    made.add_argument("--threads", type=int, default=max(1, (os.cpu_count() or 2) - 1), help="of each model [%(default)s]")
    options = made.parse_args()
    enter("benchmarks.serve")
    records: list[dict[str, Any]] = []
    place = Path(tempfile.mkdtemp())
    try:
        with suppress(KeyboardInterrupt):  # What was measured until then is reported.
            measure(options, place, records)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    publish(options, "Serving", tables(records), {"records": records}, figure(records))
    bad = [f"{record['way']}: {record['error']}" for record in records if "error" in record]
    if bad:
        print("\n".join(["These did not run:", *bad]), file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
