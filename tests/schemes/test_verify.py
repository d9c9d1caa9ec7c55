from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matrixrl.schemes.known import laderman, standard, strassen, winograd
from matrixrl.schemes.scheme import Format, Scheme
from matrixrl.schemes.verify import verify
from tests.schemes.strategies import correct_schemes, factor_schemes


@pytest.mark.parametrize("scheme", [strassen(), winograd(), laderman(), standard((2, 3, 4))], ids=repr)
def test_published_schemes_verify_over_the_integers_and_modulo_2(scheme: Scheme) -> None:
    assert verify(scheme).ok
    assert verify(scheme, "F2").ok
    assert verify(scheme.mod2()).ok
    assert "correct over the integers" in verify(scheme).message
    assert "correct modulo 2" in verify(scheme.mod2()).message


def test_the_first_wrong_entry_is_named_in_words() -> None:
    w = strassen().w.copy()
    w[4, 1] = 0  # M5 = (A11 + A12) B22 no longer reaches C12
    check = verify(replace(strassen(), w=w))
    assert not check
    assert check.num_wrong == 2
    assert check.message == "A11*B22 in C12: got -1, want 0"
    u = standard((2, 2, 2)).u * 2
    assert verify(replace(standard((2, 2, 2)), u=u)).message == "A11*B11 in C11: got 2, want 1"


def test_a_scheme_for_the_transposed_product_is_wrong() -> None:
    w = strassen().w.reshape(-1, 2, 2).transpose(0, 2, 1).reshape(-1, 4)
    assert not verify(replace(strassen(), w=w))


def test_wrong_signs_are_right_modulo_2_only() -> None:
    scheme = replace(strassen(), u=np.abs(strassen().u))
    assert not verify(scheme)
    assert verify(scheme, "F2")


def test_coefficients_that_overflow_64_bits_do_not_hide_an_error() -> None:
    column = np.array([[1], [2**22]])
    scheme = Scheme(Format(1, 1, 1), "Z", column, column, column)  # 1 + 2^66, which is 1 modulo 2^64
    check = verify(scheme)
    assert not check
    assert check.message == f"A11*B11 in C11: got {1 + 2**66}, want 1"


def test_a_scheme_modulo_2_has_no_signs_to_check() -> None:
    with pytest.raises(ValueError, match="lift it first"):
        verify(strassen().mod2(), "Z")


@settings(max_examples=40, deadline=None)
@given(scheme=correct_schemes(), data=st.data())
def test_any_change_of_any_coefficient_is_found(scheme: Scheme, data: st.DataObject) -> None:
    assert verify(scheme).ok
    name = data.draw(st.sampled_from("uvw"))
    factor = getattr(scheme, name).copy()
    index = data.draw(st.integers(0, factor.size - 1))
    factor.flat[index] += data.draw(st.sampled_from([-2, -1, 1, 2]))
    assert not verify(replace(scheme, **{name: factor}))


@settings(max_examples=60, deadline=None)
@given(scheme=factor_schemes(ring="Z"), seed=st.integers(0, 2**32 - 1))
def test_the_verdict_agrees_with_multiplying_random_matrices(scheme: Scheme, seed: int) -> None:
    """A polynomial identity that fails does so at nearly all random points."""
    n, m, p = scheme.format
    rng = np.random.default_rng(seed)
    A, B = rng.integers(-(10**4), 10**4, (n, m)), rng.integers(-(10**4), 10**4, (m, p))
    C = ((scheme.u @ A.ravel()) * (scheme.v @ B.ravel())) @ scheme.w
    assert verify(scheme).ok == np.array_equal(C.reshape(n, p), A @ B)
