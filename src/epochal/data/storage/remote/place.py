"""Where packed data may be: a folder, or the URL of one on a web server, an object store or the Hugging Face hub.

A URL has no user, password or query: keys for s3:// and hf:// come from the environment, as their own programs take them, and so never
get into a message, a run or a log.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from epochal.data.storage.cache import signature
from epochal.errors import DataError, MissingError, OutputError
from epochal.io.files import write_bytes, write_errors
from epochal.io.safe_read import open_file

if TYPE_CHECKING:
    from http.client import HTTPResponse

    from epochal.data.storage.remote.connections import Connections

# The schemes of URLs, with the packages that each needs.
SCHEMES = {
    "file": (),
    "http": (),
    "https": (),
    "s3": ("fsspec", "s3fs"),
    "hf": ("fsspec", "huggingface_hub"),
}

# Seconds without a byte after which a connection is given up.
PATIENCE = 30.0

_INSTALL = 'Install it: pip install "epochal[remote]"'
NO_FILE = "there is no such file"
NO_NAME = "name"
_FINAL = {401: "access is refused", 403: "access is refused", 404: NO_FILE, 410: NO_FILE}


class FaultError(Exception):
    """Bytes did not come as they should; asking again may help unless it `is_final`."""

    def __init__(self, reason: str, *, is_final: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_final = is_final


def is_url(what: object) -> bool:
    """Whether a user named a URL."""
    return isinstance(what, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", what) is not None


def checked_url(url: str) -> str:
    """Return a URL that can be read, without slashes at its end. Raises `DataError`."""
    try:
        parts = urlsplit(url)
        is_secret = "@" in parts.netloc
    except ValueError as error:
        raise DataError(f"{url.split('?')[0]} is not a URL: {error}.", "Check it.") from error
    scheme = parts.scheme.lower()
    if is_secret:
        shown = f"{scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        raise DataError(f"The URL {shown} has a user or password in it.", "Leave them out: keys come from the environment.")
    shown = f"{scheme}://{parts.netloc}{parts.path}"
    if parts.query or parts.fragment:
        raise DataError(f"The URL {shown} has a query or a fragment.", "Leave out what follows ? or #: only plain URLs are read.")
    if scheme not in SCHEMES or "::" in url:
        raise DataError(f"{shown} is a URL of an unknown kind.", f"Known: {', '.join(f'{name}://' for name in SCHEMES)}.")
    if scheme != "file" and not parts.netloc:
        raise DataError(f"{shown} names no server.", "Check the URL.")
    return url.rstrip("/")


@dataclass(frozen=True)
class Place:
    """A folder of files, whose `name` is a checked URL or a path."""

    name: str

    @classmethod
    def of(cls, what: str | Path) -> Place:
        """Return the place that a user named. Raises `DataError` for a URL that cannot be read."""
        return cls(checked_url(what) if is_url(what) and isinstance(what, str) else str(Path(what).expanduser()))

    @property
    def scheme(self) -> str:
        """That of the URL; "file" for a path."""
        return self.name.partition("://")[0].lower() if is_url(self.name) else "file"

    @property
    def path(self) -> Path:
        """Where files are on this machine, if they are."""
        return Path(unquote(urlsplit(self.name).path)) if is_url(self.name) else Path(self.name)

    def named(self, name: str) -> str:
        """Return the URL or path of a file."""
        return f"{self.name}/{name}" if self.scheme != "file" or is_url(self.name) else str(self.path / name)


def opened(place: Place) -> Store:
    """Return how files of a place are read and written. Raises `MissingError` if a package is not installed."""
    stores: dict[str, type[Store]] = {"file": Folder, "http": Web, "https": Web, "s3": Objects, "hf": Hub}
    return stores[place.scheme](place)


class Store:
    """The files of a place. Reading raises `FaultError`; writing, `OutputError`."""

    def __init__(self, place: Place) -> None:
        self.place = place

    def read(self, name: str, begin: int, end: int) -> bytes:
        """Return the bytes from `begin` to `end` of a file: fewer where it ends before, or where the connection did."""
        raise NotImplementedError

    def state(self, name: str) -> tuple[int, str]:
        """Return the size of a file, and what is another when its content is, as far as the place says so."""
        raise NotImplementedError

    def files(self) -> dict[str, int]:
        """Return the names and sizes of the files and folders that are there; none if there is no such folder."""
        raise NotImplementedError

    def write(self, name: str, content: bytes) -> None:
        """Write a file, whole or not at all."""
        raise NotImplementedError


class Folder(Store):
    """A folder on this machine."""

    def read(self, name: str, begin: int, end: int) -> bytes:
        """Read a part of a file."""
        try:
            with open_file(self.place.path / name) as file:
                file.seek(begin)
                return file.read(end - begin)
        except FileNotFoundError as error:
            raise FaultError(_FINAL[404], is_final=True) from error
        except (OSError, ValueError) as error:
            raise FaultError(_words(error)) from error

    def state(self, name: str) -> tuple[int, str]:
        """Look at the file."""
        try:
            status = (self.place.path / name).stat()
        except FileNotFoundError as error:
            raise FaultError(_FINAL[404], is_final=True) from error
        except OSError as error:
            raise FaultError(_words(error), is_final=True) from error
        return status.st_size, repr(signature(status))

    def files(self) -> dict[str, int]:
        """List the folder."""
        with write_errors(self.place.path):
            if not self.place.path.exists():
                return {}
            return {entry.name: entry.stat().st_size for entry in os.scandir(self.place.path) if not entry.name.startswith(".")}

    def write(self, name: str, content: bytes) -> None:
        """Write a file."""
        with write_errors(self.place.path):
            self.place.path.mkdir(parents=True, exist_ok=True)
        write_bytes(self.place.path / name, content)


class _Remote(Store):
    """Files that fsspec reads; its filesystem is opened when it is first needed, and again in a forked process."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        _need(place.scheme)
        self._system: Any = None
        self._process = -1

    @property
    def system(self) -> Any:
        """The filesystem of this process."""
        if self._process != os.getpid():
            import fsspec

            # A cached one would belong to another process or have other options; lists of files may change.
            self._system = fsspec.filesystem(self.place.scheme, skip_instance_cache=True, use_listings_cache=False, **self.options())
            self._process = os.getpid()
        return self._system

    def options(self) -> Mapping[str, Any]:
        """Return what the filesystem is opened with."""
        return {}


class Web(Store):
    """A web server that sends ranges (RFC 9110, section 14), which is only read. Further `headers` go with each request.

    Connections are our own, since fsspec has one event loop for all threads: blocks of 64 KB came through it at 20 instead of 34 MB/s.
    """

    def __init__(self, place: Place, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(place)
        self.headers = {"User-Agent": "epochal", **(headers or {})}

    @cached_property
    def _connections(self) -> Connections:
        from epochal.data.storage.remote.connections import Connections

        return Connections(PATIENCE)

    @contextmanager
    def _answer(self, method: str, name: str, **headers: str) -> Iterator[HTTPResponse]:
        """Yield an answer whose body has not been read."""
        from http.client import HTTPException

        try:
            with self._connections.answer(method, self.place.named(name), {**self.headers, **headers}) as answer:
                if answer.status >= 400 and answer.status != 416:
                    raise FaultError(_FINAL.get(answer.status, f"the server answers {answer.status}"), is_final=answer.status in _FINAL)
                yield answer
        except (OSError, HTTPException) as error:
            raise FaultError(_words(error)) from error

    def read(self, name: str, begin: int, end: int) -> bytes:
        """Ask for a range; of an answer, no more is read than was asked for."""
        with self._answer("GET", name, Range=f"bytes={begin}-{end - 1}") as answer:
            if answer.status == 416:  # The file ends before.
                return b""
            if answer.status == 206 and not answer.headers.get("Content-Range", "").startswith(f"bytes {begin}-"):
                raise FaultError("the server sends another range")
            if answer.status == 200 and begin:  # It would send the whole file each time.
                raise FaultError("the server sends no ranges", is_final=True)
            return answer.read(end - begin)

    def state(self, name: str) -> tuple[int, str]:
        """Ask for the headers alone."""
        with self._answer("HEAD", name) as answer:
            answer.read()
            size = answer.headers.get("Content-Length", "")
            if not size.isdecimal():
                raise FaultError("the server does not say how large it is", is_final=True)
            return int(size), answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""

    def files(self) -> dict[str, int]:
        """Refuse: a web server has no list of its files."""
        raise OutputError(f"{self.place.name} cannot be written to: web servers are only read.", "Write to a folder, s3:// or hf://.")

    def write(self, name: str, content: bytes) -> None:  # noqa: ARG002
        """Refuse."""
        self.files()


class Objects(_Remote):
    """An object store: a file appears there when all of it has arrived."""

    def options(self) -> Mapping[str, Any]:
        """Errors are retried by us alone."""
        if self.place.scheme != "s3":
            return {}
        return {"config_kwargs": {"connect_timeout": PATIENCE, "read_timeout": PATIENCE, "retries": {"max_attempts": 1}}}

    def _errors(self) -> tuple[type[Exception], ...]:
        if self.place.scheme == "s3":
            import aiohttp
            from botocore.exceptions import BotoCoreError, ClientError

            return OSError, aiohttp.ClientError, BotoCoreError, ClientError
        import huggingface_hub.errors

        return OSError, huggingface_hub.errors.HfHubHTTPError

    def read(self, name: str, begin: int, end: int) -> bytes:
        """Ask for a range."""
        try:
            with self._reading():
                content: bytes = self.system.cat_file(self.place.named(name), start=begin, end=end)
        except FaultError as error:
            # An object that ends before the range.
            if "InvalidRange" in error.reason or "416" in error.reason:
                return b""
            raise
        return content

    def state(self, name: str) -> tuple[int, str]:
        """Ask what is known of the object."""
        with self._reading():
            known = self.system.info(self.place.named(name))
        return int(known["size"]), str(known.get("ETag") or known.get("blob_id") or "")

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise FaultError(_FINAL[404], is_final=True) from error
        except PermissionError as error:
            raise FaultError(f"{_FINAL[403]} ({_words(error)})", is_final=True) from error
        except self._errors() as error:
            raise FaultError(_words(error), is_final="credentials" in str(error).lower()) from error

    def files(self) -> dict[str, int]:
        """List what has the folder's name before its own."""
        with self._writing():
            try:
                found = self.system.ls(self.place.name, detail=True)
            except FileNotFoundError:
                return {}
            return {one["name"].rstrip("/").rpartition("/")[2]: int(one["size"] or 0) for one in found}

    def write(self, name: str, content: bytes) -> None:
        """Send a file."""
        with self._writing():
            self.system.pipe_file(self.place.named(name), content)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except self._errors() as error:
            raise OutputError(
                f"{self.place.name} cannot be written to: {_words(error)}.",
                "Check its name, and the keys in the environment; the same command goes on where it stopped.",
            ) from error


class Hub(Objects):
    """The Hugging Face hub, whose files are read by their addresses: huggingface_hub would list the folder for each range."""

    @cached_property
    def _web(self) -> Web:
        import huggingface_hub

        with self._reading():
            found = self.system.resolve_path(self.place.named(NO_NAME))
            if not hasattr(found, "repo_id"):
                raise FaultError("of the hub, only repositories are read", is_final=True)
            address = huggingface_hub.hf_hub_url(
                found.repo_id, found.path_in_repo, repo_type=found.repo_type, revision=found.revision, endpoint=self.system.endpoint
            ).removesuffix(f"/{NO_NAME}")
        token = huggingface_hub.get_token()
        return Web(Place(address), {"Authorization": f"Bearer {token}"} if token else None)

    def read(self, name: str, begin: int, end: int) -> bytes:
        """Ask for a range."""
        return self._web.read(name, begin, end)

    def state(self, name: str) -> tuple[int, str]:
        """Ask for the headers alone."""
        return self._web.state(name)


def _need(scheme: str) -> None:
    """Raise `MissingError` if a package for URLs of a scheme is not installed."""
    for package in SCHEMES[scheme]:
        try:
            __import__(package)
        except ImportError as error:
            raise MissingError(f"Reading {scheme}:// needs the package {package}.", _INSTALL) from error


def _words(error: Exception) -> str:
    """Return the reason of an error in one line."""
    if isinstance(error, TimeoutError):
        return "the server does not answer"
    if type(error).__name__ == "NoCredentialsError":
        return "there are no keys for it in the environment, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    words = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return " ".join(words.split())[:300].rstrip(".")
