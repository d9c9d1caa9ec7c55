"""A problem: the bilinear map that a scheme computes, given by its tensor.

A bilinear map z = f(x, y) with x in R^a, y in R^b and z in R^c has the tensor T [a, b, c] with
``z[k] = sum_ij T[i, j, k] x[i] y[j]``. A scheme of rank R for it are factors u [R, a], v [R, b], w
[R, c] with ``sum_r u[r] (x) v[r] (x) w[r] = T``. Matrix multiplication is the first kind of problem
(`MatrixMultiplication`), `matrixrl.schemes.families` has others, and `TensorProblem` holds any
tensor.

A problem states its map twice, and the tests compare both: as the tensor, which the game
decomposes, and as `multiply`, plain arithmetic that the proof of a scheme uses. So a mistake in one
cannot hide in the other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from matrixrl.schemes.scheme import Format, SchemeError, as_format, format_labels, shorten

Factors = tuple[np.ndarray, np.ndarray, np.ndarray]
Labels = tuple[list[str], list[str], list[str]]
Coefficients = Literal["rational", "integer", "ternary", "mod2", "mod3", "complex"]

MAX_MODE = 1024
"""Maximum number of entries of a mode: a bound against absurd files, far above practical sizes."""

MAX_VALUE = 127
"""Largest absolute value of an entry of a tensor: the int8 residual of the game holds it."""

MAX_TENSOR_SIZE = 2**18
"""Maximum number of entries of a tensor in a file."""


def coefficients_of_ring(ring: str) -> Coefficients:
    """Returns the class of coefficients in which a scheme over F2, or one over Z with coefficients
    -1, 0 and 1, competes.
    """
    return "mod2" if ring == "F2" else "ternary"


class Problem(ABC):
    """A bilinear map, its tensor, and what is known about it.

    Subclasses are immutable and hashable, and two problems are equal when they have the same class,
    name and tensor.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """Short name, unique among problems, which can be part of a file name: ``2x3x4``,
        ``poly-3x3``.
        """

    @property
    @abstractmethod
    def title(self) -> str:
        """The problem in words, for a heading."""

    @property
    @abstractmethod
    def sides(self) -> tuple[int, int, int]:
        """Lengths of the three modes: entries of x, y and z."""

    @property
    @abstractmethod
    def labels(self) -> Labels:
        """Names of the entries of x, y and z, in the order of the columns of u, v and w."""

    @abstractmethod
    def multiply(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Computes the map by plain arithmetic, without the tensor.

        Args:
          x: [a], integers or Python objects that can be added and multiplied.
          y: [b], likewise.

        Returns:
          z [c].
        """

    @abstractmethod
    def tensor(self) -> np.ndarray:
        """Returns T, int64 [a, b, c]; the caller may change the copy."""

    def nonzero(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the non-zero entries of the tensor in lexicographic order: places int64 [N, 3]
        and values int64 [N].
        """
        tensor = self.tensor()
        places = np.argwhere(tensor)
        return places, tensor[tuple(places.T)]

    def standard(self, modulus: int = 0, max_coefficient: int | None = None) -> Factors:
        """Returns the standard algorithm: one product for each pair of entries that the map
        multiplies.

        Products with the same x and y entry share one term, so the rank is the number of non-zero
        columns T[i, j, :], unless their entries are larger than `max_coefficient`.

        Args:
          modulus: 2 for the standard algorithm over F2, with entries 0 and 1.
          max_coefficient: largest absolute value of an entry of w. A column with larger entries
            becomes several terms.

        Returns:
          u int64 [R, a], v int64 [R, b], w int64 [R, c].
        """
        places, values = self.nonzero()
        if modulus:
            values = values % modulus
            places, values = places[values != 0], values[values != 0]
        _, b, c = self.sides
        products, index = np.unique(places[:, 0] * b + places[:, 1], return_inverse=True)
        w = np.zeros((len(products), c), np.int64)
        w[index, places[:, 2]] = values
        if max_coefficient is not None and np.abs(w).max(initial=0) > max_coefficient:
            pieces = -(-np.abs(w).max(axis=1) // max_coefficient)
            products = np.repeat(products, pieces)
            # Piece k of a column has what the k pieces before it have left over.
            number = np.concatenate([np.arange(count) for count in pieces])
            rest = np.maximum(np.abs(np.repeat(w, pieces, axis=0)) - number[:, None] * max_coefficient, 0)
            w = np.sign(np.repeat(w, pieces, axis=0)) * np.minimum(rest, max_coefficient)
        u, v = (np.zeros((len(products), side), np.int64) for side in self.sides[:2])
        u[np.arange(len(products)), products // b] = 1
        v[np.arange(len(products)), products % b] = 1
        return u, v, w

    @cached_property
    def standard_rank(self) -> int:
        """Number of products of the standard algorithm."""
        places, _ = self.nonzero()
        return len(np.unique(places[:, 0] * self.sides[1] + places[:, 1]))

    def known(self) -> Factors | None:
        """Returns the factors of a published algorithm with fewer products than the standard one;
        None without one.
        """
        return None

    def best_known_rank(self, coefficients: Coefficients) -> int | None:
        """Returns the lowest publicly known rank with these coefficients, or None if none is
        recorded.
        """
        return None

    @property
    def symmetries(self) -> tuple[str, ...]:
        """Names of the transformations that map schemes of this problem to schemes of a problem of
        the same kind.
        """
        return ()

    @property
    def letters(self) -> str:
        """One letter each for x, y and z, with which their entries' names begin."""
        return "".join(labels[0][0] for labels in self.labels)

    @property
    def row_lengths(self) -> tuple[int, int, int]:
        """Number of entries in a row of x, y and z, for pictures; all of them if they are
        vectors.
        """
        return self.sides

    def to_record(self) -> dict[str, Any]:
        """Returns the entries of a scheme file that identify the problem."""
        return {"problem": self.name}

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Problem):
            return NotImplemented
        # Another class may have other arithmetic, which the proof of a scheme depends on.
        if (type(self), self.name, self.sides) != (type(other), other.name, other.sides):
            return False
        return all(np.array_equal(*pair) for pair in zip(self.nonzero(), other.nonzero(), strict=True))

    def __hash__(self) -> int:
        return hash((self.name, self.sides))

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, eq=False)
class MatrixMultiplication(Problem):
    """C = A B with A n x m and B m x p, all row-major; C is **not** transposed.

    Attributes:
      format: (n, m, p).
    """

    format: Format

    def __post_init__(self) -> None:
        object.__setattr__(self, "format", as_format(tuple(self.format)))

    @property
    def name(self) -> str:
        """``2x3x4``."""
        return str(self.format)

    @property
    def title(self) -> str:
        """The product in words."""
        n, m, p = self.format
        return f"({n}x{m}) times ({m}x{p}) matrices"

    @property
    def sides(self) -> tuple[int, int, int]:
        """nm, mp and np."""
        return self.format.sides

    @property
    def labels(self) -> Labels:
        """``A11``, ``B11``, ``C11`` and so on."""
        return format_labels(self.format)

    def multiply(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Multiplies the matrices A [nm] and B [mp]; returns C [np]."""
        n, m, p = self.format
        return (x.reshape(n, m) @ y.reshape(m, p)).reshape(n * p)

    def nonzero(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the nmp entries, all 1, without the dense tensor."""
        n, m, p = self.format
        i, j, k = (index.ravel() for index in np.indices((n, m, p)))
        places = np.stack((i * m + j, j * p + k, i * p + k), axis=1)
        return places, np.ones(len(places), np.int64)

    def tensor(self) -> np.ndarray:
        """Returns T[i*m + j, j*p + k, i*p + k] = 1, int64 [nm, mp, np] (docs/matmul_method.md,
        section 1).
        """
        target = np.zeros(self.sides, dtype=np.int64)
        places, values = self.nonzero()
        target[tuple(places.T)] = values
        return target

    @property
    def row_lengths(self) -> tuple[int, int, int]:
        """Columns of A, B and C."""
        _, m, p = self.format
        return m, p, p

    def known(self) -> Factors | None:
        """Returns the best factors that `matrixrl.schemes.known` composes."""
        from matrixrl.schemes.known import known_scheme

        return known_scheme(self.format).factors

    def best_known_rank(self, coefficients: Coefficients) -> int | None:
        """Returns the rank in the table of records; a format with a side of 1 needs nmp
        products.
        """
        from matrixrl.schemes.records import find_record

        if min(self.format) == 1:
            return self.format.naive_rank
        row = find_record(self.format)
        return None if row is None else row.rank(coefficients)

    @property
    def symmetries(self) -> tuple[str, ...]:
        """Symmetries: rotation and transposition change the format unless sides are equal; changes
        of basis keep it.
        """
        return "rotation", "transposition", "change of basis"

    def to_record(self) -> dict[str, Any]:
        """Returns the field `format`, which scheme files have had from the beginning."""
        return {"format": list(self.format)}

    def __eq__(self, other: object) -> bool:
        if isinstance(other, MatrixMultiplication):
            return self.format == other.format
        return super().__eq__(other)

    __hash__ = Problem.__hash__


def as_problem(value: Problem | Sequence[int]) -> Problem:
    """Returns a problem; a format (n, m, p) becomes matrix multiplication.

    Raises:
      SchemeError: if it is neither.
    """
    if isinstance(value, Problem):
        return value
    return MatrixMultiplication(as_format(value if isinstance(value, list | tuple) else [value]))


def format_of(problem: Problem) -> Format:
    """Returns the format of matrix multiplication.

    Raises:
      SchemeError: if it is another problem.
    """
    if isinstance(problem, MatrixMultiplication):
        return problem.format
    raise SchemeError(f"a scheme for {problem} has no format n x m x p; want one that multiplies matrices")


@dataclass(frozen=True, eq=False)
class TensorProblem(Problem):
    """Any tensor, such as one that was read from a file.

    Attributes:
      given_name: the name.
      entries: int64 [a, b, c], read-only.
    """

    given_name: str
    entries: np.ndarray
    _labels: Labels | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "entries", checked_tensor(self.entries, self.given_name))

    @property
    def name(self) -> str:
        """As given."""
        return self.given_name

    @property
    def title(self) -> str:
        """The shape in words."""
        return f"a tensor of shape {'x'.join(map(str, self.sides))}"

    @property
    def sides(self) -> tuple[int, int, int]:
        """The shape."""
        a, b, c = self.entries.shape
        return a, b, c

    @cached_property
    def labels(self) -> Labels:
        """``x1``, ``y1``, ``z1`` and so on, unless names were given."""
        if self._labels is not None:
            return self._labels
        x, y, z = (
            [f"{letter}{i + 1}" for i in range(side)] for letter, side in zip("xyz", self.sides, strict=True)
        )
        return x, y, z

    def multiply(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Computes z entry by entry from the tensor's non-zero entries, in Python numbers."""
        z: list[Any] = [0] * self.sides[2]
        places, values = self.nonzero()
        for (i, j, k), value in zip(places.tolist(), values.tolist(), strict=True):
            z[k] = z[k] + value * (x[i] * y[j])
        result = np.empty(len(z), dtype=object)
        result[:] = z
        return result

    def tensor(self) -> np.ndarray:
        """Returns a copy of the entries."""
        return self.entries.copy()

    def to_record(self) -> dict[str, Any]:
        """Returns name and entries, since no table has them."""
        return {"problem": self.name, "tensor": self.entries.tolist()}


def checked_tensor(values: Any, name: str = "tensor") -> np.ndarray:
    """Returns a target as a read-only int64 array [a, b, c].

    Raises:
      SchemeError: if it does not have three modes of 1 to `MAX_MODE` entries, holds something other
        than integers of at most 127 in absolute value, or is zero.
    """
    prefix = f"{name}: " if name else ""
    array = np.asarray(values)
    if array.ndim != 3 or not all(1 <= side <= MAX_MODE for side in array.shape):
        raise SchemeError(
            f"{prefix}shape {list(array.shape)} given, want three modes of 1 to {MAX_MODE} entries each"
        )
    if array.size > MAX_TENSOR_SIZE:
        raise SchemeError(f"{prefix}{array.size:,} entries, want at most {MAX_TENSOR_SIZE:,}")
    if array.dtype.kind == "f" and np.isfinite(array).all() and (array == np.round(array)).all():
        array = array.astype(np.int64)
    if array.dtype.kind not in "iub":
        raise SchemeError(f"{prefix}entries are {array.dtype}, want integers")
    if array.max() > MAX_VALUE or array.min() < -MAX_VALUE:
        raise SchemeError(
            f"{prefix}an entry is beyond {MAX_VALUE}, the largest that the game's int8 residual holds"
        )
    if not array.any():
        raise SchemeError(f"{prefix}every entry is zero, so nothing is to be decomposed")
    array = array.astype(np.int64)
    array.setflags(write=False)
    return array


def parse_size(text: str) -> Format:
    """Returns the format that a text such as ``2x3x4`` names.

    Raises:
      SchemeError: if it is no such text.
    """
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(part.isascii() and part.isdecimal() for part in parts):
        raise SchemeError(f"size {shorten(text)}: want n x m x p, such as 2x3x4")
    return as_format([int(part) for part in parts])
