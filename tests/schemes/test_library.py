from __future__ import annotations

import numpy as np
import pytest

from matrixrl.schemes.library import all_entries, find_entry, find_named_entry
from matrixrl.schemes.problem import MatrixMultiplication
from matrixrl.schemes.records import judge_scheme
from matrixrl.schemes.reduction import reduced_program
from matrixrl.schemes.scheme import SchemeError
from matrixrl.schemes.verify import verify


@pytest.mark.parametrize("entry", all_entries(), ids=lambda entry: entry.name)
def test_every_scheme_of_the_library_is_correct_and_says_how_it_was_found(entry) -> None:
    assert verify(entry.scheme), entry.name
    assert entry.name.startswith(f"{entry.scheme.problem}_rank{entry.scheme.rank}")
    assert entry.found_by.startswith(("matrixrl ", "the agent (matmul train", "benchmarks/"))
    record = judge_scheme(entry.scheme).record
    assert record is not None or not isinstance(entry.scheme.problem, MatrixMultiplication)
    assert (
        (record or 1) <= entry.scheme.rank < entry.scheme.problem.standard_rank
    )  # the ledger states the gap
    if entry.scheme.rank <= 11 and entry.additions is not None:
        program = reduced_program(entry.scheme, seconds=100, restarts=20)
        assert program.num_additions == entry.additions


def test_3x3x3_needs_58_additions() -> None:
    entry = find_entry((3, 3, 3))
    assert (entry.scheme.rank, entry.additions) == (23, 58)
    assert reduced_program(entry.scheme, seconds=100, restarts=30).num_additions == 58


def test_sides_come_in_the_order_that_is_asked_for() -> None:
    for fmt in ((2, 3, 4), (4, 2, 3), (3, 4, 2)):
        scheme = find_entry(fmt).scheme
        assert tuple(scheme.format) == fmt
        assert verify(scheme)


def test_the_ring_that_is_asked_for() -> None:
    assert find_entry((2, 2, 2), "F2").scheme.ring == "F2"
    assert np.isin(find_entry((2, 2, 2), "F2").scheme.u, (0, 1)).all()
    assert find_entry((2, 2, 2), "Z").scheme.ring == "Z"
    with pytest.raises(SchemeError, match="no scheme for 7x7x7; it has 2x2x2, 2x2x3"):
        find_entry((7, 7, 7))
    with pytest.raises(SchemeError, match="want three integers"):
        find_entry((0, 1, 1))


def test_families_are_in_the_library() -> None:
    entry = find_named_entry("quaternion")
    assert (entry.scheme.rank, entry.scheme.ring) == (8, "Z")
    assert entry.scheme.is_ternary
    assert find_named_entry("quaternion", "F2").scheme.ring == "F2"
    with pytest.raises(SchemeError, match="the library has no scheme for poly-9x9"):
        find_named_entry("poly-9x9")
    with pytest.raises(SchemeError, match="no such problem"):
        find_named_entry("nothing")
