"""Problems: the tensor and the plain arithmetic of each are the same bilinear map."""

from __future__ import annotations

import numpy as np
import pytest

from matrixrl.schemes.families import family_names, problem_named
from matrixrl.schemes.problem import MatrixMultiplication, Problem, TensorProblem, checked_tensor, parse_size
from matrixrl.schemes.scheme import Format, SchemeError

NAMES = [
    "1x1x1", "2x3x4", "poly-1x1", "poly-2x3", "poly-4x4", "cyclic-1", "cyclic-4", "conv-2x3", "complex", "quaternion",
    "gram-3x2", "symmetric-3x2", "triangular-3x2", "skew-4",
]  # fmt: skip


@pytest.fixture(params=NAMES)
def problem(request: pytest.FixtureRequest) -> Problem:
    return problem_named(request.param)


def test_the_tensor_is_the_arithmetic(problem: Problem) -> None:
    rng = np.random.default_rng(0)
    a, b, c = problem.sides
    for _ in range(5):
        x, y = rng.integers(-9, 10, a), rng.integers(-9, 10, b)
        z = problem.multiply(x, y)
        assert z.shape == (c,)
        assert z.tolist() == np.einsum("ijk,i,j->k", problem.tensor(), x, y).tolist()


def test_the_standard_algorithm_sums_to_the_tensor(problem: Problem) -> None:
    u, v, w = problem.standard()
    assert (np.einsum("ra,rb,rc->abc", u, v, w) == problem.tensor()).all()
    assert problem.standard_rank == len(u)


def test_labels_name_every_entry_once(problem: Problem) -> None:
    for labels, side in zip(problem.labels, problem.sides, strict=True):
        assert len(labels) == len(set(labels)) == side


def test_names_find_the_problem_again(problem: Problem) -> None:
    assert problem_named(problem.name) == problem
    assert hash(problem_named(problem.name)) == hash(problem)
    assert set(problem.name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


def test_no_known_rank_is_above_the_standard_one(problem: Problem) -> None:
    for coefficients in ("rational", "integer", "ternary", "mod2"):
        rank = problem.best_known_rank(coefficients)
        assert rank is None or 1 <= rank <= problem.standard_rank


def test_karatsuba_and_skew_are_as_published() -> None:
    assert problem_named("poly-2x2").best_known_rank("mod2") == 3
    assert problem_named("skew-4").best_known_rank("ternary") == 9
    assert problem_named("skew-4").standard_rank == 12
    assert problem_named("3x3x3").best_known_rank("ternary") == 23


def test_matrices_multiply_as_numpy_does() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.integers(-5, 5, (2, 3)), rng.integers(-5, 5, (3, 4))
    product = MatrixMultiplication(Format(2, 3, 4)).multiply(a.ravel(), b.ravel())
    assert product.tolist() == (a @ b).ravel().tolist()


def test_quaternions_multiply_as_hamilton_wrote() -> None:
    product = problem_named("quaternion").multiply
    i, j, k = np.eye(4, dtype=int)[1:]
    assert product(i, j).tolist() == k.tolist()
    assert product(j, i).tolist() == (-k).tolist()
    for unit in (i, j, k):
        assert product(unit, unit).tolist() == [-1, 0, 0, 0]


def test_any_tensor_is_a_problem() -> None:
    problem = TensorProblem("mine", np.arange(8).reshape(2, 2, 2))
    assert problem.multiply(np.array([1, 2]), np.array([3, 4])).tolist() == [
        int(sum(problem.entries[i, j, k] * [1, 2][i] * [3, 4][j] for i in (0, 1) for j in (0, 1)))
        for k in (0, 1)
    ]
    assert problem != TensorProblem("mine", np.ones((2, 2, 2), int))
    assert not problem.entries.flags.writeable


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (np.zeros((2, 2)), "three modes"),
        (np.zeros((2, 2, 2), int), "zero"),
        (np.full((2, 2, 2), 0.5), "integers"),
        (np.full((2, 2, 2), np.nan), "integers"),
        (np.full((2, 2, 2), 128), "127"),
        (np.full((2, 2, 2), "a"), "integers"),
        (np.ones((0, 2, 2), int), "three modes"),
    ],
)
def test_impossible_tensors_are_refused(values: np.ndarray, says: str) -> None:
    with pytest.raises(SchemeError, match=says):
        checked_tensor(values)


@pytest.mark.parametrize(
    "name",
    ["", "poly", "poly-2", "poly-2x2x2", "skew-1", "complex-2", "0x1x1", "poly-99x2", "cyclic-x", "2x2"],
)
def test_unknown_names_are_refused_with_all_names(name: str) -> None:
    with pytest.raises(SchemeError):
        problem_named(name)


def test_every_family_is_described() -> None:
    assert all("," in line for line in family_names())
    assert parse_size("2x3x4") == Format(2, 3, 4)
