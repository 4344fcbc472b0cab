"""Starting the command in several processes on this machine, by what torchrun itself is made of."""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import sys
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path

from epochal.errors import RecipeError, TrainingError
from epochal.shown import counted

# If processes are lost, all are started again so many times; a run then goes on from its last checkpoint.
RESTARTS = 3

# In the environment of the processes: the file for the exit code of the command.
CODE_FILE = "EPOCHAL_CODE_FILE"

# Codes with which the command ends on purpose: starting it again would end the same.
_ON_PURPOSE = (0, 1, 2, 128 + signal.SIGINT, 128 + signal.SIGTERM)


def launch(processes: int, arguments: Sequence[str]) -> int:
    """Run the command with these arguments in so many processes, and return its exit code.

    Raises `TrainingError` if processes were lost again and again.
    """
    # Its warnings, and a traceback of its own, would be around every message of ours; its loggers have levels of their own.
    elastic = logging.getLogger("torch.distributed.elastic")
    elastic.addHandler(logging.NullHandler())
    elastic.propagate = False
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    if processes > (cores := os.cpu_count() or 1) * 8:
        raise RecipeError(
            f"{processes} processes are too many for {counted(cores, 'core')}.", "Use about one for each core, or for each GPU."
        )
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "code"
        os.environ[CODE_FILE] = str(file)
        # All together have as many threads as there are cores.
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // processes)))
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            max_restarts=RESTARTS,
        )
        try:
            elastic_launch(config, sys.executable)("-m", "epochal", *arguments)
        except SignalException as error:
            return 128 + int(error.sigval)
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            ended = f"signal {-failure.exitcode}" if failure.exitcode < 0 else f"code {failure.exitcode}"
            raise TrainingError(
                f"Process {rank} of {processes} ended with {ended}, the last time after {RESTARTS} new starts.",
                "See its message above; epochal resume continues from the last checkpoint.",
            ) from error
        return int(file.read_text()) if file.exists() else 0


def exit_code(code: int) -> int:
    """Return the code with which this process has to end if the command ends with `code`: who launched it shall not start it again."""
    if (file := os.environ.get(CODE_FILE)) is None or code not in _ON_PURPOSE:
        return code
    if os.environ.get("RANK") == "0":
        Path(file).write_text(str(code))
    return 0


def is_first_to_say(words: str) -> bool:
    """Whether no other process of `launch` has said this since they were started: errors that all of them meet are said once."""
    if (file := os.environ.get(CODE_FILE)) is None:
        return True
    name = hashlib.sha256(f"{os.environ.get('TORCHELASTIC_RESTART_COUNT')} {words}".encode()).hexdigest()
    try:
        Path(file).with_name(name).touch(exist_ok=False)
    except FileExistsError:
        return False
    except OSError:
        # Rather twice than not at all.
        return True
    return True
