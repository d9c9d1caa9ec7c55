"""The game for a whole batch at once: the batching rule that `jax.vmap` applies to the environment.

Inputs and outputs have the batch axis first; inside, arrays are batch-last
(`matrixrl.envs.hackmatrix.state`). Large batches are processed in blocks that fit into the
processor's cache. The history is the largest part of a state and the least used, so it stays
outside the blocks: a block receives the newest snapshot and returns the next one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float32, Int32

from matrixrl.envs.hackmatrix import bitboard, lists, observation, stage
from matrixrl.envs.hackmatrix.actions import legal_actions
from matrixrl.envs.hackmatrix.bitboard import Bits
from matrixrl.envs.hackmatrix.draws import Words
from matrixrl.envs.hackmatrix.memory import materialized
from matrixrl.envs.hackmatrix.observation import EncodedBatch
from matrixrl.envs.hackmatrix.reward import rewards
from matrixrl.envs.hackmatrix.rules import (
    ENEMY_SLOTS,
    FIRST_PROGRAM_ACTION,
    MAX_HP,
    NUM_CELLS,
    TRANSMISSION_SLOTS,
    Outcome,
    Program,
)
from matrixrl.envs.hackmatrix.stage import Stage, StageInput
from matrixrl.envs.hackmatrix.state import SNAPSHOT_WORDS, Board, History, PlayerState, State
from matrixrl.envs.hackmatrix.transition import transition

_LARGEST_BLOCK, _SMALLEST_BLOCK = 256, 64


Encode = Callable[[State], Array]
"""Encoder of a batch-last state as observations: `observation.encode` or `observation.pack`."""


def reset(key: Words, undo_depth: int, encode: Encode = observation.encode) -> tuple[EncodedBatch, State]:
    """Starts a new game for each key and returns observations and states."""
    state = _new_state(stage.generate(_new_game_input(key)))
    words = jnp.zeros((state.exit.shape[0], undo_depth, SNAPSHOT_WORDS), jnp.uint32)
    state = state._replace(history=state.history._replace(words=words))
    return encode(state), from_batch_last(state)


def legal_action_mask(states: State) -> Bool[Array, "B 28"]:
    """Returns the mask of legal actions."""
    return legal_actions(to_batch_last(states)).T


def observe(states: State, encode: Encode = observation.encode) -> EncodedBatch:
    """Returns the observations."""
    return encode(to_batch_last(states))


class _Stepped(NamedTuple):
    """The results of a block, batch first; `states` excludes the words of the history.

    `snapshot` uint32[B, SNAPSHOT_WORDS] is written to slot `slot` of the history, unless that is
    negative.
    """

    observation: Array
    states: State
    reward: Array
    terminated: Array
    truncated: Array
    info: dict[str, Any]
    snapshot: Array
    slot: Array


class StepResults(NamedTuple):
    """Results of `step`, batch first, in the order of the results of an environment's step."""

    observation: EncodedBatch
    states: State
    reward: Float32[Array, "B"]
    terminated: Bool[Array, "B"]
    truncated: Bool[Array, "B"]
    info: dict[str, Any]


def step(
    key: Words,
    states: State,
    action: Int32[Array, "B"],
    limit: Int32[Array, "B"],
    *,
    resets: bool = True,
    encode: Encode = observation.encode,
) -> StepResults:
    """Applies one step to every game, as `HackMatrix.step` describes it.

    Args:
      key: words of the keys.
      states: [B, ...].
      limit: the time limit.
      resets: whether ended games restart automatically.
      encode: encoder of the observations.
    """
    history = states.history
    batch, depth = history.words.shape[:2]
    lanes = jnp.arange(batch)

    def newest() -> Array:
        return history.words[lanes, (history.next - 1) % depth]

    # Gather the newest snapshots only if some lane uses UNDO.
    undoing = jnp.any(action == FIRST_PROGRAM_ACTION + Program.UNDO)
    snapshots = lax.cond(undoing, newest, lambda: jnp.zeros((batch, SNAPSHOT_WORDS), jnp.uint32))
    inputs = (key, states._replace(history=history._replace(words=())), snapshots, action, limit)

    def run(inputs: Any) -> _Stepped:
        return _step_block(*inputs, depth=depth, resets=resets, encode=encode)

    # Run the lanes block by block, so that the intermediate arrays stay in the cache.
    size = block_size(batch)
    if size == batch:
        done = run(inputs)
    else:
        blocks = jax.tree.map(lambda leaf: leaf.reshape((-1, size, *leaf.shape[1:])), inputs)
        done = jax.tree.map(lambda leaf: leaf.reshape((batch, *leaf.shape[2:])), lax.map(run, blocks))

    # Write each lane's snapshot into its slot of the ring; a slot of -1 matches nothing.
    here = done.slot[:, None] == jnp.arange(depth)
    words = jnp.where(here[:, :, None], done.snapshot[:, None], history.words)
    after = done.states._replace(history=done.states.history._replace(words=words))
    return StepResults(done.observation, after, done.reward, done.terminated, done.truncated, done.info)


def block_size(batch: int) -> int:
    """Returns the number of lanes per block: the largest divisor of the batch in a useful range,
    else the whole batch.
    """
    sizes = [size for size in range(_SMALLEST_BLOCK, _LARGEST_BLOCK + 1) if batch % size == 0]
    return max(sizes, default=batch)


def _step_block(
    key: Words,
    states: State,
    newest: Array,
    action: Array,
    limit: Array,
    *,
    depth: int,
    resets: bool,
    encode: Encode,
) -> _Stepped:
    """Computes `step` for one block of lanes, given the newest snapshots [B, SNAPSHOT_WORDS]
    instead of the history.
    """
    state = to_batch_last(states)
    time = state.time + 1
    moved = transition(key, state, newest.T, action)
    facts = materialized(moved.facts, state.time)
    reward, breakdown = rewards(facts)
    state = moved.state._replace(time=time, episode_return=state.episode_return + reward)
    terminated = state.outcome != Outcome.PLAYING
    truncated = ~terminated & (time >= limit)
    done = terminated | truncated

    # Advance the ring: UNDO pops a snapshot, an enemy phase pushes one, a new stage clears it.
    history = state.history
    following = history.next - moved.undone
    state = state._replace(
        history=history._replace(
            next=(following + moved.pushed) % depth,
            size=jnp.where(moved.advances, 0, jnp.minimum(history.size - moved.undone + moved.pushed, depth)),
        )
    )
    # Generate the next stage of lanes that advance and the first stage of lanes that restart.
    onward = StageInput(
        key=key,
        new_game=jnp.zeros_like(done),
        stage=state.stage,
        player=state.player.cell,
        enemies=lists.occupied(state.enemies),
        transmissions=state.transmissions,
    )
    ended = done & resets
    next_stage, first_stage = _generate_where(moved.advances, onward, ended, _new_game_input(moved.new_key))
    state = _select(moved.advances, _with_stage(state, next_stage), state)
    final = encode(state)
    after = _select(ended, _new_state(first_stage), state) if resets else state
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
        "final_observation": final,
    }
    return _Stepped(
        observation=_observe_again(encode, final, after, ended) if resets else final,
        states=from_batch_last(after),
        reward=reward,
        terminated=terminated,
        truncated=truncated,
        info=info,
        snapshot=moved.snapshot.T,
        slot=jnp.where(moved.pushed, following % depth, -1),
    )


def _observe_again(encode: Encode, observations: Array, state: State, changed: Array) -> Array:
    """Returns the observations with those of the few `changed` lanes recomputed."""
    batch = changed.shape[0]
    chunk = min(batch, _CHUNK)
    queue = _queue(changed, chunk)

    def some(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        at, observations = carry
        lanes = lax.dynamic_slice(queue, (at,), (chunk,))
        chosen = jax.tree.map(lambda leaf: leaf[..., jnp.minimum(lanes, batch - 1)], state)
        fresh = encode(chosen)
        return at + chunk, observations.at[lanes].set(fresh, mode="drop", unique_indices=True)

    total = jnp.sum(changed, dtype=jnp.int32)
    return lax.while_loop(lambda carry: carry[0] < total, some, (jnp.int32(0), observations))[1]


_CHUNK = 16
"""Number of lanes for which a stage or a first observation is computed at once."""


def _queue(needed: Array, chunk: int) -> Array:
    """Returns the indices of the lanes where `needed`, ascending, padded with indices beyond the
    batch to whole chunks.
    """
    batch = needed.shape[0]
    queue = jnp.sort(jnp.where(needed, jnp.arange(batch, dtype=jnp.int32), batch))
    return jnp.pad(queue, (0, -batch % chunk), constant_values=batch)


def to_batch_last(states: State) -> State:
    """Converts states with the batch first to the batch-last form of
    `matrixrl.envs.hackmatrix.state`.
    """
    return states._replace(
        enemies=states.enemies.T,
        transmissions=states.transmissions.T,
        board=states.board._replace(values=states.board.values.T),
    )


def from_batch_last(states: State) -> State:
    """Inverts `to_batch_last`, which is its own inverse."""
    return to_batch_last(states)


def _select(condition: Array, yes: State, no: State) -> State:
    """Returns `yes` in the lanes where the condition holds, `no` in the others."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


def _new_game_input(key: Words) -> StageInput:
    zero = jnp.zeros_like(key.first, dtype=jnp.int32)
    nobody = jnp.zeros((TRANSMISSION_SLOTS, *zero.shape), jnp.uint32)
    return StageInput(key, zero == 0, zero + 1, zero, bitboard.empty_like(zero), nobody)


def _with_stage(state: State, made: Stage) -> State:
    return state._replace(board=made.board, exit=made.exit, transmissions=made.transmissions)


def _new_state(first: Stage) -> State:
    """Returns a new game (rule 15), without the words of its empty history."""
    start = first.opening
    zero = jnp.zeros_like(start.cell)
    no = zero != 0
    interval = stage.schedule_interval(zero + 1)
    return State(
        player=PlayerState(
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
        history=History((), zero, zero),
        outcome=zero,
        time=zero,
        episode_return=zero.astype(jnp.float32),
    )


def _generate_where(
    advances: Array, onward: StageInput, done: Array, first: StageInput
) -> tuple[Stage, Stage]:
    """Generates the stages after completed ones and those of new games, [B] each; undefined in
    lanes that need none.

    The lanes that need a stage of either kind are queued, and the queue is processed in chunks.
    """
    batch = advances.shape[0]
    chunk = min(2 * batch, _CHUNK)
    needed = jnp.concatenate([advances, done])
    queue = _queue(needed, chunk)
    total = jnp.sum(needed, dtype=jnp.int32)
    place = jnp.maximum(jnp.cumsum(needed.astype(jnp.int32)) - 1, 0)

    def make(carry: tuple[Array, Array]) -> tuple[Array, Array]:
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

    # Store the stages in queue order; each lane then gathers its own rows.
    rows = jnp.zeros((queue.shape[0], _STAGE_WORDS), jnp.uint32)
    _, rows = lax.while_loop(lambda carry: carry[0] < total, make, (jnp.int32(0), rows))
    return _stage_from_rows(rows[place[:batch]]), _stage_from_rows(rows[place[batch:]])


_STAGE_SCALARS = 8 + 1 + 4
_STAGE_WORDS = _STAGE_SCALARS + NUM_CELLS + TRANSMISSION_SLOTS


def _stage_rows(made: Stage) -> Array:
    """Encodes a stage as rows of words, uint32[B, _STAGE_WORDS], omitting the sets that start
    empty.
    """
    board = made.board
    sets = (board.blocks, board.programs, board.questions, board.pickups)
    scalars = [*(word for bits in sets for word in bits), made.exit, *made.opening]
    words = jnp.stack([scalar.astype(jnp.uint32) for scalar in scalars])
    return jnp.concatenate([words, board.values, made.transmissions]).T


def _stage_from_rows(rows: Array) -> Stage:
    words = rows.T
    sets = [Bits(words[i], words[i + 1]) for i in range(0, 8, 2)]
    none = bitboard.empty_like(words[0])
    lists_start = _STAGE_SCALARS + NUM_CELLS
    board = Board(sets[0], sets[1], sets[2], none, none, sets[3], words[_STAGE_SCALARS:lists_start])
    exit_cell, *opening = words[8:_STAGE_SCALARS].astype(jnp.int32)
    return Stage(board, exit_cell, words[lists_start:], stage.NewGame(*opening))
