import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from epochal.data.sources import cifar10
from epochal.errors import DataError

RECORDS = 20


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """CIFAR-10 with few pictures, and no network."""
    monkeypatch.setattr(cifar10, "RECORDS", RECORDS)
    monkeypatch.setattr(cifar10, "fetch", lambda *_, **__: pytest.fail("asked the network"))


def make_batches(seed: int = 0) -> Any:
    noise = np.random.default_rng(seed)
    batches = {}
    for name in cifar10._BATCHES:
        records = noise.integers(0, 256, (RECORDS, 3073), dtype=np.uint8)
        records[:, 0] %= 10
        batches[name] = records
    return batches


def write_folder(path: Path, batches: dict[str, np.ndarray]) -> Any:
    path.mkdir(parents=True)
    for name, records in batches.items():
        (path / name).write_bytes(records.tobytes())
    return path


def write_archive(path: Path, members: Any) -> Any:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def members(batches: dict[str, np.ndarray]) -> Any:
    extra = {"cifar-10-batches-bin/readme.html": b"x", "../data_batch_1.bin": b"evil", "data_batch_2.bin": b"elsewhere"}
    return extra | {f"cifar-10-batches-bin/{name}": records.tobytes() for name, records in batches.items()}


def check(found: Any, batches: dict[str, np.ndarray]) -> None:
    assert (found.name, found.classes[:2], len(found.classes)) == ("cifar10", ("airplane", "automobile"), 10)
    train = np.concatenate([batches[f"data_batch_{number}.bin"] for number in range(1, 6)])
    for part, records in ((found.parts["train"], train), (found.parts["test"], batches["test_batch.bin"])):
        assert part.inputs.dtype == torch.uint8
        assert (part.inputs.numpy() == records[:, 1:].reshape(-1, 3, 32, 32)).all()
        assert part.targets.tolist() == records[:, 0].tolist()
        assert part.targets.dtype == torch.int64


def test_folder_and_archive(tmp_path: Path) -> None:
    batches = make_batches()
    check(cifar10.read_cifar10(write_folder(tmp_path / "any", batches)), batches)
    check(cifar10.read_cifar10(write_archive(tmp_path / "any.tar.gz", members(batches))), batches)


@pytest.mark.parametrize("place", ["cifar10/", ""])
@pytest.mark.parametrize("packed", [False, True])
def test_where_it_is_looked_for(tmp_path: Path, place: Any, packed: bool) -> None:
    batches = make_batches()
    if packed:
        write_archive(tmp_path / f"{place}cifar-10-binary.tar.gz", members(batches))
    else:
        write_folder(tmp_path / f"{place}cifar-10-batches-bin", batches)
    check(cifar10.read(tmp_path), batches)


def test_otherwise_it_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    batches = make_batches()
    archive = write_archive(tmp_path / "there.tar.gz", members(batches))
    asked = []

    def fetch(name: str, mirrors: Any, *, sha256: Any, size: Any, to: Path) -> Any:
        asked.append((name, sha256[:8], size, to))
        return archive

    monkeypatch.setattr(cifar10, "fetch", fetch)
    monkeypatch.setattr(cifar10, "cache_folder", lambda: tmp_path / "cache")
    check(cifar10.read(None), batches)
    check(cifar10.read(tmp_path), batches)
    assert asked == [("cifar-10-binary.tar.gz", "c4a38c50", 170_052_171, base / "cifar10") for base in (tmp_path / "cache", tmp_path)]


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    batches = make_batches()
    folder = write_folder(tmp_path / "folder", batches)
    (folder / "data_batch_3.bin").write_bytes(b"x" * 100)
    with pytest.raises(DataError, match=r"folder/data_batch_3\.bin has 100 bytes instead of 61,460\.\nCopy or download it again"):
        cifar10.read_cifar10(folder)
    (folder / "data_batch_3.bin").unlink()
    with pytest.raises(DataError, match=r"folder/data_batch_3\.bin cannot be read: No such file"):
        cifar10.read_cifar10(folder)

    lacking = members(batches)
    del lacking["cifar-10-batches-bin/test_batch.bin"]
    with pytest.raises(DataError, match=r"a\.tar\.gz lacks test_batch\.bin\.\nPut the published cifar-10-binary\.tar\.gz there"):
        cifar10.read_cifar10(write_archive(tmp_path / "a.tar.gz", lacking))
    shorter = members(batches) | {"cifar-10-batches-bin/data_batch_2.bin": b"x"}
    with pytest.raises(DataError, match=r"a\.tar\.gz/cifar-10-batches-bin/data_batch_2\.bin has 1 bytes instead of 61,460"):
        cifar10.read_cifar10(write_archive(tmp_path / "a.tar.gz", shorter))
    with pytest.raises(DataError, match=r"absent\.tar\.gz cannot be read"):
        cifar10.read_cifar10(tmp_path / "absent.tar.gz")


def test_labels_beyond_nine(tmp_path: Path) -> None:
    batches = make_batches()
    batches["data_batch_2.bin"][7, 0] = 10
    with pytest.raises(DataError, match=r"data_batch_2\.bin is damaged: record 7 has the label 10"):
        cifar10.read_cifar10(write_folder(tmp_path / "folder", batches))


def test_a_truncated_archive(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a.tar.gz", members(make_batches()))
    content = path.read_bytes()
    for length in (*range(0, len(content), len(content) // 50), len(content) - 9, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match=r"a\.tar\.gz cannot be read"):
            cifar10.read_cifar10(path)
    path.write_bytes(content[:-8] + b"xxxx" + content[-4:])
    with pytest.raises(DataError, match=r"a\.tar\.gz cannot be read: CRC check failed"):
        cifar10.read_cifar10(path)


def test_a_link_in_the_archive_is_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo("cifar-10-batches-bin/data_batch_1.bin")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(DataError, match=r"lacks data_batch_1\.bin"):
        cifar10.read_cifar10(path)
