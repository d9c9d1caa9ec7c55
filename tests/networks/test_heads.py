"""Heads: exact draws, probabilities that sum to one, and the best fraction of a value."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from matrixrl.networks.heads import MASKED, IntegerValue, TokenPolicy, best_fraction_mean, draw_tokens
from matrixrl.types import TokenLayout


def always(classes: int) -> np.ndarray:
    return np.ones((1, classes), bool)


# Two tokens of three classes spell the first vector, one token each the others: 0 is zero, 2 is the "wrong sign". A last
# token adds the sign of the first one, which a zero does not have.
SIGNS = np.array([[True, False], [True, True], [True, True]])
LAYOUT = TokenLayout(
    num_classes=(3, 3, 3, 2, 2),
    given=(-1, -1, -1, -1, 0),
    zero_after=((), (0,), (), (), ()),
    legal=(always(3), always(3), always(3), always(2), SIGNS),
    legal_while_zero=(
        np.array([[True, True, False]]),
        np.array([[False, True, False]]),
        np.array([[False, True, True]]),
        np.array([[False, True]]),
        SIGNS,
    ),
)
LEGAL = [
    (first, second, third, 1, sign)
    for first, second, third, sign in itertools.product(range(3), range(3), range(3), range(2))
    if first != 2 and (first or second == 1) and third != 0 and (first or not sign)
]
STATES, CANDIDATES = 2, 16


class Policy:
    """A token policy with large random weights, so that its distribution is far from uniform."""

    def __init__(self, scale: float) -> None:
        self.policy = TokenPolicy(LAYOUT, 8)
        self.hidden = jax.random.normal(jax.random.key(1), (STATES, 5))
        every = np.array(LEGAL)[None].repeat(STATES, axis=0)
        init = jax.jit(lambda key: self.policy.init(key, self.hidden, every, None, method="log_prob"))
        params = init(jax.random.key(0))
        self.params = jax.tree.map(lambda leaf: np.asarray(leaf) * np.float32(scale), params)
        shapes = [(STATES, 3), (STATES, 3), (STATES, 3), (STATES, 2), (STATES, 3, 2)]
        self.priors = tuple(
            scale * jax.random.normal(jax.random.key(10 + t), shape) / 4 for t, shape in enumerate(shapes)
        )

        def draw(key: Any, temperature: Any) -> Any:
            return self.policy.apply(
                self.params, key, self.hidden, CANDIDATES, temperature, self.priors, method="draw"
            )

        def log_prob(tokens: Any) -> Any:
            return self.policy.apply(self.params, self.hidden, tokens, self.priors, method="log_prob")

        self.draw = jax.jit(jax.vmap(draw, in_axes=(0, None)))
        self.log_prob = jax.jit(log_prob)


@pytest.fixture(scope="module")
def sharp() -> Policy:
    return Policy(3.0)


def listed(policy: Policy) -> np.ndarray:
    """Log-probabilities [STATES, actions] of all legal actions."""
    return np.asarray(policy.log_prob(np.array(LEGAL)[None].repeat(STATES, axis=0)))


def index_of(tokens: np.ndarray) -> np.ndarray:
    known = {action: index for index, action in enumerate(LEGAL)}
    return np.array([known.get(tuple(action), -1) for action in tokens.reshape(-1, 5)]).reshape(
        tokens.shape[:-1]
    )


def test_legal_actions_share_the_whole_probability(sharp: Policy) -> None:
    assert len(LEGAL) == 14
    assert np.exp(listed(sharp)).sum(-1) == pytest.approx(np.ones(STATES), abs=1e-5)
    # Far from uniform, or the next tests would say little.
    assert np.exp(listed(sharp)).max() > 2 / len(LEGAL)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 100.0, 0.1])
def test_draws_are_exact_and_never_illegal(sharp: Policy, temperature: float) -> None:
    """Each candidate alone is a draw from the (flattened) policy: chi-square over all legal actions."""
    draws = 1500
    found = sharp.draw(jax.random.split(jax.random.key(5), draws), temperature)
    chosen = index_of(np.asarray(found.tokens))  # [draws, STATES, CANDIDATES]
    assert (chosen >= 0).all(), "an illegal action was drawn"
    reported = np.asarray(found.log_prob)
    expected = listed(sharp)
    states = np.broadcast_to(np.arange(STATES)[None, :, None], chosen.shape)
    assert reported == pytest.approx(expected[states, chosen], abs=1e-4)
    if temperature != 1.0:
        return
    for state in range(STATES):
        for candidate in (0, 7, CANDIDATES - 1):
            counts = np.bincount(chosen[:, state, candidate], minlength=len(LEGAL))
            mean = draws * np.exp(expected[state])
            chi_square = ((counts - mean) ** 2 / mean).sum()
            # Seven degrees of freedom: 35 is exceeded once in 90,000.
            assert chi_square < 35, (state, candidate, counts, mean)


def test_candidates_of_a_state_are_spread_over_the_policy(sharp: Policy) -> None:
    """The share of each action among the candidates is nearly its probability, far closer than independent draws."""
    found = sharp.draw(jax.random.split(jax.random.key(6), 300), 1.0)
    chosen = index_of(np.asarray(found.tokens))
    probability = np.exp(listed(sharp))
    for state in range(STATES):
        counts = np.stack([np.bincount(row, minlength=len(LEGAL)) for row in chosen[:, state]])
        spread = counts.var(axis=0).sum()
        independent = (CANDIDATES * probability[state] * (1 - probability[state])).sum()
        assert spread < 0.35 * independent


def test_a_uniform_policy_is_covered_nearly_without_repeats() -> None:
    found = Policy(0.0).draw(jax.random.split(jax.random.key(7), 200), 1.0)
    chosen = index_of(np.asarray(found.tokens))
    # Eight actions, not all equally likely (token by token): sixteen candidates leave out next to none of them.
    different = np.array([len(set(row)) for row in chosen.reshape(-1, CANDIDATES)])
    assert different.mean() > 7.3
    assert different.min() >= 5


def test_value_is_a_distribution_over_integers() -> None:
    head = IntegerValue(max_value=6)
    logits, _ = head.init_with_output(jax.random.key(0), jnp.ones((3, 8)))
    assert jnp.shape(logits) == (3, 7)


@pytest.mark.parametrize(
    ("weights", "fraction", "mean"),
    [
        ([0.25, 0.25, 0.25, 0.25], 1.0, 1.5),
        ([0.25, 0.25, 0.25, 0.25], 0.25, 0.0),
        ([0.25, 0.25, 0.25, 0.25], 0.5, 0.5),
        ([0.1, 0.2, 0.7, 1e-12], 0.2, 0.5),  # 0.1 of 0 and 0.1 of 1
        ([0.1, 0.2, 0.7, 1e-12], 0.4, (0.2 * 1 + 0.1 * 2) / 0.4),
        ([1e-12, 1e-12, 1e-12, 1.0], 0.25, 3.0),
        ([0.5, 1e-12, 1e-12, 0.5], 0.75, (0.5 * 0 + 0.25 * 3) / 0.75),
    ],
)
def test_best_fraction_is_the_mean_of_the_lowest_costs(
    weights: list[float], fraction: float, mean: float
) -> None:
    assert float(best_fraction_mean(jnp.log(jnp.array(weights)), fraction)) == pytest.approx(mean, abs=1e-5)


@pytest.mark.parametrize("classes", [33, 81, 300, 4096])
def test_draws_among_many_classes_are_exact(classes: int) -> None:
    """Drawn block by block: every class with its own share, the last and the smallest too, an illegal one never."""
    rng = np.random.default_rng(classes)
    logits = rng.normal(size=classes).astype(np.float32)
    # Shares that can be told apart by counting: three classes have two thirds of the weight, one at either end.
    logits[[0, classes // 2, classes - 1]] = np.log(np.exp(logits).sum() * np.array([1.0, 0.7, 0.5]))
    logits[5] = MASKED
    shares = np.exp(logits.astype(np.float64) - logits.max())
    shares /= shares.sum()
    states, count = 500, 16
    drawn = jax.jit(
        lambda key: draw_tokens(
            key, lambda index, tokens: jnp.broadcast_to(jnp.asarray(logits), (states, 1, classes)),
            (states, count, 1), 1.0,
        )
    )(jax.random.key(0))  # fmt: skip
    tokens = np.asarray(drawn.tokens).ravel()
    counts = np.bincount(tokens, minlength=classes) / len(tokens)
    assert counts[5] == 0
    # The draws of a state are spread, so that shares vary less than those of independent draws.
    tolerance = 5 * np.sqrt(shares * (1 - shares) / len(tokens)) + 5 / len(tokens)
    assert (np.abs(counts - shares) <= tolerance).all()
    assert np.asarray(drawn.log_prob).ravel() == pytest.approx(np.log(shares[tokens]), abs=1e-4)
