"""Directional actions (rule 6): one line-of-fire scan decides between attack and move.
Batch-last.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Int32

from matrixrl.envs.hackmatrix import bitboard, lists
from matrixrl.envs.hackmatrix.bitboard import Bits
from matrixrl.envs.hackmatrix.rules import DIRECTIONS, SIZE
from matrixrl.envs.hackmatrix.state import State


class Direction(NamedTuple):
    """Effect of a directional action; everything is empty or false where there is none.

    Attributes:
      cell: the player's cell afterwards.
      enemy: slot of the attacked enemy, 36 if there is none.
      transmission: the cell of the attacked transmission.
    """

    moves: Bool[Array, "*B"]
    cell: Int32[Array, "*B"]
    enemy: Int32[Array, "*B"]
    transmission: Bits


def _step(bits: Bits, action: Array) -> Bits:
    """Moves every cell one step in the direction of the action."""
    sideways = bitboard.choose(action == 2, bitboard.left(bits), bitboard.right(bits))
    upright = bitboard.choose(action == 0, bitboard.up(bits), bitboard.down(bits))
    return bitboard.choose(action < 2, upright, sideways)


def resolve(state: State, action: Int32[Array, "*B"], active: Bool[Array, "*B"]) -> Direction:
    """Computes the effect of the direction `action` where `active`: the action is legal and below
    4.
    """
    transmissions = lists.occupied(state.transmissions)
    enemies = lists.occupied(state.enemies)
    opaque = transmissions | enemies | state.board.blocks
    ray = bitboard.of_cell(state.player.cell).where(active)
    hit_transmission = bitboard.empty_like(ray.lo)
    hit_enemy = bitboard.empty_like(ray.lo)
    for _ in range(SIZE - 1):
        ray = _step(ray, action)
        hit_transmission = hit_transmission | (ray & transmissions)
        hit_enemy = hit_enemy | ((ray & enemies) - transmissions)
        ray = ray - opaque
    moves = active & ~(hit_transmission | hit_enemy).any()
    on_target = hit_enemy.has(lists.cells(state.enemies)) & lists.present(state.enemies)
    change = jnp.zeros_like(state.player.cell)
    for direction, (rows, columns) in enumerate(DIRECTIONS):
        change = jnp.where(action == direction, SIZE * rows + columns, change)
    return Direction(
        moves=moves,
        cell=state.player.cell + jnp.where(moves, change, 0),
        enemy=lists.first(state.enemies, on_target),
        transmission=hit_transmission,
    )
