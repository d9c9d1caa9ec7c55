"""HackMatrix in the page: the same game as on the command line, and an agent in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from matrixrl.cli.hackmatrix_play import PlaySession
from matrixrl.config import ConfigError
from matrixrl.dashboard import hackmatrix
from matrixrl.dashboard.policies import Policies, PolicyProcess, think, watch
from matrixrl.dashboard.query import Query
from matrixrl.envs.hackmatrix.referee import RandomDraws, legal_action_mask, new_game
from matrixrl.envs.hackmatrix.scenario import ScenarioReplay, dump_text, load, state_hash

CHILD = Path(__file__).with_name("policy_child.py")
EXAMPLE = {
    "format": "hackmatrix-scenario", "version": 1, "stage": 2, "turn": 4,
    "player": {"row": 2, "col": 2, "hp": 2, "credits": 1, "energy": 3, "data_siphons": 2, "score": 9},
    "owned_programs": ["wait", "undo"], "exit": {"row": 0, "col": 5},
    "blocks": [{"row": 3, "col": 2, "kind": "data", "points": 6}],
    "enemies": [{"type": "cryptog", "row": 5, "col": 4}, {"type": "virus", "row": 5, "col": 0}],
}  # fmt: skip


def board() -> Any:
    return SimpleNamespace(games=hackmatrix.PlayedGames())


def session(seed: int) -> PlaySession:
    return PlaySession(new_game(RandomDraws(np.random.default_rng([seed]))), seed)


def test_play_in_the_page_reaches_the_states_of_the_command_line() -> None:
    """Step by step, and at once in a server that has not seen the game."""
    here, dashboard, actions = session(3), board(), []
    while not here.state.episode.done and len(actions) < 60:
        actions.append(here.random_action())
        result = here.play(actions[-1])
        frame = hackmatrix.play(dashboard, {"seed": 3, "actions": actions})["frame"]
        assert frame["hash"] == state_hash(here.state)
        assert frame["reward"] == result.reward
        assert frame["breakdown"] == {name: value for name, value in result.breakdown.items() if value}
        expected = [False] * 28 if here.state.episode.done else legal_action_mask(here.state).tolist()
        assert frame["legal"] == expected
    assert len(actions) > 10
    assert hackmatrix.play(board(), {"seed": 3, "actions": actions})["frame"]["hash"] == state_hash(
        here.state
    )
    with_start = hackmatrix.play(dashboard, {"seed": 3, "actions": []})
    assert state_hash(load(json.dumps(with_start["start"])).state) == state_hash(session(3).state)


def test_play_starts_from_a_scenario_and_explains_what_is_not_possible() -> None:
    frame = hackmatrix.play(board(), {"seed": 0, "actions": [], "scenario": json.dumps(EXAMPLE)})["frame"]
    assert frame["state"]["stage"] == 2
    assert frame["visible"] == [False, True]  # a cryptog out of line is hidden
    assert frame["reasons"]["0"] == "the way is blocked"
    assert frame["reasons"]["14"] == "it needs an enemy phase to take back"  # undo, which is owned
    siphoned = hackmatrix.play(board(), {"actions": [4], "scenario": json.dumps(EXAMPLE)})["frame"]
    assert siphoned["state"]["player"]["score"] == 15


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"seed": -1}, "seed -1"),
        ({"seed": True}, "seed True"),
        ({"actions": [28]}, "actions"),
        ({"actions": "4"}, "actions"),
        ({"actions": [0] * 3000}, "at most 2,000"),
        ({"scenario": "{"}, "no scenario"),
        ({"scenario": 5}, "scenario"),
        ({"actions": [4, 4]}, "over after 1 of 2"),  # no siphon in hand: the first one ends the game
    ],
)
def test_impossible_requests_are_refused_in_one_line(content: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        hackmatrix.play(board(), content)
    assert "\n" not in str(caught.value)


def recorded(seed: int, count: int) -> tuple[str, list[str]]:
    """The text of a replay as the page saves it, and the hashes of its states."""
    here, actions, expect, hashes = session(seed), [], [], [state_hash(session(seed).state)]
    for _ in range(count):
        actions.append(here.random_action())
        result = here.play(actions[-1])
        hashes.append(state_hash(here.state))
        expect.append({"reward": result.reward, "done": result.done, "state_hash": hashes[-1]})
        if here.state.episode.done:
            break
    replay = ScenarioReplay(tuple(actions), expect=tuple(expect))
    return dump_text(session(seed).state, meta={"seed": seed}, replay=replay), hashes


def test_a_replay_shows_every_position_and_what_differs_from_the_recording(tmp_path: Path) -> None:
    text, hashes = recorded(5, 20)
    shown = hackmatrix.replay(board(), {"scenario": text})
    assert [frame["hash"] for frame in shown["frames"]] == hashes
    assert shown["differences"] == []
    assert shown["frames"][0]["action"] is None
    changed = json.loads(text)
    changed["replay"]["expect"][0]["reward"] = 77.0
    other = hackmatrix.replay(board(), {"scenario": json.dumps(changed)})
    assert len(other["differences"]) == 1
    assert "expected 77.0" in other["differences"][0]
    (tmp_path / "replays").mkdir()
    (tmp_path / "replays" / "game.json").write_text(text)
    (tmp_path / "other.json").write_text("{}")
    assert hackmatrix.replays(board(), tmp_path, Query()) == {"replays": ["replays/game.json"]}
    one = hackmatrix.replays(board(), tmp_path, Query([("id", "replays/game.json")]))
    assert one["frames"] == shown["frames"]
    for wrong in ("../game.json", "/etc/passwd", "other.json"):
        with pytest.raises(ConfigError, match="no such file"):
            hackmatrix.replays(board(), tmp_path, Query([("id", wrong)]))


# The process of an agent


@pytest.fixture
def policies() -> Iterator[Policies]:
    found = Policies((sys.executable, str(CHILD)))
    yield found
    found.close()


def test_an_agent_answers_from_its_process(policies: Policies, tmp_path: Path) -> None:
    games = hackmatrix.PlayedGames()
    store = SimpleNamespace(folder=lambda key: tmp_path / key)
    dashboard: Any = SimpleNamespace(policies=policies, games=games, store=store)
    answer = think(dashboard, {"run": "a", "seed": 3, "actions": []})
    assert answer["agent"] == f"agent of {tmp_path / 'a'}"
    start = hackmatrix.play(dashboard, {"seed": 3, "actions": []})["frame"]
    assert [chance > 0 for chance in answer["thoughts"]["probabilities"]] == start["legal"]
    first = policies.pid
    shown = watch(dashboard, tmp_path / "a", Query([("seed", "5")]))
    assert policies.pid == first  # the same process
    assert len(shown["frames"]) == 4
    assert [frame["thoughts"]["value"] for frame in shown["frames"]] == [0.0, 1.0, 2.0, 3.0]
    think(dashboard, {"run": "b", "seed": 3})
    assert policies.pid != first  # another run's agent takes its place
    assert first is not None
    assert not is_alive(first)


def test_errors_of_an_agent_are_one_line(policies: Policies, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be played"):
        policies.ask(tmp_path / "refuses", {"op": "think"})
    with pytest.raises(ConfigError, match="has ended: Boom"):
        policies.ask(tmp_path / "a", {"op": "crash"})
    facts, _ = policies.ask(tmp_path / "a", {"op": "echo"})  # a new one is started
    assert facts["agent"]
    process = PolicyProcess(tmp_path / "a", (sys.executable, str(CHILD)))
    with pytest.raises(ConfigError, match="did not answer in 0 s"):
        process.ask({"op": "sleep"}, seconds=0.1)
    assert not process.is_alive
    policies.close()
    with pytest.raises(ConfigError, match="the server is ending"):
        policies.ask(tmp_path / "a", {"op": "echo"})


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A process that ended and was not waited for yet is still there.
    return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def test_the_process_of_an_agent_dies_with_the_server(tmp_path: Path) -> None:
    """However the server ends: it is killed here, while the agent is busy."""
    code = (
        "import sys, threading, time\n"
        "from pathlib import Path\n"
        "from matrixrl.dashboard.policies import Policies\n"
        f"policies = Policies((sys.executable, {str(CHILD)!r}))\n"
        f"folder = Path({str(tmp_path / 'a')!r})\n"
        "policies.ask(folder, {'op': 'echo'})\n"
        "print(policies.pid, flush=True)\n"
        "policies.ask(folder, {'op': 'sleep'})\n"
    )
    server = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    with server.stdout:
        child = int(server.stdout.readline())
        assert is_alive(child)
        server.send_signal(signal.SIGKILL)
        server.wait()
    deadline = time.monotonic() + 60
    while is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(child)


def test_the_server_loads_no_jax() -> None:
    code = (
        "import sys\n"
        "import matrixrl.dashboard.server, matrixrl.dashboard.report\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'jax', 'jaxlib', 'flax', 'mctx', 'matplotlib'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
