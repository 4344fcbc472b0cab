"""Reports in Chromium: opened as files, on a phone and in the dark, they ask for nothing, and axe finds nothing wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import epochal
from tests.data.test_table import csv_of, people
from tests.serve.browser import Page, check_with_axe


def test_axe_finds_nothing_and_nothing_is_asked_for(driver: Any, axe: str, tmp_path: Path) -> None:
    csv_of(people(200), tmp_path / "people.csv")
    settings: dict[str, Any] = {"quiet": True, "device": "cpu", "threads": 1}
    runs = [
        epochal.train("digits", epochs=1, out=tmp_path / "digits", **settings),
        epochal.train(tmp_path / "people.csv", target=["income"], epochs=2, out=tmp_path / "people", **settings),
    ]
    for run, (width, theme) in zip(runs, [(400, "dark"), (1400, "light")], strict=True):
        assert run.folder is not None
        page = Page(driver, (run.folder / "report.html").as_uri())
        driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        )
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": theme}]})
        driver.get_log("performance")
        driver.get(page.url)
        assert {address for address in page.asked() if not address.startswith("data:")} == {page.url}
        assert page.logged() == []
        assert page.script("return document.documentElement.scrollWidth") <= width
        page.script("for (const one of document.querySelectorAll('details')) one.open = true")
        page.script(axe)
        assert check_with_axe(driver) == []
