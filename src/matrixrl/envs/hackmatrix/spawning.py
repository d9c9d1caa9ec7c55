"""Creation of transmissions (rule 10.2) and their arrival (rule 10.1). Batch-last."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Int32, UInt32

from matrixrl.envs.hackmatrix import bitboard, lists
from matrixrl.envs.hackmatrix.bitboard import Bits
from matrixrl.envs.hackmatrix.draws import Stream, Words, block, pick
from matrixrl.envs.hackmatrix.memory import materialized
from matrixrl.envs.hackmatrix.rules import ENEMY_SLOTS, TRANSMISSION_SLOTS
from matrixrl.envs.hackmatrix.state import EnemyWord, TransmissionWord, enemy_max_hp, present


def line_of_fire(player: Bits, screens: Bits) -> Bits:
    """Returns the cells in the player's row or column with no cell of `screens` strictly
    between.
    """
    fire = bitboard.empty_like(player.lo)
    for move in (bitboard.up, bitboard.down, bitboard.left, bitboard.right):
        ray = player
        for _ in range(5):
            ray = move(ray)
            fire = fire | ray
            ray = ray - screens
    return fire


def spawn(
    key: Words,
    stream: Stream,
    *,
    count: Int32[Array, "*B"],
    scheduled: Int32[Array, "*B"],
    from_siphon: bool,
    transmissions: UInt32[Array, "36 *B"],
    blocks: Bits,
    enemies: Bits,
    player: Bits,
) -> UInt32[Array, "36 *B"]:
    """Spawns `count` transmissions one after another, each on a cell that is free after the earlier
    ones.

    Args:
      key: words [B].
      stream: the stream of `draws` for this use; spawn j takes block j.
      count: number of spawns requested; those without a free cell are dropped.
      scheduled: number of spawns, the first ones, that are `from_schedule`.
      from_siphon: the flag of all others.
      blocks, enemies, player: their cells, [B].
    """
    fire = line_of_fire(player, blocks | enemies)
    free = ~(blocks | enemies | player | lists.occupied(transmissions))
    count = jnp.minimum(count, TRANSMISSION_SLOTS)
    words = TransmissionWord

    def unfinished(carry: tuple[Array, Bits, Array, Array]) -> Array:
        j, free, _, _ = carry
        return jnp.any((j < count) & free.any())

    def one(
        carry: tuple[Array, Bits, Array, Array],
    ) -> tuple[Array, Bits, Array, Array]:
        j, free, transmissions, used = carry
        active = (j < count) & free.any()
        # Prefer free cells outside the player's line of fire.
        hidden = free - fire
        pool = bitboard.choose(hidden.any(), hidden, free)
        draw = block(key, stream, j)
        cell = bitboard.nth_cell(pool, pick(draw.first, pool.size()))
        by_schedule = j < scheduled
        word = (
            words.PRESENT.of(1)
            | words.CELL.of(cell)
            | words.TYPE.of(pick(draw.second, 4))
            | words.FROM_SCHEDULE.of(by_schedule)
            | words.FROM_SIPHON.of(~by_schedule & from_siphon)
            | words.TURNS_LEFT.of(1)
        )
        cell, word, slot = materialized((cell, word, jnp.where(active, used, -1)), j)
        transmissions = jnp.where(lists.slots(transmissions) == slot, word, transmissions)
        return j + 1, free - bitboard.of_cell(cell).where(active), transmissions, used + active

    start = (jnp.int32(0), free, transmissions, lists.length(transmissions))
    return lax.while_loop(unfinished, one, start)[2]


def tick(
    enemies: UInt32[Array, "36 *B"], transmissions: UInt32[Array, "36 *B"], active: Bool[Array, "*B"]
) -> tuple[UInt32[Array, "36 *B"], UInt32[Array, "36 *B"]]:
    """Turns due transmissions into enemies at the end of their list and counts down the others,
    where `active`.
    """
    words = TransmissionWord

    def due(transmissions: Array) -> Array:
        return present(transmissions) & (words.TURNS_LEFT.get(transmissions) <= 1) & active

    def arrive(
        carry: tuple[Array, Array, Array],
    ) -> tuple[Array, Array, Array]:
        enemies, transmissions, count = carry
        slot = lists.first(transmissions, due(transmissions))
        word = lists.at_slot(transmissions, slot)
        arriving = present(word)
        enemy = (
            words.TURNS_LEFT.clear(word)
            | EnemyWord.HP.of(enemy_max_hp(words.TYPE.get(word)))
            | EnemyWord.DISABLED_TURNS.of(1)
        )
        enemies = lists.append(enemies, count, enemy, arriving)
        count = jnp.minimum(count + arriving, ENEMY_SLOTS)
        return enemies, lists.take_out(transmissions, slot), count

    enemies, transmissions, _ = lax.while_loop(
        lambda carry: jnp.any(due(carry[1])), arrive, (enemies, transmissions, lists.length(enemies))
    )
    counting = present(transmissions) & active
    return enemies, jnp.where(counting, transmissions - words.TURNS_LEFT.of(1), transmissions)
