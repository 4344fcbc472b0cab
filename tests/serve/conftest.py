"""Small models of each kind, and a server of all of them on loopback."""

from __future__ import annotations

import asyncio
import io
import socket
import threading
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from epochal import train
from epochal.bundle import Bundle
from epochal.data.load import Data, load
from epochal.recipe import Recipe
from epochal.run.prepare import build
from epochal.serve import connection, decoders, limits, server
from epochal.serve.app import Service, build_app
from epochal.serve.model import Served, open_model
from epochal.serve.server import Server, listen, make_server
from tests.data.test_table import csv_of, people
from tests.photos import write_photos
from tests.tones import low_and_high

# Seconds that a server waits for a request, and a test for an answer: more than any machine stands still for.
PATIENCE = 60.0

REVIEWS = "review,label\n" + "".join(
    f"it was {word} number {row},{label}\n" for row in range(20) for word, label in (("good", "yes"), ("bad", "no"))
)


def _data(folder: Path) -> Iterator[tuple[str, Data]]:
    yield "photos", load(write_photos(folder / "photos", {"dark": 40, "bright": 180}, 6, 20, 14, spread=40), size=16)
    csv_of(people(60), folder / "people.csv")
    yield "people", load(folder / "people.csv", target="income")
    (folder / "reviews.csv").write_text(REVIEWS)
    yield "reviews", load(folder / "reviews.csv", target="label", text="review")
    low_and_high(folder / "tones", 6)
    yield "tones", load(folder / "tones")
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    yield "numbers", load((x, (x[:, 0] > 0).long()))


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of models by name: their weights are random, which is no matter here."""
    folder, found = tmp_path_factory.mktemp("serve"), {}
    for name, data in _data(folder):
        torch.manual_seed(0)
        found[name] = build(Recipe(), data)[1].save(folder / "models" / name)
    return found


@pytest.fixture(scope="session")
def models(bundles: dict[str, Path]) -> list[Served]:
    return [open_model(path) for path in bundles.values()]


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a model that knows digits of 8 × 8 pixels."""
    folder = tmp_path_factory.mktemp("digits") / "run"
    train("digits", epochs=6, quiet=True, device="cpu", threads=1, out=folder)
    return folder


@contextmanager
def serving(service: Service, token: str = "", names: tuple[str, ...] = ("localhost",), patience: float = PATIENCE) -> Iterator[str]:
    """Serve on loopback, in a thread, for the block, with the patience that busy machines need; yields the address."""
    ready = threading.Event()
    listener = listen("127.0.0.1", 0)
    with pytest.MonkeyPatch.context() as patch, service, listener:
        patch.setattr(decoders, "DECODE_SECONDS", PATIENCE)
        for module in (limits, connection, server):
            patch.setattr(module, "RECEIVE_SECONDS", patience)
        made = make_server(build_app(service, names, token), service.refuse_unread, ready.set)
        with running(made, listener, ready) as address:
            yield address


@contextmanager
def running(server: Server, listener: socket.socket, ready: threading.Event) -> Iterator[str]:
    """Run a server in a thread for the block, which begins once it is `ready`; yields the address."""
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
    thread.start()
    assert ready.wait(PATIENCE)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def url(models: list[Served]) -> Iterator[str]:
    with serving(Service(models)) as address:
        yield address


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=PATIENCE) as found:
        yield found


@pytest.fixture
def bundle(bundles: dict[str, Path]) -> Callable[[str], Bundle]:
    return lambda name: Bundle.load(bundles[name])


def png(seed: int = 0, height: int = 20, width: int = 14) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)
    return encoded(Image.fromarray(pixels))


def encoded(picture: Image.Image, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    picture.save(file, form)
    return file.getvalue()


def wav(samples: int = 4000) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes((8000 * np.sin(np.arange(samples) / 3)).astype(np.int16).tobytes())
    return file.getvalue()
