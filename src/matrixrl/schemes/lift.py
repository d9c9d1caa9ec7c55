"""Lifting of schemes from F2 to the integers, ternary if possible.

The first attempt chooses signs in the scheme's own basis. If they do not suffice, a sparse basis
nearly always has ternary signs (the problem is the same in every basis, but the non-zero entries
are not), and even entries, found digit by digit (`matrixrl.schemes.hensel`), solve most of the
rest. Every result is verified exactly before it is returned.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from matrixrl.schemes.hensel import Status, lift_factors, lift_signs
from matrixrl.schemes.problem import MatrixMultiplication
from matrixrl.schemes.scheme import Scheme, SchemeError
from matrixrl.schemes.symmetry import change_basis, inverse, random_basis, sparsify
from matrixrl.schemes.verify import verify


@dataclass(frozen=True)
class Lift:
    """Result of lifting a scheme from F2 to the integers.

    Attributes:
      status: ``ternary`` or ``integer`` with a scheme; ``rational`` if only fractions were found;
        ``none``.
      scheme: verified over the integers; None unless ternary or integer.
      same_basis: true if the scheme equals the input modulo 2; if false, it does so in another
        basis.
      step: step k, modulo 2^(k+1), at which the linear system had no solution; 1 proves that no
        lift exists. Else None.
      message: one line, a sentence for the user.
    """

    status: Status
    scheme: Scheme | None
    same_basis: bool
    step: int | None
    message: str

    def __bool__(self) -> bool:
        return self.scheme is not None


def lift(scheme: Scheme, *, any_basis: bool = False, tries: int = 8, seed: int = 0) -> Lift:
    """Lifts an F2 scheme to the integers.

    Args:
      scheme: over F2 and right modulo 2.
      any_basis: prefer a ternary scheme in another basis to larger coefficients in this one. It has
        the same format and rank and is often sparser, but equals the input scheme modulo 2 only
        after a change of basis.
      tries: number of starting points of the digit-by-digit lift, and of bases examined.
      seed: seed of their choice.

    Returns:
      The outcome; its scheme is verified over Z by `matrixrl.schemes.verify`.

    Raises:
      SchemeError: if the scheme is not over F2, or wrong modulo 2.
    """
    if scheme.ring != "F2":
        raise SchemeError(f"ring: {scheme.ring} given, only a scheme over F2 is lifted")
    check = verify(scheme)
    if not check:
        raise SchemeError(f"the scheme is not right modulo 2 ({check.message}), so it has no lift")
    target = scheme.problem.tensor()
    signs = lift_signs(target, scheme.factors, seed=seed)
    if signs.factors is not None:
        return _lifted(scheme, *signs.factors, message=signs.message)

    rng = np.random.default_rng(seed)
    moved = _lift_elsewhere(scheme, 1, rng)
    if any_basis and moved is not None:
        return moved[0]
    own = lift_factors(target, scheme.factors, tries=tries, seed=seed)
    if own.step == 1:
        return Lift("none", None, True, 1, own.message)
    if moved is None and (any_basis or own.factors is None):
        moved = _lift_elsewhere(scheme, tries, rng)
        if any_basis and moved is not None:
            return moved[0]
    found = [] if own.factors is None else [_lifted(scheme, *own.factors, message=own.message)]
    if moved is not None:
        found.append(moved[1])
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
    target = scheme.problem.tensor()
    for attempt in range(tries):
        bases = [np.eye(size, dtype=np.int64) for size in scheme.format]
        if attempt:
            bases = [random_basis(size, rng) for size in scheme.format]
        moved, steps = sparsify(change_basis(scheme, *bases))
        bases = [basis @ step for basis, step in zip(bases, steps, strict=True)]
        outcome = lift_signs(target, moved.factors)
        if outcome.factors is None:
            continue
        names = [basis.tolist() for basis in bases]
        there = _lifted(
            moved.with_provenance(change_of_basis=names),
            *outcome.factors,
            message=f"{outcome.message}, in another basis",
            same_basis=False,
        )
        assert there.scheme is not None
        back = change_basis(there.scheme, *(inverse(basis) for basis in bases))
        message = f"lifts to the integers with coefficients up to {back.max_coefficient}"
        return there, _lifted(scheme, *back.factors, message=message)
    return None


def _lifted(
    scheme: Scheme, u: np.ndarray, v: np.ndarray, w: np.ndarray, *, message: str, same_basis: bool = True
) -> Lift:
    """Returns a lift with its provenance, after the proof."""
    provenance = {**scheme.provenance, "lifted_from": "F2", "lift": message}
    lifted = Scheme(scheme.problem, "Z", u, v, w, provenance)
    proof = verify(lifted)
    if not proof or lifted.mod2() != scheme:
        raise AssertionError(f"lifting produced a wrong scheme: {proof.message}")
    return Lift("ternary" if lifted.is_ternary else "integer", lifted, same_basis, None, message)
