"""Equivalence of schemes: up to order and signs of products, or up to all symmetries.

Two solutions are equal when they have the same rank-one terms; they are in one class when a
symmetry of the problem maps one to the other. Classes are counted with a canonical form: the least
image, in a fixed order, under the group

- over F2: all changes of basis GL(n, 2) x GL(m, 2) x GL(p, 2),
- over other rings: signed permutations of the rows and columns of A, B and C (the whole group is
  infinite),

and in both cases rotations and transposition where sides are equal.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from itertools import permutations, product
from math import factorial, gcd, lcm, prod

import numpy as np

from matrixrl.schemes.problem import MatrixMultiplication
from matrixrl.schemes.rings import ComplexRational, Number, parts, simplify
from matrixrl.schemes.scheme import Format, Ring, Scheme
from matrixrl.schemes.symmetry import format_images, reorder

MAX_GROUP = 30_000_000
"""Largest group that is enumerated: 3x3x3 over F2 (28 million, seconds per scheme) is included,
4x4x4 is not.
"""

_MAX_SLICE = 8_000_000  # images of terms processed in one NumPy call


def canonical_terms(scheme: Scheme) -> Scheme:
    """Normalises the rank-one terms: u and v without common divisor and with a positive first
    non-zero entry.

    The remaining factor goes to w; a term with a zero factor is all zeros; terms are sorted.
    """
    nonzero = np.all([factor.any(axis=1) for factor in scheme.factors], axis=0)
    u, v, w = (factor * nonzero[:, None] for factor in scheme.factors)
    if not scheme.is_integral:
        return _canonical_fractions(scheme)
    if scheme.ring != "F2":
        for factor in (u, v):
            content = np.gcd.reduce(factor, axis=1)
            scale = np.where(content == 0, 1, content) * _first_signs(factor)
            factor //= scale[:, None]
            w *= scale[:, None]
    order = np.lexsort(np.concatenate((u, v, w), axis=1).T[::-1])
    return replace(scheme, u=u[order], v=v[order], w=w[order])


def _canonical_fractions(scheme: Scheme) -> Scheme:
    """Returns `canonical_terms` of a scheme with fractions: u and v are integers without common
    divisor, or for complex numbers start with 1.
    """
    terms = []
    for row in zip(*scheme.factors, strict=True):
        vectors = [list(vector) for vector in row]
        if not all(any(vector) for vector in vectors):
            terms.append([[0] * len(vector) for vector in vectors])
            continue
        for index in (0, 1):
            scale = _content_of(vectors[index])
            vectors[index] = [simplify(value / scale) for value in vectors[index]]
            vectors[2] = [simplify(value * scale) for value in vectors[2]]
        terms.append(vectors)
    terms.sort(key=lambda term: [parts(value) for vector in term for value in vector])
    u, v, w = ([term[mode] for term in terms] for mode in range(3))
    return replace(scheme, u=u, v=v, w=w)


def _content_of(vector: list[Number]) -> Fraction | ComplexRational:
    """Returns the number by which a non-zero vector is divided to be primitive, with its sign."""
    first = next(value for value in vector if value)
    if any(isinstance(value, ComplexRational) for value in vector):
        return ComplexRational(*parts(first))
    fractions = [Fraction(value) for value in vector]  # pyright: ignore[reportArgumentType, reportCallIssue]
    bottom = lcm(*(value.denominator for value in fractions))
    content = Fraction(gcd(*(int(value * bottom) for value in fractions)), bottom)
    return content if first > 0 else -content  # pyright: ignore[reportOperatorIssue]


def same_terms(first: Scheme, second: Scheme) -> bool:
    """Returns true if two schemes differ only in the order of their products and in signs within
    them.
    """
    return canonical_terms(first) == canonical_terms(second)


def group_order(format: Format, ring: Ring) -> int:
    """Returns the number of symmetries that `canonical_form` enumerates."""
    turns = sum(image == tuple(format) for image in permutations(format))
    if ring == "F2":
        return turns * prod(prod(2**size - 2**k for k in range(size)) for size in format)
    return turns * prod(2**size * factorial(size) for size in format)


def can_classify(scheme: Scheme) -> bool:
    """Returns true if `canonical_form` can be computed: the scheme multiplies matrices, whose
    symmetries are known, their group is small enough, and terms fit into 63 bits.
    """
    if not isinstance(scheme.problem, MatrixMultiplication) or not scheme.is_integral:
        return False
    n, m, p = (_base_order(size, scheme.ring) for size in sorted(scheme.format))
    base = 2 if scheme.ring == "F2" else 2 * canonical_terms(scheme).max_coefficient + 1
    return (
        group_order(scheme.format, scheme.ring) <= MAX_GROUP
        and max(n * m, m * p, n * p) * scheme.rank <= _MAX_SLICE
        and base ** sum(scheme.format.sides) < 2**62
    )


def canonical_form(scheme: Scheme) -> tuple[int, ...]:
    """Returns a key that is equal for two schemes exactly if a symmetry (see the module) maps one
    to the other.

    The sides are sorted first, so 2x3x2 and 2x2x3 compare. The key starts with format and base.

    Raises:
      ValueError: if the group is too large (see `can_classify`).
    """
    if not can_classify(scheme):
        raise ValueError(f"{scheme!r} has too many symmetries to classify")
    fmt = Format(*sorted(scheme.format))
    start = canonical_terms(reorder(scheme, fmt))
    base = 2 if scheme.ring == "F2" else 2 * start.max_coefficient + 1
    images = [
        _Images.of(canonical_terms(image), base) for image in format_images(start) if image.format == fmt
    ]
    # The least image starts with the least u of all images and the least v paired with it: sort
    # only these candidates.
    least_u = min(int(image.code_u.min()) for image in images)
    least_v, candidates = None, []
    for image in images:
        for a in range(len(image.code_u)):
            chosen = np.flatnonzero((image.code_u[a] == least_u).any(axis=-1))
            matches = (image.code_u[a][chosen] == least_u)[:, None]
            lowest_v = np.where(matches, image.code_v[chosen], _ABOVE_ALL).min(axis=-1)  # [chosen, c]
            lowest = int(lowest_v.min(initial=_ABOVE_ALL))
            if len(chosen) == 0 or (least_v is not None and lowest > least_v):
                continue
            if least_v is None or lowest < least_v:
                least_v, candidates = lowest, []
            b, c = np.nonzero(lowest_v == least_v)
            candidates.append(_least_row(np.sort(image.keys(a, chosen[b], c), axis=-1)))
    best = _least_row(np.array(candidates))
    return (*fmt, base, *best.tolist())


_ABOVE_ALL = np.iinfo(np.int64).max


@dataclass(frozen=True)
class _Images:
    """Terms of all images of a scheme under changes of basis, each factor encoded as one integer.

    With a, b, c running over the bases of the three sides: u -> a u b^-1, v -> b v c^-1, w -> a^-T
    w c^T.

    Attributes:
      code_u: int64 [a, b, rank], u with its canonical sign.
      code_v: int64 [b, c, rank], v with its canonical sign.
      code_w: int64 [a, c, rank], w with its sign unchanged.
      code_minus_w: the same of -w.
      sign_u: [a, b, rank], sign that was taken from u.
      sign_v: [b, c, rank], sign that was taken from v.
      high: place value of u in a term.
      middle: place value of v.
    """

    code_u: np.ndarray
    code_v: np.ndarray
    code_w: np.ndarray
    code_minus_w: np.ndarray
    sign_u: np.ndarray
    sign_v: np.ndarray
    high: int
    middle: int

    @staticmethod
    def of(scheme: Scheme, base: int) -> _Images:
        n, m, p = scheme.format
        lefts, rights = zip(*(_bases(size, scheme.ring) for size in (n, m, p)), strict=True)
        u = _all_sandwiches(scheme.u, lefts[0], rights[1])
        v = _all_sandwiches(scheme.v, lefts[1], rights[2])
        w = _all_sandwiches(scheme.w, rights[0].transpose(0, 2, 1), lefts[2].transpose(0, 2, 1))
        high, middle = base ** (m * p + n * p), base ** (n * p)
        if scheme.ring == "F2":
            code_u, code_v, code_w = (_encode(factor & 1, 2, 0) for factor in (u, v, w))
            plus_u, plus_v = (np.broadcast_to(np.int64(1), code.shape) for code in (code_u, code_v))
            return _Images(code_u, code_v, code_w, code_w, plus_u, plus_v, high, middle)
        offset = (base - 1) // 2
        sign_u, sign_v = _first_signs(u), _first_signs(v)
        return _Images(
            code_u=_encode(u * sign_u[..., None], base, offset),
            code_v=_encode(v * sign_v[..., None], base, offset),
            code_w=_encode(w, base, offset),
            code_minus_w=_encode(-w, base, offset),
            sign_u=sign_u,
            sign_v=sign_v,
            high=high,
            middle=middle,
        )

    def keys(self, a: int, b: np.ndarray, c: np.ndarray) -> np.ndarray:
        """Encodes all terms of some images as one integer each: int64 [images, rank]."""
        w = np.where(self.sign_u[a, b] * self.sign_v[b, c] > 0, self.code_w[a, c], self.code_minus_w[a, c])
        return self.code_u[a, b] * self.high + self.code_v[b, c] * self.middle + w


def _least_row(rows: np.ndarray) -> np.ndarray:
    """Returns the first row in lexicographic order."""
    return rows[np.lexsort(rows.T[::-1])[0]]


def _all_sandwiches(factor: np.ndarray, lefts: np.ndarray, rights: np.ndarray) -> np.ndarray:
    """Computes left X right for every left, right and row X of `factor`: [lefts, rights, rank,
    entries].
    """
    matrices = factor.reshape(len(factor), lefts.shape[1], rights.shape[1])
    # Multiply by all left matrices once, then by all right ones.
    half = np.einsum("aij,rjk->arik", lefts, matrices)
    whole = half[:, None] @ rights[None, :, None]
    return whole.reshape(len(lefts), len(rights), len(factor), -1)


def _encode(vectors: np.ndarray, base: int, offset: int) -> np.ndarray:
    """Encodes vectors as numbers in `base`, first entry most significant, digits counted from
    -offset.
    """
    weights = base ** np.arange(vectors.shape[-1] - 1, -1, -1, dtype=np.int64)
    return (vectors + offset) @ weights


def _first_signs(vectors: np.ndarray) -> np.ndarray:
    """Returns the sign of the first non-zero entry along the last axis, 1 for a zero vector."""
    first = np.argmax(vectors != 0, axis=-1)
    signs = np.sign(np.take_along_axis(vectors, first[..., None], axis=-1)[..., 0])
    return np.where(signs == 0, 1, signs)


def _base_order(size: int, ring: Ring) -> int:
    """Returns the number of bases of one side."""
    return prod(2**size - 2**k for k in range(size)) if ring == "F2" else 2**size * factorial(size)


_EXPONENTS = (1, 1, 6, 84, 420)  # of the groups GL(size, 2): every matrix to this power is the identity


@lru_cache(maxsize=16)
def _bases(size: int, ring: Ring) -> tuple[np.ndarray, np.ndarray]:
    """Returns all bases of one side, and their inverses: int64 [order, size, size] each."""
    identity = np.eye(size, dtype=np.int64)
    if ring != "F2":
        signed = [
            identity[list(order)] * np.array(signs)
            for order in permutations(range(size))
            for signs in product((1, -1), repeat=size)
        ]
        matrices = np.array(signed)
        return matrices, matrices.transpose(0, 2, 1)
    numbers = np.arange(2 ** (size * size))
    matrices = (numbers[:, None] >> np.arange(size * size) & 1).reshape(-1, size, size)
    inverses = np.broadcast_to(identity, matrices.shape)
    for bit in f"{_EXPONENTS[size] - 1:b}":  # square and multiply
        inverses = inverses @ inverses % 2
        if bit == "1":
            inverses = inverses @ matrices % 2
    invertible = (inverses @ matrices % 2 == identity).all(axis=(1, 2))
    return matrices[invertible], inverses[invertible]


@dataclass(frozen=True)
class ClassCount:
    """Number of different solutions, and number of their classes.

    Attributes:
      solutions: different up to order and signs of the products.
      classes: different up to symmetries; None if some scheme has too many symmetries to classify.
      message: ``14 solutions, 3 classes``.
    """

    solutions: int
    classes: int | None
    message: str


def count_classes(schemes: Iterable[Scheme]) -> ClassCount:
    """Counts different solutions and classes; schemes of different formats, rings or ranks are
    never in one class.
    """
    different = {canonical_terms(scheme) for scheme in schemes}
    solutions = f"{len(different)} solution{'s' * (len(different) != 1)}"
    if not all(can_classify(scheme) for scheme in different):
        matrices = all(isinstance(scheme.problem, MatrixMultiplication) for scheme in different)
        reason = "too large to count classes" if matrices else "classes are counted for matrices alone"
        return ClassCount(len(different), None, f"{solutions}, {reason}")
    classes = len({(scheme.ring, canonical_form(scheme)) for scheme in different})
    return ClassCount(len(different), classes, f"{solutions}, {classes} class{'es' * (classes != 1)}")
