from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given, settings

from matrixrl.schemes.known import (
    known_rank,
    known_scheme,
    laderman,
    standard,
    strassen,
    winograd,
)
from matrixrl.schemes.neighbours import merge, product
from matrixrl.schemes.records import find_record
from matrixrl.schemes.scheme import Format, SchemeError
from matrixrl.schemes.verify import verify
from tests.schemes.strategies import formats


def test_the_named_schemes_have_their_published_ranks() -> None:
    assert (strassen().rank, winograd().rank, laderman().rank) == (7, 7, 23)
    assert all(scheme.is_ternary for scheme in (strassen(), winograd(), laderman()))


@settings(max_examples=40, deadline=None)
@given(fmt=formats(4))
def test_the_standard_algorithm_of_any_format_verifies(fmt: Format) -> None:
    assert verify(standard(fmt)).ok
    assert standard(fmt).rank == fmt.naive_rank


@settings(max_examples=60, deadline=None)
@given(fmt=formats(5))
def test_the_best_composition_of_any_format_verifies(fmt: Format) -> None:
    scheme = known_scheme(fmt)
    assert scheme.format == fmt
    assert verify(scheme).ok
    assert scheme.rank == known_rank(fmt) <= fmt.naive_rank
    record = find_record(fmt)
    assert record is None or scheme.rank >= record.integer


@pytest.mark.parametrize(
    ("fmt", "rank"),
    [
        ((2, 2, 3), 11),
        ((2, 2, 4), 14),
        ((2, 2, 5), 18),
        ((4, 4, 4), 49),
        ((2, 3, 3), 17),
        ((6, 6, 6), 161),
        ((8, 8, 8), 343),
    ],
)
def test_compositions_reach_the_expected_ranks_in_every_order(fmt: tuple[int, int, int], rank: int) -> None:
    for order in set(permutations(fmt)):
        assert known_rank(order) == rank
    assert verify(known_scheme(fmt)).ok


def test_joining_and_nesting_add_and_multiply_ranks() -> None:
    for side, fmt in enumerate([(3, 2, 2), (2, 3, 2), (2, 2, 3)]):
        thin = [2, 2, 2]
        thin[side] = 1
        joined = merge(strassen(), standard(thin), side)
        assert joined.format == fmt
        assert joined.rank == 11
        assert verify(joined).ok
    nested = product(standard((1, 3, 2)), laderman())
    assert nested.format == (3, 9, 6)
    assert nested.rank == 6 * 23
    assert verify(nested).ok


def test_parts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot join"):
        merge(strassen(), laderman(), 0)
    with pytest.raises(ValueError, match="cannot join"):
        merge(strassen(), strassen().mod2(), 0)
    with pytest.raises(ValueError, match="cannot nest"):
        product(strassen(), strassen().mod2())
    with pytest.raises(SchemeError, match="format"):
        known_scheme((0, 2, 2))
