"""Distributions over actions, and running normalisation."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from matrixrl.agents import normalization
from matrixrl.agents.distributions import DiagonalGaussian, MaskedCategorical


def test_density_and_entropy_of_a_gaussian() -> None:
    gaussian = DiagonalGaussian()
    mean, log_std = jnp.array([[0.5, -1.0]]), jnp.array([0.3, -0.7])
    normal = gaussian.condition((mean, log_std), jnp.ones((1, 1), bool))
    action = np.array([[1.0, 0.25]])
    std = np.exp([0.3, -0.7])
    density = np.exp(-0.5 * ((action - mean) / std) ** 2) / (std * np.sqrt(2 * np.pi))
    assert gaussian.log_prob(normal, jnp.asarray(action))[0] == pytest.approx(np.log(density).sum(), rel=1e-5)
    entropy = (0.5 * np.log(2 * np.pi * np.e) + np.array([0.3, -0.7])).sum()
    assert gaussian.entropy(normal)[0] == pytest.approx(entropy, rel=1e-5)
    assert gaussian.mode(normal).tolist() == mean.tolist()


def test_samples_of_a_gaussian_have_its_moments() -> None:
    gaussian = DiagonalGaussian()
    normal = gaussian.condition(
        (jnp.full((4096, 1), 3.0), jnp.log(jnp.array([0.5]))), jnp.ones((4096, 1), bool)
    )
    drawn = np.asarray(gaussian.sample(jax.random.split(jax.random.key(0), 4096), normal))
    assert drawn.mean() == pytest.approx(3.0, abs=0.03)
    assert drawn.std() == pytest.approx(0.5, abs=0.03)


def test_standard_deviations_are_limited() -> None:
    normal = DiagonalGaussian().condition((jnp.zeros((1, 1)), jnp.array([1e9])), jnp.ones((1, 1), bool))
    assert np.isfinite(np.exp(normal.log_std)).all()


def test_illegal_actions_are_never_drawn_nor_the_mode() -> None:
    categorical = MaskedCategorical()
    legal = jnp.array([[True, False, True]])
    policy = categorical.condition(jnp.array([[0.0, 9.0, 1.0]]), legal)
    assert categorical.mode(policy).tolist() == [2]
    keys = jax.random.split(jax.random.key(1), 200)
    drawn = categorical.sample(keys, jnp.broadcast_to(policy, (200, 3)))
    assert set(drawn.tolist()) == {0, 2}


def test_statistics_of_batches_are_those_of_all_samples() -> None:
    samples = np.random.default_rng(0).normal(50.0, 3.0, (6, 2, 8, 3)).astype(np.float32)
    moments = normalization.initial((3,))
    for batch in samples:  # two groups of 8 samples
        moments = normalization.merged(moments, jnp.asarray(batch), lambda parts: parts.sum(0), 16)
    everything = samples.reshape(-1, 3)
    assert float(moments.count) == everything.shape[0]
    np.testing.assert_allclose(moments.mean, everything.mean(0), rtol=1e-5)
    np.testing.assert_allclose(moments.variance, everything.var(0), rtol=1e-3)
    shown = normalization.normalized(moments, jnp.asarray(everything))
    assert np.abs(np.asarray(shown).mean(0)).max() < 1e-3


def test_statistics_before_the_first_sample_change_nothing() -> None:
    values = jnp.array([[0.5, -2.0]])
    np.testing.assert_allclose(
        normalization.normalized(normalization.initial((2,)), values), values, rtol=1e-6
    )
    assert normalization.normalized_observation((), {"a": values})["a"] is values


def test_discounted_sums_restart_after_an_episode() -> None:
    reward = jnp.array([[1.0], [1.0], [1.0], [1.0]])
    ended = jnp.array([[False], [True], [False], [False]])
    last, sums = normalization.discounted_sums(jnp.array([2.0]), reward, ended, 0.5)
    assert sums[:, 0].tolist() == [2.0, 2.0, 1.0, 1.5]
    assert last.tolist() == [1.5]
