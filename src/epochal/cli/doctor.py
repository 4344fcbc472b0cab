"""epochal doctor"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

import click

from epochal.cli.options import as_json
from epochal.cli.output import say, say_json
from epochal.language import translated


@click.command()
@as_json
def command(as_json: bool) -> None:
    """Show what this machine has, what is slow or broken here, and which extras are missing, each with the command that installs it.

    It takes a few seconds, since it imports PyTorch, watches the cores and tries the disk of the cache. Ends with exit code 1 if something
    is broken.
    """
    from epochal.doctor import examine

    found = examine()
    for line in _machine(found.machine):
        say(line)
    for problem in found.broken:
        say(f"broken: {problem.what}\n  {problem.fix}")
    for problem in found.slow:
        say(f"slow: {problem.what}\n  {problem.fix}")
    width = max(len(extra.name) for extra in found.extras)
    for extra in found.extras:
        state = f"missing: {extra.install}" if extra.missing else "installed"
        say(f"{translated('extra')} {extra.name:<{width}}  ({translated(extra.purpose)})  {translated(state)}")
    if not found.broken and not found.slow:
        say("Nothing is broken, and nothing makes training slow.")
    if as_json:
        say_json(found.to_json())
    sys.exit(1 if found.broken else 0)


def _machine(machine: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each part of the machine."""
    yield f"system: {machine['system']}, Python {machine['python']}, Epochal {machine['epochal']}"
    if torch := machine["torch"]:
        cores, used, left = machine["cores"], machine["cores_used_by_others"], machine["memory_free"]
        free = [] if used is None else [f"{max(cores - used, 0):.1f} of them idle"]
        yield "; ".join([f"processor: {machine['processor']}", _count(cores, "core"), *free])
        if machine["memory"] is not None:
            yield "; ".join([f"memory: {_size(machine['memory'])}", *_free(left)])
        for gpu in machine["gpus"]:
            yield "; ".join([f"GPU: {gpu['name']}", *([] if gpu["memory"] is None else [_size(gpu["memory"])])])
        if not machine["gpus"]:
            yield "GPU: none"
        seconds = f"imported in {torch['import_seconds']:.1f} s"
        yield "; ".join([f"PyTorch: {torch['version']}", f"build {torch['build']}", _count(torch["threads"], "thread"), seconds])
    cache = machine["cache"]
    rate = [] if cache["bytes_per_second"] is None else [f"written at {cache['bytes_per_second'] / 1e6:,.0f} MB/s"]
    yield "; ".join([f"cache: {cache['folder']}", *_free(cache["free"]), *rate])


def _free(size: int | None) -> list[str]:
    return [] if size is None else [f"{_size(size)} free"]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _size(number: float) -> str:
    return f"{number / 1e9:.1f} GB"
