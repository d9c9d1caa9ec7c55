"""Moves between formats: a good scheme of one format seeds its neighbours.

- `extend` adds a row or a column of blocks by the products of the standard algorithm,
- `project` deletes a row or a column and drops the products that become zero,
- `merge` joins two schemes along one side (ranks add),
- `product` multiplies the blocks of one scheme with another (ranks multiply),
- `sort_sides` and `matrixrl.schemes.symmetry.reorder` reorder the sides.

Every move is exact over every ring of `matrixrl.schemes.rings` and maps correct schemes to correct
schemes. `best_seed` composes them: the scheme of lowest rank for a format that a collection of
schemes of other formats gives.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import gcd, lcm
from typing import Any

import numpy as np

from matrixrl.schemes.problem import MatrixMultiplication
from matrixrl.schemes.rings import CHAIN, MODULUS, ComplexRational, Ring, contains, denominator, simplify
from matrixrl.schemes.scheme import Format, Scheme, as_format
from matrixrl.schemes.symmetry import reorder, rotate

_AXES = ((0, 1), (1, 2), (0, 2))  # the sides of A, B and C
_MAX_DIRECTIONS = 64  # directions per side and factor that `project` considers
_MAX_DELETED = 2  # rows and columns that `best_seed` deletes of one scheme

_Sizes = tuple[int, int, int]
_Vector = tuple[Any, ...]


def standard_scheme(format: Sequence[int], ring: Ring = "Z") -> Scheme:
    """Returns the standard algorithm of a format over a ring."""
    problem = MatrixMultiplication(as_format(tuple(format)))
    u, v, w = problem.standard()
    return Scheme(problem, ring, u, v, w, {"source": "standard algorithm"})


def sort_sides(scheme: Scheme) -> Scheme:
    """Returns the image of a scheme whose sides are sorted; `reorder` with the original format
    maps it back.
    """
    return reorder(scheme, Format(*sorted(scheme.format)))


def merge(first: Scheme, second: Scheme, side: int) -> Scheme:
    """Joins two schemes into that of a format cut in two along `side` (0: n, 1: m, 2: p); ranks
    add.

    Along n and p the parts fill different blocks of C; along m they are two summands of all of C.

    Raises:
      ValueError: if the formats differ in another side than `side`, or the rings have no common
        one.
    """
    others = [[size for s, size in enumerate(some.format) if s != side] for some in (first, second)]
    ring = _common_ring(first, second)
    if others[0] != others[1] or ring is None:
        raise ValueError(f"cannot join {first!r} and {second!r} along {'nmp'[side]}")
    sizes = list(first.format)
    sizes[side] += second.format[side]
    parts = [
        [
            _placed(factor, [scheme.format[s] for s in axes], [sizes[s] for s in axes], where)
            for factor, axes in zip(scheme.factors, _AXES, strict=True)
            for where in [[start if s == side else 0 for s in axes]]
        ]
        for scheme, start in ((first, 0), (second, first.format[side]))
    ]
    u, v, w = (np.concatenate(pair) for pair in zip(*parts, strict=True))
    return Scheme(sizes, ring, u, v, w, {"source": f"({_source(first)}) + ({_source(second)})"})


def product(outer: Scheme, inner: Scheme) -> Scheme:
    """Applies `outer` to matrices of blocks that `inner` multiplies: formats and ranks multiply
    (the Kronecker product of the factors).

    Raises:
      ValueError: if the rings have no common one.
    """
    ring = _common_ring(outer, inner)
    if ring is None:
        raise ValueError(f"cannot nest {inner!r} in {outer!r}")
    fmt = Format(*(a * b for a, b in zip(outer.format, inner.format, strict=True)))
    factors = []
    for big, small, (row, column) in zip(outer.factors, inner.factors, _AXES, strict=True):
        left = big.reshape(-1, 1, outer.format[row], 1, outer.format[column], 1)
        right = small.reshape(1, -1, 1, inner.format[row], 1, inner.format[column])
        factors.append((left * right).reshape(outer.rank * inner.rank, fmt[row] * fmt[column]))
    u, v, w = factors
    return Scheme(fmt, ring, u, v, w, {"source": f"({_source(outer)}) x ({_source(inner)})"})


def extend(scheme: Scheme, side: int = 2, count: int = 1) -> Scheme:
    """Extends a format by `count` along `side` (0: n, 1: m, 2: p) with the products of the standard
    algorithm: along p, (n, m, p) becomes (n, m, p + count), and the rank grows by n m count.
    """
    sizes = list(scheme.format)
    sizes[side] = count
    return merge(scheme, standard_scheme(sizes, scheme.ring), side)


def project(
    scheme: Scheme, side: int = 2, index: int | None = None, *, directions: bool = True, ternary: bool = False
) -> Scheme:
    """Deletes one row or column of the matrices along `side` (0: n, 1: m, 2: p): its entries become
    zero, and products that become zero or equal to another in two factors are removed.

    Args:
      scheme: of a format whose side is 2 or larger.
      side: the side to shrink by 1.
      index: the row or column to delete. By default the one that leaves the lowest rank.
      directions: without `index`, also consider deleting a row or a column in another basis, along
        the directions that make the most products zero.
      ternary: prefer results with coefficients -1, 0, 1 to those of lower rank.

    Returns:
      The scheme of the lowest rank, and of those the sparsest.

    Raises:
      ValueError: if the side is 1, or the index is outside it.
    """
    size = scheme.format[side]
    if size < 2:
        raise ValueError(f"cannot delete the last {'row' if side == 0 else 'column'} of {scheme.format}")
    if index is not None and not 0 <= index < size:
        raise ValueError(f"index {index} given, want 0 to {size - 1}")
    turned = scheme
    for _ in range(side):  # the side becomes the first one: rows of u and of w
        turned = rotate(turned)
    units = [tuple(int(i == j) for j in range(size)) for i in range(size)]
    pairs = [(unit, unit) for unit in (units if index is None else [units[index]])]
    if directions and index is None:
        pairs += _best_directions(turned)
    best = min(
        (_without(turned, row, kernel, ternary) for row, kernel in pairs),
        key=lambda shrunk: (ternary and not shrunk.is_ternary, shrunk.rank, _num_nonzero(shrunk)),
    )
    for _ in range(-side % 3):
        best = rotate(best)
    return replace(best, provenance={"source": f"({_source(scheme)}) without one of {'nmp'[side]}"})


def combine(scheme: Scheme, *, ternary: bool = False) -> Scheme:
    """Removes zero products, and joins products that are equal in two factors up to a scalar, as
    long as there are any; with `ternary` only where the sum has coefficients -1, 0, 1.
    """
    factors = [[tuple(row) for row in factor.tolist()] for factor in scheme.factors]
    products = [term for term in zip(*factors, strict=True) if all(map(any, term))]
    modulus = MODULUS.get(scheme.ring)
    rank = len(products) + 1
    while len(products) < rank:
        rank = len(products)
        for third in range(3):
            products = _joined(products, third, modulus, ternary)
    if len(products) == scheme.rank:
        return scheme
    u, v, w = ([term[mode] for term in products] for mode in range(3))
    return replace(scheme, u=_array(u), v=_array(v), w=_array(w))


def neighbours(scheme: Scheme, *, max_side: int | None = None, ternary: bool = False) -> Iterator[Scheme]:
    """Yields schemes of the neighbouring formats: each side extended by 1, and each side larger
    than 1 shrunk by 1.

    Args:
      scheme: a scheme of matrix multiplication.
      max_side: largest side of a format that is yielded.
      ternary: prefer projections with coefficients -1, 0, 1.
    """
    for side, size in enumerate(scheme.format):
        if max_side is None or size < max_side:
            yield extend(scheme, side)
        if size > 1:
            yield project(scheme, side, ternary=ternary)


def best_seed(
    format: Sequence[int],
    schemes: Iterable[Scheme],
    *,
    ring: Ring | None = None,
    ternary: bool = False,
    include_own: bool = True,
) -> Scheme:
    """Returns the scheme of lowest rank for a format that moves between formats give from a
    collection of schemes.

    Parts of which the collection has a scheme are taken as they are.

    Args:
      format: the sides, in any order.
      schemes: correct schemes of any formats and rings.
      ring: ring of the seed. By default that of the schemes, Z without any. Schemes that have no
        coefficients in it are left out; those over the integers are reduced modulo 2 or 3.
      ternary: use schemes with coefficients -1, 0, 1 only.
      include_own: also use schemes of the format itself.

    Returns:
      A scheme with the sides in the given order, that of the standard algorithm if nothing is
      better. Its provenance names how it was composed.
    """
    fmt = as_format(tuple(format))
    given = list(schemes)
    over = ring or (given[0].ring if given else "Z")
    sizes = _sorted_sizes(fmt)
    collection: dict[_Sizes, Scheme] = {}
    for scheme in given:
        converted = _in_ring(scheme, over)
        if converted is None or (ternary and not converted.is_ternary):
            continue
        key = _sorted_sizes(converted.format)
        if key == sizes and not include_own:
            continue
        if key not in collection or converted.rank < collection[key].rank:
            collection[key] = converted
    return reorder(_Seeds(collection, over, ternary, sizes).build(sizes), fmt)


@dataclass
class _Recipe:
    """How the best scheme of a format is composed.

    Attributes:
      rank: its rank.
      move: ``scheme``, ``merge`` or ``product``.
      parts: for `merge` and `product` the sides of both parts, unsorted.
      scheme: for `scheme` the scheme itself.
    """

    rank: int
    move: str
    parts: tuple[_Sizes, ...] = ()
    scheme: Scheme | None = None


class _Seeds:
    """Best compositions for all formats up to a size, found from the smallest parts upwards.

    Larger schemes are shrunk, which takes long, for the format itself and for parts of which the
    collection has no scheme.

    Args:
      collection: the best scheme by sorted sides.
      ring: ring of all schemes.
      ternary: whether all coefficients must be -1, 0, 1.
      wanted: the sorted sides of the format itself.
    """

    def __init__(self, collection: dict[_Sizes, Scheme], ring: Ring, ternary: bool, wanted: _Sizes) -> None:
        self._wanted = wanted
        self._collection = collection
        self._ring: Ring = ring
        self._ternary = ternary
        self._recipes: dict[_Sizes, _Recipe] = {}

    def build(self, sizes: _Sizes) -> Scheme:
        """Returns the best scheme for sorted sides."""
        recipe = self.recipe(sizes)
        if recipe.scheme is not None:
            return reorder(recipe.scheme, Format(*sizes))
        first, second = (reorder(self.build(_sorted_sizes(part)), Format(*part)) for part in recipe.parts)
        if recipe.move == "product":
            return product(first, second)
        side = next(s for s in range(3) if first.format[s] + second.format[s] == sizes[s])
        return merge(first, second, side)

    def recipe(self, sizes: _Sizes) -> _Recipe:
        """Returns how the best scheme for sorted sides is composed."""
        if sizes not in self._recipes:
            self._recipes[sizes] = self._find(sizes)
        return self._recipes[sizes]

    def _find(self, sizes: _Sizes) -> _Recipe:
        best = _Recipe(Format(*sizes).naive_rank, "scheme", scheme=standard_scheme(sizes, self._ring))
        own = self._collection.get(sizes)
        if own is not None:
            best = _Recipe(own.rank, "scheme", scheme=own)
        if sizes[0] == 1:  # a matrix times a vector and an outer product have full rank n*m*p
            return best
        for move, parts in _decompositions(sizes):
            ranks = [self.recipe(_sorted_sizes(part)).rank for part in parts]
            rank = sum(ranks) if move == "merge" else ranks[0] * ranks[1]
            if rank < best.rank:
                best = _Recipe(rank, move, parts)
        shrinks = own is None or sizes == self._wanted
        for larger in self._larger(sizes) if shrinks else ():
            projected = self._projected(larger, sizes)
            usable = not self._ternary or projected.is_ternary
            if usable and projected.rank < best.rank:
                best = _Recipe(projected.rank, "scheme", scheme=projected)
        return best

    def _larger(self, sizes: _Sizes) -> list[Scheme]:
        """Returns schemes that become one of these sides when up to `_MAX_DELETED` rows or columns
        are deleted.
        """
        return [
            scheme
            for key, scheme in self._collection.items()
            if all(a >= b for a, b in zip(key, sizes, strict=True))
            and 1 <= sum(key) - sum(sizes) <= _MAX_DELETED
        ]

    def _projected(self, scheme: Scheme, sizes: _Sizes) -> Scheme:
        """Deletes rows and columns of a scheme until its sides are the given ones."""
        scheme = sort_sides(scheme)
        for side, size in enumerate(sizes):
            while scheme.format[side] > size:
                scheme = project(scheme, side, ternary=self._ternary)
        return scheme


def _decompositions(sizes: _Sizes) -> Iterator[tuple[str, tuple[_Sizes, _Sizes]]]:
    """Yields every way to cut one side in two, and to divide all sides."""
    for side in range(3):
        for cut in range(1, sizes[side] // 2 + 1):
            one, other = list(sizes), list(sizes)
            one[side], other[side] = cut, sizes[side] - cut
            yield "merge", (_as_sizes(one), _as_sizes(other))
    for index in np.ndindex(*sizes):
        inner = _as_sizes([size + 1 for size in index])
        if any(size % part for size, part in zip(sizes, inner, strict=True)):
            continue
        if inner not in (sizes, (1, 1, 1)):
            yield "product", (_as_sizes([a // b for a, b in zip(sizes, inner, strict=True)]), inner)


def _without(scheme: Scheme, row: _Vector, kernel: _Vector, ternary: bool) -> Scheme:
    """Restricts the rows of A to the hyperplane ``row . x = 0`` and drops the direction `kernel` of
    the rows of C, which is not in the hyperplane.

    With E the embedding of the hyperplane and F the projection along the kernel, F E = 1: the
    products computed for E A' give C' = F C.
    """
    n, m, p = scheme.format
    embedding, projection = _hyperplane(row, kernel, scheme.ring)
    u = _apply(embedding.T, scheme.u.reshape(-1, n, m))
    w = _apply(projection, scheme.w.reshape(-1, n, p))
    if scheme.ring in MODULUS:
        u, w = (factor % MODULUS[scheme.ring] for factor in (u, w))
    u, w = (factor.reshape(scheme.rank, -1) for factor in (u, w))
    keep = [bool(np.any(a != 0) and np.any(c != 0)) for a, c in zip(u, w, strict=True)]
    problem = MatrixMultiplication(Format(n - 1, m, p))
    return combine(replace(scheme, problem=problem, u=u[keep], v=scheme.v[keep], w=w[keep]), ternary=ternary)


def _hyperplane(row: _Vector, kernel: _Vector, ring: Ring) -> tuple[np.ndarray, np.ndarray]:
    """Returns E [n, n-1], whose columns span the hyperplane, and F [n-1, n] with F E = 1 and
    F kernel = 0.
    """
    size = len(row)
    pivot = next(i for i, value in enumerate(row) if _unit_inverse(value, ring) is not None)
    others = [i for i in range(size) if i != pivot]
    scale = _unit_inverse(row[pivot], ring)
    depth = _unit_inverse(sum(a * b for a, b in zip(row, kernel, strict=True)), ring)
    assert scale is not None
    assert depth is not None
    embedding = np.zeros((size, size - 1), dtype=object)
    for column, other in enumerate(others):
        embedding[other, column] = 1
        embedding[pivot, column] = -scale * row[other]
    projection = np.array(
        [[int(i == j) - kernel[i] * row[j] * depth for j in range(size)] for i in others], dtype=object
    )
    return embedding, projection


def _best_directions(scheme: Scheme) -> list[tuple[_Vector, _Vector]]:
    """Returns pairs of a hyperplane and a direction along which the most products vanish.

    A product vanishes if its matrix of u has rank one with the hyperplane's normal on the left, or
    that of w has rank one with the dropped direction on the left.
    """
    n, m, p = scheme.format
    normals = _left_vectors(scheme.u.reshape(-1, n, m), scheme.ring)
    kernels = _left_vectors(scheme.w.reshape(-1, n, p), scheme.ring)
    scored = []
    for normal, in_u in normals.items():
        if all(_unit_inverse(value, scheme.ring) is None for value in normal):
            continue
        for kernel, in_w in kernels.items():
            dot = sum(a * b for a, b in zip(normal, kernel, strict=True))
            if _unit_inverse(dot, scheme.ring) is not None:
                scored.append((-len(in_u | in_w), normal, kernel))
    if not scored:
        return []
    most = min(score for score, *_ in scored)
    return [(normal, kernel) for score, normal, kernel in scored if score == most][:_MAX_DIRECTIONS]


def _left_vectors(matrices: np.ndarray, ring: Ring) -> dict[_Vector, set[int]]:
    """Returns the left vectors x of the matrices x (x) y of rank one, with the indices of those
    matrices; and the units.
    """
    size = matrices.shape[1]
    found: dict[_Vector, set[int]] = {tuple(int(i == j) for j in range(size)): set() for i in range(size)}
    for index, matrix in enumerate(matrices.tolist()):
        columns = {
            _normalized(column, MODULUS.get(ring))[0] for column in zip(*matrix, strict=True) if any(column)
        }
        if len(columns) == 1:
            found.setdefault(columns.pop(), set()).add(index)
    return found


def _joined(
    products: list[tuple[_Vector, ...]], third: int, modulus: int | None, ternary: bool
) -> list[tuple[_Vector, ...]]:
    """Joins products that are equal in the two factors other than `third`, up to scalars."""
    first, second = (mode for mode in range(3) if mode != third)
    groups: dict[tuple[_Vector, _Vector], list[tuple[_Vector, ...]]] = {}
    for term in products:
        key = _normalized(term[first], modulus)[0], _normalized(term[second], modulus)[0]
        groups.setdefault(key, []).append(term)
    result = []
    for (a, b), terms in groups.items():
        if len(terms) == 1:
            result += terms
            continue
        total = [0] * len(terms[0][third])
        for term in terms:
            scale = _normalized(term[first], modulus)[1] * _normalized(term[second], modulus)[1]
            total = [x + scale * y for x, y in zip(total, term[third], strict=True)]
        if modulus:
            total = [value % modulus for value in total]
        elif ternary and any(value not in (-1, 0, 1) for value in total):
            result += terms
            continue
        if any(total):
            joined: list[_Vector] = [(), (), ()]
            joined[first], joined[second], joined[third] = a, b, tuple(total)
            result.append(tuple(joined))
    return result


def _normalized(vector: Sequence[Any], modulus: int | None) -> tuple[_Vector, Any]:
    """Returns a non-zero vector divided by a scalar, the same for all multiples of it, and the
    scalar: integers become coprime with a positive first entry, others get the first entry 1.
    """
    lead = next(value for value in vector if value)
    if modulus:
        scale = lead % modulus  # 1 and 2 are their own inverses modulo 2 and 3
        return tuple(value * scale % modulus for value in vector), scale
    if all(isinstance(value, int) for value in vector):
        scale = gcd(*vector) * (1 if lead > 0 else -1)
        return tuple(value // scale for value in vector), scale
    exact = Fraction(lead) if isinstance(lead, int) else lead
    divided = tuple(simplify(value / exact) for value in vector)
    # A multiple of an integer vector gets its coprime form as well.
    if not any(isinstance(value, ComplexRational) for value in divided):
        bottom = lcm(*map(denominator, divided))
        return tuple(simplify(value * bottom) for value in divided), exact / bottom
    return divided, exact


def _unit_inverse(value: Any, ring: Ring) -> Any:
    """Returns the inverse of a number in the ring; None if it has none."""
    if ring in MODULUS:
        return value % MODULUS[ring] or None
    if not value:
        return None
    inverse = simplify(1 / Fraction(value) if isinstance(value, int) else 1 / value)
    return inverse if contains(ring, inverse) else None


def _apply(matrix: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """Multiplies each block from the left, in integers if everything is integral."""
    flat = [simplify(value) for value in matrix.flat]
    if all(isinstance(value, int) for value in flat):
        matrix = np.array(flat, dtype=np.int64 if blocks.dtype != object else object).reshape(matrix.shape)
        return matrix @ blocks
    return matrix @ blocks.astype(object)


def _placed(
    factor: np.ndarray, shape: Sequence[int], larger: Sequence[int], where: Sequence[int]
) -> np.ndarray:
    """Places rows that are flattened matrices into larger zero matrices; returns them flat."""
    block = np.zeros((len(factor), *larger), dtype=factor.dtype)
    window = [slice(start, start + size) for start, size in zip(where, shape, strict=True)]
    block[:, window[0], window[1]] = factor.reshape(-1, *shape)
    return block.reshape(len(factor), -1)


def _common_ring(first: Scheme, second: Scheme) -> Ring | None:
    """Returns the smallest ring that contains both; None for integers modulo 2 or 3 and others."""
    if first.ring == second.ring:
        return first.ring
    if first.ring in CHAIN and second.ring in CHAIN:
        return CHAIN[max(CHAIN.index(first.ring), CHAIN.index(second.ring))]
    return None


def _in_ring(scheme: Scheme, ring: Ring) -> Scheme | None:
    """Returns a scheme with its coefficients in a ring; None if there is no such one."""
    if not isinstance(scheme.problem, MatrixMultiplication):
        return None
    if scheme.ring == ring:
        return scheme
    if scheme.ring in MODULUS or not all(contains(ring, value) for value in scheme.numbers()):
        return None
    return scheme.modulo(ring) if ring in MODULUS else replace(scheme, ring=ring)


def _array(rows: list[_Vector]) -> np.ndarray:
    """Returns rows as an array; of objects if one of them is not an integer."""
    if all(isinstance(value, int) for row in rows for value in row):
        return np.array(rows, dtype=np.int64)
    return np.array(rows, dtype=object)


def _num_nonzero(scheme: Scheme) -> int:
    return sum(int(np.count_nonzero(factor)) for factor in scheme.factors)


def _sorted_sizes(sizes: Sequence[int]) -> _Sizes:
    return _as_sizes(sorted(sizes))


def _as_sizes(sizes: Sequence[int]) -> _Sizes:
    n, m, p = sizes
    return n, m, p


def _source(scheme: Scheme) -> str:
    return str(scheme.provenance.get("source", f"{scheme.format}:{scheme.rank}"))
