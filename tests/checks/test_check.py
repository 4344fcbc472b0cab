"""Problems of every kind, planted in folders and arrays, and the findings about them."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import ExifTags, Image
from torch import Tensor

import epochal
from epochal.checks.check import Check, check
from epochal.checks.findings import Finding
from epochal.checks.loaded import in_one_line
from epochal.cli.main import cli
from epochal.data.load import load
from epochal.errors import DataError
from tests.checks.conftest import Scene


@pytest.fixture
def photos(tmp_path: Path, scene: Scene) -> Path:
    """Two classes of twelve pictures in train, and of three in test, with nothing wrong."""
    for number in range(30):
        split, kind = ("train" if number < 24 else "test"), ("cat", "dog")[number % 2]
        path = tmp_path / "photos" / split / kind / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        scene(number).save(path)
    return tmp_path / "photos"


def only(found: Check, kind: str) -> Finding:
    """The one finding of all."""
    assert [finding.kind for finding in found.findings] == [kind], str(found)
    return found.findings[0]


def reported(finding: Finding) -> tuple[str, str, list[tuple[tuple[str, ...], str]]]:
    return finding.severity, finding.words, [(case.examples, case.words) for case in finding.cases]


def test_nothing_wrong(photos: Path) -> None:
    found = epochal.check(photos)
    assert found.findings == ()
    assert str(found) == "photos: 2 classes; 24 train, 6 test: nothing found"
    assert found.quarantine() == {}


class TestUnreadable:
    def test_all_are_named_each_with_its_reason(self, photos: Path, tmp_path: Path) -> None:
        whole = (photos / "train/cat/00.png").read_bytes()
        contents = {
            "train/cat/a.png": (b"", "is empty"),
            "train/cat/b.jpg": (bytes(600), "contains only zeros"),
            "train/cat/c.jpg": (b"<!DOCTYPE html><p>404", "is a web page"),
            "train/dog/d.png": (whole[:-200], "is truncated"),
            "train/dog/e.jpg": (b"version https://git-lfs.github.com/spec/v1\n", "is the address of a file in Git LFS, not the file"),
            "train/dog/f.jpg": (b"\0\0\0\x18ftypheic", "is a picture in HEIC or AVIF"),
            "test/cat/g.jpg": (b"nothing", "is not a picture in PNG, JPEG, WebP, BMP, TIFF or GIF"),
        }
        for name, (content, _) in contents.items():
            (photos / name).write_bytes(content)
        (photos / "test/dog/h.png").symlink_to("gone.png")
        finding = only(check(photos), "unreadable")
        expected = {**{name: reason for name, (_, reason) in contents.items()}, "test/dog/h.png": "is a link to nothing"}
        assert finding.severity == "error"
        assert finding.words == "8 files cannot be read"
        assert {case.examples[0]: case.words for case in finding.cases} == expected
        check(photos).write_quarantine(tmp_path / "list.txt")
        assert len(load(photos, exclude=tmp_path / "list.txt").train) == 24

    def test_a_folder_of_nothing_else(self, tmp_path: Path) -> None:
        for name in ("cat", "dog"):
            (tmp_path / "photos" / name).mkdir(parents=True)
            (tmp_path / "photos" / name / "1.png").write_bytes(b"?")
        assert [finding.kind for finding in check(tmp_path / "photos").findings] == ["unreadable", "tiny class"]


def test_kinds_of_files(photos: Path, scene: Scene, tmp_path: Path) -> None:
    os.rename(photos / "train/cat/00.png", photos / "train/cat/00.jpg")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    scene(50, (32, 40)).save(photos / "train/cat/turned.jpg", exif=exif, quality=95)
    frames = [scene(seed) for seed in (51, 52)]
    frames[0].save(photos / "train/cat/film.gif", save_all=True, append_images=frames[1:])
    deep = np.asarray(scene(53).convert("L")).astype(np.uint16) * 257
    Image.fromarray(deep).save(photos / "train/dog/deep.png")
    scene(54).convert("CMYK").save(photos / "train/dog/print.jpg", quality=95)
    clear = scene(55).convert("RGBA")
    clear.putalpha(200)
    clear.save(photos / "train/dog/clear.png")
    scene(56).save(photos / "train/dog/view.jpg", "MPO", save_all=True, append_images=[scene(57)], quality=95)
    scene(58).save(photos / "train/dog/picture.dat", "PNG")
    (photos / "train/dog/words.txt").write_text("a dog")
    found = {finding.kind: reported(finding) for finding in check(photos).findings}
    assert found == {
        "misnamed": ("warning", "1 picture is not used: wrong suffix", [(("train/dog/picture.dat",), "")]),
        "suffix": ("warning", "1 picture is not in the format of the suffix", [(("train/cat/00.jpg",), "is PNG")]),
        "animated": ("warning", "1 picture is animated, or of several pages", [(("train/cat/film.gif",), "")]),
        "16 bits": ("warning", "1 picture is of 16 bits", [(("train/dog/deep.png",), "")]),
        "unused": ("note", "1 file is not used: no picture in a class folder", [(("train/dog/words.txt",), "")]),
        "rotated": ("note", "1 picture is stored rotated, with the orientation in EXIF", [(("train/cat/turned.jpg",), "")]),
        "colours": ("note", "1 picture is not in RGB, but in colours for print or video", [(("train/dog/print.jpg",), "")]),
        "transparent": ("note", "1 picture is transparent in places", [(("train/dog/clear.png",), "")]),
        "grey": ("note", "1 picture is grey among coloured ones", [(("train/dog/deep.png",), "")]),
    }


def test_sizes_shapes_and_nothing_to_see(photos: Path, scene: Scene) -> None:
    scene(60).resize((400, 320)).save(photos / "train/cat/large.png")
    scene(61).resize((5, 4)).save(photos / "train/cat/small.png")
    scene(62).resize((120, 20)).save(photos / "train/dog/long.png")
    for number, level in enumerate((0, 255)):
        Image.new("RGB", (40, 32), (level,) * 3).save(photos / f"train/dog/blank{number}.png")
    found = {finding.kind: reported(finding) for finding in check(photos).findings}
    blank = [(("train/dog/blank0.png",), ""), (("train/dog/blank1.png",), "")]
    assert found == {
        "blank": ("warning", "2 pictures are blank: one colour everywhere", blank),
        "tiny": (
            "warning",
            "1 picture is less than 8 pixels high or wide, and less than most (32×40)",
            [(("train/cat/small.png",), "4×5 pixels")],
        ),
        "size": (
            "warning",
            "2 pictures are far larger or smaller than most (32×40)",
            [(("train/cat/large.png",), "320×400 pixels"), (("train/cat/small.png",), "4×5 pixels")],
        ),
        "shape": ("note", "1 picture is far wider or higher in shape than most (32×40)", [(("train/dog/long.png",), "20×120 pixels")]),
    }


class TestClasses:
    def test_few_lacking_and_out_of_balance(self, tmp_path: Path, scene: Scene) -> None:
        for name, number in (("cat", 40), ("dog", 4), ("emu", 3)):
            for place in range(number):
                path = tmp_path / "photos" / "train" / name / f"{place}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                scene(100 * number + place).save(path)
        path = tmp_path / "photos" / "test" / "cat" / "1.png"
        path.parent.mkdir(parents=True)
        scene(0).save(path)
        found = [(finding.kind, finding.severity, finding.words) for finding in check(tmp_path / "photos").findings]
        assert found == [
            ("tiny class", "warning", 'class "emu" has 3 examples, and 1 more class fewer than 10'),
            ("imbalance", "warning", 'class "cat" has 13 times as many examples as "emu" (40 and 3)'),
            ("missing class", "warning", 'test has no examples of 2 classes: "dog", "emu"'),
        ]

    def test_all_that_is_wrong_with_the_layout(self, photos: Path, scene: Scene) -> None:
        for name in ("test/emu", "train/fox", "train/gnu", "test/gnu"):
            (photos / name).mkdir()
        scene(0, (20, 20)).save(photos / "test" / "emu" / "1.png")
        (photos / "train/gnu/1.heic").write_bytes(b"")
        found = {finding.kind: reported(finding) for finding in check(photos).findings}
        assert [finding.words for finding in check(photos).findings if finding.kind == "layout"] == [
            f"{photos}: the pictures of the class 'gnu' (train) are all in formats that are not read",
            f"{photos}: the class 'emu' is in test, but not in train",
        ]
        assert found["empty class"] == ("warning", "1 class folder without pictures is left out", [(("fox",), "")])

    def test_pictures_that_are_not_used(self, photos: Path, scene: Scene) -> None:
        scene(0, (20, 20)).save(photos / "train/1.png")
        (photos / "train/cat/2.AVIF").write_bytes(b"")
        found = {finding.kind: reported(finding) for finding in check(photos).findings}
        assert found == {
            "format": ("warning", "1 picture is not used: unsupported format", [(("train/cat/2.AVIF",), "")]),
            "no class": ("warning", "1 picture is not used: not in a class folder", [(("train/1.png",), "")]),
        }

    def test_a_layout_that_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "photos").mkdir()
        finding = only(check(tmp_path / "photos"), "layout")
        assert (finding.severity, finding.words) == ("error", f"{tmp_path / 'photos'} is empty")
        with pytest.raises(DataError, match="There is no file or folder"):
            check(tmp_path / "gone")


class TestCopies:
    def test_leakage_leaves_the_test_set_as_it_is(self, photos: Path) -> None:
        (photos / "train/cat/copy.png").write_bytes((photos / "test/cat/24.png").read_bytes())
        with Image.open(photos / "test/dog/25.png") as picture:
            picture.save(photos / "train/dog/same.bmp")  # Other bytes, the same pixels.
        finding = only(check(photos), "leakage")
        assert reported(finding)[:2] == ("error", "2 pictures are in both train and test")
        assert [case.examples for case in finding.cases] == [
            ("train/cat/copy.png", "test/cat/24.png"),
            ("train/dog/same.bmp", "test/dog/25.png"),
        ]
        assert check(photos).quarantine() == {
            "train/cat/copy.png": "leakage: see test/cat/24.png",
            "train/dog/same.bmp": "leakage: see test/dog/25.png",
        }

    def test_one_picture_in_two_classes(self, photos: Path) -> None:
        (photos / "train/dog/cat.png").write_bytes((photos / "train/cat/02.png").read_bytes())
        finding = only(check(photos), "contradiction")
        assert reported(finding)[:2] == ("error", "1 picture is in two classes")
        assert finding.cases[0].leave_out == ("train/cat/02.png", "train/dog/cat.png")

    def test_within_a_split_all_but_the_first(self, photos: Path) -> None:
        for name in ("x", "y"):
            (photos / f"train/cat/{name}.png").write_bytes((photos / "train/cat/04.png").read_bytes())
        finding = only(check(photos), "duplicates")
        assert reported(finding)[:2] == ("warning", "1 picture is present more than once (2 copies)")
        assert finding.cases[0].leave_out == ("train/cat/x.png", "train/cat/y.png")

    def test_nearly(self, photos: Path) -> None:
        with Image.open(photos / "test/cat/24.png") as picture:
            picture.resize((80, 64)).save(photos / "train/cat/larger.jpg", quality=60)
        with Image.open(photos / "train/dog/01.png") as picture:
            picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(photos / "train/dog/mirror.png")
        with Image.open(photos / "train/dog/03.png") as picture:
            picture.save(photos / "train/cat/torn.jpg", quality=50)
        with Image.open(photos / "train/dog/05.png") as picture:
            picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(photos / "train/cat/turned.png")
        found = {finding.kind: finding for finding in check(photos).findings}
        assert {kind: (one.severity, [case.examples for case in one.cases]) for kind, one in found.items()} == {
            "near leakage": ("error", [("train/cat/larger.jpg", "test/cat/24.png")]),
            "near contradiction": ("warning", [("train/cat/torn.jpg", "train/dog/03.png")]),
            "near duplicates": ("warning", [("train/dog/01.png", "train/dog/mirror.png")]),
            "mirrored": ("warning", [("train/cat/turned.png", "train/dog/05.png")]),
        }
        assert list(check(photos).quarantine()) == ["train/cat/larger.jpg", "train/dog/mirror.png"]

    def test_near_to_one_of_several_equal_ones(self, photos: Path) -> None:
        content = (photos / "train/cat/04.png").read_bytes()
        (photos / "test/cat/equal.png").write_bytes(content)
        with Image.open(photos / "train/cat/04.png") as picture:
            picture.save(photos / "train/cat/near.jpg", quality=70)
        found = {finding.kind: [case.examples for case in finding.cases] for finding in check(photos).findings}
        assert found == {
            "leakage": [("train/cat/04.png", "test/cat/equal.png")],
            "near leakage": [("train/cat/04.png", "train/cat/near.jpg", "test/cat/equal.png")],
        }
        assert sorted(check(photos).quarantine()) == ["train/cat/04.png", "train/cat/near.jpg"]

    def test_large_pictures_that_differ_in_one_pixel_are_only_near(self, photos: Path, scene: Scene) -> None:
        picture = scene(70, (64, 64)).resize((640, 512))
        picture.save(photos / "train/cat/one.png")
        picture.putpixel((300, 300), (255, 0, 0))
        picture.save(photos / "train/cat/other.png")
        assert "duplicates" not in {finding.kind for finding in check(photos).findings}
        assert "near duplicates" in {finding.kind for finding in check(photos).findings}


class TestWithoutFiles:
    def test_arrays_of_pictures(self, scene: Scene) -> None:
        inputs = torch.stack([torch.from_numpy(np.array(scene(seed, (32, 32)))).movedim(-1, 0) for seed in range(40)])
        labels = torch.arange(40) % 2
        inputs[30], inputs[31], inputs[5], inputs[6] = inputs[0], inputs[3].flip(-1), inputs[4], 7
        found = check({"train": (inputs[:28], labels[:28]), "test": (inputs[28:], labels[28:])})
        assert {finding.kind: [case.examples for case in finding.cases] for finding in found.findings} == {
            "leakage": [("train[0]", "test[2]")],
            "near leakage": [("train[3]", "test[3]")],
            "contradiction": [("train[4]", "train[5]")],
            "blank": [("train[6]",)],
        }
        assert sorted(found.quarantine()) == ["train[0]", "train[3]", "train[4]", "train[5]"]
        shown = found.show("test[2]")
        assert isinstance(shown, Image.Image)
        assert shown.tobytes() == inputs[0].movedim(0, -1).contiguous().numpy().tobytes()
        json.dumps(found.to_json())

    def test_rows_of_numbers_may_well_be_equal(self, blobs: tuple[Tensor, Tensor]) -> None:
        inputs, labels = blobs
        inputs = torch.cat([inputs, torch.ones(60, 1)], 1)
        inputs[9], inputs[1] = inputs[3], inputs[0]
        found = check((inputs, labels))
        assert {finding.kind: finding.severity for finding in found.findings} == {
            "contradiction": "note",
            "duplicates": "note",
            "constant": "note",
        }
        assert in_one_line(load((inputs, labels))) == ""

    def test_what_is_predicted_is_called_by_its_name(self, blobs: tuple[Tensor, Tensor]) -> None:
        inputs, labels = blobs
        targets = (labels, torch.stack((labels > 0, labels > 1), 1), labels + 0.5)
        assert [check((inputs, y)).summary().split("; ")[0] for y in targets] == [
            "arrays: 3 classes",
            "arrays: 2 labels",
            "arrays: 1 output",
        ]

    def test_rows_in_train_and_test_are_reported_before_training_too(self, blobs: tuple[Tensor, Tensor]) -> None:
        inputs, labels = blobs
        parts = {"train": (inputs, labels), "test": (inputs[:20], labels[:20])}
        finding = only(check(parts), "leakage")
        assert (finding.severity, finding.words) == ("warning", "20 examples are in both train and test")
        assert len(check(parts).quarantine()) == 20
        assert in_one_line(load(parts)) == finding.words
        turned = load({"train": (inputs, labels), "test": (inputs[:20], (labels[:20] + 1) % 3)})
        assert in_one_line(turned) == "20 examples are in two classes, 20 of them in both train and test"
        quantities = load({"train": (inputs, labels + 0.5), "test": (inputs[:20], labels[:20] + 0.7)})
        assert in_one_line(quantities) == "20 examples are present with different targets, 20 of them in both train and test"

    @pytest.mark.parametrize("shape", [(3,), (1, 4, 4), (4, 4)])
    @pytest.mark.parametrize(("factor", "reported"), [(255.0, "vary 255 times more"), (1 / 255, "vary 255 times less"), (1.0, "")])
    def test_splits_of_another_scale(self, shape: tuple[int, ...], factor: float, reported: str) -> None:
        generator = torch.Generator().manual_seed(0)
        inputs, labels = torch.rand(40, *shape, generator=generator), torch.arange(40) % 2
        inputs[..., 0] = 0  # What never changes says nothing of it.
        words = f"inputs of test {reported} than those of train"
        parts = {"train": (inputs, labels), "test": (inputs.flip(0) * factor, labels)}
        line = in_one_line(load(parts))
        assert (f"inputs of test {reported or 'vary'}" in line) == bool(reported)
        assert [finding.words for finding in check(parts).findings if finding.kind == "scale"] == [words] * bool(reported)
        later = load(parts["test"], like=load(parts["train"]).spec)
        assert later.notes == ((f"inputs of train {reported} than those that the model was trained on",) if reported else ())

    def test_a_few_examples_that_are_alike_are_of_no_other_scale(self) -> None:
        inputs, labels = torch.arange(40.0)[:, None], torch.arange(40) % 2
        assert in_one_line(load({"train": (inputs, labels), "test": (inputs[20:22] + 0.5, labels[20:22])})) == ""

    def test_other_tasks(self) -> None:
        rows = torch.arange(60.0).reshape(30, 2)
        rows[3] = rows[7]
        targets = torch.randn(30, generator=torch.Generator().manual_seed(0))
        assert [finding.kind for finding in check((rows, targets)).findings] == ["contradiction"]
        several = torch.randint(0, 2, (30, 3), generator=torch.Generator().manual_seed(0))
        several[3] = 1 - several[7]
        assert "contradiction" in {finding.kind for finding in check((rows, several)).findings}

    def test_what_changes_at_every_reading_is_left_alone(self) -> None:
        class Wobbling(torch.utils.data.Dataset[Any]):
            def __len__(self) -> int:
                return 40

            def __getitem__(self, index: int) -> tuple[Tensor, int]:
                return torch.rand(3), index % 2

        (found,) = check(Wobbling()).findings
        note = "the dataset for train is read again in each epoch: its values change each time they are read"
        assert (found.severity, found.words) == ("note", note)

    def test_what_targets_were_taken_for_is_reported(self) -> None:
        rows, table = torch.rand(30, 2), torch.eye(3).repeat(10, 1)
        for targets in (0.9 * table + 0.1 / 3, 2 * table - 1, torch.arange(60).reshape(30, 2) % 7):
            assert [(found.severity, found.words) for found in check((rows, targets)).findings] == [
                ("note", load((rows, targets)).notes[0])
            ]

    def test_a_class_that_is_small_only_after_the_split_is_in_neither_report(self) -> None:
        rows, targets = torch.rand(60, 2), torch.arange(60) // 12
        assert check((rows, targets)).findings == ()
        data = load((rows, targets)).split()
        assert min(data.spec.task.class_counts["train"]) < 10
        assert in_one_line(data) == ""
        rows, targets = torch.rand(27, 2), torch.arange(27) // 9
        assert [found.kind for found in check((rows, targets)).findings] == ["tiny class"]
        assert in_one_line(load((rows, targets)).split()) == check((rows, targets)).findings[0].words

    def test_known_data_are_well(self) -> None:
        assert in_one_line(load("digits").split()) == ""


class TestInTraining:
    def test_one_line(self, photos: Path) -> None:
        lines: list[str] = []
        recipe = epochal.Recipe().updated({"epochs": 1, "device": "cpu", "threads": 1})
        run: Callable[..., Any] = __import__("epochal.run.train", fromlist=["run"]).run
        run(photos, recipe, log=lines.append)
        assert not [line for line in lines if line.startswith("check")]
        (photos / "train/cat/copy.png").write_bytes((photos / "test/cat/24.png").read_bytes())
        for number in range(3, 24, 2):
            (photos / f"train/dog/{number:02}.png").unlink()
        run(photos, recipe, log=lines.append)
        assert [line for line in lines if line.startswith("check")] == [
            'check: class "dog" has 1 example; class "cat" has 13 times as many examples as "dog" (13 and 1); '
            'valid has no examples of 1 class: "dog"; '
            f"1 picture is in both train and test (epochal check {photos} shows more)"
        ]


def test_texts_that_were_decoded_wrongly() -> None:
    good = ["a café", "naïve «É»", "你好，世界", "联通", "плохо"]
    wrong = [text.encode().decode("cp1252") for text in ("a café", "schöne Grüße")]
    wrong += ["今天天气很好我们去公园".encode().decode("gb18030", "replace"), "what was it \ufffd"]
    texts = [*good, *wrong, *(f"plain {number}" for number in range(11))]
    found = [one for one in check(load((texts, [0, 1] * 10))).findings if one.kind == "encoding"]
    assert {case.examples[0] for one in found for case in one.cases} == {f"train[{place}]" for place in range(5, 9)}
    assert "Ã©" in found[-1].cases[0].words or "Ã©" in found[0].cases[0].words


def test_the_command_that_shows_more_reads_the_data_in_the_same_way(tmp_path: Path) -> None:
    table = tmp_path / "some table.csv"
    rows = [f"{row},{row % 7},{row % 5},{'yes' if row else 'no'},{row // 2}" for row in range(40)]
    table.write_text("\n".join(["id,zip code,age,bought it,person", *rows]))
    settings = {"target": "bought it", "ignore": ["id"], "columns": {"zip code": "category"}, "group": "person"}
    lines: list[str] = []
    run: Callable[..., Any] = __import__("epochal.run.train", fromlist=["run"]).run
    run(str(table), epochal.Recipe().updated({"epochs": 1, "device": "cpu", "threads": 1, **settings}), log=lines.append)
    (line,) = (line for line in lines if line.startswith("check"))
    words = shlex.split(line.rpartition("(epochal ")[2].removesuffix(" shows more)"))
    options = ["--target", "bought it", "--ignore", "id", "--column", "zip code=category", "--group", "person"]
    assert words == ["check", str(table), *options]
    found = CliRunner().invoke(cli, words)
    assert 'class "no" has 1 example' in found.output
