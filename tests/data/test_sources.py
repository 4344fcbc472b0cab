import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from epochal.data.examples import Found
from epochal.data.inputs.picture.rule import PictureRule
from epochal.data.options import ReadOptions
from epochal.data.sources import SOURCES, Source, arrays, cifar10, digits, find, folder, idx
from epochal.errors import DataError, DownloadError, RecipeError


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every reader return its own name instead of reading."""
    for module, name in (
        (folder, "read"),
        (arrays, "read"),
        (cifar10, "read_cifar10"),
        (idx, "read_idx_folder"),
        (digits, "read"),
    ):
        monkeypatch.setattr(module, name, lambda *_, module=module, **__: Found(module.__name__.rpartition(".")[2], {}))
    monkeypatch.setitem(SOURCES, "mnist", Source(lambda data_dir: Found(f"mnist from {data_dir}", {}), ""))


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")


def test_the_names() -> None:
    assert list(SOURCES) == ["digits", "mnist", "fashion-mnist", "kmnist", "cifar10"]
    assert all(source.about and not source.about.endswith(".") for source in SOURCES.values())
    assert len(find("digits").parts["train"].inputs) == 1797


def test_a_bare_word_is_a_name_first(readers: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mnist").mkdir()
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find("mnist").name == "mnist from None"
    assert find("mnist", data_dir=tmp_path).name == f"mnist from {tmp_path}"
    for path in ("./mnist", "mnist/", f"..{os.sep}{tmp_path.name}{os.sep}mnist", tmp_path / "mnist", "photos"):
        assert find(path).name == "folder"


def test_what_has_the_name_of_a_data_set_is_reported(readers: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mnist").mkdir()
    monkeypatch.chdir(tmp_path)
    note = "mnist is the data set of that name; there is a mnist here too: write ./mnist to read that"
    assert find("mnist").notes == (note,)
    assert find("mnist", data_dir=tmp_path).notes == ()  # There it is looked for.
    assert find("./mnist").notes == ()
    assert find("digits").notes == ()

    def offline(_: Path | None) -> Found:
        raise DownloadError("x cannot be downloaded.", "Check the network.")

    monkeypatch.setitem(SOURCES, "mnist", Source(offline, ""))
    with pytest.raises(DataError, match=r"x cannot be downloaded\.\nCheck the network\.\nThere is a mnist here too.*: write \./mnist to"):
        find("mnist")


def test_paths_are_distinguished(readers: None, tmp_path: Path) -> None:
    kinds = {
        "a.npz": "arrays",
        "a.NPY": "arrays",
        "a.safetensors": "arrays",
        "cifar-10-binary.tar.gz": "cifar10",
        "cifar-10-batches-bin/data_batch_1.bin": "cifar10",
        "four/train-images-idx3-ubyte": "idx",
        "packed/t10k-labels-idx1-ubyte.gz": "idx",
        "many/x_train.npy": "arrays",
        "photos/cat/1.png": "folder",
        "photos.npz/cat/1.png": "folder",
    }
    for name, kind in kinds.items():
        touch(tmp_path / name)
        place = tmp_path / name.split("/")[0]
        assert find(place).name == find(str(place)).name == kind, name
    assert find(f"{tmp_path / 'four'}{os.sep}").name == "idx"


def test_the_home_folder(readers: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "photos").mkdir()
    assert find("~/photos").name == "folder"
    assert find("mnist", data_dir=type(tmp_path)("~")).name == f"mnist from {tmp_path}"


def test_what_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"There is no file or folder 'minst' and no data set of that name\.\nDid you mean 'mnist'\?"):
        find("minst")
    with pytest.raises(DataError, match=r"no data set of that name\.\nKnown: cifar10, digits, fashion-mnist, kmnist, mnist\."):
        find("zzz")
    with pytest.raises(DataError, match=r"There is no file or folder '\./mnist'\.\nCheck the path"):
        find("./mnist")
    with pytest.raises(DataError, match=r"There is no file or folder ''"):
        find("")
    touch(tmp_path / "table.doc")
    with pytest.raises(
        DataError,
        match=r"table\.doc is a file of an unsupported kind\.\nGive a folder of pictures or sounds, or an archive of one \(\.zip",
    ):
        find("table.doc")


@pytest.mark.parametrize("what", ["x" * 300, "~nosuch/x", "/", f"{'x' * 300}/y"])
def test_paths_that_the_system_refuses(what: str) -> None:
    with pytest.raises(DataError, match=r"^('(x+|~nosuch/x|x+/y)' cannot be accessed: |There is no file|/ is the root of the file system)"):
        find(what)


def test_a_path_behind_a_closed_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", refuse)
    with pytest.raises(DataError, match=r"'.*closed' cannot be accessed: Permission denied\.\nCheck the path"):
        find(tmp_path / "closed")


def test_pictures_larger_than_memory_are_refused(save_picture: Callable[..., Path], tmp_path: Path) -> None:
    save_picture("cat/1.png")
    save_picture("dog/1.png")
    with pytest.raises(
        DataError, match=r"The size of 100,000×100,000 pixels is beyond the limit of 100,000,000 numbers\.\nChoose a smaller"
    ):
        find(tmp_path, options=ReadOptions(size=100_000))


def test_the_data_folder_must_be_there(tmp_path: Path) -> None:
    touch(tmp_path / "file")
    for data_dir in (tmp_path / "absent", tmp_path / "file"):
        with pytest.raises(DataError, match=rf"There is no folder {data_dir} to look for data \(--data-dir or EPOCHAL_DATA\)"):
            find("digits", data_dir=data_dir)


def test_settings_of_pictures_work_with_pictures_only(save_picture: Callable[..., Path], tmp_path: Path) -> None:
    save_picture("cat/1.png")
    save_picture("dog/1.png")
    assert find(tmp_path, options=ReadOptions(size=4, fit="crop")).input == PictureRule(shape=(3, 4, 4), fit="crop")
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 2)), y=np.zeros(2))
    for what, options in (("digits", {"size": 4}), ("mnist", {"fit": "pad"}), (tmp_path / "a.npz", {"size": (4, 4)})):
        with pytest.raises(
            RecipeError, match=r"The setting data\.(size|fit) = .* does not work with .*: it is for folders of pictures\.\nLeave"
        ):
            find(what, options=ReadOptions(**options))
