"""HackMatrix whose training games may start with programs and resources: exploring starts.

A policy that learns from nothing soon stops siphoning: a siphon brings enemies at once, and the
program that it brings is of no use to a player who has never used one. Games that start with random
equipment show what programs are worth; the value of owning one then makes a siphon pay. The share
of such games falls linearly to 0.

Exploring starts: Sutton and Barto 2018, "Reinforcement Learning", section 5.3.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float32, Int32, Integer, Key, PRNGKeyArray, UInt32

from matrixrl.envs.base import in_standard_settings
from matrixrl.envs.hackmatrix import bitboard, lists
from matrixrl.envs.hackmatrix.env import EnvParams, HackMatrix
from matrixrl.envs.hackmatrix.observation import Encoded, EncodedBatch
from matrixrl.envs.hackmatrix.rules import NUM_PROGRAMS, PROGRAMS
from matrixrl.envs.hackmatrix.starts import FadingStarts, LaterStarts, drawn
from matrixrl.envs.hackmatrix.state import CellWord, State

MAX_OWNED = 0.5
"""Maximum probability that a program is owned; each start draws its own, from 0."""

MAX_RESOURCES, MAX_SIPHONS = 15, 3
"""Maximum additional credits and energy, and data siphons, each drawn from 0."""

STRONGER, STRONGEST = 0.3, 0.1
"""Probabilities of at least 1, and of 2, additional attack damage."""

BESIDE = 0.5
"""Share of the equipped starts beside a program block, with a siphon to take it."""

_USE = 0x4551  # separates these draws from those of the game


class EquippedGame(NamedTuple):
    """A game, and whether its player started with equipment.

    Attributes:
      game: state of the game, or of `starts.LaterStarts`.
      equipped: whether its episode started with equipment.
      steps: int32, steps of this lane so far; the share of equipped starts falls with it.
    """

    game: Any
    equipped: Bool[Array, "*B"]
    steps: Int32[Array, "*B"]

    @property
    def time(self) -> Int32[Array, "*B"]:
        """Steps of the episode."""
        return self.game.time


@in_standard_settings
class EquippedStarts(FadingStarts):
    """HackMatrix with equipped starts. Info has one more entry, `equipped`: bool.

    Args:
      game: the environment; its starts may be later ones.
      share: initial share of the episodes that start with equipment.
      steps: number of steps of each lane after which the share is 0.
    """

    def __init__(self, game: HackMatrix | LaterStarts, share: float, steps: int) -> None:
        super().__init__(game, share, steps)
        self._plain = game.game if isinstance(game, LaterStarts) else game

    def reset(self, key: PRNGKeyArray, params: EnvParams | None = None) -> tuple[Encoded, EquippedGame]:
        """Starts a new game, without equipment."""
        observation, game = self.game.reset(key, params)
        return observation, _first(game)

    def reset_batch(
        self, keys: Key[Array, "B"] | UInt32[Array, "B 2"], params: EnvParams | None = None
    ) -> tuple[EncodedBatch, EquippedGame]:
        """Starts games for keys [B], without equipment."""
        observations, games = self.game.reset_batch(keys, params)
        return observations, _first(games)

    def step_batch(
        self,
        keys: Key[Array, "B"] | UInt32[Array, "B 2"],
        states: EquippedGame,
        actions: Integer[Array, "B"],
        params: EnvParams | None = None,
    ) -> tuple[
        EncodedBatch, EquippedGame, Float32[Array, "B"], Bool[Array, "B"], Bool[Array, "B"], dict[str, Any]
    ]:
        """Runs one step of B games."""
        observations, games, reward, terminated, truncated, info = self.game.step_batch(
            keys, states.game, actions, params
        )
        ended = terminated | truncated
        info = {**info, "equipped": states.equipped}
        after = EquippedGame(games, states.equipped & ~ended, states.steps + 1)
        # Few steps end a game, and none gets equipment once the share is 0.
        observations, after = jax.lax.cond(
            jnp.any(ended & (self.current_share(after.steps) > 0)),
            lambda: self._restarted(keys, ended, observations, after),
            lambda: (observations, after),
        )
        return observations, after, reward, terminated, truncated, info

    def step(
        self,
        key: PRNGKeyArray,
        state: EquippedGame,
        action: Integer[Array, ""],
        params: EnvParams | None = None,
    ) -> tuple[Encoded, EquippedGame, Float32[Array, ""], Bool[Array, ""], Bool[Array, ""], dict[str, Any]]:
        """Runs one step of one game."""
        one = jax.tree.map(lambda leaf: leaf[None], (key, state, action))
        game = self.game.alone() if isinstance(self.game, LaterStarts) else self.game
        alone = EquippedStarts(game, self.share, self.steps)
        return jax.tree.map(lambda leaf: leaf[0], alone.step_batch(one[0], one[1], one[2], params))

    def _restarted(
        self, keys: Array, ended: Array, observations: Array, after: EquippedGame
    ) -> tuple[Array, EquippedGame]:
        """Gives equipment to a share of the games that have just started."""
        draws = (1 + NUM_DRAWS,)
        use = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, _USE), draws))
        uniform = use(keys)
        equipped = ended & (uniform[:, 0] < self.current_share(after.steps))
        games = after.game
        plain = games.game if isinstance(self.game, LaterStarts) else games
        plain = jax.tree.map(
            lambda new, old: jnp.where(equipped.reshape((-1,) + (1,) * (old.ndim - 1)), new, old),
            with_equipment(plain, uniform[:, 1:]),
            plain,
        )
        shown = jax.vmap(self._plain.observation)(plain)
        games = games._replace(game=plain) if isinstance(self.game, LaterStarts) else plain
        return (
            jnp.where(equipped[:, None], shown, observations),
            after._replace(game=games, equipped=after.equipped | equipped),
        )


def _first(game: Any) -> EquippedGame:
    return EquippedGame(game, jnp.zeros(game.time.shape, jnp.bool_), jnp.zeros_like(game.time))


NUM_DRAWS = 5 + NUM_PROGRAMS + 3
"""Random numbers of an equipped start."""


def with_equipment(games: State, uniform: Float32[Array, "B draws"]) -> State:
    """Returns games whose players own more and may stand beside a program block, by numbers in
    [0, 1).
    """
    credits, energy, siphons, damage, share = (uniform[:, i] for i in range(5))

    def up_to(number: int, draw: Array) -> Array:
        return jnp.floor((number + 1) * draw).astype(jnp.int32)

    # Squares prefer few programs and little to pay with, so that more of them counts.
    owned = uniform[:, 5:-3] < MAX_OWNED * share[:, None] ** 2
    bits = jnp.uint32(1) << jnp.arange(NUM_PROGRAMS, dtype=jnp.uint32)
    player = games.player
    given = games._replace(
        owned=games.owned | jnp.where(owned, bits, 0).sum(-1, dtype=jnp.uint32),
        player=player._replace(
            credits=player.credits + up_to(MAX_RESOURCES, credits**2),
            energy=player.energy + up_to(MAX_RESOURCES, energy**2),
            data_siphons=player.data_siphons + up_to(MAX_SIPHONS, siphons),
            attack_damage=player.attack_damage + (damage < STRONGER) + (damage < STRONGEST),
        ),
    )
    return _beside_program(given, uniform[:, -3] < BESIDE, uniform[:, -2], uniform[:, -1])


def _beside_program(games: State, wanted: Array, where: Array, which: Array) -> State:
    """Moves players to a free cell beside an open program block, draws the program of that block
    and gives a siphon; games without such a cell stay as they are.

    Programs are drawn in proportion to the square of their spawn count, because those that bring
    many enemies are tried least. The block that had the program gets the other one.
    """
    board, player = games.board, games.player
    lanes = jnp.arange(wanted.size)
    open_ = (board.blocks & board.programs) - board.questions - board.siphoned
    taken = board.blocks | board.pickups | bitboard.of_cell(games.exit)
    # Functions of lists take the batch last.
    taken = taken | lists.occupied(games.enemies.T) | lists.occupied(games.transmissions.T)
    is_free = bitboard.to_cells(bitboard.neighbours(open_) - taken).T != 0
    cell = drawn(where, is_free)
    moves = wanted & is_free.any(-1)
    # The block is the first of the open ones beside the cell.
    beside = bitboard.to_cells(bitboard.neighbours(bitboard.of_cell(cell)) & open_).T != 0
    block = jnp.argmax(beside, axis=-1)
    content = CellWord.CONTENT.get(board.values)
    old = content[lanes, block]
    new = jnp.searchsorted(_BY_SPAWNS, which, side="right").astype(jnp.uint32)
    holds = (bitboard.to_cells(board.blocks & board.programs).T != 0) & (content == new[:, None])
    values = jnp.where(holds, _program_word(board.values, old[:, None]), board.values)
    values = values.at[lanes, block].set(_program_word(values[lanes, block], new))
    return games._replace(
        board=board._replace(values=jnp.where(moves[:, None], values, board.values)),
        player=player._replace(
            cell=jnp.where(moves, cell, player.cell),
            data_siphons=jnp.where(moves, jnp.maximum(player.data_siphons, 1), player.data_siphons),
        ),
    )


_SPAWNS = np.array([program.spawn_count for program in PROGRAMS], np.uint32)
_BY_SPAWNS = (np.cumsum(_SPAWNS**2) / (_SPAWNS**2).sum()).astype(np.float32)


def _program_word(word: Array, program: Array) -> Array:
    """Returns the words of program blocks with this program and its spawn count (rule 12.1)."""
    return CellWord.SPAWN_COUNT.set(CellWord.CONTENT.set(word, program), jnp.asarray(_SPAWNS)[program])
