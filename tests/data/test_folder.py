import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from epochal.data import ingest
from epochal.data.examples import Stored
from epochal.data.load import load
from epochal.data.sources import folder
from epochal.data.spec import DataSpec, PictureRule
from epochal.errors import DataError


def read(path: Path, **options: Any) -> Any:
    return folder.read(path, **options)


@pytest.fixture
def tree(save_picture: Callable[..., Path], tmp_path: Path) -> Any:
    """Write pictures at the given places below a folder "photos"."""

    def grow(*names: Any, **options: Any) -> Any:
        for seed, name in enumerate(names):
            save_picture(f"photos/{name}", seed=seed, **options)
        return tmp_path / "photos"

    return grow


class TestLayouts:
    def test_class_folders(self, tree: Callable[..., Path]) -> None:
        found = read(tree("cat/2.png", "cat/10.png", "dog/1.png"))
        assert (found.name, found.classes, found.notes) == ("photos", ("cat", "dog"), ())
        assert list(found.parts) == ["train"]
        part = found.parts["train"]
        assert part.inputs.shape == (3, 3, 8, 8)
        assert part.inputs.dtype == torch.uint8
        assert part.targets.dtype == torch.int64
        assert part.targets.tolist() == [0, 0, 1]
        assert part.files == ["cat/10.png", "cat/2.png", "dog/1.png"]
        assert (found.picture.mode, found.picture.size) == ("RGB", (8, 8))

    @pytest.mark.parametrize("valid", ["valid", "val", "validation", "Val"])
    def test_splits(self, tree: Callable[..., Path], valid: Any) -> None:
        found = read(tree("train/cat/1.png", "train/dog/1.png", f"{valid}/dog/2.png", "test/cat/3.png", "test/dog/3.png"))
        assert list(found.parts) == ["train", "valid", "test"]
        assert found.parts["valid"].targets.tolist() == [1]
        assert found.parts["valid"].files == [f"{valid}/dog/2.png"]
        assert found.parts["test"].targets.tolist() == [0, 1]

    def test_inputs_are_the_files(self, tree: Callable[..., Path]) -> None:
        root = tree("a/1.png", "b/1.png", mode="L")
        part = read(root).parts["train"]
        for place, name in enumerate(part.files):
            with Image.open(root / name) as picture:
                assert bytes(part.inputs[place].flatten().tolist()) == picture.tobytes()

    def test_classes_are_in_natural_order(self, tree: Callable[..., Path]) -> None:
        assert read(tree("10/a.png", "2/a.png", "1/a.png", "x9/a.png", "x10/a.png")).classes == ("1", "2", "10", "x9", "x10")

    def test_the_order_of_classes_is_never_a_matter_of_chance(self, tree: Callable[..., Path]) -> None:
        assert read(tree("01/a.png", "1/a.png", "001/a.png", "0/a.png")).classes == ("0", "001", "01", "1")

    def test_nested_folders_belong_to_their_class(self, tree: Callable[..., Path]) -> None:
        part = read(tree("cat/deep/er/1.JPG", "cat/1.png", "dog/1.png")).parts["train"]
        assert part.files == ["cat/1.png", "cat/deep/er/1.JPG", "dog/1.png"]
        assert part.targets.tolist() == [0, 0, 1]

    def test_a_class_may_be_called_train(self, tree: Callable[..., Path]) -> None:
        assert read(tree("train/1.png", "bus/1.png")).classes == ("bus", "train")

    def test_a_relative_path(self, tree: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tree("cat/1.png", "dog/1.png"))
        found = read(Path())
        assert (found.name, found.parts["train"].files) == ("photos", ["cat/1.png", "dog/1.png"])

    def test_size_and_fit_are_passed_on(self, tree: Callable[..., Path]) -> None:
        found = read(tree("cat/1.png", "dog/1.png"), size=(4, 6), fit="crop")
        assert found.parts["train"].inputs.shape == (2, 3, 4, 6)
        assert found.picture.fit == "crop"

    def test_only_training_pictures_make_the_rule(self, tree: Callable[..., Path], save_picture: Callable[..., Path]) -> None:
        root = tree("train/cat/1.png", "train/dog/1.png", mode="L")
        save_picture("photos/test/cat/1.png", (30, 10), "RGB")
        found = read(root)
        assert (found.picture.mode, found.picture.size, found.notes) == ("L", (8, 8), ())
        assert found.parts["test"].inputs.shape == (1, 1, 8, 8)


class TestOtherFiles:
    def test_litter_is_ignored(self, tree: Callable[..., Path]) -> None:
        root = tree("cat/1.png", "dog/1.png", ".hidden/1.png", "__MACOSX/cat/1.png", "cat/.ipynb_checkpoints/1.png", "cat/._1.png")
        for name in (".DS_Store", "cat/Thumbs.db", "cat/desktop.ini"):
            (root / name).write_bytes(b"x")
        found = read(root)
        assert (found.classes, found.notes, len(found.parts["train"].files)) == (("cat", "dog"), (), 2)

    def test_files_that_are_no_pictures_are_told(self, tree: Callable[..., Path]) -> None:
        root = tree("train/cat/1.png", "train/dog/1.png")
        (root / "train/cat/notes.txt").write_text("x")
        assert read(root).notes == ("1 file is not used, being no picture in a class folder: train/cat/notes.txt",)
        (root / "labels.csv").write_text("x")
        assert read(root).notes == ("2 files are not used, being no picture in a class folder: labels.csv, ...",)

    def test_pictures_outside_class_folders_are_told(self, tree: Callable[..., Path]) -> None:
        assert read(tree("1.png", "cat/1.png", "dog/1.png")).notes == ("1 file is not used, being no picture in a class folder: 1.png",)

    def test_a_folder_without_pictures_beside_splits(self, tree: Callable[..., Path]) -> None:
        root = tree("train/cat/1.png", "train/dog/1.png")
        (root / "scripts").mkdir()
        (root / "scripts/make.py").write_text("")
        assert list(read(root).parts) == ["train"]

    @pytest.mark.skipif(os.name != "posix", reason="needs symbolic links")
    def test_links_are_followed_but_loops_end(self, tree: Callable[..., Path], save_picture: Callable[..., Path]) -> None:
        root = tree("cat/1.png", "dog/1.png")
        (root / "cat/up").symlink_to(root)
        (root / "cat/itself").symlink_to(root / "cat")
        (root / "cat/circle").symlink_to(root / "cat/circle")
        (root / "dog/more").symlink_to(save_picture("elsewhere/2.png").parent)
        found = read(root)
        assert found.parts["train"].files == ["cat/1.png", "dog/1.png", "dog/more/2.png"]
        assert found.notes == ("1 file is not used, being no picture in a class folder: cat/circle",)


class TestMistakes:
    @pytest.mark.parametrize(
        ("names", "text"),
        [
            (("1.png", "2.png"), r"photos has pictures, but no class folders\.\nPut the pictures of each class into a folder"),
            (("test/cat/1.png", "test/dog/1.png"), r"photos has test, but no train\.\nPut training pictures into .*train"),
            (("train/1.png", "test/1.png"), r"train has pictures, but no class folders"),
            (("train/cat/1.png", "train/dog/1.png", "test/1.png"), r"test has pictures, but no class folders"),
            (("cat/1.png", "cat/2.png"), r"has only one class folder, 'cat'\.\nAdd another class; or"),
            (("train/cat/1.png", "train/dog/1.png", "test/fox/1.png"), r"the class 'fox' is in test, but not in train\.\nAdd pictures"),
            (("train/cat/1.png", "train/dog/1.png", "bus/1.png"), r"bus has pictures, but is no split\.\nName it train, valid or test"),
            (("train/a/1.png", "train/b/1.png", "val/a/1.png", "valid/a/1.png"), r"val and .*valid are both the split 'valid'"),
        ],
    )
    def test_unclear_layouts(self, tree: Callable[..., Path], names: Any, text: str) -> None:
        with pytest.raises(DataError, match=text):
            read(tree(*names))

    def test_a_class_without_pictures(self, tree: Callable[..., Path]) -> None:
        root = tree("cat/1.png", "dog/1.png")
        (root / "fox").mkdir()
        with pytest.raises(DataError, match=r"the folder of the class 'fox' has no pictures \(train\)\.\nFill it or remove it"):
            read(root)

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"There is no folder .*absent\.\nCheck the path"):
            read(tmp_path / "absent")
        with pytest.raises(DataError, match=r" is empty\.\nPut the pictures"):
            read(tmp_path)
        (tmp_path / "a.txt").write_text("")
        with pytest.raises(DataError, match=r" has no pictures\.\nPut the pictures"):
            read(tmp_path)
        with pytest.raises(DataError, match=r"a\.txt is a file, not a folder of pictures"):
            read(tmp_path / "a.txt")

    def test_damaged_pictures_are_named(self, tree: Callable[..., Path]) -> None:
        root = tree("cat/1.png", "cat/2.png", "dog/1.png")
        (root / "cat/1.png").write_bytes(b"")
        with pytest.raises(DataError, match=r"cat/1\.png is empty"):
            read(root)
        (root / "cat/1.png").write_bytes((root / "cat/2.png").read_bytes()[:150])
        with pytest.raises(DataError, match=r"cat/1\.png is truncated"):
            read(root)

    @pytest.mark.skipif(os.name != "posix", reason="needs symbolic links")
    def test_a_link_to_nowhere_is_named(self, tree: Callable[..., Path]) -> None:
        root = tree("cat/1.png", "dog/1.png")
        (root / "cat/2.png").symlink_to(root / "gone.png")
        with pytest.raises(DataError, match=r"cat/2\.png is a link to nothing\.\nMend the link"):
            read(root)


class TestMemory:
    def test_pictures_beyond_memory_are_streamed(self, tree: Callable[..., Path]) -> None:
        root = tree("train/cat/1.png", "train/dog/1.png", "test/cat/1.png")
        resident = read(root, memory=3 * 3 * 64)
        assert resident.notes == ()
        streamed = read(root, memory=3 * 3 * 64 - 1)
        assert streamed.notes == ("3 pictures would take 0.0 GB of memory: they are streamed from the cache (see data.memory)",)
        for split, part in streamed.parts.items():
            kept = resident.parts[split]
            assert isinstance(part.inputs, Stored)
            assert isinstance(kept.inputs, torch.Tensor)
            assert part.inputs.gather(torch.arange(len(part.inputs))).equal(kept.inputs)
            assert (part.files, part.digest) == (kept.files, kept.digest)

    def test_half_of_the_free_memory(self, tree: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
        root = tree("cat/1.png", "dog/1.png")
        for free, kind in ((2 * 2 * 3 * 64, torch.Tensor), (2 * 2 * 3 * 64 - 1, Stored), (None, torch.Tensor)):
            monkeypatch.setattr(ingest, "free_memory", lambda free=free: free)
            assert isinstance(read(root).parts["train"].inputs, kind)


class TestLike:
    """Pictures for a model that was trained already."""

    @pytest.fixture
    def spec(self) -> DataSpec:
        return DataSpec(
            name="photos",
            task="single-label",
            shape=(1, 4, 4),
            dtype="uint8",
            outputs=("cat", "dog"),
            mean=(0.5,),
            std=(0.5,),
            counts={},
            picture=PictureRule(mode="L", size=(4, 4), fit="crop"),
            fingerprint="",
        )

    def test_they_are_read_as_those_it_learned_from(self, tree: Callable[..., Path], spec: DataSpec) -> None:
        found = read(tree("dog/1.png"), like=spec)
        assert (found.picture, found.classes, found.notes) == (spec.picture, ("dog",), ())
        assert found.parts["train"].inputs.shape == (1, 1, 4, 4)

    def test_a_test_split_alone_will_do(self, tree: Callable[..., Path], spec: DataSpec) -> None:
        assert read(tree("test/cat/1.png"), like=spec).parts["train"].files == ["test/cat/1.png"]


def test_deep_pictures_of_small_numbers_are_no_silent_black(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8)).save(tmp_path / name / "1.png")
    with pytest.raises(DataError, match=r"all training pictures are the same, every pixel of them is 0\.\n16-bit pictures"):
        load(tmp_path)


def test_deep_pictures_that_lose_most_are_told(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.arange(0, 4096, 64, dtype=np.uint16).reshape(8, 8)).save(tmp_path / name / "1.png")
    assert read(tmp_path).notes == ("16-bit pictures keep their high byte, which in these is at most 15: rescale them to 0-65535",)


def test_a_folder_that_vanishes(tree: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> None:
        raise FileNotFoundError(2, "No such file or directory")

    root = tree("cat/1.png", "dog/1.png")
    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(DataError, match=r"photos cannot be listed: No such file or directory\.\nCheck the path"):
        read(root)


def test_a_folder_that_may_not_be_read(tree: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError

    root = tree("cat/1.png", "dog/1.png")
    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(DataError, match=r"photos may not be read\.\nChange its permissions"):
        read(root)
