import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from epochal.data.inputs.picture.rule import PictureRule
from epochal.data.inputs.values import access
from epochal.data.load import load
from epochal.data.options import ReadOptions
from epochal.data.sources import folder
from epochal.data.spec import DataSpec
from epochal.data.storage import fill
from epochal.errors import DataError
from epochal.tasks.single_label import SingleLabel


def read(path: Path, **options: Any) -> Any:
    return folder.read(path, ReadOptions(**options))


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
        assert (found.input.mode, found.input.side) == ("RGB", (8, 8))

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
        assert found.input.fit == "crop"

    def test_only_training_pictures_make_the_rule(self, tree: Callable[..., Path], save_picture: Callable[..., Path]) -> None:
        root = tree("train/cat/1.png", "train/dog/1.png", mode="L")
        save_picture("photos/test/cat/1.png", (30, 10), "RGB")
        found = read(root)
        assert (found.input.mode, found.input.side, found.notes) == ("L", (8, 8), ())
        assert found.parts["test"].inputs.shape == (1, 1, 8, 8)

    @pytest.mark.parametrize(
        ("train", "valid", "test"),
        [
            ("training", "dev", "testing"),
            ("Training_Set", "Validation_Set", "Test_Set"),
            ("train data", "val data", "test data"),
            ("train-images", "val-images", "test-images"),
            ("trainset", "valset", "testset"),
            ("train2017", "val2017", "test2017"),
            ("TRAIN", "EVALUATION", "VAL"),
            ("trainval", "validate", "hold-out"),
            ("seg_train", "seg_dev", "seg_test"),
            ("x.train", "x.val", "x.test"),
            ("训练集", "验证集", "测试集"),
        ],
    )
    def test_common_names_of_splits(self, tree: Callable[..., Path], train: str, valid: str, test: str) -> None:
        if "EVALUATION" in (train, valid, test):
            valid, test = test, valid
        found = read(tree(f"{train}/cat/1.png", f"{train}/dog/1.png", f"{valid}/dog/2.png", f"{valid}/cat/2.png", f"{test}/cat/3.png"))
        assert found.classes == ("cat", "dog")
        assert {name: len(part.targets) for name, part in found.parts.items()} == {"train": 2, "valid": 2, "test": 1}

    @pytest.mark.parametrize("around", ["images", "data/images", "deep/er/still"])
    def test_folders_around_all(self, tree: Callable[..., Path], around: str) -> None:
        root = tree(f"{around}/train/cat/1.png", f"{around}/train/dog/1.png", f"{around}/test/cat/2.png")
        (root / "labels.csv").write_text("")
        (root / "annotations").mkdir()
        (root / "annotations/1.xml").write_text("")
        found = read(root)
        assert (found.classes, found.parts["test"].files) == (("cat", "dog"), [f"{around}/test/cat/2.png"])
        assert found.notes == ("1 file is not used: no picture in a class folder: labels.csv",)

    def test_a_folder_around_class_folders(self, tree: Callable[..., Path]) -> None:
        assert read(tree("images/cat/1.png", "images/dog/1.png")).parts["train"].files == ["images/cat/1.png", "images/dog/1.png"]

    def test_splits_twice_and_pictures_without_classes(self, tree: Callable[..., Path]) -> None:
        root = tree(
            "seg_train/seg_train/cat/1.png", "seg_train/seg_train/dog/1.png", "seg_test/seg_test/dog/1.png", "seg_pred/seg_pred/1.png"
        )
        found = read(root)
        assert (found.classes, found.parts["test"].targets.tolist()) == (("cat", "dog"), [1])
        assert found.notes == ("1 file is not used: no picture in a class folder: seg_pred/seg_pred/1.png",)

    def test_classes_with_the_word_for_a_split(self, tree: Callable[..., Path]) -> None:
        assert read(tree("train station/1.png", "test tube/1.png")).classes == ("test tube", "train station")
        assert read(tree("train station/1.png", "test tube/1.png", "dog/1.png")).classes == ("dog", "test tube", "train station")

    def test_inner_folders_that_are_no_classes(self, tree: Callable[..., Path]) -> None:
        assert read(tree("cat/images/1.png", "dog/images/1.png")).classes == ("cat", "dog")
        assert read(tree("fox/a/1.png", "fox/b/1.png", "cow/c/1.png", "cow/b/1.png")).classes == ("cat", "cow", "dog", "fox")

    def test_two_ways_to_write_a_letter_are_one_class(self, tree: Callable[..., Path]) -> None:
        found = read(tree("train/caf\u00e9/1.png", "train/cafe\u0301/2.png", "train/dog/1.png", "test/cafe\u0301/3.png"))
        assert found.classes == ("caf\u00e9", "dog")
        assert [part.targets.tolist() for part in found.parts.values()] == [[0, 0, 1], [0]]


class TestOtherFiles:
    @pytest.mark.parametrize(
        "name", ["@eaDir", "#recycle", "$RECYCLE.BIN", "lost+found", "System Volume Information", ".Trash-1000", "__MACOSX", ".thumbnails"]
    )
    def test_what_systems_leave_behind(self, tree: Callable[..., Path], name: str) -> None:
        found = read(tree("cat/1.png", "dog/1.png", f"{name}/1.png", f"cat/{name}/1.png/SYNOPHOTO_THUMB.jpg", f"dog/deep/{name}/2.png"))
        assert (found.classes, found.parts["train"].files, found.notes) == (("cat", "dog"), ["cat/1.png", "dog/1.png"], ())

    @pytest.mark.parametrize("names", [("recipe.toml", "data.json"), ("bundle.json", "model.safetensors"), (".epochal",)])
    def test_what_epochal_wrote(self, tree: Callable[..., Path], names: tuple[str, ...]) -> None:
        root = tree("cat/1.png", "dog/1.png", "runs/one/figures/1.png", "cat/seen/1.png")
        for name in names:
            (root / "runs/one" / name).write_text("")
            (root / "cat/seen" / name).write_text("")
        found = read(root)
        assert (found.classes, found.parts["train"].files, found.notes) == (("cat", "dog"), ["cat/1.png", "dog/1.png"], ())
        with pytest.raises(DataError, match=r"one was written by Epochal: it is not data"):
            read(root / "runs/one")

    def test_class_folders_without_pictures_are_reported(self, tree: Callable[..., Path]) -> None:
        root = tree("train/cat/1.png", "train/dog/1.png", "test/cat/1.png")
        for name in ("train/fox", "test/dog", "test/cow"):
            (root / name).mkdir()
        found = read(root)
        assert (found.classes, found.notes) == (("cat", "dog"), ("class folders without pictures are left out: cow, ...",))

    def test_pictures_in_other_formats_are_reported(self, tree: Callable[..., Path]) -> None:
        root = tree("cat/1.png", "dog/1.png")
        (root / "cat/2.HEIC").write_bytes(b"")
        assert read(root).notes == ("1 picture is not used: unsupported format (save as JPEG or PNG): cat/2.HEIC",)

    def test_litter_is_ignored(self, tree: Callable[..., Path]) -> None:
        root = tree("cat/1.png", "dog/1.png", ".hidden/1.png", "__MACOSX/cat/1.png", "cat/.ipynb_checkpoints/1.png", "cat/._1.png")
        for name in (".DS_Store", "cat/Thumbs.db", "cat/desktop.ini"):
            (root / name).write_bytes(b"x")
        found = read(root)
        assert (found.classes, found.notes, len(found.parts["train"].files)) == (("cat", "dog"), (), 2)

    def test_files_that_are_no_pictures_are_reported(self, tree: Callable[..., Path]) -> None:
        root = tree("train/cat/1.png", "train/dog/1.png")
        (root / "train/cat/notes.txt").write_text("x")
        assert read(root).notes == ("1 file is not used: no picture in a class folder: train/cat/notes.txt",)
        (root / "labels.csv").write_text("x")
        assert read(root).notes == ("2 files are not used: no picture in a class folder: labels.csv, ...",)

    def test_pictures_outside_class_folders_are_reported(self, tree: Callable[..., Path]) -> None:
        assert read(tree("1.png", "cat/1.png", "dog/1.png")).notes == ("1 file is not used: no picture in a class folder: 1.png",)

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
        assert found.notes == ("1 file is not used: no picture in a class folder: cat/circle",)


class TestMistakes:
    @pytest.mark.parametrize(
        ("names", "text"),
        [
            (("1.png", "2.png"), r"photos has pictures, but no class folders\.\nPut the pictures of each class into a folder"),
            (("test/cat/1.png", "test/dog/1.png"), r"photos has test, but no train\.\nPut training pictures into .*train"),
            (("train/1.png", "test/1.png"), r"train has pictures, but no class folders"),
            (("train/cat/1.png", "train/dog/1.png", "test/1.png"), r"test has pictures, but no class folders"),
            (("cat/1.png", "cat/2.png"), r"has only one class folder with pictures, 'cat'\.\nAdd another class; or"),
            (("train/cat/1.png", "train/dog/1.png", "test/fox/1.png"), r"the class 'fox' is in test, but not in train\.\nAdd pictures"),
            (("train/cat/1.png", "train/dog/1.png", "bus/1.png"), r"bus has pictures, but is not a split\.\nName it train, valid or test"),
            (("train/a/1.png", "train/b/1.png", "val/a/1.png", "valid/a/1.png"), r"val and .*valid are both the split 'valid'"),
            (("old/a/1.png", "old/b/1.png", "new/a/1.png", "new/b/1.png"), r"new and .*old contain the same folders \(a, b\)"),
            (("p/p/a/1.png", "p/p/b/1.png", "q/q/a/1.png", "q/q/B/1.png", "c/1.png"), r"p and .*q contain the same folders \(a, b\)"),
            (("train/a/1.png", "train/b/1.png", "my_test/a/1.png"), r"my_test has pictures, but is not a split"),
            (("training/a/1.png", "train/b/1.png"), r"train and .*training are both the split 'train'"),
        ],
    )
    def test_unclear_layouts(self, tree: Callable[..., Path], names: Any, text: str) -> None:
        with pytest.raises(DataError, match=text):
            read(tree(*names))

    def test_a_class_whose_pictures_are_in_other_formats(self, tree: Callable[..., Path]) -> None:
        root = tree("cat/1.png", "dog/1.png", "fox/1.png")
        (root / "fox/1.png").rename(root / "fox/1.HEIC")
        with pytest.raises(DataError, match=r"the pictures of the class 'fox' \(train\) are all in formats that are not read\.\nSave them"):
            read(root)

    def test_a_class_that_has_pictures_only_in_another_split(self, tree: Callable[..., Path]) -> None:
        root = tree("train/cat/1.png", "train/dog/1.png", "test/fox/1.png")
        (root / "train/fox").mkdir()
        with pytest.raises(DataError, match=r"the class 'fox' is in test, but not in train"):
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
        with pytest.raises(DataError, match=r"cat/2\.png is a link to nothing\.\nFix the link"):
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
            assert access(part.inputs) == "file"
            assert access(kept.inputs) == "memory"
            assert part.inputs[torch.arange(len(part.inputs))].equal(kept.inputs)
            assert (part.files, part.digest) == (kept.files, kept.digest)

    def test_half_of_the_free_memory(self, tree: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
        root = tree("cat/1.png", "dog/1.png")
        for free, kind in ((2 * 2 * 3 * 64, "memory"), (2 * 2 * 3 * 64 - 1, "file"), (None, "memory")):
            monkeypatch.setattr(fill, "free_memory", lambda free=free: free)
            assert access(read(root).parts["train"].inputs) == kind


@pytest.mark.parametrize("size", [(100, 3), (1, 60), (3, 3)])
def test_strips_are_no_pictures_with_channels_last(tree: Callable[..., Path], size: tuple[int, int]) -> None:
    data = load(tree("cat/1.png", "dog/1.png", size=size), size=(size[1], size[0]))
    assert (data.train.input(0).shape, data.notes) == ((3, size[1], size[0]), ())


class TestLike:
    """Pictures for a model that was trained already."""

    @pytest.fixture
    def spec(self) -> DataSpec:
        return DataSpec(
            name="photos",
            task=SingleLabel(outputs=("cat", "dog")),
            input=PictureRule(shape=(1, 4, 4), mean=(0.5,), std=(0.5,), fit="crop"),
            counts={},
            fingerprint="",
        )

    def test_they_are_read_as_those_it_learned_from(self, tree: Callable[..., Path], spec: DataSpec) -> None:
        found = read(tree("dog/1.png"), like=spec)
        assert (found.input, found.classes, found.notes) == (spec.input, ("dog",), ())
        assert found.parts["train"].inputs.shape == (1, 1, 4, 4)

    def test_a_test_split_alone_will_do(self, tree: Callable[..., Path], spec: DataSpec) -> None:
        assert read(tree("test/cat/1.png"), like=spec).parts["train"].files == ["test/cat/1.png"]


def test_deep_pictures_of_small_numbers_are_no_silent_black(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8)).save(tmp_path / name / "1.png")
    with pytest.raises(DataError, match=r"every pixel of all training pictures is 0\.\nOnly the high byte"):
        load(tmp_path)


def test_deep_pictures_that_lose_most_are_reported(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.arange(0, 4096, 64, dtype=np.uint16).reshape(8, 8)).save(tmp_path / name / "1.png")
    assert read(tmp_path).notes == ("only the high byte of 16-bit pictures is used, which is at most 15 in these: rescale them to 0-65535",)


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
