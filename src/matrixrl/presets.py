"""Named settings of the trainers, one plain function each; every field can be overridden by its
flag.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from matrixrl.config import (
    ActorCriticConfig,
    ConfigError,
    DemonstrationConfig,
    GameConfig,
    HackmatrixConfig,
    MatmulConfig,
    NetworkConfig,
    OptimizerConfig,
    PPOConfig,
    SearchConfig,
    SelfPlayConfig,
    StartsConfig,
    TrackingConfig,
)


def quick() -> MatmulConfig:
    """Returns the README's preset: Strassen's algorithm on two CPU cores, found over F2 without
    demonstrations of it and lifted to Z.
    """
    return MatmulConfig(
        preset="quick",
        # A transform policy has little to learn: half a second of weight updates is enough.
        network=NetworkConfig(width=64, num_blocks=1),
        demonstration=DemonstrationConfig(pretraining_steps=150),
    )


def discover() -> MatmulConfig:
    """Returns the preset for larger formats: longer pretraining on random tensors and refinement of
    solutions between epochs; F2, lifted to Z.
    """
    return MatmulConfig(
        preset="discover",
        search=SearchConfig(num_candidates=16),
        demonstration=DemonstrationConfig(pretraining_steps=1000),
        selfplay=SelfPlayConfig(
            num_epochs=1000, episodes_per_epoch=128, parallel_games=128, refinement_rounds=128
        ),
    )


def integers() -> MatmulConfig:
    """Returns the preset that plays over the integers without matmul demonstrations: ternary
    factors, contractions over F2 and F3.
    """
    return MatmulConfig(
        preset="integers",
        game=GameConfig(ring="Z"),
        demonstration=DemonstrationConfig(pretraining_steps=1500, min_density=0.3, max_density=0.8),
        selfplay=SelfPlayConfig(num_epochs=1000),
    )


def full() -> MatmulConfig:
    """Returns the reference preset: the standard algorithm as a demonstration, 350 simulations per
    move.
    """
    return MatmulConfig(
        preset="full",
        game=GameConfig(ring="Z", step_margin=0),
        search=SearchConfig(num_simulations=350),
        demonstration=DemonstrationConfig(
            demonstrations=("synthetic", "standard"), pretraining_steps=100, min_density=0.3, max_density=0.8
        ),
        selfplay=SelfPlayConfig(episodes_per_epoch=10, parallel_games=10, updates_per_epoch=100),
        optimizer=OptimizerConfig(batch_size=128),
    )


def dev() -> MatmulConfig:
    """Returns the preset for rapid iteration: about ten times faster than `full`, with every move
    in the journal.
    """
    return MatmulConfig(
        preset="dev",
        game=GameConfig(ring="Z", step_margin=0),
        network=NetworkConfig(width=64, num_blocks=1, head_width=64),
        search=SearchConfig(num_simulations=50, num_candidates=16),
        demonstration=DemonstrationConfig(
            demonstrations=("synthetic", "standard"), pretraining_steps=10, min_density=0.3, max_density=0.8
        ),
        selfplay=SelfPlayConfig(
            num_epochs=10, episodes_per_epoch=3, parallel_games=3, updates_per_epoch=10, evaluation_games=3
        ),
        optimizer=OptimizerConfig(batch_size=16, warmup_steps=10),
        tracking=TrackingConfig(record_moves=True),
    )


MATMUL: dict[str, Callable[[], MatmulConfig]] = {
    "quick": quick,
    "discover": discover,
    "integers": integers,
    "full": full,
    "dev": dev,
}


def hackmatrix_default() -> HackmatrixConfig:
    """Returns PureJaxRL's settings: plain networks, 10 million steps.

    Policy and value have networks of their own, which learn more per step here than a common one.
    Rewards are scaled; otherwise the clipped value loss needs the first million steps to reach
    their level.
    """
    return HackmatrixConfig(preset="default", network=ActorCriticConfig(critic="separate"))


def hackmatrix_tuned() -> HackmatrixConfig:
    """Returns the preset that learns most per second of training on a CPU: smaller batches, two
    passes over each at a higher, decreasing learning rate, the grid network with features of
    relations and of what a siphon brings, later and equipped starts, a reward for equipment and a
    cost for UNDO that the learner alone sees, a small bonus for exploring siphons and programs, and
    limited rewards.

    Rewards are scaled so that values stay near 1, within the clipping range of the value loss.
    """
    return HackmatrixConfig(
        preset="tuned",
        ppo=PPOConfig(
            num_envs=128,
            num_steps=32,
            total_timesteps=8_000_000,
            learning_rate=2e-3,
            anneal_lr=True,
            gamma=0.995,
            num_minibatches=8,
            update_epochs=2,
            ent_coef=0.01,
            final_ent_coef=0.002,
            exploration=0.001,
            exploration_until=0.75,
            max_reward=20.0,
        ),
        network=ActorCriticConfig(torso="grid", features="yields", hidden_dim=128, cell_dim=24),
        starts=StartsConfig(later_starts=0.3, later_starts_until=0.6, equipped_starts=0.8),
        program_exploration=3.0,
        equipment_reward=10.0,
        undo_cost=1.0,
    )


def hackmatrix_winning() -> HackmatrixConfig:
    """Returns the longest recipe, `tuned` with 30 million steps: 40 to 80 minutes of one core. The
    shipped agent is its result with seed 1 and a reward for equipment of 6.
    """
    tuned = hackmatrix_tuned()
    ppo = dataclasses.replace(tuned.ppo, total_timesteps=30_000_000)
    return dataclasses.replace(tuned, preset="winning", ppo=ppo)


def hackmatrix_dev() -> HackmatrixConfig:
    """Returns the preset for rapid iteration: small batches and a small grid network with relation
    features; the mean return rises from -3 to above 0 within a minute.
    """
    return HackmatrixConfig(
        preset="dev",
        ppo=PPOConfig(
            num_envs=128,
            num_steps=32,
            total_timesteps=327_680,
            learning_rate=3e-3,
            anneal_lr=True,
            gamma=0.995,
            num_minibatches=8,
            ent_coef=0.01,
            final_ent_coef=0.002,
        ),
        network=ActorCriticConfig(
            torso="grid", features="relations", hidden_dim=64, num_layers=1, cell_dim=8
        ),
    )


def hackmatrix_alphazero() -> HackmatrixConfig:
    """Returns the defaults of `--algorithm alphazero`, for two cores: small rollouts, because a
    search per step makes positions precious, each used about four times.
    """
    return HackmatrixConfig(
        preset="alphazero",
        algorithm="alphazero",
        ppo=PPOConfig(
            num_envs=64,
            num_steps=16,
            total_timesteps=1_000_000,
            learning_rate=1e-3,
            anneal_lr=True,
            gamma=0.995,
            num_minibatches=1,
        ),
        network=ActorCriticConfig(torso="grid", features="relations", hidden_dim=128),
    )


HACKMATRIX: dict[str, Callable[[], HackmatrixConfig]] = {
    "default": hackmatrix_default,
    "tuned": hackmatrix_tuned,
    "winning": hackmatrix_winning,
    "dev": hackmatrix_dev,
    "alphazero": hackmatrix_alphazero,
}


def hackmatrix(name: str) -> HackmatrixConfig:
    """Returns the hackmatrix preset called `name`.

    Raises:
      ConfigError: if there is no preset of this name.
    """
    if name not in HACKMATRIX:
        raise ConfigError(f"--preset {name}: must be one of {', '.join(HACKMATRIX)}")
    return HACKMATRIX[name]()


def matmul(name: str) -> MatmulConfig:
    """Returns the matmul preset called `name`.

    Raises:
      ConfigError: if there is no preset of this name.
    """
    if name not in MATMUL:
        raise ConfigError(f"--preset {name}: must be one of {', '.join(MATMUL)}")
    return MATMUL[name]()
