"""Files and folders exist whole or not at all, whatever interrupts their writing."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path

import pytest

from epochal.errors import OutputError, TakenError
from epochal.io import files
from epochal.io.files import (
    cache_folder,
    first_free,
    new_directory,
    remove_directory,
    remove_unfinished,
    write_bytes,
    write_json,
    write_text,
)


def _full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_write_and_replace(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "Größe\n")
    assert path.read_bytes() == "Größe\n".encode()
    write_bytes(path, b"\x00\r\n")
    assert path.read_bytes() == b"\x00\r\n"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_json_is_readable_and_strict(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"Größe": [1, 2.5, None]})
    assert json.loads(path.read_text("utf-8")) == {"Größe": [1, 2.5, None]}
    assert "Größe" in path.read_text("utf-8")
    assert path.read_text("utf-8").endswith("}\n")
    with pytest.raises(ValueError, match="Out of range float values are not JSON compliant"):
        write_json(tmp_path / "b.json", float("nan"))
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("before", [None, b"before"])
def test_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, before: bytes | None) -> None:
    path = tmp_path / "a.bin"
    if before is not None:
        path.write_bytes(before)
    monkeypatch.setattr(os, call, _full)
    with pytest.raises(OutputError) as raised:
        write_bytes(path, b"after")
    assert str(raised.value) == f"Cannot write {path}: No space left on device.\nFree some space, or write elsewhere."
    assert os.listdir(tmp_path) == ([] if before is None else ["a.bin"])
    if before is not None:
        assert path.read_bytes() == before


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_interrupt_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    monkeypatch.setattr(os, call, _interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(tmp_path / "a.bin", b"after")
    assert os.listdir(tmp_path) == []


def test_file_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        calls.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def replaced(source: Path, target: Path) -> None:
        calls.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    write_bytes(tmp_path / "a.bin", b"content")
    assert calls == ["file", "rename", "folder"]


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_bytes(tmp_path / "a", b"")
        with new_directory(tmp_path / "d"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o750


def test_errors_name_the_path_and_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path, reason in (
        (tmp_path / "none" / "a", "No such file or directory"),
        (tmp_path / "file" / "a", "Not a directory"),
    ):
        with pytest.raises(OutputError) as raised:
            write_bytes(path, b"")
        assert str(raised.value) == f"Cannot write {path}: {reason}.\nCheck the path, or write elsewhere."


def test_read_only_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "replace", refused)
    with pytest.raises(OutputError, match="Read-only file system.\nMake the folder writable, or write elsewhere."):
        write_bytes(tmp_path / "a", b"")
    monkeypatch.undo()
    with pytest.raises(OutputError) as raised, new_directory(tmp_path / "d") as folder:
        monkeypatch.setattr(os, "replace", refused)
        write_bytes(folder / "a", b"")
    assert str(raised.value).startswith(f"Cannot write {tmp_path / 'd' / 'a'}: Read-only file system.")


def test_new_directory_appears_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "run"
    with new_directory(path) as beside:
        (beside / "a").write_bytes(b"1")
        assert not path.exists()
        assert beside.parent == path.parent
    assert os.listdir(path.parent) == ["run"]
    assert (path / "a").read_bytes() == b"1"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_new_directory_vanishes_with_an_error(tmp_path: Path, error: type[BaseException]) -> None:
    def fail() -> None:
        with new_directory(tmp_path / "run") as beside:
            (beside / "a").write_bytes(b"1")
            raise error

    with pytest.raises(error):
        fail()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("call", ["rename", "fsync"])
def test_new_directory_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    monkeypatch.setattr(os, call, _full)
    with (
        pytest.raises(OutputError, match=r"Cannot write .*run: No space left on device.\nFree some space"),
        new_directory(tmp_path / "run"),
    ):
        pass
    assert os.listdir(tmp_path) == []


def test_new_directory_never_replaces(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(OutputError) as raised, new_directory(tmp_path / "run"):
        pass
    assert str(raised.value) == f"{tmp_path / 'run'} exists already.\nChoose another name, or remove it first."


def test_new_directory_gives_way_to_one_that_came_in_the_meantime(tmp_path: Path) -> None:
    with pytest.raises(TakenError, match="run exists already"), new_directory(tmp_path / "run") as beside:
        (beside / "a").write_bytes(b"mine")
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "a").write_bytes(b"theirs")
    assert os.listdir(tmp_path) == ["run"]
    assert (tmp_path / "run" / "a").read_bytes() == b"theirs"


def test_the_first_free_name_is_taken_by_writing_it(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()

    def make(path: Path) -> None:
        with new_directory(path) as folder:
            (folder / "a").write_bytes(b"mine")
            if path.name == "2":  # Another process is quicker.
                path.mkdir()
                (path / "b").write_bytes(b"theirs")

    assert first_free((tmp_path / str(number) for number in range(1, 9)), make) == tmp_path / "3"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2", "3"]
    with pytest.raises(TakenError):
        first_free(tmp_path / "1", make)


def test_a_folder_that_cannot_be_removed_whole_is_not_there_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with new_directory(tmp_path / "d") as folder:
        (folder / "a").write_bytes(b"1")
        (folder / "b").write_bytes(b"2")
    with monkeypatch.context() as patch, pytest.raises(OutputError, match=r"Cannot write .*/d: No space left on device"):
        patch.setattr(os, "rmdir", _full)
        remove_directory(tmp_path / "d")
    assert not (tmp_path / "d").exists()
    remove_unfinished(tmp_path)
    assert os.listdir(tmp_path) == []


def test_sync_directory_without_posix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "name", "nt")
    monkeypatch.setattr(os, "open", _full)
    files.sync_directory(tmp_path)


def test_the_cache_folder_follows_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EPOCHAL_CACHE", "~/anywhere")
    assert cache_folder() == Path.home() / "anywhere"
    monkeypatch.delenv("EPOCHAL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    monkeypatch.setattr("sys.platform", "linux")
    assert cache_folder() == Path("/somewhere/epochal")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "epochal"
    monkeypatch.setattr("sys.platform", "darwin")
    assert cache_folder() == Path.home() / "Library" / "Caches" / "epochal"
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", "/local")
    assert cache_folder() == Path("/local/epochal")


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    half = tmp_path / "in" / ".step-1.0123abcd"
    half.mkdir(parents=True)
    (half / ".state.json.89abcdef").write_text("{")
    (tmp_path / ".result.json.00000000").write_text("{")
    for name in ("a", ".hidden", ".hidden.json", ".b.0123abcg", "c.0123abcd"):
        (tmp_path / name).write_text("kept")
    remove_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".b.0123abcg", ".hidden", ".hidden.json", "a", "c.0123abcd", "in"]
    assert list((tmp_path / "in").iterdir()) == []
