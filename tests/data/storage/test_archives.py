import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from epochal.checks.check import check
from epochal.data.load import load
from epochal.data.storage import archives
from epochal.data.storage.archives import tar_members, unpack, unpacked_folder
from epochal.errors import DataError
from epochal.io.safe_read import Unpacked


def photos() -> dict[str, bytes]:
    found = {}
    for name, level in (("cat", 20), ("dög", 180)):
        for number in range(2):
            with io.BytesIO() as file:
                Image.fromarray(np.random.default_rng(level + number).integers(0, 60, (9, 7, 3), dtype=np.uint8) + np.uint8(level)).save(
                    file, "PNG"
                )
                found[f"photos/{name}/{number}.png"] = file.getvalue()
    return found


def zipped(files: dict[str, bytes], *, change: Callable[[zipfile.ZipInfo], object] = lambda info: None) -> bytes:
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                info = zipfile.ZipInfo(name)
                change(info)
                archive.writestr(info, content, zipfile.ZIP_DEFLATED)
        return file.getvalue()


def tarred(
    files: dict[str, bytes], form: int = tarfile.PAX_FORMAT, *, change: Callable[[tarfile.TarInfo], object] = lambda info: None
) -> bytes:
    with io.BytesIO() as file:
        with tarfile.open(fileobj=file, mode="w", format=form) as archive:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                change(member)
                archive.addfile(member, io.BytesIO(content))
        return file.getvalue()


PACKINGS: dict[str, Callable[[dict[str, bytes]], bytes]] = {
    "a.zip": zipped,
    "a.tar": tarred,
    "A.TAR.GZ": lambda files: gzip.compress(tarred(files, tarfile.GNU_FORMAT)),
    "a.tgz": lambda files: gzip.compress(tarred(files)),
    "a.tar.xz": lambda files: lzma.compress(
        tarred({f"./{'x' * 70}/{'y' * 70}/{name}": content for name, content in files.items()}, tarfile.GNU_FORMAT)
    ),
    "a.txz": lambda files: lzma.compress(tarred({f"{'x' * 130}/{name}": content for name, content in files.items()})),
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EPOCHAL_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", PACKINGS)
def test_an_archive_is_read_as_its_folder(tmp_path: Path, name: str) -> None:
    for file, content in photos().items():
        (tmp_path / "plain" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "plain" / file).write_bytes(content)
    (tmp_path / name).write_bytes(PACKINGS[name](photos()))
    wanted, found = load(tmp_path / "plain" / "photos"), load(tmp_path / name)
    assert (found.outputs, found.name, found.fingerprint) == (wanted.outputs, "photos", wanted.fingerprint)
    assert isinstance(found.train.inputs, torch.Tensor)
    assert torch.equal(found.train.inputs, wanted.train.inputs)  # type: ignore[arg-type]


def test_it_is_unpacked_once(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped({"cat/1.png": b"1"}))
    folder = unpack(tmp_path / "a.zip")
    (folder / "cat" / "1.png").write_bytes(b"2")
    assert (unpack(tmp_path / "a.zip") / "cat" / "1.png").read_bytes() == b"2"
    (tmp_path / "a.zip").write_bytes(zipped({"cat/1.png": b"3"}))
    assert (unpack(tmp_path / "a.zip") / "cat" / "1.png").read_bytes() == b"3"


def test_two_processes_may_unpack_it_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.zip").write_bytes(zipped({"dog/1.png": b"4"}))
    open_one = archives.open_zip

    def open_after_another_unpacked(path: Path) -> Any:
        monkeypatch.setattr(archives, "open_zip", open_one)
        unpack(path)
        return open_one(path)

    monkeypatch.setattr(archives, "open_zip", open_after_another_unpacked)
    folder = unpack(tmp_path / "a.zip")
    assert (folder / "dog" / "1.png").read_bytes() == b"4"
    assert not [path for path in unpacked_folder().iterdir() if path.name.startswith(".")]


def test_nothing_stays_of_one_that_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tarred({"cat/1.png": b"1", "../b": b"2"}))
    with pytest.raises(DataError, match=r"a\.tar cannot be unpacked: '\.\./b' leads out of the folder\.\nCreate it again"):
        unpack(tmp_path / "a.tar")
    assert list(unpacked_folder().iterdir()) == []


NAMES = [
    ("../evil", "leads out"),
    ("a/../../evil", "leads out"),
    ("/tmp/evil", "absolute"),
    ("C:evil", "absolute"),
    ("c:/evil", "absolute"),
    ("a\\..\\evil", "not allowed in names"),
    ("a\nb", "not allowed in names"),
    ("a\x7f", "not allowed in names"),
    ("NUL", "not a valid name on every"),
    ("a/con.png", "not a valid name on every"),
    ("com1.tar.gz", "not a valid name on every"),
    ("a./b", "not a valid name on every"),
    ("a ", "not a valid name on every"),
    ("x" * 256, "too long"),
    ("é" * 128, "too long"),
    ("a/" * 33 + "b", "too deep"),
    ("x" * 200 + "/" + "y" * 200 + "/" + "z" * 200 + "/" + "w" * 200 + "/" + "v" * 200, "too long"),
]


@pytest.mark.parametrize(("name", "reason"), NAMES)
@pytest.mark.parametrize("pack", [zipped, tarred])
def test_names_that_mean_something_else(tmp_path: Path, name: str, reason: str, pack: Any) -> None:
    path = tmp_path / ("a.zip" if pack is zipped else "a.tar")
    path.write_bytes(pack({"good/1.png": b"1", name: b"2"}))
    with pytest.raises(DataError, match=f"cannot be unpacked: .*{reason}"):
        unpack(path)


@pytest.mark.parametrize(
    "names",
    [("a/B", "a/b"), ("a/1", "A/2"), ("é", "e\u0301"), ("ß", "ss"), ("a", "a/b"), ("a/b", "a"), ("x/a", "x/./a")],
)
@pytest.mark.parametrize("pack", [zipped, tarred])
def test_names_that_collide(tmp_path: Path, names: tuple[str, str], pack: Any) -> None:
    path = tmp_path / ("a.zip" if pack is zipped else "a.tar")
    path.write_bytes(pack(dict.fromkeys(names, b"1")))
    with pytest.raises(DataError, match="collides with"):
        unpack(path)


def test_folders_may_be_named_again(tmp_path: Path) -> None:
    def folder(member: tarfile.TarInfo) -> None:
        member.type, member.size = (tarfile.DIRTYPE, 0) if member.name.endswith("b") else (tarfile.REGTYPE, 1)

    (tmp_path / "a.tar").write_bytes(tarred({"a/b/c": b"1", "a/b": b"", "./a/b": b"", "a/b/d": b"2"}, change=folder))
    assert sorted(os.listdir(unpack(tmp_path / "a.tar") / "a" / "b")) == ["c", "d"]


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE, b"V", b"Z"]
)
def test_only_files_come_out_of_a_tar(tmp_path: Path, kind: bytes) -> None:
    def change(member: tarfile.TarInfo) -> None:
        member.type, member.linkname, member.size = kind, "/etc/passwd", 0

    (tmp_path / "a.tar").write_bytes(tarred({"a": b""}, tarfile.GNU_FORMAT, change=change))
    with pytest.raises(DataError, match=r"'a' is (a link|a device|a pipe|of an unsupported kind)"):
        unpack(tmp_path / "a.tar")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_only_files_come_out_of_a_zip(tmp_path: Path, kind: int) -> None:
    def change(info: zipfile.ZipInfo) -> None:
        info.external_attr = (kind | 0o777) << 16

    (tmp_path / "a.zip").write_bytes(zipped({"a": b"/etc/passwd"}, change=change))
    with pytest.raises(DataError, match=r"'a' is a (link|device|pipe)"):
        unpack(tmp_path / "a.zip")


def test_a_member_of_a_zip_without_a_name_is_refused(tmp_path: Path) -> None:
    content = bytearray(zipped({"aaaa": b"x"}).replace(b"aaaa", b"aa\0\0"))
    for header in (26, content.index(b"PK\1\2") + 28):
        # What was its name is now an extra field of no length.
        content[header : header + 4] = struct.pack("<HH", 0, 4)
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.zip .*a file in it has no name"):
        load(tmp_path / "a.zip")


def test_a_bomb_is_refused_before_it_goes_off(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped({str(number): bytes(10_000_000) for number in range(8)}))
    with pytest.raises(DataError, match=r"bytes would unpack to 80,000,000, more than 64,000,000"):
        unpack(tmp_path / "a.zip")


def test_a_tar_that_ends_too_soon_is_refused(tmp_path: Path) -> None:
    whole = tarred(photos(), tarfile.USTAR_FORMAT).rstrip(b"\0")
    for size in range(0, len(whole), 512):
        (tmp_path / "a.tar").write_bytes(whole[:size])
        with pytest.raises(DataError, match="truncated"):
            unpack(tmp_path / "a.tar")


def test_data_after_the_end_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tarred({"a": b"1"}) + tarred({"b": b"2"}))
    with pytest.raises(DataError, match="there is data after its end"):
        unpack(tmp_path / "a.tar")


def test_too_many_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    packs: list[tuple[str, Callable[[dict[str, bytes]], bytes]]] = [("a.tar", tarred), ("a.zip", zipped)]
    for name, pack in packs:
        (tmp_path / name).write_bytes(pack({str(number): b"1" for number in range(4)}))
        with pytest.raises(DataError, match="more than 3 members"):
            unpack(tmp_path / name)


def test_a_disk_with_little_room_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "SPARE", 10**18)
    (tmp_path / "a.zip").write_bytes(zipped({"a": b"1"}))
    with pytest.raises(DataError, match="the disk has no room"):
        unpack(tmp_path / "a.zip")


def test_names_in_utf_8_that_are_not_said_to_be(tmp_path: Path) -> None:
    plain = bytearray(zipped({"ä/1.png": b"1"}))
    # As macOS writes them: without the UTF-8 bit, in both headers of a member.
    for mark, place in ((b"PK\3\4", 7), (b"PK\1\2", 9)):
        plain[plain.index(mark) + place] &= ~8
    (tmp_path / "a.zip").write_bytes(plain)
    assert os.listdir(unpack(tmp_path / "a.zip")) == ["ä"]


def test_large_and_negative_numbers_in_a_tar(tmp_path: Path) -> None:
    whole = bytearray(tarred({"a": b"1"}, tarfile.GNU_FORMAT))
    for field in (b"\x80" + bytes(3) + (2**62).to_bytes(8), b"\xff" * 12, b"-0000000001\0"):
        whole[124:136] = field
        whole[148:156] = f"{sum(whole[:148]) + sum(whole[156:512]) + 256:06o}\0 ".encode()
        (tmp_path / "a.tar").write_bytes(whole)
        with Unpacked(tmp_path / "a.tar") as stream, pytest.raises(ValueError, match=r"truncated|number"):
            list(tar_members(stream))


def test_messages_name_the_archive_and_not_the_cache(tmp_path: Path) -> None:
    path, inside = tmp_path / "a.zip", photos()
    path.write_bytes(zipped({"pets.ZIP": zipped(inside)}))
    with pytest.raises(DataError, match=r"a\.zip contains only another archive, pets\.ZIP\.\nUnpack it, and give that one\.$"):
        load(path)
    path.write_bytes(zipped({"photos/1.png": inside["photos/cat/0.png"]}))
    with pytest.raises(DataError, match=r"a\.zip/photos has pictures, but no class folders") as reported:
        load(path)
    assert "cache" not in str(reported.value)
    assert "a.zip/photos has pictures" in check(path).findings[0].words
    path.write_bytes(zipped({**inside, "photos/cat/0.png": b"?"}))
    with pytest.raises(DataError, match=r"a\.zip/photos/cat/0\.png is not a picture") as reported:
        load(path)
    assert "cache" not in str(reported.value)


def test_splits_in_an_archive(tmp_path: Path) -> None:
    files = {
        f"set/{part}/{name.removeprefix('photos/')}": content for part in ("seg_train", "seg_test") for name, content in photos().items()
    }
    (tmp_path / "a.zip").write_bytes(zipped(files))
    assert {name: len(part) for name, part in load(tmp_path / "a.zip").splits.items()} == {"train": 4, "test": 4}
