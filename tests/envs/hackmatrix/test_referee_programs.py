"""Rules 12 and 13: every program, kills, UNDO."""

from __future__ import annotations

import pytest

from matrixrl.envs.hackmatrix.referee import PROGRAMS, Flags, Resource, Schedule, Sizes
from tests.envs.hackmatrix.boards import (
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

# 12.1 and 12.2: table, costs, applicability


def test_12_1_the_table() -> None:
    rows = [(p.name, p.credits, p.energy, p.spawn) for p in PROGRAMS]
    assert rows == [
        ("push", 0, 2, 4), ("pull", 0, 2, 4), ("crash", 3, 2, 6), ("warp", 2, 2, 5), ("poly", 1, 1, 3),
        ("wait", 0, 1, 1), ("debug", 3, 0, 4), ("row", 3, 1, 2), ("col", 3, 1, 2), ("undo", 1, 0, 3),
        ("step", 0, 3, 4), ("siph_plus", 5, 0, 7), ("exch", 4, 0, 3), ("show", 2, 0, 2), ("reset", 0, 4, 2),
        ("calm", 2, 4, 6), ("d_bom", 3, 0, 4), ("delay", 1, 2, 4), ("anti_v", 3, 0, 4), ("score", 0, 5, 5),
        ("reduc", 2, 1, 3), ("atk_plus", 4, 4, 8), ("hack", 2, 2, 4),
    ]  # fmt: skip


def everything_applicable(**fields):
    """A position in which each of the 23 programs can be used."""
    state = rich(
        (2, 2),
        **{
            "hp": 1,
            "blocks": {(3, 3): data(4)},
            "siphoned": [(0, 0)],
            "enemies": [stunned("daemon", 3, 3), stunned("virus", 2, 5), stunned("glitch", 5, 2)],
            "transmissions": [transmission(0, 0, turns_left=9)],
            **fields,
        },
    )
    state.history = play(game((4, 4), own=["wait"], energy=1), "wait").state.history
    return state


@pytest.mark.parametrize("name", ALL_PROGRAMS)
def test_12_2_a_program_must_be_owned_and_paid_and_stays_owned(name: str) -> None:
    row = next(p for p in PROGRAMS if p.name == name)
    exact = everything_applicable(credits=row.credits, energy=row.energy)
    assert name in legal(exact)
    if row.credits:
        assert name not in legal(everything_applicable(credits=row.credits - 1))
    if row.energy:
        assert name not in legal(everything_applicable(energy=row.energy - 1))
    others = everything_applicable(own=[other for other in ALL_PROGRAMS if other != name])
    assert name not in legal(others)
    after = play(exact, name).state
    if name != "undo":  # which restores them all
        assert after.owned_programs == set(ALL_PROGRAMS)
        assert after.player.credits == 0
        assert after.player.energy == (4 if name == "exch" else 0)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("push", {"enemies": []}),
        ("pull", {"enemies": []}),
        ("poly", {"enemies": []}),
        ("crash", {"blocks": {}, "enemies": [stunned("daemon", 4, 4)]}),
        ("warp", {"enemies": [], "transmissions": []}),
        ("debug", {"blocks": {(3, 4): data(1)}}),
        ("row", {"enemies": [stunned("daemon", 3, 3)]}),
        ("col", {"enemies": [stunned("daemon", 3, 3)]}),
        ("show", {"flags": Flags(show_activated=True)}),
        ("reset", {"hp": 3}),
        ("calm", {"flags": Flags(scheduled_tasks_disabled=True)}),
        ("d_bom", {"enemies": [stunned("virus", 2, 5)]}),
        ("delay", {"transmissions": []}),
        ("anti_v", {"enemies": [stunned("daemon", 2, 5)]}),
        ("score", {"stage": 8}),
        ("reduc", {"blocks": {(3, 3): data(4, 0)}}),
        ("reduc", {"siphoned": [(3, 3)]}),
        ("hack", {"siphoned": []}),
        ("exch", {"credits": 3}),
    ],
)
def test_12_1_where_a_program_is_not_applicable(name: str, change: dict) -> None:
    assert name in legal(everything_applicable())
    assert name not in legal(everything_applicable(**change))


def test_12_1_undo_needs_a_history_and_atk_plus_fewer_than_two_uses() -> None:
    state = rich()
    assert "undo" not in legal(state)
    state.atk_plus_uses = 2
    assert "atk_plus" not in legal(state)
    state.atk_plus_uses = 1
    assert "atk_plus" in legal(state)


@pytest.mark.parametrize("what", ["block", "enemy", "transmission"])
def test_12_1_crash_is_applicable_next_to_any_of_three_things(what: str) -> None:
    state = rich(
        blocks={(3, 3): data(1)} if what == "block" else {},
        enemies=[enemy("virus", 3, 3)] if what == "enemy" else [],
        transmissions=[transmission(3, 3)] if what == "transmission" else [],
    )
    assert "crash" in legal(state)


def test_12_1_crash_is_not_applicable_to_the_players_own_cell() -> None:
    assert "crash" not in legal(rich(blocks={(2, 2): data(1)}, enemies=[enemy("virus", 2, 2)]))


def test_12_1_warp_is_applicable_with_a_transmission_alone_and_reduc_with_a_hidden_block() -> None:
    assert "warp" in legal(rich(transmissions=[transmission(0, 0)]))
    assert "reduc" in legal(rich(blocks={(4, 4): question(data(3))}))


def test_12_2_hidden_cryptogs_count_for_applicability() -> None:
    assert {"push", "warp", "poly"} <= legal(rich(enemies=[enemy("cryptog", 5, 5)]))


# 12.3


def hp_of(state):
    return [(item.type, item.hp, item.stunned) for item in state.enemies]


def crowd():
    return [
        enemy("daemon", 2, 5),
        enemy("virus", 2, 0),
        enemy("cryptog", 5, 2),
        enemy("glitch", 4, 4),
        enemy("daemon", 5, 5),
    ]


def test_12_3_row_damages_the_players_row_by_attack_damage() -> None:
    result = play(rich(attack=2, blocks={(2, 4): data(1)}, enemies=crowd()), "row")
    assert hp_of(result.state) == [
        ("daemon", 1, True), ("cryptog", 2, False), ("glitch", 2, False), ("daemon", 3, False)
    ]  # fmt: skip
    assert result.kills == 1


def test_12_3_col_damages_the_players_column_hidden_or_not() -> None:
    result = play(rich(attack=1, blocks={(4, 2): data(1)}, enemies=crowd()), "col")
    assert [item.hp for item in result.state.enemies] == [3, 2, 1, 2, 3]
    assert [item.stunned for item in result.state.enemies] == [False, False, True, False, False]


def test_12_3_debug_damages_enemies_on_blocks_siphoned_or_not() -> None:
    state = rich(blocks={(4, 4): data(1), (5, 2): data(1, 0)}, siphoned=[(5, 2)], enemies=crowd())
    after = play(state, "debug").state
    assert [item.hp for item in after.enemies] == [3, 2, 1, 1, 3]
    assert after.blocks == state.blocks


def test_12_3_hack_damages_on_every_siphoned_cell_and_leaves_blocks() -> None:
    state = rich(blocks={(4, 4): data(1, 0)}, siphoned=[(4, 4), (5, 2), (2, 0)], enemies=crowd(), attack=2)
    result = play(state, "hack")
    assert [item.type for item in result.state.enemies] == ["daemon", "daemon"]
    assert result.state.blocks == state.blocks
    assert result.state.siphoned_cells == state.siphoned_cells
    assert result.kills == 3


def test_12_3_hack_on_a_siphoned_board_without_enemies_is_allowed() -> None:
    assert not play(rich(siphoned=[(0, 0)]), "hack").invalid


def test_12_3_anti_v_damages_viruses_by_1_whatever_the_attack_damage() -> None:
    state = rich(attack=5, enemies=[enemy("virus", 5, 5), enemy("virus", 0, 0, 1), enemy("glitch", 1, 1, 1)])
    result = play(state, "anti_v")
    assert hp_of(result.state) == [("virus", 1, True), ("glitch", 1, False)]
    assert result.kills == 1


def test_12_3_enemies_stay_in_list_order_after_removals() -> None:
    state = rich(
        enemies=[
            enemy("virus", 2, 0, 1),
            enemy("daemon", 4, 4),
            enemy("virus", 2, 4, 1),
            enemy("glitch", 5, 5),
        ]
    )
    assert [item.type for item in play(state, "row").state.enemies] == ["daemon", "glitch"]


# 12.4


def pushed(*cells, player=(2, 2)):
    return places(play(rich(player, enemies=[enemy("daemon", *cell) for cell in cells]), "push").state)


def pulled(*cells, player=(2, 2)):
    return places(play(rich(player, enemies=[enemy("daemon", *cell) for cell in cells]), "pull").state)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ((3, 2), (4, 2)),
        ((2, 0), (2, 0)),  # at the edge in line: no wish
        ((3, 3), (4, 4)),
        ((5, 4), (5, 5)),  # diagonal and rows are off the board: columns only
        ((4, 5), (5, 5)),
        ((5, 5), (5, 5)),
        ((0, 0), (0, 0)),
        ((2, 2), (2, 2)),
        ((1, 3), (0, 4)),
    ],
)
def test_12_4_push_moves_away(cell, expected) -> None:
    assert pushed(cell) == [expected]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ((3, 2), (3, 2)),  # adjacent: the player's cell is dropped, no wish
        ((3, 3), (2, 3)),  # diagonal: into the player's row
        ((1, 1), (2, 1)),
        ((4, 4), (3, 3)),
        ((3, 5), (2, 4)),
        ((2, 5), (2, 4)),
        ((2, 2), (2, 2)),
    ],
)
def test_12_4_pull_moves_nearer(cell, expected) -> None:
    assert pulled(cell) == [expected]


def test_12_4_push_the_earlier_mover_takes_the_cell() -> None:
    assert pushed((5, 4), (4, 4)) == [(5, 5), (4, 4)]
    assert pushed((4, 4), (5, 4)) == [(5, 5), (5, 4)]


def test_12_4_push_a_staying_enemy_does_not_block() -> None:
    assert pushed((5, 2), (4, 2)) == [(5, 2), (5, 2)]


def test_12_4_push_wishes_come_from_the_positions_before() -> None:
    assert pushed((4, 2), (3, 2)) == [(5, 2), (4, 2)]
    assert pushed((3, 2), (4, 2)) == [(4, 2), (5, 2)]


def test_12_4_push_stacked_enemies_part_because_the_first_takes_the_cell() -> None:
    assert pushed((3, 2), (3, 2)) == [(4, 2), (3, 2)]


def test_12_4_push_goes_onto_blocks_transmissions_pickups_and_exit() -> None:
    state = rich(
        (2, 2),
        blocks={(4, 2): data(1)},
        transmissions=[transmission(0, 2, turns_left=5)],
        data_siphons=[(0, 0)],
        enemies=[enemy("daemon", *cell) for cell in ((3, 2), (1, 2), (1, 1), (4, 4))],
    )
    after = play(state, "push").state
    assert places(after) == [(4, 2), (0, 2), (0, 0), (5, 5)]
    assert after.data_siphons == {(0, 0)}


def test_12_4_pull_the_earlier_mover_takes_the_cell() -> None:
    assert pulled((3, 3), (2, 4)) == [(2, 3), (2, 4)]
    assert pulled((2, 4), (3, 3)) == [(2, 3), (3, 3)]


def test_12_4_push_and_pull_keep_hp_stun_and_hint() -> None:
    state = rich(enemies=[enemy("cryptog", 4, 4, 1, stunned=True, last_known=(0, 0))])
    (after,) = play(state, "pull").state.enemies
    assert (after.hp, after.stunned, after.last_known) == (1, True, (0, 0))


def test_12_4_crash_clears_the_surrounding_cells() -> None:
    state = rich(
        (2, 2),
        exit=(0, 0),
        attack=1,
        blocks={(3, 3): data(3), (2, 2): data(1), (4, 4): data(2)},
        siphoned=[(3, 3)],
        resources={(3, 3): Resource(2)},
        data_siphons=[(1, 1)],
        enemies=[enemy("daemon", 3, 2, 9), enemy("virus", 3, 2), enemy("glitch", 2, 2), enemy("virus", 2, 4)],
        transmissions=[
            transmission(1, 2, turns_left=7),
            transmission(3, 2, turns_left=7),
            transmission(0, 2),
        ],
    )
    result = play(state, "crash")
    after = result.state
    assert after.blocks == {(2, 2): data(1), (4, 4): data(2)}
    assert after.siphoned_cells == {(3, 3)}
    assert after.resources == {(3, 3): Resource(2)}
    assert after.data_siphons == {(1, 1)}
    assert places(after) == [(2, 2), (2, 4)]
    assert [item.cell for item in after.transmissions] == [(0, 2)]
    assert result.kills == 3  # one stack, two transmissions


def test_12_4_warp_to_an_enemy_destroys_the_stack_and_leaves_a_transmission() -> None:
    state = rich(
        (2, 2),
        data_siphons=[(4, 4)],
        enemies=[enemy("virus", 1, 1), enemy("daemon", 4, 4), enemy("virus", 4, 4)],
        transmissions=[transmission(4, 4, turns_left=5)],
    )
    result = play(state, "warp", draws=ScriptedDraws(warp=2))
    after = result.state
    assert after.player.cell == (4, 4)
    assert places(after) == [(1, 1)]
    assert len(after.transmissions) == 1
    assert after.data_siphons == {(4, 4)}
    assert after.player.data_siphons == 0
    assert after.turn == 0
    assert result.kills == 1
    assert not result.data_siphon_collected


def test_12_4_warp_to_a_transmission_leaves_enemies_there() -> None:
    state = rich(enemies=[enemy("daemon", 4, 4)], transmissions=[transmission(0, 1), transmission(4, 4)])
    after = play(state, "warp", draws=ScriptedDraws(warp=2)).state
    assert after.player.cell == (4, 4)
    assert places(after) == [(4, 4)]
    assert [item.cell for item in after.transmissions] == [(0, 1)]


def test_12_4_warp_onto_a_block_and_then_an_enemy_phase_around_it() -> None:
    state = rich(blocks={(4, 4): data(1)}, enemies=[enemy("glitch", 4, 4)])
    after = play(state, "warp").state
    assert after.player.cell == (4, 4)
    assert after.blocks == {(4, 4): data(1)}


def test_12_4_warp_onto_the_exit_finishes_the_stage() -> None:
    result = play(rich(stage=3, enemies=[enemy("daemon", 5, 5)]), "warp")
    assert result.stage_completed
    assert result.state.stage == 4


def test_12_4_warp_elsewhere_finishes_nothing() -> None:
    assert not play(rich((5, 5), enemies=[enemy("daemon", 4, 5)]), "warp").stage_completed


def test_12_4_a_transmission_may_mature_under_the_player_after_a_warp() -> None:
    state = rich(enemies=[enemy("daemon", 4, 4)], transmissions=[transmission(4, 4, "glitch")])
    after = play(state, "warp", "wait").state
    assert places(after) == [(4, 4)]
    assert after.player.cell == (4, 4)
    assert after.player.hp == 3


def test_12_4_poly_carries_damage_over_and_keeps_the_rest() -> None:
    state = rich(
        enemies=[
            enemy("virus", 5, 5, 1, stunned=True, from_siphon=True, disabled_turns=2),
            enemy("daemon", 0, 0, 3),
            enemy("daemon", 4, 4, 1),
            enemy("cryptog", 5, 0, 2, last_known=(1, 1)),
        ]
    )
    result = play(state, "poly", draws=ScriptedDraws(poly=["daemon", "cryptog", "virus", "glitch"]))
    first, second, third = result.state.enemies
    assert (first.type, first.hp, first.stunned, first.from_siphon, first.disabled_turns) == (
        "daemon",
        2,
        True,
        True,
        2,
    )
    assert (second.type, second.hp, second.last_known) == ("cryptog", 2, (0, 0))
    assert (third.type, third.hp, third.last_known) == ("glitch", 2, None)
    assert result.kills == 1  # a daemon with 1 hp always dies


def test_12_4_poly_chooses_among_the_three_other_types() -> None:
    with pytest.raises(ValueError, match="poly_type"):
        play(rich(enemies=[enemy("virus", 5, 5)]), "poly", draws=ScriptedDraws(poly=["virus"]))


def test_12_4_wait_runs_the_phase() -> None:
    assert play(rich(), "wait").state.turn == 1


def test_12_4_step_skips_the_next_phase_and_only_that() -> None:
    state = rich(enemies=[enemy("daemon", 2, 3)])
    after = play(state, "step", "step", "wait").state
    assert (after.player.hp, after.turn, after.player.energy) == (3, 0, 50 - 3 - 3 - 1)
    after = play(after, "wait").state
    assert (after.player.hp, after.turn) == (2, 1)


def test_12_4_siph_plus_gives_a_data_siphon() -> None:
    result = play(rich(), "siph_plus")
    assert result.state.player.data_siphons == 1
    assert not result.data_siphon_collected


def test_12_4_exch_turns_4_credits_into_4_energy() -> None:
    after = play(game(own=["exch"], credits=4), "exch").state
    assert (after.player.credits, after.player.energy) == (0, 4)


def test_12_4_show_reset_calm_set_what_they_say() -> None:
    after = play(rich(hp=1), "show", "reset", "calm").state
    assert after.flags == Flags(show_activated=True, scheduled_tasks_disabled=True)
    assert after.player.hp == 3


def test_12_4_d_bom_takes_the_nearest_daemon_and_damages_around_it_by_1() -> None:
    state = rich(
        (2, 2),
        attack=3,
        enemies=[
            enemy("daemon", 5, 5),
            enemy("daemon", 2, 4),  # nearest, first of two at distance 2
            enemy("daemon", 4, 2),
            enemy("virus", 3, 5, 1),
            enemy("glitch", 1, 3),
            enemy("glitch", 2, 4, 1),  # on the daemon's own cell
            enemy("virus", 2, 0),
        ],
    )
    result = play(state, "d_bom")
    assert hp_of(result.state) == [
        ("daemon", 3, False), ("daemon", 3, False), ("glitch", 1, True), ("glitch", 1, False), ("virus", 2, False)
    ]  # fmt: skip
    assert result.kills == 2


def test_12_4_delay_adds_3_to_every_transmission() -> None:
    after = play(rich(transmissions=[transmission(0, 0), transmission(5, 0, turns_left=7)]), "delay").state
    assert [item.turns_left for item in after.transmissions] == [4, 10]


@pytest.mark.parametrize(("stage", "gain"), [(1, 7), (7, 1)])
def test_12_4_score_pays_8_minus_stage(stage: int, gain: int) -> None:
    assert play(rich(stage=stage, score=5), "score").state.player.score == 5 + gain


def test_12_4_reduc_lowers_unsiphoned_spawn_counts_hidden_ones_too() -> None:
    state = rich(
        blocks={
            (4, 4): data(3),
            (4, 0): data(3, 0),
            (0, 4): question(program("row")),
            (1, 1): data(5, 5),
        },
        siphoned=[(1, 1)],
    )
    after = play(state, "reduc").state
    assert {cell: block.spawn_count for cell, block in after.blocks.items()} == {
        (4, 4): 2,
        (4, 0): 0,
        (0, 4): 1,
        (1, 1): 5,
    }
    assert after.blocks[(4, 4)].points == 3


def test_12_4_atk_plus_twice_per_stage_without_a_cap_on_damage() -> None:
    after = play(rich(attack=7), "atk_plus", "atk_plus").state
    assert (after.player.attack_damage, after.atk_plus_uses) == (9, 2)
    assert "atk_plus" not in legal(after)


# 12.5


def scheduled(kind, row, col, hp=None, **fields):
    return enemy(kind, row, col, hp, from_schedule=True, **fields)


@pytest.mark.parametrize("action", ["right", "row", "hack", "anti_v", "debug", "crash", "warp"])
def test_12_5_scheduled_enemies_are_no_kills(action: str) -> None:
    state = rich(
        (2, 2),
        attack=9,
        siphoned=[(2, 3)],
        blocks={(2, 3): data(1, 0)},
        enemies=[scheduled("virus", 2, 3, 1)],
    )
    result = play(state, action)
    assert result.state.enemies == []
    assert result.kills == 0


def test_12_5_scheduled_daemon_and_poly_victims_are_no_kills() -> None:
    bomb = play(rich(enemies=[scheduled("daemon", 4, 4), enemy("virus", 4, 5, 1)]), "d_bom")
    assert bomb.kills == 1  # the side damage
    poly = play(rich(enemies=[scheduled("daemon", 4, 4, 1), enemy("daemon", 5, 5, 1)]), "poly")
    assert poly.kills == 1


@pytest.mark.parametrize("action", ["crash", "warp"])
def test_12_5_a_stack_counts_once_by_its_first_enemy(action: str) -> None:
    mine_first = rich(enemies=[enemy("virus", 3, 3), scheduled("virus", 3, 3), enemy("virus", 3, 3)])
    assert play(mine_first, action).kills == 1
    theirs_first = rich(enemies=[scheduled("virus", 3, 3), enemy("virus", 3, 3)])
    assert play(theirs_first, action).kills == 0


@pytest.mark.parametrize(("origin", "kills"), [(False, 1), (True, 0)])
def test_12_5_transmissions_count_unless_scheduled(origin: bool, kills: int) -> None:
    state = rich((2, 2), transmissions=[transmission(2, 3, from_schedule=origin, from_siphon=True)])
    for action in ("right", "crash", "warp"):
        assert play(state, action).kills == kills


# 13


def test_13_undo_takes_back_the_programs_since_the_last_phase() -> None:
    start = rich(enemies=[stunned("daemon", 5, 5)], transmissions=[transmission(0, 0, turns_left=9)])
    after_wait = play(start, "wait").state
    back = play(after_wait, "push", "delay", "show", "calm", "atk_plus", "siph_plus", "undo").state
    expected = after_wait.copy()
    expected.history = []
    expected.episode = back.episode
    assert back == expected  # the price of all of them is refunded too


def test_13_a_second_undo_takes_back_a_full_turn() -> None:
    first = play(rich((2, 2)), "up").state
    after = play(first, "up", "undo", "undo").state
    assert after.player.cell == (3, 2)
    assert after.turn == 1
    assert after.history == []


def test_13_the_first_undo_after_a_phase_changes_nothing_but_the_refund() -> None:
    first = play(rich((2, 2)), "up").state
    after = play(first, "undo").state
    assert after.player == first.player
    assert after.history == []


def test_13_undo_restores_the_board_and_the_owned_programs() -> None:
    start = rich(
        (2, 2),
        siphons=2,
        own=["wait", "undo", "crash"],
        blocks={(3, 2): data(4), (2, 3): question(program("row"))},
        resources={(2, 1): Resource(3)},
        data_siphons=[(0, 0)],
    )
    before = play(start, "wait").state
    after = play(before, "siphon", "crash", "undo", "undo").state
    assert after.blocks == before.blocks
    assert after.resources == before.resources
    assert after.siphoned_cells == set()
    assert after.siphon_centers == set()
    assert after.owned_programs == {"wait", "undo", "crash"}
    assert after.player.score == 0
    assert after.player.data_siphons == 2
    assert after.transmissions == []


def test_13_what_a_snapshot_does_not_hold_stays_as_it_is() -> None:
    start = rich((2, 2), siphons=1, blocks={(3, 2): data(2)}, schedule=Schedule(9, 100))
    before = play(start, "wait").state
    siphoned = play(before, "siphon", "step").state
    siphoned.schedule.pending_siphon_spawns = 3
    after = play(siphoned, "undo", "undo").state
    assert (after.schedule.interval, after.schedule.next_turn) == (8, 105)
    assert after.schedule.pending_siphon_spawns == 3
    assert after.flags.step_active
    assert after.stage == 1


def test_13_step_then_undo_refunds_the_energy_but_leaves_step_on() -> None:
    before = play(rich(), "wait").state
    after = play(before, "step", "undo").state
    assert after.player.energy == before.player.energy
    assert after.flags.step_active


def test_13_restored_enemies_and_transmissions_have_no_origin() -> None:
    state = rich(
        enemies=[
            stunned("daemon", 5, 5),
            enemy("virus", 5, 0, from_siphon=True, disabled_turns=5, last_known=None),
        ],
        transmissions=[transmission(0, 0, turns_left=9, from_schedule=True)],
    )
    state.enemies[0].from_schedule = True
    before = play(state, "wait").state
    assert before.enemies[0].from_schedule
    after = play(before, "undo").state
    assert not any(item.from_siphon or item.from_schedule for item in [*after.enemies, *after.transmissions])
    assert after.enemies[1].disabled_turns == 4


def test_13_skipped_phases_push_nothing() -> None:
    after = play(rich(), "wait", "step", "wait").state
    assert len(after.history) == 1


def test_13_a_stage_change_empties_the_history() -> None:
    after = play(rich((5, 3)), "right", "right").state
    assert after.stage == 2
    assert after.history == []
    assert "undo" not in legal(after)


@pytest.mark.parametrize("depth", [1, 3])
def test_13_only_the_newest_snapshots_are_kept(depth: int) -> None:
    state = play(rich((0, 0), sizes=Sizes(undo_depth=depth)), *["wait"] * 5).state
    assert [snapshot.turn for snapshot in state.history] == list(range(6 - depth, 6))
    for turn in range(5, 5 - depth, -1):
        state = play(state, "undo").state
        assert state.turn == turn
    assert "undo" not in legal(state)


def test_13_an_undone_state_is_not_tied_to_its_snapshot() -> None:
    twice = play(rich(enemies=[stunned("daemon", 5, 5)]), "wait", "wait").state
    first = twice.history[0]
    turns = [snapshot.turn for snapshot in twice.history]
    after = play(twice, "undo", "push", "atk_plus", "wait").state
    assert after.history[0] is first
    assert [snapshot.turn for snapshot in twice.history] == turns
    assert first.enemies[0].cell == (5, 5)
