"""A headless Chromium, and the dashboard's server beside it."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from matrixrl.cli.dashboard import DashboardCommand, listening, make_server

Found = TypeVar("Found")

ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",  # it refuses to run as root with one
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--hide-scrollbars",
    "--force-prefers-reduced-motion",
    "--window-size=1280,900",
)


def reason_to_skip() -> str | None:
    """Returns why there is no browser here; None if there is one."""
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            return f"{program} is not installed (Debian's packages chromium and chromium-driver)"
    try:
        import selenium  # noqa: F401
    except ModuleNotFoundError:
        return "selenium is not installed (extra `test`)"
    return None


@contextmanager
def started_browser() -> Iterator[Any]:
    """Yields a driver; skips the test where there is no browser."""
    if reason := reason_to_skip():
        pytest.skip(reason)
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for argument in ARGUMENTS:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    driver.set_page_load_timeout(120)
    driver.set_script_timeout(120)
    try:
        yield driver
    finally:
        driver.quit()


@contextmanager
def serving(runs_dir: Path) -> Iterator[str]:
    """Yields the address of a server of a folder, in a thread of this process."""
    command = DashboardCommand(runs_dir=runs_dir, port=0, no_browser=True)
    with listening(command) as listener:
        server = make_server(command, None)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join()


def wait_for(look: Callable[[], Found], what: str, seconds: float = 30.0) -> Found:
    """Returns what `look` finds once it is true; elements that are replaced meanwhile are looked for again."""
    from selenium.common.exceptions import WebDriverException

    until = time.monotonic() + seconds
    found: Any = None
    while time.monotonic() < until:
        try:
            if found := look():
                return found
        except WebDriverException as error:
            found = error
        time.sleep(0.05)
    raise AssertionError(f"{what}: not seen within {seconds:.0f} s; last: {found!r}")
