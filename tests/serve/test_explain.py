"""What speaks for a prediction is what it loses without that part."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from epochal.bundle import Bundle
from epochal.data.inputs.picture.rule import PictureRule
from epochal.serve.explain import losses, plan, seen
from epochal.serve.refusal import RefusedError
from epochal.tasks.regression import Regression
from epochal.tasks.single_label import SingleLabel
from tests.serve.conftest import encoded, png, wav
from tests.serve.test_predict import raw, rows

Loaded = Callable[[str], Bundle]

_TASK = SingleLabel(outputs=("a", "b"))


def explain(client: httpx.Client, model: str, **body: Any) -> dict[str, Any]:
    answer = client.post(f"/explain/{quote(model, safe='')}", **body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


class Corner(nn.Module):
    """Sees how bright the top left quarter of a picture is."""

    def forward(self, x: Tensor) -> Tensor:
        bright = x[..., :4, :4].double().mean((1, 2, 3)) / 255
        return torch.stack((bright, 1 - bright), 1)


def test_a_picture_owes_its_class_to_the_pixels_that_the_model_looks_at() -> None:
    rule = PictureRule(shape=(1, 16, 16), mean=(0.1,), std=(0.3,))
    example = torch.zeros(1, 16, 16, dtype=torch.uint8)
    example[0, 1:12, 1:12] = 200
    made = plan(rule, example, "")
    assert len(made.inputs) == 49
    found = made.draw(losses(Corner()(torch.cat((example[None], made.inputs))), _TASK))
    assert (found["kind"], found["width"], found["height"]) == ("picture", 8, 8)
    values = np.array(found["values"]).reshape(8, 8)
    # In the dark the model is sure of the other class: what makes it bright speaks against that, and is no part of the map.
    assert values.max() == 0
    example[0, :, :8] = 250
    made = plan(rule, example, "")
    values = np.array(made.draw(losses(Corner()(torch.cat((example[None], made.inputs))), _TASK))["values"]).reshape(8, 8)
    assert values[:2, :2].min() > 0.5
    assert values[3:].max() == values[:, 3:].max() == 0


def test_the_input_is_shown_as_the_network_sees_it(client: httpx.Client, bundle: Loaded) -> None:
    found = explain(client, "photos", **raw("image/png", png(3)))
    shown = Image.open(io.BytesIO(base64.b64decode(found["seen"].removeprefix("data:image/png;base64,"))))
    wanted = bundle("photos").read(Image.open(io.BytesIO(png(3)))).inputs[0]
    assert np.array_equal(np.asarray(shown), wanted.movedim(0, -1).numpy())
    assert found["prediction"]["label"] == bundle("photos").predict(Image.open(io.BytesIO(png(3))))[0].label
    assert len(found["map"]["values"]) == found["map"]["width"] * found["map"]["height"] == 64
    assert max(found["map"]["values"]) <= 1


def test_words_have_their_weights(client: httpx.Client) -> None:
    found = explain(client, "reviews", json={"inputs": ["it was good, 很好!"]})
    assert found["seen"] is None
    assert [part["text"] for part in found["map"]["parts"]] == ["it", "was", "good,", "很", "好", "!"]
    assert max(abs(part["weight"]) for part in found["map"]["parts"]) == 1
    long = explain(client, "reviews", **raw("text/plain", "word " * 1000))
    assert len(long["map"]["parts"]) <= 64


def test_columns_have_their_values(client: httpx.Client) -> None:
    row = rows(1)[0]
    found = explain(client, "people", json={"inputs": [row]})
    parts = {part["name"]: part for part in found["map"]["parts"]}
    assert parts["age"]["value"] == str(row["age"])
    assert all(-1 <= part["weight"] <= 1 for part in parts.values())


def test_sounds_and_numbers(client: httpx.Client) -> None:
    found = explain(client, "tones", **raw("audio/wav", wav()))
    assert found["seen"].startswith("data:image/png;base64,")
    assert (found["map"]["kind"], found["map"]["width"], found["map"]["height"]) == ("picture", 32, 1)
    numbers = explain(client, "numbers", json={"inputs": [[0.5, -1.0, 2.0]]})
    assert [part["value"] for part in numbers["map"]["parts"]] == ["0.5", "-1", "2"]


def test_the_loss_of_quantities_has_no_sign() -> None:
    assert losses(torch.tensor([[2.0], [1.0], [4.0]]), Regression(outputs=("y",))) == [0.5, 1.0]
    assert losses(torch.tensor([[2.0], [2.0]]), Regression(outputs=("y",))) == [0.0]
    assert losses(torch.tensor([[0.9, 0.1], [0.1, 0.9], [0.95, 0.05]]), _TASK) == [1.0, -0.0625]


@pytest.mark.parametrize(
    ("model", "body", "status"),
    [
        ("numbers", {"json": {"inputs": [[1, 2, 3]] * 2}}, 400),
        ("photos", raw("image/png", b"x"), 422),
        ("reviews", {"json": {"inputs": ["  "]}}, 422),
        ("reviews", raw("text/plain", "word " * 20_000), 413),
    ],
)
def test_what_cannot_be_explained(client: httpx.Client, model: str, body: dict[str, Any], status: int) -> None:
    answer = client.post(f"/explain/{quote(model, safe='')}", **body)
    assert answer.status_code == status, answer.text


def test_large_blocks_of_numbers_have_no_explanation(bundle: Loaded) -> None:
    rule = bundle("numbers").spec.input.model_copy(update={"shape": (65,), "mean": (0.0,) * 65, "std": (1.0,) * 65})
    with pytest.raises(RefusedError, match="no explanation"):
        plan(rule, torch.zeros(65), "")
    assert seen(rule, torch.zeros(65)) is None


def test_one_pixel(bundle: Loaded) -> None:
    rule = PictureRule(shape=(1, 1, 1), mean=(0.1,), std=(0.3,))
    made = plan(rule, torch.full((1, 1, 1), 9, dtype=torch.uint8), "")
    assert made.draw([1.0]) == {"kind": "picture", "width": 1, "height": 1, "values": [1.0]}
    assert encoded(Image.new("L", (1, 1)))
