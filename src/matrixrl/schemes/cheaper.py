"""Search for a scheme of the same format and rank that needs fewer additions.

Simulated annealing on the number of additions that a quick reduction needs
(`matrixrl.schemes.reduction`). Its moves are

- changes of basis by one row operation: the result is equivalent to the scheme;
- flips, if they are allowed: two products with a common factor exchange a part,
  ``u (x) v1 (x) w1 + u (x) v2 (x) w2 = u (x) (v1 + c v2) (x) w1 + u (x) v2 (x) (w2 - c w1)``. The
  result is another algorithm of the same rank, or of a lower one if a product becomes zero.

Coefficients never exceed the largest one of the scheme. Every scheme that is returned is verified.
"""

from __future__ import annotations

import math
import random
import time
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from matrixrl.schemes.problem import MatrixMultiplication
from matrixrl.schemes.programs import MODULI, BilinearProgram
from matrixrl.schemes.reduction import MAX_RESTARTS, balanced, greedy_additions, reduced_program
from matrixrl.schemes.scheme import Scheme
from matrixrl.schemes.verify import verify

_HOTTEST, _COLDEST, _COLD = 4.0, 0.8, 0.2  # first temperatures of a round, and the last one, in additions
_SHORTEST, _LONGEST = 1_000, 64_000  # moves per round
_SLACK = 1  # additions above the best estimate at which a scheme is reduced more than once
_REPEATS = 6  # quick reductions per factor of such a scheme
_EVEN_CHANCE = 0.5
_BASIS_SHARE = 0.06  # of the moves that change a basis, where flips are allowed
_MAX_SEEN = 200_000  # factors whose estimates are kept


@dataclass(frozen=True)
class Cheaper:
    """The cheapest scheme found.

    Attributes:
      scheme: the scheme; the given one if none is cheaper.
      program: its straight-line program.
      moves: number of moves that were tried.
      seconds: duration of the search.
    """

    scheme: Scheme
    program: BilinearProgram
    moves: int
    seconds: float


def can_search(scheme: Scheme) -> bool:
    """Returns true if `find_cheaper` accepts a scheme: of matrices, correct, with rational
    coefficients.
    """
    of_matrices = isinstance(scheme.problem, MatrixMultiplication)
    return of_matrices and is_rational(scheme) and bool(verify(scheme))


def is_rational(scheme: Scheme) -> bool:
    """Returns true if all coefficients are integers or fractions."""
    return all(
        factor.dtype != object or all(isinstance(x, int | Fraction) for x in factor.ravel())
        for factor in scheme.factors
    )


def find_cheaper(
    scheme: Scheme,
    *,
    seconds: float = 10.0,
    seed: int = 0,
    flips: bool = False,
    target: int | None = None,
    max_moves: int | None = None,
) -> Cheaper:
    """Searches for a scheme with fewer additions.

    Args:
      scheme: a correct scheme.
      seconds: time limit.
      seed: seed of the random choices. The result also depends on the time limit.
      flips: also visits schemes that are not equivalent, by flips.
      target: stops at this number of additions.
      max_moves: stops after this number of moves.

    Raises:
      ValueError: if the scheme is wrong, or its coefficients are not rational.
    """
    if not is_rational(scheme):
        raise ValueError("the search needs rational coefficients")
    check = verify(scheme)
    if not check:
        raise ValueError(f"not a correct scheme: {check.message}")
    began = time.monotonic()
    deadline = began + seconds
    rng = random.Random(seed)
    best = scheme
    program = reduced_program(scheme, seconds=min(1.0, seconds / 4), seed=seed)
    state = _State(scheme, rng)
    start, estimate = state.copy(), state.cost
    length, step, hot = _SHORTEST, 0, _COLDEST
    moves = 0
    while time.monotonic() < deadline and (max_moves is None or moves < max_moves):
        if target is not None and program.num_additions <= target:
            break
        if step == length:
            step, length = 0, min(2 * length, _LONGEST)
            hot = rng.uniform(_COLDEST, _HOTTEST)
            state = start.copy()
        temperature = hot * (_COLD / hot) ** (step / length)
        moves, step = moves + 1, step + 1
        candidate = state.moved(flips)
        if candidate is None:
            continue
        gain = state.cost - candidate.cost
        shorter = candidate.rank < state.rank
        if not shorter and gain < 0 and rng.random() >= math.exp(gain / temperature):
            continue
        state = candidate
        if shorter:
            estimate = state.cost
        if state.cost > estimate + _SLACK or not state.refine():
            continue
        if shorter or state.cost <= estimate:
            estimate, start = state.cost, state.copy()
        if not shorter and state.cost >= program.num_additions:
            continue
        found = state.scheme(scheme)
        better = reduced_program(found, seconds=1.0, restarts=MAX_RESTARTS // 4, seed=rng.randrange(2**31))
        if (better.rank, better.num_additions) < (program.rank, program.num_additions):
            proof = verify(found)
            if not proof:
                raise AssertionError(f"a move produced a wrong scheme: {proof.message}")
            best, program, start = found, better, state.copy()
            length, step = _SHORTEST, 0
    return Cheaper(best, program, moves, time.monotonic() - began)


class _State:
    """Factor matrices during the search, with the estimated number of additions of each.

    Attributes:
      factors: u [R, n, m], v [R, m, p] and w [R, n, p].
      costs: estimates by factor.
    """

    def __init__(self, scheme: Scheme, rng: random.Random) -> None:
        n, m, p = scheme.format
        shapes = ((n, m), (m, p), (n, p))
        self.factors = [
            factor.reshape(len(factor), *shape).copy()
            for factor, shape in zip(scheme.factors, shapes, strict=True)
        ]
        self._sizes = (n, m, p)
        self._rng = rng
        self._modulus = MODULI.get(scheme.ring)
        self._largest = max(abs(factor).max() for factor in self.factors)
        self._seen: dict[tuple[int, object], int] = {}
        self._refined: set[tuple[int, object]] = set()
        self.costs = [self._cost_of(index) for index in range(3)]

    @property
    def rank(self) -> int:
        """Number of products."""
        return len(self.factors[0])

    @property
    def cost(self) -> int:
        """Estimated number of additions; the map to C is reduced through its transposed."""
        n, _, p = self._sizes
        return sum(self.costs) + self.rank - n * p

    def copy(self) -> _State:
        """Returns a copy that shares nothing that changes."""
        other = object.__new__(_State)
        other.__dict__.update(self.__dict__)
        other.factors = [factor.copy() for factor in self.factors]
        other.costs = list(self.costs)
        return other

    def refine(self) -> bool:
        """Improves the estimates by more reductions; returns false if they are as good as this
        gets.
        """
        keys = [self._key(index) for index in range(3)]
        if all(key in self._refined for key in keys):
            return False
        for index, key in enumerate(keys):
            if key not in self._refined:
                flat = self._matrix(index)
                repeated = [greedy_additions(flat, self._rng) for _ in range(_REPEATS)]
                self.costs[index] = min(self.costs[index], *repeated)
                self._seen[key] = self.costs[index]
                self._refined.add(key)
        return True

    def scheme(self, like: Scheme) -> Scheme:
        """Returns the scheme with the format, ring and provenance of another."""
        u, v, w = (factor.reshape(self.rank, -1) for factor in self.factors)
        return replace(like, u=u, v=v, w=w)

    def moved(self, flips: bool) -> _State | None:
        """Returns the state after a random move; None if the move is not possible."""
        other = self.copy()
        if flips and self._rng.random() >= _BASIS_SHARE:
            changed = other._flip()
        else:
            changed = other._shear()
        if not changed:
            return None
        for index in changed:
            factor = other.factors[index]
            if self._modulus:
                factor %= self._modulus
            elif abs(factor).max() > self._largest:
                return None
        nonzero = np.logical_and.reduce([(factor != 0).any(axis=(1, 2)) for factor in other.factors])
        if not nonzero.all():
            if not nonzero.any():
                return None
            other.factors = [factor[nonzero] for factor in other.factors]
            changed = (0, 1, 2)
        for index in changed:
            other.costs[index] = other._cost_of(index)
        return other

    def _key(self, index: int) -> tuple[int, object]:
        factor = self.factors[index]
        if factor.dtype == object:
            return index, tuple(factor.ravel().tolist())
        return index, factor.astype(np.int8 if self._largest < 128 else np.int64).tobytes()

    def _cost_of(self, index: int) -> int:
        key = self._key(index)
        cost = self._seen.get(key)
        if cost is None:
            if len(self._seen) > _MAX_SEEN:
                self._seen.clear()
                self._refined.clear()
            cost = self._seen[key] = greedy_additions(self._matrix(index), self._rng)
        return cost

    def _matrix(self, index: int) -> np.ndarray:
        return balanced(self.factors[index].reshape(self.rank, -1), self._modulus)

    def _sign(self) -> int:
        return 1 if self._modulus == 2 or self._rng.random() < _EVEN_CHANCE else -1

    def _shear(self) -> tuple[int, ...]:
        """Changes the basis of one side by a row operation, with the inverse on the other factor.

        The side of the rows is in u and w, the inner one in u and v, and that of the columns in v
        and w. Returns the indices of the changed factors, none if all sides are 1.
        """
        u, v, w = self.factors
        side = self._rng.choice([s for s in range(3) if self._sizes[s] > 1] or [-1])
        if side < 0:
            return ()
        i, j = self._rng.sample(range(self._sizes[side]), 2)
        sign = self._sign()
        if side == 0:
            u[:, j] += sign * u[:, i]
            w[:, i] -= sign * w[:, j]
            return 0, 2
        if side == 1:
            u[:, :, j] += sign * u[:, :, i]
            v[:, i] -= sign * v[:, j]
            return 0, 1
        v[:, :, j] += sign * v[:, :, i]
        w[:, :, i] -= sign * w[:, :, j]
        return 1, 2

    def _flip(self) -> tuple[int, ...]:
        """Exchanges a part between two products that share a factor up to sign.

        Returns the indices of the changed factors, none if no two products share one.
        """
        shared = self._rng.randrange(3)
        flat = self.factors[shared].reshape(self.rank, -1)
        if flat.dtype == object:
            return ()
        products = flat @ flat.T
        norms = np.diag(products)
        same = (products**2 == np.outer(norms, norms)) & (norms[:, None] == norms[None, :])
        np.fill_diagonal(same, False)
        first, second = np.nonzero(same)
        if len(first) == 0:
            return ()
        chosen = self._rng.randrange(len(first))
        r, s = int(first[chosen]), int(second[chosen])
        relation = 1 if products[r, s] > 0 else -1
        sign = self._sign()
        a, b = (index for index in range(3) if index != shared)
        if self._rng.random() < _EVEN_CHANCE:
            a, b = b, a
        self.factors[a][r] += sign * self.factors[a][s]
        self.factors[b][s] -= relation * sign * self.factors[b][r]
        return a, b
