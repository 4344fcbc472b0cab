"""The cache: whole or not there, safe beside other processes, limited, and never believed when it is damaged."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from epochal.data.storage import cache as module
from epochal.data.storage.cache import FILE, Cache, DamagedError, Pack, checksums, content_hash, open_cache, signature
from epochal.errors import RecipeError

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 3, 4, 5), dtype=np.uint8)
SHAPE = PIXELS.shape

# What packs are called.
A, B, C, D, E, THEIRS = (letter * 32 for letter in "abcdef")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    monkeypatch.setattr(module, "SPARE", 0)
    return Cache(tmp_path / "cache", 10_000)


def make(cache: Cache, key: str, pixels: Any = PIXELS, used: int = 1) -> Pack:
    with cache.draft(pixels.nbytes) as draft:
        draft.path.write_bytes(pixels.tobytes())
        pack = draft.seal(key, "photos", pixels.shape, checksums(pixels.tobytes(), 60))
    os.utime(pack.path, (used, used))
    return pack


def keys(cache: Cache) -> list[str]:
    return [entry.key for entry in cache.entries()]


class TestPack:
    def test_reads_what_was_written(self, cache: Cache) -> None:
        for pack in (make(cache, A), Pack(cache.folder / f"{A}.pack")):
            assert (pack.name, pack.shape, len(pack)) == ("photos", SHAPE, 9)
            assert (pack.read([8, 0, 0, 3]) == PIXELS[[8, 0, 0, 3]]).all()
            assert pack.read([]).shape == (0, 3, 4, 5)
            out = np.zeros_like(PIXELS)
            pack.read_all(out)
            assert (out == PIXELS).all()

    @pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 2, 2, 2, 2)])
    @pytest.mark.parametrize("dtype", ["int16", "int32", "float32"])
    def test_any_shape_and_type(self, cache: Cache, shape: tuple[int, ...], dtype: str) -> None:
        values = np.random.default_rng(0).normal(0, 1000, shape).astype(dtype)
        with cache.draft(values.nbytes) as draft:
            draft.path.write_bytes(values.tobytes())
            pack = draft.seal(A, "made", shape, checksums(values.tobytes(), values[0].nbytes), dtype)
        assert (pack.shape, pack.dtype, pack.size) == (shape, values.dtype, values.nbytes)
        assert (pack.read([3, 0]) == values[[3, 0]]).all()
        out = np.zeros_like(values)
        pack.read_all(out)
        assert (out == values).all()

    def test_all_is_read_in_parts(self, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "AT_ONCE", 125)
        out = np.zeros_like(PIXELS)
        make(cache, A).read_all(out)
        assert (out == PIXELS).all()

    def test_a_file_cut_off_anywhere_is_damaged(self, cache: Cache) -> None:
        content = make(cache, A).path.read_bytes()
        path = cache.folder / f"{B}.pack"
        for length in range(len(content)):
            path.write_bytes(content[:length])
            with pytest.raises(DamagedError, match=r"The examples in .*\.pack are damaged: their end is missing\.\nRemove them with"):
                Pack(path)

    def test_any_byte_that_changes_is_noticed(self, cache: Cache) -> None:
        content = make(cache, A).path.read_bytes()
        path = cache.folder / f"{B}.pack"
        out = np.zeros_like(PIXELS)
        for place in range(len(content)):
            path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
            with pytest.raises(DamagedError):
                Pack(path).read_all(out)
            with pytest.raises(DamagedError):
                Pack(path).read(range(9))

    def test_a_file_that_is_cut_off_while_it_is_open(self, cache: Cache) -> None:
        pack = make(cache, A)
        os.truncate(pack.path, 100)
        assert (pack.read([0]) == PIXELS[0]).all()
        with pytest.raises(DamagedError, match=r"example 8 has changed since it was written"):
            pack.read([8])
        with pytest.raises(DamagedError):
            pack.read_all(np.zeros_like(PIXELS))

    def test_an_open_pack_outlives_its_removal(self, cache: Cache) -> None:
        pack = make(cache, A)
        cache.clear()
        assert (pack.read([4]) == PIXELS[4]).all()

    def test_strange_files(self, cache: Cache) -> None:
        cache.folder.mkdir()
        for content in (b"", b"x" * 1000, module.SEAL.pack(module.MAGIC, 1 << 60, 0, 0), module.SEAL.pack(module.MAGIC, 0, 0, 0)):
            (cache.folder / f"{B}.pack").write_bytes(content)
            with pytest.raises(DamagedError):
                Pack(cache.folder / f"{B}.pack")


class TestFind:
    def test_by_key(self, cache: Cache) -> None:
        assert cache.find(A, SHAPE) is None
        make(cache, A)
        pack = cache.find(A, SHAPE)
        assert pack is not None
        assert pack.path.stat().st_mtime > 1
        pack.path.unlink()
        assert cache.find(A, SHAPE) is None

    @pytest.mark.parametrize("shape", [SHAPE, (8, 3, 4, 5)])
    def test_what_is_damaged_goes(self, cache: Cache, shape: tuple[int, ...]) -> None:
        pack = make(cache, A)
        if shape == SHAPE:
            os.truncate(pack.path, 100)
        with pytest.raises(DamagedError):
            cache.find(A, shape)
        assert cache.find(A, shape) is None


class TestLimit:
    def test_the_least_recently_used_go_first(self, cache: Cache) -> None:
        size = make(cache, A, used=3).path.stat().st_size
        cache.limit = 3 * size
        make(cache, B, used=1)
        make(cache, C, used=2)
        assert keys(cache) == [A, C, B]
        make(cache, D, used=4)
        assert keys(cache) == [D, A, C]
        cache.find(C, SHAPE)
        make(cache, E, used=5)
        assert set(keys(cache)) == {C, D, E}

    def test_what_can_never_fit_removes_nothing(self, cache: Cache) -> None:
        make(cache, A)
        with pytest.raises(OSError, match=r"0\.0 GB are more than its limit of 0\.0 GB \(EPOCHAL_CACHE_SIZE\)"), cache.draft(10_001):
            pass
        assert keys(cache) == [A]

    def test_a_disk_that_is_full(self, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
        usage = shutil.disk_usage("/")._replace(free=99)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
        with cache.draft(99):
            pass
        with pytest.raises(OSError, match="No space left"), cache.draft(100):
            pass

    def test_size_and_entries(self, cache: Cache) -> None:
        assert (cache.size(), cache.entries()) == (0, [])
        size = make(cache, A, used=7).path.stat().st_size
        assert cache.entries() == [(A, "photos", SHAPE, size, 7.0)]
        (cache.folder / f"{B}.pack").write_bytes(b"x")
        os.utime(cache.folder / f"{B}.pack", (1, 1))
        assert cache.entries()[1] == (B, "(damaged)", (), 1, 1.0)
        assert cache.size() == size + 1


def _write_and_die(cache: Cache, ready: Any, die: bool) -> None:
    with cache.draft(PIXELS.nbytes) as draft:
        draft.path.write_bytes(PIXELS.tobytes())
        ready.send(True)
        if die:
            os.kill(os.getpid(), signal.SIGKILL)
        ready.recv()
        draft.seal(THEIRS, "photos", SHAPE, checksums(PIXELS.tobytes(), 60))


def _other(cache: Cache, die: bool) -> tuple[Any, Any]:
    """Start a process that writes a pack; return it and a connection that lets it continue."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_write_and_die, args=(cache, theirs, die))
    process.start()
    assert ours.recv()
    return process, ours


class TestOtherProcesses:
    def test_what_another_is_writing_stays(self, cache: Cache) -> None:
        process, connection = _other(cache, die=False)
        make(cache, A)
        assert cache.clear()[0] == 1
        make(cache, B)
        connection.send(True)
        process.join()
        assert set(keys(cache)) == {THEIRS, B}
        assert (Pack(cache.folder / f"{THEIRS}.pack").read([5]) == PIXELS[5]).all()

    @pytest.mark.parametrize("then", ["draft", "clear"])
    def test_what_the_dead_left_behind_goes(self, cache: Cache, then: str) -> None:
        process, _ = _other(cache, die=True)
        process.join()
        assert [path.suffix for path in cache.folder.iterdir()] == [".part"]
        assert cache.entries() == []
        if then == "clear":
            assert cache.clear() == (0, 0)
        else:
            make(cache, A)
        assert [path.suffix for path in cache.folder.iterdir()] == [".pack"] * (then == "draft")

    def test_the_same_pack_by_two(self, cache: Cache) -> None:
        process, connection = _other(cache, die=False)
        mine = make(cache, THEIRS)
        connection.send(True)
        process.join()
        assert keys(cache) == [THEIRS]
        assert (mine.read([2]) == PIXELS[2]).all()

    def test_a_draft_taken_before_it_was_locked(self, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
        import fcntl

        monkeypatch.setattr(fcntl, "flock", lambda file, _: Path(file.name).unlink())
        with pytest.raises(FileNotFoundError), cache.draft(1):
            pass

    def test_what_fails_leaves_nothing(self, cache: Cache) -> None:
        with pytest.raises(KeyboardInterrupt), cache.draft(1):
            raise KeyboardInterrupt
        assert list(cache.folder.iterdir()) == []


class TestRecall:
    """What is known of files that have not changed."""

    NAMES = ("a.png", "deep/b.png")
    LONG_AGO = 1_000_000_000

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        root = tmp_path / "photos"
        (root / "deep").mkdir(parents=True)
        for name in self.NAMES:
            (root / name).write_bytes(name.encode())
        return root

    def known(self, root: Path) -> Any:
        known = np.zeros(len(self.NAMES), FILE)
        for place, name in enumerate(self.NAMES):
            file = root / name
            known[place] = (signature(file.stat()), content_hash(file.read_bytes()), 2, 3, True, False)
        return known

    def remember(self, cache: Cache, root: Path, later: int) -> Any:
        """Remember the files as if they were read so many nanoseconds after they changed."""
        known = self.known(root)
        cache.remember(root, self.NAMES, known, int(known["signature"]["changed"].max()) + later)
        return known

    def test_as_they_were(self, cache: Cache, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert cache.recall(root, self.NAMES) is None
        known = self.remember(cache, root, self.LONG_AGO * 10)
        monkeypatch.setattr(module, "hash_file", None)
        assert (cache.recall(root, self.NAMES) == known).all()
        assert cache.recall(root, self.NAMES[:1]) is None
        assert cache.recall(root.parent, self.NAMES) is None

    def test_by_any_path_of_the_folder(self, cache: Cache, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        known = self.remember(cache, root, self.LONG_AGO * 10)
        monkeypatch.chdir(root)
        assert (cache.recall(Path(), self.NAMES) == known).all()

    def test_a_change_is_noticed(self, cache: Cache, root: Path) -> None:
        self.remember(cache, root, self.LONG_AGO * 10)
        status = (root / "a.png").stat()
        (root / "a.png").write_bytes(b"b.png")
        os.utime(root / "a.png", ns=(status.st_atime_ns, status.st_mtime_ns))  # As a copy with its times would be.
        assert cache.recall(root, self.NAMES) is None

    def test_a_file_that_is_gone(self, cache: Cache, root: Path) -> None:
        self.remember(cache, root, self.LONG_AGO * 10)
        (root / "a.png").unlink()
        assert cache.recall(root, self.NAMES) is None

    def test_files_that_had_just_changed_are_read_again(self, cache: Cache, root: Path) -> None:
        known = self.remember(cache, root, self.LONG_AGO)
        assert (cache.recall(root, self.NAMES) == known).all()
        # The clock had not moved on when the file changed once more.
        known["hash"][1] = content_hash(b"as it was")
        cache.remember(root, self.NAMES, known, int(known["signature"]["changed"].max()))
        assert cache.recall(root, self.NAMES) is None

    def test_reading_again_settles_it(self, cache: Cache, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        known = self.remember(cache, root, 0)
        later = int(known["signature"]["changed"].max()) + self.LONG_AGO * 10
        monkeypatch.setattr("time.time_ns", lambda: later)
        assert cache.recall(root, self.NAMES) is not None
        monkeypatch.setattr(module, "hash_file", None)
        assert (cache.recall(root, self.NAMES) == known).all()

    def test_a_damaged_list_is_as_good_as_none(self, cache: Cache, root: Path) -> None:
        self.remember(cache, root, self.LONG_AGO * 10)
        (path,) = cache.folder.glob("*.files")
        content = path.read_bytes()
        for place in range(len(content)):
            path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            assert cache.recall(root, self.NAMES) is None
            path.write_bytes(content[:place])
            assert cache.recall(root, self.NAMES) is None


class TestOpen:
    def test_where_and_how_much(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EPOCHAL_CACHE", str(tmp_path / "not" / "yet"))
        monkeypatch.delenv("EPOCHAL_CACHE_SIZE", raising=False)
        found = open_cache()
        assert found.folder == tmp_path / "not" / "yet" / "examples"
        assert found.limit == shutil.disk_usage(tmp_path).total // 4
        monkeypatch.setenv("EPOCHAL_CACHE_SIZE", "1.5")
        assert open_cache().limit == 1_500_000_000
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("reported", ["", "much", "-1", "inf", "nan"])
    def test_no_size(self, reported: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EPOCHAL_CACHE_SIZE", reported)
        with pytest.raises(RecipeError, match=rf"EPOCHAL_CACHE_SIZE = '{reported}' is not a size\.\nGive a number of GB"):
            open_cache()


def test_a_cache_where_nobody_may_look_is_no_reason_to_stop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # A name that is too long is like a folder that is closed: looking there is an error of the system.
    monkeypatch.setenv("EPOCHAL_CACHE", str(tmp_path / ("x" * 300) / "cache"))
    monkeypatch.delenv("EPOCHAL_CACHE_SIZE", raising=False)
    assert open_cache().limit > 0
