"""The book as a site, in Chromium: axe finds nothing wrong, nothing is wider than the screen, and nothing is asked of the network.

A sample of the pages in the usual run; with EPOCHAL_BOOK=full all pages, in both languages, on both screens, light and dark.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.serve.browser import Page, check_with_axe

DOCS = Path(__file__).parents[1] / "docs"
FULL = os.environ.get("EPOCHAL_BOOK") == "full"

# Prose with code and a picture, on a phone in the dark; wide tables, on a large screen.
SAMPLE = {"en": "start/photos", "zh": "coming-from/keras"}
VIEWS = [(400, "dark"), (1200, "light"), (400, "light"), (1200, "dark")]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, of which only the sample is written in the usual run, where links lead nowhere."""
    build = pytest.importorskip("sphinx.cmd.build", reason="the site needs Sphinx, of the extra docs").main
    folder = tmp_path_factory.mktemp("site")
    for language, code in (("en", "en"), ("zh", "zh_CN")):
        source = DOCS / language
        if not FULL:
            source = folder / "source" / language
            for page in ("index", SAMPLE[language]):
                (source / page).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(DOCS / language / f"{page}.md", source / f"{page}.md")
            if not (folder / "source" / "pictures").exists():
                shutil.copytree(DOCS / "pictures", folder / "source" / "pictures")
        options = ["-Q", "-D", f"language={code}", "-d", str(folder / "doctrees" / language), "-c", str(DOCS)]
        assert build([*options, str(source), str(folder / language)]) == 0
    return folder


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")
@pytest.mark.parametrize("language", SAMPLE)
def test_axe_finds_nothing_and_nothing_is_asked_for(language: str, site: Path, driver: Any, axe: str) -> None:
    wrong = []
    paths = sorted((site / language).rglob("*.html")) if FULL else [site / language / f"{SAMPLE[language]}.html"]
    for path in paths:
        if language == "zh":
            assert not re.search(
                "Next|Previous|Home|Back to top|Toggle ",
                re.sub("<pre.*?</pre>|<code.*?</code>", "", path.read_text("utf-8"), flags=re.DOTALL),
            ), path
        page = Page(driver, path.as_uri())
        for width, theme in VIEWS if FULL else [VIEWS[list(SAMPLE).index(language)]]:
            size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": theme}]})
            driver.get(page.url)
            page.script(axe)
            found = check_with_axe(driver)
            found += [url for url in page.asked() if not url.startswith(("file:", "data:"))]
            if (wide := page.script("return document.documentElement.scrollWidth")) > width:
                found.append(f"{wide} pixels wide")
            wrong += [f"{path.relative_to(site)} at {width}, {theme}: {what}" for what in found]
    assert wrong == []
