"""Pictures of the dashboard: each view in light and dark, 1,280 and 390 pixels wide.

`make screenshots` runs it. The runs come from a folder that is given with `--runs-dir`, or are trained first, which
takes ten minutes or more. Needs Debian's chromium and chromedriver, and selenium.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

WIDTHS = {1280: 1000, 390: 844}
THEMES = ("light", "dark")
COLOURS = 128
"""Number of colours of a picture: a page has few, and the files stay small."""

TRAIN = (
    ("matmul", "train", "--preset", "quick", "--record-search", "--run-name", "strassen", "--seed", "0"),
    ("hackmatrix", "train", "--preset", "dev", "--time", "3m", "--run-name", "hackmatrix-small"),
)

STUDY = """
command = "ppo train"
seeds = [0, 1, 2]
[settings]
env = "gymnax:CartPole-v1"
num_envs = 8
num_steps = 64
total_timesteps = 60_000
log_interval = 4
[grid]
learning_rate = [1e-4, 3e-4, 1e-3, 3e-3]
gamma = [0.9, 0.99]
gae_lambda = [0.8, 0.95]
[objective]
metric = "episode/return"
value = "area"
"""
"""A small study; the settings of a seed are trained as one program."""


def open_browser(width: int, height: int) -> Any:
    """Returns a headless Chromium with a window of this size."""
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = shutil.which("chromium") or "/usr/bin/chromium"
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--force-device-scale-factor=1",
    ):
        options.add_argument(flag)
    driver = webdriver.Chrome(
        options=options, service=Service(shutil.which("chromedriver") or "/usr/bin/chromedriver")
    )
    # The smallest window of a desktop browser is wider than a phone.
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    return driver


def wait_for(driver: Any, selector: str, seconds: float = 120.0) -> None:
    """Waits until the page has an element."""
    deadline = time.monotonic() + seconds
    while not driver.find_elements("css selector", selector):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{driver.current_url}: no {selector} after {seconds:.0f} s")
        time.sleep(0.1)


def click(driver: Any, text: str) -> None:
    """Presses the button with a text or a label."""
    for button in driver.find_elements("css selector", "button"):
        if text in (button.text.strip(), button.get_attribute("aria-label")):
            driver.execute_script("arguments[0].click()", button)
            return
    raise LookupError(f"{driver.current_url}: no button {text}")


def step_scheme(driver: Any) -> None:
    """Goes to the fifth term of the best scheme."""
    for _ in range(5):
        click(driver, "Next")


def step_game(driver: Any) -> None:
    """Opens the recorded game with search trees, and goes to its second term."""
    driver.execute_script(
        """const select = document.querySelector('select.game-choice');
        const option = [...select.options].filter(one => one.value.startsWith('search:')).pop();
        if (option) { select.value = option.value; select.dispatchEvent(new Event('change')); }"""
    )
    wait_for(driver, ".game:not([aria-busy]) .tree svg")
    click(driver, "Next")
    click(driver, "Next")


def watch_game(driver: Any) -> None:
    """Lets the agent play, and goes to its tenth step."""
    click(driver, "Watch the agent")
    wait_for(driver, ".board", 300)
    for _ in range(10):
        click(driver, "Next")


def wait_for_study(driver: Any) -> None:
    """Shows a curve for each learning rate."""
    wait_for(driver, ".study-chart canvas")
    driver.execute_script(
        """const select = document.getElementById('study-by');
        if (select.options.length > 1) { select.selectedIndex = 1; select.dispatchEvent(new Event('change')); }"""
    )
    time.sleep(2.0)


def scroll_to_search(driver: Any) -> None:
    """Shows the search tree of the second term."""
    step_game(driver)
    driver.execute_script(
        "const card = document.querySelector('.tree').closest('section');"
        "window.scrollTo(0, card.getBoundingClientRect().top + scrollY - 70)"
    )


def views(runs: dict[str, str]) -> dict[str, tuple[str, str, Callable[[Any], None]]]:
    """Returns the views: name, address, an element to wait for, and what to do on the page."""

    def nothing(driver: Any) -> None:
        del driver

    found: dict[str, tuple[str, str, Callable[[Any], None]]] = {
        "runs": ("#/", "table tbody tr", nothing),
        "records": ("#/records", ".ledger tbody tr", nothing),
        "play": ("#/hackmatrix", ".board", nothing),
    }
    if "study" in runs:
        found["study"] = (f"#/studies/{runs['study']}", ".bars, .importance p", wait_for_study)
    if "chart" in runs:
        found["charts"] = (f"#/runs/{runs['chart']}/charts", ".chart canvas", nothing)
        found["episodes"] = (f"#/runs/{runs['chart']}/episodes", "table tbody tr", nothing)
    if "scheme" in runs:
        found["games"] = (f"#/runs/{runs['scheme']}/games", ".factors svg", step_scheme)
    if "search" in runs:
        found["search"] = (f"#/runs/{runs['search']}/games", ".game", scroll_to_search)
    if "agent" in runs:
        found["agent"] = (f"#/runs/{runs['agent']}/play", ".toolbar button", watch_game)
    return found


def find_runs(runs_dir: Path) -> dict[str, str]:
    """Returns the runs of a folder that the views show."""
    from matrixrl.studies.record import study_folders
    from matrixrl.tracking.identity import read_run_file, run_folders

    found: dict[str, str] = {}
    for folder in run_folders(runs_dir):
        system = (read_run_file(folder) or {}).get("system")
        if (folder / "search").is_dir():
            found.setdefault("search", folder.name)
        if list(folder.glob("scheme*.json")):
            found.setdefault("scheme", folder.name)
        if system == "hackmatrix" and (folder / "checkpoints").is_dir():
            found.setdefault("agent", folder.name)
        found.setdefault("chart", folder.name)
        if system in ("ppo", "hackmatrix"):
            found["chart"] = folder.name
    found["scheme"] = found.get("search", found.get("scheme", ""))
    found["study"] = next((folder.name for folder in study_folders(runs_dir)), "")
    return {name: run for name, run in found.items() if run}


def save(driver: Any, path: Path) -> None:
    """Writes what the window shows as a small PNG."""
    picture = Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")
    picture.quantize(COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(path, optimize=True)


def train(runs_dir: Path) -> None:
    """Trains the runs and the study of the pictures; those that are finished are kept, a training
    that was interrupted is resumed.
    """
    from matrixrl.tracking.summary import summarize

    for command in TRAIN:
        name = command[command.index("--run-name") + 1]
        time_limit = command[command.index("--time") :][:2] if "--time" in command else ()
        if not (runs_dir / name).exists():
            matrixrl(*command, "--runs-dir", str(runs_dir))
        elif summarize(runs_dir / name).state not in ("finished", *(("interrupted",) if time_limit else ())):
            matrixrl(*command[:2], "--resume-run", name, *time_limit, "--runs-dir", str(runs_dir))
    runs_dir.mkdir(parents=True, exist_ok=True)
    file = runs_dir / "cartpole.toml"
    file.write_text(STUDY, encoding="utf-8")
    matrixrl("sweep", str(file), "--study-dir", str(runs_dir / "cartpole"))


def matrixrl(*arguments: str) -> None:
    """Runs a command of matrixrl."""
    subprocess.run([sys.executable, "-m", "matrixrl", *arguments], check=True)


def main() -> int:
    """Makes the pictures; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", type=Path, help="folder for the pictures")
    parser.add_argument(
        "--runs-dir", type=Path, default=None, help="folder of runs; without it some are trained"
    )
    parser.add_argument("--only", nargs="*", default=None, help="names of views")
    given = parser.parse_args()
    runs_dir = given.runs_dir
    if runs_dir is None:
        runs_dir = Path("build/screenshot-runs")
        train(runs_dir)
    from matrixrl.api import dashboard

    given.target.mkdir(parents=True, exist_ok=True)
    with dashboard(runs_dir=runs_dir) as board:
        for width, height in WIDTHS.items():
            driver = open_browser(width, height)
            try:
                for name, (address, selector, act) in views(find_runs(runs_dir)).items():
                    if given.only is not None and name not in given.only:
                        continue
                    for theme in THEMES:
                        driver.get("about:blank")
                        driver.get(f"{board.url}{address}")
                        driver.execute_script(f"localStorage.setItem('matrixrl-theme', '{theme}')")
                        driver.refresh()
                        wait_for(driver, selector)
                        act(driver)
                        time.sleep(0.8)  # charts and canvases draw in the next frames
                        path = given.target / f"dashboard-{name}-{theme}-{width}.png"
                        save(driver, path)
                        sys.stdout.write(f"{path}\n")
            finally:
                driver.quit()
    return 0


if __name__ == "__main__":
    sys.exit(main())
