"""Conversion between the arrays of a game (`state.State`) and the plain records of the referee and
the scenarios (`GameState`).

``to_game_state(from_game_state(game))`` equals the game in every field that play, reward,
observation or mask depend on; only the display hint `last_known` is not stored in the arrays and
returns to its default (rule 3.5).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from matrixrl.config import require
from matrixrl.envs.hackmatrix.bitboard import Bits
from matrixrl.envs.hackmatrix.referee import (
    ENEMY_TYPES,
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
from matrixrl.envs.hackmatrix.rules import (
    DEFAULT_UNDO_DEPTH,
    ENEMY_SLOTS,
    NUM_CELLS,
    SIZE,
    TRANSMISSION_SLOTS,
    Outcome,
)
from matrixrl.envs.hackmatrix.state import (
    NUM_SCALARS,
    SNAPSHOT_WORDS,
    BitField,
    Board,
    CellWord,
    EnemyWord,
    History,
    State,
    TransmissionWord,
    unpack_snapshot,
)
from matrixrl.envs.hackmatrix.state import PlayerState as PlayerArrays

# Largest number of the player that the arrays accept: rewards are sums of 32-bit integers, and a
# victory counts 20,000 units for each point of the score. A scenario has stricter bounds, so that a
# game can grow after loading.
LARGEST = 50_000

_OUTCOMES = {None: Outcome.PLAYING, "won": Outcome.WON, "died": Outcome.DIED}
_OUTCOMES["invalid_action"] = Outcome.INVALID_ACTION


def from_game_state(game: GameState, undo_depth: int = DEFAULT_UNDO_DEPTH) -> State:
    """Converts one game to arrays (NumPy, no batch axis).

    Raises:
      ConfigError: if a number or a list does not fit the arrays; the message names the field and
        its limit.
    """
    require(
        len(game.history) <= undo_depth,
        f"history: {len(game.history)} snapshots; this environment keeps {undo_depth} (undo_depth)",
    )
    words: Any = np.zeros((undo_depth, SNAPSHOT_WORDS), np.uint32)
    for i, snapshot in enumerate(game.history):
        words[i] = _snapshot_words(snapshot)
    return State(
        player=_player(game.player, "player"),
        board=_board(game),
        owned=_owned(game.owned_programs),
        stage=_array(np.int32, game.stage),
        turn=_number(game.turn, "turn"),
        exit=_array(np.int32, _cell_number(game.exit)),
        enemies=_enemies(game.enemies),
        transmissions=_transmissions(game.transmissions),
        show_activated=_array(np.bool_, game.flags.show_activated),
        scheduled_tasks_disabled=_array(np.bool_, game.flags.scheduled_tasks_disabled),
        step_active=_array(np.bool_, game.flags.step_active),
        atk_plus_uses=_number(game.atk_plus_uses, "atk_plus_uses"),
        interval=_number(game.schedule.interval, "schedule.interval"),
        next_turn=_number(game.schedule.next_turn, "schedule.next_turn"),
        pending_siphon_spawns=_number(
            game.schedule.pending_siphon_spawns, "schedule.pending_siphon_spawns", LARGEST
        ),
        history=History(
            words, _array(np.int32, len(game.history) % undo_depth), _array(np.int32, len(game.history))
        ),
        outcome=_array(np.int32, _OUTCOMES[game.episode.outcome]),
        time=_number(game.episode.steps, "episode.steps"),
        episode_return=_array(np.float32, game.episode.return_),
    )


def to_game_state(state: State) -> GameState:
    """Converts one game, a `state` without batch axis, to records."""
    depth = state.history.words.shape[0]
    size, following = int(state.history.size), int(state.history.next)
    places = [(following - size + i) % depth for i in range(size)]
    words = np.asarray(state.history.words)
    outcome = next(name for name, code in _OUTCOMES.items() if code == int(state.outcome))
    return GameState(
        player=_player_record(state.player),
        exit=_cell(int(state.exit)),
        schedule=Schedule(int(state.interval), int(state.next_turn), int(state.pending_siphon_spawns)),
        stage=int(state.stage),
        turn=int(state.turn),
        owned_programs=_owned_names(state.owned),
        **_board_records(state.board),
        enemies=_enemy_records(state.enemies),
        transmissions=_transmission_records(state.transmissions),
        flags=Flags(
            bool(state.show_activated), bool(state.scheduled_tasks_disabled), bool(state.step_active)
        ),
        atk_plus_uses=int(state.atk_plus_uses),
        history=[_snapshot(words[place]) for place in places],
        episode=Episode(outcome is not None, outcome, int(state.time), float(state.episode_return)),
        config=Sizes(ENEMY_SLOTS, TRANSMISSION_SLOTS, depth),
    )


# Records to arrays. NumPy replaces JAX here, hence `Any`.


def _array(dtype: Any, value: float) -> Any:
    return dtype(value)


def _cell_number(cell: Cell) -> int:
    return SIZE * cell[0] + cell[1]


def _number(value: int, name: str, maximum: int = MAX_TURN) -> Any:
    require(0 <= value <= maximum, f"{name} {value}: must be 0 to {maximum}")
    return np.int32(value)


def _fit(field: BitField, value: int, name: str) -> int:
    require(0 <= value <= field.limit, f"{name} {value}: this environment holds 0 to {field.limit}")
    return value << field.shift


def _player(player: Player, path: str) -> PlayerArrays:
    names = ("hp", "credits", "energy", "data_siphons", "score", "attack_damage")
    numbers = {name: _number(getattr(player, name), f"{path}.{name}", LARGEST) for name in names}
    return PlayerArrays(cell=_array(np.int32, _cell_number(player.cell)), **numbers)


def _owned(names: set[str]) -> Any:
    return np.uint32(sum(1 << PROGRAM_NUMBER[name] for name in names))


def _bits(cells: set[Cell]) -> Bits:
    halves = [0, 0]
    for row, column in cells:
        halves[row // 3] |= 1 << (7 * (row % 3) + column)
    return Bits(_array(np.uint32, halves[0]), _array(np.uint32, halves[1]))


def _board(game: GameState | HistoryEntry) -> Board:
    values: Any = np.zeros(NUM_CELLS, np.uint32)
    for cell, block in game.blocks.items():
        name = f"blocks at {list(cell)}"
        if block.content == "program":
            assert block.program is not None
            content = PROGRAM_NUMBER[block.program]
        else:
            content = block.points
        values[_cell_number(cell)] |= _fit(CellWord.CONTENT, content, f"{name}: points")
        values[_cell_number(cell)] |= _fit(CellWord.SPAWN_COUNT, block.spawn_count, f"{name}: spawn_count")
    for cell, resource in game.resources.items():
        name = f"resources at {list(cell)}"
        values[_cell_number(cell)] |= _fit(CellWord.CREDITS, resource.credits, f"{name}: credits")
        values[_cell_number(cell)] |= _fit(CellWord.ENERGY, resource.energy, f"{name}: energy")
    return Board(
        blocks=_bits(set(game.blocks)),
        programs=_bits({cell for cell, block in game.blocks.items() if block.content == "program"}),
        questions=_bits({cell for cell, block in game.blocks.items() if block.kind == "question"}),
        siphoned=_bits(game.siphoned_cells),
        centers=_bits(game.siphon_centers),
        pickups=_bits(game.data_siphons),
        values=values,
    )


def _enemies(enemies: list[Enemy]) -> Any:
    require(len(enemies) <= ENEMY_SLOTS, f"enemies: {len(enemies)}; there are {ENEMY_SLOTS} slots")
    words = np.zeros(ENEMY_SLOTS, np.uint32)
    field = EnemyWord
    for i, enemy in enumerate(enemies):
        words[i] = (
            _fit(field.PRESENT, 1, "")
            | _fit(field.CELL, _cell_number(enemy.cell), "")
            | _fit(field.TYPE, ENEMY_TYPES.index(enemy.type), "")
            | _fit(field.STUNNED, enemy.stunned, "")
            | _fit(field.FROM_SIPHON, enemy.from_siphon, "")
            | _fit(field.FROM_SCHEDULE, enemy.from_schedule, "")
            | _fit(field.DISABLED_TURNS, enemy.disabled_turns, f"enemies[{i}].disabled_turns")
            | _fit(field.HP, enemy.hp, f"enemies[{i}].hp")
        )
    return words


def _transmissions(transmissions: list[Transmission]) -> Any:
    count = len(transmissions)
    require(count <= TRANSMISSION_SLOTS, f"transmissions: {count}; there are {TRANSMISSION_SLOTS} slots")
    words = np.zeros(TRANSMISSION_SLOTS, np.uint32)
    field = TransmissionWord
    for i, transmission in enumerate(transmissions):
        words[i] = (
            _fit(field.PRESENT, 1, "")
            | _fit(field.CELL, _cell_number(transmission.cell), "")
            | _fit(field.TYPE, ENEMY_TYPES.index(transmission.enemy_type), "")
            | _fit(field.FROM_SIPHON, transmission.from_siphon, "")
            | _fit(field.FROM_SCHEDULE, transmission.from_schedule, "")
            | _fit(field.TURNS_LEFT, transmission.turns_left, f"transmissions[{i}].turns_left")
        )
    return words


def _snapshot_words(snapshot: HistoryEntry) -> np.ndarray:
    board = _board(snapshot)
    scalars = [
        *_player(snapshot.player, "history: player"),
        *(word for bits in board[:6] for word in bits),
        _owned(snapshot.owned_programs),
        _number(snapshot.turn, "history: turn"),
        snapshot.show_activated,
        snapshot.scheduled_tasks_disabled,
        _number(snapshot.atk_plus_uses, "history: atk_plus_uses"),
    ]
    assert len(scalars) == NUM_SCALARS
    lists = [board.values, _enemies(snapshot.enemies), _transmissions(snapshot.transmissions)]
    return np.concatenate([np.array(scalars).astype(np.uint32), *lists])


# Arrays to records.


def _cell(number: int) -> Cell:
    return (number // SIZE, number % SIZE)


def _cells(bits: Bits) -> set[Cell]:
    halves = (int(bits.lo), int(bits.hi))
    every = [(row, column) for row in range(SIZE) for column in range(SIZE)]
    return {(row, column) for row, column in every if halves[row // 3] >> (7 * (row % 3) + column) & 1}


def _get(field: BitField, word: int) -> int:
    return (word >> field.shift) & field.limit


def _player_record(player: PlayerArrays) -> Player:
    row, column = _cell(int(player.cell))
    numbers = {name: int(value) for name, value in player._asdict().items() if name != "cell"}
    return Player(row, column, **numbers)


def _owned_names(owned: Any) -> set[str]:
    return {program.name for number, program in enumerate(PROGRAMS) if int(owned) >> number & 1}


def _board_records(board: Board) -> dict:
    values = [int(word) for word in np.asarray(board.values)]
    programs, questions = _cells(board.programs), _cells(board.questions)
    blocks = {}
    for cell in _cells(board.blocks):
        word = values[_cell_number(cell)]
        kind = "program" if cell in programs else "data"
        content = _get(CellWord.CONTENT, word)
        hidden = cell in questions
        blocks[cell] = Block(
            kind="question" if hidden else kind,
            points=content if kind == "data" else 0,
            program=PROGRAMS[content].name if kind == "program" else None,
            hidden_kind=kind if hidden else None,
            spawn_count=_get(CellWord.SPAWN_COUNT, word),
        )
    resources = {
        _cell(number): Resource(_get(CellWord.CREDITS, word), _get(CellWord.ENERGY, word))
        for number, word in enumerate(values)
        if _get(CellWord.CREDITS, word) or _get(CellWord.ENERGY, word)
    }
    return {
        "blocks": blocks,
        "data_siphons": _cells(board.pickups),
        "resources": resources,
        "siphoned_cells": _cells(board.siphoned),
        "siphon_centers": _cells(board.centers),
    }


def _enemy_records(words: Any) -> list[Enemy]:
    field, records = EnemyWord, []
    for word in (int(word) for word in np.asarray(words)):
        if _get(field.PRESENT, word):
            cell = _cell(_get(field.CELL, word))
            kind = ENEMY_TYPES[_get(field.TYPE, word)]
            records.append(
                Enemy(
                    kind,
                    *cell,
                    hp=_get(field.HP, word),
                    stunned=bool(_get(field.STUNNED, word)),
                    disabled_turns=_get(field.DISABLED_TURNS, word),
                    from_siphon=bool(_get(field.FROM_SIPHON, word)),
                    from_schedule=bool(_get(field.FROM_SCHEDULE, word)),
                    last_known=cell if kind == "cryptog" else None,
                )
            )
    return records


def _transmission_records(words: Any) -> list[Transmission]:
    field, records = TransmissionWord, []
    for word in (int(word) for word in np.asarray(words)):
        if _get(field.PRESENT, word):
            records.append(
                Transmission(
                    *_cell(_get(field.CELL, word)),
                    enemy_type=ENEMY_TYPES[_get(field.TYPE, word)],
                    turns_left=_get(field.TURNS_LEFT, word),
                    from_siphon=bool(_get(field.FROM_SIPHON, word)),
                    from_schedule=bool(_get(field.FROM_SCHEDULE, word)),
                )
            )
    return records


def _snapshot(words: np.ndarray) -> HistoryEntry:
    snapshot = unpack_snapshot(words)
    return HistoryEntry(
        player=_player_record(snapshot.player),
        turn=int(snapshot.turn),
        owned_programs=_owned_names(snapshot.owned),
        enemies=_enemy_records(snapshot.enemies),
        transmissions=_transmission_records(snapshot.transmissions),
        **_board_records(snapshot.board),
        show_activated=bool(snapshot.show_activated),
        scheduled_tasks_disabled=bool(snapshot.scheduled_tasks_disabled),
        atk_plus_uses=int(snapshot.atk_plus_uses),
    )
