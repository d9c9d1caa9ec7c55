"""Numbers at and beyond the limits of a scenario: refused when loaded, or the same in the arrays and the referee."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from matrixrl.config import ConfigError
from matrixrl.envs.hackmatrix.convert import LARGEST, from_game_state
from matrixrl.envs.hackmatrix.referee import ACTION_NAMES, GameState
from matrixrl.envs.hackmatrix.scenario import ScenarioError, load
from tests.envs.hackmatrix.lanes import check_one_step

LIMITS = {
    "player.credits": 10_000, "player.energy": 10_000, "player.data_siphons": 10_000, "player.score": 10_000,
    "player.attack_damage": 1_000, "turn": 10**9, "atk_plus_uses": 10**9, "episode.steps": 10**9, "episode.return": 1e9,
    "schedule.interval": 10**9, "schedule.next_turn": 10**9, "schedule.pending_siphon_spawns": 10_000,
    "enemies[0].hp": 1_000, "enemies[0].disabled_turns": 255, "transmissions[0].turns_left": 10_000,
    "blocks[0].points": 255, "blocks[0].spawn_count": 255, "resources[0].credits": 255, "resources[0].energy": 255,
    "history[0].player.credits": 10_000, "history[0].player.score": 10_000, "history[0].turn": 10**9,
    "history[0].enemies[0].hp": 1_000, "history[0].transmissions[0].turns_left": 10_000,
    "history[0].blocks[0].points": 255, "history[0].resources[0].energy": 255, "history[0].atk_plus_uses": 10**9,
}  # fmt: skip


def scenario(**changes: Any) -> dict[str, Any]:
    """A position in which all can be done, with a snapshot."""
    board = {
        "player": {
            "row": 4,
            "col": 5,
            "hp": 2,
            "credits": 50,
            "energy": 50,
            "data_siphons": 2,
            "attack_damage": 1,
        },
        "blocks": [{"row": 4, "col": 4, "kind": "data", "points": 5}],
        "resources": [{"row": 3, "col": 5, "credits": 3}],
        "enemies": [{"type": "virus", "row": 0, "col": 0}],
        "transmissions": [{"row": 0, "col": 1, "enemy_type": "daemon", "turns_left": 3}],
        "owned_programs": list(ACTION_NAMES[5:]),
    }
    top = {"format": "hackmatrix-scenario", "version": 1, "stage": 8, "schedule": {}, "episode": {}, **board}
    top["history"] = [copy.deepcopy(board)]
    value = copy.deepcopy(top)
    for path, number in changes.items():
        *way, key = path.replace("[0]", ".0").split(".")
        target: Any = value
        for step in way:
            target = target[int(step) if step.isdigit() else step]
        target[key] = number
    return value


@pytest.mark.parametrize("path", LIMITS)
def test_a_number_beyond_its_limit_is_refused_when_loaded_and_the_limit_fits_the_arrays(path: str) -> None:
    limit = LIMITS[path]
    for beyond in (
        limit + 1 if isinstance(limit, int) else 2 * limit,
        2**31 - 1 if limit < 2**31 - 1 else 1e300,
    ):
        with pytest.raises(ScenarioError, match="is not within") as caught:
            load(scenario(**{path: beyond}))
        assert caught.value.field == path
    from_game_state(load(scenario(**{path: limit})).state)


def test_a_game_that_is_over_needs_an_outcome_and_the_other_way_round() -> None:
    for episode in ({"done": True}, {"outcome": "won"}):
        with pytest.raises(ScenarioError, match=r"episode\.outcome"):
            load({**scenario(), "episode": episode})


def test_the_arrays_refuse_a_player_whose_rewards_would_not_fit() -> None:
    game = load(scenario()).state
    for name in ("credits", "energy", "score", "data_siphons"):
        setattr(game.player, name, LARGEST + 1)
        with pytest.raises(ConfigError, match=f"player.{name} {LARGEST + 1}: must be 0 to {LARGEST}"):
            from_game_state(game)
        setattr(game.player, name, LARGEST)
        from_game_state(game)


def test_rewards_at_the_limits_are_those_of_the_referee() -> None:
    numbers = {name: limit for name, limit in LIMITS.items() if "player" not in name and "return" not in name}
    rich = {f"player.{name}": 10_000 for name in ("credits", "energy", "score", "data_siphons")}
    poor = {f"history[0].{name}": 0 for name in rich}
    then_rich = {f"history[0].{name}": 10_000 for name in rich}
    strong = {"player.attack_damage": 1_000}
    positions: list[GameState] = [
        load(scenario(**changes)).state
        for changes in (rich, {**rich, **poor}, then_rich, {**rich, **then_rich, **strong, **numbers})
    ]
    cases = [(game, action) for game in positions for action in ("up", "undo", "siphon", "score", "exch")]
    # Delaying, changing and hitting what is at its limit.
    cases += [(positions[-1], action) for action in ("delay", "poly", "row", "col", "wait", "down", "reset")]
    check_one_step(
        [game for game, _ in cases],
        [ACTION_NAMES.index(action) for _, action in cases],
        [(number, 7) for number in range(len(cases))],
    )
    rewards = check_one_step([positions[0]], [ACTION_NAMES.index("up")], [(1, 2)])
    assert rewards[0].breakdown["victory"] == 500 + 100 * 10_000
