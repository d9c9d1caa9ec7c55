from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matrixrl.schemes.known import laderman, standard, strassen
from matrixrl.schemes.library import all_entries
from matrixrl.schemes.neighbours import (
    best_seed,
    combine,
    extend,
    merge,
    neighbours,
    product,
    project,
    sort_sides,
    standard_scheme,
)
from matrixrl.schemes.rings import RINGS
from matrixrl.schemes.scheme import Format, Scheme
from matrixrl.schemes.symmetry import change_basis, random_basis, reorder
from matrixrl.schemes.verify import verify
from tests.schemes.strategies import correct_schemes, rescaled

SIDES = st.integers(0, 2)


@settings(max_examples=30, deadline=None)
@given(scheme=correct_schemes(), ring=st.sampled_from(RINGS), side=SIDES, count=st.integers(1, 2))
def test_an_extended_scheme_is_correct_in_every_ring(
    scheme: Scheme, ring: str, side: int, count: int
) -> None:
    scheme = rescaled(scheme, ring)
    longer = extend(scheme, side, count)
    others = [size for s, size in enumerate(scheme.format) if s != side]
    assert verify(longer).ok
    assert longer.ring == scheme.ring
    assert longer.format[side] == scheme.format[side] + count
    assert longer.rank == scheme.rank + count * others[0] * others[1]


@settings(max_examples=30, deadline=None)
@given(scheme=correct_schemes(), ring=st.sampled_from(RINGS), side=SIDES, ternary=st.booleans())
def test_a_projected_scheme_is_correct_in_every_ring(
    scheme: Scheme, ring: str, side: int, ternary: bool
) -> None:
    scheme = rescaled(scheme, ring)
    size = scheme.format[side]
    if size == 1:
        with pytest.raises(ValueError, match="cannot delete"):
            project(scheme, side)
        return
    best = project(scheme, side, ternary=ternary)
    plain = [project(scheme, side, index) for index in range(size)]
    for shorter in (best, *plain):
        assert verify(shorter).ok, verify(shorter).message
        assert shorter.ring == scheme.ring
        assert shorter.format[side] == size - 1
        assert shorter.rank <= scheme.rank
    if not ternary:
        assert best.rank == min(best.rank, *(shorter.rank for shorter in plain))


def test_the_deleted_row_or_column_is_zero() -> None:
    scheme = laderman()
    shorter = project(scheme, 0, 1)
    kept = [row for row in range(3) if row != 1]
    u = scheme.u.reshape(-1, 3, 3)[:, kept].reshape(23, -1)
    assert all(any(np.array_equal(row, other) for other in u) for row in shorter.u)
    assert shorter.rank == 16
    with pytest.raises(ValueError, match="index 3 given, want 0 to 2"):
        project(scheme, 2, 3)


def test_extending_and_deleting_again_gives_the_scheme_back_in_any_basis() -> None:
    rng = np.random.default_rng(0)
    above = []
    for base in (strassen(), laderman().mod2(), laderman().modulo("F3")):
        for side in range(3):
            longer = extend(base, side)
            ring = "F2" if base.ring == "F2" else "Z"
            hidden = change_basis(longer, *(random_basis(size, rng, ring) for size in longer.format))
            assert project(longer, side).rank == base.rank
            # no single row of the hidden scheme has to be the added one, but a direction is
            assert project(hidden, side).rank == base.rank
            above.append(project(hidden, side, directions=False).rank - base.rank)
    assert max(above) >= 4


@settings(max_examples=25, deadline=None)
@given(scheme=correct_schemes(largest=2), ring=st.sampled_from(RINGS), side=SIDES, data=st.data())
def test_merging_adds_ranks_and_multiplying_multiplies_them(
    scheme: Scheme, ring: str, side: int, data: st.DataObject
) -> None:
    first = rescaled(scheme, ring)
    sizes = list(scheme.format)
    sizes[side] = data.draw(st.integers(1, 2))
    second = rescaled(standard(sizes), ring)
    joined, nested = merge(first, second, side), product(first, second)
    assert joined.rank == first.rank + second.rank
    assert nested.rank == first.rank * second.rank
    assert tuple(nested.format) == tuple(a * b for a, b in zip(first.format, second.format, strict=True))
    for made in (joined, nested):
        assert verify(made).ok
        assert made.ring == first.ring


def test_rings_of_characteristic_zero_join_in_the_larger_one() -> None:
    halves = rescaled(strassen(), "Z[1/2]")
    for made in (merge(strassen(), halves, 0), product(halves, strassen())):
        assert made.ring == "Z[1/2]"
        assert verify(made).ok
    with pytest.raises(ValueError, match="cannot join"):
        merge(strassen().mod2(), strassen().modulo("F3"), 1)


@settings(max_examples=15, deadline=None)
@given(scheme=correct_schemes(), ring=st.sampled_from(RINGS))
def test_the_sides_are_sorted_and_brought_back(scheme: Scheme, ring: str) -> None:
    scheme = rescaled(scheme, ring)
    for order in set(permutations(scheme.format)):
        image = reorder(scheme, Format(*order))
        assert list(sort_sides(image).format) == sorted(order)
        assert verify(sort_sides(image)).ok
        back = reorder(sort_sides(image), image.format)
        assert back.format == image.format
        assert verify(back).ok


@settings(max_examples=30, deadline=None)
@given(scheme=correct_schemes(), ring=st.sampled_from(RINGS), seed=st.integers(0, 2**32 - 1))
def test_products_that_were_split_are_joined_again(scheme: Scheme, ring: str, seed: int) -> None:
    scheme = rescaled(scheme, ring)
    rng = np.random.default_rng(seed)
    third, row = int(rng.integers(3)), int(rng.integers(scheme.rank))
    factors = [np.concatenate((factor, factor[row : row + 1])) for factor in scheme.factors]
    part = rng.integers(0, 2, factors[third].shape[1])
    factors[third][row] = factors[third][row] * part
    factors[third][-1] = factors[third][-1] * (1 - part)
    split = replace(scheme, u=factors[0], v=factors[1], w=factors[2])
    assert combine(split).rank <= scheme.rank
    assert verify(combine(split)).ok


def test_joins_that_leave_the_ternary_coefficients_are_optional() -> None:
    doubled = Scheme((1, 1, 1), "Z", [[1], [1], [-1]], [[1], [1], [1]], [[1], [1], [1]])
    assert combine(doubled).w.tolist() == [[1]]
    twice = Scheme((1, 1, 1), "Z", [[1], [1]], [[1], [-1]], [[1], [-1]])
    assert combine(twice).rank == 1
    assert combine(twice, ternary=True) == twice


def test_neighbours_have_one_side_changed_by_one() -> None:
    found = list(neighbours(strassen(), max_side=3))
    assert [tuple(scheme.format) for scheme in found] == [
        (3, 2, 2), (1, 2, 2), (2, 3, 2), (2, 1, 2), (2, 2, 3), (2, 2, 1),
    ]  # fmt: skip
    assert [scheme.rank for scheme in found] == [11, 4, 11, 4, 11, 4]
    assert all(verify(scheme) for scheme in found)
    assert all(max(scheme.format) <= 2 for scheme in neighbours(strassen(), max_side=2))


def test_the_best_seed_is_composed_of_all_schemes_given() -> None:
    seeds = [strassen(), laderman()]
    for fmt, rank in {
        (2, 2, 2): 7,
        (3, 2, 2): 11,
        (4, 4, 4): 49,
        (4, 5, 4): 65,
        (2, 3, 3): 16,
        (6, 6, 6): 161,
        (1, 5, 2): 10,
    }.items():
        seed = best_seed(fmt, seeds)
        assert (tuple(seed.format), seed.rank) == (fmt, rank)
        assert verify(seed).ok
    assert best_seed((2, 3, 4), []) == standard((2, 3, 4))


def test_the_best_seed_may_come_from_a_larger_format() -> None:
    large = product(strassen(), strassen())
    assert best_seed((3, 4, 4), [large]).rank == project(large, 0).rank == 42
    assert verify(best_seed((4, 3, 4), [large])).ok
    # A part that the collection lacks comes from it as well; one that it has is taken as it is.
    wide = extend(strassen(), 2)
    assert best_seed((2, 2, 4), [wide]).rank == 7 + 7
    assert best_seed((2, 2, 4), [wide, standard((2, 2, 2))]).rank == 11 + 4
    assert best_seed((2, 2, 2), [wide, standard((2, 2, 2))]).rank == 7


def test_the_ring_of_the_best_seed_is_kept() -> None:
    mixed = [laderman(), strassen().mod2(), strassen()]
    over_f2 = best_seed((4, 2, 2), mixed, ring="F2")
    assert (over_f2.ring, over_f2.rank) == ("F2", 14)
    assert best_seed((2, 2, 2), [strassen().mod2()], ring="Z").rank == 8
    doubled = replace(strassen(), u=2 * strassen().u, w=strassen().w)
    assert best_seed((2, 2, 2), [doubled], ternary=True).rank == 8
    assert best_seed((2, 2, 2), [strassen()], include_own=False).rank == 8


def test_the_library_seeds_larger_formats_over_both_rings() -> None:
    library = [entry.scheme for entry in all_entries()]
    for fmt in [(2, 3, 5), (3, 4, 5)]:
        for ring in ("F2", "Z"):
            seed = best_seed(fmt, library, ring=ring)
            assert verify(seed).ok
            assert seed.ring == ring
            assert seed.rank < standard_scheme(fmt).rank
