"""HackMatrix in the page, on the plain Python game: replays, games of an agent, and play.

A game is identified by its start (a seed or a scenario) and its actions, as in `matrixrl hackmatrix
play`: the server keeps no session. The page draws a *frame* per position: the scenario of the
state, the legal actions, and how it was reached.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from matrixrl.config import ConfigError, require
from matrixrl.dashboard.query import NotFoundError, Query
from matrixrl.envs.hackmatrix.keyed_draws import KeyedDraws
from matrixrl.envs.hackmatrix.referee import (
    ACTION_NAMES,
    BREAKDOWN_KEYS,
    NUM_ACTIONS,
    PROGRAMS,
    GameState,
    RandomDraws,
    StepResult,
    legal_action_mask,
    new_game,
    step,
)
from matrixrl.envs.hackmatrix.referee.game import FIRST_PROGRAM
from matrixrl.envs.hackmatrix.referee.observation import is_visible
from matrixrl.envs.hackmatrix.referee.state import LAST_STAGE, MAX_HP
from matrixrl.envs.hackmatrix.render.reasons import why_illegal
from matrixrl.envs.hackmatrix.render.text import PROGRAM_KEYS, program_cost
from matrixrl.envs.hackmatrix.scenario import (
    ReplayStep,
    Scenario,
    ScenarioError,
    dump,
    load,
    run_replay,
    state_hash,
)
from matrixrl.user_files import UserFileError, read_text

if TYPE_CHECKING:
    from matrixrl.dashboard.endpoints import Dashboard

MAX_STEPS = 2_000
"""Maximum number of steps of a game in the page."""

KEPT_STATES = 512
LEFT_OUT = ("format", "version", "meta", "config", "history")

REPLAYS_FOLDER = "replays"
"""Folder of a run in which replay files are looked for, beside those in the run folder itself."""


def rules(dashboard: Dashboard | None = None, query: Query | None = None) -> dict[str, Any]:
    """Returns what the page needs to know of the game: `/api/hackmatrix/rules`."""
    del dashboard, query
    keys = ["arrow up", "arrow down", "arrow left", "arrow right", "space", *PROGRAM_KEYS]
    return {
        "actions": [
            {
                "name": name,
                "label": name if action < FIRST_PROGRAM else PROGRAMS[action - FIRST_PROGRAM].display,
                "cost": "" if action < FIRST_PROGRAM else program_cost(name),
                "key": keys[action],
            }
            for action, name in enumerate(ACTION_NAMES)
        ],
        "components": list(BREAKDOWN_KEYS),
        "stages": LAST_STAGE,
        "max_hp": MAX_HP,
        "max_steps": MAX_STEPS,
    }


def frame(
    state: GameState,
    action: int | None = None,
    result: StepResult | ReplayStep | None = None,
    thoughts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Returns a position as the page draws it.

    Args:
      action, result: how it was reached; None at the start.
      thoughts: probabilities, value and chosen action of an agent in this position.
    """
    scenario = {name: value for name, value in dump(state).items() if name not in LEFT_OUT}
    over = state.episode.done
    return {
        "state": scenario,
        "hash": state_hash(state),
        "legal": [False] * NUM_ACTIONS if over else [bool(legal) for legal in legal_action_mask(state)],
        "reasons": {} if over else _reasons(state),
        "visible": [is_visible(state, enemy) for enemy in state.enemies],
        "action": action,
        "reward": None if result is None else result.reward,
        "breakdown": {}
        if result is None
        else {name: value for name, value in result.breakdown.items() if value},
        "thoughts": thoughts,
    }


def _reasons(state: GameState) -> dict[str, str]:
    """Returns why actions that a player could expect are not possible, by index."""
    mask = legal_action_mask(state)
    return {
        str(action): why_illegal(state, action)
        for action, name in enumerate(ACTION_NAMES)
        if not mask[action] and (action < FIRST_PROGRAM or name in state.owned_programs)
    }


# Replays


def replay(dashboard: Dashboard, content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the frames of a scenario file that a user opened: `POST /api/hackmatrix/replay`.

    Raises:
      ConfigError: if it is no scenario; the message names the field.
    """
    del dashboard
    return frames_of(read_scenario(content.get("scenario")))


def read_scenario(text: Any) -> Scenario:
    """Reads a scenario from text.

    Raises:
      ConfigError: if it is none; the message names the field.
    """
    require(isinstance(text, str), "scenario: the text of a scenario file is expected")
    try:
        return load(text)
    except ScenarioError as error:
        raise ConfigError(f"the file is no scenario: {error}") from error


def frames_of(scenario: Scenario, thoughts: Sequence[Mapping[str, Any] | None] = ()) -> dict[str, Any]:
    """Returns the frames of a scenario with its replay, and the differences from what it expects.

    Args:
      thoughts: of an agent, one for each position.
    """
    recorded = scenario.replay
    actions = () if recorded is None else recorded.actions
    require(len(actions) <= MAX_STEPS, f"replay: {len(actions):,} steps; at most {MAX_STEPS:,} can be shown")

    def thought(index: int) -> Mapping[str, Any] | None:
        return thoughts[index] if index < len(thoughts) else None

    # A game that was saved in the page names its seed; recorded keys go first.
    named = scenario.meta.get("seed")
    seed = named if type(named) is int and 0 <= named < 2**32 else 0

    def replayed(state: GameState, action: int, key: tuple[int, int] | None) -> ReplayStep:
        chance = RandomDraws(np.random.default_rng([seed, state.episode.steps]))
        result = step(state, action, chance if key is None else KeyedDraws(key))
        return ReplayStep(result.state, result.reward, result.done, result.breakdown)

    frames = [frame(scenario.state, thoughts=thought(0))]
    differences: list[str] = []
    if recorded is not None:
        steps, differences = run_replay(scenario, replayed)
        for index, (made, action) in enumerate(zip(steps, actions, strict=False), 1):
            frames.append(frame(made.state, action, made, thought(index)))
    meta = {str(name): str(value)[:500] for name, value in scenario.meta.items()}
    return {"frames": frames, "differences": differences, "meta": meta}


def replay_files(folder: Path) -> dict[str, Path]:
    """Returns the replay files of a run by name: scenarios in its folder and in `replays`."""
    found: dict[str, Path] = {}
    for place in (folder, folder / REPLAYS_FOLDER):
        try:
            entries = sorted(entry for entry in place.iterdir() if entry.suffix == ".json")
        except OSError:
            continue
        for path in entries:
            try:
                with path.open("rb") as file:
                    is_scenario = b'"hackmatrix-scenario"' in file.read(400)
            except OSError:
                continue
            if is_scenario:
                found[path.relative_to(folder).as_posix()] = path
    return found


def replays(dashboard: Dashboard, folder: Path, query: Query) -> dict[str, Any]:
    """Returns the replay files of a run, or the frames of one: `/api/runs/RUN/replays?id=...`.

    Raises:
      NotFoundError: if the run has no such file.
    """
    del dashboard
    files = replay_files(folder)
    wanted = query.text("id")
    if not wanted:
        return {"replays": list(files)}
    if wanted not in files:
        raise NotFoundError(f"replay {wanted[:80]!r}: {folder.name} has no such file")
    try:
        return frames_of(read_scenario(read_text(files[wanted])))
    except UserFileError as error:
        raise ConfigError(f"{wanted}: {error}") from error


# Play


class Played(NamedTuple):
    """A position of a game in the page, and how it was reached; None at the start."""

    state: GameState
    action: int | None
    result: StepResult | None


class PlayedGames:
    """States of games that were played in the page, so that a further action is one step."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._states: OrderedDict[tuple[int, str, tuple[int, ...]], GameState] = OrderedDict()

    def play(self, seed: int, scenario: str | None, actions: Sequence[int]) -> Played:
        """Plays actions from a start.

        Raises:
          ConfigError: if the game is over before its last action, or the scenario is faulty.
        """
        key = (seed, hashlib.sha256((scenario or "").encode()).hexdigest())
        known, state = self._longest(key, actions)
        if state is None:
            state = (
                new_game(RandomDraws(np.random.default_rng([seed])))
                if scenario is None
                else read_scenario(scenario).state
            )
            self._keep((*key, ()), state)
        result = None
        for index in range(known, len(actions)):
            require(not state.episode.done, f"actions: the game is over after {index} of {len(actions)}")
            # The chance of `matrixrl hackmatrix play`: a step that is taken back goes the same way.
            draws = RandomDraws(np.random.default_rng([seed, state.episode.steps]))
            result = step(state, actions[index], draws)
            state = result.state
            self._keep((*key, tuple(actions[: index + 1])), state)
        return Played(state, actions[-1] if actions else None, result)

    def _longest(self, key: tuple[int, str], actions: Sequence[int]) -> tuple[int, GameState | None]:
        """Returns the longest known part of a game, without its last action, whose result is
        wanted.
        """
        with self._lock:
            for length in range(max(len(actions) - 1, 0), -1, -1):
                state = self._states.get((*key, tuple(actions[:length])))
                if state is not None:
                    return length, state
        return 0, None

    def _keep(self, key: tuple[int, str, tuple[int, ...]], state: GameState) -> None:
        with self._lock:
            self._states[key] = state
            self._states.move_to_end(key)
            while len(self._states) > KEPT_STATES:
                self._states.popitem(last=False)


def played(games: PlayedGames, content: Mapping[str, Any]) -> Played:
    """Plays the game that a request names: `seed`, `actions` (indices) and `scenario` (the text of
    a file, or null for a new game).

    Raises:
      ConfigError: if an entry is impossible.
    """
    seed, actions, scenario = content.get("seed", 0), content.get("actions", []), content.get("scenario")
    require(type(seed) is int and 0 <= seed < 2**32, f"seed {str(seed)[:40]}: must be from 0 to 4294967295")
    require(
        isinstance(actions, list) and all(type(one) is int and 0 <= one < NUM_ACTIONS for one in actions),
        f"actions: must be a list of indices 0..{NUM_ACTIONS - 1}",
    )
    require(len(actions) <= MAX_STEPS, f"actions: {len(actions):,} given; at most {MAX_STEPS:,}")
    require(scenario is None or isinstance(scenario, str), "scenario: must be the text of a file, or null")
    return games.play(seed, scenario, actions)


def play(dashboard: Dashboard, content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the position after some actions: `POST /api/hackmatrix/play`.

    At the start the whole scenario is added, so that the page can save the game.

    Raises:
      ConfigError: if an entry is impossible.
    """
    found = played(dashboard.games, content)
    start = {} if found.action is not None else {"start": dump(found.state)}
    return {"frame": frame(*found), **start}
