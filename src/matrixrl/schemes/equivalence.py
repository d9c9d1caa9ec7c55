"""When two schemes are the same algorithm: up to order and signs of products, or up to all symmetries.

Two solutions are equal when they have the same rank-one terms; they are in one class when a symmetry of the problem
maps one to the other. Classes are counted with a canonical form: the least image, in a fixed order, under the group

- over F2: all changes of basis GL(n, 2) x GL(m, 2) x GL(p, 2),
- over Z: signed permutations of the rows and columns of A, B and C (the whole group is infinite),

and in both cases rotations and transposition where sides are equal.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import permutations, product
from math import factorial, prod

import numpy as np

from matrixrl.schemes.scheme import Format, Ring, Scheme
from matrixrl.schemes.symmetry import format_images, inverse, reorder

MAX_GROUP = 30_000_000
"""Largest group that is searched: 3x3x3 over F2 (28 million, seconds per scheme) is within, 4x4x4 is not."""

_MAX_SLICE = 8_000_000  # images of terms looked at in one NumPy call


def canonical_terms(scheme: Scheme) -> Scheme:
    """The same rank-one terms written one way: u and v without common divisor and with their first non-zero entry
    positive, w with what is left; terms sorted. Terms that are zero stay."""
    u, v, w = (factor.copy() for factor in scheme.factors)
    if scheme.ring == "Z":
        for factor in (u, v):
            content = np.gcd.reduce(factor, axis=1)
            scale = np.where(content == 0, 1, content) * _first_signs(factor)
            factor //= scale[:, None]
            w *= scale[:, None]
    order = np.lexsort(np.concatenate((u, v, w), axis=1).T[::-1])
    return replace(scheme, u=u[order], v=v[order], w=w[order])


def same_terms(first: Scheme, second: Scheme) -> bool:
    """Whether two schemes differ only in the order of their products and in signs within them."""
    return canonical_terms(first) == canonical_terms(second)


def group_order(format: Format, ring: Ring) -> int:
    """Number of symmetries that `canonical_form` looks at."""
    turns = sum(image == tuple(format) for image in permutations(format))
    if ring == "F2":
        return turns * prod(prod(2**size - 2**k for k in range(size)) for size in format)
    return turns * prod(2**size * factorial(size) for size in format)


def can_classify(scheme: Scheme) -> bool:
    """Whether `canonical_form` can be computed: the group is small enough, and terms fit into 63 bits."""
    n, m, p = (_base_order(size, scheme.ring) for size in sorted(scheme.format))
    base = 2 if scheme.ring == "F2" else 2 * scheme.max_coefficient + 1
    return (
        group_order(scheme.format, scheme.ring) <= MAX_GROUP
        and max(n * m, m * p, n * p) * scheme.rank <= _MAX_SLICE
        and base ** sum(scheme.format.sides) < 2**62
    )


def canonical_form(scheme: Scheme) -> tuple[int, ...]:
    """A key that is equal for two schemes exactly when a symmetry (see the module) maps one to the other.

    The sides are sorted first, so 2x3x2 and 2x2x3 compare. The key starts with format and base.

    Raises:
      ValueError: if the group is too large (see `can_classify`).
    """
    if not can_classify(scheme):
        raise ValueError(f"{scheme!r} has too many symmetries to classify")
    fmt = Format(*sorted(scheme.format))
    start = canonical_terms(reorder(scheme, fmt))
    base = 2 if scheme.ring == "F2" else 2 * start.max_coefficient + 1
    least, candidates = None, []
    for image in format_images(start):
        if image.format != fmt:
            continue
        for keys in _images(canonical_terms(image), base):
            lowest = keys.min(axis=-1)
            minimum = int(lowest.min())
            if least is None or minimum < least:
                least, candidates = minimum, []
            if minimum == least:
                candidates.append(np.unique(np.sort(keys[lowest == minimum], axis=-1), axis=0)[0])
    best = min(tuple(int(key) for key in candidate) for candidate in candidates)
    return (*fmt, base, *best)


def _images(scheme: Scheme, base: int) -> Iterable[np.ndarray]:
    """Terms of all images under changes of basis, each term one integer: int64 [bases of B, bases of C, rank]."""
    n, m, p = scheme.format
    lefts, rights = zip(*(_bases(size, scheme.ring) for size in (n, m, p)), strict=True)
    # a, b, c run over the three groups: u -> a u b^-1, v -> b v c^-1, w -> a^-T w c^T
    u = _all_sandwiches(scheme.u, lefts[0], rights[1])  # [a, b, rank, nm]
    v = _all_sandwiches(scheme.v, lefts[1], rights[2])  # [b, c, rank, mp]
    w = _all_sandwiches(
        scheme.w, rights[0].transpose(0, 2, 1), lefts[2].transpose(0, 2, 1)
    )  # [a, c, rank, np]
    if scheme.ring == "F2":
        u, v, w = u % 2, v % 2, w % 2
    sign_u, sign_v = _first_signs(u), _first_signs(v)
    digits = (base - 1) // 2 if scheme.ring == "Z" else 0
    code_u = _encode(u * sign_u[..., None], base, digits)
    code_v = _encode(v * sign_v[..., None], base, digits)
    code_w, code_minus_w = _encode(w, base, digits), _encode(-w, base, digits) if scheme.ring == "Z" else None
    high, middle = base ** (m * p + n * p), base ** (n * p)
    for a in range(len(lefts[0])):
        head = code_u[a][:, None] * high + code_v * middle  # [b, c, rank]
        if code_minus_w is None:
            yield head + code_w[a][None]
        else:
            positive = sign_u[a][:, None] * sign_v > 0
            yield head + np.where(positive, code_w[a][None], code_minus_w[a][None])


def _all_sandwiches(factor: np.ndarray, lefts: np.ndarray, rights: np.ndarray) -> np.ndarray:
    """left X right for every left, right and row X of `factor`: [lefts, rights, rank, entries]."""
    matrices = factor.reshape(len(factor), lefts.shape[1], rights.shape[1])
    half = np.einsum("aij,rjk->arik", lefts, matrices)
    whole = np.einsum("arik,bkl->abril", half, rights)
    return whole.reshape(len(lefts), len(rights), len(factor), -1)


def _encode(vectors: np.ndarray, base: int, offset: int) -> np.ndarray:
    """Vectors as numbers in `base`, first entry highest, digits counted from -offset."""
    weights = base ** np.arange(vectors.shape[-1] - 1, -1, -1, dtype=np.int64)
    return (vectors + offset) @ weights


def _first_signs(vectors: np.ndarray) -> np.ndarray:
    """Sign of the first non-zero entry along the last axis, 1 for a zero vector."""
    first = np.argmax(vectors != 0, axis=-1)
    signs = np.sign(np.take_along_axis(vectors, first[..., None], axis=-1)[..., 0])
    return np.where(signs == 0, 1, signs)


def _base_order(size: int, ring: Ring) -> int:
    """Number of bases of one side."""
    return prod(2**size - 2**k for k in range(size)) if ring == "F2" else 2**size * factorial(size)


@lru_cache(maxsize=16)
def _bases(size: int, ring: Ring) -> tuple[np.ndarray, np.ndarray]:
    """All bases of one side, and their inverses: int64 [order, size, size] each."""
    if ring == "F2":
        matrices = [np.array(entries).reshape(size, size) for entries in product((0, 1), repeat=size * size)]
        matrices = [matrix for matrix in matrices if round(np.linalg.det(matrix)) % 2]
    else:
        identity = np.eye(size, dtype=np.int64)
        matrices = [
            identity[list(order)] * np.array(signs)
            for order in permutations(range(size))
            for signs in product((1, -1), repeat=size)
        ]
    return np.array(matrices), np.array([inverse(matrix, ring) for matrix in matrices])


@dataclass(frozen=True)
class ClassCount:
    """How many different solutions, and how many classes of them.

    Attributes:
      solutions: different up to order and signs of the products.
      classes: different up to symmetries; None if some scheme has too many symmetries to classify.
      message: ``14 solutions, 3 classes``.
    """

    solutions: int
    classes: int | None
    message: str


def count_classes(schemes: Iterable[Scheme]) -> ClassCount:
    """Count different solutions and classes; schemes of different formats, rings or ranks are never in one class."""
    different = {canonical_terms(scheme) for scheme in schemes}
    solutions = f"{len(different)} solution{'s' * (len(different) != 1)}"
    if not all(can_classify(scheme) for scheme in different):
        return ClassCount(len(different), None, f"{solutions}, too large to count classes")
    classes = len({(scheme.ring, canonical_form(scheme)) for scheme in different})
    return ClassCount(len(different), classes, f"{solutions}, {classes} class{'es' * (classes != 1)}")
