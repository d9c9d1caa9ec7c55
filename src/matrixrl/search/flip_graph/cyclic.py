"""Schemes of square matrices with cyclic symmetry, as orbits of products.

Written with the transposed product, the tensor of n x n x n is the trace of A B C, and stays itself
when a product a (x) b (x) c becomes b (x) c (x) a. A scheme with this symmetry has orbits of three
such products, and fixed products a (x) a (x) a. Walks that keep the symmetry have a third as many
products to move (Moosbauer and Poole 2025, "Flip graphs with symmetry and new matrix multiplication
schemes").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from matrixrl.schemes.problem import MatrixMultiplication, Problem
from matrixrl.schemes.scheme import SchemeError
from matrixrl.search.flip_graph.rows import canonical, pack, unpack, words_per_factor

Term = tuple[int, int, int]


def side_of(problem: Problem) -> int:
    """Returns the side of the matrices of a problem with cyclic symmetry.

    Raises:
      SchemeError: if it is not the product of two square matrices.
    """
    if not isinstance(problem, MatrixMultiplication) or len(set(problem.format)) != 1:
        raise SchemeError(f"{problem}: cyclic symmetry is for products of square matrices, such as 5x5x5")
    return problem.format[0]


def transposed(rows: np.ndarray, side: int) -> np.ndarray:
    """Returns rows over F2, uint64 [R, 3, words], with transposed matrices as third factors."""
    u, v, w = unpack(rows, (side * side, side * side, side * side), "F2")
    turned = w.reshape(-1, side, side).swapaxes(1, 2).reshape(-1, side * side)
    return pack((u, v, turned), "F2", rows.shape[2])


def to_orbits(rows: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the orbits of a scheme with cyclic symmetry, one product of each, and the factors of
    its fixed products.

    The product of an orbit that comes first stands for it, and orbits have the order of these.

    Args:
      rows: uint64 [R, 3, words], over F2.
      side: of the matrices.

    Returns:
      uint64 [N, 3, words] and uint64 [M, words]; 3 N + M = R.

    Raises:
      SchemeError: if the scheme does not have the symmetry.
    """
    turned = transposed(rows, side)
    products = [(bytes(a), bytes(b), bytes(c)) for a, b, c in turned]
    left = Counter(products)
    orbits: list[int] = []
    fixed: list[int] = []
    for index, (a, b, c) in enumerate(products):
        if left[a, b, c] == 0:
            continue
        images = [(a, b, c), (b, c, a), (c, a, b)]
        if a == b == c and left[a, b, c] < 3:
            images = images[:1]
        left.subtract(images)
        if min(left[image] for image in images) < 0:
            raise SchemeError(
                f"product {index + 1} of {len(rows)} has no cyclic images: the scheme does not have cyclic symmetry"
            )
        (orbits if len(images) == 3 else fixed).append(index)
    return turned[orbits], turned[fixed][:, 0]


def from_orbits(orbits: np.ndarray, fixed: np.ndarray, side: int) -> np.ndarray:
    """Returns the products of orbits, three each and one after the other, then the fixed ones; the
    inverse of `to_orbits`.
    """
    images = np.stack([orbits, orbits[:, [1, 2, 0]], orbits[:, [2, 0, 1]]], axis=1)
    cubes = np.repeat(fixed[:, None], 3, axis=1)
    return transposed(np.concatenate([images.reshape(-1, *orbits.shape[1:]), cubes]), side)


def start_from_groups(problem: Problem, groups: Sequence[Sequence[int]]) -> np.ndarray:
    """Returns a scheme over F2 whose fixed products are those of groups of the diagonal.

    Modulo 2 and up to whole orbits, (a + b)^3 = a^3 + b^3. So any matrices with the sum 1 may be
    the factors of the fixed products: here a partition of the diagonal. What is missing are whole
    orbits of products of single entries.

    Args:
      problem: the product of two n x n matrices.
      groups: partition of the numbers from 0 to n - 1.

    Returns:
      Canonical rows, uint64 [R, 3, words].

    Raises:
      SchemeError: if the matrices are not square.
    """
    side = side_of(problem)
    orbits: set[Term] = set()

    def toggle(a: int, b: int, c: int) -> None:
        orbits.symmetric_difference_update({min((a, b, c), (b, c, a), (c, a, b))})

    for i in range(side):
        for j in range(side):
            for k in range(side):
                # The first of the three images, and no product of three equal entries.
                if i == min(i, j, k) and not (i == j == k) and not (i == k and j > i):
                    toggle(i * side + j, j * side + k, k * side + i)
    for group in groups:
        entries = [i * side + i for i in sorted(group)]
        for a in entries:
            for b in entries:
                for c in entries:
                    if (a, b, c) == min((a, b, c), (b, c, a), (c, a, b)) and not (a == b == c):
                        toggle(a, b, c)
    words = words_per_factor(problem, "F2")
    chosen = sorted(orbits)
    ones = np.eye(side * side, dtype=np.int64)
    factors = [ones[[term[place] for term in chosen]] for place in range(3)]
    cubes = np.array([ones[[i * side + i for i in group]].sum(axis=0) for group in groups])
    fixed = pack((cubes, cubes, cubes), "F2", words)[:, 0]
    rows = from_orbits(pack((factors[0], factors[1], factors[2]), "F2", words), fixed, side)
    return canonical(rows, "F2")


def random_start(problem: Problem, target_rank: int | None, rng: np.random.Generator) -> np.ndarray:
    """Returns a scheme from a random partition of the diagonal.

    The rank of a scheme is the number of its fixed products modulo 3. So there are as many groups
    as the target needs, modulo 3, and any number without a target.

    Args:
      problem: the product of two square matrices.
      target_rank: the rank that is searched for.
      rng: source of the choice.

    Raises:
      SchemeError: if the matrices are not square.
    """
    side = side_of(problem)
    counts = [
        count for count in range(1, side + 1) if target_rank is None or (count - target_rank) % 3 == 0
    ] or list(range(1, side + 1))
    count = int(rng.choice(counts))
    # Each group gets one number, then each other number a random group.
    numbers = rng.permutation(side)
    groups = [[int(number)] for number in numbers[:count]]
    for number in numbers[count:]:
        groups[int(rng.integers(count))].append(int(number))
    return start_from_groups(problem, groups)
