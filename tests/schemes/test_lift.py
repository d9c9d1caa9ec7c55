from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from matrixrl.schemes.known import known_scheme, laderman, standard, strassen, winograd
from matrixrl.schemes.lift import lift
from matrixrl.schemes.problem import MatrixMultiplication
from matrixrl.schemes.scheme import Format, Scheme, SchemeError
from matrixrl.schemes.symmetry import change_basis, random_basis
from matrixrl.schemes.verify import verify
from tests.schemes.strategies import correct_schemes
from tests.schemes.test_equivalence import all_rank_7_schemes_modulo_2

DATA = Path(__file__).parent / "data"


def test_all_36_schemes_of_2x2x2_lift_with_signs_alone() -> None:
    schemes = all_rank_7_schemes_modulo_2()
    assert len(schemes) == 36
    for scheme in schemes:
        outcome = lift(scheme)
        assert outcome.status == "ternary"
        assert outcome.scheme is not None
        assert outcome.scheme.mod2() == scheme
        assert verify(outcome.scheme, "Z").ok


@pytest.mark.parametrize(
    "scheme",
    [
        winograd(),
        laderman(),
        standard((2, 3, 4)),
        known_scheme((2, 2, 3)),
        known_scheme((4, 4, 4)),
        known_scheme((5, 5, 5)),
    ],
    ids=repr,
)
def test_known_schemes_modulo_2_get_their_signs_back(scheme: Scheme) -> None:
    outcome = lift(scheme.mod2().with_provenance(seed=7))
    assert outcome.status == "ternary"
    assert outcome.same_basis
    assert outcome.scheme is not None
    assert outcome.scheme.mod2() == scheme.mod2()
    assert verify(outcome.scheme).ok
    assert outcome.scheme.provenance["lifted_from"] == "F2"
    assert outcome.scheme.provenance["seed"] == 7


@settings(max_examples=40, deadline=None)
@given(scheme=correct_schemes("Z"))
def test_the_reduction_of_a_random_integer_scheme_lifts(scheme: Scheme) -> None:
    outcome = lift(scheme.mod2())
    assert outcome.scheme is not None
    assert outcome.scheme.mod2() == scheme.mod2()
    assert verify(outcome.scheme).ok


def test_a_scheme_without_signs_lifts_with_even_entries_or_in_another_basis() -> None:
    scheme = Scheme.load(DATA / "3x3x3_rank23_mod2.json")
    here = lift(scheme)
    assert here.status == "integer"
    assert here.scheme is not None
    assert here.scheme.mod2() == scheme
    assert here.scheme.max_coefficient == 2
    there = lift(scheme, any_basis=True)
    assert there.status == "ternary"
    assert not there.same_basis
    assert there.scheme is not None
    assert verify(there.scheme).ok
    assert there.scheme.rank == 23
    bases = [np.array(basis) for basis in there.scheme.provenance["change_of_basis"]]
    assert change_basis(scheme, *bases) == there.scheme.mod2()


@pytest.mark.parametrize("any_basis", [False, True])
def test_a_scheme_that_does_not_lift_is_proved_not_to(any_basis: bool) -> None:
    scheme = Scheme.load(DATA / "3x3x4_rank29_mod2_without_lift.json")
    assert verify(scheme).ok
    outcome = lift(scheme, any_basis=any_basis)
    assert not outcome
    assert (outcome.status, outcome.scheme, outcome.step) == ("none", None, 1)
    assert outcome.message == "does not lift: no solution modulo 4"


@settings(max_examples=20, deadline=None)
@given(scheme=correct_schemes("F2"))
def test_products_that_are_zero_or_cancel_do_not_disturb(scheme: Scheme) -> None:
    zeros = [np.zeros((1, side), dtype=np.int64) for side in scheme.format.sides]
    zeros[1] += 1
    parts = zip(scheme.factors, zeros, strict=True)
    u, v, w = (np.concatenate((factor, factor[:1], factor[:1], zero)) for factor, zero in parts)
    padded = Scheme(scheme.format, "F2", u, v, w)
    outcome = lift(padded)
    assert outcome.scheme is not None
    assert outcome.scheme.mod2() == padded
    assert verify(outcome.scheme).ok


def test_dense_schemes_of_large_formats_lift() -> None:
    rng = np.random.default_rng(0)
    for fmt in ((4, 4, 4), (5, 5, 5)):
        scheme = known_scheme(fmt).mod2()
        dense = change_basis(scheme, *(random_basis(size, rng, "F2") for size in fmt))
        outcome = lift(dense, any_basis=True)
        assert outcome.status == "ternary"


def test_what_is_not_a_solution_modulo_2_is_refused() -> None:
    with pytest.raises(SchemeError, match="only a scheme over F2 or F3"):
        lift(strassen())
    scheme = strassen().mod2()
    wrong = Scheme(scheme.format, "F2", scheme.u, scheme.v, 1 - scheme.w)
    with pytest.raises(SchemeError, match=r"not right modulo 2 \(A11\*B22 in C11: got 1, want 0\)"):
        lift(wrong)


def test_the_target_is_the_matrix_product() -> None:
    fmt = Format(2, 3, 4)
    target = MatrixMultiplication(fmt).tensor()
    assert target.sum() == 24
    for i, j, k in product(range(2), range(3), range(4)):
        assert target[i * 3 + j, j * 4 + k, i * 4 + k] == 1


@settings(max_examples=25, deadline=None)
@given(scheme=correct_schemes("Z"))
def test_the_residues_of_a_random_integer_scheme_modulo_3_lift(scheme: Scheme) -> None:
    outcome = lift(scheme.modulo("F3"), to="Q")
    assert outcome.scheme is not None
    assert outcome.scheme.modulo("F3") == scheme.modulo("F3")
    assert verify(outcome.scheme).ok


def test_a_dense_scheme_modulo_3_lifts_in_a_sparse_basis() -> None:
    rng = np.random.default_rng(0)
    dense = change_basis(laderman(), *(random_basis(3, rng) for _ in range(3))).modulo("F3")
    assert not np.array_equal(dense.u, laderman().u)
    outcome = lift(dense, any_basis=True)
    assert outcome.status == "ternary"
    assert outcome.scheme is not None
    bases = [np.array(basis) for basis in outcome.scheme.provenance["change_of_basis"]]
    assert change_basis(dense, *bases) == outcome.scheme.modulo("F3")
