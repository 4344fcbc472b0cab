"""The page without a server: in Chromium, from a web host and from a file, it says what the bundle says.

EPOCHAL_EXPORT=full compares 500 pictures and rows, and 60 sounds.
"""

from __future__ import annotations

import base64
import functools
import http.server
import io
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from epochal import export, load, train
from epochal.bundle import Bundle
from epochal.data.inputs.text.pieces import packed
from epochal.data.inputs.text.read import Text
from epochal.data.inputs.text.rule import TextRule
from epochal.errors import ExportError, TakenError
from epochal.serve import web
from epochal.serve.characters import reading
from tests.data.inputs.test_pieces import PAIRS, WORDS
from tests.data.test_table import csv_of, people
from tests.exports.test_export import IS_FULL
from tests.photos import write_photos
from tests.serve.browser import Page
from tests.serve.conftest import encoded
from tests.tones import low_and_high

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

pytestmark = pytest.mark.usefixtures("exporting")

# So many inputs are compared, and sounds.
_COUNT, _SOUNDS = (500, 60) if IS_FULL else (60, 12)


@pytest.fixture(scope="session")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of the runtime, from npm."""
    npm, folder = shutil.which("npm"), tmp_path_factory.mktemp("runtime")
    if npm is None:
        pytest.skip("the runtime comes from npm, which is not installed")
    command = [npm, "pack", "--silent", "--prefer-offline", "onnxruntime-web@1.30.0"]
    packed = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    if packed.returncode:
        pytest.skip(f"npm does not give the runtime: {packed.stderr.strip()[:200]}")
    return folder / web.PACKAGE


@pytest.fixture(scope="module", autouse=True)
def _unpacked_once() -> Iterator[None]:
    """It takes two seconds to unpack the runtime and to compress what is in it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(web, "_runtime", functools.cache(web._runtime))
        yield


def _exported(data: Any, folder: Path, runtime: Path, examples: Any) -> Bundle:
    run = train(data, epochs=1, quiet=True, device="cpu", threads=1, out=folder / "run")
    export(folder / "run", "web", folder / "page", runtime=runtime, examples=examples)
    return run.bundle


def _pages(folder: Path) -> Iterator[str]:
    """The addresses of an exported page: on a web host, and as a file."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()
    yield (folder / web.ONE_FILE).as_uri()


_TEXTS = "const texts = given.texts.map((codes) => codes.map((code) => String.fromCodePoint(code)).join(''));"
_FILES = "const files = given.files.map(([name, content]) => new File([Uint8Array.from(atob(content), (x) => x.charCodeAt(0))], name));"


def _asked(driver: Any, address: str, files: dict[str, bytes]) -> list[dict[str, Any]]:
    """What the page at an address predicts for files."""
    code = f"{_FILES} return (await (await load('engine.js')).predict(null, files)).predictions;"
    found: list[dict[str, Any]] = _run(driver, address, code, {"files": _in_base64(files)})
    return found


def _in_base64(files: dict[str, bytes]) -> list[tuple[str, str]]:
    return [(name, base64.b64encode(content).decode()) for name, content in files.items()]


def _run(driver: Any, address: str, code: str, given: Any) -> Any:
    """What a script of the page at an address returns."""
    driver.get("about:blank")
    driver.get_log("browser"), driver.get_log("performance")
    page = Page(driver, address)
    driver.get(address)
    page.until(lambda: page.shown("work"))
    base = "./static/" if address.startswith("http") else "epochal/"
    driver.set_script_timeout(300)
    found = driver.execute_async_script(
        f"""
        const load = (name) => import("{base}" + name);
        (async (given) => {{ {code} }})(arguments[0]).then(arguments[1], (error) => arguments[1](String(error)));
        """,
        given,
    )
    assert not isinstance(found, str), found
    assert page.logged() == []
    assert [one for one in page.asked() if not one.startswith((address, "data:", "blob:"))] == []
    return found


def _compare(found: list[dict[str, Any]], expected: Any, most: float) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one["label"] == other.label, one
        assert max(abs(one["values"][name] - value) for name, value in other.values.items()) < most, one


def test_pictures_of_any_size(tmp_path: Path, runtime: Path, driver: Any) -> None:
    photos = write_photos(tmp_path / "photos", {"dark": 40, "bright": 180}, 12, 20, 14, spread=40)
    random, files = np.random.default_rng(0), {}
    (tmp_path / "new").mkdir()
    for number in range(_COUNT):
        # From smaller than the model's pictures to far larger, of every shape.
        width, height = (int(side) for side in random.integers(4, 40 if number % 10 else 300, 2))
        base = Image.fromarray(random.integers(0, 256, (5, 4, 3), np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
        files[f"{number:03}.png"] = encoded(base.convert("L") if number % 7 == 0 else base)
        (tmp_path / "new" / f"{number:03}.png").write_bytes(files[f"{number:03}.png"])
    paths = [tmp_path / "new" / name for name in files]
    expected = _exported(load(photos, size=16), tmp_path, runtime, paths).predict(paths)
    for address in _pages(tmp_path / "page"):
        # Pillow resizes one axis or the other first, by its version: then pixels differ by one level.
        _compare(_asked(driver, address, files), expected, 1e-3)
    static = tmp_path / "page" / web.STATIC
    assert sum(file.stat().st_size for file in static.iterdir() if file.name != "model.onnx") <= 5_000_000
    with pytest.raises(TakenError):
        export(tmp_path / "run", "web", tmp_path / "page", runtime=runtime, examples=paths)


def test_digits_are_drawn(tmp_path: Path, runtime: Path, driver: Any, digits: Path) -> None:
    export(digits, "web", tmp_path / "page", runtime=runtime)
    for address in _pages(tmp_path / "page"):
        page = Page(driver, address)
        driver.get(address)
        page.until(lambda: page.shown("paper"))  # noqa: B023
        page.draw([[(0.3, 0.25), (0.5, 0.24), (0.7, 0.25), (0.62, 0.42), (0.52, 0.6), (0.45, 0.8)]])
        page.answered("7")
        page.until(lambda: page.shown("map-figure"))  # noqa: B023
        assert "in this browser" in page.text("latency")
        assert page.all("footer p")[0].text.startswith("Everything is computed in this browser")


def test_rows_of_a_table(tmp_path: Path, runtime: Path, driver: Any) -> None:
    table = csv_of(people(_COUNT), tmp_path / "new.csv")
    expected = _exported(load(people(200), target="income"), tmp_path, runtime, table).predict(table)
    for address in _pages(tmp_path / "page"):
        _compare(_asked(driver, address, {"new.csv": table.read_bytes()}), expected, 1e-5)


def test_sounds_of_any_rate_and_length(tmp_path: Path, runtime: Path, driver: Any) -> None:
    import wave

    low_and_high(tmp_path / "tones", 8)
    random, files = np.random.default_rng(0), {}
    (tmp_path / "new").mkdir()
    for number in range(_SOUNDS):
        rate = (8000, 11025, 16000, 44100)[number % 4]
        times = np.arange(int(random.integers(rate // 10, rate))) / rate
        samples = (12000 * np.sin(2 * np.pi * random.integers(200, 3000) * times) + random.normal(0, 500, len(times))).astype(np.int16)
        file = io.BytesIO()
        with wave.open(file, "wb") as sound:
            sound.setnchannels(1)
            sound.setsampwidth(2)
            sound.setframerate(rate)
            sound.writeframes(samples.tobytes())
        files[f"{number:02}.wav"] = file.getvalue()
        (tmp_path / "new" / f"{number:02}.wav").write_bytes(file.getvalue())
    paths = [tmp_path / "new" / name for name in files]
    expected = _exported(load(tmp_path / "tones"), tmp_path, runtime, paths).predict(paths)
    for address in _pages(tmp_path / "page"):
        # The last bit of a sample that was resampled may differ.
        _compare(_asked(driver, address, files), expected, 1e-3)


def _writing() -> list[str]:
    """Texts of all kinds, and what is odd about texts."""
    random = np.random.default_rng(0)
    pools = [
        *(
            "abc ABC.,!_7",
            "äÖß ẞéè ",
            "İIıiŞğ ",
            "好吃的外卖了，。",
            "ひらカタ漢字",
            "สวัสดี ครับ",
            "한국어\u1100\u1161\u11a8 ",
            "ΑΒΣσς. ",
            "😀👍🏽\u200d❤\ufe0f ",
        ),
        *(
            "aeou\u0300\u0301\u0323\u0327 ",
            "\0\t\n\r\x1c\x85\u2028\u3000\xa0a",
            "ǅﬁﬀ½Ⅷ \u212b\u2126\u1e9b",
            "\u0378\uffff\U0010ffff\ufffd a",
        ),
        *("\ud800a \udc00", "".join(map(chr, range(32, 0x3000))), "".join(map(chr, range(0x10000, 0x1F000, 3)))),
    ]
    texts = [
        "",
        " ",
        "x" * 3000,
        "很" * 5000,
        "so many words " * 15_000,
        "ß" * 99,
        "[SEP] ##a ▁ ▁▁a",
        "𞤀𞤢",
        "\ua7cb \u1c89",
        "\U00016d68\U00016d63",
    ]
    while len(texts) < _COUNT:
        letters = "".join(pools[place] for place in random.integers(0, len(pools), 2))
        texts.append("".join(letters[place] for place in random.integers(0, len(letters), random.integers(1, 80))))
    # Surrogates that Python keeps apart are one character in JavaScript.
    return [text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass") for text in texts]


def _codes(texts: list[str]) -> list[list[int]]:
    return [list(map(ord, text)) for text in texts]


@pytest.mark.parametrize("model", ["bag", "gru", "transformer"] if IS_FULL else ["bag"])
def test_texts_of_all_kinds(model: str, tmp_path: Path, runtime: Path, driver: Any) -> None:
    texts = _writing()
    train((texts, [len(text) % 2 for text in texts]), model=model, epochs=1, quiet=True, device="cpu", threads=1, out=tmp_path / "run")
    export(tmp_path / "run", "web", tmp_path / "page", runtime=runtime, examples=[Text(text) for text in texts])
    bundle = Bundle.load(tmp_path / "run")
    expected = bundle.predict([Text(text) for text in texts])
    files = {
        "one.txt": "\ufeffso many".encode(),
        "two.txt": "so many".encode("utf-16"),
        "bad.txt": b"so\nm\xffny",
        "zero.txt": b"\n\n\0",
    }
    code = f"""
        {_TEXTS} {_FILES}
        const engine = await load("engine.js");
        return [(await engine.predict(null, texts)).predictions, (await engine.predict(null, files)).predictions];
    """
    for address in _pages(tmp_path / "page"):
        found, (one, two, bad, zero) = _run(driver, address, code, {"texts": _codes(texts), "files": _in_base64(files)})
        _compare(found, expected, 1e-5)
        assert one["values"] == two["values"] == pytest.approx(bundle.predict([Text("so many")])[0].values, abs=1e-5)
        assert bad["error"] == {"message": "bad.txt, line 2: it is not UTF-8.", "fix": "Save the file as text in UTF-8."}
        assert zero["error"]["message"] == "zero.txt, line 3: there is a zero byte, so it is not text."
        page = Page(driver, address)
        page.find("text").send_keys("so many words")
        page.until(lambda: page.shown("words"))  # noqa: B023
        assert page.text("words") == "so many words"
    if model == "bag":
        _compare_pieces(driver, address, texts)


def _compare_pieces(driver: Any, address: str, texts: list[str]) -> None:
    """Texts are split in the browser as in Python, in each way that there is."""
    code = f"""
        {_TEXTS}
        const kinds = {{ ...(await load("hashed.js")), ...(await load("pieces.js")) }};
        return given.splitters.map(([kind, reading]) => {{
            const splitter = new kinds[kind](reading);
            return texts.map((text) => splitter.encode(text, 100));
        }});
    """
    if IS_FULL:  # Every character, alone and around a sigma, whose lower case depends on others.
        every = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
        texts = texts + ["".join(f"aΣ{one}α {one}Σ" for one in every[begin : begin + 20]) for begin in range(0, len(every), 20)]
    splitters = []
    for kind, tokens, pieces in (
        ("Hashed", "words", ()),
        ("Hashed", "ngrams", ()),
        ("WordPiece", "wordpiece", WORDS.ids),
        ("BytePairs", "bpe", PAIRS.ids),
    ):
        vocabulary = packed("\n".join(pieces).encode()) if pieces else ""
        rule = TextRule.model_validate({"shape": (2, 100) if tokens == "ngrams" else (100,), "tokens": tokens, "vocabulary": vocabulary})
        splitters.append((kind, rule))
    given = {"splitters": [(kind, reading(rule)) for kind, rule in splitters], "texts": _codes(texts)}
    for (_, rule), found in zip(splitters, _run(driver, address, code, given), strict=True):
        for text, rows, wanted in zip(texts, found, rule.encode(texts).reshape(len(texts), -1, 100).tolist(), strict=True):
            assert [row + [0] * (100 - len(row)) for row in rows] == wanted, text


def test_another_runtime_is_refused(tmp_path: Path) -> None:
    train("digits", model="linear", epochs=1, quiet=True, device="cpu", threads=1, out=tmp_path / "run")
    (tmp_path / web.PACKAGE).write_bytes(b"something else")
    with pytest.raises(ExportError, match=r"is not onnxruntime-web-1.30.0.tgz, or it is damaged.\nGet it from npm: npm pack"):
        export(tmp_path / "run", "web", runtime=tmp_path / web.PACKAGE)
    with pytest.raises(ExportError, match="cannot be read"):
        export(tmp_path / "run", "web", runtime=tmp_path / "none.tgz")
    assert not (tmp_path / "run" / "export" / "web").exists()
