"""Tables that list pictures, sounds or texts: what is read, what is refused, and the whole way from training to predictions."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from epochal import check, load, reproduce, train
from epochal.cli.main import cli
from epochal.data.load import Data
from epochal.data.sources.manifest import listed_files
from epochal.errors import DataError, RecipeError, UnreadableError
from epochal.run.evaluate import evaluate_run
from tests.tones import save, tone

QUIET: dict[str, Any] = {"epochs": 3, "batch_size": 8, "threads": 1, "device": "cpu", "quiet": True}
COUNT = 24


def _picture(path: Path, seed: int, *, bright: bool) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 100, (8, 8, 3), dtype=np.uint8)
    noise[:, :4] += 150 * np.uint8(bright)
    Image.fromarray(noise).save(path)
    return path


def _write(path: Path, head: str, rows: Sequence[str]) -> Path:
    path.write_text("\n".join([head, *rows]) + "\n", "utf-8")
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A list of pictures in two folders beside it, one by its whole path; the last quarter is for the test."""
    rows = []
    for place in range(COUNT):
        file = _picture(tmp_path / "data" / f"part{place % 2}" / f"{place}.png", place, bright=place % 2 == 0)
        name = str(file) if place == 3 else f"part{place % 2}/{place}.png"
        rows.append(f"{name},{'bright' if place % 2 == 0 else 'dark'},{'test' if place >= 18 else 'train'},p{place % 5}")
    return _write(tmp_path / "data" / "labels.csv", "file,label,split,person", rows)


def _refused(message: str, what: Any, kind: type[Exception] = DataError, **options: Any) -> Exception:
    with pytest.raises(kind, match=message) as raised:
        load(what, **{"file": "file", "target": "label", **options})
    return raised.value


def test_pictures_are_read_from_a_list(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = load(photos, file="file", target="label")
    assert data.spec.describe() == "labels: 3×8×8 uint8, 2 classes; 18 train, 6 test"
    assert data.outputs == ("bright", "dark")
    assert data.train.where(0) == "part0/0.png"
    assert data.train.where(3) == str(photos.parent / "part1" / "3.png")
    assert data.train.targets.tolist() == [0, 1] * 9
    assert data.notes == ("split by the column split",)
    listing = data.spec.listing
    assert (listing.file, listing.target, listing.split) == ("file", ("label",), "split")
    monkeypatch.chdir(photos.parent.parent)
    assert load("data/labels.csv", file="0", target="1").fingerprint == data.fingerprint
    # From the cache, and streamed.
    assert load(photos, file="file", target="label").train.input(5).equal(data.train.input(5))
    streamed = load(photos, file="file", target="label", memory=1e-9)
    assert streamed.train.input(3).equal(data.train.input(3))
    assert streamed.fingerprint == data.fingerprint


def test_a_table_in_a_program_lists_files_too(photos: Path) -> None:
    paths = [str(photos.parent / f"part{place % 2}" / f"{place}.png") for place in range(COUNT)]
    table = {"path": paths, "y": [place % 2 for place in range(COUNT)]}
    data = load(table, file="path", target="y")
    assert (data.outputs, len(data.train)) == (("0", "1"), COUNT)
    assert load(photos, file="file", target="label", ignore="split").train.input(4).equal(data.train.input(4))
    rows = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
    assert load({"train": rows[2:], "test": rows[:2]}, file="path", target="y").spec.counts == {"train": COUNT - 2, "test": 2}


def test_a_header_is_known_where_columns_are_named(tmp_path: Path) -> None:
    for name in ("one", "two", "three", "file"):
        (tmp_path / f"{name}.txt").write_text(f"some words of {name}")
    rows = ["one.txt,cat", "two.txt,dog", "three.txt,cat"]
    # Taken by themselves, the names could be values.
    train = _write(tmp_path / "train.csv", "file.txt,cat", rows)
    data = load(train, file="file.txt", target="cat")
    assert len(data.train) + len(data.test or ()) + len(data.valid or ()) == 3
    assert len(load(train, like=data.spec).train) == 3
    assert len(listed_files(train, "file.txt")) == 3
    # And where those of training had no header, other files have none.
    headless = _write(tmp_path / "headless.csv", rows[0], rows[1:])
    data = load(headless, file="0", target="1")
    assert data.spec.listing.target == ("1",)
    few = _write(tmp_path / "few.csv", "one.txt,cat", ["two.txt,cat"])
    assert len(load(few, like=data.spec).train) == 2
    assert len(listed_files(few, "0")) == 2


def test_sounds_and_texts_are_recognized_by_their_suffixes(tmp_path: Path) -> None:
    for place in range(20):
        save(tmp_path / f"{place}.wav", tone(400 if place % 2 else 1200, seed=place))
        (tmp_path / f"{place}.txt").write_text(f"{'good' if place % 2 else 'bad'} words {place}")
    for kind, suffix in (("sound", "wav"), ("text", "txt")):
        file = _write(tmp_path / f"{suffix}.csv", "name;y", [f"{place}.{suffix};{place % 2}" for place in range(20)])
        data = load(file, file="name", target="y")
        assert (data.input.kind, len(data.train)) == (kind, 20)
        run = train(file, file="name", target="y", **QUIET)
        assert run.bundle.spec.listing.file == "name"
        assert run.predict(file).names[:2] == (str(tmp_path / f"0.{suffix}"), str(tmp_path / f"1.{suffix}"))
        again = load(file, like=run.bundle.spec)
        assert again.train.input(3).equal(data.train.input(3))
        streamed = load(file, file="name", target="y", memory=1e-9)
        assert streamed.train.input(3).equal(data.train.input(3))
        assert "they are streamed from the cache (see data.memory)" in streamed.notes[-1]
    mixed = _write(tmp_path / "mixed.csv", "file,label", ["0.wav,a", "1.wav,b", "2.txt,a"])
    assert "line 2: 0.wav is a sound; " in str(_refused("List files of one kind", mixed))
    (tmp_path / "4.heic").write_bytes(b"x")
    (tmp_path / "5.xyz").write_bytes(b"x")
    _refused("line 3: 4.heic is a picture in a format that is not read", _write(tmp_path / "a.csv", "file,label", ["0.wav,a", "4.heic,b"]))
    _refused(
        "line 3: 5.xyz has no suffix of a picture, a sound or a text", _write(tmp_path / "a.csv", "file,label", ["0.wav,a", "5.xyz,b"])
    )
    _refused("does not work with wav: it is for pictures", tmp_path / "wav.csv", RecipeError, file="name", target="y", size=8)
    _refused("does not work with txt: it is for sounds", tmp_path / "txt.csv", RecipeError, file="name", target="y", rate=8000)


def test_several_targets_are_labels_or_quantities(tmp_path: Path) -> None:
    rows = []
    for place in range(20):
        _picture(tmp_path / f"{place}.png", place, bright=place % 2 == 0)
        rows.append(f"{place}.png,{place % 2},{int(place % 3 == 0)},{'True' if place % 5 else 'False'},{place / 4},{place % 7}")
    file = _write(tmp_path / "l.csv", "file,a,b,c,width,height", rows)
    labels = load(file, file="file", target=["a", "b", "c"])
    assert (labels.task.name, labels.outputs) == ("multi-label", ("a", "b", "c"))
    assert labels.train.targets[5].tolist() == [1, 0, 0]
    sizes = load(file, file="file", target=["width", "height"])
    assert (sizes.task.name, sizes.outputs) == ("regression", ("width", "height"))
    assert sizes.train.targets[5].tolist() == [1.25, 5]
    for data in (labels, sizes):
        assert load(file, like=data.spec).train.targets.equal(data.train.targets)
    run = train(file, file="file", target="a,b,c", **QUIET)
    assert run.test is not None
    _refused(
        "line 2: the target c is 'yes', which is not a number", _write(tmp_path / "w.csv", "file,a,c", ["0.png,1,yes"]), target=["a", "c"]
    )
    _refused("line 3: the target a is missing", _write(tmp_path / "w.csv", "file,a,b", ["0.png,1,0", "1.png,,1"]), target=["a", "b"])


def test_files_that_are_not_there_are_named_with_their_line(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (photos.parent / "part0" / "4.png").unlink()
    (photos.parent / "part1" / "7.png").unlink()
    error = _refused(r"labels\.csv, line 6: there is no file '.*part0/4\.png'; 1 of the 24 listed files is missing too", photos)
    assert str(error).endswith(f"Names are relative to the folder of the table, {photos.parent}.")
    assert isinstance(error, UnreadableError)
    assert error.names == ("part0/4.png", "part1/7.png")
    counted = load(photos, file="file", target="label", unreadable="count")
    assert len(counted.train) == 16
    found = check(photos, file="file", target="label")
    assert found.findings[0].words == "2 files cannot be read"
    assert [case.words for case in found.findings[0].cases] == ["does not exist"] * 2
    assert [*found.quarantine()] == ["part0/4.png", "part1/7.png"]
    assert len(load(photos, file="file", target="label", exclude=[*found.quarantine()]).train) == 16
    folder = photos.parent
    _refused("line 2: .*part0 is a folder", _write(folder / "a.csv", "file,label", ["part0,a", "part1,b"]))
    near = _refused("line 2: there is no file", _write(folder / "a.csv", "file,label", ["part0\\0.png,a", "part1/1.png,b"]))
    assert "part0/0.png: write its name so" in str(near)
    assert "part0/0.png: write its name so" in str(_refused("no file", _write(folder / "a.csv", "file,label", ["part0/0,a", "part1/1,b"])))
    monkeypatch.chdir(folder.parent)
    cwd = _refused("no file", _write(folder / "a.csv", "file,label", ["data/part0/0.png,a", "data/part1/1.png,b"]))
    assert "Names are relative to the folder of the table" in str(cwd)
    (folder / "part0" / "6.png").write_bytes(b"not a picture")
    _refused(r"part0/6\.png", _write(folder / "a.csv", "file,label", ["part0/6.png,a", "part1/1.png,b"]), UnreadableError)


def test_a_file_is_one_example(photos: Path, tmp_path: Path) -> None:
    rows = photos.read_text().splitlines()[1:]
    again = _write(photos.parent / "again.csv", "file,label,split,person", [*rows, rows[0], rows[2].replace("part0/", "./part1/../part0/")])
    data = load(again, file="file", target="label")
    assert len(data.train) == 18
    assert data.notes[-1] == "2 rows that repeat a file of another row: left out"

    def torn(row: str) -> str:
        return str(
            _refused("is listed before", _write(photos.parent / "torn.csv", "file,label,split,person", [*rows, row]), group="person")
        )

    assert "torn.csv, line 26: part0/0.png is listed before, in " in torn("part0/0.png,dark,train,p0")
    assert "torn.csv, line 2, with another label." in torn("part0/0.png,dark,train,p0")
    assert "in train instead of test." in torn("part0/0.png,bright,test,p0")
    assert "in another group." in torn("part0/0.png,bright,train,p1")
    outside = _picture(tmp_path / "outside.png", 0, bright=True)
    beyond = load(_write(photos.parent / "b.csv", "file,label", ["../outside.png,a", "part1/1.png,b"]), file="file", target="label")
    assert outside.exists()
    assert beyond.train.where(0) == "../outside.png"


def test_columns_that_cannot_be_are_refused(photos: Path) -> None:
    assert "There are label, split, person." in str(_refused("lists files: which column is to be predicted", photos, target=()))
    _refused("no column 'fil'", photos, file="fil")
    _refused("no column 'lable'", photos, target="lable")
    _refused("The column file has the files, and cannot be the target", photos, RecipeError, target="file")
    _refused("data.file and data.text exclude each other", photos, RecipeError, text="person")
    _refused("has person = category: a list of files has no such columns", photos, RecipeError, columns={"person": "category"})
    _refused("data.file = file does not work with .*part0: it is for tables", photos.parent / "part0", RecipeError, target=())
    _refused("line 3: the file in the column file is missing", _write(photos.parent / "a.csv", "file,label", ["part0/0.png,a", ",b"]))
    _refused("line 3: the target label is missing", _write(photos.parent / "a.csv", "file,label", ["part0/0.png,a", "part1/1.png,"]))
    _refused("The column file is the group", photos, RecipeError, group="file")
    with pytest.raises(DataError, match="exclude.*no example 'x.png'"):
        load(photos, file="file", target="label", exclude=["x.png"])


def test_groups_are_a_column_or_a_pattern(photos: Path) -> None:
    for group in ("person", r"(\d+)\.png"):
        data = load(photos, file="file", target="label", ignore="split", group=group).split(0.2, 0.2)
        named = [[*(examples.group_names() or ())] for examples in data.splits.values()]
        assert len({*named[0], *named[1], *named[2]}) == sum(len({*names}) for names in named)
    assert "5 groups by person are in both train and test" in str(check(photos, file="file", target="label", group="person"))


def _moved(data: Path, to: Path) -> Path:
    shutil.copytree(data, to)
    return to


def test_from_training_to_predictions(photos: Path, tmp_path: Path) -> None:
    run = train(photos, out=tmp_path / "run", file="file", target="label", **QUIET)
    assert reproduce(tmp_path / "run").divergence == ""
    assert run.test is not None
    other = _moved(photos.parent, tmp_path / "elsewhere") / "labels.csv"
    assert evaluate_run(tmp_path / "run", other, include_training=True).count == 6
    new = _picture(other.parent / "new" / "1.png", 99, bright=True)
    small = _write(other.parent / "small.csv", "label,file", ["bright,new/1.png", "dark,part1/1.png"])
    log: list[str] = []
    assert evaluate_run(tmp_path / "run", small, log=log.append).left_out == 1
    named = _write(other.parent / "named.csv", "klass,picture", ["bright,new/1.png"])
    with pytest.raises(DataError, match="no column 'file'"):
        evaluate_run(tmp_path / "run", named)
    assert evaluate_run(tmp_path / "run", named, columns={"file": "picture", "target": "klass"}).count == 1
    alone = run.predict(new)[0]
    assert run.predict(small)[0] == alone
    out = tmp_path / "out.csv"
    (other.parent / "part1" / "1.png").write_bytes(b"broken")
    done = CliRunner().invoke(cli, ["predict", str(tmp_path / "run"), str(small), "--csv", str(out)])
    assert done.exit_code == 1
    assert "part1/1.png" in done.output
    with out.open(newline="") as file:
        head, first, second = csv.reader(file)
    assert head == ["label", "file", "prediction", "probability", "probability of bright", "probability of dark"]
    assert first[:3] == ["bright", "new/1.png", alone.label]
    assert second == ["dark", "part1/1.png", "", "", "", ""]
    done = CliRunner().invoke(cli, ["predict", str(tmp_path / "run"), str(small)])
    assert f"{new}  {alone.label}" in done.output


def test_the_model_must_take_what_is_listed(photos: Path, tmp_path: Path) -> None:
    data = load(photos, file="file", target="label")
    save(tmp_path / "1.wav", tone(400))
    with pytest.raises(DataError, match="lists sounds; the model takes pictures"):
        load(_write(tmp_path / "s.csv", "file,label", ["1.wav,dark"]), like=data.spec)
    with pytest.raises(DataError, match="line 2: the target label is 'grey'"):
        load(_write(photos.parent / "s.csv", "file,label", ["part0/0.png,grey"]), like=data.spec)
    assert isinstance(load(_write(photos.parent / "s.csv", "file,label", ["part0/0.png,dark"]), like=data.spec), Data)
