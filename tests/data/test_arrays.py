import contextlib
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from epochal.data.load import load
from epochal.data.sources import arrays
from epochal.errors import DataError

X = np.arange(12, dtype=np.float32).reshape(4, 3)
Y = np.array([0, 1, 1, 0])


def read(path: Path) -> Any:
    return arrays.read(path)


def write(path: Path, form: str, **content: Any) -> Any:
    """Write arrays in one of three forms."""
    if form == "npz":
        np.savez(path / "set.npz", **content)
        return path / "set.npz"
    if form == "safetensors":
        save_file({name: torch.from_numpy(array.copy()) for name, array in content.items()}, path / "set.safetensors")
        return path / "set.safetensors"
    for name, array in content.items():
        np.save(path / f"{name}.npy", array)
    return path


@pytest.fixture(params=["npz", "safetensors", "npy"])
def form(request: pytest.FixtureRequest) -> Any:
    return request.param


class TestNames:
    @pytest.mark.parametrize("inputs", ["x", "X", "inputs", "images", "data", "features"])
    @pytest.mark.parametrize("targets", ["y", "targets", "target", "labels"])
    def test_one_pair(self, tmp_path: Path, inputs: Any, targets: Any) -> None:
        found = read(write(tmp_path, "npz", **{inputs: X, targets: Y}))
        assert (found.name, list(found.parts), found.classes, found.notes) == ("set", ["train"], None, ())
        assert found.parts["train"].inputs.equal(torch.from_numpy(X))
        assert found.parts["train"].targets.equal(torch.from_numpy(Y))

    def test_other_words_for_splits(self, tmp_path: Path) -> None:
        found = read(write(tmp_path, "npz", training_images=X, training_labels=Y, x_testing=X + 1, y_testing=Y))
        assert (list(found.parts), found.notes) == (["train", "test"], ())

    @pytest.mark.parametrize("names", ["x_{}", "{}_x"])
    @pytest.mark.parametrize("valid", ["val", "valid", "validation", "dev"])
    def test_splits(self, tmp_path: Path, form: str, names: Any, valid: Any) -> None:
        content = {}
        for number, split in enumerate(("train", valid, "test")):
            content[names.format(split)] = X + number
            content[names.format(split).replace("x", "y")] = Y
        found = read(write(tmp_path, form, **content))
        assert list(found.parts) == ["train", "valid", "test"]
        assert [part.inputs[0, 0].item() for part in found.parts.values()] == [0, 1, 2]

    def test_medmnist(self, tmp_path: Path) -> None:
        images, labels = np.zeros((2, 28, 28, 3), np.uint8), np.array([[0], [1]], np.uint8)
        splits = ("train", "val", "test")
        path = write(tmp_path, "npz", **{f"{s}_images": images for s in splits}, **{f"{s}_labels": labels for s in splits})
        found = read(path)
        assert found.parts["valid"].inputs.shape == (2, 28, 28, 3)
        assert found.parts["valid"].inputs.dtype == torch.uint8
        assert found.parts["valid"].targets.tolist() == [[0], [1]]

    def test_other_arrays_are_reported_and_not_read(self, tmp_path: Path) -> None:
        found = read(write(tmp_path, "npz", x=X, y=Y, ids=np.array([object()]), weight=Y))
        assert found.notes == ("arrays that are not used: ids, weight",)

    @pytest.mark.parametrize(
        ("names", "text"),
        [
            (["a", "b"], r"lacks the inputs and targets of train\. It has a, b\.\nName arrays x and y, or x_train"),
            ([], r"It has no arrays"),
            (["x"], r"lacks the targets of train\. It has x\."),
            (["x", "y", "x_test"], r"lacks the targets of test\. It has x, x_test, y\."),
            (["x_test", "y_test"], r"lacks the inputs and targets of train"),
            (["x", "x_train", "y"], r"'x' and 'x_train' both could be the inputs of train\.\nRename one"),
            (["x", "y", "labels"], r"'labels' and 'y' both could be the targets of train"),
            (["x_val", "x_valid", "x", "y"], r"'x_val' and 'x_valid' both could be the inputs of valid"),
        ],
    )
    def test_unclear_names(self, tmp_path: Path, names: Any, text: str) -> None:
        with pytest.raises(DataError, match=text):
            read(write(tmp_path, "npz", **dict.fromkeys(names, X)))


class TestClasses:
    def test_beside_the_arrays(self, tmp_path: Path) -> None:
        for form in ("npz", "npy"):
            assert read(write(tmp_path, form, x=X, y=Y, classes=np.array(["cat", "dog"]))).classes == ("cat", "dog")

    def test_in_metadata(self, tmp_path: Path) -> None:
        path = tmp_path / "a.safetensors"
        save_file({"x": torch.ones(2, 1), "y": torch.ones(2)}, path, {"classes": json.dumps(["お", "き"])})
        assert read(path).classes == ("お", "き")
        for text in ("3", '["a", 1.5, null]', '["a", "a"]'):
            save_file({"x": torch.ones(2, 1), "y": torch.ones(2)}, path, {"classes": text})
            with pytest.raises(DataError, match="classes"):
                read(path)
        save_file({"x": torch.ones(2, 1), "y": torch.ones(2)}, path, {"classes": "cat, dog"})
        with pytest.raises(DataError, match=r"'classes' in the metadata of .* is damaged: Expecting value"):
            read(path)

    def test_names_as_bytes(self, tmp_path: Path) -> None:
        assert read(write(tmp_path, "npz", x=X, y=Y, classes=np.array([b"cat", "ü".encode()]))).classes == ("cat", "ü")

    @pytest.mark.parametrize("classes", [np.array([1, 2]), np.array([["a", "b"]]), np.array(["a", "a"]), np.array("a")])
    def test_what_is_no_list_of_names(self, tmp_path: Path, classes: Any) -> None:
        with pytest.raises(DataError, match=r"'classes' in .* is not a list of different words\.\nGive the name of each class"):
            read(write(tmp_path, "npz", x=X, y=Y, classes=classes))


class TestNumbers:
    @pytest.mark.parametrize(
        ("theirs", "inputs", "targets"),
        [
            (np.uint8, torch.uint8, torch.uint8),
            (np.bool_, torch.bool, torch.bool),
            (np.int8, torch.int8, torch.int8),
            (np.uint16, torch.int64, torch.int64),
            (np.uint32, torch.int64, torch.int64),
            (np.uint64, torch.int64, torch.int64),
            (">i4", torch.int32, torch.int32),
            (np.int64, torch.int64, torch.int64),
            (np.float16, torch.float16, torch.float16),
            (np.float32, torch.float32, torch.float32),
            (">f8", torch.float64, torch.float64),
            (np.float64, torch.float64, torch.float64),
        ],
    )
    def test_types(self, tmp_path: Path, theirs: Any, inputs: Any, targets: Any) -> None:
        values = np.array([[0, 1], [1, 0]]).astype(theirs)
        part = read(write(tmp_path, "npz", x=values, y=values)).parts["train"]
        assert (part.inputs.dtype, part.targets.dtype) == (inputs, targets)
        assert part.inputs.tolist() == part.targets.tolist() == [[0, 1], [1, 0]]
        part.inputs[0] = 1  # It is writable: nothing is shared with a file.

    def test_types_of_torch(self, tmp_path: Path) -> None:
        for kind, kept in ((torch.bfloat16, torch.float32), (torch.float64, torch.float64), (torch.float8_e4m3fn, torch.float32)):
            save_file({"x": torch.ones(2, 1).to(kind), "y": torch.zeros(2, dtype=torch.int16)}, tmp_path / "a.safetensors")
            part = read(tmp_path / "a.safetensors").parts["train"]
            assert (part.inputs.dtype, part.targets.dtype) == (kept, torch.int16)
            assert part.inputs.tolist() == [[1], [1]]

    def test_fortran_order(self, tmp_path: Path) -> None:
        assert read(write(tmp_path, "npz", x=np.asfortranarray(X), y=Y)).parts["train"].inputs.equal(torch.from_numpy(X))

    @pytest.mark.parametrize("words", [np.array(["cat", "お"]), np.array([["cat"], ["お"]]), np.array([b"cat", "お".encode()])])
    def test_words_as_targets(self, tmp_path: Path, words: Any) -> None:
        assert read(write(tmp_path, "npz", x=X[:2], y=words)).parts["train"].targets == ["cat", "お"]

    @pytest.mark.parametrize(
        ("name", "array", "text"),
        [
            ("x", np.array(["a"]), r"'x' in .*set\.npz contains text, which cannot be learned from\.\nSave an array of numbers"),
            ("x", np.array([1j]), r"'x' in .* contains complex numbers"),
            ("x", np.array(3.0), r"'x' in .* contains a single value"),
            ("x", np.array(["2026-01-01"], "M8[D]"), r"contains dates"),
            ("x", np.array([2**63], np.uint64), r"There is 9223372036854775808 in 'x' in .*, at \[0\], which is beyond int64"),
            (
                "x",
                np.array([{}]),
                r"'x' in .* contains Python objects, which are not read: they could run any code\.\nSave numbers or words",
            ),
            ("x", np.zeros(2, [("a", "i4")]), r"contains values of type"),
            ("y", np.array([1j]), r"The targets of train are complex numbers"),
            ("y", np.array([["a", "b"]]), r"The targets of train are several words in a row"),
            ("y", np.array(1), r"The targets of train are a single value"),
        ],
    )
    def test_what_cannot_be_used(self, tmp_path: Path, name: str, array: Any, text: str) -> None:
        with pytest.raises(DataError, match=text):
            read(write(tmp_path, "npz", **{"x": X, "y": Y, name: array}))


class TestNpy:
    def test_a_file_and_its_partner(self, tmp_path: Path) -> None:
        write(tmp_path, "npy", x=X, y=Y, notes=X)
        for name in ("x", "y"):
            found = read(tmp_path / f"{name}.npy")
            assert found.name == tmp_path.name
            assert found.notes == ()
            assert found.parts["train"].targets.tolist() == Y.tolist()

    def test_other_inputs_beside_it_are_left_alone(self, tmp_path: Path) -> None:
        write(tmp_path, "npy", x_train=X, images_train=X + 1, y_train=Y, x_test=X + 2, y_test=Y)
        found = read(tmp_path / "x_train.npy")
        assert [part.inputs[0, 0].item() for part in found.parts.values()] == [0, 2]

    def test_without_a_partner(self, tmp_path: Path) -> None:
        write(tmp_path, "npy", x=X)
        with pytest.raises(DataError, match=r"x\.npy lacks the targets of train\. It has x\."):
            read(tmp_path / "x.npy")
        write(tmp_path, "npy", photos=X)
        with pytest.raises(DataError, match=r"The name of .*photos\.npy does not say what it contains\.\nName arrays x and y"):
            read(tmp_path / "photos.npy")

    def test_which_folders_hold_arrays(self, tmp_path: Path) -> None:
        assert not arrays.holds_arrays(tmp_path)
        write(tmp_path, "npy", photos=X)
        assert not arrays.holds_arrays(tmp_path)
        write(tmp_path, "npy", x_train=X)
        assert arrays.holds_arrays(tmp_path)


class TestDamage:
    def test_missing(self, tmp_path: Path) -> None:
        for suffix in arrays.SUFFIXES:
            with pytest.raises(DataError, match=r"There is no file .*absent"):
                read(tmp_path / f"absent{suffix}")

    def test_a_file_cut_anywhere_is_refused(self, tmp_path: Path, form: str) -> None:
        path = write(tmp_path, form, x=X, y=Y)
        file = path / "x.npy" if form == "npy" else path
        content = file.read_bytes()
        for length in range(0, len(content), 1 if form == "npy" else 5):
            file.write_bytes(content[:length])
            with pytest.raises(DataError, match=file.name):
                read(path)

    @settings(max_examples=100, deadline=None)
    @given(place=st.integers(0, 10_000), value=st.integers(0, 255), form=st.sampled_from(["npz", "safetensors", "npy"]))
    def test_any_damage_gives_arrays_or_a_data_error(
        self, tmp_path_factory: pytest.TempPathFactory, place: Any, value: int, form: str
    ) -> None:
        path = write(tmp_path_factory.mktemp("damage"), form, x=X, y=Y)
        file = path / "x.npy" if form == "npy" else path
        content = bytearray(file.read_bytes())
        content[place % len(content)] = value
        file.write_bytes(content)
        with contextlib.suppress(DataError):
            assert "train" in read(path).parts

    def test_pickles_never_run(self, tmp_path: Path) -> Any:
        class Trap:
            def __reduce__(self) -> Any:
                return pytest.fail, ("a pickle ran",)

        for suffix in arrays.SUFFIXES:
            (tmp_path / f"x{suffix}").write_bytes(pickle.dumps(Trap()))
            with pytest.raises(DataError):
                read(tmp_path / f"x{suffix}")
        np.save(tmp_path / "x.npy", np.array([Trap()]), allow_pickle=True)
        with pytest.raises(DataError, match=r"x\.npy contains Python objects|lacks"):
            read(tmp_path / "x.npy")


@pytest.mark.parametrize(
    ("name", "reported"),
    [("y", "The targets of train contain invalid Unicode"), ("classes", r"'classes' in .*set\.npz contains invalid Unicode")],
)
def test_letters_beyond_unicode_are_refused(tmp_path: Path, name: str, reported: str) -> None:
    words = np.array([0x61, 0x62, 0x110000, 0x64], dtype=np.uint32).view("<U1")
    content: dict[str, Any] = {"x": X, "y": Y, name: words}
    np.savez(tmp_path / "set.npz", **content)
    with pytest.raises(DataError, match=reported):
        read(tmp_path / "set.npz")


def test_inputs_beyond_unicode_are_refused() -> None:
    words = np.full((12, 2), 0x110000, "<u4").view("<U1")
    with pytest.raises(DataError, match="Column 0 has invalid Unicode"):
        load((words, np.arange(12) % 2))
