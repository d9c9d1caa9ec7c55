"""The page of a study in headless Chromium: one visit, all checks in it."""

from __future__ import annotations

from pathlib import Path

from matrixrl.cli.main import main
from matrixrl.studies.record import save_study
from tests.cli.runs_made import make_run
from tests.dashboard.browser import serving, started_browser, wait_for
from tests.dashboard.studies_made import METRIC, add_trial, empty_study, make_grid, make_search
from tests.dashboard.test_browser import AXE, Page

ROWS = "#study-trials ~ div tbody tr"


def test_the_page_of_a_study(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    study = make_search(runs)
    make_grid(runs)
    save_study(empty_study(runs, "empty"), runs / "empty")
    (runs / "foreign").mkdir()
    (runs / "foreign" / "study.json").write_text("{")
    make_run(runs, "alone", [{METRIC: 1.0}] * 3)
    report = tmp_path / "report.html"
    assert main(["runs", "report", "--runs-dir", str(runs), "grid", "--output", str(report)]) == 0
    with started_browser() as driver, serving(runs) as address:
        page = Page(driver, address)
        _see_the_list(page)
        page.open("#/studies/search", f"[data-metric='{METRIC}'] canvas")
        _see_curves_and_importance(page)
        _see_parallel_coordinates(page)
        _see_the_table(page)
        for width, theme in ((1280, "light"), (390, "dark")):
            _see_accessibility(page, width, theme)
        page.set_screen(1280, "light")
        add_trial(study, {"learning_rate": 5e-3, "width": 64}, 0, [1.0, 9.0], point=8)
        save_study(study, runs / "search")
        wait_for(lambda: page.texts(f"{ROWS} th .run-name")[:1] == ["search-009"], "the trial that was added")
        for name, words in (("foreign", "cannot be read"), ("empty", "No trials yet")):
            page.open(f"#/studies/{name}", "h1")
            wait_for(lambda words=words: words in page.texts("main")[0], words)
        assert page.faults() == []
        page.open("#/studies/absent", ".fault")
        assert "no study 'absent'" in page.texts(".fault p")[0]
        page.faults()
        of_report = Page(driver, report.as_uri())
        of_report.open("#/studies/grid", f"[data-metric='{METRIC}'] canvas")
        assert of_report.texts(".legend .name")[0].startswith("learning_rate 0.01 (2")
        assert len(of_report.all(ROWS)) == 4
        assert of_report.faults() == []


def _see_the_list(page: Page) -> None:
    page.open("#/", "tr[data-study='grid']")
    assert set(page.texts(".study-row .run-name")) == {"grid", "search", "empty", "foreign"}
    assert "6 of 8 trials done, 1 interrupted" in page.texts("tr[data-study='search'] .run-about")[0]
    assert page.all("tr[data-run^='grid:']") == []
    page.wait("[aria-label='Runs of study grid']").send_keys("\n")
    wait_for(lambda: len(page.all("tr[data-run^='grid:']")) == 4, "the runs of the study")
    assert (
        page.run("return document.activeElement.getAttribute('aria-expanded')") == "true"
    )  # the keyboard stays
    page.driver.switch_to.active_element.send_keys("\n")
    wait_for(lambda: page.all("tr[data-run^='grid:']") == [], "the folded study")


def _see_curves_and_importance(page: Page) -> None:
    wait_for(lambda: len(page.texts(".legend .name")) == 7, "a curve for each setting with values")
    assert page.texts(".legend .name")[0] == "learning_rate 0.00316228, width 32"
    page.run(
        "const s = document.getElementById('study-by'); s.value = 'width'; s.dispatchEvent(new Event('change'))"
    )
    wait_for(lambda: len(page.texts(".legend .name")) == 2, "a curve for each width")
    assert page.texts(".legend .name")[0].endswith("trials)")
    page.run(
        "const s = document.getElementById('study-metric'); s.value = 'train/total_loss';"
        "s.dispatchEvent(new Event('change'))"
    )
    page.wait("[data-metric='train/total_loss'] canvas")
    shares = wait_for(lambda: page.texts(".bar-text"), "importance")
    assert len(shares) == 2
    assert page.texts(".bars tbody th")[0] == "learning_rate"


def _see_parallel_coordinates(page: Page) -> None:
    from selenium.webdriver import ActionChains

    assert len(page.all(".trial-line[data-trial]")) == 7  # the trial that waits has none
    assert page.texts(".axis-name") == ["learning_rate", "width", METRIC]
    assert page.texts(".axis-log") == ["log scale"]
    label = page.run("return document.querySelector('.parallel-frame svg').getAttribute('aria-label')")
    assert label == f"7 lines of 7 trials over learning_rate (logarithmic), width, {METRIC}"
    page.run("document.querySelector('.parallel-frame').focus()")
    page.driver.switch_to.active_element.send_keys("\ue015")  # arrow down
    wait_for(lambda: "search-006" in page.texts(".parallel-detail")[0], "the best trial")
    assert page.run("return document.getElementById('announcer').textContent").endswith(f"{METRIC} 5")
    # A drag along the axis of the objective leaves the trials above its middle.
    frame = page.all(".axis-reach")[2]
    page.run("arguments[0].scrollIntoView({block: 'center'})", frame)
    drag = ActionChains(page.driver).move_to_element_with_offset(frame, 0, 5).click_and_hold()
    drag.move_by_offset(0, -60).move_by_offset(0, -60).release().perform()
    wait_for(
        lambda: page.texts(f"{ROWS} th .run-name") == ["search-006", "search-005", "search-004"], "the range"
    )
    assert len(page.all(".trial-line.is-out")) == 4
    page.click("#study-trials ~ p button")
    wait_for(lambda: len(page.all(ROWS)) == 8, "all trials")
    page.click(".parallel .filter-box summary")
    field = page.wait("[aria-label='width, at most']")
    field.send_keys("40\n")
    wait_for(lambda: len(page.all(ROWS)) == 5, "the trials of width 32")
    page.click("#study-trials ~ p button")


def _see_the_table(page: Page) -> None:
    wait_for(lambda: len(page.all(ROWS)) == 8, "all trials")
    assert page.run("return document.querySelector('th[aria-sort] button').dataset.sort") == "objective"
    page.click("[data-sort='setting 0']")
    wait_for(lambda: page.texts(f"{ROWS} th")[0] == "search-001", "the lowest rate first")
    page.driver.switch_to.active_element.send_keys("\n")
    wait_for(lambda: page.texts(f"{ROWS} th")[0] == "search-006", "the highest rate first")
    links = page.run("return [...document.querySelectorAll(arguments[0])].map(e => e.hash)", f"{ROWS} th a")
    assert links[0] == "#/runs/search%3Asearch-006"
    assert len(links) == 7
    page.click("[data-sort='objective']")


def _see_accessibility(page: Page, width: int, theme: str) -> None:
    page.set_screen(width, theme)
    page.run(AXE.read_text())
    found = page.driver.execute_async_script(
        "axe.run({resultTypes: ['violations']}).then(arguments[arguments.length - 1])"
    )
    faults = [
        (fault["id"], [node["target"] for node in fault["nodes"]][:3], fault["help"])
        for fault in found["violations"]
        if fault["impact"] in ("serious", "critical")
    ]
    assert faults == [], (width, theme)
    assert page.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
