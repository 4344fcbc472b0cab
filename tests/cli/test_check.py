"""epochal check, and training without what it found."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from epochal.recipe import restore_recipe
from epochal.run.folder import read_json

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for number in range(40):
        path = tmp_path / "photos" / ("cat", "dog")[number % 2] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(path)
    return tmp_path / "photos"


def test_nothing_wrong(call: Call, photos: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert call("check", "photos") == (0, "photos: 2 classes; 40 train: nothing found\n", "")
    assert sorted(tmp_path.rglob("*")) == before
    code, out, _ = call("check", "digits")
    assert code == 0
    assert "digits: 10 classes; 1,797 train" in out


def test_warnings_are_no_failure(call: Call, photos: Path) -> None:
    (photos / "cat/copy.png").write_bytes((photos / "cat/00.png").read_bytes())
    code, out, err = call("check", "photos")
    assert (code, err) == (0, "")
    lines = [line.rstrip() for line in out.splitlines()]
    assert lines == [
        "photos: 2 classes; 41 train: 1 warning",
        "warning  duplicates  1 picture is present more than once (1 copy)",
        "                       cat/00.png, cat/copy.png",
        "                     Leave the copies out: --quarantine FILE lists them.",
    ]


def test_errors_fail_and_json_is_all(call: Call, photos: Path, tmp_path: Path) -> None:
    (photos / "cat/bad.jpg").write_bytes(b"")
    (photos / "cat" / os.fsdecode(b"od\xff\x1bd.jpg")).write_bytes(b"")
    code, out, err = call("check", "photos", "--json", "--html", "page.html", "--quarantine", "bad.txt")
    assert (code, err) == (1, "")
    reported = json.loads(out)
    assert (reported["data"], reported["examples"], reported["errors"], reported["warnings"], reported["notes"]) == (
        "photos",
        {"train": 42},
        1,
        0,
        0,
    )
    assert reported["findings"][0]["cases"][0] == {"examples": ["cat/bad.jpg"], "words": "is empty", "leave_out": ["cat/bad.jpg"]}
    assert (tmp_path / "page.html").exists()
    assert (tmp_path / "bad.txt").read_text("utf-8").splitlines()[1:] == [
        "",
        "# unreadable: is empty",
        "cat/bad.jpg",
        '"cat/od\\udcff\\u001bd.jpg"',
    ]
    code, out, err = call("check", "photos", "--quarantine", "bad.txt")
    assert (code, err) == (1, "")
    assert r"cat/od\udcff\x1bd.jpg (is empty)" in out
    assert "bad.txt  2 to leave out; epochal train photos --exclude bad.txt" in out


def test_nothing_to_check(call: Call) -> None:
    code, out, err = call("check", "gone", "--json")
    assert (code, out) == (1, "")
    assert "There is no file or folder 'gone'" in err


def test_a_file_that_cannot_be_written_is_reported(call: Call, photos: Path) -> None:
    code, _, err = call("check", "photos", "--html", "gone/page.html")
    assert code == 1
    assert "Cannot write gone/page.html: there is no folder gone." in err


def test_what_was_found_is_reported_also_where_the_disk_is_full(call: Call, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (photos / "cat/bad.jpg").write_bytes(b"")
    monkeypatch.setattr(os, "fsync", full)
    code, out, err = call("check", "photos", "--html", "page.html")
    assert code == 1
    assert "cat/bad.jpg (is empty)" in out
    assert "Cannot write page.html: No space left on device." in err


def test_training_without_what_was_found(call: Call, photos: Path, tmp_path: Path) -> None:
    (photos / "cat/bad.jpg").write_bytes(b"")
    (photos / "dog/copy.png").write_bytes((photos / "cat/00.png").read_bytes())
    assert call("train", "photos", "--epochs", "1")[0] == 1
    assert call("check", "photos", "--quarantine", "bad.txt")[0] == 1
    code, out, err = call("train", "photos", "--epochs", "1", "--exclude", "bad.txt", "--out", "run")
    assert code == 0, err
    assert "check:" not in out
    assert restore_recipe(tmp_path / "run/recipe.toml").origin("data.exclude") == "command line"
    kept = read_json(tmp_path / "run/data.json")
    assert sorted(kept["excluded"]) == ["cat/00.png", "cat/bad.jpg", "dog/copy.png"]
    assert sum(kept["spec"]["counts"].values()) == 39
    # What was left out is kept with the run: the list may change or vanish.
    (tmp_path / "bad.txt").unlink()
    assert call("evaluate", "run")[0] == 0
    code, out, err = call("reproduce", "run")
    assert code == 0, out + err
    code, out, err = call("resume", "run", "--epochs", "2")
    assert code == 0, out + err
    code, _, err = call("train", "photos", "--exclude", "bad.txt")
    assert code == 1
    assert "The list of examples to leave out, bad.txt, cannot be read: No such file or directory." in err
