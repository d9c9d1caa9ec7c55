"""Settings of proximal policy optimisation, for any environment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from matrixrl.config.fields import MAX_NUMBER, Settings, group, require, setting
from matrixrl.config.run import RunConfig


@dataclass(frozen=True, kw_only=True)
class PPOConfig(Settings):
    """Proximal policy optimisation. The first fifteen fields have PureJaxRL's names and
    meanings.
    """

    num_envs: int = setting(256, minimum=1)
    """Number of parallel environments, over all devices."""

    num_steps: int = setting(128, minimum=1)
    """Number of steps per environment and update. A batch is --num-envs x --num-steps steps."""

    total_timesteps: int = setting(10_000_000, countable=False, may_change=True)
    """Number of environment steps in the run, rounded down to whole batches."""

    learning_rate: float = setting(2.5e-4, above=0, may_change=True, argument=True)
    """Initial learning rate of Adam."""

    anneal_lr: bool = setting(False, may_change=True, argument=True)
    """Decrease the learning rate linearly to zero over the run."""

    gamma: float = setting(0.99, minimum=0, maximum=1, may_change=True, argument=True)
    """Discount factor per step."""

    gae_lambda: float = setting(0.95, minimum=0, maximum=1, may_change=True, argument=True)
    """Lambda of generalised advantage estimation."""

    num_minibatches: int = setting(4, minimum=1)
    """Number of minibatches per pass over a batch."""

    update_epochs: int = setting(4, minimum=1, may_change=True)
    """Number of passes over each batch."""

    clip_eps: float = setting(0.2, minimum=0, may_change=True, argument=True)
    """Clipping range of the probability ratio, and of the change of the value."""

    vf_coef: float = setting(0.5, minimum=0, may_change=True, argument=True)
    """Weight of the value loss."""

    ent_coef: float = setting(0.1, minimum=0, may_change=True, argument=True)
    """Initial weight of the entropy bonus."""

    final_ent_coef: float | None = setting(None, minimum=0, may_change=True, argument=True)
    """Final weight of the entropy bonus, reached linearly over the run.
    Default: constant weight.
    """

    exploration: float = setting(0.0, minimum=0, may_change=True)
    """Initial weight of a bonus that keeps legal actions from dying out, the mean of their
    log-probabilities; in HackMatrix of siphon and programs. It decreases linearly to 0.
    """

    exploration_until: float = setting(0.8, above=0, maximum=1, may_change=True)
    """Fraction of the run after which there is no such bonus.
    Used by --exploration.
    """

    max_grad_norm: float = setting(0.5, above=0, may_change=True, argument=True)
    """Maximum global norm of the gradients. Larger gradients are scaled down."""

    reward_scale: float = setting(0.1, above=0, argument=True)
    """Factor applied to the rewards that the learner uses. Recorded returns are unscaled."""

    max_reward: float | None = setting(None, above=0, may_change=True)
    """Largest reward, and largest penalty, that the learner sees in a step, before --reward-scale.
    Recorded returns are not limited. Default: no limit.
    """

    clip_value: bool = setting(True, may_change=True)
    """Limit the change of the value per update to --clip-eps, as that of the policy."""

    normalize_advantages: Literal["minibatch", "batch", "none"] = setting("minibatch", may_change=True)
    """Samples over which advantages are normalised to mean 0 and variance 1.
    `none` leaves them as they are.
    """

    adam_eps: float = setting(1e-5, above=0, may_change=True)
    """Epsilon of Adam, added to the root of the second moment."""

    def check(self) -> None:
        """Checks the shape of a batch."""
        require(
            self.batch_size % self.num_minibatches == 0,
            f"--num-envs {self.num_envs} x --num-steps {self.num_steps} is {self.batch_size} steps, which "
            f"--num-minibatches {self.num_minibatches} does not divide; make it "
            f"{_nearest_divisor(self.batch_size, self.num_minibatches)}",
        )
        require(
            self.total_timesteps >= self.batch_size,
            f"--total-timesteps {self.total_timesteps}: smaller than one batch of {self.batch_size} (--num-envs "
            f"{self.num_envs} x --num-steps {self.num_steps}), so it rounds down to no update at all; give "
            f"{self.batch_size} or more, or make the batch smaller",
        )

    @property
    def batch_size(self) -> int:
        """Number of environment steps per update."""
        return self.num_envs * self.num_steps

    @property
    def num_updates(self) -> int:
        """Number of updates in the run."""
        return self.total_timesteps // self.batch_size


def _nearest_divisor(number: int, wanted: int) -> int:
    """Returns the divisor of `number` nearest to `wanted`, the smaller of two."""
    divisors = [d for d in range(1, min(number, 2 * wanted) + 1) if number % d == 0]
    return min(divisors, key=lambda d: abs(d - wanted))


@dataclass(frozen=True, kw_only=True)
class PPOTrainerConfig(RunConfig):
    """Settings of a PPO run, for any environment."""

    ppo: PPOConfig = group(PPOConfig)

    monolithic: bool = setting(False, may_change=True)
    """Run all updates in one call on the device, and record at the end."""

    auto_tune: bool = False
    """Select --num-envs and --num-steps for the device by measuring, and report the choice."""

    def check(self) -> None:
        """Checks the length of the run, and the ways of running against one another."""
        super().check()
        require(
            self.ppo.batch_size <= MAX_NUMBER,
            f"--num-envs {self.ppo.num_envs} x --num-steps {self.ppo.num_steps} is {self.ppo.batch_size} steps; at most "
            f"{MAX_NUMBER}",
        )
        require(
            self.ppo.num_updates <= MAX_NUMBER,
            f"--total-timesteps {self.ppo.total_timesteps}: {self.ppo.num_updates} updates of {self.ppo.batch_size} steps; at "
            f"most {MAX_NUMBER} updates",
        )
        require(
            not (self.processes.distributed and (self.benchmark or self.auto_tune)),
            "--auto-tune and --benchmark measure one process: leave --distributed out, and give what they say to all",
        )
        require(
            self.time is None or not self.monolithic,
            f"--time {self.time}: --monolithic is one call on the device, which cannot stop before its end; leave one "
            "of them out",
        )

    @property
    def chunk(self) -> int:
        """Number of updates between two records."""
        return self.ppo.num_updates if self.monolithic else self.tracking.log_interval
