from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matrixrl.schemes.hensel import Factors, lift_factors, lift_signs


def total(factors: Factors) -> np.ndarray:
    return np.einsum("ra,rb,rc->abc", *(factor.astype(object) for factor in factors))


def diagonal(*entries: int) -> np.ndarray:
    target = np.zeros((len(entries), len(entries), 1), dtype=np.int64)
    np.fill_diagonal(target[:, :, 0], entries)
    return target


FIRST_UNIT = (np.array([[1, 0]]), np.array([[1, 0]]), np.array([[1]]))


def test_signs_are_found_by_hand_worked_steps() -> None:
    """(1, 1) x (1, 1) = [[1, 1], [1, 1]] is [[1, -1], [-1, 1]] modulo 2: the lift must find two minus signs."""
    factors = (np.array([[1, 1]]), np.array([[1, 1]]), np.array([[1]]))
    target = np.array([[1, -1], [-1, 1]])[:, :, None]
    outcome = lift_factors(target, factors)
    assert outcome.status == "ternary"
    assert outcome.factors is not None
    assert np.array_equal(total(outcome.factors), target)


def test_one_term_does_not_lift_to_rank_two_and_the_step_is_named() -> None:
    """diag(1, 2) is (1, 0) x (1, 0) modulo 2, but no (1 + 2x)(1 + 2y) gives the 2: no solution modulo 4."""
    outcome = lift_factors(diagonal(1, 2), FIRST_UNIT)
    assert (outcome.status, outcome.step) == ("none", 1)
    assert outcome.message == "does not lift: no solution modulo 4"
    later = lift_factors(diagonal(1, 4), FIRST_UNIT)  # the first step has a solution, the second has none
    assert (later.status, later.step) == ("none", 2)
    assert "no solution at step 2 (modulo 8)" in later.message


def test_coefficients_beyond_one_are_found_digit_by_digit() -> None:
    target = np.array([[[5]]])
    outcome = lift_factors(target, [np.ones((1, 1), dtype=np.int64)] * 3)
    assert outcome.status == "integer"
    assert outcome.factors is not None
    assert total(outcome.factors).tolist() == [[[5]]]


def test_fractions_that_are_needed_are_recognised() -> None:
    """(a a a + b b b) / 3 with a = (1, 1), b = (2, -1) is an integer tensor whose only two terms carry 1/3 (Kruskal)."""
    a, b = np.array([1, 1]), np.array([2, -1])
    cubes = np.einsum("i,j,k", a, a, a) + np.einsum("i,j,k", b, b, b)
    assert not (cubes % 3).any()
    terms = np.array([a, b]) % 2
    outcome = lift_factors(cubes // 3, (terms, terms, terms))
    assert (outcome.status, outcome.denominator) == ("rational", 3)
    assert outcome.factors is None
    assert outcome.fractions is not None
    assert np.array_equal(total(outcome.fractions), cubes // 3)
    assert "lifts to Q with denominator 3" in outcome.message


@pytest.mark.parametrize("rank", [3, 5, 7, 9, 21, 41])
def test_signs_are_searched_where_modulo_4_is_not_enough(rank: int) -> None:
    """An odd number of ones whose signed sum must be one: modulo 4 leaves many wrong patterns."""
    ones = np.ones((rank, 1), dtype=np.int64)
    outcome = lift_signs(np.array([[[1]]]), (ones, ones, ones))
    assert outcome.status == "ternary"
    assert outcome.factors is not None
    assert total(outcome.factors).tolist() == [[[1]]]


def test_it_is_proved_that_no_signs_exist() -> None:
    ones = np.ones((1, 1), dtype=np.int64)
    for target in (3, 5):  # both have signs modulo 4 (-1 and 1), neither has them over the integers
        outcome = lift_signs(np.array([[[target]]]), (ones, ones, ones))
        assert outcome.factors is None
        assert outcome.message == "no ternary lift in this basis"


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rank=st.integers(1, 5), side=st.integers(2, 4))
def test_sums_of_ternary_terms_lift_or_say_why(seed: int, rank: int, side: int) -> None:
    """The tensor is made of integer terms, so its terms modulo 2 lift: failing at step 1 would be a wrong proof."""
    rng = np.random.default_rng(seed)
    made = tuple(rng.integers(-1, 2, (rank, side)) for _ in range(3))
    target = np.einsum("ra,rb,rc->abc", *made)
    outcome = lift_factors(target, made, seed=1)
    assert outcome.step != 1
    if outcome.factors is not None:
        assert np.array_equal(total(outcome.factors), target)
        for lifted, given_factor in zip(outcome.factors, made, strict=True):
            assert lifted.shape == given_factor.shape


def test_reconstruction_inverts_reduction() -> None:
    from matrixrl.schemes import hensel

    for prime, steps in hensel._STEPS.items():
        _check_reconstruction(prime**steps)


def _check_reconstruction(modulus: int) -> None:
    from matrixrl.schemes import hensel

    for fraction in (
        Fraction(0),
        Fraction(1),
        Fraction(-7),
        Fraction(22, 7),
        Fraction(-1, 5),
        Fraction(1000, 1001),
    ):
        value = fraction.numerator * pow(fraction.denominator, -1, modulus) % modulus
        assert hensel._reconstruct(value, modulus) == fraction
        assert hensel._reconstruct(value - modulus, modulus) == fraction


def test_modulo_3_the_step_without_a_solution_is_named() -> None:
    """diag(1, 3) is (1, 0) x (1, 0) modulo 3, but no (1 + 3x)(1 + 3y) gives the 3."""
    outcome = lift_factors(diagonal(1, 3), FIRST_UNIT, prime=3)
    assert (outcome.status, outcome.step) == ("none", 1)
    assert outcome.message == "does not lift: no solution modulo 9"
    later = lift_factors(diagonal(1, 9), FIRST_UNIT, prime=3)
    assert (later.status, later.step) == ("none", 2)
    assert "no solution at step 2 (modulo 27)" in later.message


def test_modulo_3_coefficients_beyond_one_and_halves_are_found() -> None:
    ones = [np.ones((1, 1), dtype=np.int64)] * 3
    seven = lift_factors(np.array([[[7]]]), ones, prime=3)
    assert seven.status == "integer"
    assert seven.factors is not None
    assert total(seven.factors).tolist() == [[[7]]]
    # (a a a + b b b) / 2 with a = (1, 1), b = (1, -1) is an integer tensor
    a, b = np.array([1, 1]), np.array([1, -1])
    cubes = np.einsum("i,j,k", a, a, a) + np.einsum("i,j,k", b, b, b)
    terms = np.array([a, b])
    halves = lift_factors(cubes // 2, (terms, terms, 2 * terms), prime=3)
    assert (halves.status, halves.denominator) == ("rational", 2)
    assert halves.fractions is not None
    assert np.array_equal(total(halves.fractions), cubes // 2)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rank=st.integers(1, 5), side=st.integers(2, 4))
def test_sums_of_integer_terms_lift_from_their_residues_modulo_3(seed: int, rank: int, side: int) -> None:
    rng = np.random.default_rng(seed)
    made = tuple(rng.integers(-2, 3, (rank, side)) for _ in range(3))
    target = np.einsum("ra,rb,rc->abc", *made)
    outcome = lift_factors(target, made, seed=1, prime=3)
    assert outcome.step != 1
    found = outcome.factors or outcome.fractions
    if found is not None:
        assert np.array_equal(total(found), target)
        for lifted, given_factor in zip(found, made, strict=True):
            residues = [Fraction(x).numerator * pow(Fraction(x).denominator, -1, 3) % 3 for x in lifted.flat]
            assert residues == (given_factor % 3).ravel().tolist()
