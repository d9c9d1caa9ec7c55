"""The page in real headless Chromium: one browser and one server for all tests of this file."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from matrixrl.systems.matmul.spec import SPEC as MATMUL
from matrixrl.tracking.events import ScalarRow
from tests.cli.runs_made import open_made
from tests.dashboard.browser import serving, started_browser, wait_for
from tests.dashboard.runs_made import CLIMB, HOSTILE_FOLDERS, SCRIPT, record_episodes

AXE = Path(__file__).parent / "vendor" / "axe.min.js"


class Page:
    """The page as a user sees it."""

    def __init__(self, driver: Any, address: str) -> None:
        self.driver = driver
        self.address = address

    def open(self, where: str, seen: str) -> None:
        """Opens an address and waits for an element."""
        self.driver.get("about:blank")
        self.driver.get(f"{self.address}{where}")
        self.wait(seen)

    def all(self, selector: str) -> list[Any]:
        return self.driver.find_elements("css selector", selector)

    def texts(self, selector: str) -> list[str]:
        return self.run(
            "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)", selector
        )

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def wait(self, selector: str) -> Any:
        return wait_for(lambda: self.all(selector), f"{selector} at {self.driver.current_url}")[0]

    def click(self, selector: str) -> None:
        def clicked() -> bool:
            self.all(selector)[0].click()
            return True

        self.wait(selector)
        wait_for(clicked, f"a click on {selector}")

    def faults(self) -> list[str]:
        """Returns errors of the browser's console since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def set_screen(self, width: int, theme: str) -> None:
        screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        feature = {"name": "prefers-color-scheme", "value": theme}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


@pytest.fixture(scope="module")
def page(runs_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    own = tmp_path_factory.mktemp("browser") / "runs"
    shutil.copytree(runs_dir, own)
    with started_browser() as driver, serving(own) as address:
        yield Page(driver, address)


@pytest.fixture
def page_runs(page: Page) -> Path:
    """The runs folder that the page shows."""
    import urllib.request

    with urllib.request.urlopen(f"{page.address}api/runs") as answer:
        return Path(json.load(answer)["runs_dir"])


def test_runs_are_listed_sorted_filtered_and_compared(page: Page) -> None:
    page.open("#/", "tr[data-run='seed-1'] .run-name")
    page.run("document.querySelector(\"tr[data-run='seed-1']\").scrollIntoView()")
    page.wait("tr[data-run='seed-1'] .sparkline")  # read when it comes into view
    page.run("scrollTo(0, 0)")
    page.click("button[data-sort='name']")
    wait_for(lambda: page.texts("tbody tr .run-name")[:1] == [SCRIPT], "the first name")
    assert page.run("return document.querySelector('th[aria-sort] button').dataset.sort") == "name"
    page.click("button[data-sort='name']")
    wait_for(lambda: page.texts("tbody tr .run-name")[-1:] == [SCRIPT], "the last name")
    field = page.wait("#run-filter")
    field.send_keys("seed")
    wait_for(lambda: page.texts("tbody tr .run-name") == ["seed-2", "seed-1", "seed-0"], "the filtered list")
    assert page.driver.current_url.endswith("q=seed&sort=name&reverse=1")
    for key in ("seed-0", "seed-2"):
        page.click(f"tr[data-run='{key}'] input")
    page.click(".selection .primary")
    wait_for(lambda: page.texts("h1") == ["2 runs"], "the page of two runs")
    labels = wait_for(lambda: page.texts("[data-metric='episode/return'] .legend .name"), "a chart")
    assert set(labels) == {"seed-0", "seed-2"}
    page.click("a[href$='/settings']")
    wait_for(lambda: "seed differs" in page.texts("tr.differs th"), "the setting that differs")
    assert page.faults() == []


def test_new_points_appear_while_a_run_is_recorded(page: Page, page_runs: Path) -> None:
    run = open_made(page_runs, "live", None, MATMUL)
    page.open("#/runs/live/charts", ".empty")
    for number in range(1, 4):
        metrics = {"episode/reward": float(number), "Epoch": number, "epoch_loss": 1 / number}
        run.record([ScalarRow(run.clock.advance()[-1], metrics)])
        text = f"{number} point"
        wait_for(
            lambda text=text: any(
                text in (label or "")
                for label in page.run(
                    "return [...document.querySelectorAll('[data-metric=\"episode/reward\"] .plot')]"
                    ".map(e => e.getAttribute('aria-label'))"
                )
            ),
            text,
        )
    assert page.texts(".run-list .state") == ["▶ running"]
    page.click("a[href$='/episodes']")
    page.wait("table")
    record_episodes(run, range(1, 4))
    wait_for(lambda: len(page.all("tbody tr")) == 3, "three episodes")
    run.finish("finished")
    wait_for(lambda: page.texts(".run-list .state") == ["✓ finished"], "the end of the run")
    assert page.faults() == []


def test_charts_zoom_smooth_and_change_their_axis(page: Page) -> None:
    chart = "[data-metric='episode/return']"
    page.open("#/runs/seed-0,seed-1,seed-2/charts", f"{chart} canvas")

    def label() -> str:
        return page.run(
            "return document.querySelector(arguments[0]).getAttribute('aria-label')", f"{chart} .plot"
        )

    everything = wait_for(lambda: "40 points" in label() and label(), "the chart")
    assert isinstance(everything, str)
    assert "from 0 at step 10 to 39 at 400; lowest 0, highest 39" in everything
    page.run("document.querySelector(arguments[0]).focus()", f"{chart} .frame")
    page.driver.switch_to.active_element.send_keys("+")
    wait_for(lambda: "40 points" not in label(), "a zoomed chart")
    page.driver.switch_to.active_element.send_keys("0")
    wait_for(lambda: label() == everything, "the whole chart")
    # A drag of the mouse selects a range, too.
    from selenium.webdriver import ActionChains

    over = page.wait(f"{chart} .u-over")
    ActionChains(page.driver).move_to_element_with_offset(over, -50, 0).click_and_hold().move_by_offset(
        90, 3
    ).release().perform()
    wait_for(lambda: "40 points" not in label(), "a zoomed chart")
    page.click("[aria-label='All: show everything']")
    wait_for(lambda: label() == everything, "the whole chart")
    page.click("#seed-bands")
    wait_for(lambda: page.texts(f"{chart} .legend .name") == ["seed-0 and 2 more"], "the band")
    page.click("#log-scale")
    page.run(
        "const s = document.getElementById('smoothing'); s.value = 0.9; s.dispatchEvent(new Event('input'))"
    )
    page.run(
        "const s = document.getElementById('x-axis'); s.value = 'time'; s.dispatchEvent(new Event('change'))"
    )
    wait_for(lambda: "over time" in label(), "the other axis")
    page.click(f"{chart} summary")
    assert wait_for(lambda: page.texts(f"{chart} details th")[:2], "the numbers") == ["time", "mean"]
    link = page.run("return document.querySelector(arguments[0]).href", f"{chart} a[download]")
    assert link.startswith(f"{page.address}api/series.csv?run=seed-0&run=seed-1")
    assert page.faults() == []


def test_a_chart_is_saved_as_a_picture(page: Page, tmp_path: Path) -> None:
    page.driver.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)}
    )
    page.open("#/runs/many/charts", "[data-metric='episode/return'] canvas")
    wait_for(lambda: len(page.texts("[data-metric='episode/return'] .legend li")) == 3, "mean and settings")
    page.click("[data-metric='episode/return'] .tools button")
    (picture,) = wait_for(lambda: list(tmp_path.glob("*.png")), "the picture")
    assert picture.name == "episode-return.png"
    wait_for(lambda: picture.read_bytes()[:4] == b"\x89PNG", "its content")


def test_the_episode_table_sorts_filters_and_pages(page: Page) -> None:
    page.open("#/runs/matmul-1/episodes", "tbody tr")
    assert len(page.all("tbody tr")) == 30
    page.click("button[data-sort='Reward']")

    def rewards() -> list[float]:
        return [float(text) for text in page.texts("tbody tr td:nth-child(4)")]

    wait_for(lambda: rewards() == sorted(rewards()) and rewards()[0] < rewards()[-1], "rising rewards")
    assert page.run("return document.querySelector('th[aria-sort]').getAttribute('aria-sort')") == "ascending"
    assert page.run("return document.activeElement.dataset.sort") == "Reward"  # the keyboard stays there
    page.driver.switch_to.active_element.send_keys("\n")
    wait_for(lambda: rewards() == sorted(rewards(), reverse=True), "falling rewards")
    page.click(".filter-box summary")
    page.wait("input[data-column='Solved']").send_keys("yes")
    wait_for(lambda: set(page.texts("tbody tr td:nth-child(8)")) == {"yes"}, "solved games only")
    page.wait("input[data-column='Rank']").send_keys(">=nonsense")
    wait_for(lambda: any("takes a number" in text for text in page.texts(".fault")), "the fault in words")
    assert [text for text in page.faults() if "400" not in text] == []


def test_other_tabs(page: Page) -> None:
    page.open("#/runs/matmul-1/console", ".console .line")
    assert (
        page.texts(".console .line")[-1]
        .strip()
        .endswith(page.texts(".console .line")[-1].split("  ", 1)[1].strip())
    )
    page.open("#/runs/matmul-1/files", ".empty")
    page.open("#/runs/matmul-1/delivery", "table")
    page.click("section button")
    wait_for(lambda: page.texts(".good") and "Everything agrees" in page.texts(".good")[0], "the audit")
    page.open("#/nonsense", "h1")
    assert page.texts("h1") == ["Nothing here"]
    page.open("#/runs/absent", ".fault")
    assert "no run 'absent'" in page.texts(".fault p")[0]
    page.faults()


def test_hostile_names_do_nothing(page: Page) -> None:
    page.open("#/?q=hostile", "tbody tr")
    page.open("#/", "tr[data-run='long']")
    shown = page.texts("tbody .run-name")
    assert {SCRIPT, CLIMB, "x" * 5_000} <= set(shown)
    tabs = (("charts", "figure"), ("episodes", "tbody tr"), ("settings", "tbody tr"), ("console", "pre"))
    folders = (*HOSTILE_FOLDERS, "climbing", "lines", "long")
    for folder, (tab, seen) in zip(folders, itertools.cycle(tabs), strict=False):
        page.open(f"#/runs/{quote(folder, safe='')}/{tab}", f".panel {seen}")
        assert page.texts("h1") != ["This cannot be shown"], (folder, tab)
    page.open(f"#/runs/{quote('hostile')},{quote(HOSTILE_FOLDERS[0], safe='')}/settings", "#only-differences")
    page.click("#only-differences")
    wait_for(lambda: SCRIPT in page.texts("tbody th"), "the hostile setting as text")
    assert page.run("return window.hacked === undefined")
    assert page.all("main script, main img, main iframe") == []
    assert page.faults() == []


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_there_is_no_serious_fault_of_accessibility(page: Page, width: int, theme: str) -> None:
    """axe-core on each view; the page is nowhere wider than the screen."""
    views = {
        "#/": "tr[data-run] .sparkline",
        "#/runs/seed-0,seed-1,other-rate/charts": "figure canvas",
        "#/runs/many/charts": "figure canvas",
        "#/runs/matmul-1/episodes": "tbody tr",
        "#/runs/seed-0,other-rate/settings": "tr.differs",
        "#/runs/hostile/console": ".console .line",
        "#/runs/matmul-1/delivery": "table",
    }
    source = AXE.read_text()
    page.set_screen(width, theme)
    for where, seen in views.items():
        page.open(where, seen)
        if where == "#/runs/matmul-1/episodes":
            page.click(".filter-box summary")
        page.run(source)
        found = page.driver.execute_async_script(
            "axe.run({resultTypes: ['violations']}).then(arguments[arguments.length - 1])"
        )
        bad = [
            (fault["id"], [node["target"] for node in fault["nodes"]][:3], fault["help"])
            for fault in found["violations"]
            if fault["impact"] in ("serious", "critical")
        ]
        assert bad == [], (where, width)
        excess = page.run(
            "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert excess <= 0, (where, width)
    page.set_screen(1280, "light")


def test_the_theme_is_chosen_and_kept(page: Page) -> None:
    page.open("#/", "tbody tr")

    def background() -> str:
        return page.run("return getComputedStyle(document.body).backgroundColor")

    def on_canvas() -> str:
        """The colour of text that drawings on a canvas get: a canvas takes no `light-dark()`."""
        return page.driver.execute_async_script(
            "import('/static/lib/theme.js').then(theme => arguments[arguments.length - 1](theme.variable('--text')))"
        )

    page.set_screen(1280, "light")
    light = background()
    assert on_canvas() == "rgb(21, 32, 43)"
    page.click("#theme")
    page.click("#theme")
    assert page.run("return document.documentElement.dataset.theme") == "dark"
    assert background() != light
    assert on_canvas() == "rgb(230, 235, 241)"
    page.open("#/", "tbody tr")
    assert page.run("return document.documentElement.dataset.theme") == "dark"
    page.click("#theme")
    assert background() == light


def test_without_runs_the_page_says_how_to_begin(page: Page, tmp_path: Path) -> None:
    with serving(tmp_path / "runs") as address:
        empty = Page(page.driver, address)
        empty.open("#/", ".empty")
        assert "matrixrl matmul train --preset quick" in empty.texts(".empty pre")[0]
        open_made(tmp_path / "runs", "first", None, MATMUL).finish("finished")
        wait_for(lambda: empty.texts("tbody .run-name") == ["first"], "the first run")
        assert empty.faults() == []


@pytest.mark.slow
def test_new_points_appear_while_a_run_trains(page: Page, page_runs: Path) -> None:
    """The same with a process that trains with PPO."""
    flags = [
        "--num-envs",
        "8",
        "--num-steps",
        "8",
        "--hidden-dim",
        "8",
        "--num-layers",
        "1",
        "--log-interval",
        "20",
    ]
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "matrixrl", "ppo", "train", "--env", "tests.envs.tiny:Masked"),
            *("--runs-dir", str(page_runs), "--run-name", "trained"),
            *("--total-timesteps", "1000000000", *flags),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for((page_runs / "trained").exists, "the run", 240)  # it imports JAX first
        page.open("#/", "tr[data-run='trained']")
        page.open("#/runs/trained/charts", ".toolbar")
        wait_for(lambda: page.all("[data-metric='episode/return'] .value"), "the first chart", 240)
        labels = set()

        def seen() -> bool:
            labels.add(page.all("[data-metric='episode/return'] .plot")[0].get_attribute("aria-label"))
            return len(labels) > 4

        wait_for(seen, "a growing chart")
        assert page.texts(".run-list .state") == ["▶ running"]
    finally:
        process.kill()
        process.communicate()
