"""AlphaZero in environments with rewards and chance (Silver et al. 2018): self-play by Gumbel
search, a replay buffer of positions, and the weight updates on it, pure and jitted.

- **Policy target**: the improved policy of the search, softmax(logits + sigma(completed Q)), over
  all legal actions (Danihelka et al. 2022, section 4). It is better than the visit counts when
  simulations are few, and it is an improvement in expectation.
- **Value target**: lambda-returns that bootstrap from the values of the search,

      G_t = r_{t+1} + gamma ((1 - lambda) V_{t+1} + lambda G_{t+1}),

  where V is the value of the root after its search. Silver et al. 2018 use the result of the game,
  which is lambda = 1. Games of hundreds of steps with rewards and chance on the way have returns of
  high variance, so MuZero (Schrittwieser et al. 2020) bootstraps from root values after n steps;
  lambda-returns mix all n. `agents.returns.gae` computes them, ends of episodes included.

The search draws its own chance: its keys and those of the environment are derived separately.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jaxtyping import Bool, Float32, Key, Num, PRNGKeyArray, PyTree, Shaped, UInt32

from matrixrl.agents import masked, slots
from matrixrl.agents.alphazero import Losses, LossMetrics, weight_update
from matrixrl.agents.ppo import Apply, Episodes, RolloutState, final_values, lane_keys, strongly_typed
from matrixrl.agents.returns import gae
from matrixrl.envs.base import Environment, vectorized
from matrixrl.search.chance import ChanceSearchResult


class PolicySearch(Protocol):
    """A search from the states of an environment, guided by a network's parameters."""

    def __call__(
        self,
        params: PyTree,
        keys: Key[Array, "B"] | UInt32[Array, "B 2"],
        env_state: PyTree[Shaped[Array, "B ..."]],
        discount: Num[Array, ""] | float,
        reward_scale: Num[Array, ""] | float,
    ) -> ChanceSearchResult:
        """Searches with exploration at the root; the keys are the search's own."""
        ...


class PositionReplay(NamedTuple):
    """Positions of self-play, with their targets; the oldest are overwritten first.

    Attributes:
      observation: [G, ...].
      legal: legal actions.
      weights: improved policy of the search; 0 for illegal actions.
      target: lambda-return, in scaled rewards.
      expiry: number of the rollout that wrote the slot; -1 where it is empty.
      clock: float32, number of rollouts so far.
    """

    observation: PyTree[Shaped[Array, "G ..."]]
    legal: Bool[Array, "G A"]
    weights: Float32[Array, "G A"]
    target: Float32[Array, "G"]
    expiry: Float32[Array, "G"]
    clock: Float32[Array, ""]


class SearchedPositions(NamedTuple):
    """A batch of positions to learn from; see `PositionReplay`."""

    observation: PyTree[Shaped[Array, "N ..."]]
    legal: Bool[Array, "N A"]
    weights: Float32[Array, "N A"]
    target: Float32[Array, "N"]


class SearchedSteps(NamedTuple):
    """Steps of self-play, each array [T, B, ...].

    Attributes:
      observation: before the step.
      legal: legal actions.
      weights: improved policy.
      value: of the root after the search.
      reward: float32.
      terminated, truncated: bool.
      final_value: the network's value of the episode's last observation where truncated, else 0.
    """

    observation: PyTree[Shaped[Array, "T B ..."]]
    legal: Bool[Array, "T B A"]
    weights: Float32[Array, "T B A"]
    value: Float32[Array, "T B"]
    reward: Float32[Array, "T B"]
    terminated: Bool[Array, "T B"]
    truncated: Bool[Array, "T B"]
    final_value: Float32[Array, "T B"]


class SearchedRollout(NamedTuple):
    """Result of a rollout by search.

    Attributes:
      state: environments after the last step.
      steps: every step.
      episodes: the episodes that ended.
    """

    state: RolloutState
    steps: SearchedSteps
    episodes: Episodes


class SearchTrainState(NamedTuple):
    """Complete state of training; keys are derived from the seed and the number of the update."""

    params: PyTree
    opt_state: PyTree
    rollout: RolloutState
    replay: PositionReplay


class SearchMetrics(NamedTuple):
    """Scalars of an update: means over its weight updates, and facts of its rollout.

    Attributes:
      total_loss, policy_loss, value_loss: the loss and its parts.
      entropy: of the network's policy, in nats.
      target_entropy: of the improved policy of the search.
      search_kl: divergence of the network's policy from the improved one, in nats: what the search
        adds.
      grad_norm: before clipping.
      explained_variance: fraction of the variance of the value targets that the network explains.
      search_value: mean value of the searched positions, in scaled rewards.
      mean_reward: per step, unscaled.
      replay_fill: filled fraction of the replay buffer.
    """

    total_loss: Float32[Array, ""]
    policy_loss: Float32[Array, ""]
    value_loss: Float32[Array, ""]
    entropy: Float32[Array, ""]
    target_entropy: Float32[Array, ""]
    search_kl: Float32[Array, ""]
    grad_norm: Float32[Array, ""]
    explained_variance: Float32[Array, ""]
    search_value: Float32[Array, ""]
    mean_reward: Float32[Array, ""]
    replay_fill: Float32[Array, ""]


class SearchedUpdate(NamedTuple):
    """Result of one update: the state after it, its metrics, and the episodes that ended."""

    state: SearchTrainState
    metrics: SearchMetrics
    episodes: Episodes


class _Losses(NamedTuple):
    """Metrics of one weight update."""

    losses: LossMetrics
    entropy: Array
    target_entropy: Array
    explained_variance: Array


def loss(
    params: PyTree, apply: Apply, batch: SearchedPositions, vf_coef: Num[Array, ""] | float
) -> tuple[Float32[Array, ""], Losses]:
    """Computes the cross-entropy of the policy and the squared error of the value.

    policy = -mean sum_a pi'(a|s) log pi(a|s)
    value  = 1/2 mean (V - G)^2
    total  = policy + vf_coef value
    """
    logits, value = apply(params, batch.observation)
    log_probs = masked.masked_log_softmax(logits, batch.legal)
    policy = -jnp.where(batch.weights > 0, batch.weights * log_probs, 0.0).sum(-1).mean()
    error = 0.5 * ((value - batch.target) ** 2).mean()
    return policy + vf_coef * error, Losses(policy, error)


@dataclass(frozen=True)
class GumbelAlphaZero:
    """The learner. Methods are pure; the caller jits them.

    Attributes:
      env: the environment; ``info["episode"]`` of a step is a dict of values of an episode that
        ends.
      search: improves the policy in a batch of states.
      apply: the network.
      init_params: (key, observations [1, ...]) -> params.
      optimizer: built once and not part of the state.
      num_envs, num_steps: size of a rollout.
      replay_size: number of positions in the replay buffer, at least those of a rollout.
      batch_size: number of positions of a weight update.
      updates_per_rollout: number of weight updates after each rollout.
      gamma, value_lambda, vf_coef, reward_scale: numbers, or traced scalars.
      env_params: passed to the environment.
    """

    env: Environment[Any, Any]
    search: PolicySearch
    apply: Apply
    init_params: Callable[[Array, Any], Any]
    optimizer: optax.GradientTransformation
    num_envs: int
    num_steps: int
    replay_size: int
    batch_size: int
    updates_per_rollout: int
    gamma: float | Array
    value_lambda: float | Array
    vf_coef: float | Array
    reward_scale: float | Array = 1.0
    env_params: Any = None

    def init(self, key: PRNGKeyArray) -> SearchTrainState:
        """Returns initial parameters, environments at the start of an episode, and an empty
        buffer.
        """
        key_params, key_envs = jax.random.split(key)
        lane = jnp.arange(self.num_envs, dtype=jnp.int32)
        games = vectorized(self.env)
        observation, env_state = games.reset_batch(lane_keys(key_envs, lane), self.env_params)
        params = self.init_params(key_params, jax.tree.map(lambda leaf: leaf[:1], observation))
        legal = games.legal_action_mask_batch(env_state)
        size = self.replay_size

        def zeros(leaf: Array, dtype: Any = None) -> Array:
            return jnp.zeros((size, *leaf.shape[1:]), dtype or leaf.dtype)

        replay = PositionReplay(
            observation=jax.tree.map(zeros, observation),
            legal=zeros(legal, jnp.bool_),
            weights=zeros(legal, jnp.float32),
            target=jnp.zeros(size, jnp.float32),
            expiry=jnp.full(size, -1.0, jnp.float32),
            clock=jnp.float32(0),
        )
        rollout = RolloutState(env_state, observation, lane)
        state = SearchTrainState(params, self.optimizer.init(params), rollout, replay)
        return strongly_typed(state)

    def update(self, state: SearchTrainState, key: PRNGKeyArray) -> SearchedUpdate:
        """Performs one rollout by search, and the weight updates after it.

        Args:
          key: specific to this update.
        """
        key_play, key_learn = jax.random.split(key)
        played = self.play(state.params, state.rollout, key_play)
        replay = self.insert(state.replay, self.positions(state.params, played))
        params, opt_state, learned = self._learn(state.params, state.opt_state, replay, key_learn)
        losses = learned.losses
        metrics = SearchMetrics(
            total_loss=losses.loss,
            policy_loss=losses.policy_loss,
            value_loss=losses.value_loss,
            entropy=learned.entropy,
            target_entropy=learned.target_entropy,
            search_kl=losses.policy_loss - learned.target_entropy,
            grad_norm=losses.grad_norm,
            explained_variance=learned.explained_variance,
            search_value=played.steps.value.mean(),
            mean_reward=played.steps.reward.mean(),
            replay_fill=(replay.expiry >= 0).mean(dtype=jnp.float32),
        )
        state = SearchTrainState(params, opt_state, played.state, replay)
        return SearchedUpdate(state, metrics, played.episodes)

    def play(self, params: PyTree, state: RolloutState, key: PRNGKeyArray) -> SearchedRollout:
        """Runs `num_steps` steps of every environment with the actions that the search chooses."""
        games = vectorized(self.env)

        def value_of(observation: Any) -> Array:
            return self.apply(params, observation)[1]

        def step(state: RolloutState, key: Array) -> tuple[RolloutState, tuple[SearchedSteps, Episodes]]:
            # Chance of the search and chance of the environment: keys of their own.
            key_search, key_env = jax.random.split(key)
            legal = games.legal_action_mask_batch(state.env_state)
            found = self.search(
                params, lane_keys(key_search, state.lane), state.env_state, self.gamma, self.reward_scale
            )
            observation, env_state, reward, terminated, truncated, info = games.step_batch(
                lane_keys(key_env, state.lane), state.env_state, found.action, self.env_params
            )
            final_value = final_values(value_of, truncated, info["final_observation"], found.value)
            played = SearchedSteps(
                observation=state.observation,
                legal=legal,
                weights=jnp.where(legal, found.weights, 0.0),
                value=found.value,
                reward=reward,
                terminated=terminated,
                truncated=truncated,
                final_value=final_value,
            )
            episodes = Episodes(terminated | truncated, info["episode"])
            return state._replace(env_state=env_state, observation=observation), (played, episodes)

        state, (steps, episodes) = jax.lax.scan(step, state, jax.random.split(key, self.num_steps))
        return SearchedRollout(state, steps, episodes)

    def positions(self, params: PyTree, played: SearchedRollout) -> SearchedPositions:
        """Returns the positions of a rollout with their targets, one after another."""
        steps = played.steps
        _, last_value = self.apply(params, played.state.observation)
        _, target = gae(
            steps.reward * self.reward_scale,
            steps.value,
            steps.terminated,
            steps.truncated,
            steps.final_value,
            last_value,
            self.gamma,
            self.value_lambda,
        )
        positions = SearchedPositions(steps.observation, steps.legal, steps.weights, target)
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), positions)

    def insert(self, replay: PositionReplay, new: SearchedPositions) -> PositionReplay:
        """Writes positions over the oldest ones."""
        free = slots.first_to_expire(replay.expiry, new.target.shape[0])
        stored = {
            name: slots.write(getattr(replay, name), free, entry) for name, entry in new._asdict().items()
        }
        return PositionReplay(
            **stored, expiry=replay.expiry.at[free].set(replay.clock), clock=replay.clock + 1
        )

    def sample(self, replay: PositionReplay, key: PRNGKeyArray) -> SearchedPositions:
        """Samples a batch of positions uniformly, with replacement."""
        drawn = slots.sample_filled(key, replay.expiry >= 0, self.batch_size)
        return SearchedPositions(
            *(
                jax.tree.map(lambda leaf: leaf[drawn], getattr(replay, name))
                for name in SearchedPositions._fields
            )
        )

    def total(self, values: Float32[Array, "T B"]) -> Float32[Array, ""]:
        """Sums a number for each step over all environments."""
        return values.sum()

    def _learn(
        self, params: Any, opt_state: Any, replay: PositionReplay, key: Array
    ) -> tuple[Any, Any, _Losses]:
        """Performs the weight updates after a rollout; returns means of their metrics."""

        def one(carry: tuple[Any, Any], key: Array) -> tuple[tuple[Any, Any], _Losses]:
            params, opt_state = carry
            batch = self.sample(replay, key)
            logits, value = self.apply(params, batch.observation)
            log_probs = masked.masked_log_softmax(logits, batch.legal)
            weights = batch.weights
            target_entropy = -jnp.where(weights > 0, weights * jnp.log(jnp.maximum(weights, 1e-30)), 0.0)
            explained = 1 - jnp.var(batch.target - value) / jnp.maximum(jnp.var(batch.target), 1e-8)
            done = weight_update(
                lambda params, batch: loss(params, self.apply, batch, self.vf_coef),
                self.optimizer,
                params,
                opt_state,
                batch,
            )
            found = _Losses(
                done.metrics, masked.entropy(log_probs).mean(), target_entropy.sum(-1).mean(), explained
            )
            return (done.params, done.opt_state), found

        (params, opt_state), found = jax.lax.scan(
            one, (params, opt_state), jax.random.split(key, self.updates_per_rollout)
        )
        return params, opt_state, jax.tree.map(jnp.mean, found)
