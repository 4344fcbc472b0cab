import errno
import hashlib
import re
import threading
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from epochal.data.storage import download
from epochal.data.storage.download import fetch
from epochal.errors import DataError, DownloadError, OutputError

CONTENT = np.random.default_rng(0).bytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NAME = "set.gz"


class Server(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str | None]] = []
        self.released = threading.Event()


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT well or, by the first folder in the address, badly; notes what was asked for."""

    protocol_version = "HTTP/1.1"
    server: "Server"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        way = self.path.split("/")[1]
        asked = self.headers.get("Range")
        self.server.asked.append((way, asked))
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        getattr(self, way)(start, asked is not None)

    def answer(self, status: Any, body: Any, length: int | str | None = None, **headers: Any) -> None:
        self.send_response(status)
        if length != "none":
            self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def good(self, start: int, is_range: bool, content: Any = CONTENT) -> None:
        if not is_range:
            self.answer(200, content)
        elif start >= len(content):
            self.answer(416, b"")
        else:
            self.answer(206, content[start:], Content_Range=f"bytes {start}-{len(content) - 1}/{len(content)}")

    def norange(self, start: int, is_range: bool) -> None:
        self.answer(200, CONTENT)

    def short(self, start: int, is_range: bool) -> None:
        self.good(start, is_range, CONTENT[:1000])

    def oddrange(self, start: int, is_range: bool) -> None:
        if is_range:
            self.answer(206, CONTENT[:10], Content_Range=f"bytes 0-9/{len(CONTENT)}")
        else:
            self.good(start, is_range)

    def wrong(self, start: int, is_range: bool) -> None:
        self.good(start, is_range, bytes(len(CONTENT)))

    def breaks(self, start: int, is_range: bool) -> None:
        self.answer(
            206 if is_range else 200, CONTENT[start : start + 100_000], len(CONTENT) - start, Content_Range=f"bytes {start}-299999/300000"
        )

    def stops(self, start: int, is_range: bool) -> None:
        """Like `breaks`, but sends nothing after the first piece."""
        if start:
            self.answer(206, b"", len(CONTENT) - start, Content_Range=f"bytes {start}-299999/300000")
        else:
            self.breaks(start, is_range)

    def endless(self, start: int, is_range: bool) -> None:
        self.answer(200, CONTENT + b"more" * 300_000, "none")

    def page(self, start: int, is_range: bool) -> None:
        self.answer(200, b"<html>Log in</html>")

    def missing(self, start: int, is_range: bool) -> None:
        self.answer(404, b"")

    def empty(self, start: int, is_range: bool) -> None:
        self.answer(204, b"", "none")

    def moved(self, start: int, is_range: bool) -> None:
        self.answer(302, b"", Location=f"/good/{NAME}")

    def hangs(self, start: int, is_range: bool) -> None:
        self.server.released.wait(60)
        self.close_connection = True

    def stalls(self, start: int, is_range: bool) -> None:
        self.answer(200, CONTENT[:1000], len(CONTENT))
        self.wfile.flush()
        self.server.released.wait(60)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("no_proxy", "*")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def get(server: Server, tmp_path: Path) -> Any:
    def get(*ways: str, to: Path = tmp_path / "to", **changes: Any) -> Any:
        mirrors = [way if "://" in way else f"http://127.0.0.1:{server.server_port}/{way}/" for way in ways]
        return fetch(NAME, mirrors, **{"sha256": SHA256, "size": len(CONTENT), "to": to, **changes})

    return get


@pytest.fixture
def part(tmp_path: Path) -> Any:
    (tmp_path / "to").mkdir()
    return tmp_path / "to" / f"{NAME}.part"


def check(path: Path) -> None:
    assert path.read_bytes() == CONTENT
    assert [file.name for file in path.parent.iterdir()] == [NAME], "nothing is left beside the file"


def test_a_file_arrives_whole(get: Callable[..., Path], server: Server, tmp_path: Path) -> None:
    check(get("good", to=tmp_path / "deep" / "er"))
    assert server.asked == [("good", None)]


def test_a_file_that_is_there_is_not_asked_for(get: Callable[..., Path], server: Server, tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / NAME).write_bytes(b"mine")
    assert get("good").read_bytes() == b"mine"
    assert server.asked == []


def test_redirections_are_followed(get: Callable[..., Path]) -> None:
    check(get("moved"))


@pytest.mark.parametrize("way", ["missing", "page", "endless", "wrong", "short", "empty", "http://127.0.0.1:9/"])
def test_the_next_mirror_is_tried(get: Callable[..., Path], way: str) -> None:
    check(get(way, "good"))


def test_a_broken_connection_is_resumed_at_the_next_mirror(get: Callable[..., Path], server: Server) -> None:
    check(get("stops", "good"))
    assert server.asked == [("stops", None), ("stops", "bytes=100000-"), ("good", "bytes=100000-")]


def test_a_connection_that_breaks_again_and_again_brings_the_file(get: Callable[..., Path], server: Server) -> None:
    check(get("breaks"))
    assert [start for _, start in server.asked] == [None, "bytes=100000-", "bytes=200000-"]


def test_a_part_survives_to_the_next_try(get: Callable[..., Path], server: Server, part: Path) -> None:
    with pytest.raises(DownloadError, match=r"broke off after 100,000 of 300,000 bytes"):
        get("stops")
    assert part.read_bytes() == CONTENT[:100_000]
    check(get("good"))
    assert server.asked[-1] == ("good", "bytes=100000-")


@pytest.mark.parametrize("length", [1, 150_000, 299_999])
def test_resuming(get: Callable[..., Path], server: Server, part: Path, length: int) -> None:
    part.write_bytes(CONTENT[:length])
    check(get("good"))
    assert server.asked == [("good", f"bytes={length}-")]


def test_a_complete_part_needs_no_network(get: Callable[..., Path], server: Server, part: Path) -> None:
    part.write_bytes(CONTENT)
    check(get("good"))
    assert server.asked == []


def test_a_server_that_ignores_ranges(get: Callable[..., Path], part: Path) -> None:
    part.write_bytes(CONTENT[:1000])
    check(get("norange"))


@pytest.mark.parametrize("old", [b"x" * 1000, b"x" * 300_000, b"x" * 400_000], ids=["short", "full", "long"])
def test_a_part_with_other_content_is_thrown_away(get: Callable[..., Path], part: Path, old: Any) -> None:
    part.write_bytes(old)
    check(get("good"))


@pytest.mark.parametrize("way", ["short", "oddrange"])
def test_a_mirror_that_cannot_resume_is_asked_for_all(get: Callable[..., Path], server: Server, part: Path, way: str) -> None:
    part.write_bytes(CONTENT[:5000])
    if way == "short":
        with pytest.raises(DownloadError, match=r"it has 1000 bytes, not 300000"):
            get(way)
        assert not part.exists()
    else:
        check(get(way))
    assert server.asked == [(way, "bytes=5000-"), (way, None)]


def test_the_error_lists_every_mirror_and_a_way_out(get: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(DownloadError) as caught:
        get("missing", "wrong", "endless", "page", "empty", "http://127.0.0.1:9/")
    error = caught.value
    assert isinstance(error, DataError)
    lines = error.problem.splitlines()
    assert lines[0] == "set.gz cannot be downloaded:"
    expected = [
        r"/missing/set\.gz answers 404 Not Found",
        rf"/wrong/set\.gz is another file: its SHA-256 is {hashlib.sha256(bytes(300_000)).hexdigest()}, not {SHA256}",
        r"/endless/set\.gz is another file: it has more than 300000 bytes",
        r"/page/set\.gz is another file: it has 19 bytes, not 300000",
        r"/empty/set\.gz does not send the file from byte 0 on \(status 204\)",
        r"127\.0\.0\.1:9/set\.gz cannot be reached: .*refused",
    ]
    assert len(lines) == 1 + len(expected)
    for line, pattern in zip(lines[1:], expected, strict=True):
        assert re.search(pattern + "$", line), line
    assert f"put it into {tmp_path / 'to'} (" in error.fix
    assert "--data-dir" in error.fix
    assert not (tmp_path / "to" / NAME).exists()
    assert not (tmp_path / "to" / f"{NAME}.part").exists()


@pytest.mark.parametrize(("way", "text"), [("hangs", "cannot be reached: .*timed out"), ("stalls", "broke off: timed out")])
def test_a_silent_mirror_is_given_up(get: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, way: str, text: str) -> None:
    real = urllib.request.urlopen

    def urlopen(request: urllib.request.Request, timeout: float) -> Any:
        """Lose patience soon, but only with what is silent: others may be late on a busy machine."""
        assert timeout == download.PATIENCE
        answer = real(request, timeout=0.2 if "/hangs/" in request.full_url else 60)
        if "/stalls/" in request.full_url:
            answer.fp.raw._sock.settimeout(0.2)
        return answer

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    with pytest.raises(DownloadError, match=text):
        get(way)
    check(get(way, "good"))


def test_a_disk_that_refuses(get: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"Cannot write .*file"):
        get("good", to=tmp_path / "file" / "below")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match=r"No space left on device\.\nFree some space"):
        get("good")


def test_two_at_once_do_not_disturb_each_other(get: Callable[..., Path], server: Server) -> None:
    found = []
    threads = [threading.Thread(target=lambda: found.append(get("good"))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 5
    check(found[0])
    assert server.asked == [("good", None)], "the others waited for the first"
