"""What must hold in any position, however wild, and in whole games."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from matrixrl.envs.hackmatrix.referee import (
    ACTION_NAMES,
    BREAKDOWN_KEYS,
    PROGRAM_NUMBER,
    GameState,
    RandomDraws,
    Sizes,
    legal_action_mask,
    new_game,
    observe,
    step,
)
from matrixrl.envs.hackmatrix.referee.enemies import can_enter, choose_move
from matrixrl.envs.hackmatrix.referee.programs import push_wish, sign
from matrixrl.envs.hackmatrix.referee.reward import exit_distance
from matrixrl.envs.hackmatrix.referee.state import BOARD_SIZE, CELLS, CORNERS, DIRECTIONS, on_board, shifted
from matrixrl.envs.hackmatrix.scenario import dump, load, state_hash
from tests.envs.hackmatrix.boards import ACTION, enemy
from tests.envs.hackmatrix.strategies import actions, cells, game_states

relaxed = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


def random_draws(seed: int = 0) -> RandomDraws:
    return RandomDraws(np.random.default_rng(seed))


def check_state(state: GameState) -> None:
    """What every state keeps."""
    player = state.player
    assert 0 <= player.hp <= 3
    assert min(player.credits, player.energy, player.data_siphons, player.score) >= 0
    assert player.attack_damage >= 1
    assert on_board(player.cell)
    assert all(item.hp >= 1 and item.disabled_turns >= 0 and on_board(item.cell) for item in state.enemies)
    places = [item.cell for item in state.transmissions]
    assert len(set(places)) == len(places)
    assert all(item.turns_left >= 1 for item in state.transmissions)
    assert state.exit in CORNERS
    assert state.exit not in state.blocks
    assert not state.data_siphons & (set(state.blocks) | {state.exit})
    assert all(block.spawn_count >= 0 for block in state.blocks.values())
    assert not [
        cell
        for cell in state.siphoned_cells
        if cell in state.blocks and state.blocks[cell].kind == "question"
    ]
    assert len(state.enemies) <= state.config.enemy_slots
    assert len(state.transmissions) <= state.config.transmission_slots
    assert len(state.history) <= state.config.undo_depth
    assert 1 <= state.stage <= 8
    assert state.episode.done == (state.episode.outcome is not None)
    seen = observe(state)
    assert np.isfinite(seen.flat).all()
    assert seen.flat.min() >= 0
    assert load(dump(state), state.config).state == state


@relaxed
@given(game_states(), actions, st.integers(0, 2**32 - 1))
def test_5_any_action_in_any_position(state: GameState, action: int, seed: int) -> None:
    before = state.copy()
    allowed = bool(legal_action_mask(state)[action])
    result = step(state, action, random_draws(seed))
    assert state == before
    check_state(result.state)
    assert result.invalid == (not allowed)
    assert result.reward == pytest.approx(sum(result.breakdown[key] for key in BREAKDOWN_KEYS))
    assert result.breakdown["siphonQuality"] <= 0
    assert result.state == step(state, action, random_draws(seed)).state
    if result.invalid:
        return
    name = ACTION_NAMES[action]
    uses_turn = name in ("up", "down", "left", "right", "siphon", "wait")
    phase = uses_turn and not result.stage_completed and not before.flags.step_active
    if phase:
        assert result.state.turn == before.turn + 1
        assert not any(item.stunned for item in result.state.enemies)
        assert result.state.history[-1].turn == result.state.turn
        assert result.state.schedule.pending_siphon_spawns == 0
    elif name != "undo" and not result.stage_completed:
        assert result.state.turn == before.turn
        assert result.state.history == before.history
    if not uses_turn and name not in ("undo", "reset") and not result.stage_completed:
        assert result.state.player.hp == before.player.hp


@relaxed
@given(game_states(sizes=Sizes(enemy_slots=5, transmission_slots=4, undo_depth=1), max_history=1), actions)
def test_22_small_sizes_are_never_exceeded(state: GameState, action: int) -> None:
    check_state(step(state, action, random_draws()).state)


@relaxed
@given(game_states())
def test_9_2_the_move_agrees_with_relaxation_sweeps(state: GameState) -> None:
    """The rule read with d(x) of every cell: the distance field by 36 sweeps instead of a search."""
    for mover in state.enemies[:6]:
        if abs(mover.row - state.player.row) + abs(mover.col - state.player.col) != 1:
            assert choose_move(state, mover) == move_by_relaxation(state, mover)


def move_by_relaxation(state, mover):
    start, target = mover.cell, state.player.cell
    others = [item for item in state.enemies if item is not mover]
    occupied = {item.cell for item in others} | {item.cell for item in state.transmissions}

    def step_along(blocked):
        far = 10_000
        d = np.full((BOARD_SIZE, BOARD_SIZE), far)
        if can_enter(state, mover, target):
            d[target] = 0
        for _ in range(36):
            for cell in CELLS:
                passable = can_enter(state, mover, cell) and cell not in blocked
                if cell == target or not (passable or cell == start):
                    continue
                near = [shifted(cell, change) for change in DIRECTIONS]
                d[cell] = min(d[cell], 1 + min(d[n] for n in near if on_board(n)))
        if d[start] >= far:
            return None
        for change in DIRECTIONS:
            n = shifted(start, change)
            if on_board(n) and d[n] == d[start] - 1:
                return n
        return None

    first = step_along(occupied)
    if first is None:
        first = step_along(set())
        if first in occupied:
            first = None
    if first is not None:
        return first
    best, best_distance = None, 99
    for change in DIRECTIONS:
        n = shifted(start, change)
        if not on_board(n) or not can_enter(state, mover, n) or n in occupied:
            continue
        distance = abs(n[0] - target[0]) + abs(n[1] - target[1])
        if distance < best_distance:
            best, best_distance = n, distance
    return best


@given(cells, cells)
def test_12_4_push_wish_is_the_clamped_step(at, player) -> None:
    dr, dc = sign(at[0] - player[0]), sign(at[1] - player[1])
    clamped = (min(5, max(0, at[0] + dr)), min(5, max(0, at[1] + dc)))
    expected = None if clamped == at and (dr, dc) != (0, 0) else clamped
    assert push_wish(enemy("virus", *at), player) == expected


@relaxed
@given(
    game_states(),
    st.lists(st.sampled_from(["push", "pull", "show", "delay", "reduc", "row", "col", "poly"]), max_size=4),
)
def test_13_undo_after_programs_is_undo(state: GameState, programs: list[str]) -> None:
    """Whatever was used since, UNDO gives the fields of the newest snapshot."""
    state.owned_programs = set(PROGRAM_NUMBER)
    state.player.credits = state.player.energy = 50
    if not state.history:
        return
    later, draws = state, random_draws()
    for name in programs:
        if legal_action_mask(later)[ACTION[name]]:
            later = step(later, ACTION[name], draws).state
    first, second = (step(item, ACTION["undo"], draws).state for item in (state, later))
    second.episode = first.episode
    assert first == second


@relaxed
@given(game_states())
def test_18_4_the_exit_distance_is_at_least_the_manhattan_distance_or_0(state: GameState) -> None:
    distance = exit_distance(state)
    straight = abs(state.player.row - state.exit[0]) + abs(state.player.col - state.exit[1])
    assert distance == 0 or distance >= straight
    assert distance % 2 == straight % 2 or distance == 0


def play_out(seed: int, *, boosted: bool, max_steps: int = 250) -> GameState:
    """A whole game of random legal actions, checked at each step."""
    rng = np.random.default_rng(seed)
    draws = RandomDraws(rng)
    state = new_game(draws)
    if boosted:
        state.owned_programs = set(PROGRAM_NUMBER)
        state.player.credits = state.player.energy = 80
        state.player.data_siphons = 4
    for _ in range(max_steps):
        mask = legal_action_mask(state)
        result = step(state, int(rng.choice(np.flatnonzero(mask))) if mask.any() else 0, draws)
        state = result.state
        check_state(state)
        if result.done:
            break
        if boosted:
            state.player.hp = 3
    return state


@pytest.mark.parametrize("seed", range(12))
def test_whole_games_keep_every_invariant(seed: int) -> None:
    assert play_out(seed, boosted=False).episode.done


@pytest.mark.parametrize("seed", range(4))
def test_whole_boosted_games_keep_every_invariant(seed: int) -> None:
    assert play_out(seed, boosted=True, max_steps=120).episode.steps > 20


def test_21_the_same_seed_gives_the_same_game() -> None:
    assert state_hash(play_out(3, boosted=True, max_steps=60)) == state_hash(
        play_out(3, boosted=True, max_steps=60)
    )
    assert state_hash(play_out(3, boosted=True, max_steps=60)) != state_hash(
        play_out(4, boosted=True, max_steps=60)
    )


@pytest.mark.slow
@pytest.mark.parametrize("boosted", [False, True])
def test_many_whole_games_keep_every_invariant(boosted: bool) -> None:
    stages = [play_out(1000 + seed, boosted=boosted).stage for seed in range(60)]
    assert max(stages) > 1
