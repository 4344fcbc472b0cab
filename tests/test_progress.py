"""A bar on standard error for people at a terminal, and silence for everyone else."""

from __future__ import annotations

import pytest

from epochal.progress import progress


def test_silent_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("Reading", 3) as advance:
        advance()
        advance(2)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("total", "unit", "reported"), [(4, "", "3/4"), (3e6, "bytes", "3.0/3.0 MB"), (None, "", "3/?")])
def test_terminal_gets_a_bar_on_standard_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, total: float | None, unit: str, reported: str
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with progress("Reading", total, unit=unit, done=1) as advance:
        advance(2 if unit != "bytes" else 3e6 - 1)
    out, err = capsys.readouterr()
    assert out == ""
    assert "Reading" in err
    plain = "".join(part.split("m", 1)[-1] for part in err.split("\x1b["))
    assert reported in plain
    # The bar vanishes: the last line is cleared.
    assert err.rstrip("\n").endswith("\x1b[2K")


def test_errors_pass_through() -> None:
    with pytest.raises(ValueError, match="inside"), progress("Reading", 1):
        raise ValueError("inside")
