"""A server on this machine that answers as the Hugging Face hub and its storage do, well or badly."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT, LATER = "1" * 40, "2" * 40


class Hub(ThreadingHTTPServer):
    """One repository, whose commits have files; `storage`, the first folder in the address of a large file, says how that is sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.name = "team/tiny"
        self.refs = {"main": COMMIT, "refs/pr/1": COMMIT}
        self.files: dict[str, dict[str, bytes]] = {}
        self.changes: dict[str, Any] = {}
        self.storage = "good"
        self.asked: list[str] = []
        # Set once the first piece of a large file has been sent; the rest waits for the other.
        self.began, self.released = threading.Event(), threading.Event()

    def downloads(self) -> list[str]:
        """What was asked of the storage of large files, with ranges."""
        return [asked for asked in self.asked if asked.startswith("/storage")]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, status: int, body: bytes = b"", length: int | None = None, **headers: Any) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body) if length is None else length), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def do_GET(self) -> None:
        hub, path = self.server, self.path.partition("?")[0]
        self.server.asked.append(path + (f" {self.headers['Range']}" if self.headers["Range"] else ""))
        if path.startswith("/storage/"):
            self.store(path.removeprefix("/storage/"))
        elif path.startswith(("/old/name/", "/api/models/old/name/")):
            self.answer(307, Location=self.path.replace("old/name", hub.name))
        elif path.startswith(f"/api/models/{hub.name}/revision/"):
            self.describe(path.rpartition("/")[2].replace("%2F", "/"))
        elif path.startswith(f"/{hub.name}/resolve/"):
            commit, _, name = path.removeprefix(f"/{hub.name}/resolve/").partition("/")
            self.resolve(commit, name)
        elif path.startswith((f"/small/{COMMIT}", f"/small/{LATER}")):
            self.answer(200, hub.files[path.split("/")[2]][path.split("/")[3]], hub.changes.get("length"))
        else:
            self.answer(401, X_Error_Code="RepoNotFound")

    def describe(self, revision: str) -> None:
        hub = self.server
        commit = hub.refs.get(revision, revision)
        if commit not in hub.files:
            self.answer(404, X_Error_Code="RevisionNotFound")
            return
        siblings = []
        for name, content in hub.files[commit].items():
            git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            one: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": git}
            if name.endswith((".safetensors", ".bin")):
                one["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
            siblings.append(one)
        described = {"id": hub.name, "sha": commit, "gated": False, "siblings": siblings, **hub.changes.get("api", {})}
        self.answer(hub.changes.get("status", 200), hub.changes.get("body", json.dumps(described).encode()), X_Repo_Commit=commit)

    def resolve(self, commit: str, name: str) -> None:
        """Send large files to the storage by an absolute address, and small ones to another path, as the hub does."""
        content = self.server.files[commit][name]
        if not name.endswith(".safetensors"):
            self.answer(307, Location=f"/small/{commit}/{name}", X_Repo_Commit=commit)
            return
        sha256 = hashlib.sha256(content).hexdigest()
        self.answer(
            302,
            Location=f"{self.server.address}/storage/{commit}/{name}?signature=abc",
            X_Repo_Commit=commit,
            X_Linked_Size=str(len(content)),
            X_Linked_Etag=f'"{sha256}"',
            ETag=f'"{sha256}"',
        )

    def store(self, path: str) -> None:
        hub = self.server
        commit, _, name = path.partition("/")
        content = hub.files[commit][name]
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        status = 206 if "Range" in self.headers else 200
        ranges: dict[str, Any] = {"Content_Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if status == 206 else {}
        rest = content[start:]
        if hub.storage == "breaks":
            self.answer(status, rest[: len(content) // 3], len(rest), **ranges)
        elif hub.storage == "waits":
            self.answer(status, rest[: len(content) // 3], len(rest), **ranges)
            self.wfile.flush()
            hub.began.set()
            hub.released.wait(120)
        elif hub.storage == "other":
            self.answer(status, bytes(len(rest)), **ranges)
        elif hub.storage == "lies":
            self.answer(status, rest, len(rest) + 7, **ranges)
        elif hub.storage == "refuses":
            self.answer(503)
        else:
            self.answer(status, rest, **ranges)


@contextmanager
def serving() -> Iterator[Hub]:
    """Run the server for the block."""
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hub
        finally:
            hub.released.set()
            hub.shutdown()
            thread.join()
