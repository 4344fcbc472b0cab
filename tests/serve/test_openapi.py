"""The description of the server is true: its examples work, and answers are as it says.

schemathesis (pip install schemathesis) makes many more requests from it, to a server of any models. A file of any bytes fits the
description, but not every one is a picture: so its two checks of which data are accepted are left out.

epochal serve RUN [RUN ...] --port 8000
schemathesis run http://127.0.0.1:8000/openapi.json --exclude-checks positive_data_acceptance,negative_data_rejection
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from epochal.bundle import Bundle
from epochal.serve.app import Service
from epochal.serve.model import Served
from epochal.serve.openapi import describe
from tests.serve.conftest import PATIENCE, png, serving, wav
from tests.serve.test_predict import raw

NAMES = ("photos", "people", "reviews", "tones", "numbers")
RAW = {"image/png": png(), "audio/wav": wav(), "text/plain": b"it was good", "text/csv": b"age,job,born\n41,nurse,1984-05-01\n"}


@pytest.fixture(scope="module")
def described(client: httpx.Client) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/openapi.json").json()
    return found


def misfits(value: Any, schema: dict[str, Any], schemas: dict[str, Any], where: str = "") -> Iterator[str]:
    """Yield where a value is not as the schema says: of what the description uses of JSON Schema."""
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        found = [list(misfits(value, one, schemas, where)) for one in schema["anyOf"]]
        yield from () if [] in found else found[0]
    kinds = {"object": dict, "array": list, "string": str, "integer": int, "number": int | float, "null": type(None)}
    wanted = schema.get("type", [*kinds])
    if isinstance(value, bool) or not any(isinstance(value, kinds[kind]) for kind in ([wanted] if isinstance(wanted, str) else wanted)):
        yield f"{where} is {value!r:.50}, not {wanted}"
    elif isinstance(value, dict):
        known, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        yield from (f"{where} lacks {name}" for name in schema.get("required", ()) if name not in value)
        for name, one in value.items():
            if name in known:
                yield from misfits(one, known[name], schemas, f"{where}.{name}")
            elif isinstance(others, dict):
                yield from misfits(one, others, schemas, f"{where}.{name}")
            elif not others:
                yield f"{where} has {name}"
    elif isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            yield f"{where} has {len(value)} items"
        for one in value:
            yield from misfits(one, schema.get("items", {}), schemas, f"{where}[]")
    elif (isinstance(value, str) and value not in schema.get("enum", (value,))) or (
        isinstance(value, int | float) and not schema.get("minimum", value) <= value <= schema.get("maximum", value)
    ):
        yield f"{where} is {value!r:.50}"


def check(answer: httpx.Response, described: dict[str, Any], path: str) -> int:
    """The status, if the answer is one that the description has for it."""
    (operation,) = described["paths"][path].values()
    schema = operation["responses"][str(answer.status_code)]["content"][answer.headers["content-type"].partition(";")[0]]["schema"]
    if answer.headers["content-type"] == "application/json":
        assert list(misfits(answer.json(), schema, described["components"]["schemas"])) == []
    return answer.status_code


def test_each_model_has_its_own_paths(described: dict[str, Any]) -> None:
    verbs = [f"/{verb}/{name}" for verb in ("predict", "explain") for name in NAMES]
    assert list(described["paths"]) == [*verbs, "/model", "/healthz", "/openapi.json", "/metrics"]
    operations = [operation for item in described["paths"].values() for operation in item.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)


@pytest.mark.parametrize("path", [*(f"/{verb}/{name}" for verb in ("predict", "explain") for name in NAMES)])
def test_every_example_works_and_is_answered_as_described(path: str, client: httpx.Client, described: dict[str, Any]) -> None:
    content = described["paths"][path]["post"]["requestBody"]["content"]
    body = content["application/json"]
    assert list(misfits(body["example"], body["schema"], {})) == []
    assert check(client.post(path, json=body["example"]), described, path) == 200
    for medium in content:
        if medium in RAW:
            assert check(client.post(path, **raw(medium, RAW[medium])), described, path) == 200
            assert check(client.post(path, files={"file": ("x", RAW[medium])}), described, path) == 200


@pytest.mark.parametrize("path", ["/model", "/healthz", "/openapi.json", "/metrics"])
def test_what_is_asked_without_a_body_is_answered_as_described(path: str, client: httpx.Client, described: dict[str, Any]) -> None:
    assert check(client.get(path), described, path) == 200
    assert check(client.get(path, headers={"host": "example.org"}), described, path) == 421
    assert check(client.get(path, headers={"origin": "http://example.org"}), described, path) == 403


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (raw("application/json", "{"), 400),
        (raw("application/json", '{"inputs": [[true]]}'), 422),
        (raw("video/mp4", "x"), 415),
        ({"files": {"file": ("x.bin", b"\0")}}, 422),
        ({"files": [("file", ("x", b""))] * 1001}, 413),
    ],
)
def test_what_is_wrong_is_answered_as_described(
    name: str, body: dict[str, Any], status: int, client: httpx.Client, described: dict[str, Any]
) -> None:
    assert check(client.post(f"/predict/{name}", **body), described, f"/predict/{name}") == status


def test_one_model_needs_no_name(models: list[Served], bundle: Callable[[str], Bundle]) -> None:
    found = describe({"numbers": models[-1]}, has_token=True)
    assert {"/predict", "/explain"} < set(found["paths"])
    assert found["security"] == [{"token": []}]
    (row,) = found["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["example"]["inputs"]
    assert len(row) == bundle("numbers").spec.shape[0]


def test_a_name_may_have_any_characters(models: list[Served]) -> None:
    numbers = models[-1]
    odd = [replace(numbers, name=name) for name in ("a/b c{猫}?", "%2e", "numbers")]
    with serving(Service(odd, decoders=1)) as url, httpx.Client(base_url=url, timeout=PATIENCE) as client:
        for path, item in list(client.get("/openapi.json").json()["paths"].items())[: len(odd)]:
            example = item["post"]["requestBody"]["content"]["application/json"]["example"]
            assert client.post(path, json=example).json()["model"] == odd.pop(0).name
