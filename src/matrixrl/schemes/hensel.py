"""Hensel lifting of factor matrices: from right modulo 2 to right over the integers, for any
tensor.

Write ``T - sum u (x) v (x) w = 2^k E`` for integer factors that are right modulo 2^k. Adding 2^k x
to the factors changes the sum by 2^k J x modulo 2^(k+1), where the Jacobian J depends on the
factors modulo 2 only. So each step is the linear system ``J x = E`` modulo 2 with one matrix,
factored once (Kauers and Moosbauer 2022, section 5).

Signs first: a ternary lift has the same non-zero entries, so its first step solves J x = E with J
restricted to them. If that has no solution, no ternary lift exists. If it has, the solutions are
one coset of the null space; part of that only re-signs rows and bases, and the rest is searched.
Where signs do not suffice, entries that are zero modulo 2 may become even numbers, and fractions
with odd denominators are recognised by rational reconstruction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from math import gcd, isqrt, lcm
from typing import Literal

import numpy as np

from matrixrl.schemes.gf2 import BinarySystem, pack
from matrixrl.schemes.scheme import MAX_ENTRY

Status = Literal["ternary", "integer", "rational", "none"]

_STEPS = (
    44  # 2-adic digits; fractions up to about 2^22 over 2^22 are recognised, and sums stay exact modulo 2^64
)
_COSET_BITS = 8  # up to this many free signs are tried exhaustively
_SIGN_TRIALS = 400  # sign patterns tried when there are more

Factors = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class FactorLift:
    """Result of lifting factor matrices of any integer tensor.

    Attributes:
      status: ``ternary``, ``integer`` or ``rational`` by the coefficients of the lift, ``none``
        without a lift.
      factors: int64 (u, v, w) that sum to the tensor exactly; None unless ternary or integer.
      step: step at which the linear system had no solution (k: modulo 2^(k+1)); None if it always
        had one.
      denominator: least common denominator of a rational lift, else 1.
      message: one line.
    """

    status: Status
    factors: Factors | None
    step: int | None
    denominator: int
    message: str


def lift_signs(target: np.ndarray, factors: Sequence[np.ndarray], *, seed: int = 0) -> FactorLift:
    """Lifts by choosing signs only: a ternary lift or none, much faster than `lift_factors`, with
    the same arguments.
    """
    problem = _Problem(target, factors)
    support = problem.unknowns(nonzero=True)
    rng = np.random.default_rng(seed)
    signs, remark = _choose_signs(problem, support, problem.system(support), rng)
    if signs is not None and problem.is_exact(signs):
        return FactorLift("ternary", problem.split(signs), None, 1, _TERNARY)
    return FactorLift("none", None, 1 if signs is None else None, 1, remark or "no ternary lift found")


def lift_factors(
    target: np.ndarray, factors: Sequence[np.ndarray], *, tries: int = 8, seed: int = 0
) -> FactorLift:
    """Lifts factors of any integer tensor [a, b, c] from F2 to the integers, ternary if possible.

    Args:
      target: the tensor, small integers.
      factors: u [R, a], v [R, b], w [R, c] with entries 0 and 1, whose sum is the target modulo 2.
      tries: number of starting points if the first does not lead to small integers: other signs,
        other free unknowns.
      seed: seed of the choice of starting points.

    Returns:
      The outcome. Failure of step 1 proves that no lift exists for any coefficients; failure of a
      later step means only that these tries found none.
    """
    problem = _Problem(target, factors)
    rng = np.random.default_rng(seed)
    support, zeros = problem.unknowns(nonzero=True), problem.unknowns(nonzero=False)
    system = problem.system(support)
    signs, remark = _choose_signs(problem, support, system, rng)
    if signs is not None and problem.is_exact(signs):
        return FactorLift("ternary", problem.split(signs), None, 1, _TERNARY)

    unknowns = np.concatenate((support, zeros))
    system.add_columns(problem.columns(zeros))
    best: FactorLift | None = None
    last = FactorLift("none", None, None, 1, f"lifts modulo 2^{_STEPS}, but no fractions were recognised")
    for attempt, start in enumerate(_starts(problem, signs, tries, rng)):
        if attempt and attempt % 4 == 0:  # other pivots: other unknowns are held fixed
            unknowns = np.concatenate((rng.permutation(support), rng.permutation(zeros)))
            system = problem.system(unknowns[: len(support)])
            system.add_columns(problem.columns(unknowns[len(support) :]))
        values, step = _hensel(problem, unknowns, system, start)
        if step == 1:  # E changes by some J x with the start, so this holds for every start
            return FactorLift("none", None, 1, 1, "does not lift: no solution modulo 4")
        if values is None:
            reason = (
                f"not lifted in {tries} tries: no solution at step {step} (modulo {2 ** ((step or 0) + 1)})"
            )
            last = FactorLift("none", None, step, 1, reason)
            continue
        outcome = _read_off(problem, values, remark)
        if outcome is not None and (best is None or _preference(outcome) < _preference(best)):
            best = outcome
        if best is not None and best.factors is not None and (_preference(best)[1] <= 2 or attempt >= 3):
            break
    return best or last


_TERNARY = "lifts to the integers with coefficients -1, 0, 1"


def _read_off(problem: _Problem, values: np.ndarray, remark: str) -> FactorLift | None:
    """Converts values modulo 2^_STEPS to an outcome; None if no small fractions explain them."""
    integers, denominator = problem.clear_denominators(values)
    if integers is not None:
        largest = _largest(integers)
        message = f"lifts to the integers with coefficients up to {largest}{'; ' * bool(remark)}{remark}"
        return FactorLift("ternary" if largest <= 1 else "integer", integers, None, 1, message)
    if denominator is not None:
        message = f"lifts to Q with denominator {denominator}; no integer lift found"
        return FactorLift("rational", None, None, denominator, message)
    return None


def _preference(outcome: FactorLift) -> tuple[int, int]:
    """Returns a sort key, smaller is better: integers before fractions, then small coefficients."""
    if outcome.factors is None:
        return 1, outcome.denominator
    return 0, _largest(outcome.factors)


def _largest(factors: Factors) -> int:
    return max(int(np.abs(factor).max()) for factor in factors)


class _Problem:
    """The tensor and the factors modulo 2, with factors as one flat vector of values (u, then v,
    then w).

    Attributes:
      target: int64 [a, b, c].
      bits: the factors modulo 2, int64 (u, v, w).
      flat: the same as one vector.
    """

    def __init__(self, target: np.ndarray, factors: Sequence[np.ndarray]) -> None:
        self.target = np.asarray(target, dtype=np.int64)
        u, v, w = (np.asarray(factor, dtype=np.int64) % 2 for factor in factors)
        self.bits: Factors = (u, v, w)
        self.flat = np.concatenate([factor.ravel() for factor in self.bits])

    def split(self, values: np.ndarray) -> Factors:
        """Splits a flat vector into (u, v, w)."""
        u, v, w = self.bits
        parts = np.split(values, [u.size, u.size + v.size])
        return parts[0].reshape(u.shape), parts[1].reshape(v.shape), parts[2].reshape(w.shape)

    def unknowns(self, *, nonzero: bool) -> np.ndarray:
        """Returns flat indices of the entries that are one (or zero) modulo 2."""
        return np.flatnonzero(self.flat == int(nonzero))

    def system(self, unknowns: np.ndarray) -> BinarySystem:
        """Returns the factored Jacobian restricted to some unknowns."""
        system = BinarySystem(self.target.size)
        system.add_columns(self.columns(unknowns))
        return system

    def columns(self, unknowns: np.ndarray) -> np.ndarray:
        """Returns packed columns of the Jacobian modulo 2: the derivative of the sum by each
        unknown.
        """
        u, v, w = (factor.astype(bool) for factor in self.bits)
        chunks = [np.zeros((0, -(-self.target.size // 64)), dtype=np.uint64)]
        for part in np.split(unknowns, range(256, len(unknowns), 256)):  # bounds the memory
            block = np.zeros((len(part), *self.target.shape), dtype=bool)
            start = 0
            for axis, factor in enumerate((u, v, w)):
                inside = np.flatnonzero((part >= start) & (part < start + factor.size))
                r, entry = np.divmod(part[inside] - start, factor.shape[1])
                start += factor.size
                if axis == 0:
                    block[inside, entry] = v[r, :, None] & w[r, None, :]
                elif axis == 1:
                    block[inside, :, entry] = u[r, :, None] & w[r, None, :]
                else:
                    block[inside, :, :, entry] = u[r, :, None] & v[r, None, :]
            chunks.append(pack(block.reshape(len(part), self.target.size)))
        return np.concatenate(chunks)

    def residual(self, values: np.ndarray) -> np.ndarray:
        """Computes target minus sum, flat, exact modulo 2^64 (int64 wraps around)."""
        u, v, w = self.split(values)
        products = (u[:, :, None] * v[:, None, :]).reshape(len(u), -1)
        return self.target.ravel() - (products.T @ w).ravel()

    def is_exact(self, values: np.ndarray) -> bool:
        """Returns true if the factors sum to the target over the integers."""
        u, v, w = self.split(values)
        bound = len(u) * int(np.abs(u).max()) * int(np.abs(v).max()) * int(np.abs(w).max())
        return bound < 2**62 and not self.residual(values).any()

    def clear_denominators(self, values: np.ndarray) -> tuple[Factors | None, int | None]:
        """Converts factors modulo 2^_STEPS to integer factors, or returns the remaining
        denominator; (None, None) if neither exists.

        Each term is written as a fraction times three integer vectors without common odd divisor.
        """
        if self.is_exact(values) and np.abs(values).max() <= MAX_ENTRY:
            return self.split(values), 1
        rows: list[tuple[Fraction, list[list[int]]]] = []
        for term in zip(*self.split(values), strict=True):
            scale, vectors = Fraction(1), []
            for vector in term:
                fractions = [_reconstruct(int(value)) for value in vector]
                known = [fraction for fraction in fractions if fraction is not None]
                if len(known) < len(fractions):
                    return None, None
                bottom = lcm(*(fraction.denominator for fraction in known))
                integers = [int(fraction * bottom) for fraction in known]
                content = gcd(*integers) or 1
                content //= content & -content  # even factors stay: the reduction modulo 2 must not change
                scale *= Fraction(content, bottom)
                vectors.append([integer // content for integer in integers])
            rows.append((scale, vectors))
        if not self._sums_to_target(rows):
            return None, None
        denominator = lcm(*(scale.denominator for scale, _ in rows))
        largest = max(abs(scale) * max(map(abs, vectors[2])) for scale, vectors in rows)
        if denominator > 1 or largest > MAX_ENTRY:
            return None, denominator
        u, v = (np.array([vectors[mode] for _, vectors in rows], dtype=np.int64) for mode in (0, 1))
        w = np.array(
            [[int(scale) * entry for entry in vectors[2]] for scale, vectors in rows], dtype=np.int64
        )
        return (u, v, w), 1

    def _sums_to_target(self, rows: list[tuple[Fraction, list[list[int]]]]) -> bool:
        """Checks the sum exactly over the rationals, in Python integers."""
        common = reduce(lcm, (scale.denominator for scale, _ in rows), 1)
        u, v = (np.array([vectors[mode] for _, vectors in rows], dtype=object) for mode in (0, 1))
        w = np.array([[int(scale * common) * x for x in vectors[2]] for scale, vectors in rows], dtype=object)
        products = (u[:, :, None] * v[:, None, :]).reshape(len(rows), -1)
        return bool(((products.T @ w).ravel() == common * self.target.ravel().astype(object)).all())


def _choose_signs(
    problem: _Problem, support: np.ndarray, system: BinarySystem, rng: np.random.Generator
) -> tuple[np.ndarray | None, str]:
    """Chooses signs for the non-zero entries: right over the integers if such are found, else right
    modulo 4.

    Returns:
      The flat factors with entries -1, 0, 1, or None if no signs are right modulo 4; and a remark
      if it is proved that no ternary lift exists.
    """
    base = system.solve((problem.residual(problem.flat) >> 1) & 1)
    if base is None:
        return None, "no ternary lift in this basis"

    def signed(flips: np.ndarray) -> np.ndarray:
        values = problem.flat.copy()
        values[support] = 1 - 2 * flips.astype(np.int64)
        return values

    best = signed(base)
    error = np.abs(problem.residual(best)).sum()
    if error == 0:
        return best, ""
    free = _free_signs(problem, support, system)
    exhaustive = len(free) <= _COSET_BITS
    patterns = _all_patterns(len(free)) if exhaustive else _random_walk(len(free), rng)
    flips = base
    for pattern in patterns:
        trial = flips ^ (pattern @ free % 2).astype(np.uint8)
        values = signed(trial)
        trial_error = np.abs(problem.residual(values)).sum()
        if trial_error == 0:
            return values, ""
        if trial_error <= error:
            best, error = values, trial_error
            flips = flips if exhaustive else trial
    return best, "no ternary lift in this basis" if exhaustive else ""


def _free_signs(problem: _Problem, support: np.ndarray, system: BinarySystem) -> np.ndarray:
    """Returns null vectors modulo those that cannot affect whether a lift is exact: uint8 [free,
    len(support)].

    Flipping two factors of one term changes nothing. (Signs of the bases also change nothing for
    matrix multiplication, but this function works for any tensor and keeps them.)
    """
    trivial = []
    for r in range(len(problem.bits[0])):
        for pair in ((0, 1), (1, 2)):
            factors = [np.zeros_like(factor) for factor in problem.bits]
            for mode in pair:
                factors[mode][r] = problem.bits[mode][r]
            trivial.append(np.concatenate([factor.ravel() for factor in factors])[support])
    null = system.null_space()
    quotient = BinarySystem(len(support))
    quotient.add_columns(pack(np.array(trivial)))
    quotient.add_columns(pack(null))
    chosen = [number - len(trivial) for number in quotient.pivots if number >= len(trivial)]
    return null[chosen]


def _all_patterns(num_bits: int) -> Iterator[np.ndarray]:
    """Yields every non-zero pattern of bits."""
    for number in range(1, 2**num_bits):
        yield np.array([number >> bit & 1 for bit in range(num_bits)])


def _random_walk(num_bits: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yields single random bits, and occasionally three at once."""
    for trial in range(_SIGN_TRIALS):
        pattern = np.zeros(num_bits, dtype=np.int64)
        pattern[rng.integers(num_bits, size=1 + (trial % 4 == 3) * 2)] = 1
        yield pattern


def _starts(
    problem: _Problem, signs: np.ndarray | None, tries: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Yields starting points: the best signs, then all plus, then random signs."""
    if signs is not None:
        yield signs
    yield problem.flat
    for _ in range(tries - 1 - (signs is not None)):
        yield problem.flat * rng.choice((-1, 1), size=problem.flat.shape)


def _hensel(
    problem: _Problem, unknowns: np.ndarray, system: BinarySystem, start: np.ndarray
) -> tuple[np.ndarray | None, int | None]:
    """Lifts from a start that is right modulo 2 to 2^_STEPS, stopping early at an exact solution.

    Returns:
      The values and None, or None and the step k at which J x = E has no solution.
    """
    values = start.copy()
    for k in range(1, _STEPS):
        if problem.is_exact(values):
            break
        right = (problem.residual(values) >> k) & 1
        digits = system.solve(right)
        if digits is None:
            return None, k
        changed = unknowns[np.flatnonzero(digits)]
        # of the two representatives modulo 2^(k+1), the one nearer to zero: 1 becomes -1, not 3
        values[changed] += np.where(values[changed] > 0, -(2**k), 2**k)
    return values, None


def _reconstruct(value: int) -> Fraction | None:
    """Returns the fraction a/b = value modulo 2^_STEPS with |a|, b below 2^((_STEPS - 1)/2) (Wang
    1981); None if none exists.
    """
    modulus = 2**_STEPS
    bound = isqrt(modulus // 2)
    r0, r1, t0, t1 = modulus, value % modulus, 0, 1
    while r1 > bound:
        quotient = r0 // r1
        r0, r1, t0, t1 = r1, r0 - quotient * r1, t1, t0 - quotient * t1
    if t1 == 0 or abs(t1) > bound or gcd(r1, t1) != 1:
        return None
    return Fraction(r1, t1)
