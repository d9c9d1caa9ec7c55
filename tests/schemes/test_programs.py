from __future__ import annotations

import random
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matrixrl.schemes.cheaper import find_cheaper
from matrixrl.schemes.formulas import num_additions
from matrixrl.schemes.known import known_scheme, laderman, standard, strassen, winograd
from matrixrl.schemes.programs import BilinearProgram, LinearProgram, ProgramBuilder, Step, Term
from matrixrl.schemes.reduction import greedy_additions, reduce_matrix, reduced_additions, reduced_program
from matrixrl.schemes.scheme import Scheme
from matrixrl.schemes.verify import verify
from tests.schemes.strategies import correct_schemes, factor_schemes


@st.composite
def matrices(draw: st.DrawFn) -> np.ndarray:
    rows, columns = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    entries = draw(
        st.sampled_from(
            [
                st.integers(-1, 1),
                st.integers(-3, 3),
                st.builds(Fraction, st.integers(-3, 3), st.sampled_from([1, 2, 3])),
            ]
        )
    )
    values = draw(st.lists(entries, min_size=rows * columns, max_size=rows * columns))
    exact = any(isinstance(value, Fraction) for value in values)
    return np.array(values, dtype=object if exact else np.int64).reshape(rows, columns)


@settings(max_examples=80)
@given(matrix=matrices(), seed=st.integers(0, 99))
def test_a_reduced_matrix_is_the_same_matrix_with_at_most_as_many_additions(
    matrix: np.ndarray, seed: int
) -> None:
    program = reduce_matrix(matrix, seconds=0.02, restarts=2, rng=random.Random(seed))
    assert program.matrix() == matrix.tolist()
    naive = int(np.maximum((matrix != 0).sum(axis=1) - 1, 0).sum())
    assert program.num_additions <= naive
    assert greedy_additions(matrix, random.Random(seed)) <= naive


@settings(max_examples=40)
@given(matrix=matrices())
def test_the_transposed_program_computes_the_transposed_matrix(matrix: np.ndarray) -> None:
    program = reduce_matrix(matrix, seconds=0.01, restarts=1, rng=random.Random(0))
    turned = program.transposed()
    assert turned.matrix() == matrix.T.tolist()
    if (matrix != 0).any(axis=0).all() and (matrix != 0).any(axis=1).all():
        # Tellegen: without zero rows and columns the difference is that of the sizes.
        assert turned.num_additions - program.num_additions == matrix.shape[0] - matrix.shape[1]


def test_steps_start_without_a_minus() -> None:
    builder = ProgramBuilder(2)
    total = builder.add(Term(0, -1), Term(1, -1))
    difference = builder.add(Term(0, -1), Term(1, 1))
    assert (total.scale, difference.scale) == (-1, 1)
    program = builder.build([total, difference])
    assert program.steps == (
        Step(Term(0, 1), Term(1, 1)),
        Step(Term(1, 1), Term(0, -1)),
    )
    assert program.matrix() == [[-1, -1], [-1, 1]]
    assert program.evaluate([5, 7]) == [-12, 2]


def test_zero_rows_and_unused_inputs() -> None:
    matrix = np.array([[0, 0, 0], [0, 1, 0]])
    program = reduce_matrix(matrix, seconds=0.01, restarts=1, rng=random.Random(0))
    assert program.outputs[0] is None
    assert program.num_additions == 0
    assert program.transposed().matrix() == matrix.T.tolist()


@settings(max_examples=40)
@given(scheme=factor_schemes())
def test_the_program_of_any_scheme_is_checked_against_its_factors(scheme: Scheme) -> None:
    program = reduced_program(scheme, seconds=0.02, restarts=2)
    program.check(scheme)
    assert program.num_additions <= num_additions(scheme)


def test_a_program_that_computes_something_else_is_refused() -> None:
    program = reduced_program(strassen(), seconds=0.05)
    first = program.left.steps[0]
    wrong = replace(first, second=Term(first.second.value, -first.second.scale))
    left = LinearProgram(4, (wrong, *program.left.steps[1:]), program.left.outputs)
    broken = BilinearProgram(program.problem, program.ring, left, program.right, program.result)
    with pytest.raises(AssertionError, match="factor u"):
        broken.check(strassen())


def test_additions_of_the_classics() -> None:
    def shared(scheme: Scheme) -> int:
        return reduced_program(scheme, seconds=100, restarts=12).num_additions

    assert shared(standard((2, 2, 2))) == 4
    assert shared(strassen()) == 18  # its seven products share no sum
    assert shared(winograd()) == 15
    assert shared(winograd().mod2()) == 15
    assert shared(laderman()) == 62


def test_the_reduced_additions_of_a_scheme_are_those_of_the_cheapest_equivalent_one() -> None:
    assert reduced_additions(strassen(), seconds=60) == 15
    wrong = replace(strassen(), u=np.abs(strassen().u))
    assert reduced_additions(wrong, seconds=0.1) == 18  # a wrong scheme has no equivalent ones


@pytest.mark.parametrize("scheme", [strassen(), strassen().mod2()], ids=["Z", "F2"])
def test_strassen_needs_15_additions_in_another_basis(scheme: Scheme) -> None:
    found = find_cheaper(scheme, seconds=60, target=15)
    assert found.program.num_additions == 15
    assert found.scheme.rank == 7
    assert verify(found.scheme)
    found.program.check(found.scheme)


@settings(max_examples=10)
@given(scheme=correct_schemes(), flips=st.booleans(), seed=st.integers(0, 99))
def test_every_move_leads_to_a_correct_scheme(scheme: Scheme, flips: bool, seed: int) -> None:
    from matrixrl.schemes.cheaper import _State

    state = _State(scheme, random.Random(seed))
    for _ in range(30):
        state = state.moved(flips) or state
    found = state.scheme(scheme)
    assert verify(found)
    assert found.rank <= scheme.rank
    assert found.max_coefficient <= scheme.max_coefficient


def test_flips_shorten_the_standard_algorithm() -> None:
    found = find_cheaper(standard((2, 2, 2)), seconds=60, flips=True, seed=3, max_moves=300)
    assert verify(found.scheme)
    assert found.scheme.rank <= 8
    assert (found.scheme.rank, found.program.num_additions) <= (8, 4)


def test_a_wrong_scheme_is_not_searched() -> None:
    wrong = replace(strassen(), u=np.abs(strassen().u))
    with pytest.raises(ValueError, match="not a correct scheme"):
        find_cheaper(wrong, seconds=0.1)


def test_large_formats_take_the_time_limit() -> None:
    scheme = known_scheme((4, 4, 4))
    assert reduced_program(scheme, seconds=0.0).num_additions < num_additions(scheme)
