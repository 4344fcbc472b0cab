"""The program beside an exported file answers as the model does, where there is neither PyTorch nor Epochal.

EPOCHAL_EXPORT=full .venv/bin/python -m pytest tests/exports/test_script.py     also all of MNIST, and in a new environment from PyPI
"""

from __future__ import annotations

import json
import os
import subprocess
import venv
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from epochal import Bundle, load, train
from epochal.data.inputs.text.features import MAX_CHARACTERS
from epochal.errors import ModelError, TakenError
from epochal.exports.export import export
from epochal.exports.script import beside
from epochal.models.build import MODELS
from tests.conftest import SpecMaker
from tests.data.test_table import csv_of, people
from tests.exports.test_export import IS_FULL
from tests.test_same_answers import LABELS, SETTINGS, TEXTS
from tests.tones import tone, wav
from tests.trunks import shrink

pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")

pytestmark = pytest.mark.usefixtures("exporting")

# What the program may import besides Python's own modules, and what these need.
_ALLOWED = ("numpy", "onnxruntime", "PIL", "flatbuffers", "packaging", "google")


# Runs programs one after another, to import only once what they import.
_HOST = """
import contextlib, io, json, os, runpy, sys
for line in sys.stdin:
    sys.argv, code, out, said = json.loads(line), 0, io.StringIO(), io.StringIO()
    sys.path[0] = os.path.dirname(sys.argv[0])
    sys.modules.pop("tokens", None)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(said):
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit as error:
            code = 1
            said.write(error.code)
    print(json.dumps([code, out.getvalue(), said.getvalue()]), flush=True)
"""


class Python(NamedTuple):
    """How an interpreter is called, and a process of it that runs programs."""

    command: list[str]
    host: subprocess.Popen[str]


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Python]:
    """A Python that has NumPy, ONNX Runtime and Pillow alone: links to those here; or, of the full tests, an environment from PyPI."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=IS_FULL, symlinks=True)
    command = [str(folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))]
    if IS_FULL:
        subprocess.run([*command, "-m", "pip", "install", "-q", "numpy", "onnxruntime", "pillow"], check=True)
    else:
        here = Path(np.__file__).parents[1]
        there = Path(run([*command, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).stdout.strip())
        for package in here.iterdir():
            if package.name.split(".")[0] in _ALLOWED or package.name.endswith(".libs"):
                (there / package.name).symlink_to(package)
    for module in ("torch", "epochal"):
        assert run([*command, "-c", f"import {module}"]).returncode == 1
    pipe = subprocess.PIPE
    with subprocess.Popen([*command, "-c", _HOST], env=_environment(), stdin=pipe, stdout=pipe, text=True, encoding="utf-8") as host:
        yield Python(command, host)
        host.communicate()


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV"))}


def run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=_environment(), capture_output=True, text=True, encoding="utf-8", timeout=500, check=False)


def ran(python: Python, model: Path, files: Sequence[Path]) -> tuple[int, str, str]:
    """Run the program beside a model: its exit code, and what it says on both outputs."""
    assert python.host.stdin is not None
    assert python.host.stdout is not None
    print(json.dumps([str(model.with_name("predict_onnx.py")), str(model), *map(str, files)]), file=python.host.stdin, flush=True)
    code, out, said = json.loads(python.host.stdout.readline())
    return code, out, said


def answers(python: Python, model: Path, files: Sequence[Path]) -> list[list[str]]:
    """What the program says of files: for each input its name, and the answer."""
    code, out, said = ran(python, model, files)
    assert (code, said) == (0, "")
    return [line.split("\t") for line in out.splitlines()]


def refusal(python: Python, model: Path, file: Path) -> str:
    code, _, said = ran(python, model, [file])
    assert code == 1
    assert said.startswith(str(file))
    return said


def check(python: Python, bundle: Bundle, files: Sequence[Path], folder: Path, inputs: Any = None) -> Path:
    """Export a model, and compare the program's answers for files with the model's; return the exported file."""
    model = folder / "model.onnx"
    # How the file compares with the model is tested elsewhere.
    some = bundle.spec.input.zeros() if inputs is None else inputs
    found = export(bundle, "onnx", model, some)
    for path in found.beside:
        assert path.suffix != ".py" or len(path.read_text("utf-8").splitlines()) <= 60, path
    given = answers(python, model, files)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the inputs have")
        wanted = bundle.predict(list(files))
    assert len(given) == len(wanted) > 0
    assert len({str(prediction.values) for prediction in wanted}) > 1
    for (_, *answer), prediction in zip(given, wanted, strict=True):
        if prediction.probability is not None:
            assert answer[0] == prediction.label
            assert float(answer[1]) == pytest.approx(prediction.probability, abs=1e-5)
        else:
            if bundle.spec.task.name == "multi-label":
                assert answer.pop(0) == prediction.label
            values = {name: float(value) for name, value in (pair.rsplit("=", 1) for pair in answer)}
            assert values == pytest.approx(dict(prediction.values), rel=1e-5, abs=1e-5)
    return model


def test_no_more_is_there_than_said(python: Python) -> None:
    done = run([*python.command, "-c", "import sys, onnxruntime, numpy, PIL; print(*sys.modules)"])
    assert done.returncode == 0, done.stderr
    assert not {"torch", "epochal", "pydantic", "scipy"} & {name.split(".")[0] for name in done.stdout.split()}


def photographs(folder: Path) -> list[Path]:
    """Pictures of every kind that a program may meet: modes, sizes, rotated, transparent, deep, in all formats."""
    random = np.random.default_rng(0)
    made: list[tuple[str, Image.Image, dict[str, Any]]] = []

    def smooth(height: int, width: int, channels: int = 3) -> np.ndarray[Any, Any]:
        small = Image.fromarray(random.integers(0, 256, (4, 5, channels), dtype=np.uint8).squeeze())
        return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))

    for number, (height, width) in enumerate([(8, 8), (9, 31), (120, 90), (301, 64), (7, 5), (400, 611), (1, 40), (60, 60)]):
        made.append((f"{number}.png", Image.fromarray(smooth(height, width)), {}))
    photo = Image.fromarray(smooth(90, 140))
    exif = Image.Exif()
    for turn in range(1, 9):
        exif[0x0112] = turn
        made.append((f"turned{turn}.jpg", photo, {"exif": exif.tobytes()}))
    made.append(("turned.png", photo, {"exif": exif.tobytes()}))
    made.append(("turned.tif", photo, {"exif": exif}))
    for mode in ("1", "L", "LA", "P", "RGBA", "CMYK", "I"):
        layer = Image.fromarray(smooth(50, 70, 4)).convert("RGBA")
        layer.putalpha(Image.fromarray(smooth(50, 70, 1)))
        converted = layer.convert("L").convert("I") if mode == "I" else layer.convert(mode)
        made.append((f"mode{mode}.tif", converted, {}))
        if mode not in ("CMYK", "I"):
            made.append((f"mode{mode}.png", converted, {}))
    made.append(("deep.png", Image.fromarray(random.integers(0, 65536, (30, 40)).astype(np.uint16)), {}))
    made.append(("palette.gif", photo.quantize(16), {"transparency": 3}))
    made.append(("palette.png", photo.quantize(16), {"transparency": 3}))
    made.append(("key.png", photo, {"transparency": (255, 0, 0)}))
    made += [
        ("photo.webp", photo, {}),
        ("photo.bmp", photo, {}),
        ("gray.jpg", photo.convert("L"), {}),
        ("cmyk.jpg", photo.convert("CMYK"), {}),
    ]
    # One colour all around.
    framed = Image.new("RGB", (100, 60), (200, 30, 40))
    framed.paste(photo.resize((40, 30)), (20, 10))
    made.append(("framed.png", framed, {}))
    folder.mkdir()
    for name, picture, options in made:
        picture.save(folder / name, **options)
    return [folder / name for name, _, _ in made]


@pytest.mark.parametrize(("fit", "channels"), [("pad", 3), ("crop", 3), ("squash", 1), ("pad", 1)])
def test_pictures(fit: Any, channels: int, python: Python, tmp_path: Path) -> None:
    files, random = photographs(tmp_path / "pictures"), np.random.default_rng(1)
    for number in range(2):
        (tmp_path / "data" / str(number)).mkdir(parents=True)
        for place in range(15):
            pixels = random.integers(0, 256, (20, 25, 3)[: 2 + (channels == 3)], dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / str(number) / f"{place}.png")
    bundle = train(tmp_path / "data", model="linear", size=17, fit=fit, **SETTINGS).bundle
    assert bundle.spec.shape == (channels, 17, 17)
    model = check(python, bundle, files, tmp_path)
    (tmp_path / "text.png").write_text("no picture")
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "float.tif")
    assert "cannot identify" in refusal(python, model, tmp_path / "text.png")
    assert "8 or 16 bits" in refusal(python, model, tmp_path / "float.tif")


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_numbers(dtype: Any, python: Python, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(0, 100, (30, 5)).astype(dtype)
    bundle = train((torch.from_numpy(rows), LABELS), model="mlp", **SETTINGS).bundle
    np.save(tmp_path / "one.npy", rows[0])
    np.save(tmp_path / "all.npy", rows)
    model = check(python, bundle, [tmp_path / "one.npy", tmp_path / "all.npy"], tmp_path)
    (only,) = answers(python, model, [tmp_path / "one.npy"])
    assert only[0] == str(tmp_path / "one.npy")
    bad = tmp_path / "bad.npy"
    for values, why in (
        (rows[:, :4], "its shape is (30, 4), and the model takes (5,)"),
        (rows.astype(np.uint8), f"it has uint8, and the model takes {bundle.spec.dtype}"),
    ):
        np.save(bad, values)
        assert why in refusal(python, model, bad)
    if dtype != np.int64:
        np.save(bad, np.full(5, np.nan, bundle.spec.dtype))
        assert "NaN" in refusal(python, model, bad)


def test_thresholds(python: Python, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(0, 100, (30, 5)).astype(np.float32)
    np.save(tmp_path / "all.npy", rows)
    usual = train((torch.from_numpy(rows), LABELS), model="mlp", **SETTINGS).bundle
    least = (0.97, *(0.03 for _ in usual.classes[1:]))
    task = usual.spec.task.model_copy(update={"thresholds": least})
    bundle = replace(usual, spec=usual.spec.model_copy(update={"task": task}))
    given = torch.from_numpy(rows)
    assert [one.label for one in bundle.predict(given)] != [one.label for one in usual.predict(given)]
    check(python, bundle, [tmp_path / "all.npy"], tmp_path, given)


def test_several_labels_and_quantities(python: Python, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(0, 1, (30, 5)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    for name, targets in (("quantities", rows[:, :2] * 1e9), ("times", rows[:, 0].astype(np.float64) + 1.7e9)):
        bundle = train((rows, targets), model="mlp", **SETTINGS).bundle
        check(python, bundle, [tmp_path / "rows.npy"], tmp_path / name)
    usual = train((rows, (rows[:, :3] > 0).astype(np.int64)), model="mlp", **SETTINGS).bundle
    least = usual.values(torch.from_numpy(rows)).quantile(0.7, dim=0)
    task = usual.spec.task.model_copy(update={"thresholds": tuple(least.tolist())})
    tuned = replace(usual, spec=usual.spec.model_copy(update={"task": task}))
    labels = {one.label for one in tuned.predict(torch.from_numpy(rows))}
    assert "none" in labels
    assert len(labels) > 3
    for name, bundle in (("labels", usual), ("thresholds", tuned)):
        check(python, bundle, [tmp_path / "rows.npy"], tmp_path / name)


def test_tables(python: Python, tmp_path: Path) -> None:
    columns = people(60)
    columns["born"] = [f"{date} 12:3{row % 10}" if row % 3 else date for row, date in enumerate(columns["born"])]
    columns["at"] = [str(1_700_000_000 + 0.25 * row) for row in range(60)]
    bundle = train(load(columns, target="income"), **SETTINGS | {"epochs": 30}).bundle
    assert {column.kind for column in bundle.spec.input.columns} == {"number", "date", "category"}  # type: ignore[attr-defined]
    file = csv_of(columns, tmp_path / "people.csv")
    # Words that were not there, ways to write numbers, quotes, blanks, missing values.
    odd = tmp_path / "odd.tsv"
    odd.write_text(
        "\ufeffjob\t born\tage\tcountry\tat\tmore\n"
        'astronaut\t2001-02-03\t 41 \tNL\t1.7e9\t"a\tb"\n'
        " pilot \tNA\tnan\tNL\t1700000001\t\n\n"
        '"nurse"\t1999-12-31T23:59:59+02:00\t4e1\tNL\t?\tx\n',
        "utf-8",
    )
    model = check(python, bundle, [file, odd], tmp_path)
    (tmp_path / "bad.csv").write_text("age,job,at\n1,pilot,2\n")
    assert "there is no column, or there are several, named born" in refusal(python, model, tmp_path / "bad.csv")
    for cells, why in (
        ("1_0,pilot,2001-02-03,5", "'1_0' is not a number"),
        ("inf,pilot,2001-02-03,5", "'inf' is not a number"),
        ("old,pilot,2001-02-03,5", "could not convert string to float: 'old'"),
        ("10,pilot,3.2.2001,5", "Invalid isoformat string: '3.2.2001'"),
        ("10,pilot,2001-02-03", "line 2: the number of values is 3, and of columns 4"),
        ('10,"pilot,2001-02-03,5', "unexpected end of data"),
    ):
        (tmp_path / "bad.csv").write_text(f"age,job,born,at\n{cells}\n")
        assert why in refusal(python, model, tmp_path / "bad.csv")


def test_tables_without_names(python: Python, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(0, 1, (60, 3)).round(3)
    file = tmp_path / "rows.csv"
    file.write_text("".join(f"{a},{b},{c},{'yes' if a + b > 0 else 'no'}\n" for a, b, c in rows))
    bundle = train(load(file, target="3"), **SETTINGS).bundle
    assert not bundle.spec.input.has_header  # type: ignore[attr-defined]
    check(python, bundle, [file], tmp_path)


# Writing of all kinds, and all that is odd about texts.
ODD = (
    "",
    " \t\r\n ",
    "A",
    "İstanbul ǅ ß e\u0301 \u1e9b\u0323 ﬁ",
    "snake_case, 3.14 don't—stop! … 😀👍🏽 \u200b\u00a0x\u2028y\ufffd",
    "很好看的电影，真的 good 日本語テキスト ภาษาไทย 한국어 русский العربية हिन्दी",
    "x" * 1500 + " " + "ab" * 60,
    "▁▁ a  b   c    d\n\n\t<0x0A> [SEP] ## ##ing",
    "the quick brown fox " * 400,
    "\U00020001\U0003ffff\U00040000 \U0001f600",
)


@pytest.mark.parametrize(
    "name", [name for name, entry in MODELS.items() if entry.kind == "text" and (IS_FULL or name not in ("gru", "lstm"))]
)
def test_texts(name: str, python: Python, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not IS_FULL:
        shrink(monkeypatch)
    if (weights := MODELS[name].weights) is not None:
        try:
            weights.path()
        except ModelError as error:
            pytest.skip(str(error))
    texts = [*TEXTS, *(text for text in ODD if text.strip())]
    bundle = train((texts, [place % 2 for place in range(len(texts))]), model=name, **SETTINGS).bundle
    (tmp_path / "texts").mkdir()
    files = [tmp_path / "texts" / f"{place}.txt" for place in range(len(texts) + 3)]
    for file, text in zip(files, [*texts, *ODD[:2], "word " * (MAX_CHARACTERS // 4)], strict=True):
        file.write_bytes(text.encode())
    model = check(python, bundle, files, tmp_path)
    (tmp_path / "wide.txt").write_text("wide", "utf-16")
    (tmp_path / "zero.txt").write_bytes(b"a\0b")
    (tmp_path / "text.md").write_text("a text")
    assert "can't decode" in refusal(python, model, tmp_path / "wide.txt")
    assert "not a .txt file" in refusal(python, model, tmp_path / "zero.txt")
    assert "not a .txt file" in refusal(python, model, tmp_path / "text.md")
    vocabulary = tmp_path / "vocabulary.txt"
    assert vocabulary.exists() == (weights is not None)
    if weights is not None:
        vocabulary.write_bytes(vocabulary.read_bytes()[:-1])
        assert "not that of the model" in refusal(python, model, files[0])


@pytest.mark.parametrize("windows", [1, 3])
def test_sounds(windows: int, python: Python, tmp_path: Path) -> None:
    sounds = [tone(300 + 40 * seed, 0.05 + 0.02 * (seed % 15), seed=seed) for seed in range(30)]
    data = load(([(sound.astype(np.float32), 8000) for sound in sounds], LABELS), input="sound", seconds=0.1, windows=windows)
    bundle = train(data, model="linear", **SETTINGS).bundle
    silent, short = np.zeros(300), np.concatenate((np.zeros(100), sounds[0][:200], np.zeros(50)))
    stereo = np.stack((sounds[3], np.roll(sounds[3], 5), -0.2 * sounds[3]), 1)
    faint = np.zeros((500, 2))
    faint[200:300, 0] = 1 / 32768
    faint[220:260] = 0.4
    given = [*sounds, silent, short, stereo, stereo[:300], faint, sounds[1][:1]]
    files = [tmp_path / f"{place}.wav" for place in range(len(given))]
    for file, sound in zip(files, given, strict=True):
        file.write_bytes(wav(sound, 8000, extra=b"LIST\x04\0\0\0abcd"))
    model = check(python, bundle, files, tmp_path)
    bad = tmp_path / "bad.wav"
    for content, why in (
        (wav(sounds[0], 16000), "16 bits at 16000 Hz, and the model takes 16 bits at 8000 Hz: ffmpeg"),
        (wav(sounds[0], 8000, "pcm24"), "24 bits"),
        (wav(sounds[0], 8000, "float32"), "unknown format"),
        (wav(sounds[0])[:-100], "truncated"),
        (b"fLaC", ""),
    ):
        bad.write_bytes(content)
        assert why in refusal(python, model, bad)


def test_models_of_one_kind_share_what_lies_beside_and_others_have_folders(python: Python, tmp_path: Path) -> None:
    rows = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
    np.save(tmp_path / "rows.npy", rows)
    numbers = [train((rows, LABELS), model=name, **SETTINGS).bundle for name in ("mlp", "linear")]
    texts = train((TEXTS, LABELS), model="bag", **SETTINGS).bundle
    (tmp_path / "a.txt").write_text(TEXTS[0], "utf-8")
    for bundle, name in zip((*numbers, texts), ("mlp", "linear", "bag"), strict=True):
        export(bundle, "onnx", tmp_path / f"{name}.onnx", bundle.spec.input.zeros())
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.py")} == {
        "predict_onnx.py",
        *(f"bag.onnx.files/{file}.py" for file in ("predict_onnx", "tokens")),
    }
    for program, name, file in (("", "mlp", "rows.npy"), ("", "linear", "rows.npy"), ("bag.onnx.files", "bag", "a.txt")):
        done = run([*python.command, *(str(tmp_path / path) for path in (Path(program) / "predict_onnx.py", f"{name}.onnx", file))])
        assert (done.returncode, done.stderr) == (0, "")
    # What somebody else wrote is kept.
    (tmp_path / "new.onnx.files").write_text("notes")
    with pytest.raises(TakenError, match="new.onnx.files"):
        export(texts, "onnx", tmp_path / "new.onnx", texts.spec.input.zeros())
    assert not (tmp_path / "new.onnx").exists()


def test_pictures_that_are_no_files_are_arrays(make_spec: SpecMaker) -> None:
    for dtype, shape, reader in (("float32", (2, 8, 8), "an .npy file"), ("uint8", (3, 8, 8), "a picture")):
        bundle = Bundle(torch.nn.Identity(), make_spec(shape=shape, dtype=dtype, mean=(0.0,), std=(1.0,)), None)
        assert reader in beside(bundle)["predict_onnx.py"].decode().splitlines()[2]


def test_all_pictures_of_mnist(python: Python, tmp_path: Path) -> None:
    place = os.environ.get("EPOCHAL_DATA")
    if not place or not (Path(place) / "mnist").is_dir():
        pytest.skip("EPOCHAL_DATA does not name a folder that has mnist/")
    test = load("mnist").test
    assert test is not None
    count = 10_000 if IS_FULL else 200
    bundle = train("mnist", model="linear", **SETTINGS | {"batch_size": 250, "max_steps": 200}).bundle
    files = [tmp_path / f"{number:05}.png" for number in range(count)]
    for number, file in enumerate(files):
        Image.fromarray(test.inputs[torch.tensor([number])][0, 0].numpy()).save(file)
    check(python, bundle, files, tmp_path)
