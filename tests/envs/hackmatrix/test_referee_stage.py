"""Rules 14 to 17: stage generation, new game, finishing, winning, dying, score."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from matrixrl.envs.hackmatrix.referee import (
    PROGRAM_NUMBER,
    PROGRAMS,
    Flags,
    RandomDraws,
    Resource,
    Schedule,
    new_game,
)
from matrixrl.envs.hackmatrix.referee.stage import generate_stage, placement_is_valid
from matrixrl.envs.hackmatrix.referee.state import CELLS, CORNERS
from tests.envs.hackmatrix.boards import ScriptedDraws, data, enemy, game, play, rich, stunned, transmission

# 14


def test_14_a_new_stage_resets_counters_flags_board_and_history() -> None:
    state = rich(
        (5, 4),
        stage=2,
        turn=30,
        hp=1,
        siphons=2,
        score=7,
        attack=3,
        flags=Flags(show_activated=True, scheduled_tasks_disabled=True, step_active=True),
        blocks={(3, 3): data(2)},
        resources={(3, 4): Resource(9, 9)},
        siphoned=[(1, 1)],
        data_siphons=[(0, 5)],
        schedule=Schedule(4, 99, pending_siphon_spawns=6),
        enemies=[enemy("daemon", 0, 0, 2, stunned=True, disabled_turns=3)],
        transmissions=[transmission(5, 0, turns_left=3)],
    )
    state.atk_plus_uses = 2
    state.siphon_centers = {(1, 1)}
    state.history = play(rich(), "wait").state.history
    after = play(state, "right", draws=ScriptedDraws(exit_corner=(0, 5))).state
    assert (after.stage, after.turn, after.atk_plus_uses) == (3, 0, 0)
    assert after.flags == Flags()
    assert after.schedule == Schedule(10, 10, pending_siphon_spawns=6)
    assert after.history == []
    assert after.siphoned_cells == set()
    assert after.siphon_centers == set()
    assert after.player.cell == (5, 5)
    assert (after.player.hp, after.player.data_siphons, after.player.score, after.player.attack_damage) == (
        2,
        2,
        7,
        3,
    )
    assert (after.player.credits, after.player.energy) == (50, 50)
    assert len(after.owned_programs) == 23
    # carried over as they were
    assert after.enemies == state.enemies
    assert after.transmissions[0] == state.transmissions[0]
    assert len(after.transmissions) == 1 + 3
    assert not any(item.from_siphon or item.from_schedule for item in after.transmissions)
    assert after.exit == (0, 5)
    assert after.data_siphons == {(0, 0), (5, 0)}


def test_14_spawns_of_generation_keep_out_of_the_line_of_fire() -> None:
    draws = ScriptedDraws()
    play(rich((5, 4), stage=2), "right", draws=draws)
    assert [caller for caller, _ in draws.spawn_choices] == ["stage"] * 3
    first = set(draws.spawn_choices[0][1])
    assert (4, 5) not in first
    assert (5, 4) not in first


def stages(count, stage=1, **fields):
    draws = RandomDraws(np.random.default_rng(11))
    for _ in range(count):
        state = game((0, 0), stage=stage, **fields)
        generate_stage(state, draws)
        yield state


def test_14_generated_stages_keep_every_rule() -> None:
    contents, amounts, kinds, exits, counts, questions = (
        Counter(),
        Counter(),
        Counter(),
        Counter(),
        Counter(),
        0,
    )
    for state in stages(600):
        assert state.exit in CORNERS
        assert state.exit != (0, 0)
        assert state.data_siphons == set(CORNERS) - {(0, 0), state.exit}
        assert not set(state.blocks) & set(CORNERS)
        assert placement_is_valid(set(state.blocks), state.exit)
        assert set(state.resources) == set(CELLS) - set(state.blocks) - {state.exit}
        programs = [block.program for block in state.blocks.values() if block.content == "program"]
        assert len(set(programs)) == len(programs)
        for block in state.blocks.values():
            contents[block.content] += 1
            questions += block.kind == "question"
            assert (block.hidden_kind is not None) == (block.kind == "question")
            if block.content == "data":
                assert 1 <= block.points <= 9
                assert block.spawn_count == block.points
                assert block.program is None
            else:
                assert block.program is not None
                assert block.points == 0
                assert block.spawn_count == PROGRAMS[PROGRAM_NUMBER[block.program]].spawn
        for resource in state.resources.values():
            assert min(resource.credits, resource.energy) == 0
            amounts[max(resource.credits, resource.energy)] += 1
            kinds["credits" if resource.credits else "energy"] += 1
        exits[state.exit] += 1
        counts[len(state.blocks)] += 1
    assert set(counts) == set(range(5, 12))
    assert set(exits) == set(CORNERS) - {(0, 0)}
    blocks, cells = sum(contents.values()), sum(amounts.values())
    assert contents["data"] / blocks == pytest.approx(0.5, abs=0.04)
    assert questions / blocks == pytest.approx(0.1, abs=0.03)
    assert amounts[1] / cells == pytest.approx(0.45, abs=0.02)
    assert amounts[3] / cells == pytest.approx(0.10, abs=0.02)
    assert kinds["credits"] / cells == pytest.approx(0.5, abs=0.02)


def test_14_1_block_candidates_leave_out_corners_enemies_and_transmissions() -> None:
    taken = [cell for cell in CELLS if cell not in CORNERS and cell not in {(2, 2), (3, 3), (2, 4)}]
    state = game(
        (0, 0),
        enemies=[enemy("daemon", *cell) for cell in taken[:20]],
        transmissions=[transmission(*cell) for cell in taken[20:]],
    )
    draws = ScriptedDraws(block_count=11)
    generate_stage(state, draws)
    assert set(state.blocks) == {(2, 2), (3, 3), (2, 4)}  # fewer than 11: all there are


def test_14_1_the_first_valid_attempt_is_used_and_after_100_failures_there_are_no_blocks() -> None:
    bad = ((0, 1), (1, 0), (4, 4), (4, 1), (3, 3))  # walls the corner off
    good = ((1, 1), (2, 2), (3, 3), (4, 4), (2, 4))
    state = game((0, 0))
    generate_stage(state, ScriptedDraws(block_cells=[bad, bad, good, bad]))
    assert set(state.blocks) == set(good)
    generate_stage(state, ScriptedDraws(block_cells=[bad] * 99 + [good]))
    assert set(state.blocks) == set(good)
    generate_stage(state, ScriptedDraws(block_cells=[bad] * 100 + [good]))
    assert state.blocks == {}


@pytest.mark.parametrize(
    ("blocks", "exit_cell", "valid"),
    [
        ({(2, 2)}, (5, 5), True),
        ({(0, 1), (1, 0)}, (5, 5), False),  # the start is walled in
        ({(4, 5), (5, 4)}, (5, 5), False),  # the exit is walled in
        (
            {(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)},
            (5, 5),
            False,
        ),  # column 5 only across the exit
        ({(2, 2), (3, 3), (2, 4), (1, 3)}, (5, 5), False),  # (2, 3) is a pocket
        ({(1, 0), (1, 1), (0, 2)}, (5, 5), False),
    ],
)
def test_14_1_placements(blocks, exit_cell, valid) -> None:
    assert placement_is_valid(blocks, exit_cell) == valid


def test_14_1_the_exit_is_reached_but_not_walked_across() -> None:
    wall = {(row, 4) for row in range(5)}
    assert not placement_is_valid(wall, (5, 5))
    assert placement_is_valid(wall, (5, 0))


def test_14_1_an_exit_at_the_start_of_the_flood_is_expanded() -> None:
    assert placement_is_valid({(2, 2)}, (0, 0))


def test_14_1_every_block_needs_a_free_neighbour() -> None:
    plus = {(2, 2), (3, 2), (1, 2), (2, 1), (2, 3)}
    assert not placement_is_valid(plus, (5, 5))
    assert placement_is_valid(plus - {(2, 3)}, (5, 5))


def test_14_1_acceptance_agrees_with_the_shares_the_rules_give() -> None:
    rng = np.random.default_rng(7)
    candidates = [cell for cell in CELLS if cell not in CORNERS]
    for count, share in zip(range(5, 12), (85, 74, 63, 49, 33, 18, 9), strict=True):
        accepted = sum(
            placement_is_valid(
                {candidates[i] for i in rng.permutation(32)[:count]}, CORNERS[int(rng.integers(4))]
            )
            for _ in range(1500)
        )
        assert 100 * accepted / 1500 == pytest.approx(share, abs=4)


def test_14_1_contents_come_from_the_draws() -> None:
    state = game((0, 0))
    cells = ((1, 1), (2, 2), (3, 3), (4, 4), (2, 4))
    draws = ScriptedDraws(
        block_cells=cells,
        block_content=["data", "program", "program", "data", "data"],
        block_is_question=[False, False, True, True, False],
        block_points=[9, 2, 3],
        block_program=["hack", "atk_plus"],
        resource_kind="energy",
        resource_amount=3,
    )
    generate_stage(state, draws)
    assert state.blocks[(1, 1)] == data(9)
    assert (state.blocks[(2, 2)].program, state.blocks[(2, 2)].spawn_count) == ("hack", 4)
    hidden = state.blocks[(3, 3)]
    assert (hidden.kind, hidden.hidden_kind, hidden.program, hidden.spawn_count) == (
        "question",
        "program",
        "atk_plus",
        8,
    )
    assert (state.blocks[(4, 4)].kind, state.blocks[(4, 4)].points, state.blocks[(4, 4)].spawn_count) == (
        "question",
        2,
        2,
    )
    assert state.resources[(0, 0)] == Resource(energy=3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"block_program": "push", "block_content": "program"},
        {"block_points": 10},
        {"resource_amount": 4},
        {"exit_corner": (0, 0)},
        {"block_count": 4},
        {"block_cells": ((1, 1), (1, 1), (2, 2), (3, 3), (4, 4))},
    ],
)
def test_14_a_draw_outside_its_choices_is_refused(wrong) -> None:
    with pytest.raises(ValueError, match=f"draw {next(iter(wrong))}"):
        generate_stage(game((0, 0)), ScriptedDraws(**wrong))


def test_14_2_resources_lie_under_the_player_enemies_and_transmissions() -> None:
    for state in stages(5, enemies=[enemy("daemon", 2, 2)], transmissions=[transmission(3, 3)]):
        assert {(0, 0), (2, 2), (3, 3), *state.data_siphons} <= set(state.resources)


# 15


@pytest.mark.parametrize(
    ("bonus", "expected"), [("credits", (10, 0, 0)), ("energy", (0, 11, 0)), ("data_siphon", (0, 0, 1))]
)
def test_15_a_new_game(bonus, expected) -> None:
    state = new_game(ScriptedDraws(player_corner=(5, 0), starting_bonus=bonus))
    player = state.player
    assert player.cell == (5, 0)
    assert (player.credits, player.energy, player.data_siphons) == expected
    assert (player.hp, player.attack_damage, player.score) == (3, 1, 0)
    assert (state.stage, state.turn) == (1, 0)
    assert state.schedule == Schedule(12, 12)
    assert state.enemies == []
    assert len(state.transmissions) == 1
    assert state.owned_programs == set()
    assert state.history == []
    assert state.exit in set(CORNERS) - {(5, 0)}


def test_15_corner_and_bonus_are_uniform() -> None:
    draws = RandomDraws(np.random.default_rng(1))
    corners, bonuses = Counter(), Counter()
    for _ in range(600):
        player = new_game(draws).player
        corners[player.cell] += 1
        bonuses[(player.credits, player.energy, player.data_siphons)] += 1
    assert set(corners) == set(CORNERS)
    assert all(abs(count - 150) < 45 for count in corners.values())
    assert all(abs(count - 200) < 50 for count in bonuses.values())
    assert len(bonuses) == 3


# 16


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 3), (3, 3)])
def test_16_reaching_the_exit_heals_one(before: int, after: int) -> None:
    assert play(game((5, 4), hp=before), "right").state.player.hp == after


def test_16_the_interval_of_each_stage() -> None:
    for stage in range(1, 8):
        after = play(game((5, 4), stage=stage), "right").state
        assert after.stage == stage + 1
        assert after.schedule.interval == after.schedule.next_turn == 13 - after.stage
        assert len(after.transmissions) == after.stage


def test_16_finishing_stage_8_wins_and_changes_nothing_else() -> None:
    state = game((5, 4), stage=8, hp=2, score=3, blocks={(2, 2): data(1)}, schedule=Schedule(5, 77), turn=4)
    result = play(state, "right")
    assert result.won
    assert result.done
    assert result.stage_completed
    expected = state.copy()
    expected.player.cell = (5, 5)
    expected.player.hp = 3
    expected.episode = result.state.episode
    assert result.state == expected


def test_16_death_is_hp_0_after_an_enemy_phase() -> None:
    result = play(game(hp=1, own=["wait"], energy=1, enemies=[enemy("daemon", 2, 3)]), "wait")
    assert result.died
    assert result.done
    assert result.state.episode.outcome == "died"


# 17


def test_17_only_siphoned_points_and_score_raise_the_score() -> None:
    state = rich(siphons=1, attack=9, blocks={(3, 2): data(6)}, enemies=[stunned("daemon", 2, 4)])
    assert play(state, "row").state.player.score == 0
    assert play(state, "siphon").state.player.score == 6
    assert play(state, "score").state.player.score == 7


def test_17_undo_can_lower_the_score() -> None:
    state = play(rich(), "wait", "score").state
    assert state.player.score == 7
    assert play(state, "undo").state.player.score == 0
