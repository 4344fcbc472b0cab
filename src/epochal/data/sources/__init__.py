"""Sources of data: named data sets, and paths."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from epochal.data.examples import Found
from epochal.data.inputs.table.files import SUFFIXES as TABLES
from epochal.data.inputs.table.files import is_table, refuse_others
from epochal.data.options import NO_OPTIONS, ReadOptions, refuse_options, refuse_table_options
from epochal.data.sources import arrays, cifar10, digits, folder, idx, manifest, packed, sounds, table, tars, text_tables, texts
from epochal.data.sources.layout import inner
from epochal.data.storage.archives import SUFFIXES as ARCHIVES
from epochal.data.storage.archives import is_archive, unpack
from epochal.data.storage.kept import kept
from epochal.data.storage.remote.place import is_url
from epochal.data.storage.remote.reading import is_packed
from epochal.data.walk import entries, holds_sounds, holds_texts
from epochal.errors import DataError, EpochalError, suggest

__all__ = ["SOURCES", "Place", "Source", "examples_folder", "find"]


@dataclass(frozen=True)
class Source:
    """A named data set; `read` takes the folder where it may be already, or `None`."""

    read: Callable[[Path | None], Found]
    about: str


SOURCES = {
    "digits": Source(lambda _: digits.read(), "1,797 handwritten digits of 8×8 pixels; needs no download"),
    "mnist": Source(idx.MNIST.read, "70,000 handwritten digits of 28×28 pixels; 12 MB"),
    "fashion-mnist": Source(idx.FASHION_MNIST.read, "70,000 pieces of clothing in 10 kinds, 28×28 pixels; 31 MB"),
    "kmnist": Source(idx.KMNIST.read, "70,000 handwritten Japanese characters in 10 kinds, 28×28 pixels; 21 MB"),
    "cifar10": Source(cifar10.read, "60,000 colour photographs in 10 kinds, 32×32 pixels; 170 MB"),
}


def find(what: str | Path, data_dir: Path | None = None, options: ReadOptions = NO_OPTIONS) -> Found:
    """Read the data that a user named: one of `SOURCES`, or a path.

    A path is a folder of pictures or sounds, of .npy files or of IDX files, an archive of such a folder (.zip, .tar, .tar.gz, .tar.xz),
    a .npz, .npy or .safetensors file, a table, or CIFAR-10's archive or folder; the URL or folder of packed data; or tars in WebDataset's
    layout. A single word is a name first; with a path separator (./mnist) it is always a path. `data_dir` is where named data are or are
    downloaded to; the `options` are for folders of pictures or sounds, and tables: from other data, the caller has to leave out what they
    exclude. Raises `DataError`.
    """
    if tars.are_tars(what):
        return tars.read(what, options)
    if is_url(what) or is_packed(what):
        return packed.read(what, options)
    place = _place(what)
    if place.what not in SOURCES and manifest.is_manifest(place.what, options):
        with place.named():
            return manifest.read(place.what, options)
    if place.what not in SOURCES and text_tables.has_texts(place.what, options):
        with place.named():
            return _kept_table(Path(place.what), options, text_tables.read)
    if not is_table(Path(place.what)):
        with _named(what):
            _refuse_unlike(what, options)
    with place.named():
        read = _find(place.what, data_dir, options)
        if read is None:
            return _read_folder(Path(place.what).expanduser(), options)
    refuse_options(options, ("size", "fit"), str(what), "folders of pictures")
    refuse_options(options, ("rate", "seconds", "windows"), str(what), "sounds")
    with place.named():
        return read()


def _refuse_unlike(what: str | Path, options: ReadOptions) -> None:
    """Raise an error for settings of tables, if the data are none; and for a table in another format."""
    path = Path(what).expanduser()
    if what not in SOURCES and path.is_file() and not is_archive(path):
        refuse_others(path)
        if options.table.targets:
            raise DataError(
                f"{path} is not named like a table, and has data.target = {', '.join(options.table.targets)}.",
                f"If it is one, rename it to {path.stem}.csv, whatever separates its values.",
            )
    refuse_table_options(options, str(what))


def _read_folder(path: Path, options: ReadOptions) -> Found:
    """Read a folder of what the model that it is for takes, or of what most of its files are: pictures, sounds or texts."""
    wanted = None if options.like is None else options.like.input.kind
    if wanted == "sound" or (wanted is None and path.is_dir() and holds_sounds(path)):
        refuse_options(options, ("size", "fit"), str(path), "folders of pictures")
        return sounds.read(path, options)
    refuse_options(options, ("rate", "seconds", "windows"), str(path), "sounds")
    if wanted == "text" or (wanted is None and path.is_dir() and holds_texts(path)):
        refuse_options(options, ("size", "fit"), str(path), "folders of pictures")
        return texts.read_folder(path, options)
    return folder.read(path, options)


@dataclass(frozen=True)
class Place:
    """What a user named; or if that is an archive, its innermost folder that contains everything.

    `unpacked` is then the folder in the cache to which `archive` was unpacked; messages name the archive instead.
    """

    what: str | Path
    archive: str = ""
    unpacked: str = ""

    def with_archive(self, text: str) -> str:
        """Return a message that names the archive instead of the folder to which it was unpacked."""
        return text.replace(self.unpacked, self.archive) if self.archive else text

    @contextmanager
    def named(self) -> Iterator[None]:
        """Let errors name the archive."""
        try:
            yield
        except DataError as error:
            EpochalError.__init__(error, self.with_archive(error.problem), self.with_archive(error.fix))
            raise


def examples_folder(what: str | Path, data_dir: Path | None = None) -> Place | None:
    """Return the folder of pictures, sounds or texts that `find` would read, or `None` if `what` is something else. Raises `DataError`."""
    if is_url(what) or is_packed(what) or tars.are_tars(what):
        return None
    place = _place(what)
    with place.named():
        return place if _find(place.what, data_dir, NO_OPTIONS) is None else None


def _find(what: str | Path, data_dir: Path | None, options: ReadOptions) -> Callable[[], Found] | None:
    """Return the function that reads the data that a user named, or `None` for a folder of pictures or sounds."""
    if data_dir is not None:
        with _named(data_dir):
            data_dir = data_dir.expanduser()
            is_there = data_dir.is_dir()
        if not is_there:
            raise DataError(f"There is no folder {data_dir} to look for data (--data-dir or EPOCHAL_DATA).", "Check it, or create it.")
    with _named(what):
        return _reader(what, data_dir, options)


def _kept_table(path: Path, options: ReadOptions, read: Callable[[Path, ReadOptions], Found]) -> Found:
    """Read a table and those of further splits, or return what was kept of them."""
    path = path.expanduser()
    others = {"valid": options.table.valid, "test": options.table.test}
    files = {"train": path, **{split: Path(file).expanduser() for split, file in others.items() if file is not None}}
    names = {split: [os.path.relpath(file, path.parent)] for split, file in files.items()}
    return kept(path.parent, names, options, lambda: read(path, options))


@contextmanager
def _named(path: str | Path) -> Iterator[None]:
    """Turn errors of accessing a path into a `DataError`."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: ~ of an unknown user; ValueError: a zero byte in a name.
        reason = error.strerror if isinstance(error, OSError) else str(error).rstrip(".")
        raise DataError(f"'{path}' cannot be accessed: {reason}.", "Check the path.") from error


def _place(what: str | Path) -> Place:
    """Unpack an archive; anything else is taken as it is."""
    with _named(what):
        path = Path(what).expanduser()
        if what in SOURCES or path.name == cifar10.ARCHIVE or not (is_archive(path) and path.is_file()):
            return Place(what)
    unpacked = unpack(path)
    found = inner(unpacked)
    folders, files = entries(found)
    if not folders and len(files) == 1 and is_archive(Path(files[0])):
        raise DataError(f"{what} contains only another archive, {Path(files[0]).name}.", "Unpack it, and give that one.")
    if not folders and len(files) == 1 and is_table(Path(files[0])):
        found = Path(files[0])
    return Place(found, str(what), str(unpacked))


def _built_in(name: str, data_dir: Path | None) -> Found:
    """Read a named data set; note if there is also a file or folder of that name."""
    beside = Path(name)
    is_itself = data_dir is not None and data_dir.resolve() == Path.cwd()
    if is_itself or not beside.exists():
        return SOURCES[name].read(data_dir)
    try:
        found = SOURCES[name].read(data_dir)
    except DataError as error:
        raise DataError(
            error.problem, f"{error.fix}\nThere is a {beside} here too, which is not part of it: write ./{name} to read that."
        ) from error
    note = f"{name} is the data set of that name; there is a {name} here too: write ./{name} to read that"
    return replace(found, notes=(note, *found.notes))


def _reader(what: str | Path, data_dir: Path | None, options: ReadOptions) -> Callable[[], Found] | None:
    """Return the function that reads `what`, or `None` for a folder of pictures or sounds."""
    if isinstance(what, str) and what in SOURCES:
        return lambda: _built_in(what, data_dir)
    path = Path(what).expanduser()
    if not str(what) or not path.exists():
        is_word = str(what) == path.name
        known = " and no data set of that name" if is_word else ""
        raise DataError(f"There is no file or folder '{what}'{known}.", suggest(path.name, SOURCES) if is_word else "Check the path.")
    if path.suffix.lower() in arrays.SUFFIXES and path.is_file():
        return lambda: arrays.read(path)
    if is_table(path) and path.is_file():
        return lambda: _kept_table(path, options, table.read)
    if path.name == cifar10.ARCHIVE or path.name == cifar10.FOLDER:
        return lambda: cifar10.read_cifar10(path)
    if path.is_dir():
        if idx.holds_idx(path):
            return lambda: idx.read_idx_folder(path)
        return (lambda: arrays.read(path)) if arrays.holds_arrays(path) else None
    raise DataError(
        f"{path} is a file of an unsupported kind.",
        f"Give a folder of pictures or sounds, or an archive of one ({', '.join(ARCHIVES)}), "
        f"a {', '.join((*arrays.SUFFIXES, *TABLES))} file, {cifar10.ARCHIVE}, or a name: {', '.join(SOURCES)}.",
    )
