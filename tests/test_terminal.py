import io
import os
import sys
from pathlib import Path

import pytest

from epochal.terminal import failure, harmless, readable, tolerate_output_errors


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("utf-8", "3×12 R² café 猫 …"),
        ("cp1252", r"3×12 R² café \u732b …"),
        ("cp437", r"3x12 R² café \u732b ..."),
        ("ascii", r"3x12 R2 caf\xe9 \u732b ..."),
        ("gbk", "3×12 R2 café 猫 …"),
        (None, "3×12 R² café 猫 …"),
    ],
)
def test_other_signs_stand_for_what_an_encoding_lacks(encoding: str | None, shown: str) -> None:
    assert readable("3×12 R² café 猫 …", encoding) == shown


def test_the_bytes_of_a_name_that_is_no_text_are_shown_as_numbers() -> None:
    assert readable("chi\udcea", "utf-8") == r"chi\udcea"


def test_what_a_terminal_would_obey_is_shown_as_numbers() -> None:
    assert harmless("a\x1b[2Jb\rc\x9b\n\td 猫") == "a\\x1b[2Jb\\x0dc\\x9b\n\td 猫"


def test_streams_take_any_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "out").open("w", encoding="ascii") as out, (tmp_path / "err").open("w", encoding="cp1252") as err:
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        tolerate_output_errors()
        print("猫")
        print("é", file=sys.stderr)
        assert failure() == ""
    assert (tmp_path / "out").read_bytes() == rb"\u732b" + os.linesep.encode()
    assert (tmp_path / "err").read_bytes() == b"\xe9" + os.linesep.encode()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_ends_nothing_and_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        tolerate_output_errors()
        print("lost")
        print("lost too", flush=True)
        assert failure() == "No space left on device"
        monkeypatch.undo()


def test_a_pipe_that_nobody_reads_any_more_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        tolerate_output_errors()
        print("lost", flush=True)
        assert failure() == ""
        monkeypatch.undo()


def test_closed_streams_take_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    tolerate_output_errors()
    print("lost")
    assert sys.stdout.writable()
    assert failure() == ""
    sys.stdout.close()
    sys.stderr.close()


def test_other_streams_are_left_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    tolerate_output_errors()
    print("猫")
    assert stream.getvalue() == "猫\n"
    assert failure() == ""
