"""Lifting of schemes from F2 and F3 to the integers, ternary if possible, or to the rationals.

The first attempt chooses signs in the scheme's own basis. If they do not suffice, a sparse basis
nearly always has ternary signs (the problem is the same in every basis, but the non-zero entries
are not), and larger entries, found digit by digit (`matrixrl.schemes.hensel`), solve most of the
rest. Every result is verified exactly before it is returned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from matrixrl.schemes.hensel import Status, lift_factors, lift_signs
from matrixrl.schemes.problem import MatrixMultiplication
from matrixrl.schemes.rings import MODULUS
from matrixrl.schemes.scheme import Scheme, SchemeError
from matrixrl.schemes.symmetry import change_basis, inverse, random_basis, sparsify
from matrixrl.schemes.verify import verify

LiftRing = Literal["Z", "Q"]


@dataclass(frozen=True)
class Lift:
    """Result of lifting a scheme from F2 or F3 to the integers or the rationals.

    Attributes:
      status: ``ternary`` or ``integer`` with a scheme; ``rational`` if only fractions were found;
        ``none``.
      scheme: verified over its ring; None unless ternary or integer, or rational and asked for.
      same_basis: true if the scheme equals the input modulo the prime; if false, it does so in
        another basis.
      step: step k, modulo q^(k+1) for the prime q, at which the linear system had no solution; 1
        proves that no lift exists. Else None.
      message: one line, a sentence for the user.
    """

    status: Status
    scheme: Scheme | None
    same_basis: bool
    step: int | None
    message: str

    def __bool__(self) -> bool:
        return self.scheme is not None


def lift(
    scheme: Scheme, *, to: LiftRing = "Z", any_basis: bool = False, tries: int = 8, seed: int = 0
) -> Lift:
    """Lifts an F2 or F3 scheme to the integers or the rationals.

    Args:
      scheme: over F2 or F3 and right there.
      to: ``Z``, or ``Q`` to accept fractions where no integers are found.
      any_basis: prefer a ternary scheme in another basis to larger coefficients in this one. It has
        the same format and rank and is often sparser, but equals the input scheme modulo the prime
        only after a change of basis.
      tries: number of starting points of the digit-by-digit lift, and of bases examined.
      seed: seed of their choice.

    Returns:
      The outcome; its scheme is verified over its ring by `matrixrl.schemes.verify`.

    Raises:
      SchemeError: if the scheme is not over F2 or F3, or wrong there.
    """
    if scheme.ring not in MODULUS:
        raise SchemeError(f"ring: {scheme.ring} given, only a scheme over F2 or F3 is lifted")
    prime = MODULUS[scheme.ring]
    check = verify(scheme)
    if not check:
        raise SchemeError(f"the scheme is not right modulo {prime} ({check.message}), so it has no lift")
    target = scheme.problem.tensor()
    signs = lift_signs(target, scheme.factors, seed=seed, prime=prime)
    if signs.factors is not None:
        return _lifted(scheme, signs.factors, message=signs.message)

    rng = np.random.default_rng(seed)
    moved = _lift_elsewhere(scheme, 1, rng)
    if any_basis and moved is not None:
        return moved[0]
    own = lift_factors(target, scheme.factors, tries=tries, seed=seed, prime=prime, rational=to == "Q")
    if own.step == 1:
        return Lift("none", None, True, 1, own.message)
    if moved is None and (any_basis or own.factors is None):
        moved = _lift_elsewhere(scheme, tries, rng)
        if any_basis and moved is not None:
            return moved[0]
    found = [] if own.factors is None else [_lifted(scheme, own.factors, message=own.message)]
    if moved is not None:
        found.append(moved[1])
    if not found and to == "Q" and own.fractions is not None:
        return _lifted(scheme, own.fractions, message=own.message)
    if not found:
        return Lift(own.status, None, True, own.step, own.message)
    return min(found, key=lambda outcome: outcome.scheme.max_coefficient if outcome.scheme else 0)


def _lift_elsewhere(scheme: Scheme, tries: int, rng: np.random.Generator) -> tuple[Lift, Lift] | None:
    """Finds a ternary lift in a sparse basis, and the same lift in the scheme's own basis; None if
    none is found.

    The first try sparsifies the scheme in its own basis, later ones start from random bases.
    """
    if not isinstance(scheme.problem, MatrixMultiplication):
        return None
    target, prime = scheme.problem.tensor(), MODULUS[scheme.ring]
    for attempt in range(tries):
        bases = [np.eye(size, dtype=np.int64) for size in scheme.format]
        if attempt:
            bases = [random_basis(size, rng) for size in scheme.format]
        moved, steps = sparsify(change_basis(scheme, *bases))
        bases = [basis @ step for basis, step in zip(bases, steps, strict=True)]
        outcome = lift_signs(target, moved.factors, prime=prime)
        if outcome.factors is None:
            continue
        names = [basis.tolist() for basis in bases]
        there = _lifted(
            moved.with_provenance(change_of_basis=names),
            outcome.factors,
            message=f"{outcome.message}, in another basis",
            same_basis=False,
        )
        assert there.scheme is not None
        back = change_basis(there.scheme, *(inverse(basis) for basis in bases))
        message = f"lifts to the integers with coefficients up to {back.max_coefficient}"
        return there, _lifted(scheme, back.factors, message=message)
    return None


def _lifted(scheme: Scheme, factors: Sequence[np.ndarray], *, message: str, same_basis: bool = True) -> Lift:
    """Returns a lift with its provenance, after the proof."""
    provenance = {**scheme.provenance, "lifted_from": scheme.ring, "lift": message}
    u, v, w = factors
    lifted = Scheme(scheme.problem, None, u, v, w, provenance)
    proof = verify(lifted)
    if not proof or lifted.modulo(scheme.ring) != scheme:
        raise AssertionError(f"lifting produced a wrong scheme: {proof.message}")
    status: Status = "ternary" if lifted.is_ternary else "integer" if lifted.is_integral else "rational"
    return Lift(status, lifted, same_basis, None, message)
