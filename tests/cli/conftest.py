"""The command, called in the process of the tests."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from epochal.cli.main import main

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    """Call the command in this process, from the folder `tmp_path`; return its exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EPOCHAL_DATA", raising=False)

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["epochal", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
        captured = capsys.readouterr()
        assert isinstance(exit_.value.code, int | None)
        return exit_.value.code or 0, captured.out, captured.err

    return run
