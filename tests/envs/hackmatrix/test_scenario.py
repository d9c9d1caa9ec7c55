"""The scenario format: defaults, checks on loading, round trip, canonical text, replays."""

from __future__ import annotations

import copy
import hashlib
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from matrixrl.envs.hackmatrix.referee import (
    Block,
    Enemy,
    Episode,
    Flags,
    GameState,
    Player,
    RandomDraws,
    Resource,
    Schedule,
    Sizes,
    Transmission,
    legal_action_mask,
    step,
)
from matrixrl.envs.hackmatrix.scenario import (
    ReplayStep,
    Rng,
    ScenarioError,
    ScenarioReplay,
    canonical_text,
    dump,
    dump_text,
    load,
    run_replay,
    state_hash,
)
from tests.envs.hackmatrix.boards import ACTION, ScriptedDraws, play, rich, transmission
from tests.envs.hackmatrix.strategies import game_states

EXAMPLE = """
{
  "format": "hackmatrix-scenario",
  "version": 1,
  "meta": {"name": "siphon next to a daemon", "notes": "6 points, 3 credits, 6 spawns pending until the phase ends"},
  "stage": 2,
  "turn": 4,
  "player": {"row": 2, "col": 2, "hp": 2, "credits": 1, "energy": 3, "data_siphons": 2, "score": 9},
  "owned_programs": ["wait", "undo"],
  "exit": {"row": 0, "col": 5},
  "blocks": [
    {"row": 3, "col": 2, "kind": "data", "points": 6},
    {"row": 4, "col": 1, "kind": "program", "program": "row"},
    {"row": 1, "col": 4, "kind": "question", "hidden_kind": "program", "program": "crash"}
  ],
  "data_siphons": [[5, 5]],
  "resources": [
    {"row": 2, "col": 3, "credits": 3},
    {"row": 5, "col": 5, "energy": 1}
  ],
  "enemies": [{"type": "daemon", "row": 5, "col": 4, "hp": 2, "from_siphon": true}],
  "transmissions": [{"row": 0, "col": 0, "enemy_type": "glitch", "turns_left": 2}],
  "flags": {"show_activated": true},
  "schedule": {"interval": 11, "next_turn": 11},
  "replay": {"actions": [4, 10], "expect": [{"done": false}, null]}
}
"""


def minimal(**fields):
    return {"format": "hackmatrix-scenario", "version": 1, "player": {"row": 2, "col": 3}, **fields}


# The example


def test_the_example_loads_as_written() -> None:
    scenario = load(EXAMPLE)
    assert scenario.meta["name"] == "siphon next to a daemon"
    assert scenario.state == GameState(
        stage=2,
        turn=4,
        player=Player(2, 2, hp=2, credits=1, energy=3, data_siphons=2, score=9),
        owned_programs={"wait", "undo"},
        exit=(0, 5),
        blocks={
            (3, 2): Block("data", points=6, spawn_count=6),
            (4, 1): Block("program", program="row", spawn_count=2),
            (1, 4): Block("question", hidden_kind="program", program="crash", spawn_count=6),
        },
        data_siphons={(5, 5)},
        resources={(2, 3): Resource(credits=3), (5, 5): Resource(energy=1)},
        enemies=[Enemy("daemon", 5, 4, 2, from_siphon=True)],
        transmissions=[Transmission(0, 0, "glitch", 2)],
        flags=Flags(show_activated=True),
        schedule=Schedule(11, 11),
    )


def test_the_example_plays_as_its_text_says() -> None:
    after = play(load(EXAMPLE).state, "siphon").state
    assert (after.player.score, after.player.credits, after.player.data_siphons) == (15, 4, 1)
    assert (after.schedule.interval, after.schedule.next_turn, after.turn) == (10, 16, 5)
    assert after.enemies[0].cell == (4, 4)
    assert [item.turns_left for item in after.transmissions] == [1] * 7
    assert sum(item.from_siphon for item in after.transmissions) == 6


# Defaults


def test_a_minimal_scenario_has_the_defaults_of_the_format() -> None:
    assert load(minimal()).state == GameState(player=Player(2, 3), exit=(5, 5), schedule=Schedule(12, 12))


def test_schedule_defaults_follow_stage_and_interval() -> None:
    assert load(minimal(stage=5, turn=30)).state.schedule == Schedule(8, 8)
    assert load(minimal(stage=5, schedule={"interval": 4})).state.schedule == Schedule(4, 4)


def test_enemy_and_transmission_defaults() -> None:
    state = load(
        minimal(
            enemies=[{"type": "daemon", "row": 0, "col": 0}, {"type": "cryptog", "row": 0, "col": 1}],
            transmissions=[{"row": 4, "col": 4, "enemy_type": "virus"}],
        )
    ).state
    assert [(item.hp, item.last_known) for item in state.enemies] == [(3, None), (2, (0, 1))]
    assert state.transmissions == [transmission(4, 4, "virus", 1)]
    unknown = [{"type": "cryptog", "row": 0, "col": 1, "last_known": None}]
    assert load(minimal(enemies=unknown)).state.enemies[0].last_known is None


def test_programs_by_action_index() -> None:
    state = load(
        minimal(
            owned_programs=[5, "hack", 10], blocks=[{"row": 0, "col": 0, "kind": "program", "program": 12}]
        )
    ).state
    assert state.owned_programs == {"push", "hack", "wait"}
    assert state.blocks[(0, 0)].program == "row"
    assert state.blocks[(0, 0)].spawn_count == 2


def test_a_hand_written_snapshot_has_the_defaults_too() -> None:
    (snapshot,) = load(
        minimal(
            history=[{"player": {"row": 1, "col": 1}, "enemies": [{"type": "virus", "row": 0, "col": 0}]}]
        )
    ).state.history
    assert snapshot.player == Player(1, 1)
    assert snapshot.enemies == [Enemy("virus", 0, 0, 2)]
    assert snapshot.turn == 0


def test_a_resource_of_nothing_is_nothing() -> None:
    assert load(minimal(resources=[{"row": 1, "col": 1}])).state.resources == {}


def test_the_scenarios_own_sizes_are_ignored_and_the_loaders_count() -> None:
    state = load(minimal(config={"enemy_slots": 2, "undo_depth": 1}), Sizes(20, 20, 4)).state
    assert state.config == Sizes(20, 20, 4)


def test_positions_that_play_cannot_reach_are_allowed() -> None:
    state = load(
        minimal(
            turn=999,
            player={"row": 5, "col": 5, "hp": 0},
            blocks=[
                {"row": 0, "col": 0, "kind": "data", "points": 40, "spawn_count": 30},
                {"row": 0, "col": 1, "kind": "data", "points": 2, "siphoned": True, "spawn_count": 5},
            ],
            enemies=[{"type": "virus", "row": 0, "col": 0, "hp": 77}, {"type": "daemon", "row": 0, "col": 0}],
            transmissions=[{"row": 0, "col": 1, "enemy_type": "daemon"}],
            resources=[{"row": 0, "col": 0, "credits": 9, "energy": 8}],
        )
    ).state
    assert state.player.cell == state.exit
    assert state.siphoned_cells == {(0, 1)}
    assert load(minimal(player={"row": 0, "col": 0}, blocks=[{"row": 0, "col": 0, "kind": "data"}]))


# Checks


VIRUS = {"type": "virus", "row": 1, "col": 1}
DATA = {"row": 1, "col": 1, "kind": "data"}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        # 1: off the board, below the minimum, hp
        ({"player": {"row": 6, "col": 0}}, "player.row"),
        ({"player": {"row": 0, "col": -1}}, "player.col"),
        ({"player": {"row": 0, "col": 0, "hp": 4}}, "player.hp"),
        ({"player": {"row": 0, "col": 0, "hp": -1}}, "player.hp"),
        ({"player": {"row": 0, "col": 0, "credits": -1}}, "player.credits"),
        ({"player": {"row": 0, "col": 0, "attack_damage": 0}}, "player.attack_damage"),
        ({"enemies": [VIRUS, {**VIRUS, "hp": 0}]}, "enemies[1].hp"),
        ({"enemies": [{**VIRUS, "disabled_turns": -1}]}, "enemies[0].disabled_turns"),
        ({"enemies": [{**VIRUS, "last_known": [0, 6]}]}, "enemies[0].last_known[1]"),
        ({"transmissions": [{"row": 1, "col": 1, "enemy_type": "virus", "turns_left": 0}]}, "transmissions[0].turns_left"),
        ({"data_siphons": [[0, 6]]}, "data_siphons[0][1]"),
        ({"siphon_centers": [[-1, 0]]}, "siphon_centers[0][0]"),
        ({"resources": [{"row": 0, "col": 9}]}, "resources[0].col"),
        ({"resources": [{"row": 0, "col": 0, "energy": -2}]}, "resources[0].energy"),
        ({"blocks": [{**DATA, "spawn_count": -1}]}, "blocks[0].spawn_count"),
        ({"blocks": [{**DATA, "points": -1}]}, "blocks[0].points"),
        ({"stage": 0}, "stage"),
        ({"stage": 9}, "stage"),
        ({"turn": -1}, "turn"),
        ({"atk_plus_uses": -1}, "atk_plus_uses"),
        ({"schedule": {"interval": -1}}, "schedule.interval"),
        ({"schedule": {"pending_siphon_spawns": -1}}, "schedule.pending_siphon_spawns"),
        ({"episode": {"steps": -1}}, "episode.steps"),
        # 2: two contents
        ({"blocks": [DATA], "data_siphons": [[1, 1]]}, "data_siphons"),
        ({"blocks": [{**DATA, "row": 5, "col": 5}]}, "blocks[0]"),
        ({"exit": {"row": 0, "col": 0}, "data_siphons": [[0, 0]]}, "data_siphons"),
        # 3: exit
        ({"exit": {"row": 0, "col": 1}}, "exit"),
        ({"exit": {"row": 6, "col": 0}}, "exit.row"),
        # 4: transmissions per cell
        ({"transmissions": [{"row": 1, "col": 1, "enemy_type": t} for t in ("virus", "daemon")]}, "transmissions[1]"),
        # 5: repetition
        ({"blocks": [DATA, DATA]}, "blocks[1]"),
        ({"resources": [{"row": 1, "col": 1, "credits": 1}, {"row": 1, "col": 1}]}, "resources[1]"),
        ({"resources": [{"row": 1, "col": 1}, {"row": 1, "col": 1}]}, "resources[1]"),
        ({"data_siphons": [[1, 1], [1, 1]]}, "data_siphons[1]"),
        ({"siphoned_cells": [[1, 1], [2, 2], [1, 1]]}, "siphoned_cells[2]"),
        ({"siphon_centers": [[1, 1], [1, 1]]}, "siphon_centers[1]"),
        ({"owned_programs": ["row", "wait", "row"]}, "owned_programs[2]"),
        ({"owned_programs": ["row", 12]}, "owned_programs[1]"),
        # 6: what a block's kind requires
        ({"blocks": [{"row": 1, "col": 1}]}, "blocks[0].kind"),
        ({"blocks": [{"row": 1, "col": 1, "kind": "wall"}]}, "blocks[0].kind"),
        ({"blocks": [{"row": 1, "col": 1, "kind": "program"}]}, "blocks[0].program"),
        ({"blocks": [{"row": 1, "col": 1, "kind": "program", "program": "zap"}]}, "blocks[0].program"),
        ({"blocks": [{"row": 1, "col": 1, "kind": "program", "program": 4}]}, "blocks[0].program"),
        ({"blocks": [{"row": 1, "col": 1, "kind": "question"}]}, "blocks[0].hidden_kind"),
        ({"blocks": [{"row": 1, "col": 1, "kind": "question", "hidden_kind": "question"}]}, "blocks[0].hidden_kind"),
        ({"blocks": [{"row": 1, "col": 1, "kind": "question", "hidden_kind": "program"}]}, "blocks[0].program"),
        ({"blocks": [{**DATA, "hidden_kind": "data"}]}, "blocks[0].hidden_kind"),
        ({"blocks": [{**DATA, "program": "row"}]}, "blocks[0].program"),
        ({"blocks": [{"row": 1, "col": 1, "kind": "program", "program": "row", "points": 3}]}, "blocks[0].points"),
        ({"blocks": [{**DATA, "kind": "question", "hidden_kind": "data", "siphoned": True}]}, "blocks[0].siphoned"),
        ({"blocks": [DATA], "siphoned_cells": [[1, 1]]}, "siphoned_cells"),
        # unknown keys and wrong types
        ({"plaver": {}}, "plaver"),
        ({"player": {"row": 0, "col": 0, "mana": 1}}, "player.mana"),
        ({"enemies": [{**VIRUS, "name": "bob"}]}, "enemies[0].name"),
        ({"flags": {"god_mode": True}}, "flags.god_mode"),
        ({"config": {"slots": 3}}, "config.slots"),
        ({"config": {"undo_depth": 0}}, "config.undo_depth"),
        ({"exit": {"row": 0, "col": 0, "open": True}}, "exit.open"),
        ({"exit": [0, 0]}, "exit"),
        ({"flags": {"step_active": 1}}, "flags.step_active"),
        ({"turn": 1.0}, "turn"),
        ({"turn": True}, "turn"),
        ({"turn": "3"}, "turn"),
        ({"turn": 2**31}, "turn"),
        ({"blocks": {}}, "blocks"),
        ({"blocks": [[1, 1]]}, "blocks[0]"),
        ({"data_siphons": [{"row": 1, "col": 1}]}, "data_siphons[0]"),
        ({"data_siphons": [[1, 1, 1]]}, "data_siphons[0]"),
        ({"meta": "name"}, "meta"),
        ({"player": None}, "player"),
        ({"enemies": [{**VIRUS, "type": "dragon"}]}, "enemies[0].type"),
        ({"enemies": [{"row": 0, "col": 0}]}, "enemies[0].type"),
        ({"enemies": [{"type": "virus", "col": 0}]}, "enemies[0].row"),
        ({"owned_programs": ["wait", "siphon"]}, "owned_programs[1]"),
        ({"owned_programs": [28]}, "owned_programs[0]"),
        ({"episode": {"outcome": "lost"}}, "episode.outcome"),
        ({"episode": {"return": "1"}}, "episode.return"),
        # history
        ({"history": [{}]}, "history[0].player"),
        ({"history": [{"player": {"row": 0, "col": 9}}]}, "history[0].player.col"),
        ({"history": [{"player": {"row": 0, "col": 0}, "enemies": [{**VIRUS, "from_siphon": True}]}]}, "history[0].enemies[0].from_siphon"),
        ({"history": [{"player": {"row": 0, "col": 0}, "stage": 1}]}, "history[0].stage"),
        ({"history": [{"player": {"row": 0, "col": 0}, "blocks": [{**DATA, "row": 5, "col": 5}]}]}, "history[0].blocks[0]"),
        # rng and replay
        ({"rng": {"impl": "mt19937", "key": [1, 2]}}, "rng.impl"),
        ({"rng": {"impl": "threefry2x32", "key": [1, 2**32]}}, "rng.key[1]"),
        ({"rng": {"impl": "threefry2x32", "key": [1]}}, "rng.key"),
        ({"replay": {}}, "replay.actions"),
        ({"replay": {"actions": [0, 28]}}, "replay.actions[1]"),
        ({"replay": {"actions": [0], "keys": []}}, "replay.keys"),
        ({"replay": {"actions": [0], "expect": [None, None]}}, "replay.expect"),
        ({"replay": {"actions": [0], "expect": [{"score": 1}]}}, "replay.expect[0].score"),
        ({"replay": {"actions": [0], "expect": [{"breakdown": {"luck": 1}}]}}, "replay.expect[0].breakdown.luck"),
        ({"replay": {"actions": [0], "expect": [{"done": 1}]}}, "replay.expect[0].done"),
        ({"replay": {"actions": [0], "expect": [{"state_hash": 1}]}}, "replay.expect[0].state_hash"),
    ],
)  # fmt: skip
def test_a_faulty_scenario_is_refused_by_its_field(fields, field) -> None:
    with pytest.raises(ScenarioError) as caught:
        load(minimal(**fields))
    assert caught.value.field == field
    assert str(caught.value).startswith(field + ": ")


@pytest.mark.parametrize("key", ["format", "version", "player"])
def test_required_keys(key: str) -> None:
    scenario = minimal()
    del scenario[key]
    with pytest.raises(ScenarioError, match=f"{key}: is required"):
        load(scenario)


def test_another_format_or_version_is_refused() -> None:
    with pytest.raises(ScenarioError, match="format: 'chess' is not 'hackmatrix-scenario'"):
        load(minimal(format="chess"))
    with pytest.raises(ScenarioError, match="version: 2 is not known"):
        load(minimal(version=2))


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"enemies": [VIRUS] * 3}, "enemies"),
        ({"transmissions": [{"row": 0, "col": c, "enemy_type": "virus"} for c in range(3)]}, "transmissions"),
        ({"history": [{"player": {"row": 0, "col": 0}}] * 3}, "history"),
        ({"history": [{"player": {"row": 0, "col": 0}, "enemies": [VIRUS] * 3}]}, "history[0].enemies"),
    ],
)
def test_more_than_the_slots_is_refused(fields, field) -> None:
    small = Sizes(enemy_slots=2, transmission_slots=2, undo_depth=2)
    with pytest.raises(ScenarioError, match="more than the 2") as caught:
        load(minimal(**fields), small)
    assert caught.value.field == field
    assert load(minimal(**fields)).state


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "not an object"),
        ("", "not JSON"),
        ('{"format": 1, "format": 2}', "the key 'format' stands twice"),
        ('{"turn": NaN}', "NaN is not a JSON number"),
        ('{"turn": ' + "9" * 5000 + "}", "a number of 5,000 digits"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_text_that_is_no_scenario_is_refused(text: str, message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        load(text)


# Round trip


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(game_states())
def test_load_of_dump_is_the_state(state: GameState) -> None:
    assert load(dump(state)).state == state
    assert load(dump_text(state)).state == state
    assert load(canonical_text(state)).state == state
    assert state_hash(load(dump(state)).state) == state_hash(state)


def test_a_dump_has_every_field() -> None:
    state = play(rich(blocks={(3, 3): Block("data", 2)}, enemies=[Enemy("virus", 5, 0, 1)]), "wait").state
    scenario = dump(state)
    assert set(scenario) == {
        "format", "version", "meta", "config", "stage", "turn", "player", "owned_programs", "exit", "blocks",
        "data_siphons", "resources", "siphoned_cells", "siphon_centers", "enemies", "transmissions", "flags",
        "atk_plus_uses", "schedule", "history", "episode",
    }  # fmt: skip
    assert set(scenario["history"][0]) == {
        "player", "turn", "owned_programs", "enemies", "transmissions", "blocks", "data_siphons", "resources",
        "siphoned_cells", "siphon_centers", "show_activated", "scheduled_tasks_disabled", "atk_plus_uses",
    }  # fmt: skip
    assert "from_siphon" not in scenario["history"][0]["enemies"][0]
    assert "from_siphon" in scenario["enemies"][0]
    assert json.loads(json.dumps(scenario)) == scenario


def test_dump_carries_meta_rng_and_replay() -> None:
    state = load(minimal()).state
    rng = Rng("threefry2x32", (7, 2**32 - 1))
    replay = ScenarioReplay((4, 0), ((1, 2), (3, 4)), ({"reward": 1.5, "breakdown": {"stage": 0.0}}, None))
    again = load(json.dumps(dump(state, meta={"name": "x"}, rng=rng, replay=replay)))
    assert (again.meta, again.rng, again.replay) == ({"name": "x"}, rng, replay)
    assert "rng" not in dump(state)
    assert "replay" not in dump(state)


def test_resuming_from_a_dump_plays_on_as_if_nothing_had_happened() -> None:
    rng = np.random.default_rng(5)
    state = rich(siphons=3, enemies=[Enemy("virus", 5, 0, 2), Enemy("glitch", 0, 5, 2)])
    for _ in range(12):
        mask = legal_action_mask(state)
        action = int(rng.choice(np.flatnonzero(mask)))
        seed = int(rng.integers(2**32))
        first = step(state, action, RandomDraws(np.random.default_rng(seed)))
        second = step(load(dump_text(state)).state, action, RandomDraws(np.random.default_rng(seed)))
        assert first == second
        if first.done:
            break
        state = first.state


# Canonical text


def test_the_canonical_text_is_pinned() -> None:
    text = canonical_text(load(minimal(enemies=[VIRUS], blocks=[{**DATA, "points": 2}])).state)
    assert text == (
        '{"atk_plus_uses":0,"blocks":[{"col":1,"hidden_kind":null,"kind":"data","points":2,"program":null,"row":1,'
        '"siphoned":false,"spawn_count":2}],"config":{"enemy_slots":36,"transmission_slots":36,"undo_depth":8},'
        '"data_siphons":[],"enemies":[{"col":1,"disabled_turns":0,"from_schedule":false,"from_siphon":false,"hp":2,'
        '"last_known":null,"row":1,"stunned":false,"type":"virus"}],"episode":{"done":false,"outcome":null,'
        '"return":0.0,"steps":0},"exit":{"col":5,"row":5},"flags":{"scheduled_tasks_disabled":false,'
        '"show_activated":false,"step_active":false},"format":"hackmatrix-scenario","history":[],"owned_programs":[],'
        '"player":{"attack_damage":1,"col":3,"credits":0,"data_siphons":0,"energy":0,"hp":3,"row":2,"score":0},'
        '"resources":[],"schedule":{"interval":12,"next_turn":12,"pending_siphon_spawns":0},"siphon_centers":[],'
        '"siphoned_cells":[],"stage":1,"transmissions":[],"turn":0,"version":1}'
    )
    assert state_hash(load(minimal(enemies=[VIRUS], blocks=[{**DATA, "points": 2}])).state) == (
        hashlib.sha256(text.encode()).hexdigest()
    )


def test_cell_lists_are_sorted_but_the_order_of_enemies_is_state() -> None:
    other = {**VIRUS, "row": 0}
    base = minimal(
        siphoned_cells=[[3, 3], [1, 2]],
        resources=[{"row": 4, "col": 4, "credits": 1}, {"row": 0, "col": 4, "energy": 1}],
        owned_programs=["hack", "push"],
        enemies=[VIRUS, other],
        meta={"name": "a"},
    )
    shuffled = copy.deepcopy(base)
    for key in ("siphoned_cells", "resources", "owned_programs"):
        shuffled[key].reverse()
    shuffled["meta"] = {"name": "b"}
    assert state_hash(load(base).state) == state_hash(load(shuffled).state)
    shuffled["enemies"].reverse()
    assert state_hash(load(base).state) != state_hash(load(shuffled).state)


def test_the_random_state_is_part_of_the_hash() -> None:
    state = load(minimal()).state
    assert state_hash(state) != state_hash(state, Rng("threefry2x32", (0, 1)))


# Replay


def referee_step(state, action, key):
    seed = 0 if key is None else key
    result = step(state, action, RandomDraws(np.random.default_rng(seed)))
    return ReplayStep(result.state, result.reward, result.done, result.breakdown)


def test_a_replay_compares_with_what_is_expected() -> None:
    start = load(EXAMPLE)
    steps, differences = run_replay(start, referee_step)
    assert len(steps) == 2
    assert differences == []
    right = {
        "reward": steps[0].reward,
        "done": False,
        "state_hash": state_hash(steps[0].state),
        "breakdown": {"score": 3.0},
    }
    wrong = {"reward": 9.0, "done": True, "state_hash": "00", "breakdown": {"score": 1.0}}
    for expect, count in ((right, 0), (wrong, 4)):
        scenario = json.loads(EXAMPLE)
        scenario["replay"] = {"actions": [4, 10], "expect": [expect, None]}
        assert len(run_replay(load(scenario), referee_step)[1]) == count
    assert run_replay(load(scenario), referee_step)[1][0].startswith(
        "replay.expect[0].reward: expected 9.0, got 3.15"
    )


def test_a_replay_hands_over_its_keys_and_stops_at_the_end_of_the_game() -> None:
    seen = []

    def spy(state, action, key):
        seen.append(key)
        return referee_step(state, action, key)

    scenario = minimal(replay={"actions": [0, ACTION["hack"], 0], "keys": [[1, 2], [3, 4], [5, 6]]})
    _, differences = run_replay(load(scenario), spy)
    assert seen == [(1, 2), (3, 4)]
    assert differences == ["replay.actions[2]: the game ended before it (invalid_action)"]


def test_a_scenario_without_a_replay_has_nothing_to_play() -> None:
    with pytest.raises(ScenarioError, match="replay"):
        run_replay(load(minimal()), referee_step)


def test_an_ended_game_round_trips() -> None:
    over = step(load(minimal()).state, ACTION["hack"], ScriptedDraws()).state
    assert over.episode == Episode(done=True, outcome="invalid_action", steps=1)
    assert load(dump(over)).state == over
