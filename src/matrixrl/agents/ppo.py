"""Proximal policy optimisation (Schulman et al. 2017) with masked or continuous actions, pure and
jitted from rollout to weights.

The batch of environments is cut into *groups*. Each group shuffles its own samples, a minibatch
takes an equal share of every group, and gradients are summed group by group and then in pairs. The
groups can therefore be placed on one device or on several: a minibatch holds the same samples
either way, and the network processes at most one group's share at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jaxtyping import Bool, Float, Float32, Int32, Integer, Key, PRNGKeyArray, PyTree, Shaped, UInt32

from matrixrl.agents import masked, normalization
from matrixrl.agents.distributions import Distribution, MaskedCategorical
from matrixrl.agents.normalization import Statistics
from matrixrl.agents.returns import gae
from matrixrl.envs.base import Environment, vectorized

Tree = TypeVar("Tree")

MAX_GROUPS = 8

MAX_PACKED = 1 << 16
"""Maximum size of a shuffle by packed integers: above it too few random bits remain."""

# (params, observations [N, ...]) -> policy outputs such as logits [N, A], values [N]
Apply = Callable[[Any, Any], tuple[Any, Array]]

CATEGORICAL = MaskedCategorical()


class RolloutState(NamedTuple):
    """Environments between two steps.

    Attributes:
      env_state: state of every environment, [B, ...].
      observation: [B, ...].
      lane: the environment's number, from which its keys are derived.
      discounted: float32 [B], discounted sum of the episode's rewards so far; () unless rewards are
        normalised.
    """

    env_state: PyTree[Shaped[Array, "B ..."]]
    observation: PyTree[Shaped[Array, "B ..."]]
    lane: Int32[Array, "B"]
    discounted: Any = ()


class Transition(NamedTuple):
    """Steps of a rollout, each array [T, B, ...].

    Attributes:
      observation: before the step.
      legal: legal actions.
      action: int32, or float32 [T, B, D] if actions are continuous.
      log_prob: float32, of the action.
      value: float32, of the observation.
      reward: float32.
      terminated, truncated: bool.
      final_value: float32, value of the episode's last observation where truncated, else 0.
    """

    observation: PyTree[Shaped[Array, "T B ..."]]
    legal: Bool[Array, "T B A"]
    action: Int32[Array, "T B"] | Float32[Array, "T B D"]
    log_prob: Float32[Array, "T B"]
    value: Float32[Array, "T B"]
    reward: Float32[Array, "T B"]
    terminated: Bool[Array, "T B"]
    truncated: Bool[Array, "T B"]
    final_value: Float32[Array, "T B"]


class Episodes(NamedTuple):
    """Episodes that ended in a rollout.

    Attributes:
      values: by name, [T, B, ...]: the environment's ``info["episode"]``; valid where `ended`.
      faults: by name, number of steps of the rollout that break the rules of an environment
        (`FAULTS`); empty unless the learner checks.
    """

    ended: Bool[Array, "T B"]
    values: dict[str, Shaped[Array, "T B ..."]]
    faults: Any = ()


FAULTS = ("nonfinite_reward", "nonfinite_observation", "no_legal_action")
"""Names of the faults of an environment that are counted."""


class Samples(NamedTuple):
    """Samples of the loss, each array [N, ...]. `value` and `log_prob` are those of the rollout."""

    observation: PyTree[Shaped[Array, "N ..."]]
    legal: Bool[Array, "N A"]
    action: Int32[Array, "N"] | Float32[Array, "N D"]
    log_prob: Float32[Array, "N"]
    value: Float32[Array, "N"]
    advantage: Float32[Array, "N"]
    target: Float32[Array, "N"]


class PPOLossMetrics(NamedTuple):
    """Scalars of a minibatch; `approx_kl` is the estimator (r - 1) - log r of Schulman's
    "Approximating KL divergence".
    """

    total_loss: Float32[Array, ""]
    pg_loss: Float32[Array, ""]
    vf_loss: Float32[Array, ""]
    entropy: Float32[Array, ""]
    approx_kl: Float32[Array, ""]
    clip_fraction: Float32[Array, ""]


class UpdateMetrics(NamedTuple):
    """Scalars of an update: means over its minibatches, and facts of its rollout."""

    total_loss: Float32[Array, ""]
    pg_loss: Float32[Array, ""]
    vf_loss: Float32[Array, ""]
    entropy: Float32[Array, ""]
    approx_kl: Float32[Array, ""]
    clip_fraction: Float32[Array, ""]
    grad_norm: Float32[Array, ""]
    explained_variance: Float32[Array, ""]
    mean_reward: Float32[Array, ""]


class TrainState(NamedTuple):
    """Complete state of training; keys are derived from the seed and the number of the update.

    Attributes:
      statistics: of observations and rewards; empty unless they are normalised.
    """

    params: PyTree
    opt_state: PyTree
    rollout: RolloutState
    statistics: Statistics = Statistics()


class Rollout(NamedTuple):
    """Result of `collect_rollout`.

    Attributes:
      state: environments after the last step.
      steps: every step.
      episodes: the episodes that ended.
    """

    state: RolloutState
    steps: Transition
    episodes: Episodes


class Update(NamedTuple):
    """Result of one update: the state after it, its metrics, and the episodes that ended."""

    state: TrainState
    metrics: UpdateMetrics
    episodes: Episodes


class UpdatedState(NamedTuple):
    """Result of the weight updates on a given rollout."""

    state: TrainState
    metrics: UpdateMetrics


class Moments(NamedTuple):
    """Mean and variance of numbers over all devices."""

    mean: Float32[Array, ""]
    variance: Float32[Array, ""]


class Learned(NamedTuple):
    """Result of the weight updates on a rollout; the metrics are means over the minibatches."""

    params: PyTree
    opt_state: PyTree
    metrics: PPOLossMetrics
    grad_norm: Float32[Array, ""]


class ScaledRewards(NamedTuple):
    """Rewards as the learner takes them, with the statistics that include them."""

    rollout: RolloutState
    statistics: Statistics
    reward: Float32[Array, "T B"]


def lane_keys(key: PRNGKeyArray, lane: Integer[Array, "B"]) -> Key[Array, "B"] | UInt32[Array, "B 2"]:
    """Derives a key for each environment, independent of its device."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, lane)


def shuffled(key: PRNGKeyArray, size: int) -> Int32[Array, "size"]:
    """Returns the numbers 0 .. size - 1 in random order.

    Up to `MAX_PACKED` numbers, it sorts single integers that hold random high bits above the number
    itself, seven times as fast on a CPU as the two sorts of pairs of `jax.random.permutation`.
    Numbers with equal random bits stay in ascending order, which affects only minibatches whose
    boundary falls between two such numbers.
    """
    if size > MAX_PACKED:
        return jax.random.permutation(key, size)
    low = jnp.uint32((1 << (size - 1).bit_length()) - 1)
    # Pack random high bits above the number and sort.
    packed = (jax.random.bits(key, (size,)) & ~low) | jnp.arange(size, dtype=jnp.uint32)
    return (jax.lax.sort(packed, is_stable=False) & low).astype(jnp.int32)


def final_values(
    value_of: Callable[[Any], Array],
    truncated: Bool[Array, "B"],
    observation: PyTree[Shaped[Array, "B ..."]],
    like: Float32[Array, "B"],
) -> Float32[Array, "B"]:
    """Returns the values of the last observations where an episode was truncated, and 0 elsewhere.

    Truncation is rare: the network is evaluated only in a step that truncates an episode.

    Args:
      like: values of the step, for their shape and dtype.
    """
    return jax.lax.cond(
        truncated.any(),
        lambda: jnp.where(truncated, value_of(observation), 0.0),
        lambda: jnp.zeros_like(like),
    )


def strongly_typed(tree: Tree) -> Tree:
    """Returns the tree with strongly typed leaves, as a compiled program returns them: weakly typed
    ones would compile it twice.
    """
    return jax.tree.map(lambda leaf: jax.lax.convert_element_type(leaf, leaf.dtype), tree)


def collect_rollout(
    env: Environment[Any, Any],
    apply: Apply,
    params: PyTree,
    state: RolloutState,
    key: PRNGKeyArray,
    num_steps: int,
    env_params: PyTree = None,
    distribution: Distribution = CATEGORICAL,
) -> Rollout:
    """Runs `num_steps` steps of every environment with actions sampled from the policy."""
    games = vectorized(env)

    def value_of(observation: Any) -> Array:
        return apply(params, observation)[1]

    def step(state: RolloutState, key: Array) -> tuple[RolloutState, tuple[Transition, Episodes]]:
        key_action, key_env = jax.random.split(key)
        legal = games.legal_action_mask_batch(state.env_state)
        outputs, value = apply(params, state.observation)
        # Sample an action per environment; keys by lane keep the draws independent of sharding.
        policy = distribution.condition(outputs, legal)
        action = distribution.sample(lane_keys(key_action, state.lane), policy)
        observation, env_state, reward, terminated, truncated, info = games.step_batch(
            lane_keys(key_env, state.lane), state.env_state, action, env_params
        )
        final_value = final_values(value_of, truncated, info["final_observation"], value)
        transition = Transition(
            observation=state.observation,
            legal=legal,
            action=action,
            log_prob=distribution.log_prob(policy, action),
            value=value,
            reward=reward,
            terminated=terminated,
            truncated=truncated,
            final_value=final_value,
        )
        episodes = Episodes(terminated | truncated, info["episode"])
        return state._replace(env_state=env_state, observation=observation), (transition, episodes)

    state, (transitions, episodes) = jax.lax.scan(step, state, jax.random.split(key, num_steps))
    return Rollout(state, transitions, episodes)


class Exploration(NamedTuple):
    """A bonus for actions that a policy would give up (`masked.log_barrier`).

    Attributes:
      weight: of the bonus in the loss.
      explored: for each of the A actions whether it counts.
      factor: observations [N, ...] -> factor of the bonus for each, float [N]; None for 1.
    """

    weight: float | Float[Array, ""]
    explored: tuple[bool, ...]
    factor: Callable[[Any], Array] | None = None


Shaping = Callable[[Any, Array, Any], Array]
"""Observations [N, ...], actions [N, ...] and the observations that follow -> additional rewards
float [N] that the learner alone sees, before they are scaled.
"""


def shaped_rewards(shaping: Shaping, steps: Transition, last_observation: PyTree) -> Float[Array, "T B"]:
    """Returns the additional rewards of a rollout, [T, B]; 0 for steps that end an episode, which
    no observation follows.

    Args:
      steps: of the rollout.
      last_observation: [B, ...], after its last step.
    """
    following = jax.tree.map(
        lambda before, last: jnp.concatenate([before[1:], last[None]]), steps.observation, last_observation
    )
    flat = jax.tree.map(
        lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), (steps.observation, steps.action, following)
    )
    ended = steps.terminated | steps.truncated
    return jnp.where(ended, 0, shaping(*flat).reshape(ended.shape))


def loss(
    params: PyTree,
    apply: Apply,
    samples: Samples,
    clip_eps: float | Float[Array, ""],
    vf_coef: float | Float[Array, ""],
    ent_coef: float | Float[Array, ""],
    count: int | None = None,
    distribution: Distribution = CATEGORICAL,
    clip_value: bool = True,
    exploration: Exploration | None = None,
) -> tuple[Float32[Array, ""], PPOLossMetrics]:
    """Computes the clipped surrogate (equation 7), the clipped value loss and the entropy bonus
    (equation 9).

        r       = pi(a|s) / pi_old(a|s)
        pg_loss = -mean min(r A, clip(r, 1 - eps, 1 + eps) A)
        vf_loss = 1/2 mean max((V - R)^2, (V_old + clip(V - V_old, -eps, eps) - R)^2)
        total   = pg_loss + vf_coef vf_loss - ent_coef entropy

    Args:
      samples: [N, ...]; advantages are not normalised here.
      count: means are sums over the N samples divided by this; by default N. Losses of parts of a
        minibatch, each with the minibatch's size, add up to its loss.
      clip_value: False for the squared error of the value alone, 1/2 mean (V - R)^2.
      exploration: subtracts weight x log barrier from the total; of a categorical policy.
    """
    outputs, value = apply(params, samples.observation)
    policy = distribution.condition(outputs, samples.legal)
    log_ratio = distribution.log_prob(policy, samples.action) - samples.log_prob
    ratio = jnp.exp(log_ratio)
    count = value.shape[0] if count is None else count

    def mean(values: Array) -> Array:
        return values.sum() / count

    # Clip the policy ratio and the change of the value.
    surrogate = jnp.minimum(
        ratio * samples.advantage, jnp.clip(ratio, 1 - clip_eps, 1 + clip_eps) * samples.advantage
    )
    squared = (value - samples.target) ** 2
    if clip_value:
        clipped_value = samples.value + jnp.clip(value - samples.value, -clip_eps, clip_eps)
        squared = jnp.maximum(squared, (clipped_value - samples.target) ** 2)
    pg_loss, vf_loss = -mean(surrogate), 0.5 * mean(squared)
    entropy = mean(distribution.entropy(policy))
    total = pg_loss + vf_coef * vf_loss - ent_coef * entropy
    if exploration is not None:
        barrier = masked.log_barrier(policy, samples.legal, exploration.explored)
        if exploration.factor is not None:
            barrier = exploration.factor(samples.observation) * barrier
        total = total - exploration.weight * mean(barrier)
    return total, PPOLossMetrics(
        total_loss=total,
        pg_loss=pg_loss,
        vf_loss=vf_loss,
        entropy=entropy,
        approx_kl=mean(ratio - 1 - log_ratio),
        clip_fraction=mean((jnp.abs(ratio - 1) > clip_eps).astype(jnp.float32)),
    )


def _standardized(values: Array, moments: Moments) -> Array:
    """Returns values with mean 0 and variance 1."""
    return (values - moments.mean) / (jnp.sqrt(moments.variance) + 1e-8)


def num_groups(num_envs: int, num_steps: int, num_minibatches: int, max_groups: int = MAX_GROUPS) -> int:
    """Returns the number of groups of a batch: at most `max_groups`, in equal parts for every
    minibatch.

    It is a power of two if `max_groups` is, so that sums over groups pair up evenly on any power of
    two of devices.
    """
    groups = max_groups
    while groups > 1 and (num_envs % groups or (num_envs // groups * num_steps) % num_minibatches):
        groups //= 2
    return groups


@dataclass(frozen=True)
class PPO:
    """The learner. Methods are pure; the caller jits them.

    Attributes:
      env: the environment; ``info["episode"]`` of a step is a dict of values of an episode that
        ends.
      apply: the network.
      init_params: (key, observations [1, ...]) -> params.
      optimizer: built once and not part of the state.
      num_envs: environments of all devices together.
      gamma, gae_lambda, clip_eps, vf_coef, ent_coef, reward_scale: numbers, or traced scalars.
      env_params: passed to the environment.
      axis_name: the mesh axis that environments are spread over; None on one device.
      at_once: True to process the groups of a minibatch in one forward pass, which is faster on an
        accelerator and for small groups; on a CPU separate passes of large ones fit the cache.
      max_groups: maximum number of groups of a batch (`num_groups`); at least the number of
        devices.
      distribution: meaning of the policy outputs of the network.
      normalize_observations, normalize_rewards: True to keep running statistics of them, and to
        show the learner normalised ones.
      counts_faults: True to count the faults of the environment, for one that is not known to be
        free of them.
      max_reward: limits the size of a step's reward, before it is scaled; None for no limit.
      clip_value: limits the change of the value in the loss.
      normalize_advantages: samples over which advantages are normalised: `minibatch`, `batch` or
        `none`.
      exploration: bonus for actions that the policy would give up; None for none.
      shaping: additional rewards that the learner alone sees; None for none.
      prepare: computes once per update what the network derives from observations, in all passes
        over them; the network accepts both.
    """

    env: Environment[Any, Any]
    apply: Apply
    init_params: Callable[[Array, Any], Any]
    optimizer: optax.GradientTransformation
    num_envs: int
    num_steps: int
    num_minibatches: int
    update_epochs: int
    gamma: float | Array
    gae_lambda: float | Array
    clip_eps: float | Array
    vf_coef: float | Array
    ent_coef: float | Array
    reward_scale: float | Array = 1.0
    env_params: Any = None
    axis_name: str | None = None
    at_once: bool = False
    max_groups: int = MAX_GROUPS
    distribution: Distribution = CATEGORICAL
    normalize_observations: bool = False
    normalize_rewards: bool = False
    counts_faults: bool = False
    max_reward: float | None = None
    clip_value: bool = True
    normalize_advantages: Literal["minibatch", "batch", "none"] = "minibatch"
    exploration: Exploration | None = None
    shaping: Shaping | None = None
    prepare: Callable[[Any], Any] | None = None

    def init(self, key: PRNGKeyArray) -> TrainState:
        """Returns initial parameters, and environments at the start of an episode."""
        key_params, key_envs = jax.random.split(key)
        lane = jnp.arange(self.num_envs, dtype=jnp.int32)
        observation, env_state = vectorized(self.env).reset_batch(lane_keys(key_envs, lane), self.env_params)
        return self.initial_state(key_params, observation, env_state)

    def initial_state(
        self, key: PRNGKeyArray, observation: PyTree[Shaped[Array, "B ..."]], env_state: PyTree
    ) -> TrainState:
        """Returns initial parameters for environments that were started, with their first
        observations [B, ...].
        """
        lane = jnp.arange(self.num_envs, dtype=jnp.int32)
        statistics = self._initial_statistics(observation)
        first = jax.tree.map(lambda leaf: leaf[:1], observation)
        params = self.init_params(key, normalization.normalized_observation(statistics.observation, first))
        discounted = jnp.zeros(self.num_envs, jnp.float32) if self.normalize_rewards else ()
        rollout = RolloutState(env_state, observation, lane, discounted)
        state = TrainState(params, self.optimizer.init(params), rollout, statistics)
        return strongly_typed(state)

    def update(self, state: TrainState, key: PRNGKeyArray) -> Update:
        """Performs one rollout and the weight updates on it.

        Args:
          key: specific to this update.
        """
        key_rollout, key_shuffle = jax.random.split(key)
        rollout, steps, episodes = collect_rollout(
            self.env,
            self.apply_with(state.statistics),
            state.params,
            state.rollout,
            key_rollout,
            self.num_steps,
            self.env_params,
            self.distribution,
        )
        if self.counts_faults:
            episodes = episodes._replace(faults=self._count_faults(steps))
        state, metrics = self.learn(state._replace(rollout=rollout), steps, key_shuffle)
        return Update(state, metrics, episodes)

    def learn(self, state: TrainState, steps: Transition, key: PRNGKeyArray) -> UpdatedState:
        """Performs the weight updates on a rollout.

        Args:
          state: after the rollout, whose last observations it holds.
          steps: of the rollout.
          key: shuffles the samples.
        """
        params, opt_state, rollout, statistics = state
        apply = self.apply_with(statistics)
        rollout, statistics, learned_reward = self._normalized_rewards(rollout, steps, statistics)
        if self.max_reward is not None:
            learned_reward = jnp.clip(learned_reward, -self.max_reward, self.max_reward)
        if self.shaping is not None:
            learned_reward += shaped_rewards(self.shaping, steps, rollout.observation)
        # Compute advantages over the rollout, bootstrapped from its last observation.
        _, last_value = apply(params, rollout.observation)
        advantage, target = gae(
            learned_reward * self.reward_scale,
            steps.value,
            steps.terminated,
            steps.truncated,
            steps.final_value,
            last_value,
            self.gamma,
            self.gae_lambda,
        )
        samples, reward = self.grouped(
            (
                Samples(
                    steps.observation,
                    steps.legal,
                    steps.action,
                    steps.log_prob,
                    steps.value,
                    advantage,
                    target,
                ),
                steps.reward,
            )
        )
        # Update the weights over shuffled minibatches.
        prepared = samples
        if self.prepare is not None:
            prepared = samples._replace(observation=jax.vmap(self.prepare)(samples.observation))
        params, opt_state, metrics, grad_norm = self._learn(
            apply, params, opt_state, prepared, key, rollout.lane
        )
        statistics = self._with_observations(statistics, samples.observation)
        unexplained = self._moments(samples.advantage).variance  # residual variance of the value
        variance = self._moments(samples.target).variance
        return UpdatedState(
            TrainState(params, opt_state, rollout, statistics),
            UpdateMetrics(
                *metrics,
                grad_norm=grad_norm,
                explained_variance=1 - unexplained / jnp.maximum(variance, 1e-8),
                mean_reward=self._moments(reward).mean,
            ),
        )

    def grouped(self, steps: Tree) -> Tree:
        """Arranges arrays [T, B, ...] by the groups of this device, [G, T * B / G, ...]."""
        size = self.num_envs // self.groups

        def cut(leaf: Array) -> Array:
            parts = leaf.reshape(leaf.shape[0], -1, size, *leaf.shape[2:])
            return jnp.moveaxis(parts, 1, 0).reshape(parts.shape[1], -1, *leaf.shape[2:])

        return jax.tree.map(cut, steps)

    @property
    def groups(self) -> int:
        """Number of groups over all devices."""
        return num_groups(self.num_envs, self.num_steps, self.num_minibatches, self.max_groups)

    def apply_with(self, statistics: Statistics) -> Apply:
        """Returns the network behind the normalisation of observations."""
        if not self.normalize_observations:
            return self.apply

        def apply(params: Any, observation: Any) -> tuple[Any, Array]:
            shown = normalization.normalized_observation(statistics.observation, observation)
            return self.apply(params, shown)

        return apply

    def _initial_statistics(self, observation: Any) -> Statistics:
        return Statistics(
            jax.tree.map(lambda leaf: normalization.initial(leaf.shape[1:]), observation)
            if self.normalize_observations
            else (),
            normalization.initial() if self.normalize_rewards else (),
        )

    def _normalized_rewards(
        self, rollout: RolloutState, steps: Transition, statistics: Statistics
    ) -> ScaledRewards:
        """Returns the rewards of the learner, [T, B], with the statistics that include them."""
        if not self.normalize_rewards:
            return ScaledRewards(rollout, statistics, steps.reward)
        last, sums = normalization.discounted_sums(
            rollout.discounted, steps.reward, steps.terminated | steps.truncated, self.gamma
        )
        count = self.num_envs * self.num_steps
        moments = normalization.merged(statistics.reward, self.grouped(sums), self.sum_groups, count)
        reward = normalization.scaled_reward(moments, steps.reward)
        return ScaledRewards(rollout._replace(discounted=last), statistics._replace(reward=moments), reward)

    def _with_observations(self, statistics: Statistics, observation: Any) -> Statistics:
        """Returns the statistics with the observations of a batch, [G, N, ...]."""
        if not self.normalize_observations:
            return statistics
        count = self.num_envs * self.num_steps

        def merged(moments: normalization.Moments, samples: Array) -> normalization.Moments:
            return normalization.merged(moments, samples, self.sum_groups, count)

        is_moments = lambda leaf: isinstance(leaf, normalization.Moments)  # noqa: E731
        updated = jax.tree.map(merged, statistics.observation, observation, is_leaf=is_moments)
        return statistics._replace(observation=updated)

    def _count_faults(self, steps: Transition) -> dict[str, Array]:
        """Counts the steps with a fault of the environment, over all devices."""

        def nonfinite(leaf: Array) -> Array:
            if not jnp.issubdtype(leaf.dtype, jnp.floating):
                return jnp.zeros(leaf.shape[:2], jnp.bool_)
            return ~jnp.isfinite(leaf).reshape(*leaf.shape[:2], -1).all(-1)

        bad_observation = jnp.stack([nonfinite(leaf) for leaf in jax.tree.leaves(steps.observation)]).any(0)
        found = dict(
            zip(FAULTS, (~jnp.isfinite(steps.reward), bad_observation, ~steps.legal.any(-1)), strict=True)
        )
        return {name: self.total(steps.astype(jnp.float32)) for name, steps in found.items()}

    def _learn(
        self,
        apply: Apply,
        params: Any,
        opt_state: Any,
        samples: Samples,
        key: Array,
        lane: Array,
    ) -> Learned:
        """Runs all epochs over grouped samples [G, N, ...]; returns the mean metrics of the
        minibatches, and gradient norm.
        """
        local, size = samples.action.shape[:2]
        group = lane.reshape(local, -1)[:, 0] // (self.num_envs // self.groups)
        share = size // self.num_minibatches
        count = share * self.groups

        if self.normalize_advantages == "batch":
            samples = samples._replace(
                advantage=_standardized(samples.advantage, self._moments(samples.advantage))
            )

        def minibatch(carry: tuple[Any, Any], chosen: Array) -> tuple[tuple[Any, Any], Any]:
            params, opt_state = carry
            per_minibatch = self.normalize_advantages == "minibatch"
            # Normalise the advantages over the whole minibatch, on all devices.
            moments = self._moments(jnp.take_along_axis(samples.advantage, chosen, axis=1))

            def share_of(group: tuple[Array, Array]) -> tuple[Any, PPOLossMetrics]:
                at, rows = group
                taken: Samples = jax.tree.map(lambda leaf: leaf[at, rows], samples)
                if per_minibatch:
                    taken = taken._replace(advantage=_standardized(taken.advantage, moments))
                return jax.grad(loss, has_aux=True)(
                    params,
                    apply,
                    taken,
                    self.clip_eps,
                    self.vf_coef,
                    self.ent_coef,
                    count,
                    self.distribution,
                    self.clip_value,
                    self.exploration,
                )

            groups = (jnp.arange(local), chosen)
            parts = jax.vmap(share_of)(groups) if self.at_once else jax.lax.map(share_of, groups)
            grads, metrics = self.sum_groups(parts)
            norm = optax.tree.norm(grads)
            updates, opt_state = self.optimizer.update(grads, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), (metrics, norm)

        def epoch(carry: tuple[Any, Any], key: Array) -> tuple[tuple[Any, Any], Any]:
            # Shuffle within each group, then cut the order into minibatches.
            order = jax.vmap(shuffled, (0, None))(lane_keys(key, group), size)
            chosen = order.reshape(local, self.num_minibatches, share).swapaxes(0, 1)
            return jax.lax.scan(minibatch, carry, chosen)

        (params, opt_state), (metrics, norms) = jax.lax.scan(
            epoch, (params, opt_state), jax.random.split(key, self.update_epochs)
        )
        return Learned(params, opt_state, jax.tree.map(jnp.mean, metrics), norms.mean())

    def sum_groups(self, parts: PyTree[Shaped[Array, "G ..."]]) -> PyTree[Shaped[Array, "..."]]:
        """Sums over the groups of all devices, [G, ...] each, in pairs: the same numbers on 1
        device and on 2.
        """

        def pairs(leaf: Array) -> Array:
            while leaf.shape[0] > 1:
                leaf = leaf[0::2] + leaf[1::2]
            return leaf[0]

        total = jax.tree.map(pairs, parts)
        return total if self.axis_name is None else jax.lax.psum(total, self.axis_name)

    def total(self, values: Float[Array, "T B"]) -> Float[Array, ""]:
        """Sums a number for each step over all environments and devices."""
        return self.sum_groups(self.grouped(values).sum(1))

    def _moments(self, values: Array) -> Moments:
        """Computes mean and variance, over all devices, of values by group [G, N]."""
        count = values.shape[1] * self.groups
        mean = self.sum_groups(values.sum(1)) / count
        return Moments(mean, self.sum_groups(((values - mean) ** 2).sum(1)) / count)
