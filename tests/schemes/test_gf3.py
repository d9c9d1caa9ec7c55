from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from matrixrl.schemes.gf3 import TernarySystem, add, pack_planes, unpack_planes


def test_every_pair_of_entries_is_added() -> None:
    left, right = (table.reshape(1, -1) for table in np.meshgrid([-1, 0, 1], [-1, 0, 1]))
    total = unpack_planes(add(pack_planes(left), pack_planes(right)), 9)
    assert np.array_equal(total, (left + right + 1) % 3 - 1)


@settings(max_examples=60, deadline=None)
@given(
    equations=st.integers(1, 90), columns=st.integers(1, 90), later=st.integers(0, 40),
    rank=st.integers(1, 30), seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_solutions_are_right_and_missing_only_where_there_is_none(
    equations: int, columns: int, later: int, rank: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    matrix = (rng.integers(0, 3, (equations, rank)) @ rng.integers(0, 3, (rank, columns + later))) % 3
    system = TernarySystem(equations)
    for part in (matrix[:, :columns], matrix[:, columns:]):
        system.add_columns(pack_planes(part.T))
    wanted = matrix @ rng.integers(0, 3, columns + later) % 3
    solution = system.solve(wanted)
    assert solution is not None
    assert np.array_equal(matrix @ solution % 3, wanted)
    free = sorted(set(range(columns + later)) - set(system.pivots))
    assert not solution[free].any()
    assert _rank(matrix[:, system.pivots]) == len(system.pivots) == _rank(matrix)
    other = rng.integers(0, 3, equations)
    solvable = _rank(np.column_stack((matrix, other))) == _rank(matrix)
    assert (system.solve(other) is not None) == solvable


def _rank(matrix: np.ndarray) -> int:
    """Plain elimination."""
    rows, rank = matrix.copy() % 3, 0
    for column in range(rows.shape[1]):
        below = [row for row in range(rank, len(rows)) if rows[row, column]]
        if not below:
            continue
        rows[[rank, below[0]]] = rows[[below[0], rank]]
        rows[rank] = rows[rank] * rows[rank, column] % 3
        for row in range(rank + 1, len(rows)):
            rows[row] = (rows[row] - rows[row, column] * rows[rank]) % 3
        rank += 1
    return rank
