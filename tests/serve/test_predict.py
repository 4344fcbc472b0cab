"""What is served is what the bundle predicts, in every form that a request may have."""

from __future__ import annotations

import io
import re
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from epochal import predictor
from epochal.bundle import Bundle
from epochal.cli.main import cli
from epochal.data.inputs.text.read import Text
from epochal.data.load import load
from epochal.errors import BundleError
from epochal.recipe import Recipe
from epochal.run.prepare import build
from epochal.serve import batching
from epochal.serve.model import open_model
from epochal.tasks.base import Prediction
from tests.data.test_table import people
from tests.serve.conftest import png, wav

Loaded = Callable[[str], Bundle]


def same(answer: dict[str, Any], prediction: Prediction) -> bool:
    values = prediction.values
    is_close = all(abs(answer["values"][name] - value) < 1e-6 for name, value in values.items())
    assert answer["runner_up"] is None or prediction.runner_up is not None
    return is_close and answer["label"] == prediction.label and len(answer["values"]) == len(values)


def ask(client: httpx.Client, model: str, **body: Any) -> list[dict[str, Any]]:
    answer = client.post(f"/predict/{quote(model, safe='')}", **body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == model
    assert answer.json()["milliseconds"] > 0
    predictions: list[dict[str, Any]] = answer.json()["predictions"]
    return predictions


def raw(medium: str, content: bytes | str) -> dict[str, Any]:
    return {"content": content, "headers": {"content-type": medium}}


def test_pictures(client: httpx.Client, bundle: Loaded) -> None:
    files = [png(seed) for seed in range(5)]
    wanted = bundle("photos").predict([Image.open(io.BytesIO(file)) for file in files])
    parts = [("file", (f"folder/{place}.png", file)) for place, file in enumerate(files)]
    found = ask(client, "photos", files=parts)
    assert [answer["name"] for answer in found] == [f"{place}.png" for place in range(5)]
    assert all(map(same, found, wanted))
    assert same(ask(client, "photos", **raw("image/png", files[0]))[0], wanted[0])
    inputs = [bundle("photos").read(Image.open(io.BytesIO(file))).inputs[0].tolist() for file in files]
    assert all(map(same, ask(client, "photos", json={"inputs": inputs}), wanted))


def test_texts(client: httpx.Client, bundle: Loaded) -> None:
    texts = ["it was good", "坏 bad bad", "/etc/passwd", "x" * 100_000]
    wanted = bundle("reviews").predict([Text(text) for text in texts])
    assert all(map(same, ask(client, "reviews", json={"inputs": texts}), wanted))
    assert same(ask(client, "reviews", **raw("text/plain; charset=utf-8", texts[1].encode()))[0], wanted[1])
    assert same(ask(client, "reviews", files={"file": ("a.txt", texts[3].encode())})[0], wanted[3])


def test_rows(client: httpx.Client, bundle: Loaded, tmp_path: Path) -> None:
    names = [column.name for column in bundle("people").spec.input.columns]  # type: ignore[attr-defined]
    given = [{name: person[name] for name in names} for person in rows(4)]
    wanted = bundle("people").predict(given)
    assert all(map(same, ask(client, "people", json={"inputs": given}), wanted))
    table = "\n".join([",".join(names), *(",".join(str(row[name]) for name in names) for row in given)])
    found = ask(client, "people", **raw("text/csv", table))
    assert [answer["name"] for answer in found] == [f"table.csv[{row}]" for row in range(4)]
    assert all(map(same, found, wanted))
    assert all(map(same, ask(client, "people", files={"file": ("p.csv", table.encode())}), wanted))


def rows(count: int) -> list[dict[str, Any]]:
    columns = people(count)
    return [{name: values[row] for name, values in columns.items()} for row in range(count)]


def test_sounds(client: httpx.Client, bundle: Loaded) -> None:
    with wave.open(io.BytesIO(wav())) as sound:
        samples = np.frombuffer(sound.readframes(10_000), np.int16)
    wanted = bundle("tones").predict((samples, 8000))[0]
    assert same(ask(client, "tones", **raw("audio/wav", wav()))[0], wanted)
    assert same(ask(client, "tones", files={"file": ("a.wav", wav())})[0], wanted)


def test_numbers(client: httpx.Client, bundle: Loaded) -> None:
    inputs = [[0.5, -1.0, 2.0], [1, 2, 3]]
    wanted = bundle("numbers").predict(torch.tensor(inputs))
    assert all(map(same, ask(client, "numbers", json={"inputs": inputs}), wanted))


def test_a_bad_item_does_not_stop_the_others(client: httpx.Client) -> None:
    found = ask(client, "photos", files=[("file", ("a.png", png())), ("file", ("b.png", b"nothing")), ("file", ("c.png", png(1)))])
    assert ["error" in answer for answer in found] == [False, True, False]
    assert found[1]["error"]["message"] == "b.png is not a picture in PNG, JPEG, WebP, BMP, TIFF or GIF."
    answer = client.post("/predict/photos", files={"file": ("b.png", b"")})
    assert answer.status_code == 422
    assert answer.json()["predictions"][0]["error"]["message"] == "b.png is empty."


WRONG_VALUES: list[tuple[str, list[Any], str]] = [
    ("photos", ["/etc/passwd"], "is not an array"),
    ("photos", [[1, 2]], "takes inputs of shape"),
    ("photos", [[[[300] * 16] * 16] * 3], "not uint8"),
    ("photos", [[[1], [2, 3]]], "not an array of numbers"),
    ("photos", [None], "is not an array"),
    ("photos", [[["a"]]], "not an array of numbers"),
    ("people", [{"agee": 3}], "lacks"),
    ("people", ["x"], "is not an object"),
    ("people", [{}], "is not an object"),
    ("people", [{"age": [3]}], "is not an object"),
    ("reviews", [3], "is not a text"),
    ("numbers", [[1, 2]], "takes inputs of shape"),
    ("numbers", [[1e300, 0, 0]], ""),
    ("numbers", [[10**400, 0, 0]], "not an array of numbers"),
    ("tones", ["x"], "is not an array"),
]


@pytest.mark.parametrize(("model", "inputs", "problem"), WRONG_VALUES)
def test_a_wrong_value_is_named(client: httpx.Client, model: str, inputs: list[Any], problem: str) -> None:
    answer = client.post(f"/predict/{quote(model, safe='')}", json={"inputs": inputs})
    assert answer.status_code == 422, answer.text
    assert problem in answer.json()["predictions"][0]["error"]["message"]


def test_what_is_not_used_is_noted(client: httpx.Client) -> None:
    row = {**rows(1)[0], "shoe": 43}
    answer = client.post("/predict/people", json={"inputs": [row]}).json()
    assert any("shoe" in note for note in answer["notes"])


WRONG_REQUESTS: list[tuple[str, dict[str, Any], int, str]] = [
    ("photos", raw("application/json", "{"), 400, "bad_request"),
    ("photos", raw("application/json", '{"inputs": []}'), 400, "bad_request"),
    ("photos", raw("application/json", '{"inputs": [1], "path": "x"}'), 400, "bad_request"),
    ("photos", raw("application/json", '{"inputs": [NaN]}'), 400, "bad_request"),
    ("photos", raw("application/json", "[" * 100_000), 400, "bad_request"),
    ("photos", raw("application/json", b"\xff\xfe"), 400, "bad_request"),
    ("photos", raw("text/plain", "x"), 415, "wrong_type"),
    ("photos", raw("", "x"), 415, "wrong_type"),
    ("photos", raw("image/png", b""), 400, "bad_request"),
    ("reviews", raw("image/png", png()), 415, "wrong_type"),
    ("numbers", raw("text/csv", "1,2,3"), 415, "wrong_type"),
    ("photos", raw("multipart/form-data", "x"), 400, "bad_request"),
    ("photos", raw("multipart/form-data; boundary=x", "--y\r\n"), 400, "bad_request"),
    ("photos", raw("multipart/form-data; boundary=x", "--x\r\n"), 400, "bad_request"),
    ("photos", raw("multipart/form-data; boundary=x", "--x--"), 400, "bad_request"),
    ("photos", {"files": {"picture": ("a.png", png())}}, 400, "bad_request"),
    ("photos", {"files": [("file", ("a", b""))] * 1001}, 413, "too_large"),
    ("reviews", {"json": {"inputs": ["x"] * 1001}}, 413, "too_large"),
    ("people", raw("text/csv", "age\n" + "1\n" * 1001), 422, ""),
    ("nothing", {"json": {"inputs": ["x"]}}, 404, "no_model"),
    ("../photos", {"json": {"inputs": ["x"]}}, 404, "no_model"),
    ("http://example.org/model", {"json": {"inputs": ["x"]}}, 404, "no_model"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "body", "status", "code"), WRONG_REQUESTS)
def test_a_wrong_request_is_refused(client: httpx.Client, model: str, body: dict[str, Any], status: int, code: str) -> None:
    answer = client.post(f"/predict/{quote(model, safe='')}", **body)
    assert answer.status_code == status, answer.text
    if code:
        assert answer.json()["error"]["code"] == code
        assert answer.json()["error"]["message"]


def test_several_models_need_a_name(client: httpx.Client) -> None:
    answer = client.post("/predict", json={"inputs": ["x"]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_request")


def test_code_of_ones_own_is_for_the_models_that_need_it(tmp_path: Path, bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.py").write_text("from torch import nn\ndef net():\n    return nn.Linear(3, 2)\n")
    build(Recipe(), load((torch.randn(40, 3), torch.arange(40) % 2)), torch.nn.Linear(3, 2))[1].save(tmp_path / "own")
    served: list[str] = []
    monkeypatch.setattr("epochal.serve.server.serve", lambda models, *_, **__: served.extend(model.name for model in models))
    command = ["serve", str(tmp_path / "own"), str(bundles["numbers"]), "--model", f"{tmp_path / 'net.py'}:net", "--threads", "1"]
    found = CliRunner().invoke(cli, command)
    assert found.exit_code == 0, found.exception
    assert served == ["own", "numbers"]
    with pytest.raises(BundleError, match="needs no code of yours"):
        CliRunner().invoke(cli, ["serve", *command[2:]], catch_exceptions=False)


def test_models_are_described(client: httpx.Client, bundle: Loaded) -> None:
    cards = {card["name"]: card for card in client.get("/model").json()["models"]}
    assert {name: card["kind"] for name, card in cards.items()} == {
        "photos": "picture", "people": "table", "reviews": "text", "tones": "sound", "numbers": "numbers"
    }  # fmt: skip
    assert cards["photos"]["outputs"] == ["bright", "dark"]
    assert cards["photos"]["input"]["size"] == [16, 16]
    assert cards["tones"]["input"]["rate"] == bundle("tones").spec.input.rate  # type: ignore[attr-defined]
    columns = {column["name"]: column for column in cards["people"]["input"]["columns"]}
    assert columns["age"]["low"] <= columns["age"]["middle"] <= columns["age"]["high"]


def test_nothing_is_said_of_the_file_system(client: httpx.Client, bundles: dict[str, Path]) -> None:
    bodies = [raw("text/csv", "a,b\n1\n"), raw("text/csv", b"\0\0"), raw("text/csv", "age,age\n1,2\n")]
    bodies += [{"files": {"file": (name, b"PK\x03\x04")}} for name in ("/etc/passwd", "..\\..\\x.csv", "a.jsonl", "a.parquet")]
    for body in bodies:
        answer = client.post("/predict/people", **body)
        assert answer.status_code == 422, answer.text
        assert "/tmp" not in answer.text
        assert "etc" not in answer.text
    described = client.get("/model").text
    assert all(str(path.parent) not in described for path in bundles.values())


@pytest.mark.usefixtures("exporting")
def test_the_runtime_is_chosen_by_measurement(bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    notes: list[str] = []
    monkeypatch.setattr(predictor, "_FASTER", 1e9)  # as if it always was faster
    monkeypatch.setattr(batching, "_QUICK", 1.0)
    assert open_model(bundles["numbers"], runtime="auto", log=notes.append).predictor.runtime == "eager"
    assert not notes  # Nobody would notice.
    monkeypatch.setattr(batching, "_QUICK", 0.0)
    assert open_model(bundles["numbers"], runtime="auto", log=notes.append).predictor.runtime == "onnx"
    assert notes[0].startswith("note: ONNX Runtime computes from here on")


def test_metrics_count(client: httpx.Client) -> None:
    before = client.get("/metrics").text
    ask(client, "numbers", json={"inputs": [[1, 2, 3]]})
    after = client.get("/metrics").text

    def count(text: str) -> float:
        # None is listed before the first request.
        found = re.search(r'^epochal_requests_total{path="/predict",status="200"} (.+)$', text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    assert count(after) == count(before) + 1
