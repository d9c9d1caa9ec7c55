"""The state of one game as small integer arrays, about 5 KB with eight snapshots of history.

Lists of enemies and transmissions are compact: slot 0 is the oldest, empty slots (word 0) follow
the last (rules 3.3, 22). One enemy, one transmission and the numbers of one cell are each packed in
a uint32 word: removing from a list, pushing a snapshot and transposing a batch move words, and the
fields are unpacked where they are used. The fields of a word are read by name through `EnemyWord`,
`TransmissionWord` and `CellWord`, which alone define the bit positions.

**Batch-last.** The functions of the game take a state whose arrays have the batch as their *last*
axis (``[36, B]`` and ``[B]``): then a scalar of each game broadcasts against a list of each game,
and the compiler's inner loops run over the batch. `matrixrl.envs.hackmatrix.batch` converts the
usual ``[B, 36]`` to this form and back; only the words of `History` keep the batch first.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float32, Int32, Num, UInt32

from matrixrl.envs.hackmatrix.bitboard import Bits
from matrixrl.envs.hackmatrix.rules import ENEMY_MAX_HP, ENEMY_SLOTS, NUM_CELLS, TRANSMISSION_SLOTS


class BitField(NamedTuple):
    """A bit field of a uint32 word."""

    shift: int
    width: int

    @property
    def limit(self) -> int:
        """Largest value that fits."""
        return (1 << self.width) - 1

    def get(self, word: UInt32[Array, "*B"]) -> UInt32[Array, "*B"]:
        """Returns the value of the field."""
        return (word >> self.shift) & self.limit

    def of(self, value: Num[Array, "*B"] | Bool[Array, "*B"] | int) -> UInt32[Array, "*B"]:
        """Returns a word with this value in the field and 0 elsewhere."""
        return jnp.asarray(value).astype(jnp.uint32) << self.shift

    def clear(self, word: UInt32[Array, "*B"]) -> UInt32[Array, "*B"]:
        """Returns the word with the field set to 0."""
        return word & jnp.uint32(0xFFFFFFFF ^ (self.limit << self.shift))

    def set(
        self, word: UInt32[Array, "..."], value: Num[Array, "..."] | Bool[Array, "..."] | int
    ) -> UInt32[Array, "..."]:
        """Returns the word with the field set to this value."""
        return self.clear(word) | self.of(value)


class EnemyWord:
    """Bit fields of an enemy (rule 3.3); the first four and `PRESENT` have the positions of
    `TransmissionWord`.
    """

    CELL = BitField(0, 6)
    TYPE = BitField(6, 2)
    FROM_SIPHON = BitField(8, 1)
    FROM_SCHEDULE = BitField(9, 1)
    STUNNED = BitField(10, 1)
    DISABLED_TURNS = BitField(11, 8)
    HP = BitField(19, 12)
    PRESENT = BitField(31, 1)


class TransmissionWord:
    """Bit fields of a transmission (rule 3.4)."""

    CELL = BitField(0, 6)
    TYPE = BitField(6, 2)
    FROM_SIPHON = BitField(8, 1)
    FROM_SCHEDULE = BitField(9, 1)
    TURNS_LEFT = BitField(10, 16)
    PRESENT = BitField(31, 1)


class CellWord:
    """Bit fields of the numbers of a cell. `CONTENT` is the points or the program number of its
    block.
    """

    CONTENT = BitField(0, 8)
    SPAWN_COUNT = BitField(8, 8)
    CREDITS = BitField(16, 8)
    ENERGY = BitField(24, 8)


_ORIGIN = np.uint32(1 << EnemyWord.FROM_SIPHON.shift | 1 << EnemyWord.FROM_SCHEDULE.shift)


def present(words: UInt32[Array, "*B"]) -> Bool[Array, "*B"]:
    """Returns True for the occupied slots of a list."""
    return EnemyWord.PRESENT.get(words) != 0


def without_origin(words: UInt32[Array, "*B"]) -> UInt32[Array, "*B"]:
    """Clears both origin flags of enemies or transmissions, as UNDO restores them (rule 13)."""
    return words & ~_ORIGIN


def enemy_max_hp(enemy_type: UInt32[Array, "*B"]) -> UInt32[Array, "*B"]:
    """Returns the full hp of each enemy type (rule 3.3)."""
    table = sum(hp << (4 * code) for code, hp in enumerate(ENEMY_MAX_HP))
    return (jnp.uint32(table) >> (4 * enemy_type)) & 15


class PlayerState(NamedTuple):
    """The player (rule 2): int32 numbers; `cell` is row * 6 + column."""

    cell: Int32[Array, "*B"]
    hp: Int32[Array, "*B"]
    credits: Int32[Array, "*B"]
    energy: Int32[Array, "*B"]
    data_siphons: Int32[Array, "*B"]
    score: Int32[Array, "*B"]
    attack_damage: Int32[Array, "*B"]


class Board(NamedTuple):
    """The cells (rules 3.1, 3.2).

    Attributes:
      blocks: cells with a block of any kind.
      programs: blocks whose content, open or hidden, is a program; the other blocks hold data.
      questions: blocks whose content is hidden.
      siphoned: cells a siphon has processed.
      centers: cells the player stood on when siphoning.
      pickups: cells with a data siphon.
      values: a `CellWord` for each cell. Content and spawn count are 0 where there is
        no block.
    """

    blocks: Bits
    programs: Bits
    questions: Bits
    siphoned: Bits
    centers: Bits
    pickups: Bits
    values: UInt32[Array, "36 *B"]


class History(NamedTuple):
    """The undo stack as a ring buffer (rule 13).

    Attributes:
      words: uint32[depth, SNAPSHOT_WORDS], see `pack_snapshot`; omitted, `()`, where a step does
        not use it.
      next: int32, slot of the next snapshot.
      size: int32, number of snapshots.
    """

    words: Any
    next: Int32[Array, "*B"]
    size: Int32[Array, "*B"]


class State(NamedTuple):
    """One game.

    Attributes:
      player, board: see `PlayerState` and `Board`.
      owned: uint32, bit i is set if program number i is owned.
      stage, turn: int32.
      exit: int32, cell of the exit marker.
      enemies: `EnemyWord` each, in list order.
      transmissions: `TransmissionWord` each, in list order.
      show_activated, scheduled_tasks_disabled, step_active: bool.
      atk_plus_uses: int32.
      interval, next_turn, pending_siphon_spawns: int32, the schedule (rule 11).
      history: the undo stack.
      outcome: int32, a `rules.Outcome`.
      time: int32, steps of this episode.
      episode_return: float32, sum of its rewards.
    """

    player: PlayerState
    board: Board
    owned: UInt32[Array, "*B"]
    stage: Int32[Array, "*B"]
    turn: Int32[Array, "*B"]
    exit: Int32[Array, "*B"]
    enemies: UInt32[Array, "36 *B"]
    transmissions: UInt32[Array, "36 *B"]
    show_activated: Bool[Array, "*B"]
    scheduled_tasks_disabled: Bool[Array, "*B"]
    step_active: Bool[Array, "*B"]
    atk_plus_uses: Int32[Array, "*B"]
    interval: Int32[Array, "*B"]
    next_turn: Int32[Array, "*B"]
    pending_siphon_spawns: Int32[Array, "*B"]
    history: History
    outcome: Int32[Array, "*B"]
    time: Int32[Array, "*B"]
    episode_return: Float32[Array, "*B"]

    def replace(self, **values: Any) -> State:
        """Returns a copy with these fields replaced, as the states of gymnax do."""
        return self._replace(**values)


class BoardSnapshot(NamedTuple):
    """The fields that UNDO restores, as in `State` (rule 13)."""

    player: PlayerState
    board: Board
    owned: UInt32[Array, "*B"]
    turn: Int32[Array, "*B"]
    enemies: UInt32[Array, "36 *B"]
    transmissions: UInt32[Array, "36 *B"]
    show_activated: Bool[Array, "*B"]
    scheduled_tasks_disabled: Bool[Array, "*B"]
    atk_plus_uses: Int32[Array, "*B"]


NUM_SCALARS = 7 + 12 + 5
SNAPSHOT_WORDS = NUM_SCALARS + NUM_CELLS + ENEMY_SLOTS + TRANSMISSION_SLOTS


def pack_snapshot(state: State) -> UInt32[Array, "words *B"]:
    """Packs the snapshot of a batch-last state, without the origin flags."""
    board = state.board
    scalars = [
        *state.player,
        *(word for bits in board[:6] for word in bits),
        state.owned,
        state.turn,
        state.show_activated,
        state.scheduled_tasks_disabled,
        state.atk_plus_uses,
    ]
    return jnp.concatenate(
        [
            jnp.stack([scalar.astype(jnp.uint32) for scalar in scalars]),
            board.values,
            without_origin(state.enemies),
            without_origin(state.transmissions),
        ]
    )


def unpack_snapshot(words: UInt32[Array, "words *B"] | UInt32[np.ndarray, "words *B"]) -> BoardSnapshot:
    """Unpacks the words of `pack_snapshot`."""
    lists: Any = words[NUM_SCALARS:]
    bits = [Bits(words[i], words[i + 1]) for i in range(7, 19, 2)]
    return BoardSnapshot(
        player=PlayerState(*(words[i].astype(jnp.int32) for i in range(7))),
        board=Board(*bits, values=lists[:NUM_CELLS]),
        owned=words[19],
        turn=words[20].astype(jnp.int32),
        show_activated=words[21] != 0,
        scheduled_tasks_disabled=words[22] != 0,
        atk_plus_uses=words[23].astype(jnp.int32),
        enemies=lists[NUM_CELLS : NUM_CELLS + ENEMY_SLOTS],
        transmissions=lists[NUM_CELLS + ENEMY_SLOTS :],
    )


def bytes_per_state(state: State) -> int:
    """Returns the size of an unbatched state in bytes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
