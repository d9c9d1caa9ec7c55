"""HackMatrix as a task for PPO: the game, the network that reads its packed observations, and its
episode table.
"""

from __future__ import annotations

from matrixrl.config import HackmatrixConfig
from matrixrl.devices.machine import compute_dtype
from matrixrl.envs.hackmatrix import observation
from matrixrl.envs.hackmatrix.env import EnvParams, HackMatrix
from matrixrl.envs.hackmatrix.rules import NUM_ACTIONS, SIZE
from matrixrl.envs.hackmatrix.statistics import EPISODE_VALUES, CountedHackMatrix
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


def build_network(config: HackmatrixConfig) -> ActorCritic:
    """Returns the network of a config; it takes packed observations, uint32 [N, 117]."""
    settings = config.network
    dtype = compute_dtype(settings.precision)
    if settings.torso == "mlp":
        torso = MLP(settings.hidden_dim, settings.num_layers, dtype)
        return ActorCritic(observation.unpack, torso, NUM_ACTIONS)
    codes = (settings.cell_dim, settings.cell_dim // 2)
    torso = GridTorso(SIZE, codes, settings.hidden_dim, settings.num_layers, dtype)
    return ActorCritic(observation.parts, torso, NUM_ACTIONS)


def hackmatrix_task(config: HackmatrixConfig) -> PPOTask:
    """Returns the game with the network of a config."""
    return PPOTask(
        name="HackMatrix",
        version=HackMatrix.version,
        env=CountedHackMatrix(HackMatrix(packed=True)),
        env_params=EnvParams,
        network=build_network(config),
        episode_values=EPISODE_VALUES,
        columns=COLUMNS,
        maxima=("highest_stage",),
    )
