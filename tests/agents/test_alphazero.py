"""The learner: its loss by hand, and that an update lowers it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from matrixrl.agents.alphazero import AlphaZero, Targets
from matrixrl.networks.tokens import TokenNetwork
from matrixrl.types import TokenLayout
from tests.jitted import jitted

LAYOUT = TokenLayout(
    num_classes=(2, 3),
    given=(-1, -1),
    zero_after=((), ()),
    legal=(np.ones((1, 2), bool), np.ones((1, 3), bool)),
    legal_while_zero=(np.array([[False, True]]), np.array([[True, True, True]])),
)


def features(residual: jax.Array) -> tuple[jax.Array, tuple]:
    return residual.astype(jnp.float32), ()


def learner(best_fraction: float = 1.0) -> AlphaZero:
    network = TokenNetwork(LAYOUT, features, 0, width=8, num_blocks=1, head_width=8, max_value=4)
    return AlphaZero(network, optax.adam(1e-2), 6, 1.0, best_fraction, value_coefficient=0.5)


@pytest.fixture(scope="module")
def agent() -> AlphaZero:
    return learner()


TARGETS = Targets(
    residual=jnp.array([[1, 0, -1], [0, 2, 1]], jnp.int8),
    tokens=jnp.array([[[1, 0], [1, 2]], [[1, 1], [0, 0]]]),  # the last one is illegal and weighs nothing
    weights=jnp.array([[0.25, 0.75], [1.0, 0.0]]),
    cost=jnp.array([2, 9]),  # beyond the largest value: counts as 4
)


def log_prob_of(agent: AlphaZero, params: Any, tokens: jax.Array) -> Any:
    """Returns log-probabilities of actions, and value logits."""
    apply = jax.jit(
        lambda params, tokens: agent.network.apply(params, TARGETS.residual, tokens, method="log_prob")
    )
    return apply(params, tokens)


def test_loss_is_the_cross_entropy_worked_by_hand(agent: AlphaZero) -> None:
    params, _ = jitted(agent.init)(jax.random.key(0), TARGETS.residual[:1])
    loss, (policy_loss, value_loss) = jitted(agent.loss)(params, TARGETS)
    log_prob, logits = log_prob_of(agent, params, TARGETS.tokens)
    log_prob, logits = np.asarray(log_prob, np.float64), np.asarray(logits, np.float64)
    policy = -(0.25 * log_prob[0, 0] + 0.75 * log_prob[0, 1] + log_prob[1, 0]) / 2
    chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    value = -(np.log(chances[0, 2]) + np.log(chances[1, 4])) / 2
    assert float(policy_loss) == pytest.approx(policy, rel=1e-4)
    assert float(value_loss) == pytest.approx(value, rel=1e-4)
    assert float(loss) == pytest.approx(policy + 0.5 * value, rel=1e-4)


def test_updates_lower_the_loss_of_a_fixed_batch(agent: AlphaZero) -> None:
    params, state = jitted(agent.init)(jax.random.key(1), TARGETS.residual[:1])
    update = jitted(agent.update)
    losses = []
    for _ in range(40):
        params, state, metrics = update(params, state, TARGETS)
        losses.append(float(metrics.loss))
        assert all(np.isfinite(float(value)) for value in metrics)
    assert losses[-1] < 0.7 * losses[0]
    assert float(metrics.loss) == pytest.approx(float(metrics.policy_loss) + 0.5 * float(metrics.value_loss), rel=1e-5)  # fmt: skip


def test_expansion_holds_different_legal_candidates_with_their_log_probability() -> None:
    agent = learner(best_fraction=0.25)
    params, _ = jitted(agent.init)(jax.random.key(2), TARGETS.residual[:1])
    found = jitted(agent.expand)(params, jax.random.key(3), TARGETS.residual)
    applied: Any = log_prob_of(agent, params, found.tokens)
    log_prob, logits = applied
    for state in range(2):
        kept = np.asarray(found.prior_logits[state]) > -1e8
        actions = [tuple(action) for action, keep in zip(np.asarray(found.tokens[state]).tolist(), kept, strict=True) if keep]  # fmt: skip
        assert len(set(actions)) == len(actions)
        assert {first for first, _ in actions} == {1}
        assert np.asarray(found.prior_logits[state])[kept] == pytest.approx(np.asarray(log_prob[state])[kept], abs=1e-4)  # fmt: skip
    # The value is minus the mean of the best quarter, which is better than minus the mean.
    weights = np.asarray(jax.nn.softmax(logits), np.float64)
    assert (np.asarray(found.value) > -(weights @ np.arange(5))).all()
    assert (np.asarray(found.value) <= 0).all()
