"""One process at a time writes to a folder; the lock of one that died is free."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from epochal.errors import OutputError
from epochal.io import lock
from epochal.io.lock import exclusive_lock


def test_only_one_process_has_a_folder_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "ENDING_SECONDS", 0.0)
    with exclusive_lock(tmp_path):
        code = "import pathlib, sys; from epochal.io import lock; lock.ENDING_SECONDS = 0\n"
        code += "with lock.exclusive_lock(pathlib.Path(sys.argv[1])): print('in')"
        command = [sys.executable, "-c", code, str(tmp_path)]
        other = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "OutputError: Another process is writing to" in other.stderr
        # Within one process too, and it is free again afterwards.
        with pytest.raises(OutputError, match="Another process is writing to"), exclusive_lock(tmp_path):
            pass
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "in\n"


def test_a_process_that_ends_is_waited_for(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    ending = threading.Timer(0.2, os.close, [descriptor])
    ending.start()
    with exclusive_lock(tmp_path):
        assert ending.finished.is_set()


def test_a_disk_without_locks_is_written_to_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unable(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unable)
    with exclusive_lock(tmp_path):
        assert os.listdir(tmp_path) == []
