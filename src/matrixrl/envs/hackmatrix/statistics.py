"""Episode statistics: counts and sums carried with the game."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float32, Int32, Integer, Key, PRNGKeyArray, UInt32

from matrixrl.envs.base import in_standard_settings
from matrixrl.envs.hackmatrix.env import EnvParams, HackMatrix
from matrixrl.envs.hackmatrix.equipped import EquippedStarts
from matrixrl.envs.hackmatrix.observation import Encoded, EncodedBatch
from matrixrl.envs.hackmatrix.rules import ACTION_SIPHON, FIRST_PROGRAM_ACTION, REWARD_COMPONENTS
from matrixrl.envs.hackmatrix.starts import LaterStarts
from matrixrl.envs.hackmatrix.wrapper import GameWrapper

EPISODE_VALUES: dict[str, Any] = {
    "return": jnp.float32,
    "steps": jnp.int32,
    "highest_stage": jnp.int32,
    "final_score": jnp.int32,
    "win_rate": jnp.float32,
    "programs_used": jnp.int32,
    "action_moves": jnp.int32,
    "action_siphons": jnp.int32,
    "action_programs": jnp.int32,
    **{f"reward_{name}": jnp.float32 for name in REWARD_COMPONENTS},
}
"""Names and types of the values in ``info["episode"]``; see `CountedHackMatrix`."""


def episode_values(later: bool, equipped: bool) -> dict[str, Any]:
    """Returns names and types of the values with later or equipped starts: also the stage of the
    start, whether there was equipment, and 1 for a whole game, which has neither.
    """
    values = dict(EPISODE_VALUES)
    if later:
        values["start_stage"] = jnp.int32
    if equipped:
        values["equipped"] = jnp.float32
    if later or equipped:
        values["whole"] = jnp.float32
    return values


class CountedGame(NamedTuple):
    """A game, and the statistics of its episode so far.

    Attributes:
      game: the state of the game, or of `starts.LaterStarts` or `equipped.EquippedStarts`.
      components: the sum of each reward component (rule 18.2).
      moves, siphons, programs: int32, number of actions of each kind.
      used: uint32, bit i is set if program number i was used.
    """

    game: Any
    components: Float32[Array, "*B components"]
    moves: Int32[Array, "*B"]
    siphons: Int32[Array, "*B"]
    programs: Int32[Array, "*B"]
    used: UInt32[Array, "*B"]


@in_standard_settings
class CountedHackMatrix(GameWrapper):
    """HackMatrix whose steps report the statistics of the episode so far in ``info["episode"]``.

    The values of the dict are final where the step ended the episode: `return`, `steps`,
    `highest_stage`, `final_score`, `win_rate` (1 or 0), `programs_used` (number of different ones),
    `action_moves`, `action_siphons`, `action_programs`, and `reward_<component>` for the 14
    components; with later starts also `start_stage`, with equipped starts `equipped` (1 or 0), and
    with either `whole` (1 for a game from stage 1 without equipment, else 0). The only other entry
    of info is `final_observation`.

    Args:
      game: the environment.
    """

    def __init__(self, game: HackMatrix | LaterStarts | EquippedStarts) -> None:
        super().__init__(game)

    def reset(self, key: PRNGKeyArray, params: EnvParams | None = None) -> tuple[Encoded, CountedGame]:
        """Starts a new game."""
        observation, game = self.game.reset(key, params)
        return observation, _nothing_counted(game)

    def reset_batch(
        self, keys: Key[Array, "B"] | UInt32[Array, "B 2"], params: EnvParams | None = None
    ) -> tuple[EncodedBatch, CountedGame]:
        """Starts games for keys [B]."""
        observation, game = self.game.reset_batch(keys, params)
        return observation, _nothing_counted(game)

    def step(
        self,
        key: PRNGKeyArray,
        state: CountedGame,
        action: Integer[Array, ""],
        params: EnvParams | None = None,
    ) -> tuple[Encoded, CountedGame, Float32[Array, ""], Bool[Array, ""], Bool[Array, ""], dict[str, Any]]:
        """Runs one step of the game."""
        return _counted(state, action, *self.game.step(key, state.game, action, params))

    def step_batch(
        self,
        keys: Key[Array, "B"] | UInt32[Array, "B 2"],
        states: CountedGame,
        actions: Integer[Array, "B"],
        params: EnvParams | None = None,
    ) -> tuple[
        EncodedBatch, CountedGame, Float32[Array, "B"], Bool[Array, "B"], Bool[Array, "B"], dict[str, Any]
    ]:
        """Runs one step of B games."""
        return _counted(states, actions, *self.game.step_batch(keys, states.game, actions, params))


def _nothing_counted(game: Any) -> CountedGame:
    zero = jnp.zeros_like(game.time)
    components = jnp.zeros((*zero.shape, len(REWARD_COMPONENTS)), jnp.float32)
    return CountedGame(game, components, zero, zero, zero, zero.astype(jnp.uint32))


def _counted(
    before: CountedGame,
    action: Array,
    observation: Array,
    game: Any,
    reward: Array,
    terminated: Array,
    truncated: Array,
    info: dict[str, Any],
) -> tuple[Array, CountedGame, Array, Array, Array, dict[str, Any]]:
    """Adds a step of one game, or of a batch, to the statistics and returns the outputs of the
    step.
    """
    program = action - FIRST_PROGRAM_ACTION
    is_program = program >= 0
    bit = jnp.uint32(1) << jnp.maximum(program, 0).astype(jnp.uint32)
    breakdown = jnp.stack([info["reward_breakdown"][name] for name in REWARD_COMPONENTS], axis=-1)
    counted = CountedGame(
        game,
        before.components + breakdown,
        before.moves + (action < ACTION_SIPHON),
        before.siphons + (action == ACTION_SIPHON),
        before.programs + is_program,
        before.used | jnp.where(is_program, bit, 0),
    )
    episode = {
        "return": info["episode_return"],
        "steps": info["episode_length"],
        "highest_stage": info["stage"],
        "final_score": info["score"],
        "win_rate": info["won"].astype(jnp.float32),
        "programs_used": jax.lax.population_count(counted.used).astype(jnp.int32),
        "action_moves": counted.moves,
        "action_siphons": counted.siphons,
        "action_programs": counted.programs,
        **{f"reward_{name}": counted.components[..., i] for i, name in enumerate(REWARD_COMPONENTS)},
    }
    whole = jnp.ones_like(info["won"])
    if "start_stage" in info:
        episode["start_stage"] = info["start_stage"]
        whole &= info["start_stage"] == 1
    if "equipped" in info:
        episode["equipped"] = info["equipped"].astype(jnp.float32)
        whole &= ~info["equipped"]
    if "start_stage" in info or "equipped" in info:
        episode["whole"] = whole.astype(jnp.float32)
    ended = terminated | truncated
    fresh = jax.tree.map(
        lambda new, zero: jnp.where(ended.reshape(ended.shape + (1,) * (new.ndim - ended.ndim)), zero, new),
        counted[1:],
        _nothing_counted(game)[1:],
    )
    info = {"final_observation": info["final_observation"], "episode": episode}
    return observation, CountedGame(game, *fresh), reward, terminated, truncated, info
