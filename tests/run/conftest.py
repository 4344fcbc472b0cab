"""Pre-trained models for tests of what surrounds them."""

from __future__ import annotations

import pytest

from tests.trunks import shrink


@pytest.fixture
def small(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pre-trained models are small ones, but in tests that ask for the `whole`."""
    if "whole" not in request.fixturenames:
        shrink(monkeypatch)


@pytest.fixture
def whole() -> None:
    """The model itself."""
