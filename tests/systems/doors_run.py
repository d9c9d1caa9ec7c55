"""AlphaZero on the game of two doors: the programs of a run, and its settings."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from functools import cached_property
from typing import Any

import jax
import numpy as np

from matrixrl.config import HackmatrixConfig
from matrixrl.search.chance import ChanceSearchResult
from matrixrl.systems.hackmatrix.alphazero import AlphaZeroProgram
from matrixrl.systems.hackmatrix.task import COLUMNS
from matrixrl.systems.ppo.task import PPOTask
from tests.agents.test_gumbel import DOORS, NETWORK, search
from tests.envs.hackmatrix.lanes import QUICKLY

UPDATES, LANES, STEPS, CHUNK = 60, 16, 4, 20
SETTINGS = shlex.split(f"""
    --algorithm alphazero --num-envs {LANES} --num-steps {STEPS} --num-simulations 24 --seed 3
    --total-timesteps {UPDATES * LANES * STEPS} --replay-size 256 --batch-size 64 --updates-per-rollout 4
    --learning-rate 0.01 --gamma 0.9 --reward-scale 1 --value-lambda 0.5 --vf-coef 1 --max-grad-norm 10
    --log-interval {CHUNK} --console quiet --run-name r --save-interval-chunks 1 --keep-last 999
""")

TASK = PPOTask(
    name="doors",
    version=0,
    env=DOORS,  # pyright: ignore[reportArgumentType]
    env_params=lambda limit: None,
    network=NETWORK,
    episode_values={
        "return": np.float32, "steps": np.int32, "highest_stage": np.int32, "final_score": np.int32,
        "win_rate": np.float32,
    },
    columns=COLUMNS,
    maxima=("highest_stage",),
)  # fmt: skip


class DoorsProgram(AlphaZeroProgram):
    """The programs of a run on the game of two doors, compiled with quick code generation."""

    def __init__(self, config: HackmatrixConfig) -> None:
        super().__init__(config, TASK)

    def _search(
        self, params: Any, keys: Any, env_state: Any, discount: Any, reward_scale: Any
    ) -> ChanceSearchResult:
        return search(params, keys, env_state, discount, reward_scale)

    @cached_property
    def _compiled(self) -> Callable[..., Any]:
        return jax.jit(self.updates, donate_argnums=0, compiler_options=QUICKLY)
