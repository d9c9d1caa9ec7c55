"""Matrix-multiplication tensors and the two rings they are decomposed over."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Int8

Format = tuple[int, int, int]


class Ring(NamedTuple):
    """Ring of the coefficients of a factor.

    Attributes:
      modulus: 2 for F2, 0 for the integers.
      max_coefficient: largest absolute value of an entry over the integers: 1 (ternary) or 2.
    """

    modulus: int
    max_coefficient: int

    @property
    def name(self) -> str:
        """`F2` or `Z`."""
        return "F2" if self.modulus == 2 else "Z"

    @property
    def base(self) -> int:
        """Number of values of a factor entry."""
        return 2 if self.modulus == 2 else 2 * self.max_coefficient + 1

    @property
    def values(self) -> Int8[np.ndarray, "values"]:
        """Entry values by digit: digit d represents d modulo the base, so digit 0 is
        0.
        """
        digits = np.arange(self.base)
        return np.where(digits > self.base // 2, digits - self.base, digits).astype(np.int8)

    @property
    def primes(self) -> tuple[int, ...]:
        """Fields whose ranks describe a residual of this ring: F2, and F3 too over the integers."""
        return (2,) if self.modulus == 2 else (2, 3)


F2 = Ring(modulus=2, max_coefficient=1)
TERNARY = Ring(modulus=0, max_coefficient=1)
QUINARY = Ring(modulus=0, max_coefficient=2)


def ring(name: str, max_coefficient: int = 1) -> Ring:
    """Returns the ring called `name` (`Z` or `F2`)."""
    if name == "F2":
        return F2
    return Ring(modulus=0, max_coefficient=max_coefficient)


def matmul_tensor(size: Format, shape: Format | None = None) -> Int8[np.ndarray, "a b c"]:
    """Builds the tensor of (n x m) times (m x p), or zero-padded to `shape`.

    T[i*m+j, j*p+k, i*p+k] = 1 for i < n, j < m, k < p and 0 elsewhere: A, B and C are row-major and
    C = AB is **not** transposed (docs/matmul_method.md, section 1; some sources transpose C).
    """
    n, m, p = size
    tensor = np.zeros(shape or (n * m, m * p, n * p), np.int8)
    i, j, k = np.meshgrid(np.arange(n), np.arange(m), np.arange(p), indexing="ij")
    tensor[i * m + j, j * p + k, i * p + k] = 1
    return tensor


def standard_factors(
    size: Format,
) -> tuple[Int8[np.ndarray, "R a"], Int8[np.ndarray, "R b"], Int8[np.ndarray, "R c"]]:
    """Returns the schoolbook algorithm: nmp one-hot factors u, v and w."""
    n, m, p = size
    i, j, k = (axis.ravel() for axis in np.meshgrid(np.arange(n), np.arange(m), np.arange(p), indexing="ij"))
    eye = np.eye(max(n * m, m * p, n * p), dtype=np.int8)
    return eye[i * m + j, : n * m], eye[j * p + k, : m * p], eye[i * p + k, : n * p]
