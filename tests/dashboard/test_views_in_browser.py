"""The views of games in a real browser: steps, keys, and a game that is played."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import matrixrl
from matrixrl.envs.hackmatrix.scenario import state_hash
from tests.cli.runs_made import make_run
from tests.dashboard.games_made import make_games
from tests.dashboard.pages import Page, start_browser
from tests.dashboard.test_hackmatrix_page import EXAMPLE, recorded, session


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("views") / "runs"
    make_games(folder, "schemes")
    played = make_run(folder, "played", [{"episode/return": 1.0}] * 3, None, system="hackmatrix")
    (played / "game.json").write_text(recorded(5, 12)[0])
    return folder


@pytest.fixture(scope="module")
def url(runs_dir: Path) -> Iterator[str]:
    with matrixrl.dashboard(runs_dir=runs_dir) as board:
        yield board.url


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    driver = start_browser()
    yield Page(driver)
    driver.quit()


def hash_of(page: Page) -> str:
    return page.attribute(".board-box", "data-hash")


def test_a_scheme_is_stepped_through_by_buttons_and_keys(page: Page, url: str) -> None:
    page.open(f"{url}#/runs/schemes/games")
    page.wait(".factors svg")
    assert page.text(".position") == "Start · 8 entries left"
    page.press("Next")
    assert page.text(".position").startswith("After term 1 of 7")
    assert page.script("return document.querySelectorAll('.product.is-current').length") == 3
    page.wait(".player-slider").send_keys("\ue010")  # End
    assert page.text(".position") == "After term 7 of 7 · 0 entries left"
    page.wait(".player-slider").send_keys("\ue012")  # left
    assert page.text(".position").startswith("After term 6 of 7")
    label = page.attribute(".slices", "aria-label")
    assert label.startswith("Residual after 6 terms in 4 slices: ")
    before = page.attribute(".solid", "aria-label")
    page.wait(".solid").send_keys("\ue014")  # the arrow turns the solid, and does not step
    assert page.attribute(".solid", "aria-label") == before
    page.press("First")
    page.press("Play")
    page.until("return document.querySelector('.position').textContent.startsWith('After term 2')")
    page.press("Pause")
    assert page.errors() == []


def test_a_search_tree_is_shown_before_each_term(page: Page, url: str) -> None:
    page.open(f"{url}#/runs/schemes/games")
    page.wait(".game-choice")
    page.script(
        "const select = document.querySelector('.game-choice'); select.value = 'search:2';"
        "select.dispatchEvent(new Event('change'));"
    )
    page.wait(".tree svg")
    assert page.script("return document.querySelectorAll('.tree-node').length") == 5
    assert "(x1 + x2)·y1" in page.text(".candidates .is-played") or "(x1 + x2)" in page.text(
        ".candidates .is-played"
    )
    page.script("document.querySelectorAll('.tree-node')[1].focus()")
    assert "1 visits, prior" in page.text(".tree-detail")
    page.press("Last")
    assert page.text(".tree, .whole p").startswith(("The game is over", "Search"))
    assert page.errors() == []


def test_an_episode_whose_start_is_unknown_says_so(page: Page, url: str) -> None:
    page.open(f"{url}#/runs/schemes/games")
    page.wait("form.inline input")
    page.press("Open")  # episode 4, the last one
    page.until("return document.querySelector('h2')?.textContent === 'episode 4: not solved'")
    assert "was not recorded" in page.text("main")


def test_the_ledger_is_filtered(page: Page, url: str) -> None:
    page.open(f"{url}#/records")
    page.wait(".ledger tbody tr:nth-child(84)")
    page.wait("input[type=search]").send_keys("3x3")
    page.until("return document.querySelectorAll('.ledger tbody tr').length === 7")
    assert page.errors() == []


def test_a_replay_steps_by_keys(page: Page, url: str) -> None:
    hashes = recorded(5, 12)[1]
    page.open(f"{url}#/runs/played/play")
    page.wait(".board")
    assert hash_of(page) == hashes[0]
    slider = page.wait(".player-slider")
    for expected in hashes[1:4]:
        slider.send_keys("\ue014")
        assert hash_of(page) == expected
    slider.send_keys("\ue012")
    assert hash_of(page) == hashes[2]
    page.press("Last")
    assert hash_of(page) == hashes[-1]
    assert page.errors() == []


def test_a_game_played_in_the_page_is_that_of_the_command_line(page: Page, url: str) -> None:
    here = session(0)
    page.open(f"{url}#/hackmatrix")
    page.wait(".board")
    assert hash_of(page) == state_hash(here.state)
    names = {0: "up", 1: "down", 2: "left", 3: "right", 4: "siphon"}
    for _ in range(3):
        action = next(number for number in (1, 2, 0, 3) if hackmatrix_legal(here, number))
        here.play(action)
        wanted = state_hash(here.state)
        page.script(f"document.querySelector('[data-action={names[action]}]').click()")
        page.until(f"return document.querySelector('.board-box').dataset.hash === '{wanted}'")
    # The last step, by a key, ends the game; it is taken back.
    action = next(number for number in (1, 2, 0, 3) if hackmatrix_legal(here, number))
    before = state_hash(here.state)
    here.play(action)
    keys = {0: "\ue013", 1: "\ue015", 2: "\ue012", 3: "\ue014"}
    page.wait(".board-box").send_keys(keys[action])
    page.until(f"return document.querySelector('.board-box').dataset.hash === '{state_hash(here.state)}'")
    page.press("Take back")
    assert hash_of(page) == before
    assert page.errors() == []


def hackmatrix_legal(here: Any, action: int) -> bool:
    from matrixrl.envs.hackmatrix.referee import legal_action_mask

    return bool(legal_action_mask(here.state)[action])


def test_a_file_is_opened(page: Page, url: str, tmp_path: Path) -> None:
    replay, scenario, wrong = (tmp_path / name for name in ("replay.json", "scenario.json", "wrong.json"))
    text, hashes = recorded(5, 6)
    replay.write_text(text)
    scenario.write_text(json.dumps(EXAMPLE))
    wrong.write_text('{"format": "<img src=x onerror=alert(1)>"}')
    page.open(f"{url}#/hackmatrix")
    page.wait(".board")
    for path, expected in ((replay, f"0 / {len(hashes) - 1}"), (scenario, "0 / 0")):
        page.wait("input[type=file]").send_keys(str(path))
        page.until(f"return document.querySelector('.player-text')?.textContent === {expected!r}")
    page.until("return document.querySelector('.facts').textContent.includes('2 of 8')")
    page.wait("input[type=file]").send_keys(str(wrong))
    assert "the file is no scenario: format" in page.text(".fault")


def ask(url: str, path: str, body: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
    sent = {"content-type": "application/json"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    request = urllib.request.Request(url + path, data=body, headers=sent, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_computations_are_asked_by_this_page_only(url: str) -> None:
    good = json.dumps({"seed": 0, "actions": []}).encode()
    assert ask(url, "api/hackmatrix/play", good)[0] == 200
    refused = {
        405: ask(url, "api/runs", good),
        415: ask(url, "api/hackmatrix/play", good, content_type="text/plain"),
        403: ask(url, "api/hackmatrix/play", good, origin="http://evil.example"),
        400: ask(url, "api/hackmatrix/play", b"{"),
        413: ask(url, "api/hackmatrix/play", b" " * 9_000_000),
    }
    for status, (found, answer) in refused.items():
        assert found == status
        assert "\n" not in answer["error"]
    assert ask(url, "api/hackmatrix/play", good, sec_fetch_site="cross-site")[0] == 403
    assert ask(url, "api/hackmatrix/play", b"[1]")[0] == 400


def test_agents_of_runs_without_checkpoints_are_refused(url: str) -> None:
    request = f"{url}api/runs/played/watch"
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=120)
    with caught.value as answer:
        assert answer.code == 400
        assert "played" in json.load(answer)["error"]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_serious_fault_in_the_views(page: Page, url: str, theme: str) -> None:
    axe = (Path(__file__).with_name("vendor") / "axe.min.js").read_text()
    for address, selector in (
        ("#/runs/schemes/games", ".factors svg"),
        ("#/records", ".ledger tbody tr"),
        ("#/hackmatrix", ".board"),
        ("#/runs/played/play", ".board"),
    ):
        page.open(f"{url}{address}")
        page.wait(selector)
        page.script("document.documentElement.dataset.theme = arguments[0]", theme)
        if "games" in address:
            page.script(
                "const select = document.querySelector('.game-choice'); select.value = 'search:2';"
                "select.dispatchEvent(new Event('change'));"
            )
            page.wait(".tree svg")
        page.settle()
        page.script(axe)
        found = page.driver.execute_async_script(
            "const done = arguments[0]; axe.run('main').then(answer => done(answer.violations"
            ".map(one => [one.impact, one.id, one.nodes[0].target.join(' ')])))"
        )
        assert [fault for fault in found if fault[0] in ("serious", "critical")] == [], address
