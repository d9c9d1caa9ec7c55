"""HackMatrix as a task for PPO: the game, the network that reads its packed observations, and its
episode table.
"""

from __future__ import annotations

from matrixrl.agents.ppo import num_groups
from matrixrl.config import ActorCriticConfig, HackmatrixConfig
from matrixrl.devices.machine import compute_dtype
from matrixrl.devices.mesh import max_groups
from matrixrl.envs.hackmatrix import observation, relations
from matrixrl.envs.hackmatrix.env import EnvParams, HackMatrix
from matrixrl.envs.hackmatrix.rules import NUM_ACTIONS, SIZE
from matrixrl.envs.hackmatrix.starts import LaterStarts
from matrixrl.envs.hackmatrix.statistics import EPISODE_VALUES, LATER_START_VALUES, CountedHackMatrix
from matrixrl.networks.actor_critic import MLP, ActorCritic, GridTorso
from matrixrl.systems.ppo.task import EpisodeColumn, PPOTask

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


def build_network(config: HackmatrixConfig) -> ActorCritic:
    """Returns the network of a config; it takes packed observations, uint32 [N, 117]."""
    settings = config.network
    has_relations = settings.features == "relations"
    if settings.torso == "mlp":
        features = relations.unpack_with_relations if has_relations else observation.unpack
    else:
        features = relations.parts_with_relations if has_relations else observation.parts
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
    has_later = starts.later_starts > 0
    if has_later:
        steps = max(1, round(starts.later_starts_until * ppo.num_updates * ppo.num_steps))
        game = LaterStarts(game, starts.later_starts, steps, group_of(config))
    return PPOTask(
        name="HackMatrix",
        version=HackMatrix.version,
        env=CountedHackMatrix(game),
        env_params=EnvParams,
        network=build_network(config),
        episode_values=LATER_START_VALUES if has_later else EPISODE_VALUES,
        columns={**COLUMNS, **LATER_START_COLUMNS} if has_later else COLUMNS,
        maxima=("highest_stage",),
        counted="whole" if has_later else None,
        prepare=relations.prepare if config.network.features == "relations" else None,
    )


def group_of(config: HackmatrixConfig) -> int:
    """Returns the number of neighbouring games that share positions for later starts: those of a
    group of the learner, which is never divided among devices.
    """
    ppo = config.ppo
    return ppo.num_envs // num_groups(ppo.num_envs, ppo.num_steps, ppo.num_minibatches, max_groups())
