"""PPO: what a rollout stores belongs together, the loss by hand, and which samples a minibatch holds."""

from __future__ import annotations

from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matrixrl.agents.ppo import (
    MAX_GROUPS,
    PPO,
    Episodes,
    Exploration,
    PPOLossMetrics,
    RolloutState,
    Samples,
    TrainState,
    Transition,
    UpdateMetrics,
    collect_rollout,
    lane_keys,
    loss,
    num_groups,
    shaped_rewards,
    shuffled,
)
from matrixrl.agents.returns import gae
from tests.agents.test_masked import expected_log_probs

QUICKLY = {"xla_backend_optimization_level": 0}

LANES, STEPS, ACTIONS = 8, 16, 4
LENGTH = 3  # of an episode


class ScriptState(NamedTuple):
    tag: jax.Array
    time: jax.Array
    clock: jax.Array
    lane: jax.Array
    total: jax.Array


class Script:
    """Every number of a step can be told from the observation before it: tag of the episode, time in it, clock, lane.

    Tags are drawn when an episode starts. Episodes of even tags terminate after `LENGTH` steps, those of odd tags are
    truncated. The clock counts the steps of the lane, over all episodes; `start` writes the lanes' numbers.
    """

    default_params = None
    num_actions = ACTIONS

    def reset(self, key: jax.Array, params: None = None) -> tuple[jax.Array, ScriptState]:
        del params
        tag = jax.random.randint(key, (), 0, 100).astype(jnp.float32)
        zero = jnp.float32(0)
        state = ScriptState(tag, zero, zero, zero, zero)
        return self.observe(state), state

    def step(
        self, key: jax.Array, state: ScriptState, action: jax.Array, params: None = None
    ) -> tuple[jax.Array, ScriptState, jax.Array, jax.Array, jax.Array, dict[str, Any]]:
        key_reset, key_noise = jax.random.split(key)
        reward = state.tag + 1000 * state.time + 10_000 * action + jax.random.uniform(key_noise)
        after = state._replace(time=state.time + 1, clock=state.clock + 1, total=state.total + reward)
        over = after.time >= LENGTH
        even = state.tag % 2 == 0
        fresh = self.reset(key_reset)[1]._replace(clock=after.clock, lane=state.lane)
        now = jax.tree.map(lambda a, b: jnp.where(over, a, b), fresh, after)
        info = {"final_observation": self.observe(after), "episode": {"return": after.total}}
        return self.observe(now), now, reward, over & even, over & ~even, info

    def legal_action_mask(self, state: ScriptState) -> jax.Array:
        return legal_at(state.tag, state.time, jnp)

    def observe(self, state: ScriptState) -> jax.Array:
        return jnp.stack([state.tag, state.time, state.clock, state.lane])


def legal_at(tag: Any, time: Any, library: Any) -> Any:
    """One of the four actions is illegal, which depends on the state."""
    return library.arange(ACTIONS) != (tag + time) % ACTIONS


def network(params: Any, observation: Any) -> tuple[Any, Any]:
    """Element by element, so that results do not depend on the batch.

    Each sample has a weight of its own in `seen`, which has no influence but a gradient wherever the sample is used.
    """
    tag, time, clock, lane = observation.T
    logits = params["policy"] * jnp.sin(tag[:, None] + time[:, None] * jnp.arange(ACTIONS))
    seen = params["seen"][clock.astype(int), lane.astype(int)]
    return logits, params["value"] * (tag + 0.25 * time) + seen - jax.lax.stop_gradient(seen)


PARAMS = {"policy": jnp.float32(0.7), "value": jnp.float32(2.0), "seen": jnp.zeros((STEPS + 1, LANES))}


@partial(jax.jit, compiler_options=QUICKLY)
def start(key: jax.Array) -> RolloutState:
    """New episodes in every lane."""
    lane = jnp.arange(LANES)
    _, state = jax.vmap(Script().reset)(lane_keys(key, lane))
    state = state._replace(lane=lane.astype(jnp.float32))
    return RolloutState(state, jax.vmap(Script().observe)(state), lane)


@cache
def rolled_out() -> tuple[Any, Any, Any, Any]:
    """The states before and after a rollout, its transitions and its episodes, as NumPy arrays."""
    before = start(jax.random.key(1))
    return jax.device_get((before, *roll(before, jax.random.key(2))))


@partial(jax.jit, compiler_options=QUICKLY)
def roll(state: RolloutState, key: jax.Array) -> tuple[RolloutState, Transition, Episodes]:
    return collect_rollout(Script(), network, PARAMS, state, key, STEPS)


def test_what_a_rollout_stores_belongs_together() -> None:
    before, _, steps, _ = rolled_out()
    np.testing.assert_array_equal(steps.observation[0], before.observation)
    np.testing.assert_array_equal(
        steps.observation[..., 2], np.broadcast_to(np.arange(STEPS)[:, None], (STEPS, LANES))
    )
    tag, time = steps.observation[..., 0], steps.observation[..., 1]
    np.testing.assert_array_equal(steps.legal, legal_at(tag[..., None], time[..., None], np))
    assert np.take_along_axis(steps.legal, steps.action[..., None], -1).all()
    assert len(set(steps.action.ravel())) == ACTIONS
    told = tag + 1000 * time + 10_000 * steps.action
    assert ((steps.reward - told > -0.01) & (steps.reward - told < 1.01)).all()
    logits, value = jax.jit(network)(PARAMS, steps.observation.reshape(-1, 4))
    np.testing.assert_allclose(steps.value.ravel(), value, rtol=1e-6)
    log_probs = expected_log_probs(np.asarray(logits), steps.legal.reshape(-1, ACTIONS))
    chosen = np.take_along_axis(log_probs, steps.action.reshape(-1, 1), 1)[:, 0]
    np.testing.assert_allclose(steps.log_prob.ravel(), chosen, rtol=1e-5, atol=1e-6)


def test_endings_are_two_facts_and_only_a_truncated_step_has_a_final_value() -> None:
    _, _, steps, episodes = rolled_out()
    tag, time = steps.observation[..., 0], steps.observation[..., 1]
    over = time == LENGTH - 1
    np.testing.assert_array_equal(steps.terminated, over & (tag % 2 == 0))
    np.testing.assert_array_equal(steps.truncated, over & (tag % 2 == 1))
    assert steps.terminated.any()
    assert steps.truncated.any()
    np.testing.assert_array_equal(episodes.ended, over)
    # The last observation of the episode is never stored: its time is the episode's length.
    np.testing.assert_allclose(
        steps.final_value, np.where(steps.truncated, 2.0 * (tag + 0.25 * LENGTH), 0), rtol=1e-6
    )


def test_episodes_restart_by_themselves_and_their_returns_are_sums_of_stored_rewards() -> None:
    _, after, steps, episodes = rolled_out()
    following = np.concatenate([steps.observation[1:], after.observation[None]])
    over = episodes.ended
    np.testing.assert_array_equal(following[over][:, 1], 0)
    np.testing.assert_array_equal(following[~over][:, 0], steps.observation[~over][:, 0])
    np.testing.assert_array_equal(following[~over][:, 1], steps.observation[~over][:, 1] + 1)
    assert (following[over][:, 0] != steps.observation[over][:, 0]).mean() > 0.9
    for t, lane in np.argwhere(over):
        np.testing.assert_allclose(
            episodes.values["return"][t, lane], steps.reward[t - LENGTH + 1 : t + 1, lane].sum(), rtol=1e-6
        )


def test_draws_belong_to_the_lane_and_not_to_its_place_in_the_batch() -> None:
    before, after, steps, episodes = rolled_out()
    order = np.array([5, 2, 7, 0, 1, 6, 3, 4])
    moved = jax.tree.map(lambda leaf: jnp.asarray(leaf[order]), before)
    their_after, their_steps, their_episodes = roll(moved, jax.random.key(2))
    for ours, theirs in zip(
        jax.tree.leaves((steps, episodes)), jax.tree.leaves((their_steps, their_episodes)), strict=True
    ):
        np.testing.assert_array_equal(ours[:, order], theirs)
    for ours, theirs in zip(jax.tree.leaves(after), jax.tree.leaves(their_after), strict=True):
        np.testing.assert_array_equal(ours[order], theirs)
    # Neighbours and other keys see other chance.
    noise = steps.reward % 1
    assert len(np.unique(noise)) > 0.9 * noise.size
    assert (np.asarray(roll(moved, jax.random.key(3))[1].action) != np.asarray(their_steps.action)).any()


def samples_of(
    probabilities: list[float],
    old: list[float],
    advantage: list[float],
    value: list[float] | None = None,
    old_value: list[float] | None = None,
    target: list[float] | None = None,
) -> Samples:
    """Two actions, of which the first was taken; the observation holds their logits and the value."""
    p = np.array(probabilities, np.float32)
    count = len(p)
    columns = [np.log(p), np.log1p(-p), np.array(value or [0.0] * count, np.float32)]
    zeros = [0.0] * count
    make: Any = Samples
    return make(
        observation=np.stack(columns, 1),
        legal=np.ones((count, 2), bool),
        action=np.zeros(count, np.int32),
        log_prob=np.log(np.array(old, np.float32)),
        value=np.array(old_value or zeros, np.float32),
        advantage=np.array(advantage, np.float32),
        target=np.array(target or zeros, np.float32),
    )


def shifted(params: Any, observation: Any) -> tuple[Any, Any]:
    """What the observation says, plus a shift of the first logit and of the value."""
    return observation[:, :2].at[:, 0].add(params[0]), observation[:, 2] + params[1]


@partial(jax.jit, static_argnames=("count", "clip_value"), compiler_options=QUICKLY)
def gradient_by_shift(
    samples: Samples,
    eps: float = 0.1,
    vf: float = 0.0,
    ent: float = 0.0,
    count: int | None = None,
    clip_value: bool = True,
) -> tuple[jax.Array, PPOLossMetrics]:
    return jax.grad(loss, has_aux=True)(
        jnp.zeros(2), shifted, samples, eps, vf, ent, count, clip_value=clip_value
    )


# Probability of the action, and its old one; the advantage; min(r A, clip(r) A) with eps 0.1; whether a gradient is left.
SURROGATE = [
    (0.60, 0.5, 2.0, 2.2, False),  # r = 1.2: better than the old policy and clipped at 1.1
    (0.60, 0.5, -2.0, -2.4, True),  # worse must be taken back in full
    (0.40, 0.5, 2.0, 1.6, True),
    (0.40, 0.5, -2.0, -1.8, False),  # r = 0.8, clipped at 0.9
    (0.54, 0.5, 2.0, 2.16, True),  # r = 1.08: within the clip
    (0.46, 0.5, -2.0, -1.84, True),
]


@pytest.mark.parametrize(("p", "old", "advantage", "surrogate", "moves"), SURROGATE)
def test_the_clipped_surrogate_by_hand(
    p: float, old: float, advantage: float, surrogate: float, moves: bool
) -> None:
    gradient, metrics = gradient_by_shift(samples_of([p], [old], [advantage]), 0.1, 0.0, 0.0)
    np.testing.assert_allclose(metrics.pg_loss, -surrogate, rtol=1e-5)
    np.testing.assert_allclose(metrics.total_loss, -surrogate, rtol=1e-5)
    # d r / d logit = r (1 - p)
    expected = -advantage * p / old * (1 - p) if moves else 0.0
    np.testing.assert_allclose(gradient, [expected, 0], rtol=1e-5, atol=1e-7)
    ratio = p / old
    np.testing.assert_allclose(metrics.approx_kl, ratio - 1 - np.log(ratio), rtol=1e-3)
    assert float(metrics.clip_fraction) == (abs(ratio - 1) > 0.1)


# V, V_old, the target, max((V - R)^2, (V_clipped - R)^2) with eps 0.1; the gradient of half of it.
VALUES = [
    (3.0, 2.0, 3.0, 0.81, 0.0),  # moved onto the target, but too far: 2.1 counts, which has no gradient
    (3.0, 2.0, 1.0, 4.0, 2.0),  # moved away: the move is taken back
    (2.05, 2.0, 3.0, 0.9025, -0.95),  # within the clip
    (1.0, 2.0, 0.0, 1.9**2, 0.0),
    (1.0, 2.0, 5.0, 16.0, -4.0),
]


@pytest.mark.parametrize(("value", "old", "target", "squared", "slope"), VALUES)
def test_the_clipped_value_loss_by_hand(
    value: float, old: float, target: float, squared: float, slope: float
) -> None:
    samples = samples_of([0.5], [0.5], [0.0], [value], [old], [target])
    gradient, metrics = gradient_by_shift(samples, 0.1, 0.5, 0.0)
    np.testing.assert_allclose(metrics.vf_loss, squared / 2, rtol=1e-5)
    np.testing.assert_allclose(metrics.total_loss, squared / 4, rtol=1e-5)
    np.testing.assert_allclose(gradient, [0, slope / 2], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("value", "old", "target"), [row[:3] for row in VALUES])
def test_without_clipping_the_value_loss_is_half_the_squared_error(
    value: float, old: float, target: float
) -> None:
    samples = samples_of([0.5], [0.5], [0.0], [value], [old], [target])
    gradient, metrics = gradient_by_shift(samples, 0.1, 0.5, 0.0, clip_value=False)
    np.testing.assert_allclose(metrics.vf_loss, (value - target) ** 2 / 2, rtol=1e-5)
    np.testing.assert_allclose(gradient, [0, (value - target) / 2], rtol=1e-5, atol=1e-7)


def test_exploration_keeps_an_improbable_action_alive() -> None:
    """Its gradient by the logit is weight x (1 - p): as large for p = 1e-6 as for 0.1."""
    for p in (1e-6, 0.1):
        samples = samples_of([p], [p], [0.0])
        gradient, metrics = explored_by_shift(samples, 0.5, (True, False))
        np.testing.assert_allclose(gradient[0], -0.5 * (1 - p), rtol=1e-4)
        np.testing.assert_allclose(metrics.total_loss, -0.5 * np.log(p), rtol=1e-4)
    # Of two actions the mean counts, and their gradients cancel where they are alike.
    gradient, metrics = explored_by_shift(samples_of([0.5], [0.5], [0.0]), 0.5, (True, True))
    np.testing.assert_allclose(metrics.total_loss, 0.5 * np.log(2), rtol=1e-5)
    np.testing.assert_allclose(gradient, [0, 0], atol=1e-7)


def test_a_factor_of_exploration_counts_for_its_observations_alone() -> None:
    """Of two observations, whose values are 0 and 1, the second one's bonus is multiplied by 10."""
    p = [0.25, 0.25]
    gradient, metrics = explored_by_shift(
        samples_of(p, p, [0.0, 0.0], [0.0, 1.0]), 0.5, (True, False), tenfold
    )
    np.testing.assert_allclose(metrics.total_loss, -0.5 * (1 + 10) / 2 * np.log(0.25), rtol=1e-4)
    np.testing.assert_allclose(gradient[0], -0.5 * (1 + 10) / 2 * 0.75, rtol=1e-4)


def tenfold(observation: Any) -> Any:
    return jnp.where(observation[:, 2] > 0, 10.0, 1.0)


@partial(jax.jit, static_argnames=("explored", "factor"), compiler_options=QUICKLY)
def explored_by_shift(samples: Samples, weight: float, explored: tuple[bool, ...], factor: Any = None) -> Any:
    exploration = Exploration(weight, explored, factor)
    return jax.grad(loss, has_aux=True)(
        jnp.zeros(2), shifted, samples, 0.1, 0.0, 0.0, exploration=exploration
    )


def test_the_entropy_bonus_and_the_total_by_hand() -> None:
    samples = samples_of([0.5, 0.25], [0.5, 0.25], [1.0, 3.0], [1.0, 1.0], [1.0, 1.0], [2.0, 4.0])
    gradient, metrics = gradient_by_shift(samples, 0.1, 0.5, 0.1)
    in_nats = [np.log(2), -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))]
    np.testing.assert_allclose(metrics.entropy, np.mean(in_nats), rtol=1e-5)
    np.testing.assert_allclose(metrics.pg_loss, -2.0, rtol=1e-5)
    np.testing.assert_allclose(metrics.vf_loss, 0.5 * (1 + 9) / 2, rtol=1e-5)
    np.testing.assert_allclose(metrics.total_loss, -2.0 + 0.5 * 2.5 - 0.1 * np.mean(in_nats), rtol=1e-5)
    # d H / d logit = -p (log p + H) of the first action.
    bonus = [0.0, -0.25 * (np.log(0.25) + in_nats[1])]
    expected = np.mean([-1.0 * 0.5 - 0.1 * bonus[0], -3.0 * 0.75 - 0.1 * bonus[1]])
    np.testing.assert_allclose(gradient[0], expected, rtol=1e-5)


def test_losses_of_parts_add_up_to_that_of_the_whole() -> None:
    rng = np.random.default_rng(0)
    count = 9
    probabilities, old = rng.uniform(0.1, 0.9, (2, count)).tolist()
    whole = samples_of(probabilities, old, *rng.normal(size=(4, count)).tolist())
    expected = gradient_by_shift(whole, 0.2, 0.5, 0.01)
    parts = [
        gradient_by_shift(jax.tree.map(lambda leaf, at=at: leaf[at : at + 3], whole), 0.2, 0.5, 0.01, count)
        for at in range(0, count, 3)
    ]
    summed = jax.tree.map(lambda *leaves: sum(leaves), *parts)
    for ours, theirs in zip(jax.tree.leaves(expected), jax.tree.leaves(summed), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 300), st.integers(1, 64), st.integers(1, 16))
def test_groups_are_as_many_as_divide_evenly(num_envs: int, num_steps: int, num_minibatches: int) -> None:
    def fits(groups: int) -> bool:
        return num_envs % groups == 0 and num_envs // groups * num_steps % num_minibatches == 0

    found = num_groups(num_envs, num_steps, num_minibatches)
    powers = [2**i for i in range(10) if 2**i <= MAX_GROUPS]
    assert found == max([groups for groups in powers if fits(groups)], default=1)


def test_groups_of_the_default_batch_and_of_odd_ones() -> None:
    assert num_groups(256, 128, 4) == 8
    assert num_groups(6, 4, 2) == 2
    assert num_groups(7, 128, 4) == 1
    assert (
        num_groups(8, 1, 8) == 1
    )  # a group of one environment has one step, which eight minibatches cannot share
    assert num_groups(8, 2, 4) == 4


class Recorded(NamedTuple):
    """State of an optimizer that changes nothing, and keeps the gradient of every step."""

    step: jax.Array
    grads: Any


def recorder(num_updates: int) -> optax.GradientTransformation:
    def init(params: Any) -> Recorded:
        return Recorded(
            jnp.int32(0), jax.tree.map(lambda leaf: jnp.zeros((num_updates, *leaf.shape)), params)
        )

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Recorded]:
        del params
        kept = jax.tree.map(lambda log, grad: log.at[state.step].set(grad), state.grads, updates)
        return jax.tree.map(jnp.zeros_like, updates), Recorded(state.step + 1, kept)

    return optax.GradientTransformation(init, update)


EPOCHS, MINIBATCHES, T = 3, 2, 4
GAMMA, LAMBDA, EPS, VF, ENT, SCALE = 0.9, 0.8, 0.2, 0.5, 0.025, 1e-3
BATCH = T * LANES
KEY = jax.random.key(5)


def learner(**changes: Any) -> PPO:
    settings: dict[str, Any] = {
        "env": Script(),
        "apply": network,
        "init_params": lambda key, observation: PARAMS,
        "optimizer": recorder(EPOCHS * MINIBATCHES),
        "num_envs": LANES,
        "num_steps": T,
        "num_minibatches": MINIBATCHES,
        "update_epochs": EPOCHS,
        "gamma": GAMMA,
        "gae_lambda": LAMBDA,
        "clip_eps": EPS,
        "vf_coef": VF,
        "ent_coef": ENT,
        "reward_scale": SCALE,
    }
    return PPO(**(settings | changes))


def initial(ppo: PPO) -> TrainState:
    return TrainState(PARAMS, ppo.optimizer.init(PARAMS), start(jax.random.key(1)))


@cache
def updated(at_once: bool) -> tuple[Any, UpdateMetrics, Any]:
    ppo = learner(at_once=at_once)
    state = initial(ppo)
    return jax.device_get(jax.jit(ppo.update, compiler_options=QUICKLY)(state, KEY))


@cache
def reference(more: float = 0.0) -> tuple[Samples, np.ndarray]:
    """The samples of the update [T * B, ...], in order of step and lane, and their rewards.

    The learner sees an additional reward for each step that does not end an episode.
    """

    def play(state: RolloutState, key: jax.Array) -> tuple[tuple[Any, ...], jax.Array]:
        after, steps, _ = collect_rollout(Script(), network, PARAMS, state, key, T)
        targets = gae(
            (steps.reward + more * ~(steps.terminated | steps.truncated)) * SCALE,
            steps.value,
            steps.terminated,
            steps.truncated,
            steps.final_value,
            network(PARAMS, after.observation)[1],
            GAMMA,
            LAMBDA,
        )
        kept = (steps.observation, steps.legal, steps.action, steps.log_prob, steps.value, *targets)
        return kept, steps.reward

    key_rollout, _ = jax.random.split(KEY)
    kept, reward = jax.jit(play, compiler_options=QUICKLY)(start(jax.random.key(1)), key_rollout)
    flat: list[Any] = [np.asarray(leaf).reshape(BATCH, *leaf.shape[2:]) for leaf in kept]
    return Samples(*flat), np.asarray(reward)


def minibatches(at_once: bool) -> np.ndarray:
    """Which samples each gradient was taken over, bool [epochs, minibatches, T, lanes]."""
    seen = updated(at_once)[0].opt_state.grads["seen"][:, :T]
    return (seen != 0).reshape(EPOCHS, MINIBATCHES, T, LANES)


def test_every_epoch_uses_every_sample_once_in_an_order_of_its_own() -> None:
    used = minibatches(at_once=False)
    assert (used.sum(1) == 1).all()
    # Each minibatch takes an equal share of every group; here a group is one lane.
    assert num_groups(LANES, T, MINIBATCHES) == LANES
    assert (used.sum(2) == T // MINIBATCHES).all()
    assert len({used[epoch].tobytes() for epoch in range(EPOCHS)}) == EPOCHS
    # Groups are shuffled each by itself.
    assert len({used[0, 0, :, lane].tobytes() for lane in range(LANES)}) > 2


def test_gradients_and_metrics_of_groups_are_those_of_the_whole_minibatch() -> None:
    state, metrics, _ = updated(at_once=False)
    samples, reward = reference()
    expected: list[PPOLossMetrics] = []
    norms = []
    for step, used in enumerate(minibatches(at_once=False).reshape(-1, BATCH)):
        taken = jax.tree.map(lambda leaf, at=used: leaf[at], samples)
        scaled = (taken.advantage - taken.advantage.mean()) / (taken.advantage.std() + 1e-8)
        gradient, of_loss = gradient_of(PARAMS, taken._replace(advantage=scaled))
        for name in PARAMS:
            np.testing.assert_allclose(
                state.opt_state.grads[name][step], gradient[name], rtol=1e-4, atol=1e-4, err_msg=name
            )
        expected.append(of_loss)
        norms.append(optax.tree.norm(gradient))
    for name in PPOLossMetrics._fields:
        mean = np.mean([getattr(each, name) for each in expected])
        np.testing.assert_allclose(getattr(metrics, name), mean, rtol=1e-4, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(metrics.grad_norm, np.mean(norms), rtol=1e-4)
    np.testing.assert_allclose(metrics.mean_reward, reward.mean(), rtol=1e-5)  # the game's own, not scaled
    unexplained = (samples.target - samples.value).var() / samples.target.var()
    np.testing.assert_allclose(metrics.explained_variance, 1 - unexplained, rtol=1e-4)


@pytest.mark.parametrize("over", ["batch", "none"])
def test_advantages_are_normalised_over_the_batch_or_not_at_all(over: Any) -> None:
    ppo = learner(normalize_advantages=over)
    state, _, _ = jax.device_get(jax.jit(ppo.update, compiler_options=QUICKLY)(initial(ppo), KEY))
    samples, _ = reference()
    advantage = samples.advantage
    scaled = (advantage - advantage.mean()) / advantage.std() if over == "batch" else advantage
    assert_first_gradient(state, samples._replace(advantage=scaled))


def assert_first_gradient(state: Any, samples: Samples) -> None:
    """The gradient of the first minibatch is that of these samples [T * B, ...]."""
    used = (state.opt_state.grads["seen"][:, :T] != 0).reshape(-1, BATCH)[0]
    expected, _ = gradient_of(PARAMS, jax.tree.map(lambda leaf: leaf[used], samples))
    for name in PARAMS:
        found = state.opt_state.grads[name][0]
        np.testing.assert_allclose(found, expected[name], rtol=1e-4, atol=1e-4, err_msg=name)


def for_time(observations: Any, actions: Any, following: Any) -> Any:
    del actions
    return 10_000.0 * (following[:, 1] - observations[:, 1])


def for_action(observations: Any, actions: Any, following: Any) -> Any:
    return actions + following[:, 0] - observations[:, 0]


def test_additional_rewards_are_of_steps_that_an_observation_follows() -> None:
    _, after, steps, episodes = rolled_out()
    ended = episodes.ended
    assert ended.any()
    paid = shaped_rewards(for_time, steps, after.observation)
    np.testing.assert_array_equal(paid, np.where(ended, 0, 10_000))
    paid = shaped_rewards(for_action, steps, after.observation)  # the tag stays within an episode
    np.testing.assert_array_equal(paid, np.where(ended, 0, steps.action))


def test_the_learner_alone_sees_additional_rewards() -> None:
    # As large as the game's own rewards.
    ppo = learner(normalize_advantages="none", shaping=for_time)
    state, metrics, _ = jax.device_get(jax.jit(ppo.update, compiler_options=QUICKLY)(initial(ppo), KEY))
    samples, reward = reference(10_000.0)
    assert np.abs(samples.target - reference()[0].target).max() > 1
    np.testing.assert_allclose(metrics.mean_reward, reward.mean(), rtol=1e-5)
    assert_first_gradient(state, samples)


@partial(jax.jit, compiler_options=QUICKLY)
def gradient_of(params: Any, samples: Samples) -> tuple[Any, PPOLossMetrics]:
    return jax.grad(loss, has_aux=True)(params, network, samples, EPS, VF, ENT)


def test_groups_at_once_or_one_after_the_other_give_the_same() -> None:
    for ours, theirs in zip(
        jax.tree.leaves(updated(at_once=False)), jax.tree.leaves(updated(at_once=True)), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(minibatches(at_once=False), minibatches(at_once=True))


@pytest.mark.slow
def test_environments_spread_over_devices_give_the_same_gradients() -> None:
    """Two devices are played by a mapped axis; each has half of the lanes."""
    ppo = learner(axis_name="device")
    state = initial(ppo)
    halves = jax.tree.map(lambda leaf: leaf.reshape(2, LANES // 2, *leaf.shape[1:]), start(jax.random.key(1)))
    spread = jax.vmap(lambda rollout: ppo.update(state._replace(rollout=rollout), KEY), axis_name="device")
    found, metrics, _ = jax.device_get(jax.jit(spread, compiler_options=QUICKLY)(halves))
    whole, whole_metrics, _ = updated(at_once=False)
    for ours, theirs in zip(
        jax.tree.leaves((found.opt_state, metrics)),
        jax.tree.leaves((whole.opt_state, whole_metrics)),
        strict=True,
    ):
        np.testing.assert_allclose(ours[0], theirs, rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(ours[0], ours[1])


def test_a_fresh_state_and_an_updated_one_have_the_same_types() -> None:
    """Otherwise the second call of a compiled update would compile again."""
    ppo = learner(
        optimizer=optax.adam(1e-3),
        init_params=lambda key, observation: {**PARAMS, "value": 2.0 * jnp.ones(())},
    )
    fresh = jax.eval_shape(ppo.init, jax.random.key(0))
    after, _, _ = jax.eval_shape(ppo.update, fresh, KEY)
    assert jax.tree.structure(fresh) == jax.tree.structure(after)
    for before, then in zip(jax.tree.leaves(fresh), jax.tree.leaves(after), strict=True):
        assert (before.shape, before.dtype, before.weak_type) == (then.shape, then.dtype, then.weak_type)
        assert not before.weak_type


def test_totals_are_sums_over_all_steps() -> None:
    values = np.random.default_rng(0).integers(-9, 9, (T, LANES)).astype(np.float32)
    assert float(learner().total(jnp.asarray(values))) == values.sum()


@pytest.mark.parametrize("size", [1, 2, 7, 64, 100, 4096, (1 << 16) + 2])
def test_shuffled_is_a_permutation_that_depends_on_the_key(size: int) -> None:
    orders = [np.asarray(jax.jit(shuffled, static_argnums=1)(jax.random.key(n), size)) for n in range(2)]
    for order in orders:
        assert sorted(order.tolist()) == list(range(size))
    if size > 7:
        assert (orders[0] != orders[1]).any()


def test_every_order_of_three_is_equally_likely() -> None:
    draws = 6000
    orders = jax.vmap(shuffled, (0, None))(jax.random.split(jax.random.key(0), draws), 3)
    _, counts = np.unique(np.asarray(orders), axis=0, return_counts=True)
    assert len(counts) == 6
    # Five standard deviations of a binomial count.
    assert np.abs(counts - draws / 6).max() < 5 * np.sqrt(draws * 5 / 36)
