"""Rules 3.3 to 3.5 and 8 to 11: the enemy phase."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from matrixrl.envs.hackmatrix.referee import Flags, RandomDraws, Resource, Schedule, Sizes
from matrixrl.envs.hackmatrix.referee.enemies import choose_move, in_line_of_fire, spawn
from matrixrl.envs.hackmatrix.referee.state import CELLS
from tests.envs.hackmatrix.boards import (
    ScriptedDraws,
    data,
    enemy,
    game,
    places,
    play,
    program,
    rich,
    stunned,
    transmission,
)


def wait(state, draws=None):
    """Let the enemy phase run and nothing else happen."""
    state = state.copy()
    state.owned_programs.add("wait")
    state.player.energy += 1
    return play(state, "wait", draws=draws).state


# 8


def test_8_the_phase_counts_the_turn_ticks_and_pushes_one_snapshot() -> None:
    after = wait(game(turn=6, transmissions=[transmission(5, 0, turns_left=3)]))
    assert after.turn == 7
    assert after.transmissions[0].turns_left == 2
    assert len(after.history) == 1


def test_8_step_0_skips_the_whole_phase() -> None:
    state = game(
        flags=Flags(step_active=True),
        schedule=Schedule(4, 0),
        transmissions=[transmission(5, 0)],
        enemies=[stunned("daemon", 2, 3), enemy("virus", 3, 2, disabled_turns=2)],
    )
    state.schedule.pending_siphon_spawns = 3
    after = wait(state)
    assert not after.flags.step_active
    assert after.turn == 0
    assert after.transmissions == state.transmissions
    assert after.enemies == state.enemies
    assert after.schedule == state.schedule
    assert after.history == []


def test_8_a_siphon_skipped_by_step_spawns_in_the_next_phase_that_runs() -> None:
    after = play(game(siphons=1, blocks={(3, 2): data(3)}, flags=Flags(step_active=True)), "siphon").state
    assert after.schedule.pending_siphon_spawns == 3
    assert after.transmissions == []
    after = wait(after)
    assert after.schedule.pending_siphon_spawns == 0
    assert len(after.transmissions) == 3


def test_8_the_scheduled_task_comes_before_the_siphon_spawns() -> None:
    draws = ScriptedDraws()
    state = game(siphons=1, blocks={(3, 2): data(2)}, schedule=Schedule(4, -9))
    after = play(state, "siphon", draws=draws).state
    assert [caller for caller, _ in draws.spawn_choices] == ["schedule", "siphon", "siphon"]
    assert [item.from_schedule for item in after.transmissions] == [True, False, False]
    assert [item.from_siphon for item in after.transmissions] == [False, True, True]


def test_8_disabled_and_stunned_are_cleared_at_the_end_only() -> None:
    after = wait(game(enemies=[stunned("daemon", 2, 3), enemy("daemon", 3, 2, disabled_turns=2)]))
    assert after.player.hp == 3
    assert [item.stunned for item in after.enemies] == [False, False]
    assert [item.disabled_turns for item in after.enemies] == [0, 1]


def test_8_the_phase_runs_to_its_end_when_the_player_dies() -> None:
    state = game(hp=1, schedule=Schedule(4, 1), enemies=[enemy("daemon", 2, 3), enemy("daemon", 5, 5)])
    after = wait(state)
    assert after.player.hp == 0
    assert places(after) == [(2, 3), (4, 5)]  # the second one still acted
    assert len(after.transmissions) == 1
    assert len(after.history) == 1


# 9.1


def test_9_1_every_enemy_type_takes_one_hp() -> None:
    for kind in ("virus", "daemon", "glitch", "cryptog"):
        assert wait(game(enemies=[enemy(kind, 2, 3)])).player.hp == 2


def test_9_1_a_diagonal_enemy_moves_and_does_not_attack() -> None:
    after = wait(game((2, 2), enemies=[enemy("daemon", 3, 3)]))
    assert after.player.hp == 3
    assert places(after) == [(2, 3)]  # down comes before left


def test_9_1_a_virus_moves_in_round_1_and_attacks_in_round_2() -> None:
    after = wait(game((2, 2), enemies=[enemy("virus", 2, 4)]))
    assert places(after) == [(2, 3)]
    assert after.player.hp == 2


def test_9_1_a_virus_that_attacked_does_nothing_in_round_2() -> None:
    assert wait(game((2, 2), enemies=[enemy("virus", 2, 3)])).player.hp == 2


def test_9_1_a_virus_moves_twice_and_others_once() -> None:
    after = wait(game((0, 0), enemies=[enemy("virus", 5, 5), enemy("daemon", 5, 0)]))
    assert places(after) == [(3, 5), (4, 0)]


def test_9_1_the_player_never_falls_below_0_hp() -> None:
    ring = [enemy("daemon", *cell) for cell in ((3, 2), (1, 2), (2, 1), (2, 3))]
    assert wait(game((2, 2), hp=2, enemies=ring)).player.hp == 0


def test_9_1_stacked_enemies_all_attack() -> None:
    assert wait(game((2, 2), enemies=[enemy("daemon", 2, 3), enemy("glitch", 2, 3)])).player.hp == 1


def test_9_1_enemies_act_in_the_drawn_order_and_see_earlier_moves() -> None:
    # Both want (0, 2): who acts first gets it, and the other walks around.
    state = game((0, 0), enemies=[enemy("daemon", 0, 3), enemy("daemon", 1, 2)])
    first = wait(state, ScriptedDraws(orders={1: [0, 1]}))
    second = wait(state, ScriptedDraws(orders={1: [1, 0]}))
    assert places(first) == [(0, 2), (1, 1)]
    assert places(second) == [(1, 3), (0, 2)]


def test_9_1_a_permutation_of_all_enemies_is_drawn_in_each_round() -> None:
    draws = ScriptedDraws()
    wait(game(enemies=[stunned("daemon", 5, 5), enemy("glitch", 5, 0)]), draws)
    assert draws.permutations == [(1, 2), (2, 2)]


def test_8_enemies_that_arrive_are_part_of_the_permutation() -> None:
    draws = ScriptedDraws()
    wait(game(enemies=[stunned("daemon", 5, 5)], transmissions=[transmission(0, 5)]), draws)
    assert draws.permutations == [(1, 2), (2, 2)]


def test_9_1_a_wrong_permutation_is_refused() -> None:
    with pytest.raises(ValueError, match="permutation"):
        wait(game(enemies=[enemy("daemon", 5, 5)]), ScriptedDraws(orders={1: [1]}))


# 9.2


def move(state, index=0):
    return choose_move(state, state.enemies[index])


def test_9_2_ties_go_up_before_down_before_left_before_right() -> None:
    for start, expected in {
        (0, 0): (1, 0),
        (4, 4): (3, 4),
        (4, 0): (3, 0),
        (0, 4): (1, 4),
        (2, 5): (2, 4),
    }.items():
        assert move(game((2, 2), enemies=[enemy("daemon", *start)])) == expected


def test_9_2_a_walls_are_walked_around() -> None:
    walls = {(1, 3): data(1), (2, 3): data(1), (3, 3): data(1), (0, 3): data(1)}
    assert move(game((2, 2), blocks=walls, enemies=[enemy("daemon", 2, 4)])) == (3, 4)


def test_9_2_a_a_glitch_walks_on_blocks_others_may_only_leave_them() -> None:
    walls = {(2, 3): data(1), (2, 4): data(1)}
    assert move(game((2, 2), blocks=walls, enemies=[enemy("glitch", 2, 4)])) == (2, 3)
    assert move(game((2, 2), blocks=walls, enemies=[enemy("daemon", 2, 4)])) == (3, 4)


def test_9_2_a_other_enemies_are_walked_around_if_there_is_a_way() -> None:
    state = game((2, 2), enemies=[enemy("daemon", 2, 4), stunned("daemon", 2, 3)])
    assert move(state) == (3, 4)


def test_9_2_a_transmissions_are_occupied_too() -> None:
    state = game((2, 2), enemies=[enemy("daemon", 2, 4)], transmissions=[transmission(2, 3, turns_left=5)])
    assert move(state) == (3, 4)


def test_9_2_a_an_enemy_that_shares_its_cell_still_finds_its_path() -> None:
    state = game(
        (2, 2), enemies=[enemy("daemon", 2, 5), enemy("daemon", 2, 5)], transmissions=[transmission(2, 5)]
    )
    assert move(state) == (2, 4)


def corridor(extra):
    """The player at the end of a corridor in row 0, with an enemy in it that blocks the way."""
    walls = {(1, col): data(1) for col in range(4)}
    return game((0, 0), blocks=walls, enemies=[enemy("daemon", 0, 4), stunned("daemon", 0, 1), *extra])


def test_9_2_b_without_a_free_path_the_path_through_others_gives_the_step() -> None:
    assert move(corridor([])) == (0, 3)


def test_9_2_c_greedy_step_may_lead_away() -> None:
    state = corridor([])
    state.enemies[0].cell = (0, 2)
    assert move(state) == (0, 3)  # (0, 1) is occupied, (1, 2) is a block


def test_9_2_b_one_single_first_step_even_if_an_equal_one_is_free() -> None:
    # The only way into the corner is (1, 0), which is taken: (a) finds nothing. Ignoring others, up and left of (1, 3)
    # are both 5 from the player; up is first and taken, so (b) gives nothing, although left is free. Greedily down and
    # left are both at Manhattan distance 3, and down is first.
    walls = {(0, 2): data(1), (1, 1): data(1)}
    state = game(
        (0, 0),
        blocks=walls,
        enemies=[enemy("daemon", 1, 3), stunned("daemon", 1, 0), stunned("daemon", 2, 3)],
    )
    assert move(state) == (0, 3)


def test_9_2_c_ties_go_to_the_earlier_direction() -> None:
    # An enemy on the player's own cell: all neighbours are at distance 1.
    state = game((2, 2), enemies=[enemy("daemon", 2, 2)])
    assert move(state) == (3, 2)
    state.transmissions = [transmission(3, 2, turns_left=5)]
    assert move(state) == (1, 2)


def test_9_2_an_enemy_on_the_players_cell_does_not_attack_and_leaves() -> None:
    after = wait(game((2, 2), enemies=[enemy("daemon", 2, 2)]))
    assert after.player.hp == 3
    assert places(after) == [(3, 2)]


def test_9_2_a_walled_in_enemy_stays() -> None:
    walls = {(1, 0): data(1), (0, 1): data(1)}
    assert move(game((5, 5), exit=(5, 0), blocks=walls, enemies=[enemy("daemon", 0, 0)])) is None


def test_9_2_only_a_glitch_can_reach_a_player_on_a_block() -> None:
    # The daemon has no path and steps greedily, up before down; the glitch walks over the block.
    state = game(
        (2, 2),
        blocks={(2, 2): data(1), (2, 4): data(1)},
        enemies=[enemy("daemon", 2, 5), enemy("glitch", 2, 5)],
    )
    assert move(state, 0) == (3, 5)
    assert move(state, 1) == (2, 4)


def test_9_2_without_a_way_onto_the_players_block_the_greedy_step_may_be_a_dead_end() -> None:
    # A way to the cell next to the player leads over (3, 5), but no path ends on the block: the pocket (2, 4) is nearer.
    walls = {cell: data(1) for cell in ((2, 2), (2, 3), (3, 4), (1, 4))}
    assert move(game((2, 2), blocks=walls, enemies=[enemy("daemon", 2, 5)])) == (2, 4)
    del walls[(2, 2)]
    assert move(game((2, 2), blocks=walls, enemies=[enemy("daemon", 2, 5)])) == (3, 5)


def test_9_2_a_daemon_next_to_a_player_on_a_block_attacks() -> None:
    assert wait(game((2, 2), blocks={(2, 2): data(1)}, enemies=[enemy("daemon", 2, 3)])).player.hp == 2


def test_9_2_cryptogs_do_not_favour_hiding_nor_glitches_blocks() -> None:
    blocks = {(4, 3): data(1)}
    for kind in ("glitch", "cryptog"):
        assert move(game((2, 2), blocks=blocks, enemies=[enemy(kind, 4, 4)])) == (3, 4)


# 3.3 to 3.5


def test_3_3_enemies_pick_nothing_up() -> None:
    state = game(
        (2, 2), data_siphons=[(2, 4)], resources={(2, 4): Resource(3)}, enemies=[enemy("daemon", 2, 5)]
    )
    after = wait(state)
    assert places(after) == [(2, 4)]
    assert after.data_siphons == {(2, 4)}
    assert after.resources == {(2, 4): Resource(3)}


def test_3_5_a_cryptog_is_remembered_where_it_was_last_in_line() -> None:
    hidden = wait(game((2, 2), enemies=[enemy("cryptog", 5, 5, last_known=(0, 5))]))
    assert hidden.enemies[0].last_known == (0, 5)
    seen = wait(game((2, 2), enemies=[enemy("cryptog", 3, 4, last_known=(0, 5))]))
    assert places(seen) == [(2, 4)]
    assert seen.enemies[0].last_known == (2, 4)


def test_3_5_an_arriving_cryptog_is_known_where_it_arrives() -> None:
    after = wait(game(transmissions=[transmission(5, 0, "cryptog"), transmission(0, 5, "virus")]))
    assert [item.last_known for item in after.enemies] == [(5, 0), None]


# 10.1


def test_10_1_a_due_transmission_becomes_an_enemy_that_acts_in_the_next_phase() -> None:
    state = game(
        (2, 2),
        transmissions=[transmission(2, 3, "daemon", 1, from_siphon=True), transmission(5, 0, turns_left=2)],
    )
    after = wait(state)
    assert after.player.hp == 3
    assert len(after.transmissions) == 1
    (arrived,) = after.enemies
    assert (arrived.type, arrived.cell, arrived.hp, arrived.disabled_turns) == ("daemon", (2, 3), 3, 0)
    assert arrived.from_siphon
    assert not arrived.from_schedule
    assert wait(after).player.hp == 2


def test_10_1_arrivals_join_the_end_of_the_list_in_order() -> None:
    state = game(
        enemies=[stunned("daemon", 5, 5)],
        transmissions=[
            transmission(0, 0, "glitch"),
            transmission(5, 0, "cryptog", 2),
            transmission(0, 5, "virus"),
        ],
    )
    after = wait(state)
    assert [item.type for item in after.enemies] == ["daemon", "glitch", "virus"]


def test_10_1_a_transmission_may_mature_under_another_enemy() -> None:
    due = transmission(5, 5, "glitch", from_schedule=True)
    after = wait(game((2, 2), enemies=[stunned("daemon", 5, 5)], transmissions=[due]))
    assert places(after) == [(5, 5), (5, 5)]
    assert [item.from_schedule for item in after.enemies] == [False, True]


# 10.2


def test_10_2_free_cells_out_of_the_line_of_fire_are_preferred() -> None:
    draws = ScriptedDraws()
    state = game(
        (2, 2),
        schedule=Schedule(4, 1),
        blocks={(2, 3): data(1)},
        enemies=[stunned("daemon", 4, 2)],
        transmissions=[transmission(2, 1, turns_left=9), transmission(0, 0, turns_left=9)],
        data_siphons=[(0, 5)],
        siphoned=[(1, 1)],
    )
    wait(state, draws)
    ((caller, choices),) = draws.spawn_choices
    assert caller == "schedule"
    # screened by the block and the enemy; not screened by the transmission at (2, 1)
    assert {(2, 4), (2, 5), (5, 2), (0, 5), (5, 5), (1, 1)} <= set(choices)
    excluded = {(2, 2), (2, 3), (4, 2), (2, 1), (0, 0), (2, 0), (3, 2), (1, 2), (0, 2)}
    assert not excluded & set(choices)
    assert len(choices) == 36 - len(excluded)
    assert list(choices) == sorted(choices)


def test_10_2_line_of_fire_sees_neighbours() -> None:
    assert in_line_of_fire(game((2, 2)), (3, 2))
    assert not in_line_of_fire(game((2, 2)), (3, 3))


def full_board_but(*free):
    """Blocks everywhere but the player and the cells given."""
    return {cell: data(1) for cell in CELLS if cell not in {(2, 2), (5, 5), *free}}


def test_10_2_with_nothing_else_free_a_cell_in_the_line_of_fire_is_taken() -> None:
    state = game(
        (2, 2), blocks=full_board_but((3, 2)), enemies=[stunned("daemon", 5, 5)], schedule=Schedule(4, 1)
    )
    assert [item.cell for item in wait(state).transmissions] == [(3, 2)]


def test_10_2_with_no_room_the_spawn_is_dropped_and_the_schedule_moves_on() -> None:
    state = game((2, 2), blocks=full_board_but(), enemies=[stunned("daemon", 5, 5)], schedule=Schedule(4, 1))
    after = wait(state)
    assert after.transmissions == []
    assert after.schedule.next_turn == 5


def test_10_2_more_spawns_than_free_cells_are_lost() -> None:
    free = ((0, 0), (0, 1), (1, 2))
    state = game((2, 2), siphons=1, blocks=full_board_but(*free), enemies=[stunned("daemon", 5, 5)])
    state.blocks[(3, 2)] = data(30)
    after = play(state, "siphon").state
    assert {item.cell for item in after.transmissions} == set(free)
    assert all(item.from_siphon and item.turns_left == 1 for item in after.transmissions)


def test_10_2_a_siphon_may_call_more_than_nine() -> None:
    blocks = {(3, 2): program("atk_plus"), (1, 2): program("siph_plus"), (2, 1): data(9)}
    assert len(play(game(siphons=1, blocks=blocks), "siphon").state.transmissions) == 24


def test_10_2_a_spawned_transmission_is_not_ticked_in_its_own_phase() -> None:
    after = wait(game(schedule=Schedule(4, 1)))
    assert [item.turns_left for item in after.transmissions] == [1]
    after = wait(after)
    assert len(after.enemies) == 1


def test_10_2_spawn_cells_and_types_are_uniform() -> None:
    draws = RandomDraws(np.random.default_rng(5))
    blocks = {cell: data(1) for cell in CELLS if cell not in {(2, 2), (0, 0), (0, 1), (5, 4), (4, 4)}}
    cells, types = Counter(), Counter()
    for _ in range(2000):
        state = game((2, 2), blocks=blocks)
        spawn(state, draws, "schedule", 1)
        cells[state.transmissions[0].cell] += 1
        types[state.transmissions[0].enemy_type] += 1
    assert len(cells) == 4
    assert len(types) == 4
    # 500 expected, standard deviation 19.4
    assert all(abs(count - 500) < 100 for count in [*cells.values(), *types.values()])


# 11


@pytest.mark.parametrize(("turn", "spawned"), [(10, 0), (11, 1), (40, 1)])
def test_11_a_task_runs_when_its_turn_has_come(turn: int, spawned: int) -> None:
    after = wait(game(turn=turn, schedule=Schedule(7, 12)))
    assert len(after.transmissions) == spawned
    assert after.schedule.next_turn == (turn + 1 + 7 if spawned else 12)
    assert all(item.from_schedule and not item.from_siphon for item in after.transmissions)


def test_11_calm_and_an_interval_of_0_keep_tasks_from_running() -> None:
    calm = wait(game(turn=40, schedule=Schedule(7, 12), flags=Flags(scheduled_tasks_disabled=True)))
    assert calm.transmissions == []
    assert calm.schedule.next_turn == 12
    assert wait(game(turn=40, schedule=Schedule(0, 12))).transmissions == []


# 22


def test_22_without_an_enemy_slot_the_arrival_is_lost() -> None:
    state = game(
        enemies=[stunned("daemon", 5, 5)],
        transmissions=[transmission(0, 0, "glitch"), transmission(0, 5, "virus")],
        sizes=Sizes(enemy_slots=2),
    )
    after = wait(state)
    assert [item.type for item in after.enemies] == ["daemon", "glitch"]
    assert after.transmissions == []


def test_22_without_a_transmission_slot_further_spawns_are_lost() -> None:
    state = game(siphons=1, blocks={(3, 2): data(9)}, sizes=Sizes(transmission_slots=4))
    assert len(play(state, "siphon").state.transmissions) == 4


def test_21_random_play_with_one_seed_is_the_same_twice() -> None:
    def run() -> list:
        state = rich(enemies=[enemy("virus", 5, 0), enemy("glitch", 0, 5)], schedule=Schedule(2, 1))
        draws = RandomDraws(np.random.default_rng(3))
        return [play(state, "wait", "poly", "wait", "warp", "wait", draws=draws).state]

    assert run() == run()
