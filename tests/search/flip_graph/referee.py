"""The moves in plain Python on vectors, without bit masks, and the sum of rank-one terms as an exact tensor."""

from __future__ import annotations

from collections import Counter

import numpy as np

from matrixrl.schemes.problem import Problem
from matrixrl.search.flip_graph.rows import WalkRing, unpack


def total(rows: np.ndarray, problem: Problem, ring: WalkRing) -> np.ndarray:
    """Returns the sum of the products, int64 [a, b, c], over F2 modulo 2."""
    tensor = np.einsum("ra,rb,rc->abc", *unpack(rows, problem.sides, ring))
    return tensor % 2 if ring == "F2" else tensor


def target(problem: Problem, ring: WalkRing) -> np.ndarray:
    return problem.tensor() % 2 if ring == "F2" else problem.tensor()


def matching_pairs(rows: np.ndarray, problem: Problem, ring: WalkRing) -> list[tuple[int, int, int]]:
    """Returns all (factor, row, row) with factors equal up to sign."""
    factors = unpack(rows, problem.sides, ring)
    count = len(rows)
    return [
        (f, r, s)
        for f in range(3)
        for r in range(count)
        for s in range(r + 1, count)
        if (factors[f][r] == factors[f][s]).all() or (factors[f][r] == -factors[f][s]).all()
    ]


def terms(rows: np.ndarray, problem: Problem, ring: WalkRing) -> Counter[bytes]:
    """Returns the rank-one tensors of a scheme with their multiplicity: what signs and order leave."""
    u, v, w = unpack(rows, problem.sides, ring)
    products = [np.einsum("a,b,c->abc", *row) for row in zip(u, v, w, strict=True)]
    return Counter((product % 2 if ring == "F2" else product).tobytes() for product in products)


def neighbours(rows: np.ndarray, problem: Problem, ring: WalkRing) -> list[Counter[bytes]]:
    """Returns the terms of every scheme one flip away, with every choice of rows, orientation and sign."""
    factors = unpack(rows, problem.sides, ring)
    before = terms(rows, problem, ring)
    found = []
    for f, r, s in matching_pairs(rows, problem, ring):
        for first, second in ((r, s), (s, r)):
            g, h = (f + 1) % 3, (f + 2) % 3
            for sign in (1, -1) if ring == "Z" else (1,):
                rest = before.copy()
                one, two = ([factors[mode][row].copy() for mode in range(3)] for row in (first, second))
                aligned = 1 if (one[f] == two[f]).all() else -1
                for row in (one, two):
                    rest[_product(row, ring)] -= 1
                changed_h, changed_g = one[h] + sign * two[h], two[g] - sign * aligned * one[g]
                one[h], two[g] = changed_h, changed_g
                if ring == "F2":
                    one[h], two[g] = one[h] % 2, two[g] % 2
                if max(np.abs(one[h]).max(), np.abs(two[g]).max()) > 1:
                    continue
                rest.update(_product(row, ring) for row in (one, two))
                found.append(+rest)
    return found


def _product(row: list[np.ndarray], ring: WalkRing) -> bytes:
    product = np.einsum("a,b,c->abc", *row)
    return (product % 2 if ring == "F2" else product).tobytes()
