"""How to add a command: a module in `cli/` with a function `command`, and a line in `VERBS`."""

from __future__ import annotations

import sys
from types import ModuleType

import click
import pytest

from epochal.cli import main
from epochal.cli.output import say


# 1. A module whose `command` parses and prints. It imports what is heavy when it is called, and leaves errors to `main`.
@click.command()
@click.argument("data", default="digits")
def command(data: str) -> None:
    """Count the classes of DATA."""
    from epochal.data.load import load

    say(f"{len(load(data).outputs)} classes")


# 2. A line that --help shows.
@pytest.fixture(autouse=True)
def _in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("epochal.cli.classes")
    module.command = command  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(main.VERBS, "classes", "Count the classes of data.")


def _call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int | str | None:
    monkeypatch.setattr(sys, "argv", ["epochal", *arguments])
    with pytest.raises(SystemExit) as exit_:
        main.main()
    return exit_.value.code


def test_it_is_called_and_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert not _call(monkeypatch, "classes")
    assert capsys.readouterr().out == "10 classes\n"
    assert not _call(monkeypatch, "--help")
    assert "Count the classes of data." in capsys.readouterr().out


def test_its_errors_are_one_message(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert _call(monkeypatch, "classes", "digit") == 1
    reported = capsys.readouterr().err
    assert reported.startswith("error: There is no file or folder 'digit'")
    assert "Traceback" not in reported
