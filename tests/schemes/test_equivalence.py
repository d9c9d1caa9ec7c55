from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matrixrl.schemes.equivalence import (
    can_classify,
    canonical_form,
    canonical_terms,
    count_classes,
    group_order,
    same_terms,
)
from matrixrl.schemes.known import known_scheme, laderman, standard, strassen, winograd
from matrixrl.schemes.scheme import Format, Scheme
from matrixrl.schemes.symmetry import change_basis, format_images, random_basis, rotate
from matrixrl.schemes.verify import verify
from tests.schemes.strategies import factor_schemes

GL22 = [np.array(m).reshape(2, 2) for m in product((0, 1), repeat=4) if (m[0] * m[3] - m[1] * m[2]) % 2]


def all_rank_7_schemes_modulo_2() -> set[Scheme]:
    start = strassen().mod2()
    return {canonical_terms(change_basis(start, *bases)) for bases in product(GL22, repeat=3)}


@settings(max_examples=60, deadline=None)
@given(scheme=factor_schemes(), seed=st.integers(0, 2**32 - 1))
def test_order_and_signs_do_not_matter(scheme: Scheme, seed: int) -> None:
    rng = np.random.default_rng(seed)
    order = rng.permutation(scheme.rank)
    u, v, w = (factor[order] for factor in scheme.factors)
    if scheme.ring == "Z":
        first, second = rng.choice((-1, 1), (2, scheme.rank, 1))
        u, v, w = u * first, v * second, w * first * second
    shuffled = replace(scheme, u=u, v=v, w=w)
    assert same_terms(scheme, shuffled)
    assert canonical_terms(canonical_terms(scheme)) == canonical_terms(scheme)


def test_a_number_may_stand_in_any_factor_of_a_term() -> None:
    one = np.array([[1]])
    written = [
        Scheme(Format(1, 1, 1), "Z", *factors) for factors in ((-6 * one, one, one), (2 * one, one, -3 * one))
    ]
    assert same_terms(*written)
    assert canonical_terms(written[0]).w.tolist() == [[-6]]


def test_canonical_terms_stay_correct_and_tell_schemes_apart() -> None:
    assert verify(canonical_terms(laderman())).ok
    assert not same_terms(strassen(), winograd())
    assert not same_terms(strassen(), standard((2, 2, 2)))


def test_all_36_solutions_over_f2_are_one_class() -> None:
    schemes = all_rank_7_schemes_modulo_2()
    assert all(verify(scheme).ok for scheme in schemes)
    count = count_classes(schemes)
    assert (count.solutions, count.classes) == (36, 1)
    assert count.message == "36 solutions, 1 class"


def test_strassen_and_winograd_are_one_class_modulo_2_and_two_under_signed_permutations() -> None:
    assert count_classes([strassen(), winograd()]).message == "2 solutions, 2 classes"
    assert count_classes([strassen().mod2(), winograd().mod2()]).message == "2 solutions, 1 class"


@pytest.mark.parametrize("fmt", [(2, 2, 2), (2, 2, 3), (3, 2, 2), (1, 2, 3)])
def test_the_canonical_form_does_not_change_under_symmetries(fmt: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(1)
    scheme = known_scheme(fmt)
    signed = [np.eye(size, dtype=int)[rng.permutation(size)] * rng.choice((-1, 1), size) for size in fmt]
    key, key_mod2 = canonical_form(scheme), canonical_form(scheme.mod2())
    for image in format_images(change_basis(scheme, *signed)):
        assert canonical_form(image) == key
    bases = [random_basis(size, rng, "F2") for size in fmt]
    for image in format_images(change_basis(scheme.mod2(), *bases)):
        assert canonical_form(image) == key_mod2
    assert canonical_form(standard(fmt)) != key or scheme.rank == fmt[0] * fmt[1] * fmt[2]


def test_inequivalent_schemes_of_one_format_are_two_classes() -> None:
    """Two superfluous equal terms cancel modulo 2: A11 B11 C11 is a product of the algorithm, A12 B11 C11 is not."""
    scheme = standard((2, 2, 2)).mod2()
    u, v, w = (np.concatenate((factor, factor[:1], factor[:1])) for factor in scheme.factors)
    padded = replace(scheme, u=u, v=v, w=w)
    other = [factor.copy() for factor in padded.factors]
    other[0][-2:] = [0, 1, 0, 0]
    twisted = replace(padded, u=other[0])
    assert verify(padded).ok
    assert verify(twisted).ok
    assert count_classes([padded, twisted]).message == "2 solutions, 2 classes"


def test_3x3x3_is_classified_over_the_integers() -> None:
    assert canonical_form(laderman()) == canonical_form(rotate(laderman()))


@pytest.mark.slow
def test_3x3x3_is_classified_modulo_2() -> None:
    rng = np.random.default_rng(2)
    moved = change_basis(laderman().mod2(), *(random_basis(3, rng, "F2") for _ in range(3)))
    assert count_classes([laderman().mod2(), moved]).message == "2 solutions, 1 class"


def test_groups_have_their_known_orders_and_large_ones_are_refused() -> None:
    assert group_order(Format(2, 2, 2), "F2") == 6**3 * 6
    assert group_order(Format(2, 2, 3), "F2") == 6 * 6 * 168 * 2
    assert group_order(Format(3, 3, 3), "Z") == 48**3 * 6
    large = known_scheme((4, 4, 4))
    assert not can_classify(large)
    with pytest.raises(ValueError, match="too many symmetries"):
        canonical_form(large)
    assert count_classes([large, large]).message == "1 solution, too large to count classes"


def test_sorted_rows_of_numpy_and_python_agree() -> None:
    """Canonical order is the lexicographic order of (u, v, w)."""
    terms = canonical_terms(laderman())
    rows = np.concatenate(terms.factors, axis=1).tolist()
    assert rows == sorted(rows)
