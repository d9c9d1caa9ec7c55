"""Hensel lifting of factor matrices: from right modulo 2 or 3 to right over the integers or the
rationals, for any tensor.

Write ``T - sum u (x) v (x) w = q^k E`` for integer factors that are right modulo q^k, with the
prime q = 2 or 3. Adding q^k x to the factors changes the sum by q^k J x modulo q^(k+1), where the
Jacobian J depends on the factors modulo q only. So each step is the linear system ``J x = E``
modulo q with one matrix, factored once (Kauers and Moosbauer 2022, section 5).

Signs first. Modulo 3 the signs of a ternary lift are known. Modulo 2 it has the same non-zero
entries, so its first step solves J x = E with J restricted to them. If that has no solution, no
ternary lift exists. If it has, the solutions are one coset of the null space; part of that only
re-signs rows and bases, and the rest is searched. Where signs do not suffice, entries that are zero
modulo q may become multiples of q, and fractions whose denominators q does not divide are
recognised by rational reconstruction.
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
from matrixrl.schemes.gf3 import TernarySystem, pack_planes
from matrixrl.schemes.scheme import MAX_ENTRY

Status = Literal["ternary", "integer", "rational", "none"]

_STEPS = {2: 44, 3: 28}
"""Digits of a lift, by prime: fractions up to about 2^22 over 2^22 are recognised, and modulo 2^64
the sums stay exact.
"""

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
      step: step at which the linear system had no solution (k: modulo q^(k+1)); None if it always
        had one.
      denominator: least common denominator of a rational lift, else 1.
      message: one line.
      fractions: (u, v, w) of fractions that sum to the tensor exactly; None unless rational.
    """

    status: Status
    factors: Factors | None
    step: int | None
    denominator: int
    message: str
    fractions: Factors | None = None


def lift_signs(
    target: np.ndarray, factors: Sequence[np.ndarray], *, seed: int = 0, prime: int = 2
) -> FactorLift:
    """Lifts by choosing signs only: a ternary lift or none, much faster than `lift_factors`, with
    the same arguments.
    """
    problem = _Problem(target, factors, prime)
    if prime == 3:
        if problem.is_exact(problem.flat):
            return FactorLift("ternary", problem.split(problem.flat), None, 1, _TERNARY)
        return FactorLift("none", None, None, 1, "no ternary lift in this basis")
    support = problem.unknowns(nonzero=True)
    rng = np.random.default_rng(seed)
    system = problem.system(support)
    assert isinstance(system, BinarySystem)
    signs, remark = _choose_signs(problem, support, system, rng)
    if signs is not None and problem.is_exact(signs):
        return FactorLift("ternary", problem.split(signs), None, 1, _TERNARY)
    return FactorLift("none", None, 1 if signs is None else None, 1, remark or "no ternary lift found")


def lift_factors(
    target: np.ndarray,
    factors: Sequence[np.ndarray],
    *,
    tries: int = 8,
    seed: int = 0,
    prime: int = 2,
    rational: bool = False,
) -> FactorLift:
    """Lifts factors of any integer tensor [a, b, c] from F2 or F3 to the integers, ternary if
    possible, or to the rationals.

    Args:
      target: the tensor, small integers.
      factors: u [R, a], v [R, b], w [R, c] of integers whose sum is the target modulo the prime.
      tries: number of starting points if the first does not lead to small integers: other signs,
        other free unknowns.
      seed: seed of the choice of starting points.
      prime: 2 or 3.
      rational: accept fractions: stop at the first lift of any kind.

    Returns:
      The outcome. Failure of step 1 proves that no lift exists for any coefficients; failure of a
      later step means only that these tries found none.
    """
    problem = _Problem(target, factors, prime)
    rng = np.random.default_rng(seed)
    support, zeros = problem.unknowns(nonzero=True), problem.unknowns(nonzero=False)
    system = problem.system(support)
    signs, remark = None, ""
    if isinstance(system, BinarySystem):
        signs, remark = _choose_signs(problem, support, system, rng)
    exact = problem.flat if signs is None else signs
    if problem.is_exact(exact):
        return FactorLift("ternary", problem.split(exact), None, 1, _TERNARY)

    unknowns = np.concatenate((support, zeros))
    problem.extend(system, zeros)
    best: FactorLift | None = None
    last = FactorLift(
        "none", None, None, 1, f"lifts modulo {prime}^{_STEPS[prime]}, but no fractions were recognised"
    )
    for attempt, start in enumerate(_starts(problem, signs, tries, rng)):
        if attempt and attempt % 4 == 0:  # other pivots: other unknowns are held fixed
            unknowns = np.concatenate((rng.permutation(support), rng.permutation(zeros)))
            system = problem.system(unknowns[: len(support)])
            problem.extend(system, unknowns[len(support) :])
        values, step = _hensel(problem, unknowns, system, start)
        if step == 1:  # E changes by some J x with the start, so this holds for every start
            return FactorLift("none", None, 1, 1, f"does not lift: no solution modulo {prime**2}")
        if values is None:
            modulus = prime ** ((step or 0) + 1)
            reason = f"not lifted in {tries} tries: no solution at step {step} (modulo {modulus})"
            last = FactorLift("none", None, step, 1, reason)
            continue
        outcome = _read_off(problem, values, remark)
        if outcome is not None and (best is None or _preference(outcome) < _preference(best)):
            best = outcome
        if best is not None and rational:
            break
        if best is not None and best.factors is not None and (_preference(best)[1] <= 2 or attempt >= 3):
            break
    return best or last


_TERNARY = "lifts to the integers with coefficients -1, 0, 1"


def _read_off(problem: _Problem, values: np.ndarray, remark: str) -> FactorLift | None:
    """Converts values modulo q^_STEPS to an outcome; None if no small fractions explain them."""
    if problem.is_exact(values) and np.abs(values).max() <= MAX_ENTRY:
        integers = problem.split(values)
    else:
        rows = problem.reconstruct(values)
        if rows is None:
            return None
        bottom = lcm(*(scale.denominator for scale, _ in rows))
        fractions = tuple(
            np.array(
                [[(scale if mode == 2 else 1) * entry for entry in vectors[mode]] for scale, vectors in rows],
                dtype=object,
            )
            for mode in range(3)
        )
        largest = max(abs(entry) for factor in fractions for entry in factor.flat)
        if largest > MAX_ENTRY or bottom > MAX_ENTRY:
            return None
        u, v, w = fractions
        if bottom > 1:
            message = f"lifts to Q with denominator {bottom}; no integer lift found"
            return FactorLift("rational", None, None, bottom, message, (u, v, w))
        integers = u.astype(np.int64), v.astype(np.int64), w.astype(np.int64)
    largest = _largest(integers)
    message = f"lifts to the integers with coefficients up to {largest}{'; ' * bool(remark)}{remark}"
    return FactorLift("ternary" if largest <= 1 else "integer", integers, None, 1, message)


def _preference(outcome: FactorLift) -> tuple[int, int]:
    """Returns a sort key, smaller is better: integers before fractions, then small coefficients."""
    if outcome.factors is None:
        return 1, outcome.denominator
    return 0, _largest(outcome.factors)


def _largest(factors: Factors) -> int:
    return max(int(np.abs(factor).max()) for factor in factors)


class _Problem:
    """The tensor and the factors modulo a prime q, with factors as one flat vector of values (u,
    then v, then w).

    Attributes:
      target: int64 [a, b, c].
      prime: q, 2 or 3.
      residues: the factors modulo q, int64 (u, v, w): 0 and 1, or -1, 0 and 1.
      flat: the same as one vector.
    """

    def __init__(self, target: np.ndarray, factors: Sequence[np.ndarray], prime: int = 2) -> None:
        self.target = np.asarray(target, dtype=np.int64)
        self.prime = prime
        lowest = prime // 2 - (prime == 2)
        u, v, w = ((np.asarray(factor, dtype=np.int64) + lowest) % prime - lowest for factor in factors)
        self.residues: Factors = (u, v, w)
        self.flat = np.concatenate([factor.ravel() for factor in self.residues])

    def split(self, values: np.ndarray) -> Factors:
        """Splits a flat vector into (u, v, w)."""
        u, v, w = self.residues
        parts = np.split(values, [u.size, u.size + v.size])
        return parts[0].reshape(u.shape), parts[1].reshape(v.shape), parts[2].reshape(w.shape)

    def unknowns(self, *, nonzero: bool) -> np.ndarray:
        """Returns flat indices of the entries that are not zero (or zero) modulo q."""
        return np.flatnonzero((self.flat != 0) == nonzero)

    def system(self, unknowns: np.ndarray) -> BinarySystem | TernarySystem:
        """Returns the factored Jacobian restricted to some unknowns."""
        system = (BinarySystem if self.prime == 2 else TernarySystem)(self.target.size)
        self.extend(system, unknowns)
        return system

    def extend(self, system: BinarySystem | TernarySystem, unknowns: np.ndarray) -> None:
        """Adds packed columns of the Jacobian modulo q: the derivative of the sum by each
        unknown.
        """
        u, v, w = (factor.astype(np.int8) for factor in self.residues)
        words = -(-self.target.size // 64)
        empty = (0, words) if self.prime == 2 else (0, 2, words)
        chunks = [np.zeros(empty, dtype=np.uint64)]
        for part in np.split(unknowns, range(256, len(unknowns), 256)):  # bounds the memory
            block = np.zeros((len(part), *self.target.shape), dtype=np.int8)
            start = 0
            for axis, factor in enumerate((u, v, w)):
                inside = np.flatnonzero((part >= start) & (part < start + factor.size))
                r, entry = np.divmod(part[inside] - start, factor.shape[1])
                start += factor.size
                if axis == 0:
                    block[inside, entry] = v[r, :, None] * w[r, None, :]
                elif axis == 1:
                    block[inside, :, entry] = u[r, :, None] * w[r, None, :]
                else:
                    block[inside, :, :, entry] = u[r, :, None] * v[r, None, :]
            flat = block.reshape(len(part), self.target.size)
            chunks.append(pack(flat) if self.prime == 2 else pack_planes(flat))
        system.add_columns(np.concatenate(chunks))

    def residual(self, values: np.ndarray) -> np.ndarray:
        """Computes target minus sum, flat: exact, or for q = 2 exact modulo 2^64 (int64 wraps
        around).
        """
        if self.prime != 2 and not self._fits(values):
            values = values.astype(object)
        u, v, w = self.split(values)
        products = (u[:, :, None] * v[:, None, :]).reshape(len(u), -1)
        return self.target.ravel() - (products.T @ w).ravel()

    def digit(self, values: np.ndarray, k: int) -> np.ndarray:
        """Returns E modulo q where the residual is q^k E."""
        residual = self.residual(values)
        if self.prime == 2:
            return (residual >> k) & 1
        return (residual // 3**k % 3).astype(np.int64)

    def is_exact(self, values: np.ndarray) -> bool:
        """Returns true if the factors sum to the target over the integers."""
        return self._fits(values) and not self.residual(values).any()

    def _fits(self, values: np.ndarray) -> bool:
        """Returns true if sums of products stay far below 2^63."""
        u, v, w = self.split(values)
        return len(u) * int(np.abs(u).max()) * int(np.abs(v).max()) * int(np.abs(w).max()) < 2**62

    def reconstruct(self, values: np.ndarray) -> list[tuple[Fraction, list[list[int]]]] | None:
        """Converts factors modulo q^_STEPS to rational ones that sum to the target exactly; None if
        there are none with small numerators and denominators.

        Returns:
          Each term as a fraction times three integer vectors, which are the given ones modulo q and
          have no common divisor that q does not divide.
        """
        modulus = self.prime ** _STEPS[self.prime]
        rows: list[tuple[Fraction, list[list[int]]]] = []
        for term in zip(*self.split(values), strict=True):
            scale, vectors = Fraction(1), []
            for vector in term:
                fractions = [_reconstruct(int(value), modulus) for value in vector]
                known = [fraction for fraction in fractions if fraction is not None]
                if len(known) < len(fractions):
                    return None
                bottom = lcm(*(fraction.denominator for fraction in known))
                integers = [int(fraction * bottom) for fraction in known]
                content = gcd(*integers) or 1
                while content % self.prime == 0:
                    content //= self.prime
                # The division keeps every residue: modulo 3 it must not change a sign.
                if (content - bottom) % self.prime:
                    content = -content
                scale *= Fraction(content, bottom)
                vectors.append([integer // content for integer in integers])
            rows.append((scale, vectors))
        return rows if self._sums_to_target(rows) else None

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
    for r in range(len(problem.residues[0])):
        for pair in ((0, 1), (1, 2)):
            factors = [np.zeros_like(factor) for factor in problem.residues]
            for mode in pair:
                factors[mode][r] = problem.residues[mode][r]
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
    """Yields starting points: the best signs, then the residues, then random changes of them:
    signs modulo 2, and modulo 3 -2 for 1 and 2 for -1 in one of ten entries.
    """
    if signs is not None:
        yield signs
    yield problem.flat
    for _ in range(tries - 1 - (signs is not None)):
        if problem.prime == 2:
            yield problem.flat * rng.choice((-1, 1), size=problem.flat.shape)
        else:
            yield problem.flat * rng.choice((1, -2), size=problem.flat.shape, p=(0.9, 0.1))


def _hensel(
    problem: _Problem, unknowns: np.ndarray, system: BinarySystem | TernarySystem, start: np.ndarray
) -> tuple[np.ndarray | None, int | None]:
    """Lifts from a start that is right modulo q to q^_STEPS, stopping early at an exact solution.

    Returns:
      The values and None, or None and the step k at which J x = E has no solution.
    """
    values = start.copy()
    for k in range(1, _STEPS[problem.prime]):
        if problem.is_exact(values):
            break
        digits = system.solve(problem.digit(values, k))
        if digits is None:
            return None, k
        if problem.prime == 3:
            values[unknowns] += digits.astype(np.int64) * 3**k
            continue
        changed = unknowns[np.flatnonzero(digits)]
        # of the two representatives modulo 2^(k+1), the one nearer to zero: 1 becomes -1, not 3
        values[changed] += np.where(values[changed] > 0, -(2**k), 2**k)
    return values, None


def _reconstruct(value: int, modulus: int) -> Fraction | None:
    """Returns the fraction a/b = value modulo a power of the prime, with |a| and b below the root
    of half of it (Wang 1981); None if none exists.
    """
    bound = isqrt(modulus // 2)
    r0, r1, t0, t1 = modulus, value % modulus, 0, 1
    while r1 > bound:
        quotient = r0 // r1
        r0, r1, t0, t1 = r1, r0 - quotient * r1, t1, t0 - quotient * t1
    if t1 == 0 or abs(t1) > bound or gcd(r1, t1) != 1:
        return None
    return Fraction(r1, t1)
