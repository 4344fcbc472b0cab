"""The example notebooks run from top to bottom in a real kernel, and what that shows is small; they are stored without output."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "examples" / "notebooks").glob("*.ipynb"))

# Of each notebook something that it shows.
SHOWN = {"pictures": "<iframe", "table": "district", "text": "delivery"}


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One kernel for all: to start one takes as long as to run a notebook."""
    manager_of = pytest.importorskip("jupyter_client.manager")
    manager = manager_of.KernelManager(kernel_name="python3")
    manager.start_kernel(cwd=str(tmp_path_factory.mktemp("notebooks")))
    client = manager.blocking_client()
    client.start_channels()
    client.wait_for_ready(timeout=300)
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def _run(client: Any, code: str) -> tuple[list[dict[str, Any]], int, float]:
    """Return what a cell shows in the end, how many messages that took, and how many seconds."""
    shown: dict[str, dict[str, Any]] = {}
    count = 0

    def hear(message: dict[str, Any]) -> None:
        nonlocal count
        kind, content = message["msg_type"], message["content"]
        if kind in ("display_data", "execute_result", "update_display_data", "stream", "error"):
            count += 1
            shown[content.get("transient", {}).get("display_id") or str(count)] = content

    began = time.monotonic()
    reply = client.execute_interactive(code, output_hook=hear, timeout=300)
    assert reply["content"]["status"] == "ok", reply["content"]
    return [*shown.values()], count, time.monotonic() - began


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_runs(file: Path, kernel: Any) -> None:
    _run(kernel, "%reset -f")
    html = ""
    for cell in json.loads(file.read_text("utf-8"))["cells"]:
        if cell["cell_type"] != "code":
            continue
        assert cell["outputs"] == []
        assert cell["execution_count"] is None
        shown, count, seconds = _run(kernel, "".join(cell["source"]))
        # Nothing is printed beside what is shown, and that changes at most twice a second.
        assert len(shown) <= 1, shown
        assert count <= 2 * seconds + 4
        for one in shown:
            assert "data" in one, one
            html += one["data"].get("text/html", "")
    assert SHOWN[file.stem] in html
    assert "kept the weights" in html
    assert "<polyline" in html
    assert len(html) < 300_000


def test_every_notebook_is_run() -> None:
    assert [file.stem for file in NOTEBOOKS] == [*SHOWN]


def test_an_error_is_short_in_a_notebook(kernel: Any) -> None:
    said: list[str] = []
    reply = kernel.execute_interactive(
        "import epochal\nepochal.train('no-such-data')",
        output_hook=lambda message: said.extend(message["content"].get("traceback", [])),
        timeout=300,
    )
    assert reply["content"]["status"] == "error"
    assert "no-such-data" in "".join(said)
    assert len("".join(said).splitlines()) < 20
