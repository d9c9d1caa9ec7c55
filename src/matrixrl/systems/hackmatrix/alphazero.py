"""AlphaZero on HackMatrix: the compiled programs of a run that learns from the search.

The trainer, its events, checkpoints and commands are those of PPO; an update is a rollout in which
the search chooses each action, and the weight updates after it (`agents.gumbel`).
"""

from __future__ import annotations

import dataclasses
from typing import Any, cast

from jax import Array

from matrixrl.agents.gumbel import GumbelAlphaZero, SearchMetrics, SearchTrainState
from matrixrl.config import HackmatrixConfig, require
from matrixrl.envs.hackmatrix.equipped import EquippedGame
from matrixrl.envs.hackmatrix.starts import StartedGame
from matrixrl.envs.hackmatrix.state import State
from matrixrl.envs.hackmatrix.statistics import CountedGame
from matrixrl.search.chance import ChanceSearchResult
from matrixrl.systems.hackmatrix.search import SearchPlayer, bytes_per_node
from matrixrl.systems.ppo.diagnostics import DIAGNOSTICS, Diagnostic
from matrixrl.systems.ppo.program import Coefficients, PPOProgram, clipped_adam
from matrixrl.systems.ppo.task import PPOTask
from matrixrl.training.first_calls import FirstCalls

MAX_SEARCH_BYTES = 4 * 2**30
"""Maximum memory of the trees of all games of a rollout."""

COLLAPSE = Diagnostic(
    "train/entropy",
    0.02,
    float("inf"),
    "the policy has collapsed to one action per state and explores no more",
    "lower --value-scale or --learning-rate",
)


def game_of(env_state: CountedGame) -> State:
    """Returns the games of the environments of a rollout, without statistics and kept positions."""
    game = env_state.game
    while isinstance(game, (EquippedGame, StartedGame)):
        game = game.game
    return cast(State, game)


class AlphaZeroProgram(PPOProgram):
    """Builds and holds the compiled programs of a run of `--algorithm alphazero`.

    Raises:
      ConfigError: if the trees of all games would need too much memory.
    """

    metrics = SearchMetrics
    diagnostics = (COLLAPSE, *(item for item in DIAGNOSTICS if item.metric == "train/explained_variance"))

    def __init__(self, config: HackmatrixConfig, task: PPOTask) -> None:  # pyright: ignore[reportMissingSuperCall]
        self.config = config
        self.task = task
        self.first_calls = FirstCalls()
        self.mesh = None
        ppo, own = config.ppo, config.alphazero
        size = ppo.num_envs * (own.num_simulations + 1) * bytes_per_node(own.num_simulations)
        require(
            size <= MAX_SEARCH_BYTES,
            f"--num-envs {ppo.num_envs} x --num-simulations {own.num_simulations}: the search trees need "
            f"{size / 2**30:.1f} GiB, at most {MAX_SEARCH_BYTES / 2**30:g}; make one of them smaller",
        )
        self.ppo: Any = GumbelAlphaZero(
            env=task.env,
            search=self._search,
            apply=task.network.apply,
            init_params=task.network.init,
            optimizer=clipped_adam(ppo.learning_rate, ppo.max_grad_norm, ppo.adam_eps),
            num_envs=ppo.num_envs,
            num_steps=ppo.num_steps,
            replay_size=own.replay_size,
            batch_size=own.batch_size,
            updates_per_rollout=own.updates_per_rollout,
            gamma=ppo.gamma,
            value_lambda=own.value_lambda,
            vf_coef=ppo.vf_coef,
            reward_scale=ppo.reward_scale,
            env_params=task.env_params(config.time_limit),
        )

    def _search(
        self, params: Any, keys: Array, env_state: CountedGame, discount: Any, reward_scale: Any
    ) -> ChanceSearchResult:
        own = cast(HackmatrixConfig, self.config).alphazero
        player = SearchPlayer(
            self.task.network,
            params,
            own.num_simulations,
            discount,
            reward_scale,
            exploration=1.0,
            value_scale=own.value_scale,
        )
        return player(keys, game_of(env_state))

    def _learner(self, coefficients: Coefficients, number: Array) -> Any:
        """Returns the learner with the coefficients of update `number`."""
        values = coefficients.at(number)
        return dataclasses.replace(
            self.ppo,
            optimizer=clipped_adam(
                values["learning_rate"], values["max_grad_norm"], adam_eps=self.config.ppo.adam_eps
            ),
            env_params=self.task.env_params(coefficients.time_limit),
            **{name: values[name] for name in ("gamma", "vf_coef", "reward_scale")},
        )


__all__ = ["AlphaZeroProgram", "SearchTrainState"]
