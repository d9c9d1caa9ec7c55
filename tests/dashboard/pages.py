"""A page in headless Chromium."""

from __future__ import annotations

import shutil
import time
from typing import Any

import pytest

SECONDS = 60.0


def start_browser(width: int = 1280, height: int = 900) -> Any:
    """Starts Chromium; skips the test where Debian's packages or selenium are missing."""
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("needs Debian's packages chromium and chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium (extra test)")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--window-size={width},{height}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=Service(driver))


class Page:
    """What a test does with a page."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    @property
    def title(self) -> str:
        return self.driver.title

    def open(self, address: str) -> None:
        """Opens an address from the beginning, also where only its hash differs."""
        self.driver.get("about:blank")
        self.driver.get(address)

    def script(self, code: str, *arguments: Any) -> Any:
        return self.driver.execute_script(code, *arguments)

    def wait(self, selector: str, seconds: float = SECONDS) -> Any:
        """Returns the first element of a selector, once there is one."""
        self.until(f"return document.querySelector({selector!r}) !== null", seconds)
        return self.driver.find_element("css selector", selector)

    def until(self, code: str, seconds: float = SECONDS) -> None:
        """Waits until a script returns true."""
        deadline = time.monotonic() + seconds
        while not self.script(code):
            assert time.monotonic() < deadline, (
                f"{self.driver.current_url}: not within {seconds:.0f} s: {code}"
            )
            time.sleep(0.02)

    def settle(self) -> None:
        """Waits for the drawing of the next frames."""
        self.driver.execute_async_script(
            "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 50)))"
        )

    def text(self, selector: str) -> str:
        return self.wait(selector).text

    def attribute(self, selector: str, name: str) -> str:
        return self.wait(selector).get_attribute(name)

    def press(self, label: str) -> None:
        """Presses the button of a label or text."""
        code = (
            "const found = [...document.querySelectorAll('button')].find(button =>"
            " button.getAttribute('aria-label') === arguments[0] || button.textContent.trim() === arguments[0]);"
            "found?.click(); return Boolean(found);"
        )
        assert self.script(code, label), f"{self.driver.current_url}: no button {label}"

    def errors(self) -> list[str]:
        """Returns errors of the page so far, such as those of scripts and of the security policy."""
        return [
            entry["message"]
            for entry in self.driver.get_log("browser")
            if entry["level"] == "SEVERE" and "favicon" not in entry["message"]
        ]
