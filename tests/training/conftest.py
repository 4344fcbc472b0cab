"""What tests of training share."""

from __future__ import annotations

import pytest


@pytest.fixture
def _compiler() -> None:
    """Skip a test where this PyTorch cannot compile a backward pass."""
    from torch._dynamo import config

    if not hasattr(config, "trace_autograd_ops"):
        pytest.skip("this PyTorch cannot compile a backward pass")
