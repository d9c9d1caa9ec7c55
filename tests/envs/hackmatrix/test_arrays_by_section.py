"""Cases worked by hand from the rule book, named after its sections, on the arrays themselves."""

from __future__ import annotations

from typing import Any

import pytest

from matrixrl.envs.hackmatrix.referee import ACTION_NAMES, GameState, Schedule
from matrixrl.envs.hackmatrix.scenario import load
from tests.envs.hackmatrix.boards import data, enemy, game, program, question, rich, stunned, transmission
from tests.envs.hackmatrix.lanes import Step, masks, step_lanes


def play(state: GameState, *actions: str, key: tuple[int, int] = (1, 2)) -> Step:
    """The result of the last of some actions."""
    step = None
    for action in actions:
        step = step_lanes([state], [ACTION_NAMES.index(action)], [key])[0]
        state = step.state
    assert step is not None
    return step


def cells(step: Step) -> list[tuple[int, int]]:
    return [item.cell for item in step.state.enemies]


# 18.7, the worked examples of the reward.


def test_18_7_walking_onto_the_exit_of_stage_1() -> None:
    step = play(game((5, 4), hp=2, credits=7, energy=3, exit=(5, 5)), "right")
    assert step.reward == pytest.approx(2.15, rel=1e-6)
    assert step.state.stage == 2
    assert step.info["stage_completed"]
    assert not step.terminated


def test_18_7_waiting_beside_a_daemon_in_stage_3() -> None:
    state = game((2, 2), stage=3, energy=1, own=["wait"], enemies=[enemy("daemon", 2, 3)])
    assert play(state, "wait").reward == pytest.approx(-1.05, rel=1e-6)


@pytest.mark.parametrize(("from_siphon", "expected"), [(False, -4.55), (True, -14.55)])
def test_18_7_dying_in_stage_4(from_siphon: bool, expected: float) -> None:
    attacker = enemy("daemon", 2, 3, from_siphon=from_siphon)
    step = play(game((2, 2), hp=1, stage=4, energy=1, own=["wait"], enemies=[attacker]), "wait")
    assert step.reward == pytest.approx(expected, rel=1e-6)
    assert step.terminated
    assert step.state.episode.outcome == "died"


def test_18_7_a_siphon_next_to_two_data_blocks() -> None:
    scenario = {
        "format": "hackmatrix-scenario",
        "version": 1,
        "player": {"row": 2, "col": 2, "data_siphons": 1},
        "blocks": [
            {"row": 3, "col": 2, "kind": "data", "points": 4},
            {"row": 1, "col": 2, "kind": "data", "points": 5},
        ],
        "resources": [{"row": 2, "col": 3, "credits": 2}],
    }
    assert play(load(scenario).state, "siphon").reward == pytest.approx(4.6, rel=1e-6)


def test_18_7_winning_in_stage_8() -> None:
    step = play(game((5, 4), stage=8, score=12, exit=(5, 5)), "right")
    assert step.reward == pytest.approx(1800.05, rel=1e-6)
    assert step.info["won"]
    assert step.state.stage == 8


def test_18_7_an_invalid_action_pays_nothing_and_ends_the_episode() -> None:
    state = game((0, 0), credits=5)
    step = play(state, "down")
    assert step.reward == 0
    assert set(step.breakdown.values()) == {0.0}
    assert step.terminated
    assert step.state.player == state.player


def test_the_example_of_the_scenario_format_plays_as_described() -> None:
    scenario: dict[str, Any] = {
        "format": "hackmatrix-scenario",
        "version": 1,
        "stage": 2,
        "turn": 4,
        "player": {"row": 2, "col": 2, "hp": 2, "credits": 1, "energy": 3, "data_siphons": 2, "score": 9},
        "owned_programs": ["wait", "undo"],
        "exit": {"row": 0, "col": 5},
        "blocks": [
            {"row": 3, "col": 2, "kind": "data", "points": 6},
            {"row": 4, "col": 1, "kind": "program", "program": "row"},
            {"row": 1, "col": 4, "kind": "question", "hidden_kind": "program", "program": "crash"},
        ],
        "data_siphons": [[5, 5]],
        "resources": [{"row": 2, "col": 3, "credits": 3}, {"row": 5, "col": 5, "energy": 1}],
        "enemies": [{"type": "daemon", "row": 5, "col": 4, "hp": 2, "from_siphon": True}],
        "transmissions": [{"row": 0, "col": 0, "enemy_type": "glitch", "turns_left": 2}],
        "flags": {"show_activated": True},
        "schedule": {"interval": 11, "next_turn": 11},
    }
    step = play(load(scenario).state, "siphon")
    state = step.state
    assert (state.player.score, state.player.credits, state.player.data_siphons) == (15, 4, 1)
    assert (state.schedule.interval, state.schedule.next_turn, state.turn) == (10, 16, 5)
    assert cells(step) == [(4, 4)]
    assert len(state.transmissions) == 7
    assert state.transmissions[0].turns_left == 1
    assert all(item.from_siphon for item in state.transmissions[1:])
    assert not step.terminated


# 6, directions.


def test_6_1_a_transmission_in_line_is_hit_before_what_lies_behind() -> None:
    state = game(enemies=[stunned("virus", 5, 2)], transmissions=[transmission(4, 2, turns_left=5)])
    step = play(state, "up")
    assert not step.state.transmissions
    assert step.breakdown["kills"] == pytest.approx(0.3)


def test_6_1_a_block_cuts_the_line_but_an_enemy_on_it_is_a_target() -> None:
    behind = game(blocks={(3, 2): data(1)}, enemies=[enemy("daemon", 4, 2)])
    assert not masks([behind])[0][0]
    on_it = game(blocks={(3, 2): data(1)}, enemies=[enemy("glitch", 3, 2)])
    step = play(on_it, "up")
    assert step.state.player.cell == (2, 2)
    assert step.state.enemies[0].hp == 1


def test_6_2_the_first_of_stacked_enemies_is_hit_and_stunned_for_the_phase() -> None:
    state = game((0, 0), enemies=[enemy("daemon", 0, 4), enemy("virus", 0, 4)])
    step = play(state, "right")
    assert [item.hp for item in step.state.enemies] == [2, 2]
    assert cells(step)[0] == (0, 4)
    assert cells(step)[1] != (0, 4)


def test_6_3_walking_takes_a_data_siphon_and_leaves_the_resources() -> None:
    step = play(game((4, 5), exit=(0, 0), data_siphons=[(5, 5)]), "up")
    assert step.state.player.data_siphons == 1
    assert not step.state.data_siphons
    assert step.breakdown["dataSiphon"] == 1


# 7, siphon.


def test_7_2_a_question_block_becomes_what_it_hides() -> None:
    state = game(siphons=1, blocks={(3, 2): question(program("hack"))})
    step = play(state, "siphon")
    assert step.state.owned_programs == {"hack"}
    assert step.state.blocks[3, 2].kind == "program"
    assert step.state.blocks[3, 2].spawn_count == 0
    assert len(step.state.transmissions) == 4


# 8 and 9, the enemy phase.


def test_8_step_skips_the_whole_phase_once() -> None:
    state = rich((2, 2), enemies=[enemy("daemon", 2, 3)])
    step = play(state, "step", "wait")
    assert step.state.turn == 0
    assert step.state.player.hp == 3
    assert play(step.state, "wait").state.player.hp == 2


def test_9_1_a_virus_moves_and_then_attacks() -> None:
    step = play(game((0, 0), energy=1, own=["wait"], enemies=[enemy("virus", 0, 2)]), "wait")
    assert cells(step) == [(0, 1)]
    assert step.state.player.hp == 2


def test_9_2_among_shortest_ways_up_comes_before_down_before_left_before_right() -> None:
    for start, expected in (((0, 0), (1, 0)), ((5, 5), (4, 5)), ((0, 5), (1, 5)), ((5, 0), (4, 0))):
        step = play(
            game((3, 3), energy=1, own=["wait"], enemies=[enemy("daemon", *start)], exit=(0, 0)), "wait"
        )
        assert cells(step) == [expected]


def test_9_2_an_enemy_behind_a_taken_first_step_takes_the_greedy_one() -> None:
    # A corridor along row 0: the way through is the first enemy's cell, so the second one leaves it.
    walls = {(1, column): data(1) for column in range(4)}
    state = game(
        (0, 0),
        energy=1,
        own=["wait"],
        blocks=walls | {(1, 4): data(1), (0, 5): data(1)},
        enemies=[stunned("daemon", 0, 2), enemy("daemon", 0, 3)],
    )
    assert cells(play(state, "wait"))[1] == (0, 4)


def test_9_2_only_a_glitch_walks_on_blocks() -> None:
    ring = {cell: data(1) for cell in ((3, 2), (1, 2), (2, 1), (2, 3))}
    state = game(energy=1, own=["wait"], blocks=ring, enemies=[enemy("glitch", 4, 2), enemy("daemon", 2, 5)])
    step = play(state, "wait")
    assert cells(step)[0] == (3, 2)
    assert step.state.enemies[0].type == "glitch"


# 10 and 11, transmissions and scheduled tasks.


def test_10_1_an_arriving_enemy_does_not_act_in_its_first_phase() -> None:
    state = game((0, 0), energy=2, own=["wait"], transmissions=[transmission(0, 1, "virus")])
    step = play(state, "wait")
    assert step.state.player.hp == 3
    assert step.state.enemies[0].disabled_turns == 0
    assert play(step.state, "wait").state.player.hp == 2


def test_10_2_spawns_avoid_the_line_of_fire() -> None:
    state = game((0, 0), energy=1, own=["wait"], schedule=Schedule(12, 1000, 20))
    spawned = [item.cell for item in play(state, "wait").state.transmissions]
    assert len(set(spawned)) == 20
    assert all(row > 0 and column > 0 for row, column in spawned)


def test_11_a_scheduled_task_marks_its_transmission() -> None:
    state = game((0, 0), energy=1, own=["wait"], turn=4, schedule=Schedule(12, 5))
    step = play(state, "wait")
    assert [item.from_schedule for item in step.state.transmissions] == [True]
    assert step.state.schedule.next_turn == 17


# 12, programs.


def test_12_4_push_takes_enemies_outward_and_blocks_the_second_on_one_cell() -> None:
    state = rich((0, 0), enemies=[enemy("daemon", 1, 1), enemy("daemon", 1, 2), enemy("virus", 1, 2)])
    assert cells(play(state, "push")) == [(2, 2), (2, 3), (1, 2)]


def test_12_4_pull_leaves_adjacent_enemies_and_straightens_diagonal_ones() -> None:
    state = rich((2, 2), enemies=[enemy("daemon", 2, 3), enemy("daemon", 3, 3), enemy("virus", 5, 5)])
    assert cells(play(state, "pull")) == [(2, 3), (2, 3), (4, 4)]


def test_12_4_crash_clears_the_surroundings_and_counts_stacks_once() -> None:
    state = rich(
        (2, 2),
        blocks={(3, 3): data(4), (5, 5): data(2)},
        enemies=[enemy("virus", 1, 1), enemy("daemon", 1, 1), enemy("virus", 5, 0)],
        transmissions=[transmission(3, 2)],
        exit=(0, 0),
    )
    step = play(state, "crash")
    assert set(step.state.blocks) == {(5, 5)}
    assert cells(step) == [(5, 0)]
    assert not step.state.transmissions
    assert step.breakdown["kills"] == pytest.approx(0.6)


def test_12_4_warp_onto_the_exit_completes_the_stage() -> None:
    step = play(rich((2, 2), enemies=[enemy("daemon", 5, 5)], exit=(5, 5)), "warp")
    assert step.info["stage_completed"]
    assert step.state.player.cell == (5, 5)
    assert not step.state.enemies


def test_12_4_poly_carries_damage_over() -> None:
    step = play(rich(enemies=[enemy("daemon", 5, 5, hp=1), enemy("virus", 4, 4)]), "poly")
    assert len(step.state.enemies) == 1
    (kept,) = step.state.enemies
    assert kept.type != "virus"
    assert kept.hp == (3 if kept.type == "daemon" else 2)


def test_12_4_d_bom_removes_the_nearest_daemon_and_hurts_around_it() -> None:
    state = rich(
        (0, 0),
        enemies=[enemy("daemon", 5, 5), enemy("daemon", 2, 2), enemy("virus", 3, 3), enemy("glitch", 2, 2)],
    )
    step = play(state, "d_bom")
    assert [(item.type, item.hp, item.stunned) for item in step.state.enemies] == [
        ("daemon", 3, False),
        ("virus", 1, True),
        ("glitch", 2, False),
    ]


def test_12_4_damage_programs_reach_their_area() -> None:
    enemies = [enemy("daemon", 2, 5), enemy("daemon", 5, 2), enemy("virus", 4, 4), enemy("glitch", 3, 3)]
    state = rich((2, 2), blocks={(3, 3): data(1)}, siphoned=[(4, 4)], enemies=enemies)
    hurt = {"row": [0], "col": [1], "anti_v": [2], "debug": [3], "hack": [2]}
    for name, expected in hurt.items():
        after = play(state, name).state.enemies
        assert [i for i, item in enumerate(after) if item.stunned] == expected, name


def test_12_4_numbers_and_flags() -> None:
    state = rich((2, 2), hp=1, stage=3, transmissions=[transmission(5, 5)], blocks={(4, 4): data(3)})
    assert play(state, "reset").state.player.hp == 3
    assert play(state, "exch").state.player.energy == 54
    assert play(state, "score").state.player.score == 5
    assert play(state, "siph_plus").state.player.data_siphons == 1
    assert play(state, "delay").state.transmissions[0].turns_left == 4
    assert play(state, "reduc").state.blocks[4, 4].spawn_count == 2
    assert play(state, "atk_plus", "atk_plus").state.player.attack_damage == 3
    assert not masks([play(state, "atk_plus", "atk_plus").state])[0][ACTION_NAMES.index("atk_plus")]
    assert play(state, "show").state.flags.show_activated
    assert play(state, "calm").state.flags.scheduled_tasks_disabled


# 13, UNDO.


def test_13_undo_refunds_the_programs_of_the_turn_and_then_takes_back_a_turn() -> None:
    state = rich((2, 2), enemies=[enemy("daemon", 5, 5, from_siphon=True)])
    waited = play(state, "wait", "wait").state
    spent = play(waited, "siph_plus", "undo").state
    assert spent.player == waited.player
    assert not spent.enemies[0].from_siphon
    twice = play(waited, "undo", "undo").state
    assert twice.turn == 1
    assert not twice.history
    assert not masks([twice])[0][ACTION_NAMES.index("undo")]


def test_13_the_history_keeps_the_newest_eight() -> None:
    state = rich((2, 2))
    state = play(state, *["wait"] * 10).state
    assert [snapshot.turn for snapshot in state.history] == list(range(3, 11))


# 16, the next stage.


def test_16_a_new_stage_carries_enemies_over_and_clears_the_history() -> None:
    state = rich((4, 5), hp=2, exit=(5, 5), enemies=[enemy("daemon", 0, 2)], own=["wait"], turn=3)
    state = play(state, "wait").state
    assert state.history
    step = play(state, "up")
    assert step.state.player.hp == 3
    assert cells(step)[0] == state.enemies[0].cell
    assert not step.state.history
    assert step.state.turn == 0
    assert (step.state.schedule.interval, step.state.schedule.next_turn) == (11, 11)
    assert len(step.state.transmissions) == 2


# 19, observation.


def test_19_3_a_hidden_cryptog_on_top_hides_the_whole_stack() -> None:
    state = rich((0, 0), enemies=[enemy("cryptog", 3, 3), enemy("virus", 3, 3)])
    step = play(state, "exch")
    assert not step.observation[33 + (3 * 6 + 3) * 42 :][:7].any()
    shown = play(state, "show").observation[33 + (3 * 6 + 3) * 42 :][:7]
    assert shown[3] == 1
    assert shown[4] == pytest.approx(2 / 3)
