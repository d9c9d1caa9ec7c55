"""Rules 1 to 7 and 20: the board, the player, actions, attack, move, siphon, mask."""

from __future__ import annotations

import numpy as np
import pytest

from matrixrl.envs.hackmatrix.referee import (
    ACTION_NAMES,
    BREAKDOWN_KEYS,
    Flags,
    Resource,
    Schedule,
    legal_action_mask,
    step,
)
from matrixrl.envs.hackmatrix.referee.state import neighbours, siphon_cross, surrounding
from tests.envs.hackmatrix.boards import (
    ACTION,
    ALL_PROGRAMS,
    ScriptedDraws,
    data,
    enemy,
    game,
    legal,
    places,
    play,
    program,
    question,
    rich,
    stunned,
    transmission,
)

# 1 to 4


def test_1_neighbours_come_up_down_left_right_and_row_0_is_the_bottom() -> None:
    assert neighbours((2, 3)) == [(3, 3), (1, 3), (2, 2), (2, 4)]
    assert neighbours((0, 0)) == [(1, 0), (0, 1)]
    assert play(game((2, 2)), "up").state.player.cell == (3, 2)
    assert play(game((2, 2)), "down").state.player.cell == (1, 2)
    assert play(game((2, 2)), "left").state.player.cell == (2, 1)
    assert play(game((2, 2)), "right").state.player.cell == (2, 3)


def test_1_surrounding_cells_include_diagonals_and_end_at_the_edge() -> None:
    assert set(surrounding((0, 0))) == {(0, 1), (1, 0), (1, 1)}
    assert len(surrounding((3, 3))) == 8


def test_4_actions_are_four_directions_siphon_and_23_programs() -> None:
    assert ACTION_NAMES[:6] == ("up", "down", "left", "right", "siphon", "push")
    assert ACTION_NAMES[27] == "hack"
    assert len(ACTION_NAMES) == 28


@pytest.mark.parametrize("name", ALL_PROGRAMS)
def test_4_only_wait_among_the_programs_uses_up_the_turn(name: str) -> None:
    state = rich(
        hp=2,
        blocks={(3, 3): data(4)},
        enemies=[stunned("daemon", 3, 3), stunned("virus", 2, 5), stunned("virus", 5, 2)],
        transmissions=[transmission(0, 0, turns_left=9)],
        siphoned=[(4, 4)],
    )
    state = play(state, "wait").state  # the history is not empty then
    state.player.hp = 2
    turn = state.turn
    after = play(state, name).state
    assert after.turn == (turn + 1 if name == "wait" else turn)


# 5


def test_5_an_invalid_action_changes_nothing_pays_nothing_and_ends_the_episode() -> None:
    state = game((0, 0), credits=3, enemies=[enemy("virus", 5, 5)])
    result = play(state, "down")
    assert (result.reward, result.done, result.outcome, result.invalid) == (0.0, True, "invalid_action", True)
    assert result.breakdown == dict.fromkeys(BREAKDOWN_KEYS, 0.0)
    after = result.state
    after.episode = state.episode
    assert after == state


def test_5_the_given_state_is_left_as_it_was() -> None:
    state = rich(
        siphons=1,
        blocks={(3, 2): data(3)},
        resources={(2, 3): Resource(2, 0)},
        enemies=[enemy("virus", 5, 5)],
    )
    before = state.copy()
    play(state, "siphon", "push", "wait", "undo", "undo")
    assert state == before


def test_5_a_finished_game_is_not_stepped_on() -> None:
    over = play(game((0, 0)), "down").state
    with pytest.raises(ValueError, match="the game is over"):
        play(over, "up")


@pytest.mark.parametrize("action", [-1, 28, 1000])
def test_5_an_action_outside_the_28_is_an_error(action: int) -> None:
    with pytest.raises(ValueError, match=r"0\.\.27"):
        step(game(), action, ScriptedDraws())


def test_5_standing_on_the_exit_and_acting_does_not_finish_the_stage() -> None:
    state = game((5, 5), siphons=1, own=["wait"], energy=1, enemies=[stunned("daemon", 5, 3)])
    for action in ("siphon", "wait", "left"):  # left attacks
        assert not play(state, action).stage_completed


def test_5_the_stage_end_is_not_followed_by_an_enemy_phase() -> None:
    result = play(game((5, 4), enemies=[enemy("daemon", 4, 5)], flags=Flags(step_active=True)), "right")
    assert result.stage_completed
    assert result.state.turn == 0
    assert result.state.player.hp == 3
    assert result.state.history == []


def test_5_steps_and_return_of_the_episode_are_counted() -> None:
    state = game((2, 2), resources={(2, 2): Resource(credits=2)}, siphons=1)
    result = play(state, "siphon")
    assert result.state.episode.steps == 1
    assert result.state.episode.return_ == pytest.approx(0.1)
    after = play(result.state, "up").state.episode
    assert after.steps == 2
    assert after.return_ == pytest.approx(0.1 + 0.05)


# 6


def test_6_1_range_is_unlimited_and_the_player_stays() -> None:
    after = play(game((0, 2), enemies=[stunned("daemon", 5, 2)]), "up").state
    assert after.enemies[0].hp == 2
    assert after.player.cell == (0, 2)


def test_6_1_a_transmission_is_hit_before_an_enemy_on_the_same_cell() -> None:
    state = game((0, 2), enemies=[stunned("daemon", 3, 2)], transmissions=[transmission(3, 2, turns_left=4)])
    after = play(state, "up").state
    assert after.transmissions == []
    assert after.enemies[0].hp == 3


def test_6_1_the_nearer_thing_is_hit() -> None:
    state = game((0, 2), enemies=[stunned("daemon", 4, 2)], transmissions=[transmission(2, 2, turns_left=4)])
    assert play(state, "up").state.transmissions == []


def test_6_1_an_enemy_on_a_block_is_a_target_and_a_bare_block_cuts_the_line() -> None:
    on_block = game((0, 2), blocks={(2, 2): data(3)}, enemies=[stunned("glitch", 2, 2)])
    assert play(on_block, "up").state.enemies[0].hp == 1
    behind = game((0, 2), blocks={(2, 2): data(3)}, enemies=[stunned("daemon", 3, 2)])
    result = play(behind, "up")
    assert result.state.player.cell == (1, 2)
    assert result.state.enemies[0].hp == 3


def test_6_1_of_stacked_enemies_the_first_in_list_order_is_the_target() -> None:
    state = game((0, 2), enemies=[stunned("glitch", 2, 2), stunned("daemon", 2, 2)])
    after = play(state, "up").state
    assert [item.hp for item in after.enemies] == [1, 3]


def test_6_1_pickups_exit_and_resources_do_not_stop_the_scan() -> None:
    state = game(
        (0, 0),
        exit=(5, 0),
        data_siphons=[(2, 0)],
        resources={(1, 0): Resource(1)},
        enemies=[stunned("daemon", 5, 0)],
    )
    assert play(state, "up").state.enemies[0].hp == 2


def test_6_1_a_hidden_cryptog_and_the_players_own_cell() -> None:
    state = game((2, 2), enemies=[stunned("daemon", 2, 2), stunned("cryptog", 2, 5)])
    after = play(state, "right").state
    assert [item.hp for item in after.enemies] == [3, 1]


def test_6_1_a_transmission_on_a_distant_block_is_a_target() -> None:
    state = game((0, 2), blocks={(2, 2): data(3)}, transmissions=[transmission(2, 2, turns_left=5)])
    assert play(state, "up").state.transmissions == []


def test_6_2_an_attack_takes_attack_damage_and_stuns_the_survivor() -> None:
    after = play(game((2, 2), attack=2, enemies=[enemy("daemon", 2, 4)]), "right").state
    assert after.enemies[0].hp == 1
    assert places(after) == [(2, 4)]  # stunned: it did not act
    assert not after.enemies[0].stunned  # cleared at the end of the phase
    assert after.turn == 1


def test_6_2_an_enemy_at_0_is_removed() -> None:
    result = play(game((2, 2), attack=9, enemies=[enemy("daemon", 2, 4)]), "right")
    assert result.state.enemies == []
    assert result.kills == 1


def test_6_2_a_transmission_is_destroyed_whatever_its_countdown() -> None:
    result = play(game((2, 2), transmissions=[transmission(2, 5, turns_left=40)]), "right")
    assert result.state.transmissions == []
    assert result.kills == 1


def test_6_3_siphoned_blocks_stop_the_player_too() -> None:
    state = game((2, 2), blocks={(3, 2): data(3, 0)}, siphoned=[(3, 2)])
    assert play(state, "up").invalid


def test_6_3_walking_onto_a_data_siphon_takes_it() -> None:
    result = play(game((2, 2), data_siphons=[(3, 2)]), "up")
    assert result.state.player.data_siphons == 1
    assert result.state.data_siphons == set()
    assert result.data_siphon_collected


def test_6_3_walking_leaves_credits_and_energy_where_they_are() -> None:
    after = play(game((2, 2), resources={(3, 2): Resource(2, 3)}), "up").state
    assert (after.player.credits, after.player.energy) == (0, 0)
    assert after.resources == {(3, 2): Resource(2, 3)}


def test_6_3_attacking_towards_the_exit_does_not_move_onto_it() -> None:
    result = play(game((5, 4), enemies=[stunned("daemon", 5, 5)]), "right")
    assert not result.stage_completed
    assert result.state.player.cell == (5, 4)


# 7


def test_7_1_a_siphon_needs_one_data_siphon_and_nothing_else() -> None:
    assert "siphon" in legal(game(siphons=1))
    assert "siphon" not in legal(game())


def test_7_2_all_cells_of_the_cross_are_processed() -> None:
    state = game(
        (2, 2),
        siphons=2,
        blocks={(3, 2): data(4), (1, 2): program("row"), (2, 1): question(data(5)), (3, 3): data(9)},
        resources={
            (2, 2): Resource(credits=1),
            (2, 3): Resource(energy=2),
            (3, 2): Resource(credits=3),
            (0, 0): Resource(1),
        },
    )
    after = play(state, "siphon").state
    assert after.player.score == 9
    assert after.owned_programs == {"row"}
    assert (after.player.credits, after.player.energy) == (1, 2)  # not what lies under the block
    assert after.resources == {(3, 2): Resource(credits=3), (0, 0): Resource(1)}
    assert after.siphoned_cells == set(siphon_cross((2, 2)))
    assert after.siphon_centers == {(2, 2)}
    assert after.player.data_siphons == 1
    assert after.blocks == {
        (3, 2): data(4, 0),
        (1, 2): program("row", 0),
        (2, 1): data(5, 0),
        (3, 3): data(9),
    }
    assert len(after.transmissions) == 4 + 2 + 5
    assert after.schedule.pending_siphon_spawns == 0


def test_7_2_siphoned_cells_are_skipped_entirely() -> None:
    state = game(
        siphons=1,
        blocks={(3, 2): data(4, 7)},
        siphoned=[(3, 2), (2, 3)],
        resources={(2, 3): Resource(credits=3)},
    )
    after = play(state, "siphon").state
    assert after.player.score == 0
    assert after.player.credits == 0
    assert after.transmissions == []


def test_7_2_an_owned_program_still_calls_its_spawns() -> None:
    after = play(game(siphons=1, own=["row"], blocks={(3, 2): program("row")}), "siphon").state
    assert len(after.transmissions) == 2
    assert after.owned_programs == {"row"}


def test_7_2_a_question_block_with_a_program_becomes_that_program_block() -> None:
    after = play(game(siphons=1, blocks={(3, 2): question(program("crash"))}), "siphon").state
    assert after.blocks == {(3, 2): program("crash", 0)}
    assert after.owned_programs == {"crash"}


def test_7_2_a_pickup_in_the_cross_is_not_taken_but_its_resource_is() -> None:
    after = play(game(siphons=1, data_siphons=[(3, 2)], resources={(3, 2): Resource(0, 3)}), "siphon").state
    assert after.data_siphons == {(3, 2)}
    assert after.player.data_siphons == 0
    assert after.player.energy == 3


def test_7_2_things_on_the_cell_do_not_matter() -> None:
    state = game(
        siphons=1,
        resources={(3, 2): Resource(2, 0), (1, 2): Resource(1, 0)},
        enemies=[stunned("daemon", 3, 2)],
        transmissions=[transmission(1, 2, turns_left=5)],
    )
    assert play(state, "siphon").state.player.credits == 3


def test_7_2_a_siphon_on_a_block_processes_that_block() -> None:
    after = play(game(siphons=1, blocks={(2, 2): data(6)}), "siphon").state
    assert after.player.score == 6
    assert after.siphoned_cells >= {(2, 2)}


@pytest.mark.parametrize(("before", "after"), [(12, 11), (5, 4), (4, 4), (2, 4)])
def test_7_2_the_interval_shrinks_to_4_at_least_and_the_next_task_is_put_off(before: int, after: int) -> None:
    schedule = play(game(siphons=1, schedule=Schedule(before, 9)), "siphon").state.schedule
    assert (schedule.interval, schedule.next_turn) == (after, 14)


def test_7_2_resources_under_a_siphoned_block_are_lost_for_good() -> None:
    state = rich((2, 2), siphons=2, blocks={(3, 2): data(0)}, resources={(3, 2): Resource(credits=3)})
    after = play(state, "siphon", "crash", "siphon").state
    assert after.resources == {(3, 2): Resource(credits=3)}


# 20


def test_20_directions_look_at_the_neighbour_cell_only() -> None:
    state = game(
        (0, 2),
        blocks={(1, 2): data(1), (0, 1): data(1)},
        enemies=[enemy("glitch", 0, 1), enemy("daemon", 2, 2)],
    )
    assert legal(state) == {"left", "right"}


def test_20_a_transmission_on_a_neighbouring_block_does_not_make_the_direction_legal() -> None:
    state = game((2, 2), blocks={(3, 2): data(1)}, transmissions=[transmission(3, 2)])
    assert "up" not in legal(state)
    assert play(state, "up").invalid


def test_20_the_mask_can_be_all_false() -> None:
    walls = {cell: data(1) for cell in siphon_cross((2, 2))}
    assert not legal_action_mask(game((2, 2), blocks=walls)).any()


def test_20_the_mask_is_28_booleans_and_agrees_with_step() -> None:
    state = rich(
        (0, 0), siphons=0, enemies=[enemy("daemon", 0, 3)], transmissions=[transmission(3, 3, turns_left=2)]
    )
    mask = legal_action_mask(state)
    assert mask.shape == (28,)
    assert mask.dtype == np.bool_
    for action in range(28):
        assert step(state, action, ScriptedDraws()).invalid == (not mask[action])


def test_20_a_bare_start_leaves_directions_only() -> None:
    assert legal(game((0, 0))) == {"up", "right"}
    assert ACTION["up"] == 0
