"""Picture files in bulk: all in order, all that are wrong named, and no process left behind."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from epochal.data.inputs.picture import decoding, read
from epochal.data.inputs.picture.decoding import UnlikeError, cores, decode, decode_to, hash_files, measure, seconds_to_decode
from epochal.data.inputs.picture.read import Measured, StreamedPictures, open_picture, to_tensor
from epochal.data.inputs.picture.rule import PictureRule
from epochal.data.storage.cache import checksums, content_hash, signature
from epochal.errors import DataError

SavePicture = Callable[..., Path]


def rule(mode: Any = "RGB", size: tuple[int, int] = (6, 10)) -> PictureRule:
    return PictureRule(shape=(1 if mode == "L" else 3, *size))


@pytest.fixture
def many(tmp_path: Path) -> list[str]:
    """700 pictures of one grey each."""
    for number in range(700):
        Image.new("L", (4, 4), number % 251).save(tmp_path / f"{number:03}.png")
    return [str(path) for path in sorted(tmp_path.iterdir())]


@pytest.fixture
def bad(tmp_path: Path, save_picture: SavePicture) -> list[str]:
    """A picture between seven files that are none."""
    for number in range(7):
        (tmp_path / f"bad{number}.png").write_text("no")
    paths = [str(tmp_path / f"bad{number}.png") for number in range(7)]
    return [paths[0], str(save_picture("good.png")), *paths[1:]]


def _check_bad(error: DataError) -> None:
    lines = error.problem.splitlines()
    assert lines[0] == "7 pictures cannot be read:"
    assert [Path(line.split()[0]).name for line in lines[1:6]] == [f"bad{number}.png" for number in range(5)]
    assert lines[6:] == ["  ..."]
    assert error.fix.startswith("Fix, replace or remove them.\nTo leave out ")


class TestMeasure:
    def test_sizes_and_colour_in_order(self, save_picture: SavePicture) -> None:
        paths = [save_picture("a.png", (5, 4), "L"), save_picture("b.png", (7, 3)), save_picture("c.png", (2, 2), "RGBA")]
        assert measure([str(path) for path in paths]) == [Measured(4, 5, grey=True), Measured(3, 7, grey=False), Measured(2, 2, grey=False)]

    def test_reads_headers_only(self, save_picture: SavePicture) -> None:
        path = save_picture("a.jpg", (64, 64))
        path.write_bytes(path.read_bytes()[:-500])
        assert measure([str(path)]) == [Measured(64, 64, grey=False)]


class TestDecode:
    """By threads, into memory."""

    def test_many_in_order(self, many: list[str]) -> None:
        made, known = decode(many[:40], rule("L", (4, 4)))
        assert made.shape == (40, 1, 4, 4)
        assert made[:, 0, 0, 0].tolist() == list(range(40))
        for path, one in zip(many, known, strict=False):
            assert one["hash"].tobytes() == content_hash(Path(path).read_bytes())
            assert one["signature"].item() == signature(os.stat(path))
            assert Measured(*one[list(Measured._fields)].item()) == Measured(4, 4, grey=True)

    def test_all_bad_files_are_named_at_once(self, bad: list[str]) -> None:
        with pytest.raises(DataError) as caught:
            decode(bad, rule())
        _check_bad(caught.value)
        with pytest.raises(DataError, match=r"^\S+bad0\.png is not a picture"):
            decode(bad[:2], rule())

    def test_threads_follow_the_size_of_the_files(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(decoding, "cores", lambda: 8)
        (tmp_path / "small").write_bytes(bytes(900))
        (tmp_path / "large").write_bytes(bytes(100_000))
        assert decoding.useful_threads([str(tmp_path / "small")] * 40) == 1
        assert decoding.useful_threads([str(tmp_path / "large")] * 40) == 8
        assert decoding.useful_threads([str(tmp_path / "absent")]) == 1
        assert seconds_to_decode([str(tmp_path / "large")] * 10) == pytest.approx(0.011)

    def test_an_interrupt_stops_it_promptly(self, save_picture: SavePicture, monkeypatch: pytest.MonkeyPatch) -> None:
        path, seen, real = str(save_picture("a.png")), list[str](), read.read_picture

        def slow(source: str, wanted: PictureRule) -> Any:
            seen.append(source)
            if len(seen) == 3:
                os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
            return real(source, wanted)

        monkeypatch.setattr("epochal.data.inputs.picture.decoding.read_picture", slow)
        with pytest.raises(KeyboardInterrupt):
            decode([path] * 2000, rule())
        assert len(seen) < 100

    def test_lazy_pictures_travel_to_workers(self, save_picture: SavePicture) -> None:
        lazy = StreamedPictures([str(save_picture("a.png")), str(save_picture("b.png", seed=1))], rule(size=(8, 8)))
        assert len(lazy) == 2
        assert pickle.loads(pickle.dumps(lazy)).read(1).equal(lazy.read(1))


def test_hashes_of_files(many: list[str]) -> None:
    assert [one.tobytes() for one in hash_files(many[:3])] == [content_hash(Path(path).read_bytes()) for path in many[:3]]
    with pytest.raises(DataError, match=r"absent does not exist"):
        hash_files(["absent"])


class TestDecodeTo:
    """By processes, into a file."""

    @pytest.fixture
    def target(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        file = tmp_path_factory.mktemp("made") / "pixels"
        file.touch()
        return file

    def test_the_same_as_in_memory(self, many: list[str], target: Path) -> None:
        made, known = decode(many, rule("L", (4, 4)))
        found = decode_to(target, many, rule("L", (4, 4)))
        content = target.read_bytes()
        assert content == made.numpy().tobytes()
        assert (found.known == known).all()
        assert found.checksums == checksums(content, 16)
        assert multiprocessing.active_children() == []

    def test_the_same_as_one_by_one(self, save_picture: SavePicture, target: Path) -> None:
        paths = [str(save_picture(f"{seed}.{form}", (9, 5), seed=seed)) for seed, form in enumerate(("jpg", "png", "webp", "gif", "tiff"))]
        decode_to(target, paths, rule())
        assert target.read_bytes() == b"".join(to_tensor(open_picture(path), rule()).numpy().tobytes() for path in paths)

    def test_all_bad_files_are_named_at_once(self, bad: list[str], target: Path) -> None:
        with pytest.raises(DataError) as caught:
            decode_to(target, bad, rule())
        _check_bad(caught.value)

    def test_a_picture_unlike_the_others_ends_it(self, many: list[str], target: Path, save_picture: SavePicture) -> None:
        expected = Measured(4, 4, grey=True)
        strange = str(save_picture("strange.png", (4, 5), "L"))
        decode_to(target, [*many, strange], rule("L", (4, 4)), expected, len(many))
        with pytest.raises(UnlikeError):
            decode_to(target, [*many, strange], rule("L", (4, 4)), expected, len(many) + 1)
        assert multiprocessing.active_children() == []

    def test_a_disk_that_refuses(self, many: list[str], target: Path) -> None:
        with pytest.raises(IsADirectoryError):
            decode_to(target.parent, many, rule("L", (4, 4)))
        assert multiprocessing.active_children() == []

    @pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
    def test_a_process_that_is_killed_is_an_error(
        self, many: list[str], target: Path, monkeypatch: pytest.MonkeyPatch, how: signal.Signals
    ) -> None:
        def killed(*_: Any, **__: Any) -> None:
            os.kill(os.getpid(), how)

        monkeypatch.setattr(decoding, "read_picture", killed)
        with pytest.raises(DataError, match=r"A process that decoded pictures was killed\.\nFree some memory"):
            decode_to(target, many, rule("L", (4, 4)))
        assert multiprocessing.active_children() == []

    def test_an_interrupt_ends_all_processes(self, many: list[str], target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        parent, first = os.getpid(), target.with_name("first")

        def interrupt(*_: Any, **__: Any) -> None:
            """Interrupt the parent once, and then take far too long."""
            with suppress(FileExistsError):
                first.touch(exist_ok=False)
                os.kill(parent, signal.SIGINT)
            time.sleep(60)

        monkeypatch.setattr(decoding, "read_picture", interrupt)
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            decode_to(target, many, rule("L", (4, 4)))
        assert time.monotonic() - began < 30
        assert multiprocessing.active_children() == []

    @pytest.mark.skipif(not hasattr(os, "register_at_fork"), reason="this system has no fork")
    def test_an_interrupt_while_they_start_is_not_lost(self, many: list[str], target: Path) -> None:
        due = [signal.SIGINT]

        def interrupt() -> None:
            if due:
                signal.raise_signal(due.pop())

        # What is raised in such a function is printed and forgotten.
        os.register_at_fork(after_in_parent=interrupt)
        with pytest.raises(KeyboardInterrupt):
            decode_to(target, many, rule("L", (4, 4)))
        assert not due
        assert multiprocessing.active_children() == []
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def test_processes_end_with_their_parent(self, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(decoding, "cores", lambda: 2)
        noted = tmp_path_factory.mktemp("pids")

        def note(_: range) -> None:
            (noted / str(os.getpid())).touch()

        def parent() -> None:
            for _ in decoding.in_blocks(note, 1000, 1, ""):
                if len(list(noted.iterdir())) == 2:
                    os.kill(os.getpid(), signal.SIGKILL)

        child = multiprocessing.get_context("fork").Process(target=parent)
        child.start()
        child.join(30)
        orphans = [int(file.name) for file in noted.iterdir()]
        assert len(orphans) == 2
        deadline = time.monotonic() + 30
        while any(map(_runs, orphans)):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def _runs(process: int) -> bool:
    """Whether a process is there and is more than an entry that nobody has read."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_cores() -> None:
    assert 1 <= cores() <= (os.cpu_count() or 1)


def test_pictures_module_has_one_reader(save_picture: SavePicture) -> None:
    path = str(save_picture("a.png", (10, 6)))
    assert np.array_equal(read.read_picture(path, rule()).pixels, to_tensor(open_picture(path), rule()).numpy())
