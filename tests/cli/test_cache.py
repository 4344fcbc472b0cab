"""epochal cache: what is shown is what is there, and nothing else is removed."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from epochal.cli.main import cli
from epochal.data.storage.archives import unpack
from epochal.data.storage.cache import checksums, open_cache

KEY = "0" * 32


@pytest.fixture(autouse=True)
def _cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EPOCHAL_CACHE", str(tmp_path))
    monkeypatch.setenv("EPOCHAL_CACHE_SIZE", "2")
    monkeypatch.setattr("epochal.data.storage.cache.SPARE", 0)


def _call(*arguments: str) -> list[str]:
    done = CliRunner().invoke(cli, ["cache", *arguments], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output.splitlines()


def _pack() -> None:
    pixels = np.zeros((4000, 3, 50, 50), np.uint8)
    with open_cache().draft(pixels.nbytes) as draft:
        draft.path.write_bytes(pixels.tobytes())
        draft.seal(KEY, "photos", pixels.shape, checksums(pixels.tobytes(), 7500))


def test_nothing_there(tmp_path: Path) -> None:
    assert _call() == [f"0.00 GB of 2.0 GB in {tmp_path / 'examples'}"]
    assert _call("clear") == ["removed 0 sets of examples, 0.00 GB"]
    assert list(tmp_path.iterdir()) == []


def test_packs(tmp_path: Path) -> None:
    _pack()
    lines = _call("--json")
    assert lines[0].startswith("photos: 4,000×3×50×50, 0.03 GB, used 20")
    assert lines[1] == f"0.03 GB of 2.0 GB in {tmp_path / 'examples'}"
    found = json.loads(lines[2])
    size = (tmp_path / "examples" / f"{KEY}.pack").stat().st_size
    assert (found["folder"], found["size"], found["limit"]) == (str(tmp_path / "examples"), size, 2_000_000_000)
    (pack,) = found["packs"]
    assert pack.pop("used") > 1e9
    assert pack == {"key": KEY, "name": "photos", "shape": [4000, 3, 50, 50], "size": size}


def test_clear_leaves_what_is_not_its_own(tmp_path: Path) -> None:
    _pack()
    (tmp_path / "mnist").mkdir()
    others = [f"examples/{name}" for name in ("notes.txt", "p.png", "mine.pack", f"{KEY}.txt", ".mine.part")]
    others += ["archives/old.zip", "archives/taxes/2020.txt", f"archives/{KEY}"]
    for name in others:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("mine")
    with open_cache().draft(1) as draft:
        lines = _call("clear", "--json")
        assert draft.path.exists()
    assert lines[0] == "removed 1 set of examples, 0.03 GB"
    assert json.loads(lines[1])["packs"] == 1
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()) == sorted(others)
    assert (tmp_path / "mnist").is_dir()


def test_unpacked_archives(tmp_path: Path) -> None:
    photos = tmp_path / "photos.zip"
    with zipfile.ZipFile(photos, "w") as archive:
        archive.writestr("cat/1.txt", "a" * 3000)
    unpack(photos)
    assert _call()[1] == f"1 unpacked archive, 0.00 GB in {tmp_path / 'archives'}"
    assert json.loads(_call("--json")[-1])["unpacked"] == 3000
    assert _call("clear")[1] == "removed 1 unpacked archive, 0.00 GB"
    assert len(_call()) == 1
    assert photos.exists()


def test_models_of_the_hub(tmp_path: Path) -> None:
    file = tmp_path / "hub" / "models--timm--tiny.in1k" / "snapshots" / ("a" * 40) / "model.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(bytes(2000))
    assert _call()[1] == f"hub:timm/tiny.in1k, 0.00 GB in {tmp_path / 'hub'}"
    assert json.loads(_call("--json")[-1])["models"] == {"timm/tiny.in1k": 2000}
    assert len(_call("clear")) == 1
    assert file.exists()
    assert _call("clear", "--hub")[1] == "removed 1 hub model, 0.00 GB"
    assert not list((tmp_path / "hub").iterdir())
