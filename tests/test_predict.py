import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from epochal.bundle import Bundle
from epochal.data.load import load
from epochal.errors import DataError, UnreadableError
from epochal.recipe import Recipe
from epochal.run.prepare import build
from tests.tones import low_and_high


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name, level in (("dark", 40), ("bright", 180)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(4):
            pixels = np.random.default_rng(number).integers(level, level + 40, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


@pytest.fixture
def bundle(photos: Path) -> Bundle:
    return build(Recipe().updated({"model": "linear"}, "given"), load(photos))[1]


def test_a_folder_is_its_pictures(bundle: Bundle, photos: Path) -> None:
    files = sorted(map(str, photos.rglob("*.png")))
    (photos / "dark/__MACOSX").mkdir()
    (photos / "dark/notes.txt").write_text("")
    found = bundle.predict(photos)
    assert list(found.names) == files
    assert [one.values for one in found] == [one.values for one in bundle.predict(files)]
    assert found.notes == (
        f"skipped 1 file without the suffix of a picture: {photos}/dark/notes.txt",
        f"skipped 1 item of the operating system: {photos}/dark/__MACOSX",
    )
    assert bundle.predict([photos / "dark", photos / "bright/0.png"]).names == (*files[4:], files[0])
    with pytest.raises(DataError, match=r"The folder .*__MACOSX has no pictures in it\.\nGive files"):
        bundle.predict(photos / "dark/__MACOSX")


def test_what_cannot_be_read_ends_it_or_is_counted(bundle: Bundle, photos: Path) -> None:
    broken = photos / "dark/1.png"
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(DataError, match=r"dark/1\.png is truncated"):
        bundle.predict(photos)
    what: Any = [photos, np.zeros((8, 8), np.uint8), np.zeros(3)]
    found = bundle.predict(what, unreadable="count")
    assert len(found) == len(found.names) == 8
    assert found.names[-1] == "[8]"
    assert list(found.unreadable) == [str(broken), "[9]"]
    assert found.unreadable[str(broken)].problem == f"{broken} is truncated."
    with pytest.raises(DataError, match=r"None of 2 files can be read\. .*1\.png is truncated"):
        bundle.predict([broken, broken.with_name("gone.png")], unreadable="count")
    assert bundle.predict([], unreadable="count") == []


def test_loading_without_what_cannot_be_read(photos: Path) -> None:
    (photos / "dark/1.png").write_bytes(b"")
    with pytest.raises(UnreadableError):
        load(photos)
    found = load(photos, exclude=["bright/2.png"], unreadable="count")
    assert (len(found.train), found.excluded) == (6, ("bright/2.png", "dark/1.png"))
    assert found.notes[0].startswith(f"left out: {photos}/dark/1.png is empty")
    for path in (photos / "dark").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r'unreadable = "count" leaves out all of the pictures of the class \'dark\''):
        load(photos, unreadable="count")


def test_evaluation_without_what_cannot_be_read(bundle: Bundle, photos: Path) -> None:
    for split in ("train", "test"):
        shutil.copytree(photos, photos.parent / "around/set" / split)
        (photos.parent / "around/set" / split / "dark/1.png").write_bytes(b"")
    with pytest.raises(UnreadableError):
        bundle.evaluate(photos.parent / "around")
    found = bundle.evaluate(photos.parent / "around", unreadable="count")
    assert (found.count, found.unreadable) == (7, ("set/test/dark/1.png",))


@pytest.fixture(scope="module")
def of_each_kind(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Bundle, Path]]:
    """A model for each kind of file, with a file of that kind."""
    folder = tmp_path_factory.mktemp("kinds")
    for name, level in (("dark", 40), ("bright", 180)):
        (folder / "photos" / name).mkdir(parents=True)
        Image.new("L", (8, 8), level).save(folder / "photos" / name / "1.png")
        (folder / "texts" / name).mkdir(parents=True)
        (folder / "texts" / name / "1.txt").write_text(f"how {name} it was")
    low_and_high(folder / "sounds", 2)
    (folder / "t.csv").write_text("x,y\n1,a\n2,b\n3,a\n4,b\n")
    data = {
        "picture": (load(folder / "photos"), folder / "photos/dark/1.png"),
        "sound": (load(folder / "sounds"), folder / "sounds/train/low/1.wav"),
        "text": (load(folder / "texts"), folder / "texts/dark/1.txt"),
        "table": (load(folder / "t.csv", target="y"), folder / "t.csv"),
    }
    return {kind: (build(Recipe(), one)[1], file) for kind, (one, file) in data.items()}


@pytest.mark.parametrize("form", [str, Path])
def test_files_of_another_kind_are_refused_as_that(of_each_kind: dict[str, tuple[Bundle, Path]], form: Any) -> None:
    for kind, (bundle, own) in of_each_kind.items():
        assert len(bundle.predict(form(own))) == (4 if kind == "table" else 1)
        for other, (_, file) in of_each_kind.items():
            if other != kind:
                with pytest.raises(
                    DataError, match=f"{file.name} is a {other}: this model takes {kind}s\\.\nGive {kind}s, or ask a model of {other}s"
                ):
                    bundle.predict(form(file))


@pytest.mark.parametrize("kind", ["picture", "sound", "text"])
def test_a_folder_without_what_a_model_takes_is_refused(of_each_kind: dict[str, tuple[Bundle, Path]], kind: str) -> None:
    for other, (_, file) in of_each_kind.items():
        if other not in (kind, "table"):
            with pytest.raises(DataError, match=f"has no {kind}s in it"):
                of_each_kind[kind][0].predict(file.parent)
