"""What answers say to people is in their language."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from epochal.language import preferred
from tests.cli.test_chinese import left_in
from tests.serve.test_predict import WRONG_REQUESTS, WRONG_VALUES, rows


@pytest.mark.parametrize(
    ("accepted", "wanted"),
    [
        ("zh", "zh"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("ZH-Hant-TW", "zh"),
        ("en-US,en;q=0.9,zh;q=0.8", "en"),
        ("en;q=0.5, zh", "zh"),
        ("de, zh;q=0.3", "zh"),
        ("de-DE,de", "en"),
        ("zh;q=0", "en"),
        ("*", "en"),
        ("", "en"),
        ("zh;q=x, ;;;=,, \xff", "en"),
        ("de," * 1000 + "zh", "en"),
    ],
)
def test_the_preferred_language(accepted: str, wanted: str) -> None:
    assert preferred(accepted) == wanted


def said(answer: dict[str, Any]) -> Iterator[str]:
    """What an answer says to people."""
    for error in (answer.get("error"), *(one.get("error") for one in answer.get("predictions", ()))):
        yield from (error[part] for part in ("message", "fix") if error)
    yield from answer.get("notes", ())


REQUESTS = [(f"/predict/{quote(model, safe='')}", body) for model, body, _, _ in WRONG_REQUESTS]
REQUESTS += [(f"/predict/{model}", {"json": {"inputs": inputs}}) for model, inputs, problem in WRONG_VALUES if problem]
REQUESTS += [("/predict", {"json": {"inputs": ["x"]}}), ("/predict/people", {"json": {"inputs": [{**rows(1)[0], "shoe": 43}]}})]


@pytest.mark.parametrize(("path", "body"), REQUESTS)
def test_refusals_are_in_chinese(path: str, body: dict[str, Any], client: httpx.Client) -> None:
    headers = {**body.get("headers", {}), "accept-language": "zh-CN"}
    found = list(said(client.post(path, **{**body, "headers": headers}).json()))
    assert found
    for text in found:
        assert re.search("[\u4e00-\u9fff]", text)
        # Python's own words for what is wrong with JSON stay.
        assert not left_in(re.sub(r"Expecting .*|'utf-8' codec.*", "", text))


def test_each_client_has_its_own(client: httpx.Client) -> None:
    for accepted, wanted in (("zh", "这里没有内容。"), ("en", "There is nothing here."), ("zh", "这里没有内容。")):
        assert client.get("/nothing", headers={"accept-language": accepted}).json()["error"]["message"] == wanted
    refused = client.get("/model", headers={"host": "example.org", "accept-language": "zh"}).json()["error"]
    assert not any(map(left_in, (refused["message"], refused["fix"])))
    assert client.put("/model", headers={"accept-language": "zh"}).json()["error"]["code"] == "wrong_method"
