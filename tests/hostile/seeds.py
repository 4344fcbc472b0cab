"""Valid files of every kind, small: what hostile ones are made from."""

from __future__ import annotations

import gzip
import importlib.util
import io
import json
import lzma
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

import epochal
from epochal.data.sources import cifar10
from epochal.data.storage import archives
from epochal.data.storage.cache import Cache, checksums
from epochal.training.checkpoint import Checkpoints
from tests.hostile import tables
from tests.hostile.loading import training
from tests.tones import FORMATS as WAVES
from tests.tones import tone, wav

FORMATS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "bmp": "BMP", "tif": "TIFF", "gif": "GIF"}


def pixels(height: int = 24, width: int = 20) -> np.ndarray[Any, Any]:
    """A picture with edges and noise."""
    random = np.random.default_rng(0)
    picture = random.integers(0, 90, (height, width, 3), dtype=np.uint8)
    picture[: height // 2, : width // 2] += 150
    return picture


def pictures() -> dict[str, bytes]:
    """Pictures of every format, in several modes and packings, by the name of a file."""
    picture = Image.fromarray(pixels())
    grey = picture.convert("L")
    exif = Image.Exif()
    exif[0x0112] = 6
    ways: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "rgb.png": (picture, {}),
        "grey.png": (grey, {}),
        "palette.png": (picture.convert("P"), {}),
        "alpha.png": (picture.convert("RGBA"), {}),
        "deep.png": (Image.fromarray(pixels()[:, :, 0].astype(np.uint16) * 256), {}),
        "bit.png": (grey.convert("1"), {}),
        "rgb.jpg": (picture, {"exif": exif}),
        "grey.jpg": (grey, {}),
        "progressive.jpg": (picture, {"progressive": True}),
        "cmyk.jpg": (picture.convert("CMYK"), {}),
        "lossy.webp": (picture, {}),
        "lossless.webp": (picture, {"lossless": True}),
        "alpha.webp": (picture.convert("RGBA"), {}),
        "animated.webp": (picture, {"save_all": True, "append_images": [picture.rotate(90)]}),
        "rgb.bmp": (picture, {}),
        "palette.bmp": (picture.convert("P"), {}),
        "raw.tif": (picture, {}),
        "lzw.tif": (picture, {"compression": "tiff_lzw"}),
        "deflate.tif": (picture, {"compression": "tiff_adobe_deflate"}),
        "jpeg.tif": (picture, {"compression": "jpeg"}),
        "fax.tif": (grey.convert("1"), {"compression": "group4"}),
        "packbits.tif": (grey, {"compression": "packbits"}),
        "still.gif": (picture, {}),
        "animated.gif": (picture, {"save_all": True, "append_images": [picture.rotate(90)]}),
    }
    found = {}
    for name, (one, options) in ways.items():
        with io.BytesIO() as file:
            one.save(file, FORMATS[name.rpartition(".")[2]], **options)
            found[name] = file.getvalue()
    return found


def sounds() -> dict[str, bytes]:
    """Sounds in every kind of WAV, and in the formats of libsndfile where that is installed."""
    samples = np.stack([tone(440), tone(600)], 1)
    found = {f"{kind}.wav": wav(samples, kind=kind, extra=b"LIST\x04\0\0\0made", extensible=kind == "pcm24") for kind in WAVES}
    if importlib.util.find_spec("soundfile") is not None:
        import soundfile

        for name in ("flac", "ogg", "mp3"):
            with io.BytesIO() as file:
                soundfile.write(file, samples, 8000, format=name)
                found[f"a.{name}"] = file.getvalue()
    return found


def photos() -> dict[str, bytes]:
    """A folder of pictures in two classes, by relative path."""
    random = np.random.default_rng(1)
    found = {}
    for name, level in (("dark", 10), ("light", 190)):
        for number in range(3):
            with io.BytesIO() as file:
                Image.fromarray(random.integers(level, level + 50, (9, 7, 3), dtype=np.uint8)).save(file, "PNG")
                found[f"photos/{name}/{number}.png"] = file.getvalue()
    return found


def zipped(files: dict[str, bytes]) -> bytes:
    """A zip with these files."""
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
        return file.getvalue()


def tarred(files: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar with these files."""
    with io.BytesIO() as file:
        with tarfile.open(fileobj=file, mode="w", format=form) as archive:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        return file.getvalue()


def npy(array: np.ndarray[Any, Any], version: tuple[int, int] | None = None) -> bytes:
    """A .npy file."""
    with io.BytesIO() as file:
        np.lib.format.write_array(file, array, version, allow_pickle=True)
        return file.getvalue()


def npz() -> bytes:
    """A .npz file."""
    x = np.random.default_rng(2).normal(size=(12, 4)).astype(np.float32)
    return zipped({"x.npy": npy(x), "y.npy": npy(np.arange(12) % 3), "classes.npy": npy(np.array(["a", "b", "c"]))})


def idx() -> bytes:
    """An IDX file of pictures."""
    return bytes([0, 0, 8, 3, *(5).to_bytes(4), *(4).to_bytes(4), *(6).to_bytes(4)]) + bytes(range(120))


def few_records() -> None:
    """Let the published files of CIFAR-10 have 3 records instead of 10,000, which would take a second to read."""
    cifar10.RECORDS = 3


def make(folder: Path) -> dict[str, list[Path]]:
    """Write valid files of every kind below `folder`; for kinds that are folders, folders."""
    folder.mkdir(parents=True)
    few_records()
    found: dict[str, list[Path]] = {}

    def write(kind: str, name: str, content: bytes) -> None:
        path = folder / kind / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        found.setdefault(kind, []).append(path)

    for name, content in pictures().items():
        write("picture", name, content)
    for name, content in sounds().items():
        write("sound", name, content)
    for name, content in tables.seeds().items():
        write("table", name, content)
        write("texts in a table", name, content)
    for name, content in tables.texts().items():
        write("text", name, content)
    write("idx", "a", idx())
    write("idx", "a.gz", gzip.compress(idx()))
    write("npz", "a.npz", npz())
    batch = bytes(cifar10.RECORDS * cifar10._RECORD_SIZE)
    write("cifar10", cifar10.ARCHIVE, gzip.compress(tarred({f"{cifar10.FOLDER}/{name}": batch for name in cifar10._BATCHES})))
    if hasattr(archives, "unpack"):
        write("archive", "a.zip", zipped(photos()))
        write("archive", "a.tar", tarred(photos(), tarfile.GNU_FORMAT))
        write("archive", "a.tar.gz", gzip.compress(tarred(photos(), tarfile.USTAR_FORMAT)))
        write("archive", "a.tar.xz", lzma.compress(tarred({f"{'deep/' * 20}{name}": content for name, content in photos().items()})))
    arrays = folder / "npy" / "arrays"
    arrays.mkdir(parents=True)
    (arrays / "x.npy").write_bytes(npy(np.asfortranarray(np.random.default_rng(3).normal(size=(12, 4)))))
    (arrays / "y.npy").write_bytes(npy(np.array(["cat", "dog"] * 6)))
    found["npy"] = [arrays]
    (folder / "safetensors").mkdir()
    tensors = {"x": torch.randn(12, 4).bfloat16(), "y": torch.arange(12) % 3}
    save_file(tensors, folder / "safetensors" / "a.safetensors", {"classes": json.dumps(["a", "b", "c"])})
    found["safetensors"] = [folder / "safetensors" / "a.safetensors"]

    x = torch.randn(16, 3)
    np.savez(folder / "table.npz", x=x.numpy(), y=(x[:, 0] > 0).numpy().astype(np.int64))
    settings: dict[str, Any] = {"epochs": 1, "batch_size": 4, "device": "cpu", "threads": 1, "watchers": ()}
    for name, model in (("mlp", {"name": "mlp", "widths": [4]}), ("linear", "linear")):
        run = epochal.train(folder / "table.npz", model=model, out=folder / "run" / name, **settings)
        found.setdefault("run", []).append(folder / "run" / name)
        assert run.folder is not None
        found.setdefault("bundle", []).append(run.bundle.save(folder / "bundle" / name))
        found.setdefault("recipe", []).append(run.folder / "recipe.toml")
    (folder / "resume").mkdir()
    epochal.train(folder / "table.npz", model="linear", out=folder / "resume" / "cut", checkpoint_every=1e-9, **settings)
    (folder / "resume" / "cut" / "result.json").unlink()
    found["resume"] = [folder / "resume" / "cut"]

    made = training()
    for group in made.optimizer.param_groups:  # type: ignore[attr-defined]
        for parameter in group["params"]:
            parameter.grad = torch.ones_like(parameter)
    made.update()
    made.step = 1
    Checkpoints(folder / "checkpoint" / "checkpoints", 60).save(made)
    found["checkpoint"] = [folder / "checkpoint" / "checkpoints"]

    cache = Cache(folder / "pack", 1 << 30)
    content = bytes(range(240)) * 2
    with cache.draft(len(content)) as draft:
        draft.path.write_bytes(content)
        draft.seal("key", "made", (10, 3, 4, 4), checksums(content, 48))
    found["pack"] = [folder / "pack" / "key.pack"]
    return found
