"""Rule 18: the components, the worked examples, siphon quality, siphon death, the reduced variant."""

from __future__ import annotations

import pytest

from matrixrl.envs.hackmatrix.referee import BREAKDOWN_KEYS, Resource, step
from tests.envs.hackmatrix.boards import (
    ACTION,
    ScriptedDraws,
    data,
    enemy,
    game,
    play,
    program,
    question,
    rich,
    stunned,
    transmission,
)


def parts(result):
    """The components that are not 0."""
    return {key: pytest.approx(value) for key, value in result.breakdown.items() if value != 0}


# 18.7


def test_18_7_stage_1_onto_the_exit() -> None:
    result = play(game((5, 4), hp=2, credits=7, energy=3), "right")
    assert result.reward == pytest.approx(2.15)
    assert parts(result) == {"stage": 1, "distance": 0.05, "resourceHolding": 0.1, "hpRecovery": 1}


def test_18_7_stage_3_wait_next_to_a_daemon() -> None:
    result = play(game(stage=3, own=["wait"], energy=1, enemies=[enemy("daemon", 2, 3)]), "wait")
    assert result.reward == pytest.approx(-1.05)


@pytest.mark.parametrize(("from_siphon", "reward"), [(False, -4.55), (True, -14.55)])
def test_18_7_stage_4_death(from_siphon: bool, reward: float) -> None:
    bully = enemy("daemon", 2, 3, from_siphon=from_siphon)
    result = play(game(stage=4, hp=1, own=["wait"], energy=1, enemies=[bully]), "wait")
    assert result.reward == pytest.approx(reward)


def test_18_7_siphon_between_two_data_blocks() -> None:
    state = game(
        siphons=1, blocks={(3, 2): data(4), (2, 3): data(5)}, resources={(2, 1): Resource(credits=2)}
    )
    result = play(state, "siphon")
    assert result.reward == pytest.approx(4.6)
    assert parts(result) == {"score": 4.5, "resourceGain": 0.1}


def test_18_7_stage_8_win() -> None:
    result = play(game((5, 4), stage=8, score=12), "right")
    assert result.reward == pytest.approx(1800.05)
    assert parts(result) == {"stage": 100, "distance": 0.05, "victory": 1700}


def test_18_7_invalid_action() -> None:
    result = play(game((0, 0)), "left")
    assert (result.reward, result.done) == (0, True)


# 18.2


def test_18_2_the_keys_and_the_sum() -> None:
    result = play(rich(hp=2, enemies=[enemy("daemon", 2, 3)]), "wait")
    assert tuple(result.breakdown) == BREAKDOWN_KEYS
    assert len(BREAKDOWN_KEYS) == 14
    assert result.reward == pytest.approx(sum(result.breakdown.values()))


def test_18_2_kills_pay_0_3_each() -> None:
    state = rich((0, 0), exit=(0, 5), enemies=[enemy("virus", 0, 3, 1), enemy("virus", 0, 5, 1)])
    result = play(state, "row")
    assert parts(result) == {"kills": 0.6, "resourceGain": -0.2}


def test_18_2_a_data_siphon_pays_on_the_step_onto_it_only() -> None:
    result = play(game((2, 2), exit=(0, 0), data_siphons=[(3, 2)]), "up")
    assert parts(result) == {"dataSiphon": 1, "distance": -0.05}
    assert "dataSiphon" not in parts(play(rich(), "siph_plus"))


def test_18_2_paying_for_a_program_costs_reward() -> None:
    assert parts(play(rich(), "calm")) == {"resourceGain": -0.3}
    assert "resourceGain" not in parts(play(rich(), "exch"))


def test_18_2_score_pays_half() -> None:
    assert parts(play(rich(stage=5), "score")) == {"score": 1.5, "resourceGain": -0.25}


def test_18_2_holding_counts_what_is_left_at_a_stage_end() -> None:
    result = play(rich(stage=2, credits=30, energy=12, enemies=[enemy("virus", 5, 5)]), "warp")
    assert parts(result) == {
        "stage": 2,
        "kills": 0.3,
        "distance": 0.05 * 6,
        "resourceGain": -0.2,
        "resourceHolding": 0.38,
    }


@pytest.mark.parametrize(("hp", "waste"), [(1, 0), (2, -0.3)])
def test_18_2_a_reset_with_2_hp_is_waste(hp: int, waste: float) -> None:
    result = play(rich(hp=hp), "reset")
    assert result.breakdown["programWaste"] == pytest.approx(waste)
    assert result.breakdown["hpRecovery"] == 3 - hp


def test_18_2_damage_is_paid_per_hp() -> None:
    ring = [enemy("daemon", 3, 2), enemy("daemon", 1, 2)]
    assert play(rich(enemies=ring), "wait").breakdown["damagePenalty"] == -2


def test_18_2_undo_pays_net_differences_either_way() -> None:
    state = play(rich((2, 2), hp=3), "wait").state
    hurt = state.copy()
    hurt.player.hp = 1
    hurt.player.credits = 40
    hurt.player.score = 4
    result = play(hurt, "undo")
    assert parts(result) == {"score": -2, "resourceGain": 0.5, "hpRecovery": 2}
    healed = state.copy()
    healed.history[-1].player.hp = 1
    assert play(healed, "undo").breakdown["damagePenalty"] == -2


# 18.3


@pytest.mark.parametrize(("stage", "value"), list(enumerate([1, 2, 4, 8, 16, 32, 64, 100], start=1)))
def test_18_3_stage_values(stage: int, value: int) -> None:
    assert play(game((5, 4), stage=stage), "right").breakdown["stage"] == value


@pytest.mark.parametrize(
    ("stage", "value"), list(enumerate([0, -0.5, -1.5, -3.5, -7.5, -15.5, -31.5, -63.5], start=1))
)
def test_18_3_death_by_stage(stage: int, value: float) -> None:
    result = play(game(hp=1, stage=stage, own=["wait"], energy=1, enemies=[enemy("daemon", 2, 3)]), "wait")
    assert result.breakdown["death"] == value


# 18.4


def test_18_4_walking_towards_and_away() -> None:
    assert play(game((2, 2)), "up").breakdown["distance"] == pytest.approx(0.05)
    assert play(game((2, 2)), "down").breakdown["distance"] == pytest.approx(-0.05)


def test_18_4_only_blocks_matter_and_crash_can_shorten_the_way() -> None:
    walls = {(0, 1): data(1), (1, 1): data(1), (2, 1): data(1)}
    state = rich(
        (0, 0),
        exit=(0, 5),
        blocks=walls,
        enemies=[stunned("daemon", 3, 0)],
        transmissions=[transmission(3, 1)],
    )
    result = play(state, "crash")
    assert result.breakdown["distance"] == pytest.approx(0.05 * (11 - 5))


def test_18_4_without_a_path_the_distance_is_0() -> None:
    walls = {(4, 5): data(1), (5, 4): data(1)}
    assert play(game((2, 2), blocks=walls), "up").breakdown["distance"] == 0
    # opening the way makes the new distance 2, the old one was 0
    assert play(rich((4, 4), blocks=walls), "crash").breakdown["distance"] == pytest.approx(-0.1)


def test_18_4_the_players_own_block_does_not_matter() -> None:
    state = game((2, 2), blocks={(2, 2): data(1)})
    assert play(state, "up").breakdown["distance"] == pytest.approx(0.05)


def test_18_4_a_dying_player_has_no_distance() -> None:
    result = play(game((2, 2), hp=1, enemies=[enemy("virus", 3, 4)]), "up")
    assert result.died
    assert result.breakdown["distance"] == 0


# 18.5


def quality(state):
    return play(state, "siphon").breakdown["siphonQuality"]


def test_18_5_a_better_cell_for_the_same_block_costs_half_of_what_was_missed() -> None:
    state = game(
        (2, 2),
        siphons=1,
        blocks={(3, 2): data(4)},
        resources={(2, 1): Resource(credits=1), (4, 3): Resource(credits=3), (3, 4): Resource(energy=2)},
    )
    # (4, 2) yields 3 credits from (4, 3); (3, 3) yields 3 credits and 2 energy
    assert quality(state) == pytest.approx(-0.5 * (0.05 * 2 + 0.05 * 2))


def test_18_5_a_cell_that_loses_something_is_not_better() -> None:
    state = game(
        (2, 2),
        siphons=1,
        blocks={(3, 2): data(4)},
        resources={(2, 1): Resource(energy=1), (4, 3): Resource(credits=3)},
    )
    assert quality(state) == 0


def test_18_5_the_two_maxima_may_come_from_different_cells() -> None:
    state = game((0, 0), siphons=1, resources={(3, 3): Resource(credits=3), (5, 0): Resource(energy=2)})
    assert quality(state) == pytest.approx(-0.5 * 0.05 * (3 + 2))


def test_18_5_other_points_or_programs_are_not_comparable() -> None:
    blocks = {(3, 2): data(4), (3, 4): data(5)}
    state = game((2, 2), siphons=1, blocks=blocks, resources={(3, 3): Resource(credits=3)})
    # (3, 3) holds both blocks: its points differ
    assert quality(state) == 0
    program_there = game(
        (2, 2),
        siphons=1,
        blocks={(3, 2): data(4), (3, 4): program("row")},
        resources={(3, 3): Resource(credits=3)},
    )
    assert quality(program_there) == 0


def test_18_5_equal_points_elsewhere_do_not_count_but_owned_programs_do_not_spoil() -> None:
    state = game(
        (2, 2),
        siphons=1,
        own=["row"],
        blocks={(3, 2): data(4), (3, 4): program("row"), (0, 5): data(4)},
        resources={(3, 3): Resource(credits=3), (0, 4): Resource(credits=9)},
    )
    # (3, 3) has the data block and an owned program: better by 3. (0, 4) has another block of 4 points.
    assert quality(state) == pytest.approx(-0.5 * 0.05 * 3)


def test_18_5_unsiphoned_blocks_of_owned_programs_must_stay_in_the_cross() -> None:
    state = game(
        (2, 2),
        siphons=1,
        own=["row"],
        blocks={(3, 2): data(4), (1, 2): program("row")},
        resources={(4, 2): Resource(credits=3)},
    )
    assert quality(state) == 0  # (4, 2) lacks the block at (1, 2)
    state.siphoned_cells = {(1, 2)}
    assert quality(state) == pytest.approx(-0.5 * 0.05 * 3)


def test_18_5_with_a_program_alone_in_the_yield_the_blocks_must_stay_too() -> None:
    blocks = {(3, 2): program("col"), (1, 2): program("row")}
    state = game((2, 2), siphons=1, own=["row"], blocks=blocks, resources={(4, 2): Resource(credits=3)})
    assert quality(state) == 0  # (4, 2) lacks the block of the owned program
    state.blocks.pop((1, 2))
    assert quality(state) == pytest.approx(-0.5 * 0.05 * 3)


def test_18_5_one_block_of_4_points_is_not_two() -> None:
    blocks = {(3, 2): data(4), (3, 4): data(4)}
    state = game((2, 2), siphons=1, blocks=blocks, resources={(3, 3): Resource(credits=3)})
    assert quality(state) == 0


def test_18_5_hidden_contents_and_multisets_count() -> None:
    blocks = {(3, 2): question(data(4)), (2, 3): data(4)}
    state = game((2, 2), siphons=1, blocks=blocks, resources={(3, 4): Resource(credits=3)})
    # only (3, 3) has both blocks in its cross
    assert quality(state) == pytest.approx(-0.5 * 0.05 * 3)


def test_18_5_siphoned_cells_yield_nothing() -> None:
    state = game((0, 0), siphons=1, siphoned=[(3, 3)], resources={(3, 3): Resource(credits=3)})
    assert quality(state) == 0


def test_18_5_without_blocks_in_the_yield_all_free_cells_are_candidates() -> None:
    state = game(
        (0, 0), siphons=1, blocks={(3, 3): data(1)}, resources={(3, 3): Resource(3), (3, 4): Resource(2)}
    )
    # (4, 4) and (2, 4) have no block in their cross; what lies under the block is no yield
    assert quality(state) == pytest.approx(-0.5 * 0.05 * 2)


def test_18_5_a_player_on_a_block_has_an_empty_yield() -> None:
    state = game(
        (2, 2), siphons=1, blocks={(2, 2): data(4), (3, 2): data(5)}, resources={(2, 3): Resource(2)}
    )
    # cells whose cross has no block, such as (1, 3), reach the 2 credits
    assert quality(state) == pytest.approx(-0.5 * 0.05 * 2)


# 18.6


def test_18_6_any_adjacent_siphon_enemy_counts_not_only_the_attacker() -> None:
    near = stunned("daemon", 3, 2)
    near.from_siphon = True
    state = game(hp=1, own=["wait"], energy=1, enemies=[enemy("daemon", 2, 3), near])
    assert play(state, "wait").breakdown["siphonDeathPenalty"] == -10
    near.row = 4
    assert play(state, "wait").breakdown["siphonDeathPenalty"] == 0


def test_18_6_no_death_no_penalty() -> None:
    state = game(hp=2, own=["wait"], energy=1, enemies=[enemy("daemon", 2, 3, from_siphon=True)])
    assert play(state, "wait").breakdown["siphonDeathPenalty"] == 0


# 18.8


def reduced(state, action):
    return step(state, ACTION[action], ScriptedDraws(), reduced_reward=True)


def test_18_8_kills_are_the_fall_in_the_number_of_enemies() -> None:
    state = rich(attack=9, enemies=[enemy("virus", 2, 4, from_schedule=True), enemy("virus", 2, 5)])
    assert parts(reduced(state, "row")) == {"kills": 0.6}


def test_18_8_a_stack_destroyed_by_warp_counts_each_and_arrivals_offset() -> None:
    state = rich(enemies=[enemy("virus", 3, 3), enemy("virus", 3, 3)])
    assert parts(reduced(state, "warp")) == {"kills": 0.6}
    arriving = game(enemies=[enemy("virus", 2, 4, 1)], transmissions=[transmission(5, 0)])
    assert parts(reduced(arriving, "right")) == {}


def test_18_8_siph_plus_pays_and_nothing_else_of_its_price() -> None:
    assert parts(reduced(rich(), "siph_plus")) == {"dataSiphon": 1}


def test_18_8_hp_pays_both_ways() -> None:
    assert parts(reduced(rich(hp=2), "reset")) == {"hpRecovery": 1}
    assert parts(reduced(rich(hp=2, enemies=[enemy("daemon", 2, 3)]), "wait")) == {"damagePenalty": -1}


def test_18_8_death_costs_half_of_the_return_so_far() -> None:
    state = rich(hp=1, enemies=[enemy("daemon", 2, 3, from_siphon=True)])
    state.episode.return_ = 12.0
    assert parts(reduced(state, "wait")) == {"damagePenalty": -1, "death": -6}


def test_18_8_stages_pay_but_the_winning_step_only_the_victory() -> None:
    assert parts(reduced(game((5, 4), stage=4, credits=9), "right")) == {"stage": 8}
    assert parts(reduced(game((5, 4), stage=8, score=3), "right")) == {"victory": 800}
