"""HackMatrix as a task for PPO: the game, the network that reads its packed observations, and its
episode table.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float32, UInt32

from matrixrl.agents.ppo import Shaping, num_groups
from matrixrl.config import ActorCriticConfig, HackmatrixConfig
from matrixrl.devices.machine import compute_dtype
from matrixrl.devices.mesh import max_groups
from matrixrl.envs.hackmatrix import observation, relations, yields
from matrixrl.envs.hackmatrix.env import EnvParams, HackMatrix
from matrixrl.envs.hackmatrix.equipped import EquippedStarts
from matrixrl.envs.hackmatrix.rules import ACTION_SIPHON, FIRST_PROGRAM_ACTION, NUM_ACTIONS, SIZE, Program
from matrixrl.envs.hackmatrix.starts import LaterStarts
from matrixrl.envs.hackmatrix.statistics import CountedHackMatrix, episode_values
from matrixrl.networks.actor_critic import MLP, ActorCritic, GridTorso
from matrixrl.systems.ppo.task import EpisodeColumn, PPOTask, faded

COLUMNS = {
    "Return": EpisodeColumn("return", "float"),
    "Steps": EpisodeColumn("steps", "int"),
    "Highest Stage": EpisodeColumn("highest_stage", "int"),
    "Final Score": EpisodeColumn("final_score", "float"),
    "Won": EpisodeColumn("win_rate", "bool"),
}
"""Columns of the episode table, after its number and the update."""

LATER_START_COLUMNS = {"Start Stage": EpisodeColumn("start_stage", "int")}
"""Further columns of a run with later starts."""

EQUIPPED_START_COLUMNS = {"Equipped": EpisodeColumn("equipped", "bool")}
"""Further columns of a run with equipped starts."""


FEATURES = {
    "observation": (observation.unpack, observation.parts),
    "relations": (relations.unpack_with_relations, relations.parts_with_relations),
    "yields": (yields.unpack_with_yields, yields.parts_with_yields),
}
"""Functions from packed observations to the input of either torso, flat and in parts."""

PREPARE = {"observation": None, "relations": relations.prepare, "yields": yields.prepare}
"""What is computed of packed observations once for all passes over them."""


def build_network(config: HackmatrixConfig) -> ActorCritic:
    """Returns the network of a config; it takes packed observations, uint32 [N, 117]."""
    settings = config.network
    flat, parts = FEATURES[settings.features]
    features = flat if settings.torso == "mlp" else parts
    critic = build_torso(settings) if settings.critic == "separate" else None
    return ActorCritic(features, build_torso(settings), NUM_ACTIONS, critic)


def build_torso(settings: ActorCriticConfig) -> MLP | GridTorso:
    """Returns the torso of the policy, or of a separate critic."""
    head = (
        settings.hidden_dim,
        settings.num_layers,
        compute_dtype(settings.precision),
        settings.activation,
        settings.orthogonal_init,
    )
    if settings.torso == "mlp":
        return MLP(*head)
    return GridTorso(SIZE, (settings.cell_dim, settings.cell_dim // 2), *head)


def hackmatrix_task(config: HackmatrixConfig) -> PPOTask:
    """Returns the game with the network of a config."""
    game = HackMatrix(packed=True)
    starts, ppo = config.starts, config.ppo
    has_later, has_equipped = starts.later_starts > 0, starts.equipped_starts > 0

    def steps_until(part: float) -> int:
        return max(1, round(part * ppo.num_updates * ppo.num_steps))

    if has_later:
        steps = steps_until(starts.later_starts_until)
        game = LaterStarts(game, starts.later_starts, steps, group_of(config))
    if has_equipped:
        game = EquippedStarts(game, starts.equipped_starts, steps_until(starts.equipped_starts_until))
    columns = dict(COLUMNS)
    if has_later:
        columns |= LATER_START_COLUMNS
    if has_equipped:
        columns |= EQUIPPED_START_COLUMNS
    return PPOTask(
        name="HackMatrix",
        version=HackMatrix.version,
        env=CountedHackMatrix(game),
        env_params=EnvParams,
        network=build_network(config),
        episode_values=episode_values(has_later, has_equipped),
        columns=columns,
        maxima=("highest_stage",),
        counted="whole" if has_later or has_equipped else None,
        explored=tuple(action >= ACTION_SIPHON for action in range(NUM_ACTIONS)),
        exploration_factor=exploration_factor(config),
        shaping=learner_rewards(config),
        prepare=PREPARE[config.network.features],
    )


def exploration_factor(config: HackmatrixConfig) -> Callable[[Array], Array] | None:
    """Returns the function from observations, packed or prepared, to the factor of the exploration
    bonus: `program_exploration` where a siphon would bring a program, and 1 elsewhere; None if it
    is 1 everywhere.
    """
    factor = config.program_exploration
    if factor == 1:
        return None
    return lambda observations: jnp.where(yields.gained_here(observations) != 0, factor, 1.0)


def learner_rewards(config: HackmatrixConfig) -> Callable[[Array], Shaping] | None:
    """Returns the function from the progress of a run to the rewards that its learner sees in
    addition: for equipment, and a cost for UNDO; None if there are none.

    The reward for equipment is a difference of potentials (Ng, Harada and Russell 1999, "Policy
    invariance under reward transformations", equation 2), undiscounted and without the term at the
    end of an episode, so that an agent loses nothing by dying.
    """
    first, until, undo_cost = config.equipment_reward, config.equipment_reward_until, config.undo_cost
    if first == undo_cost == 0:
        return None

    def at(progress: Array) -> Shaping:
        weight = faded(first, until, progress)

        def rewards(observations: Array, actions: Array, following: Array) -> Array:
            gained = equipment(following) - equipment(observations)
            return weight * gained - undo_cost * (actions == FIRST_PROGRAM_ACTION + Program.UNDO)

        return rewards

    return at


SIPHON_WORTH = 0.5
"""Worth of a data siphon in the hand, in programs: a use that brings no program costs this much."""


def equipment(observations: UInt32[Array, "N _"]) -> Float32[Array, "N"]:
    """Returns the number of programs that the player owns and half the number of data siphons, of
    packed observations [N, 117].
    """
    owned = jax.lax.population_count(observations[:, observation.OWNED])
    siphons = observations[:, observation.DATA_SIPHONS]
    return owned.astype(jnp.float32) + SIPHON_WORTH * siphons.astype(jnp.float32)


def group_of(config: HackmatrixConfig) -> int:
    """Returns the number of neighbouring games that share positions for later starts: those of a
    group of the learner, which is never divided among devices.
    """
    ppo = config.ppo
    return ppo.num_envs // num_groups(ppo.num_envs, ppo.num_steps, ppo.num_minibatches, max_groups())
