"""The observation (rule 19): 10 player values, 23 programs and 6x6x42 grid values, from a
batch-last state.

The grid is encoded in one pass. Each cell is first packed into three words, in which every feature
is a field of bits; then value f of a cell is ``((word >> shift) & mask) * scale`` with constants
that depend on f alone.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float32, Int32, UInt32

from matrixrl.envs.hackmatrix import bitboard, lists
from matrixrl.envs.hackmatrix.memory import materialized
from matrixrl.envs.hackmatrix.rules import (
    NUM_CELLS,
    NUM_FEATURES,
    NUM_PROGRAMS,
    OBSERVATION_SIZE,
    SIZE,
    EnemyType,
)
from matrixrl.envs.hackmatrix.state import CellWord, EnemyWord, State, TransmissionWord, present

Encoded = Float32[Array, "1545"] | UInt32[Array, "117"]
"""An observation: flat, or packed (`pack`)."""

EncodedBatch = Float32[Array, "B 1545"] | UInt32[Array, "B 117"]
"""Observations of a batch."""


class Observation(NamedTuple):
    """The observation, split into its parts."""

    player: Float32[Array, "*B 10"]
    programs: Int32[Array, "*B 23"]
    grid: Float32[Array, "*B 6 6 42"]


class _Run(NamedTuple):
    """Position of a feature in the words of a cell, and the value of one unit of it."""

    word: int
    shift: int
    width: int
    unit: float


def _layout() -> list[_Run]:
    """Returns the bit field of each of the 42 features."""
    runs: dict[int, _Run] = {}
    flags = [0, 1, 2, 3, 5, 6, 7, 8, 9, 11, 39, 40, 41]
    for shift, feature in enumerate(flags):
        runs[feature] = _Run(0, shift, 1, 1.0)
    runs[36] = _Run(0, 13, 3, 1 / 4)
    runs[37] = _Run(0, 16, 8, 1 / 3)
    runs[38] = _Run(0, 24, 8, 1 / 3)
    for program in range(NUM_PROGRAMS):
        runs[12 + program] = _Run(1, program, 1, 1.0)
    runs[10] = _Run(1, 23, 8, 1 / 9)
    runs[4] = _Run(2, 0, 12, 1 / 3)
    runs[35] = _Run(2, 12, 8, 1 / 9)
    return [runs[feature] for feature in range(NUM_FEATURES)]


NUM_SCALARS = 9
DATA_SIPHONS, OWNED = 5, 8  # of the scalars
PACKED_WORDS = NUM_SCALARS + 3 * NUM_CELLS

_LAYOUT = _layout()
_WORD = np.array([run.word for run in _LAYOUT])
_SHIFT = np.array([run.shift for run in _LAYOUT], np.uint32)
_MASK = np.array([(1 << run.width) - 1 for run in _LAYOUT], np.uint32)
_UNIT = np.array([run.unit for run in _LAYOUT], np.float32)


def cell_words(state: State) -> list[UInt32[Array, "36 *B"]]:
    """Packs all features of each cell into three words; see `_layout`."""
    board = state.board
    blocks = bitboard.to_cells(board.blocks)
    programs = bitboard.to_cells(board.blocks & board.programs)
    questions = bitboard.to_cells(board.blocks & board.questions)
    siphoned = bitboard.to_cells(board.siphoned)
    open_program = programs & ~questions
    open_data = blocks & ~programs & ~questions

    # Only the first enemy of a cell shows; a hidden cryptog hides the whole stack.
    top = lists.first_on_each_cell(state.enemies)
    enemy_type = EnemyWord.TYPE.get(top)
    in_line = bitboard.row_of(state.player.cell) | bitboard.column_of(state.player.cell)
    visible = present(top) & (
        (enemy_type != EnemyType.CRYPTOG) | (bitboard.to_cells(in_line) != 0) | state.show_activated
    )
    top = jnp.where(visible, top, 0)

    incoming = lists.first_on_each_cell(state.transmissions)
    turns = jnp.minimum(TransmissionWord.TURNS_LEFT.get(incoming), 4)

    # Resources are hidden under a block until it is siphoned.
    values = board.values
    content = CellWord.CONTENT.get(values)
    shown = (1 - blocks) | siphoned
    exits = bitboard.to_cells(bitboard.of_cell(state.exit))
    flags = [
        *(present(top) & (enemy_type == code) for code in EnemyType),
        EnemyWord.STUNNED.get(top),
        EnemyWord.FROM_SIPHON.get(top),
        open_data,
        open_program,
        questions,
        blocks & siphoned,
        bitboard.to_cells(board.pickups),
        exits,
        bitboard.to_cells(board.centers),
    ]
    # Pack the features at the bit positions of `_layout`.
    first = turns << 13 | (CellWord.CREDITS.get(values) << 16 | CellWord.ENERGY.get(values) << 24) * shown
    for shift, flag in enumerate(flags):
        first = first | flag.astype(jnp.uint32) << shift
    second = (open_program << (content & 31)) | (content * open_data) << 23
    third = EnemyWord.HP.get(top) | (CellWord.SPAWN_COUNT.get(values) * (open_data | open_program)) << 12
    return [first, second, third]


def scalar_words(state: State) -> list[UInt32[Array, "*B"]]:
    """Returns the observation without the grid as nine integers; see
    `head_values`.
    """
    player = state.player
    scalars = [
        player.cell,
        player.hp,
        player.credits,
        player.energy,
        state.stage,
        player.data_siphons,
        player.attack_damage,
        state.show_activated.astype(jnp.uint32) | state.scheduled_tasks_disabled.astype(jnp.uint32) << 1,
        state.owned,
    ]
    return [scalar.astype(jnp.uint32) for scalar in scalars]


def head_values(scalars: list[UInt32[Array, "B"]]) -> Float32[Array, "33 B"]:
    """Computes the ten player values and the 23 programs from `scalar_words` (rules 19.1, 19.2)."""
    cell, hp, credits, energy, stage, siphons, damage, flags, owned = scalars
    row = bitboard.cell_row(cell.astype(jnp.int32)).astype(jnp.uint32)

    def ratio(value: Array, unit: float) -> Array:
        return value.astype(jnp.float32) / unit

    player = jnp.stack(
        [
            ratio(row, 5),
            ratio(cell - SIZE * row, 5),
            ratio(hp, 3),
            jnp.minimum(ratio(credits, 50), 1),
            jnp.minimum(ratio(energy, 50), 1),
            ratio(stage - 1, 7),
            ratio(siphons, 10),
            ratio(damage - 1, 2),
            (flags & 1).astype(jnp.float32),
            (flags >> 1).astype(jnp.float32),
        ]
    )
    programs = ((owned >> np.arange(NUM_PROGRAMS, dtype=np.uint32)[:, None]) & 1).astype(jnp.float32)
    return jnp.concatenate([player, programs])


def pack(state: State) -> UInt32[Array, "B 117"]:
    """Packs the observation of a batch-last state into 468 bytes; `unpack` is its
    inverse.
    """
    return jnp.concatenate([jnp.stack(scalar_words(state)), *cell_words(state)]).T


def unpack(packed: UInt32[Array, "*B 117"]) -> Float32[Array, "*B 1545"]:
    """Unpacks observations to their flat form (rule 19.4)."""
    rows = packed.reshape((-1, PACKED_WORDS))
    scalars = [rows[:, i] for i in range(NUM_SCALARS)]
    words = [rows[:, NUM_SCALARS + i * NUM_CELLS :][:, :NUM_CELLS] for i in range(3)]
    return _flat(head_values(scalars).T, words).reshape((*packed.shape[:-1], OBSERVATION_SIZE))


def encode(state: State) -> Float32[Array, "B 1545"]:
    """Computes the flat observation of a batch-last state."""
    words, head = materialized((cell_words(state), head_values(scalar_words(state))), state.time)
    return _flat(head.T, [word.T for word in words])


def _flat(head: Array, words: list[Array]) -> Array:
    """Assembles flat observations [B, 1545] from heads [B, 33] and the three words of the cells,
    [B, 36] each.

    The grid is written one cell at a time for the whole batch, so that its 42 values form the inner
    loop.
    """
    flat = jnp.zeros((head.shape[0], OBSERVATION_SIZE), jnp.float32)

    def write_cell(cell: Array, flat: Array) -> Array:
        features = cell_features(*(lax.dynamic_slice_in_dim(word, cell, 1, axis=1) for word in words))
        return lax.dynamic_update_slice(flat, features, (0, head.shape[1] + NUM_FEATURES * cell))

    return lax.fori_loop(0, NUM_CELLS, write_cell, lax.dynamic_update_slice(flat, head, (0, 0)))


def cell_features(
    first: UInt32[Array, "... 1"], second: UInt32[Array, "... 1"], third: UInt32[Array, "... 1"]
) -> Float32[Array, "... 42"]:
    """Computes the 42 features of cells from their words (rule 19.3)."""
    word = jnp.where(_WORD == 0, first, jnp.where(_WORD == 1, second, third))
    return ((word >> _SHIFT) & _MASK).astype(jnp.float32) * _UNIT


class Parts(NamedTuple):
    """Packed observations as the input of a network that sees the grid from the player's cell.

    Attributes:
      head: player values and programs.
      cells: features of each cell.
      player: the player's cell.
    """

    head: Float32[Array, "*B 33"]
    cells: Float32[Array, "*B 36 42"]
    player: Int32[Array, "*B"]


def parts(packed: UInt32[Array, "*B 117"]) -> Parts:
    """Splits packed observations into their parts."""
    scalars = [packed[..., i] for i in range(NUM_SCALARS)]
    head = jnp.moveaxis(head_values([s.reshape(-1) for s in scalars]), 0, -1)
    words = packed[..., NUM_SCALARS:].reshape((*packed.shape[:-1], 3, NUM_CELLS, 1))
    cells = cell_features(words[..., 0, :, :], words[..., 1, :, :], words[..., 2, :, :])
    return Parts(head.reshape((*packed.shape[:-1], -1)), cells, scalars[0].astype(jnp.int32))


def split(flat: Float32[Array, "*B 1545"]) -> Observation:
    """Splits a flat observation into its named parts (rule 19.4)."""
    start = 10 + NUM_PROGRAMS
    return Observation(
        player=flat[..., :10],
        programs=flat[..., 10:start].astype(jnp.int32),
        grid=flat[..., start:].reshape((*flat.shape[:-1], SIZE, SIZE, NUM_FEATURES)),
    )
