"""Measure the server: added latency, throughput beside offline prediction, a plain FastAPI endpoint and LitServe, and overload.

    python3 benchmarks/serve.py                                        writes benchmarks/results/serve.*
    python3 benchmarks/serve.py --parts photos-epochal digits-litserve these alone; what is in the results of others stays
    python3 benchmarks/serve.py --parts photos-onnx-overload --minutes 10  four times as many requests as are sustained, for ten minutes
    python3 benchmarks/serve.py --quick                                a second of each, to see that all runs; writes nothing

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
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.request import urlopen

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.environment import RESULTS, enter, variables
from benchmarks.program import parser, run_json
from benchmarks.report import Spread, bars, publish, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WAYS = {"epochal": "epochal serve, PyTorch", "onnx": "epochal serve, ONNX Runtime", "litserve": "LitServe", "fastapi": "FastAPI, plain"}
WORKS = ("digits", "photos")

# What can be measured alone. Four times as many requests of digits as are answered are more than a client can send from the same cores.
OVERLOADS = ("photos-epochal-overload", "photos-onnx-overload")
PARTS = (*(f"{work}-{part}" for work in WORKS for part in ("offline", *WAYS)), *OVERLOADS)

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
    """Return what `epochal.Predictor` does without a server: pictures per second, from files in memory as they are sent and from decoded
    inputs, in batches; and the milliseconds for one file now and then."""
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

    def alone() -> float:
        time.sleep(1 / idle_rate(work))  # As a server that has little to do: processors are slower after a pause.
        begin = time.perf_counter()
        predictor(predictor.bundle.inputs(Image.open(io.BytesIO(content))))
        return 1000 * (time.perf_counter() - begin)

    files = per_second(lambda: torch.cat([predictor.bundle.inputs(Image.open(io.BytesIO(content))) for _ in range(BULK)]))
    milliseconds = statistics.median(alone() for _ in range(max(1, int(seconds * idle_rate(work)))))
    return {"alone": milliseconds, "files": files, "decoded": per_second(lambda: decoded)}


def idle_rate(work: Workload) -> float:
    """Return how many requests per second are hardly any load."""
    return 5.0 if work.name == "photos" else 50.0


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


def capacity(port: int, work: Workload, way: str, first: float, seconds: float) -> dict[str, Any]:
    """Return what is measured at the highest rate that the server sustains, to 5 %, and without load."""
    sent = work.sent(way)
    idle = load(port, idle_rate(work), seconds, *sent)
    limit = max(LEAST, WITHIN * idle.get("p50", 0.0))
    low, high, best, rate = 0.0, 0.0, idle, first
    while not high or (high > first / 64 and high > 1.05 * low):
        found = load(port, rate, seconds, *sent)
        is_sustained = "error" not in found and found["statuses"].get("200", 0) >= ANSWERED * found["sent"] and found["p99"] <= limit
        print(f"    {rate:,.0f} requests/s: {'sustained' if is_sustained else 'too many'}, p99 {found.get('p99', 0):,.0f} ms", flush=True)
        if is_sustained:
            low, best = rate, found
        else:
            high = rate
            time.sleep(seconds)  # A server without limits first answers what nobody waits for any longer.
        rate = (low + high) / 2 if low and high else rate * 2 if low else rate / 2
    return {"idle": idle, "rate": low, "limit": limit, "at": best}


def bulk(port: int, work: Workload, expected: float, seconds: float) -> float:
    """Return pictures per second in requests of many: the best of a few rates around what is expected."""
    rates = (0.8, 0.9, 1.0, 1.1)
    medium = "multipart/form-data; boundary=x"
    found = [load(port, max(0.5, share * expected / BULK), max(seconds, 4 * BULK / expected), work.form, medium) for share in rates]
    return BULK * max((one["goodput"] for one in found if "error" not in one), default=0.0)


def overload(port: int, process: subprocess.Popen[bytes], work: Workload, rate: float, minutes: float) -> dict[str, Any]:
    """Send four times as many requests as are sustained, and then few; returns both, and the memory before and after.

    For some seconds before that it had as many: batches of all sizes take the memory that they need.
    """
    load(port, 4 * rate, 5 * min(1.0, minutes), work.body, work.medium)
    before = memory(process.pid)
    found = load(port, 4 * rate, 60 * minutes, work.body, work.medium)
    after_memory = memory(process.pid)
    time.sleep(2)
    after = load(port, idle_rate(work), 5 * min(1.0, minutes), work.body, work.medium)
    return {"load": found, "after": after, "memory": [before, after_memory]}


def memory(pid: int) -> float:
    """Return the resident memory of a process, in MB; 0 where that is not known."""
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1e3
    return 0.0


def measure(part: str, place: Path, records: Mapping[str, dict[str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    """Measure a part of all; some need what is in the `records` of others."""
    name, way, *is_overload = part.split("-")
    seconds = 1.0 if options.quick else options.seconds
    work = make(name, place / part, quick=options.quick)
    if way == "offline":
        return offline(work, options.threads, seconds)
    needed = f"{name}-{way if is_overload else 'offline'}"
    known = records.get(needed, {})
    if "error" in known or not known:
        return {"error": f"needs {needed}"}
    try:
        with serving(way, work, options.threads) as (port, process):
            if is_overload:
                minutes = 0.05 if options.quick else options.minutes
                return {"minutes": minutes, **overload(port, process, work, max(known["rate"], 1.0), minutes)}
            found = capacity(port, work, way, known["files"] / 32, seconds)
            return {**found, "bulk": bulk(port, work, known["decoded"], seconds)} if way in ("epochal", "onnx") else found
    except RuntimeError as error:
        return {"error": str(error)}


def tables(records: Mapping[str, dict[str, Any]]) -> str:
    """Return all tables."""
    done = [(*part.split("-"), record) for part, record in records.items() if "rate" in record]
    offlines = {work: records[f"{work}-offline"] for work, *_ in done}
    text = "Requests per second that are answered, 99 % of them within four times the time without load (at least 50 ms):\n\n"
    rows = [
        [
            f"{work}, {WAYS[way]}",
            f"{record['rate']:,.0f}",
            f"{record['at']['p99']:,.1f}",
            f"{record['idle']['p50']:,.1f}",
            f"{record['idle']['p50'] - offlines[work]['alone']:,.1f}",
        ]
        for work, way, record in done
    ]
    text += table(["model, server", "requests/s", "p99, ms", "p50 without load, ms", "of this, more than decoding and model, ms"], rows)
    text += f"\nPictures per second in requests of {BULK}:\n\n"
    rows = [
        [f"{work}, {WAYS[way]}", f"{record['bulk']:,.0f}", *(f"{offlines[work][key]:,.0f}" for key in ("files", "decoded"))]
        for work, way, record in done
        if "bulk" in record
    ]
    text += table(["model, server", "served", "offline, files", "offline, decoded"], rows)
    overloads = [part for part in OVERLOADS if "load" in records.get(part, {})]
    if not overloads:
        return text
    text += "\nFour times as many requests as are sustained:\n\n"
    header = [
        "model, server",
        "minutes",
        "answered/s",
        "of the sustained",
        "p99 of them, ms",
        "p99 without load, ms",
        "refused after, ms (p50, p99)",
    ]
    header += ["/healthz, ms (p50, most)", "memory, MB", "p99 two seconds later, ms"]
    return text + table(header, [_overloaded(part, records[part], records[part.removesuffix("-overload")]) for part in overloads])


def _overloaded(part: str, record: dict[str, Any], sustained: dict[str, Any]) -> list[str]:
    work, way, _ = part.split("-")
    found, (before, after) = record["load"], record["memory"]
    if "error" in found:
        return [f"{work}, {WAYS[way]}", f"{record['minutes']:g}", found["error"], *[""] * 7]
    return [
        f"{work}, {WAYS[way]}",
        f"{record['minutes']:g}",
        f"{found['goodput']:,.0f}",
        f"{100 * found['goodput'] / max(sustained['rate'], 1.0):.0f} %",
        f"{found['p99']:,.1f}",
        f"{sustained['idle']['p99']:,.1f}",
        f"{found['refused_p50']:,.1f}, {found['refused_p99']:,.1f}",
        f"{found['health_p50']:,.1f}, {found['health_most']:,.1f}",
        f"{before:,.0f} → {after:,.0f}",
        f"{record['after'].get('p99', 0):,.1f}",
    ]


def figure(records: Mapping[str, dict[str, Any]]) -> Figure:
    """Draw the rates that are sustained."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(8, 3), layout="constrained")
    for axes, name in zip(made.subplots(1, 2), WORKS, strict=True):
        mine = {words: records[f"{name}-{way}"] for way, words in WAYS.items() if "rate" in records.get(f"{name}-{way}", {})}
        spreads = [Spread.of([record["rate"]]) for record in mine.values()]
        names = list(mine)
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
    made.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=f"{', '.join(PARTS)} [all]")
    made.add_argument("--seconds", type=float, default=10.0, help="of each rate [%(default)s]")
    made.add_argument("--minutes", type=float, default=1.0, help="of overload [%(default)s]")
    made.add_argument("--threads", type=int, default=max(1, (os.cpu_count() or 2) - 1), help="of each model [%(default)s]")
    options = made.parse_args()
    enter("benchmarks.serve")
    file = RESULTS / f"{options.name}.json"
    records = json.loads(file.read_text("utf-8"))["parts"] if file.exists() and not options.quick else {}
    place = Path(tempfile.mkdtemp())
    try:
        with suppress(KeyboardInterrupt):
            for part in (part for part in PARTS if part in options.parts):
                print(part, flush=True)
                records[part] = measure(part, place, records, options)
                # What was measured so far is kept, whatever comes.
                records = {part: records[part] for part in PARTS if part in records}
                publish(options, "Serving", tables(records), {"parts": records}, figure(records))
    finally:
        shutil.rmtree(place, ignore_errors=True)
    bad = [f"{part}: {record['error']}" for part, record in records.items() if "error" in record]
    if bad:
        print("\n".join(["These did not run:", *bad]), file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
