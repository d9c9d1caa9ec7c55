"""`matrixrl runs report`: one file with everything, in a real browser from `file://`."""

from __future__ import annotations

import html.parser
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from matrixrl.cli.main import main
from matrixrl.config import ConfigError
from matrixrl.dashboard.report import MAX_ROWS, POINTS, report, script_json
from matrixrl.envs.hackmatrix.scenario import ScenarioReplay, dump_text
from tests.cli.runs_made import make_run, ppo_settings
from tests.dashboard.games_made import make_games
from tests.dashboard.test_hackmatrix_page import session

ATTACK = '</script><script>window.hacked = 1</script><img src=x onerror="window.hacked=1">'


class Tags(html.parser.HTMLParser):
    """Collects the elements of a page, and all addresses in them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [
            value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")
        ]


def game_text() -> str:
    """A short game of HackMatrix as a replay."""
    here, actions = session(5), []
    for _ in range(8):
        actions.append(here.random_action())
        here.play(actions[-1])
    return dump_text(
        session(5).state, meta={"seed": 5, "name": ATTACK}, replay=ScenarioReplay(tuple(actions))
    )


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    make_games(folder, "schemes")
    rows = [
        {"train/update_step": i, "episode/return": float(i), "train/total_loss": 1.0} for i in range(1_000)
    ]
    make_run(folder, "many-points", rows, ppo_settings())
    hostile = make_run(
        folder, "hostile", [{"episode/return": 1.0, f"{ATTACK}/x": 2.0}] * 3, None, about={ATTACK: ATTACK}
    )
    hostile.rename(folder / "<img src=x onerror=alert(1)>")
    played = make_run(folder, "played", [{"episode/return": 1.0}] * 3, None, system="hackmatrix")
    (played / "game.json").write_text(game_text())
    return folder


@pytest.fixture(scope="module")
def written(runs_dir: Path) -> Path:
    output = runs_dir / "out" / "report.html"
    assert (
        main(["runs", "report", "--runs-dir", str(runs_dir), "*", "--output", str(output), "--title", ATTACK])
        == 0
    )
    return output


def data_of(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="report-data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_a_report_is_one_file_that_loads_nothing(written: Path) -> None:
    tags = Tags(written.read_text())
    assert all(address.startswith(("data:", "#")) for address in tags.addresses), tags.addresses
    # The data, the import map, and one line that starts the page: nothing of a run has become an element.
    assert tags.tags.count("script") == 3
    assert "img" not in tags.tags or tags.tags.count("img") == 1  # the icon
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', written.read_text())
    assert policy is not None
    assert policy[1].startswith("default-src &#x27;none&#x27;")
    assert "http" not in policy[1]


def test_curves_and_tables_are_thinned_and_keep_the_ends(written: Path) -> None:
    data = data_of(written.read_text())
    curve = data["curves"]["many-points"]["episode/return"]
    assert len(curve["y"]) <= POINTS
    assert min(curve["low"]) == 0.0
    assert max(curve["high"]) == 999.0
    assert set(curve["x"]) == {"step", "time", "epoch"}
    assert all(len(table["rows"]) <= MAX_ROWS for table in data["tables"].values())
    assert written.stat().st_size < 3_000_000


def test_no_character_of_the_data_ends_its_element() -> None:
    text = script_json({"a": ATTACK, "b": "<!--", "c": "\u2028"})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"a": ATTACK, "b": "<!--", "c": "\u2028"}


def test_wrong_calls_are_refused_in_one_line(
    runs_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text("{}")
    for arguments, message in (
        (["nothing"], "nothing"),
        (["schemes", "--output", str(tmp_path)], "is a folder"),
        (["schemes", "--replay", str(bad)], "none of these runs is one of hackmatrix"),
        (["played", "--replay", str(bad)], "--replay bad.json: the file is no scenario"),
        (["played", "--replay", str(tmp_path / "missing.json")], "missing.json"),
    ):
        output = [] if "--output" in arguments else ["--output", str(tmp_path / "r.html")]
        assert main(["runs", "report", "--runs-dir", str(runs_dir), *arguments, *output]) == 2
        errors = capsys.readouterr().err.strip().splitlines()
        assert message in errors[-1]
        assert errors[-1].startswith("matrixrl: ")
    assert not (tmp_path / "r.html").exists()
    with pytest.raises(ConfigError, match="given twice"):
        report([runs_dir / "schemes", tmp_path / "schemes"], "x")


def test_a_script_gets_name_size_and_runs(
    runs_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "one.html"
    assert (
        main(["runs", "report", "--runs-dir", str(runs_dir), "schemes", "--json", "--output", str(output)])
        == 0
    )
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert answer == {"output": str(output), "runs": ["schemes"], "size_bytes": output.stat().st_size}


# In a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from tests.dashboard.pages import start_browser

    driver = start_browser()
    yield driver
    driver.quit()


def test_a_report_shows_its_runs_and_steps_through_games(browser: Any, written: Path) -> None:
    from tests.dashboard.pages import Page

    page = Page(browser)
    page.open(written.as_uri())
    page.wait("tbody tr:nth-child(4)")
    assert page.title.startswith("Runs")
    page.open(f"{written.as_uri()}#/runs/many-points/charts")
    page.wait(".chart canvas")
    page.open(f"{written.as_uri()}#/runs/schemes/games")
    page.wait(".factors svg")
    assert page.text(".position") == "Start · 8 entries left"
    page.press("Next")
    assert page.text(".position").startswith("After term 1 of 7")
    page.press("Last")
    assert page.text(".position") == "After term 7 of 7 · 0 entries left"
    page.open(f"{written.as_uri()}#/runs/played/play")
    page.wait(".board")
    first = page.attribute(".board-box", "data-hash")
    page.press("Next")
    assert page.attribute(".board-box", "data-hash") != first
    assert "for " in page.text(".hm-reward")
    page.open(f"{written.as_uri()}#/runs/schemes/episodes")
    page.wait(".pager, .empty, p")
    assert page.errors() == []


def test_hostile_texts_do_nothing(browser: Any, written: Path) -> None:
    from tests.dashboard.pages import Page

    page = Page(browser)
    key = "%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E"
    for part in ("charts", "settings", "console", "files", "delivery"):
        page.open(f"{written.as_uri()}#/runs/{key}/{part}")
        page.wait("main h1")
        page.settle()
        assert page.script("return window.hacked") is None
        assert page.script("return document.querySelectorAll('main img, main script').length") == 0
    page.open(f"{written.as_uri()}#/runs/played/play")
    page.wait(".board")
    assert page.script("return window.hacked") is None
    assert page.errors() == []
