"""Relations between the things on the board that a player would work out: distances along paths,
threats, targets and affordable programs.

They are computed from a packed observation, by the bitboards of the game, and are therefore
functions of what is observed: they reveal no hidden cryptog and no hidden content. A network may
take them as additional input; the observation of the environment stays as it is.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Bool, Float32, Int32, Num, UInt32

from matrixrl.envs.hackmatrix import bitboard, observation
from matrixrl.envs.hackmatrix.bitboard import Bits
from matrixrl.envs.hackmatrix.observation import NUM_SCALARS, PACKED_WORDS, Parts
from matrixrl.envs.hackmatrix.rules import NUM_CELLS, NUM_PROGRAMS, PROGRAMS, EnemyType

RELATION_WORDS = NUM_CELLS // 2 + 4
"""Words that hold the relations of a packed observation."""

FAR = 16
"""Distances are divided by this; a cell without a path counts as this far."""

CELL_FEATURES = 4
"""Features of each cell: distance to the exit, distance to the player, danger (enemies that can hit
a player standing there in the next enemy phase, a quarter each), line of fire.
"""

HEAD_FEATURES = 2 + 4 * 5 + NUM_PROGRAMS
"""Features of the whole: distance to the exit, danger where the player stands; for each direction:
target in line, a hit destroys it, a step is possible, change of the distance to the exit, danger
after the step; affordable programs.
"""

MOVES = (bitboard.up, bitboard.down, bitboard.left, bitboard.right)

# Bits of the first word of a cell, in the order of `observation._layout`.
_ENEMY, _STUNNED, DATA, PROGRAM, QUESTION, _EXIT = (0, 1, 2, 3), 4, 6, 7, 8, 11
_TURNS = (13, 7)


class Relations(NamedTuple):
    """Relation features of a batch of observations."""

    head: Float32[Array, "N 45"]
    cells: Float32[Array, "N 36 4"]


class BoardSets(NamedTuple):
    """What relations depend on, as sets of cells.

    Attributes:
      player, exit: of one cell each.
      blocks: cells with a block.
      enemies: of each type, those that are visible.
      stunned: cells of visible enemies that do not act.
      transmissions: cells with one.
    """

    player: Bits
    exit: Bits
    blocks: Bits
    enemies: tuple[Bits, ...]
    stunned: Bits
    transmissions: Bits


def relations(observations: UInt32[Array, "N _"]) -> Relations:
    """Returns the relation features of packed observations [N, 117], or of prepared ones [N, 139],
    which hold them already.
    """
    if observations.shape[-1] == PACKED_WORDS:
        return unpack(relation_words(observations))
    return unpack(observations[:, PACKED_WORDS:])


def prepare(packed: UInt32[Array, "N 117"]) -> UInt32[Array, "N 139"]:
    """Returns packed observations with their relations behind them, as words.

    A learner that reads an observation several times computes its relations once.
    """
    return jnp.concatenate([packed, relation_words(packed)], axis=-1)


def relation_words(packed: UInt32[Array, "N 117"]) -> UInt32[Array, "N 22"]:
    """Computes the relations of packed observations.

    Words 0 to 17 hold cell i in their lower half and cell i + 18 in the upper one: distance to the
    exit (5 bits), distance to the player (5), danger (4), line of fire (1). Word 18 holds distance
    and danger of the player's cell (5, 4), words 19 and 20 two directions each, in 16 bits: target,
    destroyed, possible (1 each), change of the distance plus `FAR` (6), danger (4); word 21 the
    affordable programs.
    """
    scalars = [packed[:, i] for i in range(NUM_SCALARS)]
    first, _, third = (packed[:, NUM_SCALARS + i * NUM_CELLS :][:, :NUM_CELLS].T for i in range(3))
    position = _position(scalars[0].astype(jnp.int32), first)
    to_exit = distances(position.exit, position.blocks)
    danger = dangers(position)
    lines = [_line_of_fire(position, move) for move in MOVES]
    shot = lines[0].passed | lines[1].passed | lines[2].passed | lines[3].passed
    cells = fields(
        (5, to_exit),
        (5, distances(position.player, position.blocks)),
        (4, danger),
        (1, bitboard.to_cells(shot)),
    )
    # Values at the player's cell and at its neighbours.
    here = bitboard.to_cells(position.player).astype(jnp.float32)
    now = (here * to_exit).sum(0)
    hp, damage = third & 0xFFF, scalars[6]
    directions = []
    for move, line in zip(MOVES, lines, strict=True):
        beside = move(position.player) - position.blocks
        there = bitboard.to_cells(beside).astype(jnp.float32)
        target = bitboard.to_cells(line.target)
        destroyed = ((target != 0) & (hp <= damage)).any(0)
        can_step = beside.any() & ~line.target.any()
        change = jnp.where(can_step, now - (there * to_exit).sum(0), 0)
        directions.append(
            fields(
                (1, line.target.any()),
                (1, destroyed),
                (1, can_step),
                (6, change + FAR),
                (4, (there * danger).sum(0)),
            )
        )
    half = NUM_CELLS // 2
    words = [
        *(cells[:half] | cells[half:] << 16),
        fields((5, now), (4, (here * danger).sum(0))),
        directions[0] | directions[1] << 16,
        directions[2] | directions[3] << 16,
        affordable(scalars[8], scalars[2], scalars[3]),
    ]
    return jnp.stack(words, axis=-1)


def unpack(words: UInt32[Array, "N 22"]) -> Relations:
    """Returns the features that `relation_words` holds."""
    half = NUM_CELLS // 2
    cells = jnp.concatenate([words[:, :half] & 0xFFFF, words[:, :half] >> 16], axis=-1)
    to_exit, to_player, danger, fire = values(cells, 5, 5, 4, 1)
    own, first, second, programs = (words[:, half + i] for i in range(4))
    now, here = values(own, 5, 4)
    head = [now / FAR, here / 4]
    for direction in (first & 0xFFFF, first >> 16, second & 0xFFFF, second >> 16):
        target, destroyed, can_step, change, there = values(direction, 1, 1, 1, 6, 4)
        head += [target, destroyed, can_step, change - FAR, there / 4]
    return Relations(
        jnp.concatenate([jnp.stack(head, axis=-1), program_flags(programs)], axis=-1),
        jnp.stack([to_exit / FAR, to_player / FAR, danger / 4, fire], axis=-1),
    )


def affordable(
    owned: UInt32[Array, "*B"], credits: UInt32[Array, "*B"], energy: UInt32[Array, "*B"]
) -> UInt32[Array, "*B"]:
    """Returns the owned programs, as bits, that these resources pay for (rule 12.1)."""
    found = jnp.zeros_like(owned)
    for number, row in enumerate(PROGRAMS):
        is_paid = (credits >= row.credits) & (energy >= row.energy)
        found = found | jnp.where(is_paid, owned & np.uint32(1 << number), 0)
    return found


def program_flags(words: UInt32[Array, "*B"]) -> Float32[Array, "*B 23"]:
    """Returns the programs of words as numbers 0 and 1."""
    return (words[..., None] >> np.arange(NUM_PROGRAMS, dtype=np.uint32) & 1).astype(jnp.float32)


def fields(*parts: tuple[int, Num[Array, "..."] | Bool[Array, "..."]]) -> UInt32[Array, "..."]:
    """Returns words with the values of the parts, pairs of a number of bits and values, from the
    lowest bit on.
    """
    word, at = jnp.uint32(0), 0
    for bits, value in parts:
        word = word | value.astype(jnp.uint32) << at
        at += bits
    return jnp.asarray(word)


def values(words: UInt32[Array, "..."], *sizes: int) -> list[Float32[Array, "..."]]:
    """Returns the values of the fields of words, as numbers."""
    found, at = [], 0
    for bits in sizes:
        found.append((words >> at & 2**bits - 1).astype(jnp.float32))
        at += bits
    return found


def distances(start: Bits, blocks: Bits) -> Float32[Array, "36 N"]:
    """Returns the number of steps from each cell to the start over cells without blocks; `FAR`
    where there is no path. A block that touches a path gets the distance of a first step off it.
    """
    reached = start
    steps = jnp.full((NUM_CELLS, *start.lo.shape), float(FAR), jnp.float32)

    def unfinished(carry: tuple[Bits, Bits, Array, Array]) -> Array:
        return jnp.any(carry[0].any())

    def wave(carry: tuple[Bits, Bits, Array, Array]) -> tuple[Bits, Bits, Array, Array]:
        front, reached, steps, count = carry
        steps = jnp.where(bitboard.to_cells(front) != 0, jnp.minimum(count, FAR), steps)
        seen = bitboard.neighbours(front - blocks | (front & start)) - reached
        return seen, reached | seen, steps, count + 1

    return lax.while_loop(unfinished, wave, (start, reached, steps, jnp.float32(0)))[2]


def dangers(position: BoardSets) -> Float32[Array, "36 N"]:
    """Counts for each cell the visible enemies that could hit a player who stands there in the next
    enemy phase (rule 9): those beside it, and viruses that get beside it in one step.
    """
    count = jnp.zeros((NUM_CELLS, *position.player.lo.shape), jnp.float32)
    everyone = position.enemies[0] | position.enemies[1] | position.enemies[2] | position.enemies[3]
    acting = everyone - position.stunned
    for move in MOVES:
        count = count + bitboard.to_cells(move(acting))
    viruses = position.enemies[EnemyType.VIRUS] - position.stunned
    steps = bitboard.neighbours(viruses) - position.blocks - everyone - position.transmissions
    beside = bitboard.neighbours(steps) - bitboard.neighbours(viruses) - viruses
    return count + bitboard.to_cells(beside)


class _Line(NamedTuple):
    """A line of fire: the cells that it passes, with its target, and the target's cell."""

    passed: Bits
    target: Bits


def _line_of_fire(position: BoardSets, move: Any) -> _Line:
    """Scans a direction from the player (rule 6.1)."""
    enemies = position.enemies[0] | position.enemies[1] | position.enemies[2] | position.enemies[3]
    targets = enemies | position.transmissions
    at = position.player
    passed = target = bitboard.empty_like(at.lo)
    for _ in range(5):
        at = move(at)
        hit = at & targets
        target = target | hit
        at = at - position.blocks - targets
        passed = passed | at | hit
    return _Line(passed, target)


def _position(cell: Int32[Array, "N"], first: UInt32[Array, "36 N"]) -> BoardSets:
    """Returns the sets of cells of packed observations; `first` is the first word of each cell."""

    def of(bit: int) -> Bits:
        return _from_cells((first >> bit) & 1)

    shift, mask = _TURNS
    return BoardSets(
        player=bitboard.of_cell(cell),
        exit=of(_EXIT),
        blocks=of(DATA) | of(PROGRAM) | of(QUESTION),
        enemies=tuple(of(bit) for bit in _ENEMY),
        stunned=of(_STUNNED),
        transmissions=_from_cells(((first >> shift) & mask != 0).astype(jnp.uint32)),
    )


_POSITIONS = np.array([7 * (cell // 6 % 3) + cell % 6 for cell in range(NUM_CELLS)], np.uint32)


def _from_cells(flags: UInt32[Array, "36 N"]) -> Bits:
    """Returns the set of the cells whose flag is 1: the inverse of `bitboard.to_cells`."""
    words = flags << _POSITIONS[:, None]
    half = NUM_CELLS // 2
    return Bits(words[:half].sum(0, dtype=jnp.uint32), words[half:].sum(0, dtype=jnp.uint32))


def unpack_with_relations(observations: UInt32[Array, "N _"]) -> Float32[Array, "N 1734"]:
    """Returns flat observations with the relation features behind them; see `relations`."""
    found = relations(observations)
    return jnp.concatenate(
        [
            observation.unpack(observations[:, :PACKED_WORDS]),
            found.head,
            found.cells.reshape(found.cells.shape[0], -1),
        ],
        axis=-1,
    )


def parts_with_relations(observations: UInt32[Array, "N _"]) -> Parts:
    """Returns the parts of observations, with the relation features behind those of head and
    cells; see `relations`.
    """
    found, parts = relations(observations), observation.parts(observations[:, :PACKED_WORDS])
    return Parts(
        jnp.concatenate([parts.head, found.head], axis=-1),
        jnp.concatenate([parts.cells, found.cells], axis=-1),
        parts.player,
    )
