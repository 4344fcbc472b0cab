"""A browser, and the page in it as people use it. Without Selenium or Chromium, tests that open one are skipped."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.serve.strokes import Stroke

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
AXE = "axe-core@4.14.1"


class Page:
    """The page in a browser, as people use it."""

    def __init__(self, driver: Any, url: str) -> None:
        self.driver, self.url = driver, url

    def open(self, model: str) -> None:
        self.driver.get(self.url)
        self.until(lambda: self.shown("work"))
        self.choose(model)

    def choose(self, model: str) -> None:
        from selenium.webdriver.support.ui import Select

        Select(self.find("models")).select_by_value(model)
        self.until(lambda: self.text("name") == model)

    def find(self, name: str) -> Any:
        return self.driver.find_element("id", name)

    def all(self, css: str) -> list[Any]:
        return [*self.driver.find_elements("css selector", css)]

    def text(self, name: str) -> str:
        found: str = self.find(name).text
        return found

    def shown(self, name: str) -> bool:
        return bool(self.find(name).is_displayed())

    def until(self, happened: Callable[[], object]) -> None:
        from selenium.common.exceptions import StaleElementReferenceException
        from selenium.webdriver.support.ui import WebDriverWait

        # The page may replace an element after it was found, and before it is read. On a busy machine a training takes its time.
        WebDriverWait(self.driver, 60, 0.05, ignored_exceptions=[StaleElementReferenceException]).until(lambda _: happened())

    def script(self, code: str, *given: object) -> Any:
        return self.driver.execute_script(code, *given)

    def draw(self, strokes: Sequence[Stroke], kind: str = "mouse") -> None:
        """Draw strokes of points in shares of the canvas, with a mouse, a finger or a pen."""
        from selenium.webdriver.common.actions.action_builder import ActionBuilder
        from selenium.webdriver.common.actions.pointer_input import PointerInput

        paper = self.find("paper")
        self.script("arguments[0].scrollIntoView({block: 'center'})", paper)
        width, height = paper.size["width"], paper.size["height"]
        actions = ActionBuilder(self.driver, mouse=PointerInput(kind, kind), duration=10)
        for stroke in strokes:
            for place, (x, y) in enumerate(stroke):
                actions.pointer_action.move_to(paper, int((x - 0.5) * width), int((y - 0.5) * height))
                if place == 0:
                    actions.pointer_action.pointer_down()
            actions.pointer_action.pointer_up()
        actions.perform()

    def give(self, how: str, files: dict[str, bytes]) -> None:
        """Drop or paste files."""
        self.script(
            """
            const data = new DataTransfer();
            for (const [name, type, content] of arguments[1]) {
              data.items.add(new File([Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0))], name, { type }));
            }
            const options = { bubbles: true, cancelable: true, clipboardData: data, dataTransfer: data };
            if (arguments[0] === "paste") document.dispatchEvent(new ClipboardEvent("paste", options));
            else for (const one of ["dragover", "drop"]) document.body.dispatchEvent(new DragEvent(one, options));
            """,
            how,
            [(name, _type_of(name), base64.b64encode(content).decode()) for name, content in files.items()],
        )

    def answered(self, label: str) -> None:
        self.until(lambda: self.shown("answered") and self.text("label") == label)

    def logged(self) -> list[Any]:
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def asked(self) -> set[str]:
        """All addresses that the browser has asked for."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return {one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent"}


def as_new(driver: Any) -> None:
    """Leave the page that a browser shows, forget what it has logged, and let it look like a large screen in the light."""
    driver.get("about:blank")
    driver.get_log("browser"), driver.get_log("performance")
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def read_axe(folder: Path) -> str:
    """The source of axe, the checker of accessibility, from npm."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("axe comes from npm, which is not installed")
    packed = subprocess.run([npm, "pack", "--silent", "--prefer-offline", AXE], cwd=folder, capture_output=True, text=True, timeout=120)
    if packed.returncode:
        pytest.skip(f"npm does not give {AXE}: {packed.stderr.strip()[:200]}")
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        file = archive.extractfile("package/axe.min.js")
        assert file is not None
        return file.read().decode()


def check_with_axe(driver: Any) -> list[str]:
    """What axe, which runs in the page already, finds wrong there."""
    found = driver.execute_async_script("axe.run().then(({ violations }) => arguments[0](violations))")
    return [f"{one['id']}: {one['help']}: " + "; ".join(node["html"][:120] for node in one["nodes"]) for one in found]


def _type_of(name: str) -> str:
    return {"png": "image/png", "wav": "audio/wav", "csv": "text/csv", "txt": "text/plain"}.get(name.rpartition(".")[2], "")


def open_browser(language: str = "en-US", *more: str) -> Any:
    """Open a browser that speaks a language, and logs what it asks for."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="the browser is driven by Selenium, which is not installed")
    if not (CHROMIUM and DRIVER):
        pytest.skip("needs Chromium and its driver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for option in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--window-size=1200,1000",
        f"--lang={language}",
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        *more,
    ):
        options.add_argument(option)
    options.add_experimental_option("prefs", {"intl.accept_languages": language})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_script_timeout(300)
    return driver
