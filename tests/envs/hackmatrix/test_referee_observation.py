"""Rule 19: what the player sees."""

from __future__ import annotations

import numpy as np
import pytest

from matrixrl.envs.hackmatrix.referee import PROGRAM_NUMBER, Flags, RandomDraws, Resource, new_game, observe
from tests.envs.hackmatrix.boards import data, enemy, game, program, question, rich, stunned, transmission


def features(state, cell):
    """The features of a cell that are not 0."""
    values = observe(state).grid[cell]
    return {int(i): pytest.approx(float(values[i])) for i in np.flatnonzero(values)}


def test_19_shapes_and_types() -> None:
    seen = observe(game())
    assert (seen.player.shape, seen.programs.shape, seen.grid.shape, seen.flat.shape) == (
        (10,),
        (23,),
        (6, 6, 42),
        (1545,),
    )
    assert seen.player.dtype == seen.grid.dtype == seen.flat.dtype == np.float32
    assert seen.programs.dtype == np.int32


def test_19_1_player_values() -> None:
    state = game(
        (4, 1), hp=2, credits=20, energy=75, siphons=12, attack=4, stage=5, score=99, turn=9,
        flags=Flags(show_activated=True),
    )  # fmt: skip
    assert observe(state).player == pytest.approx([0.8, 0.2, 2 / 3, 0.4, 1, 4 / 7, 1.2, 1.5, 1, 0])
    state.flags = Flags(scheduled_tasks_disabled=True, step_active=True)
    assert list(observe(state).player[8:]) == [0, 1]


def test_19_2_programs_by_number() -> None:
    seen = observe(game(own=["push", "wait", "hack"])).programs
    assert list(np.flatnonzero(seen)) == [0, 5, 22]
    assert seen.max() == 1


def test_19_3_enemy_features() -> None:
    state = game(
        (2, 2), enemies=[enemy("daemon", 4, 4, 2, stunned=True, from_siphon=True, from_schedule=True)]
    )
    assert features(state, (4, 4)) == {1: 1, 4: 2 / 3, 5: 1, 6: 1}
    for code, kind in enumerate(("virus", "daemon", "glitch", "cryptog")):
        assert code in features(game((2, 2), enemies=[enemy(kind, 2, 4)]), (2, 4))


def test_19_3_the_first_of_a_stack_is_shown() -> None:
    state = game((2, 2), enemies=[enemy("glitch", 4, 4, 1), enemy("daemon", 4, 4)])
    assert features(state, (4, 4)) == {2: 1, 4: 1 / 3}


def test_19_3_a_hidden_cryptog_hides_the_stack_behind_it() -> None:
    state = game((2, 2), enemies=[enemy("cryptog", 4, 4), enemy("daemon", 4, 4)])
    assert features(state, (4, 4)) == {}
    state.flags.show_activated = True
    assert features(state, (4, 4)) == {3: 1, 4: 2 / 3}


@pytest.mark.parametrize("cell", [(2, 5), (0, 2)])
def test_19_3_a_cryptog_in_line_is_seen(cell) -> None:
    assert features(game((2, 2), enemies=[enemy("cryptog", *cell)]), cell) == {3: 1, 4: 2 / 3}


def test_19_3_blocks() -> None:
    state = game(
        (2, 2),
        blocks={(4, 4): data(6, 3), (4, 3): program("crash"), (4, 2): question(data(5)), (4, 1): data(18, 0)},
        siphoned=[(4, 1), (0, 0)],
        resources={(4, 4): Resource(3), (4, 1): Resource(2, 1), (0, 0): Resource(0, 3), (4, 2): Resource(1)},
    )
    assert features(state, (4, 4)) == {7: 1, 10: 6 / 9, 35: 3 / 9}
    assert features(state, (4, 3)) == {8: 1, 12 + PROGRAM_NUMBER["crash"]: 1, 35: 6 / 9}
    assert features(state, (4, 2)) == {9: 1}
    assert features(state, (4, 1)) == {7: 1, 10: 2, 11: 1, 37: 2 / 3, 38: 1 / 3}
    assert features(state, (0, 0)) == {38: 1}  # a siphoned empty cell shows 0 in feature 11


def test_19_3_transmissions_pickups_exit_and_centers() -> None:
    state = game(
        (2, 2),
        exit=(0, 5),
        data_siphons=[(5, 5)],
        transmissions=[transmission(1, 1, turns_left=3), transmission(1, 3, turns_left=9)],
    )
    state.siphon_centers = {(3, 3)}
    assert features(state, (1, 1)) == {36: 0.75}
    assert features(state, (1, 3)) == {36: 1}
    assert features(state, (5, 5)) == {39: 1}
    assert features(state, (0, 5)) == {40: 1}
    assert features(state, (3, 3)) == {41: 1}


def test_19_3_a_transmission_and_an_enemy_on_one_cell_both_show() -> None:
    state = game((2, 2), enemies=[enemy("virus", 4, 4)], transmissions=[transmission(4, 4)])
    assert features(state, (4, 4)) == {0: 1, 4: 2 / 3, 36: 0.25}


def test_19_3_hidden_things_never_show() -> None:
    plain = rich((2, 2), blocks={(4, 4): question(data(5))}, transmissions=[transmission(1, 1, "virus")])
    other = rich(
        (2, 2),
        blocks={(4, 4): question(program("hack"))},
        transmissions=[transmission(1, 1, "daemon", from_siphon=True, from_schedule=True)],
        flags=Flags(step_active=True),
        score=44,
        turn=13,
    )
    other.schedule.interval = 4
    assert np.array_equal(observe(plain).flat, observe(other).flat)
    disabled = game(enemies=[enemy("virus", 4, 4, disabled_turns=3, from_schedule=True)])
    assert np.array_equal(observe(disabled).flat, observe(game(enemies=[enemy("virus", 4, 4)])).flat)


def test_19_3_a_new_game_is_within_0_and_1() -> None:
    draws = RandomDraws(np.random.default_rng(0))
    for _ in range(50):
        flat = observe(new_game(draws)).flat
        assert flat.min() >= 0
        assert flat.max() <= 1


def test_19_4_the_flat_form() -> None:
    state = rich((2, 2), enemies=[stunned("daemon", 3, 4)], blocks={(5, 1): program("row")})
    seen = observe(state)
    assert np.array_equal(seen.flat[:10], seen.player)
    assert np.array_equal(seen.flat[10:33], seen.programs)
    for row, col, feature in [(3, 4, 1), (3, 4, 5), (5, 1, 12 + 7), (5, 5, 40)]:
        assert seen.flat[33 + (row * 6 + col) * 42 + feature] == seen.grid[row, col, feature] == 1
