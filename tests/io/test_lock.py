"""One process at a time writes to a folder; the lock of one that died is free."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

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


@pytest.mark.parametrize(("ends", "is_in_time"), [(0.2, True), (6.9, True), (7.1, False)])
def test_a_process_that_ends_is_waited_for(ends: float, *, is_in_time: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    descriptor, clock = os.open(tmp_path, os.O_RDONLY), [0.0]
    fcntl.flock(descriptor, fcntl.LOCK_EX)

    def sleep(seconds: float) -> None:
        if clock[0] < ends <= clock[0] + seconds:
            os.close(descriptor)
        clock[0] += seconds

    # A clock of its own: any other one may stand still, or run ahead, at any moment.
    monkeypatch.setattr(lock, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=sleep))
    if is_in_time:
        with exclusive_lock(tmp_path):
            assert ends <= clock[0] < ends + 0.1
    else:
        with pytest.raises(OutputError, match="Another process is writing to"), exclusive_lock(tmp_path):
            pass
        os.close(descriptor)


def test_a_disk_without_locks_is_written_to_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unable(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unable)
    with exclusive_lock(tmp_path):
        assert os.listdir(tmp_path) == []
