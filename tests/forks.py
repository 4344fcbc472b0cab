"""The command, run in forks of a process that has imported everything: much cheaper than to start Python each time.

A test module that needs it has a function `fork`, and asks `forking.by(__name__)`: the `Server` then answers by that function.
"""

from __future__ import annotations

import copy
import gc
import importlib
import json
import mmap
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Self

from PIL import Image

from tests.quick import flush_nothing

# What a command says is in this file, in the folder where it runs.
SAID = "said.txt"

# A command that takes more seconds hangs.
LONGEST = 300


class Ended(NamedTuple):
    """How a command ended: its exit code (negative: the signal), the steps it made, its output, and what else the server reports."""

    code: int
    steps: int
    said: str
    more: float = 0.0


class Server:
    """A process that answers requests: a line of JSON each way."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.module = ""
        places = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(places)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.forks"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=folder
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate(timeout=60)

    def by(self, module: str) -> Self:
        """Return the same process, answering by the function `fork` of a module."""
        found = copy.copy(self)
        found.module = module
        return found

    def __call__(self, folder: Path, *arguments: str, **how: Any) -> Ended:
        """Run the command in `folder`; the module's function is called with all of that."""
        self.ask(folder=str(folder), arguments=arguments, **how)
        return Ended(*self.answer())

    def ask(self, **what: Any) -> None:
        """Send a request."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(what | {"by": self.module}) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        """Wait for what the server prints next."""
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())


class Fork:
    """A fork of this process that runs the command, after `prepare`; what that returns is called at the end, and returns a number.

    `prepare` can still print to the test.
    """

    def __init__(self, folder: Path, arguments: list[str], prepare: Callable[[], Callable[[], int] | None] = lambda: None) -> None:
        self._said = folder / SAID
        self._counts = memoryview(mmap.mmap(-1, 16)).cast("q")
        self.process = os.fork()
        if not self.process:
            self._run(folder, arguments, prepare)

    def _run(self, folder: Path, arguments: list[str], prepare: Callable[[], Callable[[], int] | None]) -> None:
        from epochal.cli.main import main

        signal.alarm(LONGEST)
        os.chdir(folder)
        reported = prepare()
        log = os.open(self._said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        self._count_steps()
        sys.argv[1:] = arguments
        code = 70
        try:
            try:
                main()
            except SystemExit as error:
                code = int(error.code or 0)
            except BaseException:  # noqa: BLE001  the test will see it
                traceback.print_exc()
        except (SystemExit, KeyboardInterrupt) as error:
            # A signal came when all was over.
            code = int(error.code or 0) if isinstance(error, SystemExit) else 130
        finally:
            if reported is not None:
                self._counts[1] = reported()
            sys.stdout.flush()
            # Without the second that PyTorch takes to tidy up.
            os._exit(code)

    def _count_steps(self) -> None:
        from epochal.training import loop

        real = loop.train_step

        def counted(*given: Any) -> None:
            real(*given)
            self._counts[0] += 1

        loop.train_step = counted  # type: ignore[assignment]

    def wait(self) -> Ended:
        """Wait for its end."""
        _, status = os.waitpid(self.process, 0)
        return Ended(os.waitstatus_to_exitcode(status), self._counts[0], self._said.read_text(), self._counts[1])


# Whatever takes time to import, the forks have already.
_IMPORTED = (
    "torch.profiler._cupti_monitor", "epochal.checks.check", "epochal.cli.check", "epochal.cli.evaluate", "epochal.cli.main",
    "epochal.cli.predict", "epochal.cli.resume", "epochal.cli.train", "epochal.distributed.watchdog", "epochal.figures",
    "epochal.predictor", "epochal.run.dry_run", "epochal.run.evaluate", "epochal.run.resume", "epochal.watch.console",
    "matplotlib.style.core", "numpy.ctypeslib", "rich.ansi", "rich.emoji", "rich.progress", "rich.table", "tomlkit",
)  # fmt: skip


def _serve() -> None:
    """Print what the modules' functions return for each request, until there are no more."""
    for module in _IMPORTED:
        importlib.import_module(module)
    Image.init()
    flush_nothing()
    for line in sys.stdin:
        asked = json.loads(line)
        answer = importlib.import_module(asked.pop("by")).fork
        # What is there stays: to look for garbage in it would be to write to all of it, and each fork would need memory of its own.
        gc.freeze()
        print(json.dumps(answer(Path(asked.pop("folder")), **asked)), flush=True)


if __name__ == "__main__":
    _serve()
