"""The page without a server: a folder for any web host, and one file that opens by double-click, with the model and its runtime inside.

The model is the exported ONNX file; it is computed in the browser by ONNX Runtime's build for WebAssembly, which npm publishes.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import re
import tarfile
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from epochal.bundle import Bundle, weights_file
from epochal.data.inputs.table.rule import TableRule
from epochal.data.inputs.text.rule import TextRule
from epochal.data.inputs.values import Inputs
from epochal.data.storage.download import fetch
from epochal.errors import ExportError, reason_of
from epochal.exports.export import FORMATS, Exported, encoded
from epochal.exports.parity import compare
from epochal.io.files import cache_folder, new_directory, write_bytes
from epochal.serve.characters import reading
from epochal.serve.model import describe_model, name_of, test_result

# The runtime: a package of npm, of which two files are used.
PACKAGE = "onnxruntime-web-1.30.0.tgz"
_SIZE = 33_106_585
_SHA256 = "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71"
_MIRRORS = ("https://registry.npmjs.org/onnxruntime-web/-/", "https://registry.npmmirror.com/onnxruntime-web/-/")
_AGAIN = "Get it from npm: npm pack onnxruntime-web@1.30.0"
_SCRIPT, _MACHINE = "package/dist/ort.wasm.bundle.min.mjs", "package/dist/ort-wasm-simd-threaded.wasm"

# Modules of one file are named so: browsers find them in a map.
_PREFIX = "epochal/"
_IMPORT = re.compile(r'(from |import |import\.meta\.resolve\()"\./([\w.]+)"')

PAGE, ONE_FILE, STATIC = "index.html", "page.html", "static"


def export_page(bundle: Bundle, run: Path, out: Path, inputs: Inputs, about: Mapping[str, Any], runtime: Path | None = None) -> Exported:
    """Write the page of a model as the new folder `out`: `index.html` for a web host, and `page.html`, which opens by double-click.

    The model is compared with the bundle for raw `inputs` first. The runtime is downloaded into the cache, or is in `runtime`, the
    file of its npm package. Raises `ExportError` where answers differ; otherwise as `export`.
    """
    made = FORMATS["onnx"]
    model = encoded(made, bundle, about)
    parity = compare(made.decode(model, bundle), bundle, inputs, label="Comparing")
    files = _files(bundle, run, model, _runtime(runtime))
    page = resources.files("epochal.serve").joinpath("page", "index.html").read_text("utf-8")
    with new_directory(out) as folder:
        (folder / STATIC).mkdir()
        for name, content in files.items():
            write_bytes(folder / STATIC / name, content)
        write_bytes(folder / ONE_FILE, _one_file(page, files).encode())
        write_bytes(folder / PAGE, page.encode())
    size = sum(len(content) for content in files.values()) + len(page)
    return Exported(out / PAGE, size, parity, (out / ONE_FILE,))


def _files(bundle: Bundle, run: Path, model: bytes, runtime: tuple[bytes, bytes]) -> dict[str, bytes]:
    """Return the files of the page by name; those of `standalone` stand for others of the same name."""
    package = resources.files("epochal.serve")
    found = {file.name: file.read_bytes() for part in ("page", "standalone") for file in package.joinpath(part).iterdir() if file.is_file()}
    del found[PAGE]
    digest = hashlib.sha256(weights_file(run).read_bytes()).hexdigest()
    card = describe_model(name_of(run), bundle, test_result(run), digest)
    about: dict[str, Any] = {"card": card}
    if isinstance(rule := bundle.spec.input, TableRule):
        about["columns"] = [
            {
                "name": column.name,
                "kind": column.kind,
                "offset": column.offset,
                "words": column.words,
                # What stands for a column that is taken away: see `explain`.
                "usual": None
                if column.missing
                else min(zip(column.scores, column.knots, strict=True), key=lambda at: abs(at[0]), default=(0, 0))[1],
            }
            for column in rule.columns
        ]
    if isinstance(bundle.spec.input, TextRule):
        about["text"] = reading(bundle.spec.input)
    script, compressed = runtime
    return {
        **found,
        "ort.js": script,
        "runtime.wasm.gz": compressed,
        "model.onnx": model,
        "model.json": json.dumps(about, ensure_ascii=False).encode(),
    }


def _runtime(given: Path | None) -> tuple[bytes, bytes]:
    """Return the runtime's script and its WebAssembly, compressed. Raises `ExportError` for another package, and `DownloadError`."""
    path = given or fetch(PACKAGE, _MIRRORS, sha256=_SHA256, size=_SIZE, to=cache_folder() / "onnxruntime-web")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ExportError(f"{path} cannot be read: {reason_of(error)}.", _AGAIN) from error
    if hashlib.sha256(content).hexdigest() != _SHA256:
        raise ExportError(f"{path} is not {PACKAGE}, or it is damaged.", _AGAIN)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        script, machine = (archive.extractfile(name) for name in (_SCRIPT, _MACHINE))
        assert script is not None
        assert machine is not None
        return script.read(), gzip.compress(machine.read(), 9, mtime=0)


def _one_file(page: str, files: Mapping[str, bytes]) -> str:
    """Return the page with all its files in it. Browsers load no modules from files, but from a map of names."""
    modules = {
        _PREFIX + name: _url("text/javascript", _IMPORT.sub(rf'\1"{_PREFIX}\2"', content.decode()).encode())
        for name, content in files.items()
        if name.endswith(".js")
    }
    data = "".join(
        f'<script type="application/octet-stream" id="{name}">{base64.b64encode(content).decode()}</script>\n'
        for name, content in files.items()
        if name.startswith(("model.", "runtime."))
    )
    found = f'<script type="importmap">{json.dumps({"imports": modules})}</script>'
    scripts = f'{found}\n{data}<script type="module">import "{_PREFIX}main.js"</script>'
    for place, content in (
        (
            '<link rel="icon" href="static/icon.svg" type="image/svg+xml">',
            f'<link rel="icon" href="{_url("image/svg+xml", files["icon.svg"])}">',
        ),
        ('<link rel="stylesheet" href="static/style.css">', f"<style>{files['style.css'].decode()}</style>"),
        ('<script type="module" src="static/main.js"></script>', scripts),
    ):
        assert place in page
        page = page.replace(place, content)
    return page


def _url(medium: str, content: bytes) -> str:
    return f"data:{medium};base64,{base64.b64encode(content).decode()}"
