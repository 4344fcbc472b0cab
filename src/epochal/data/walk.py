"""Walking through folders of pictures, texts or sounds, skipping the files of operating systems, and what Epochal itself wrote."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from epochal.data.inputs.picture.read import SUFFIXES
from epochal.errors import DataError

# Files and folders made by operating systems, network disks and archives, in lower case; hidden ones are skipped anyway.
_SYSTEM_FILES = frozenset(
    {
        *("__macosx", "icon\r", "network trash folder", "temporary items", "thevolumesettingsfolder"),  # macOS
        *("$recycle.bin", "recycler", "recycled", "system volume information", "found.000"),  # Windows
        *("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "picasa.ini"),
        *("lost+found", "lost.dir"),  # Linux and Android
        *("@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "@tmp"),  # network disks: Synology, QNAP
        *("__pycache__", "cvs"),
    }
)

# This file marks a folder of pictures as written by Epochal.
MARK = ".epochal"

# A folder with all files of a row was written by Epochal: a run, a bundle, measured speeds, pictures.
_WRITTEN = (("recipe.toml", "data.json"), ("bundle.json", "model.safetensors"), ("bench.json", "speed.png"), (MARK,))

# Pictures in formats that are not read.
_FOREIGN = frozenset(
    {
        *(".heic", ".heif", ".hif", ".avif", ".jxl", ".jp2", ".j2k", ".jpx", ".bpg"),
        *(".svg", ".svgz", ".eps", ".ai", ".psd", ".xcf", ".kra"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".pcx", ".ico", ".dds", ".exr", ".hdr"),
        *(".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf"),
    }
)


@dataclass(frozen=True)
class FileKind:
    """The files of an input kind: the noun for one, the suffixes of those that are read (lower case), and of others; `formats` is what
    others should be saved as."""

    noun: str
    suffixes: tuple[str, ...]
    foreign: frozenset[str] = frozenset()
    formats: str = ""

    def matches(self, file: str) -> bool:
        """Whether a file has the suffix of a supported format."""
        return file.lower().endswith(self.suffixes)

    def is_foreign(self, file: str) -> bool:
        """Whether a file has the suffix of an unsupported format."""
        return os.path.splitext(file)[1].lower() in self.foreign  # noqa: PTH122  many files


PICTURES = FileKind("picture", SUFFIXES, _FOREIGN, "JPEG or PNG")
TEXTS = FileKind(
    "text", (".txt",), frozenset((".doc", ".docx", ".odt", ".rtf", ".pdf", ".htm", ".html", ".md")), "plain text in UTF-8, as .txt"
)


SOUNDS = FileKind(
    "sound",
    (".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif"),
    frozenset((".m4a", ".aac", ".wma", ".amr", ".ape", ".ac3", ".mid", ".webm", ".mka", ".caf", ".au")),
    "WAV or FLAC",
)

# The kind of a folder's files is that of most of so many.
_LOOKED_AT = 1000


@dataclass(frozen=True)
class Passed:
    """The folders and files skipped on a walk: those of operating systems, and those that Epochal wrote. Hidden ones are not listed."""

    system_files: list[str] = field(default_factory=list)
    written: list[str] = field(default_factory=list)


def entries(folder: Path, passed: Passed | None = None) -> tuple[list[Path], list[str]]:
    """List the folders and the files in a folder, in alphabetical order, without those hidden, of systems, or written by Epochal.

    Files are strings: there may be millions, and making a `Path` takes fifty times as long as listing one. Raises `DataError`.
    """
    folders: list[Path] = []
    files: list[str] = []
    for path, is_folder in _scan(folder, passed or Passed()):
        if is_folder:
            folders.append(Path(path))
        else:
            files.append(path)
    return sorted(folders), sorted(files)


def walk(folder: Path, seen: set[tuple[int, int]], passed: Passed | None = None) -> Iterator[str]:
    """Yield all files below a folder. Folders already `seen` are skipped, so that links cannot form loops."""
    if identity(folder) in seen:
        return
    seen.add(identity(folder))
    folders, files = entries(folder, passed)
    yield from files
    for inner in folders:
        yield from walk(inner, seen, passed)


def holds_files(kind: FileKind, folder: Path) -> bool:
    """Whether there is a file of a kind directly in a folder."""
    return any(not is_folder and kind.matches(path) for path, is_folder in _scan(folder, Passed()))


def has_files(kind: FileKind, folder: Path, *above: Path) -> bool:
    """Whether there is a file of a kind anywhere below a folder, which is inside those `above`."""
    return holds_files(kind, folder) or any(map(kind.matches, walk(folder, set(map(identity, above)))))


def holds_sounds(folder: Path) -> bool:
    """Whether a folder has more sounds than pictures below it.

    What cannot be listed, or is no folder of data, has none: reading it says why.
    """
    if folder.resolve() == Path(folder.resolve().anchor) or is_written(folder):
        return False
    files = walk(folder, set())
    try:
        sounds = [*islice((SOUNDS.matches(file) for file in files if PICTURES.matches(file) or SOUNDS.matches(file)), _LOOKED_AT)]
    except (OSError, DataError):
        return False
    return sum(sounds) * 2 > len(sounds)


def holds_texts(folder: Path) -> bool:
    """Whether a folder has texts below it, and neither pictures nor sounds, which may have texts beside them."""
    if not folder.is_dir() or folder.resolve() == Path(folder.resolve().anchor) or is_written(folder):
        return False
    has_texts = False
    try:
        for file in walk(folder, set()):
            if PICTURES.matches(file) or SOUNDS.matches(file):
                return False
            has_texts |= TEXTS.matches(file)
    except (OSError, DataError):
        return False
    return has_texts


def identity(folder: Path) -> tuple[int, int]:
    """Return what identifies a folder, whatever its path."""
    status = folder.stat()
    return status.st_dev, status.st_ino


def is_written(folder: str | Path) -> bool:
    """Whether a folder is a run, a bundle or pictures that Epochal wrote, and therefore not data."""
    return any(all(os.path.isfile(f"{folder}/{name}") for name in names) for names in _WRITTEN)  # noqa: PTH113  many folders


def files_below(kind: FileKind, folder: Path) -> tuple[list[str], tuple[str, ...]]:
    """Return the files of a kind anywhere below a folder, in alphabetical order, and notes on what was skipped.

    Raises `DataError` if there are none, and for a folder that Epochal wrote.
    """
    noun = kind.noun
    if is_written(folder):
        raise DataError(f"{folder} was written by Epochal: it is not data.", f"Give the folder of the {noun}s.")
    passed = Passed()
    files = sorted(walk(folder, set(), passed))
    found = [file for file in files if kind.matches(file)]
    if not found:
        raise DataError(f"The folder {folder} has no {noun}s in it.", "Give files, or another folder.")
    others = [file for file in files if not kind.matches(file)]
    kinds = (
        ([file for file in others if kind.is_foreign(file)], noun, "in a format that is not read"),
        ([file for file in others if not kind.is_foreign(file)], "file", f"without the suffix of a {noun}"),
        (sorted(passed.system_files), "item", "of the operating system"),
        (sorted(passed.written), "folder", "written by Epochal"),
    )
    return found, tuple(_skipped(names, what, why) for names, what, why in kinds if names)


def _skipped(names: Sequence[str], noun: str, why: str) -> str:
    return f"skipped 1 {noun} {why}: {names[0]}" if len(names) == 1 else f"skipped {len(names):,} {noun}s {why}: {names[0]}, ..."


def relative(files: list[str], root: Path) -> list[str]:
    """Return the names of files below `root`, with slashes."""
    prefix = _prefix(root)
    return [file.removeprefix(prefix).replace(os.sep, "/") for file in files]


def _scan(folder: Path, passed: Passed) -> Iterator[tuple[str, bool]]:
    """Yield the path of every entry that is not skipped, and whether it is a folder."""
    prefix = _prefix(folder)
    try:
        with os.scandir(folder) as found:
            for entry in found:
                if entry.name.startswith("."):
                    continue
                path = prefix + entry.name
                # A circular link is not a folder, and only Path says so without an error.
                is_folder = Path(path).is_dir() if entry.is_symlink() else entry.is_dir()
                if entry.name.lower() in _SYSTEM_FILES:
                    passed.system_files.append(path)
                elif is_folder and is_written(path):
                    passed.written.append(path)
                else:
                    yield path, is_folder
    except PermissionError as error:
        raise DataError(f"{folder} may not be read.", "Change its permissions.") from error
    except OSError as error:
        raise DataError(f"{folder} cannot be listed: {error.strerror}.", "Check the path.") from error


def _prefix(folder: Path) -> str:
    """Return the prefix of the names of files in a folder: empty for the current one."""
    return "" if folder == Path() else f"{folder}{os.sep}"
