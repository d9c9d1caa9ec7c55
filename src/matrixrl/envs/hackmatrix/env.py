"""HackMatrix as an environment: `reset`, `step` with automatic reset, `legal_action_mask`.

`jax.vmap` of these methods does not batch them operation by operation: it calls `step_batch`, which works on the
whole batch at once, generates stages only for the lanes that need one, and gives every lane the same result, bit for
bit, at any batch size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_batching import custom_vmap

from matrixrl.config import require
from matrixrl.envs.hackmatrix import bitboard, lists, observation, stage
from matrixrl.envs.hackmatrix.actions import legal_actions
from matrixrl.envs.hackmatrix.bitboard import Bits
from matrixrl.envs.hackmatrix.draws import Words, key_words
from matrixrl.envs.hackmatrix.reward import rewards
from matrixrl.envs.hackmatrix.rules import (
    DEFAULT_TIME_LIMIT,
    DEFAULT_UNDO_DEPTH,
    ENEMY_SLOTS,
    MAX_HP,
    NUM_ACTIONS,
    NUM_CELLS,
    OBSERVATION_SIZE,
    TRANSMISSION_SLOTS,
    Outcome,
)
from matrixrl.envs.hackmatrix.stage import Stage, StageInput
from matrixrl.envs.hackmatrix.state import SNAPSHOT_WORDS, Board, History, Player, State
from matrixrl.envs.hackmatrix.transition import transition

T = TypeVar("T")


class EnvParams(NamedTuple):
    """Settings that may change without a new compilation.

    Attributes:
      max_steps_in_episode: steps after which an episode that has not ended is truncated. The rules know no limit.
    """

    max_steps_in_episode: int | jax.Array = DEFAULT_TIME_LIMIT


class HackMatrix:
    """The game of the rule book [1-22]; see `matrixrl.envs.base` for what `step` returns.

    Args:
      undo_depth: snapshots kept for UNDO, at least 1 [13].
    """

    version = 0

    def __init__(self, undo_depth: int = DEFAULT_UNDO_DEPTH) -> None:
        require(undo_depth >= 1, f"undo_depth {undo_depth}: must be 1 or more")
        self.undo_depth = undo_depth
        self._step = _batched(self._step_words)
        self._reset = _batched(self._reset_words)
        self._mask = _batched(lambda state: legal_actions(to_batch_last(state)).T)
        self._observe = _batched(lambda state: observation.encode(to_batch_last(state)))

    @property
    def default_params(self) -> EnvParams:
        """A time limit of 1,000 steps."""
        return EnvParams()

    @property
    def num_actions(self) -> int:
        """28 actions [4]."""
        return NUM_ACTIONS

    @property
    def observation_size(self) -> int:
        """1545 values [19.4]."""
        return OBSERVATION_SIZE

    def reset(self, key: jax.Array, params: EnvParams | None = None) -> tuple[jax.Array, State]:
        """A new game [15]: the flat observation, float32[1545], and the state."""
        del params
        return self._reset(key_words(key))

    def step(
        self, key: jax.Array, state: State, action: jax.Array | int, params: EnvParams | None = None
    ) -> tuple[jax.Array, State, jax.Array, jax.Array, jax.Array, dict[str, Any]]:
        """One step [5] with automatic reset.

        Args:
          key: the key of this step alone; it decides the chance of the step and of the reset.
          state: the state.
          action: int 0..27; any other number is an invalid action.
          params: the time limit.

        Returns:
          observation float32[1545], state, reward float32, terminated bool, truncated bool, and info with
          `reward_breakdown` (14 float32 by the names of the rules), `stage_completed`, `invalid_action`, `died`,
          `won` (bool), `outcome` (int32, a `rules.Outcome`), `stage`, `score`, `episode_length` (int32),
          `episode_return` (float32) of the step's own episode, and `final_observation`: the observation before
          the automatic reset.
        """
        params = self.default_params if params is None else params
        limit = jnp.asarray(params.max_steps_in_episode, jnp.int32)
        return self._step(key_words(key), state, jnp.asarray(action, jnp.int32), limit)

    def legal_action_mask(self, state: State) -> jax.Array:
        """Which actions are valid, bool[28] [20]."""
        return self._mask(state)

    def observation(self, state: State) -> jax.Array:
        """The flat observation of a state, float32[1545]; `observation.split` names its parts."""
        return self._observe(state)

    def reset_batch(self, keys: jax.Array) -> tuple[jax.Array, State]:
        """`reset` for keys [B]: what `jax.vmap(env.reset)` calls."""
        return self._reset_words(key_words(keys))

    def step_batch(
        self, keys: jax.Array, states: State, actions: jax.Array, params: EnvParams | None = None
    ) -> tuple[jax.Array, State, jax.Array, jax.Array, jax.Array, dict[str, Any]]:
        """`step` for B games: what `jax.vmap(env.step)` calls. Every array has the batch first."""
        params = self.default_params if params is None else params
        limit = jnp.asarray(params.max_steps_in_episode, jnp.int32)
        return self._step_words(
            key_words(keys), states, actions.astype(jnp.int32), jnp.broadcast_to(limit, actions.shape)
        )

    def _reset_words(self, key: Words) -> tuple[jax.Array, State]:
        first = stage.generate(_new_game_input(key))
        words = jnp.zeros((first.exit.shape[0], self.undo_depth, SNAPSHOT_WORDS), jnp.uint32)
        state = _new_state(first, words)
        return observation.encode(state), from_batch_last(state)

    def _step_words(self, key: Words, states: State, action: jax.Array, limit: jax.Array) -> Any:
        state = to_batch_last(states)
        time = state.time + 1
        state, advances, facts, new_key = transition(key, state, action)
        reward, breakdown = rewards(facts)
        state = state._replace(time=time, episode_return=state.episode_return + reward)
        terminated = state.outcome != Outcome.PLAYING
        truncated = ~terminated & (time >= limit)
        done = terminated | truncated

        onward = StageInput(
            key=key,
            new_game=jnp.zeros_like(done),
            stage=state.stage,
            player=state.player.cell,
            enemies=lists.occupied(state.enemies),
            transmissions=state.transmissions,
        )
        following, opening = _generate_where(advances, onward, done, _new_game_input(new_key))
        state = _select(advances, _with_stage(state, following), state)
        after = _select(done, _new_state(opening, state.history.words), state)
        info = {
            "reward_breakdown": breakdown,
            "stage_completed": facts.completed,
            "invalid_action": ~facts.valid,
            "died": facts.died,
            "won": facts.won,
            "outcome": state.outcome,
            "stage": state.stage,
            "score": state.player.score,
            "episode_length": state.time,
            "episode_return": state.episode_return,
            "final_observation": observation.encode(state),
        }
        return observation.encode(after), from_batch_last(after), reward, terminated, truncated, info


def _batched(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of a batch as a function of one, whose `vmap` is the function of the batch."""

    @custom_vmap
    def single(*args: Any) -> Any:
        one = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], args)
        return jax.tree.map(lambda leaf: leaf[0], function(*one))

    @single.def_vmap
    def rule(axis_size: int, in_batched: Any, *args: Any) -> Any:
        full = jax.tree.map(
            lambda leaf, batched: leaf if batched else jnp.broadcast_to(leaf, (axis_size, *jnp.shape(leaf))),
            args,
            tuple(in_batched),
        )
        result = function(*full)
        return result, jax.tree.map(lambda _: True, result)

    return single


def to_batch_last(states: State) -> State:
    """The batch-last form of states whose arrays have the batch first; see `matrixrl.envs.hackmatrix.state`."""
    return states._replace(
        enemies=states.enemies.T,
        transmissions=states.transmissions.T,
        board=states.board._replace(values=states.board.values.T),
    )


def from_batch_last(states: State) -> State:
    """The inverse of `to_batch_last`, which is its own inverse."""
    return to_batch_last(states)


def _select(condition: jax.Array, yes: State, no: State) -> State:
    """`yes` in the lanes where the condition holds; the history's words, batch-first, are those of `no`."""
    words = no.history.words
    chosen = jax.tree.map(
        lambda a, b: jnp.where(condition, a, b),
        yes._replace(history=yes.history._replace(words=())),
        no._replace(history=no.history._replace(words=())),
    )
    return chosen._replace(history=chosen.history._replace(words=words))


def _new_game_input(key: Words) -> StageInput:
    zero = jnp.zeros_like(key.first, dtype=jnp.int32)
    nobody = jnp.zeros((TRANSMISSION_SLOTS, *zero.shape), jnp.uint32)
    return StageInput(key, zero == 0, zero + 1, zero, bitboard.empty_like(zero), nobody)


def _with_stage(state: State, made: Stage) -> State:
    return state._replace(board=made.board, exit=made.exit, transmissions=made.transmissions)


def _new_state(first: Stage, history_words: jax.Array) -> State:
    """A new game [15]; the history is empty whatever its words."""
    start = first.opening
    zero = jnp.zeros_like(start.cell)
    no = zero != 0
    interval = stage.schedule_interval(zero + 1)
    return State(
        player=Player(
            start.cell, zero + MAX_HP, start.credits, start.energy, start.data_siphons, zero, zero + 1
        ),
        board=first.board,
        owned=zero.astype(jnp.uint32),
        stage=zero + 1,
        turn=zero,
        exit=first.exit,
        enemies=jnp.zeros((ENEMY_SLOTS, *zero.shape), jnp.uint32),
        transmissions=first.transmissions,
        show_activated=no,
        scheduled_tasks_disabled=no,
        step_active=no,
        atk_plus_uses=zero,
        interval=interval,
        next_turn=interval,
        pending_siphon_spawns=zero,
        history=History(history_words, zero, zero),
        outcome=zero,
        time=zero,
        episode_return=zero.astype(jnp.float32),
    )


def _generate_where(
    advances: jax.Array, onward: StageInput, done: jax.Array, first: StageInput
) -> tuple[Stage, Stage]:
    """The stages after completed ones and those of new games, [B] each; rubbish where not asked for.

    The lanes that need a stage, of both kinds, are queued, and the queue is worked off a chunk at a time.
    """
    batch = advances.shape[0]
    chunk = min(2 * batch, max(16, batch // 16))
    capacity = -(-2 * batch // chunk) * chunk
    needed = jnp.concatenate([advances, done])
    numbers = jnp.arange(2 * batch, dtype=jnp.int32)
    queue = jnp.sort(jnp.where(needed, numbers, 2 * batch))
    queue = jnp.concatenate([queue, jnp.full(capacity - 2 * batch, 2 * batch, jnp.int32)])
    total = jnp.sum(needed, dtype=jnp.int32)
    place = jnp.maximum(jnp.cumsum(needed.astype(jnp.int32)) - 1, 0)

    def make(carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        at, rows = carry
        jobs = lax.dynamic_slice(queue, (at,), (chunk,))
        lanes = jnp.minimum(jobs % batch, batch - 1)
        new = jobs >= batch
        inputs = jax.tree.map(
            lambda a, b: jnp.where(new, b[..., lanes], a[..., lanes]),
            onward,
            first,
        )
        return at + chunk, lax.dynamic_update_slice(rows, _stage_rows(stage.generate(inputs)), (at, 0))

    rows = jnp.zeros((capacity, _STAGE_WORDS), jnp.uint32)
    _, rows = lax.while_loop(lambda carry: carry[0] < total, make, (jnp.int32(0), rows))
    return _stage_from_rows(rows[place[:batch]]), _stage_from_rows(rows[place[batch:]])


_STAGE_SCALARS = 8 + 1 + 4
_STAGE_WORDS = _STAGE_SCALARS + NUM_CELLS + TRANSMISSION_SLOTS


def _stage_rows(made: Stage) -> jax.Array:
    """A stage as rows of words, uint32[B, _STAGE_WORDS]; the sets that start empty are left out."""
    board = made.board
    sets = (board.blocks, board.programs, board.questions, board.pickups)
    scalars = [*(word for bits in sets for word in bits), made.exit, *made.opening]
    words = jnp.stack([scalar.astype(jnp.uint32) for scalar in scalars])
    return jnp.concatenate([words, board.values, made.transmissions]).T


def _stage_from_rows(rows: jax.Array) -> Stage:
    words = rows.T
    sets = [Bits(words[i], words[i + 1]) for i in range(0, 8, 2)]
    none = bitboard.empty_like(words[0])
    lists_start = _STAGE_SCALARS + NUM_CELLS
    board = Board(sets[0], sets[1], sets[2], none, none, sets[3], words[_STAGE_SCALARS:lists_start])
    exit_cell, *opening = words[8:_STAGE_SCALARS].astype(jnp.int32)
    return Stage(board, exit_cell, words[lists_start:], stage.NewGame(*opening))


def random_legal_action(key: jax.Array, mask: jax.Array) -> jax.Array:
    """A uniform choice among the legal actions, int32; 0 if there is none."""
    weights = jnp.cumsum(mask.astype(jnp.int32), axis=-1)
    total = weights[..., -1:]
    word = jax.random.bits(key, total.shape, jnp.uint32)
    from matrixrl.envs.hackmatrix.draws import pick

    n = pick(word, total)
    return jnp.argmax(weights > n, axis=-1).astype(np.int32)
