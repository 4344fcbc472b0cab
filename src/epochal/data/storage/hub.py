"""Models of the Hugging Face hub, by plain HTTPS: a file at a time, of one commit.

In the cache they are laid out as huggingface_hub does it, and what its own cache has is used from there:

    hub/models--OWNER--NAME/refs/REVISION             the commit that a branch or tag was at when the hub was last asked
    hub/models--OWNER--NAME/snapshots/COMMIT/FILE     and FILE.sha256 beside a large one

HF_ENDPOINT names a mirror; with HF_HUB_OFFLINE=1 only what is in a cache is used, and so it is where there is no network.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from epochal.data.storage import download
from epochal.errors import DownloadError, ModelError
from epochal.io.files import cache_folder, write_bytes, write_errors
from epochal.io.safe_read import parse_json

PREFIX = "hub:"

# What the folder of a model begins with.
_MODELS = "models--"

_NAME = re.compile(r"(\w[\w.-]*/\w[\w.-]*)(?:@(\w[\w./-]*))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")

# The most bytes of what is read at once: lists of files, and files that are not stored as large ones.
_MOST = 20_000_000

_PICKLES = (".bin", ".pth", ".pt", ".ckpt", ".pkl")

_BY_HAND = "Or get its model.safetensors elsewhere: --model timm:NAME --set model.weights=FILE"
_MIRROR = "Check the network, or name a mirror in HF_ENDPOINT; what has arrived is kept."


class _Large(BaseModel):
    sha256: str
    size: int


class _File(BaseModel):
    """A file of a repository: its size in bytes, and the hash that git gives it; a large one has its SHA-256 too."""

    rfilename: str
    size: int | None = None
    blobId: str = ""  # noqa: N815  as the hub calls it
    lfs: _Large | None = None


class _Answer(BaseModel):
    """What the hub says of a revision (https://huggingface.co/docs/hub/api)."""

    sha: str
    gated: bool | str = False
    siblings: list[_File] = []


class _UnreachableError(DownloadError):
    """There is no network, or no server."""


@dataclass(frozen=True)
class Repository:
    """The repository of a model, at a revision: a branch, a tag or a commit."""

    name: str
    revision: str = "main"

    @classmethod
    def of(cls, model: str) -> Repository:
        """Return what `hub:OWNER/NAME` or `hub:OWNER/NAME@REVISION` names. Raises `ModelError` for anything else."""
        found = _NAME.fullmatch(model.removeprefix(PREFIX))
        if found is None or ".." in model:
            raise ModelError(f"'{model}' is no model of the Hugging Face hub.", "Write hub:OWNER/NAME, or hub:OWNER/NAME@REVISION.")
        return cls(found[1], found[2] or "main")

    def commit(self, log: Callable[[str], object]) -> str:
        """Return the commit that the revision is at; without network, the one that it was at when the hub was last asked.

        Raises `DownloadError` if that is not known.
        """
        if _COMMIT.fullmatch(self.revision):
            return self.revision
        if not _is_offline():
            try:
                return self._asked()
            except _UnreachableError:
                if not (known := self._last_known()):
                    raise
                log(f"note: {_endpoint()} cannot be reached: {self.name} is used as it was last seen, at {known[:8]}")
                return known
        if known := self._last_known():
            return known
        raise self._not_cached(f"{self.name}@{self.revision}")

    def file(self, name: str, sha256: str = "") -> Path:
        """Return where a file of this commit is in the cache, after downloading it if it was not there.

        If the hub says that its content has another SHA-256 than this, it is not downloaded. Raises `DownloadError`.
        """
        for folder in self._folders():
            if (path := folder / "snapshots" / self.revision / name).is_file():
                return path
        if _is_offline():
            raise self._not_cached(f"{name} of {self.name}@{self.revision}")
        answer = self._ask()
        if answer.gated:
            raise ModelError(f"{self.name} is only open to those who have accepted its terms.", _BY_HAND)
        files = {file.rfilename: file for file in answer.siblings}
        if name not in files:
            pickles = [other for other in files if other.endswith(_PICKLES)]
            also = f"; {pickles[0]} may be a pickle, which could run code when it is read" if pickles else ""
            raise ModelError(f"{self.name} has no {name}{also}.", "Choose a model of library timm, with safetensors.")
        large = files[name].lfs
        if sha256 and large is not None and large.sha256 != sha256:
            raise DownloadError(
                f"{name} of {self.name}@{self.revision} is not the file that is expected: its SHA-256 is {large.sha256}, not {sha256}.",
                "Use another mirror in HF_ENDPOINT, or none.",
            )
        return self._fetch(files[name])

    def _fetch(self, file: _File) -> Path:
        to, folder = self._ours() / "snapshots" / self.revision, f"{_endpoint()}/{self.name}/resolve/{self.revision}/"
        if file.lfs is not None:
            try:
                path = download.fetch(file.rfilename, [folder], sha256=file.lfs.sha256, size=file.lfs.size, to=to)
            except DownloadError as error:
                raise DownloadError(error.problem, f"{_MIRROR}\n{_BY_HAND}") from error
            write_bytes(_note_of(path), file.lfs.sha256.encode())
            return path
        address = folder + file.rfilename
        content = _read(address)
        # Git's hash of a file is that of its content after a header.
        if hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() != file.blobId:
            raise DownloadError(f"{address} is another file than the hub lists.", _MIRROR)
        with write_errors(to):
            to.mkdir(parents=True, exist_ok=True)
        write_bytes(to / file.rfilename, content)
        return to / file.rfilename

    def _asked(self) -> str:
        """Ask the hub which commit the revision is at, and note it for when there is no network."""
        commit = self._ask().sha
        note = self._ours() / "refs" / self.revision
        with write_errors(note.parent):
            note.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(note, commit.encode())
        return commit

    def _last_known(self) -> str:
        for folder in self._folders():
            try:
                commit = (folder / "refs" / self.revision).read_text("ascii").strip()
            except (OSError, ValueError):
                continue
            if _COMMIT.fullmatch(commit):
                return commit
        return ""

    def _ask(self) -> _Answer:
        address = f"{_endpoint()}/api/models/{self.name}/revision/{quote(self.revision, safe='')}?blobs=true"
        try:
            answer = _Answer.model_validate(parse_json(_read(address)))
            if not _COMMIT.fullmatch(answer.sha):
                raise ValueError("it names no commit")
        except (ValidationError, ValueError) as error:
            raise DownloadError(f"{address} does not answer as the Hugging Face hub does.", _MIRROR) from error
        return answer

    def _ours(self) -> Path:
        return hub_folder() / self._folder()

    def _folders(self) -> tuple[Path, Path]:
        """Return the folders of this repository in our cache and in that of huggingface_hub."""
        home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
        return self._ours(), Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser() / self._folder()

    def _folder(self) -> str:
        return f"{_MODELS}{self.name.replace('/', '--')}"

    def _not_cached(self, what: str) -> DownloadError:
        return DownloadError(
            f"{what} is not in {self._ours().parent}, and HF_HUB_OFFLINE is set.",
            f"Unset HF_HUB_OFFLINE to download it.\n{_BY_HAND}",
        )


def hub_folder() -> Path:
    """Return where models of the hub are in the cache."""
    return cache_folder() / "hub"


def hub_models() -> dict[str, int]:
    """Return the models of the hub that are in the cache, by name, with the bytes that they take."""
    return {
        path.name.removeprefix(_MODELS).replace("--", "/"): sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        for path in _cached()
    }


def remove_hub_models() -> None:
    """Remove the models of the hub from the cache. Raises `OutputError` if that fails."""
    for path in _cached():
        with write_errors(path):
            shutil.rmtree(path)


def _cached() -> list[Path]:
    return [path for path in sorted(hub_folder().glob(f"{_MODELS}*--*")) if path.is_dir() and not path.is_symlink()]


def noted_sha256(path: Path) -> str:
    """Return the SHA-256 that a large file in a cache had when it was downloaded, or "" if it is not known."""
    # In the cache of huggingface_hub it is the name of the file that a link points to.
    named = path.resolve().name
    with suppress(OSError, ValueError):
        named = _note_of(path).read_text("ascii")
    return named if re.fullmatch(r"[0-9a-f]{64}", named) else ""


def _note_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _endpoint() -> str:
    """Return the address of the hub, or of a mirror. Raises `DownloadError` if HF_ENDPOINT is not the address of a server."""
    address = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    if not re.fullmatch(r"https?://[^/\s?#]+[^\s?#]*", address):
        raise DownloadError(f"HF_ENDPOINT is {address}, which is not an address.", "Set it for example to https://hf-mirror.com")
    return address


def _is_offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def _read(address: str) -> bytes:
    """Return what a server sends, of at most `_MOST` bytes. Raises `DownloadError`."""
    request = urllib.request.Request(address, headers={"User-Agent": "epochal", "Accept-Encoding": "identity"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=download.PATIENCE) as answer:  # noqa: S310  http or https, as _endpoint checks
            content: bytes = answer.read(_MOST + 1)
            length = answer.headers.get("Content-Length")
    except urllib.error.HTTPError as error:
        error.close()
        raise _refused(address, error) from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise _UnreachableError(f"{_endpoint()} cannot be reached: {reason}.", f"{_MIRROR}\n{_BY_HAND}") from error
    if length is not None and length != str(len(content)):
        raise _UnreachableError(f"{address} broke off after {len(content):,} of {length} bytes.", f"{_MIRROR}\n{_BY_HAND}")
    if len(content) > _MOST:
        raise DownloadError(f"{address} is longer than {_MOST:,} bytes.", _MIRROR)
    return content


def _refused(address: str, error: urllib.error.HTTPError) -> DownloadError:
    # The hub says which in a header of its own; for strangers, a private repository does not exist.
    code = error.headers.get("X-Error-Code", "")
    if code == "RevisionNotFound":
        return DownloadError(f"The hub has no such revision: {address} answers {error.code}.", "Check what follows @, or leave it out.")
    if code == "RepoNotFound" or error.code in (http.client.UNAUTHORIZED, http.client.FORBIDDEN, http.client.NOT_FOUND):
        return DownloadError(f"The hub has no such model that is open to all: {address} answers {error.code}.", "Check its name.")
    return _UnreachableError(
        f"{address} answers {error.code} {error.reason}.", f"Try again later, or name a mirror in HF_ENDPOINT. {_BY_HAND}"
    )
