"""Reading of a scenario with all its checks. The order of keys is that of the format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from matrixrl.envs.hackmatrix.referee.game import FIRST_PROGRAM, NUM_ACTIONS
from matrixrl.envs.hackmatrix.referee.reward import BREAKDOWN_KEYS
from matrixrl.envs.hackmatrix.referee.state import (
    BLOCK_KINDS,
    CORNERS,
    ENEMY_TYPES,
    LAST_STAGE,
    MAX_ATTACK_DAMAGE,
    MAX_CELL_NUMBER,
    MAX_COUNTDOWN,
    MAX_DISABLED_TURNS,
    MAX_ENEMY_HP,
    MAX_HP,
    MAX_RESOURCE,
    MAX_RETURN,
    MAX_SCENARIO_ENEMY_HP,
    MAX_SPAWNS,
    MAX_TURN,
    PROGRAM_NUMBER,
    PROGRAMS,
    Block,
    Cell,
    Enemy,
    Episode,
    Flags,
    GameState,
    HistoryEntry,
    Player,
    Resource,
    Schedule,
    Sizes,
    Transmission,
)
from matrixrl.envs.hackmatrix.scenario.fields import (
    JsonObject,
    ScenarioError,
    parse,
    read_cell,
    read_integer,
    read_number,
    read_pair,
    show,
)

FORMAT = "hackmatrix-scenario"
VERSION = 1
OUTCOMES = ("won", "died", "invalid_action")

Key = tuple[int, int]


@dataclass(frozen=True)
class Rng:
    """A random state (``rng``): the name of the generator and its key words."""

    impl: str
    key: Key


@dataclass(frozen=True)
class ScenarioReplay:
    """Actions to play from a scenario, with optional keys and expectations, one per action."""

    actions: tuple[int, ...]
    keys: tuple[Key, ...] | None = None
    expect: tuple[dict[str, Any] | None, ...] | None = None


@dataclass(frozen=True)
class Scenario:
    """A loaded scenario: the state, and the other contents of the format."""

    state: GameState
    meta: dict[str, Any] = field(default_factory=dict)
    rng: Rng | None = None
    replay: ScenarioReplay | None = None


def load(source: str | Mapping[str, Any], sizes: Sizes | None = None) -> Scenario:
    """Reads and checks a scenario.

    Args:
      source: the JSON text or the object.
      sizes: sizes of the implementation that plays the loaded game; the scenario's own ``config``
        is checked and otherwise ignored.

    Raises:
      ScenarioError: if the scenario is faulty; the message names the field.
    """
    sizes = sizes or Sizes()
    top = JsonObject(parse(source) if isinstance(source, str) else source, "")
    if top.required("format") != FORMAT:
        top.fail("format", f"{show(top.required('format'))} is not {FORMAT!r}")
    if top.integer("version") != VERSION:
        top.fail("version", f"{top.integer('version')} is not known; this program reads version {VERSION}")
    meta = top.child("meta")
    config = top.child("config")
    for name in ("enemy_slots", "transmission_slots", "undo_depth"):
        config.integer(name, default=1, minimum=1)
    config.finish()

    stage = top.integer("stage", default=1, minimum=1, maximum=LAST_STAGE)
    exit_cell = _read_exit(top)
    board = _read_board(top, exit_cell)
    state = GameState(
        stage=stage,
        turn=top.integer("turn", default=0, maximum=MAX_TURN),
        player=_read_player(top),
        owned_programs=_read_owned_programs(top),
        exit=exit_cell,
        blocks=board.blocks,
        data_siphons=board.data_siphons,
        resources=board.resources,
        siphoned_cells=board.siphoned_cells,
        siphon_centers=board.siphon_centers,
        enemies=_read_enemies(top, sizes, with_origin=True),
        transmissions=_read_transmissions(top, sizes, with_origin=True),
        flags=_read_flags(top),
        atk_plus_uses=top.integer("atk_plus_uses", default=0, maximum=MAX_TURN),
        schedule=_read_schedule(top, stage),
        history=_read_history(top, sizes, exit_cell),
        episode=_read_episode(top),
        config=sizes,
    )
    rng, replay = _read_rng(top), _read_replay(top)
    top.finish()
    return Scenario(state=state, meta=dict(meta.value), rng=rng, replay=replay)


def _program(value: Any, path: str) -> str:
    """Returns the name of a program, given by name or by action index 5..27."""
    if isinstance(value, int) and not isinstance(value, bool):
        return PROGRAMS[read_integer(value, path, FIRST_PROGRAM, NUM_ACTIONS - 1) - FIRST_PROGRAM].name
    if not isinstance(value, str) or value not in PROGRAM_NUMBER:
        raise ScenarioError(path, f"{show(value)} is no program; programs: {', '.join(PROGRAM_NUMBER)}")
    return value


def _read_player(parent: JsonObject) -> Player:
    item = JsonObject(parent.required("player"), parent.field("player"))
    row, col = item.cell()
    player = Player(
        row,
        col,
        hp=item.integer("hp", default=MAX_HP, maximum=MAX_HP),
        credits=item.integer("credits", default=0, maximum=MAX_RESOURCE),
        energy=item.integer("energy", default=0, maximum=MAX_RESOURCE),
        data_siphons=item.integer("data_siphons", default=0, maximum=MAX_RESOURCE),
        attack_damage=item.integer("attack_damage", default=1, minimum=1, maximum=MAX_ATTACK_DAMAGE),
        score=item.integer("score", default=0, maximum=MAX_RESOURCE),
    )
    item.finish()
    return player


def _read_owned_programs(parent: JsonObject) -> set[str]:
    owned: set[str] = set()
    for path, value in parent.items("owned_programs"):
        name = _program(value, path)
        if name in owned:
            raise ScenarioError(path, f"{name} stands twice")
        owned.add(name)
    return owned


def _read_exit(top: JsonObject) -> Cell:
    item = JsonObject(top.get("exit", {"row": 5, "col": 5}), "exit")
    cell = item.cell()
    item.finish()
    if cell not in CORNERS:
        raise ScenarioError("exit", f"{cell} is not a corner; corners: {', '.join(map(str, CORNERS))}")
    return cell


@dataclass(frozen=True)
class _Board:
    blocks: dict[Cell, Block]
    data_siphons: set[Cell]
    resources: dict[Cell, Resource]
    siphoned_cells: set[Cell]
    siphon_centers: set[Cell]


def _read_board(parent: JsonObject, exit_cell: Cell) -> _Board:
    """Reads the cells of a state or a snapshot and checks contents and repetition."""
    blocks: dict[Cell, Block] = {}
    siphoned: set[Cell] = set()
    for path, value in parent.items("blocks"):
        item = JsonObject(value, path)
        cell = item.cell()
        if cell in blocks:
            raise ScenarioError(path, f"{cell} stands twice in blocks")
        if cell == exit_cell:
            raise ScenarioError(path, f"{cell} is the exit; a cell has at most one content")
        blocks[cell] = _read_block(item)
        if item.flag("siphoned"):
            if blocks[cell].kind == "question":
                item.fail(
                    "siphoned", "a siphoned question block is a data or program block; write it as that"
                )
            siphoned.add(cell)
        item.finish()

    data_siphons = _read_cells(parent, "data_siphons")
    for cell in sorted(data_siphons):
        for other, name in ((set(blocks), "a block"), ({exit_cell}, "the exit")):
            if cell in other:
                parent.fail("data_siphons", f"{cell} has {name} too; a cell has at most one content")

    resources: dict[Cell, Resource] = {}
    listed: set[Cell] = set()
    for path, value in parent.items("resources"):
        item = JsonObject(value, path)
        cell = item.cell()
        if cell in listed:
            raise ScenarioError(path, f"{cell} stands twice in resources")
        listed.add(cell)
        resource = Resource(
            item.integer("credits", default=0, maximum=MAX_CELL_NUMBER),
            item.integer("energy", default=0, maximum=MAX_CELL_NUMBER),
        )
        item.finish()
        if resource != Resource():
            resources[cell] = resource

    without_block = _read_cells(parent, "siphoned_cells")
    for cell in sorted(without_block & set(blocks)):
        parent.fail("siphoned_cells", f"{cell} has a block, which carries its own flag `siphoned`")
    return _Board(
        blocks, data_siphons, resources, siphoned | without_block, _read_cells(parent, "siphon_centers")
    )


def _read_block(item: JsonObject) -> Block:
    kind = item.choice("kind", BLOCK_KINDS)
    hidden_kind = item.get("hidden_kind", None)
    if kind == "question":
        if hidden_kind not in ("data", "program"):
            item.fail("hidden_kind", f"{show(hidden_kind)}: a question block requires data or program here")
    elif hidden_kind is not None:
        item.fail("hidden_kind", f"{show(hidden_kind)}: only question blocks hide something")
    content = kind if hidden_kind is None else hidden_kind
    points = item.integer("points", default=0, maximum=MAX_CELL_NUMBER)
    program = item.get("program", None)
    if content == "data":
        if program is not None:
            item.fail("program", f"{show(program)}: data content has points, no program")
        spawn_count = points
    else:
        if program is None:
            item.fail("program", "program content requires a program")
        if points:
            item.fail("points", f"{points}: program content has no points")
        program = _program(program, item.field("program"))
        spawn_count = PROGRAMS[PROGRAM_NUMBER[program]].spawn
    return Block(
        kind=kind,
        points=points,
        program=program,
        hidden_kind=hidden_kind,
        spawn_count=item.integer("spawn_count", default=spawn_count, maximum=MAX_CELL_NUMBER),
    )


def _read_cells(parent: JsonObject, key: str) -> set[Cell]:
    cells: set[Cell] = set()
    for path, value in parent.items(key):
        cell = read_cell(value, path)
        if cell in cells:
            raise ScenarioError(path, f"{cell} stands twice in {key}")
        cells.add(cell)
    return cells


def _read_enemies(parent: JsonObject, sizes: Sizes, *, with_origin: bool) -> list[Enemy]:
    enemies = []
    for path, value in parent.items("enemies"):
        item = JsonObject(value, path)
        kind = item.choice("type", ENEMY_TYPES)
        cell = item.cell()
        last_known = item.get("last_known", cell if kind == "cryptog" else None)
        enemies.append(
            Enemy(
                type=kind,
                row=cell[0],
                col=cell[1],
                hp=item.integer("hp", default=MAX_ENEMY_HP[kind], minimum=1, maximum=MAX_SCENARIO_ENEMY_HP),
                stunned=item.flag("stunned"),
                disabled_turns=item.integer("disabled_turns", default=0, maximum=MAX_DISABLED_TURNS),
                from_siphon=with_origin and item.flag("from_siphon"),
                from_schedule=with_origin and item.flag("from_schedule"),
                last_known=None if last_known is None else read_cell(last_known, item.field("last_known")),
            )
        )
        item.finish()
    _check_room(parent, "enemies", len(enemies), sizes.enemy_slots)
    return enemies


def _read_transmissions(parent: JsonObject, sizes: Sizes, *, with_origin: bool) -> list[Transmission]:
    transmissions: list[Transmission] = []
    taken: set[Cell] = set()
    for path, value in parent.items("transmissions"):
        item = JsonObject(value, path)
        cell = item.cell()
        if cell in taken:
            raise ScenarioError(path, f"{cell} has a transmission already; a cell has at most one")
        taken.add(cell)
        transmissions.append(
            Transmission(
                row=cell[0],
                col=cell[1],
                enemy_type=item.choice("enemy_type", ENEMY_TYPES),
                turns_left=item.integer("turns_left", default=1, minimum=1, maximum=MAX_COUNTDOWN),
                from_siphon=with_origin and item.flag("from_siphon"),
                from_schedule=with_origin and item.flag("from_schedule"),
            )
        )
        item.finish()
    _check_room(parent, "transmissions", len(transmissions), sizes.transmission_slots)
    return transmissions


def _check_room(parent: JsonObject, key: str, count: int, slots: int) -> None:
    if count > slots:
        parent.fail(key, f"{count} are more than the {slots} there is room for here")


def _read_flags(top: JsonObject) -> Flags:
    item = top.child("flags")
    flags = Flags(
        item.flag("show_activated"), item.flag("scheduled_tasks_disabled"), item.flag("step_active")
    )
    item.finish()
    return flags


def _read_schedule(top: JsonObject, stage: int) -> Schedule:
    item = top.child("schedule")
    interval = item.integer("interval", default=13 - stage, maximum=MAX_TURN)
    schedule = Schedule(
        interval=interval,
        next_turn=item.integer("next_turn", default=interval, maximum=MAX_TURN),
        pending_siphon_spawns=item.integer("pending_siphon_spawns", default=0, maximum=MAX_SPAWNS),
    )
    item.finish()
    return schedule


def _read_history(top: JsonObject, sizes: Sizes, exit_cell: Cell) -> list[HistoryEntry]:
    history = []
    for path, value in top.items("history"):
        item = JsonObject(value, path)
        board = _read_board(item, exit_cell)
        history.append(
            HistoryEntry(
                player=_read_player(item),
                turn=item.integer("turn", default=0, maximum=MAX_TURN),
                owned_programs=_read_owned_programs(item),
                enemies=_read_enemies(item, sizes, with_origin=False),
                transmissions=_read_transmissions(item, sizes, with_origin=False),
                blocks=board.blocks,
                data_siphons=board.data_siphons,
                resources=board.resources,
                siphoned_cells=board.siphoned_cells,
                siphon_centers=board.siphon_centers,
                show_activated=item.flag("show_activated"),
                scheduled_tasks_disabled=item.flag("scheduled_tasks_disabled"),
                atk_plus_uses=item.integer("atk_plus_uses", default=0, maximum=MAX_TURN),
            )
        )
        item.finish()
    _check_room(top, "history", len(history), sizes.undo_depth)
    return history


def _read_episode(top: JsonObject) -> Episode:
    item = top.child("episode")
    done = item.flag("done")
    outcome = item.get("outcome", None)
    if outcome is not None and outcome not in OUTCOMES:
        item.fail("outcome", f"{show(outcome)} is none of null, {', '.join(OUTCOMES)}")
    if done != (outcome is not None):
        item.fail(
            "outcome", f"{show(outcome)} with done {str(done).lower()}: a game that is over has an outcome"
        )
    episode = Episode(
        done=done,
        outcome=outcome,
        steps=item.integer("steps", default=0, maximum=MAX_TURN),
        return_=read_number(item.get("return", 0.0), item.field("return"), MAX_RETURN),
    )
    item.finish()
    return episode


def _read_rng(top: JsonObject) -> Rng | None:
    if top.get("rng", None) is None:
        return None
    item = JsonObject(top.value["rng"], "rng")
    rng = Rng(item.choice("impl", ("threefry2x32",)), _key(item.required("key"), "rng.key"))
    item.finish()
    return rng


def _key(value: Any, path: str) -> Key:
    return read_pair(value, path, 2**32 - 1)


def _read_replay(top: JsonObject) -> ScenarioReplay | None:
    if top.get("replay", None) is None:
        return None
    item = JsonObject(top.value["replay"], "replay")
    item.required("actions")
    actions = tuple(
        read_integer(value, path, maximum=NUM_ACTIONS - 1) for path, value in item.items("actions")
    )
    keys = expect = None
    if item.get("keys", None) is not None:
        keys = tuple(_key(value, path) for path, value in item.items("keys"))
        if len(keys) != len(actions):
            item.fail("keys", f"{len(keys)} keys for {len(actions)} actions; give one per action")
    if item.get("expect", None) is not None:
        expect = tuple(_read_expectation(value, path) for path, value in item.items("expect"))
        if len(expect) != len(actions):
            item.fail(
                "expect", f"{len(expect)} entries for {len(actions)} actions; give one per action, or null"
            )
    item.finish()
    return ScenarioReplay(actions, keys, expect)


def _read_expectation(value: Any, path: str) -> dict[str, Any] | None:
    if value is None:
        return None
    item = JsonObject(value, path)
    expectation: dict[str, Any] = {}
    if "reward" in value:
        expectation["reward"] = read_number(item.required("reward"), item.field("reward"))
    if "done" in value:
        expectation["done"] = item.flag("done")
    if "state_hash" in value:
        expectation["state_hash"] = item.required("state_hash")
        if not isinstance(expectation["state_hash"], str):
            item.fail("state_hash", f"{show(expectation['state_hash'])} is not a string")
    if "breakdown" in value:
        breakdown = JsonObject(item.required("breakdown"), item.field("breakdown"))
        expectation["breakdown"] = {
            key: read_number(breakdown.required(key), breakdown.field(key))
            for key in BREAKDOWN_KEYS
            if key in breakdown.value
        }
        breakdown.finish()
    item.finish()
    return expectation
