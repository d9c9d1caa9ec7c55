from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from matrixrl.schemes.gf2 import BinarySystem, pack, unpack


def plain_rank(matrix: np.ndarray) -> int:
    """Rank over F2, with Python integers."""
    basis: dict[int, int] = {}
    for row in matrix:
        value = int("".join(map(str, row.astype(int))), 2) if len(row) else 0
        while value and value.bit_length() in basis:
            value ^= basis[value.bit_length()]
        if value:
            basis[value.bit_length()] = value
    return len(basis)


@st.composite
def systems(draw: st.DrawFn) -> tuple[list[np.ndarray], BinarySystem]:
    """Columns in a few groups (each row of an array is a column of J), and the system made of them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    equations = draw(st.integers(1, 150))
    density = draw(st.sampled_from([0.02, 0.2, 0.5]))
    sizes = draw(st.lists(st.integers(0, 130), min_size=1, max_size=3))
    groups = [(rng.random((size, equations)) < density).astype(np.uint8) for size in sizes]
    for group in groups:
        group[3:5] = group[:2] if len(group) >= 5 else group[3:5]  # dependent columns
    system = BinarySystem(equations)
    for group in groups:
        system.add_columns(pack(group))
    return groups, system


@settings(max_examples=80, deadline=None)
@given(made=systems(), seed=st.integers(0, 2**32 - 1))
def test_a_system_is_solved_exactly_when_it_can_be(
    made: tuple[list[np.ndarray], BinarySystem], seed: int
) -> None:
    groups, system = made
    columns = np.concatenate(groups).astype(np.int64)
    rng = np.random.default_rng(seed)
    solvable = rng.integers(0, 2, len(columns)) @ columns % 2
    for right in (solvable, rng.integers(0, 2, columns.shape[1])):
        solution = system.solve(right)
        augmented = np.concatenate((columns, right[None]))
        assert (solution is None) == (plain_rank(augmented) > plain_rank(columns))
        if solution is not None:
            assert np.array_equal(solution @ columns % 2, right)
            assert set(np.flatnonzero(solution)) <= set(system.pivots)


@settings(max_examples=80, deadline=None)
@given(made=systems())
def test_rank_null_space_and_the_preference_for_early_columns(
    made: tuple[list[np.ndarray], BinarySystem],
) -> None:
    groups, system = made
    columns = np.concatenate(groups).astype(np.int64)
    null = system.null_space().astype(np.int64)
    assert len(system.pivots) == plain_rank(columns) == plain_rank(columns[system.pivots])
    assert null.shape == (len(columns) - len(system.pivots), len(columns))
    assert plain_rank(null) == len(null)
    assert not (null @ columns % 2).any()
    from_first = sum(pivot < len(groups[0]) for pivot in system.pivots)
    assert from_first == plain_rank(groups[0])


@given(st.integers(0, 200), st.integers(1, 200))
@settings(max_examples=30, deadline=None)
def test_packing_round_trips(rows: int, width: int) -> None:
    bits = np.random.default_rng(rows * 1000 + width).integers(0, 2, (rows, width)).astype(np.uint8)
    assert np.array_equal(unpack(pack(bits), width), bits)
