"""Distributions over the legal actions, against plain NumPy in double precision."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from matrixrl.agents import masked

ROWS, A = 8, 28
LARGEST_UNIFORM = 1 - 2.0**-23

log_softmax = jax.jit(masked.masked_log_softmax)
entropy = jax.jit(masked.entropy)
sample = jax.jit(masked.sample)
log_prob_of = jax.jit(masked.log_prob_of)

logit_arrays = hnp.arrays(np.float32, (ROWS, A), elements=st.floats(-100, 100, width=32))
masks = hnp.arrays(bool, (ROWS, A))


def expected_log_probs(logits: np.ndarray, legal: np.ndarray) -> np.ndarray:
    """By the definition, over the legal actions; -inf elsewhere."""
    rows = []
    for row, allowed in zip(logits.astype(float), legal, strict=True):
        allowed = allowed if allowed.any() else np.ones_like(allowed)
        top = row[allowed].max()
        total = np.exp(row[allowed] - top).sum()
        rows.append(np.where(allowed, row - top - np.log(total), -np.inf))
    return np.array(rows)


@settings(max_examples=60, deadline=None)
@given(logit_arrays, masks)
def test_log_probs_and_entropy_are_those_of_the_legal_actions(logits: np.ndarray, legal: np.ndarray) -> None:
    expected = expected_log_probs(logits, legal)
    found = np.asarray(log_softmax(logits, legal))
    assert np.isfinite(found).all()
    possible = np.isfinite(expected)
    np.testing.assert_allclose(found[possible], expected[possible], rtol=1e-5, atol=1e-4)
    assert (found[~possible] < masked.MASKED / 2).all()
    assert (np.exp(found[~possible]) == 0).all()
    np.testing.assert_allclose(np.exp(found).sum(1), 1, rtol=1e-5)
    p = np.exp(expected)
    in_nats = -np.where(possible, p * np.where(possible, expected, 0), 0).sum(1)
    np.testing.assert_allclose(np.asarray(entropy(found)), in_nats, rtol=1e-4, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(
    logit_arrays,
    masks,
    hnp.arrays(np.int32, ROWS, elements=st.integers(0, 2**23 - 1)),
    st.sampled_from([None, 0.0, LARGEST_UNIFORM]),
)
def test_an_illegal_action_is_never_drawn(
    logits: np.ndarray, legal: np.ndarray, bits: np.ndarray, extreme: float | None
) -> None:
    uniform = (bits / 2**23 if extreme is None else np.full(ROWS, extreme)).astype(np.float32)
    log_probs = log_softmax(logits, legal)
    actions = np.asarray(sample(uniform, log_probs))
    allowed = legal | ~legal.any(1, keepdims=True)
    assert actions.dtype == np.int32
    assert allowed[np.arange(ROWS), actions].all()
    assert (np.exp(np.asarray(log_probs))[np.arange(ROWS), actions] > 0).all()


def test_every_legal_uniform_near_one_finds_a_legal_action() -> None:
    """Sums of rounded probabilities may fall short of 1: the last numbers below 1 are where that would show."""
    rng = np.random.default_rng(0)
    count = 4096
    logits = rng.normal(0, 3, (count, A)).astype(np.float32)
    legal = rng.random((count, A)) < 0.3
    legal[:, 0] |= ~legal.any(1)
    log_probs = log_softmax(logits, legal)
    for distance in (1, 2, 3, 7, 50):
        uniform = np.full(count, 1 - distance * 2.0**-23, np.float32)
        actions = np.asarray(sample(uniform, log_probs))
        assert legal[np.arange(count), actions].all()


def test_sums_in_any_order_draw_no_illegal_action(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a machine adds in a tree, a running sum can rise by a rounding at an action of probability zero."""

    def in_a_tree(values: jax.Array, axis: int) -> jax.Array:
        return jax.lax.associative_scan(jnp.add, values, axis=axis)

    rng = np.random.default_rng(0)
    count = 200_000
    logits = rng.normal(0, 1, (count, 8)).astype(np.float32)
    legal = np.ones((count, 8), bool)
    legal[:, 7] = False
    log_probs = log_softmax(logits, legal)
    monkeypatch.setattr(masked.jnp, "cumsum", in_a_tree)
    cumulative = np.asarray(jax.jit(lambda x: in_a_tree(jnp.exp(x), -1))(log_probs))
    rises = cumulative[:, 7] > cumulative[:, 6]
    assert rises.any()
    uniform = np.full(rises.sum(), LARGEST_UNIFORM, np.float32)
    actions = np.asarray(jax.jit(lambda u, x: masked.sample(u, x))(uniform, log_probs[np.flatnonzero(rises)]))
    assert (actions != 7).all()


def test_frequencies_are_the_probabilities() -> None:
    logits = np.array([0.0, 1.0, 5.0, -1.0, 0.5], np.float32)
    legal = np.array([True, True, False, True, True])
    log_probs = np.asarray(log_softmax(logits, legal))
    draws = 2**14
    # Inverse transform of an even grid: each action has its share of it, but for the grid's own step.
    uniform = np.arange(draws, dtype=np.float32) / draws
    actions = np.asarray(sample(uniform, jnp.broadcast_to(log_probs, (draws, 5))))
    shares = np.bincount(actions, minlength=5) / draws
    np.testing.assert_allclose(shares, np.exp(log_probs), atol=2 / draws)
    assert (np.diff(actions) >= 0).all()


def test_where_nothing_is_legal_everything_is_and_stays_finite() -> None:
    logits = np.array([[1.0, 2.0, 3.0]], np.float32)
    nothing: Any = np.zeros((1, 3), bool)

    def total(logits: Any) -> Any:
        log_probs = masked.masked_log_softmax(logits, nothing)
        return masked.entropy(log_probs).sum() + masked.log_prob_of(log_probs, jnp.array([1])).sum()

    np.testing.assert_array_equal(log_softmax(logits, nothing), log_softmax(logits, ~nothing))
    assert np.isfinite(jax.grad(total)(logits)).all()


@settings(max_examples=30, deadline=None)
@given(logit_arrays, masks)
def test_no_gradient_reaches_an_illegal_logit(logits: np.ndarray, legal: np.ndarray) -> None:
    legal = legal | ~legal.any(1, keepdims=True)
    of_log_prob, of_entropy = gradients(logits, legal, legal.argmax(1))
    for gradient in (of_log_prob, of_entropy):
        assert np.isfinite(gradient).all()
        assert (np.asarray(gradient)[~legal] == 0).all()


@jax.jit
def gradients(logits: Any, legal: Any, action: Any) -> tuple[Any, Any]:
    def log_prob(logits: Any) -> Any:
        return masked.log_prob_of(masked.masked_log_softmax(logits, legal), action).sum()

    def bonus(logits: Any) -> Any:
        return masked.entropy(masked.masked_log_softmax(logits, legal)).sum()

    return jax.grad(log_prob)(logits), jax.grad(bonus)(logits)


def test_gradients_by_hand() -> None:
    """Two legal actions of equal logits: d log p0 = (1/2, -1/2), and the entropy stands at its maximum."""
    logits = np.array([[0.7, 9.0, 0.7]], np.float32)
    legal = np.array([[True, False, True]])
    of_log_prob, of_entropy = gradients(logits, legal, np.array([0]))
    np.testing.assert_allclose(of_log_prob, [[0.5, 0, -0.5]], atol=1e-6)
    np.testing.assert_allclose(of_entropy, [[0, 0, 0]], atol=1e-6)
    np.testing.assert_allclose(entropy(log_softmax(logits, legal)), [np.log(2)], rtol=1e-6)


def test_log_prob_of_takes_the_entry_of_each_action() -> None:
    log_probs = np.log(np.array([[[0.2, 0.8], [0.5, 0.5]], [[0.1, 0.9], [1.0, 1e-30]]], np.float32))
    actions = np.array([[1, 0], [0, 1]])
    np.testing.assert_array_equal(
        log_prob_of(log_probs, actions), np.take_along_axis(log_probs, actions[..., None], -1)[..., 0]
    )


def test_one_legal_action_is_certain() -> None:
    logits = np.full((A, A), -50, np.float32)
    legal = np.eye(A, dtype=bool)
    log_probs = log_softmax(logits, legal)
    np.testing.assert_array_equal(np.exp(log_probs), np.eye(A))
    np.testing.assert_array_equal(entropy(log_probs), 0)
    for uniform in (0.0, 0.5, LARGEST_UNIFORM):
        np.testing.assert_array_equal(sample(np.full(A, uniform, np.float32), log_probs), np.arange(A))


def test_the_log_barrier_is_the_mean_of_the_legal_ones() -> None:
    log_probs = jnp.log(jnp.array([[0.5, 0.3, 0.2], [0.9, 0.1, 0.0], [1.0, 0.0, 0.0]]))
    legal = jnp.array([[True, True, True], [True, True, False], [True, False, False]])
    barrier = masked.log_barrier(log_probs, legal, (False, True, True))
    np.testing.assert_allclose(barrier, [np.log(0.06) / 2, np.log(0.1), 0], rtol=1e-5)
