"""Processes that do the tasks of a search, here or in others: whichever is free takes the next one that is open."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from epochal.errors import EpochalError, TrainingError
from epochal.search.job import Job, share_of
from epochal.search.plan import Plan, Task

# Seconds between two looks whether others have finished what the next task needs.
_LOOK = 0.05

# A process that was asked to end writes a checkpoint first; after so many seconds it is ended.
_ENDING = 30.0

# Called with the share of a training that was made, and the task that this finished, if any.
Report = Callable[[float, Task | None], object]


def work(job: Job, plan: Plan, report: Report) -> None:
    """Do tasks until all of the plan are done, whether here or by others that share the folder."""
    while tasks := job.store.open_tasks(plan):
        if not any(_taken(job, plan, task, report) for task in tasks):
            time.sleep(_LOOK)


def _taken(job: Job, plan: Plan, task: Task, report: Report) -> bool:
    """Do a task, unless another process does it, or has done it meanwhile; return whether it was done here."""
    with job.store.claim(task) as is_mine:
        if not is_mine or task not in job.store.open_tasks(plan):
            return False
        done = 0.0

        def advance(share: float) -> None:
            nonlocal done
            done += share
            report(share, None)

        job.do(task, advance)
        report(max(0.0, share_of(task) - done), task)
        return True


def work_by(count: int, job: Job, plan: Plan, report: Report) -> None:
    """Do the tasks of the plan by so many other processes; `report` is called with what they do.

    Raises the error of the first that fails, once the others have ended; on an interruption they write checkpoints.
    """
    said: queue.Queue[tuple[subprocess.Popen[str], dict[str, Any] | None]] = queue.Queue()
    asked = json.dumps({"job": job.to_json(), "trials": plan.trials, "seeds": plan.seeds})
    processes = [_started(asked, said) for _ in range(count)]
    running = {*processes}
    try:
        while running:
            process, message = said.get()
            if message is None:
                running.discard(process)
                if process.wait():
                    raise TrainingError(
                        f"A process of the search ended with code {process.returncode}.",
                        "If memory was short, use fewer --workers; the same command goes on where it was.",
                    )
            elif "error" in message:
                raise EpochalError(*message["error"])
            else:
                task = message["task"]
                report(message["share"], None if task is None else Task(*task))
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(_ENDING)
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                with suppress(BrokenPipeError):
                    pipe.close()


def _started(asked: str, said: queue.Queue[Any]) -> subprocess.Popen[str]:
    """Start a process; a thread puts what it says into the queue, and `None` at its end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "epochal.search.work"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    assert process.stdin is not None
    process.stdin.write(asked + "\n")
    process.stdin.flush()

    def listen() -> None:
        assert process.stdout is not None
        with suppress(ValueError):
            for line in process.stdout:
                said.put((process, json.loads(line)))
        said.put((process, None))

    threading.Thread(target=listen, daemon=True).start()
    return process


def _main() -> None:
    """Work as another process asks on standard input, which also says when that one has ended."""
    # Whoever is asked to end by Ctrl-C is the other process, which then ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asked = json.loads(sys.stdin.readline())
    out, sys.stdout = sys.stdout, sys.stderr

    def end_with_parent() -> None:
        sys.stdin.read()
        os.kill(os.getpid(), signal.SIGTERM)

    def say(**message: Any) -> None:
        print(json.dumps(message), file=out, flush=True)

    def report(share: float, task: Task | None) -> None:
        say(share=share, task=None if task is None else (task.trial, task.rung, task.seed))

    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        work(Job.from_json(asked["job"]), Plan(asked["trials"], tuple(asked["seeds"])), report)
    except EpochalError as error:
        say(error=(error.problem, error.fix))


if __name__ == "__main__":
    _main()
