"""Several processes that train together, as forks of one that has imported everything: what a launcher would start."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

# PyTorch imports it where several processes train, which takes them longer than all the rest: the forks have it already.
import torch._dynamo  # noqa: F401
from torch.distributed import TCPStore  # type: ignore[attr-defined]

# Processes that take more seconds hang.
LONGEST = 400


class Processes:
    """Forks of this process, number 0 to `size` - 1, each of which runs `work` and says what it prints in `folder`/said-RANK.txt."""

    def __init__(self, folder: Path, size: int, work: Callable[[int], object], launch: str = "none") -> None:
        self.folder = folder
        self.began = time.monotonic()
        for rank in range(size):
            self.said(rank).unlink(missing_ok=True)
        self.environment = {"WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1"}
        self.environment |= {"TORCHELASTIC_RUN_ID": launch, "TORCHELASTIC_USE_AGENT_STORE": "True"}
        self.port, port = os.pipe()
        self.pids = [self._fork(rank, work) for rank in range(size)]
        # As torchrun does, so that no process is needed by the others to end. The store has a thread: a fork after its start may
        # inherit locks that nobody lets go of, so the forks wait to be told its port.
        self.store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        os.write(port, f"{self.store.port:5}".encode() * size)
        os.close(port)
        os.close(self.port)

    def _fork(self, rank: int, work: Callable[[int], object]) -> int:
        process = os.fork()
        if process:
            return process
        signal.alarm(LONGEST)
        os.chdir(self.folder)
        os.environ.update(self.environment, RANK=str(rank), LOCAL_RANK=str(rank), MASTER_PORT=os.read(self.port, 5).decode().strip())
        os.close(self.port)
        log = os.open(self.said(rank), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        code = 70
        try:
            work(rank)
            code = 0
        except SystemExit as error:
            code = int(error.code or 0)
        except KeyboardInterrupt:
            code = 130
        except BaseException:  # noqa: BLE001  the test will see it
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
            os._exit(code)

    def said(self, rank: int) -> Path:
        """Return the file with what a process printed."""
        return self.folder / f"said-{rank}.txt"

    def wait(self) -> list[dict[str, Any]]:
        """Return of each its exit code (negative: the signal), the seconds until it ended, and what it said."""
        left, ended = dict(enumerate(self.pids)), {}
        while left:
            pid, status = os.wait()
            rank = next(rank for rank, one in left.items() if one == pid)
            del left[rank]
            ended[rank] = {"code": os.waitstatus_to_exitcode(status), "seconds": time.monotonic() - self.began}
        # It has a thread, which a later fork would not have: to let go of it there would end that fork.
        del self.store
        return [ended[rank] | {"said": self.said(rank).read_text()} for rank in sorted(ended)]


def run_command(arguments: list[str]) -> Callable[[int], object]:
    """Return the work of running the command."""

    def work(_: int) -> None:
        from epochal.cli.main import main

        sys.argv[1:] = arguments
        main()

    return work


def write(value: Any, file: str) -> None:
    """Let the test have a value."""
    Path(file).write_text(json.dumps(value))
