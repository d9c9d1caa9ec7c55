"""Exact re-derivation over F2: a few products are replaced by others with the same sum.

The removed products span a small space in each factor. In coordinates of these spaces the products
that can occur are few, and a set of them with the given sum is found by meeting in the middle: sums
of half as many products are sorted, and searched for the difference to sums of the other half.
Sums are compared by a random linear hash of 64 bits, and a match is proved on the tensor itself.
"""

from __future__ import annotations

from math import comb

import numpy as np

from matrixrl.search.flip_graph.rows import canonical

MAX_SUMS = 600_000
"""Maximum number of sums of one half; selections of products that would need more are not tried."""

_DRAWS = 20


def rederive(
    rows: np.ndarray, count: int, rng: np.random.Generator, max_sums: int = MAX_SUMS
) -> np.ndarray | None:
    """Replaces related products of a scheme over F2 by fewer, or by equally many others.

    All numbers of products up to `count` are tried, fewest first; only products whose factors are
    sums of removed factors are considered.

    Args:
      rows: uint64 [R, 3, words].
      count: number of products to remove.
      rng: chooses the products, and one among several replacements.
      max_sums: bound on the work: number of sums that are listed.

    Returns:
      The new scheme, canonical; None if the chosen products have no other decomposition, or no
      choice keeps to the bound.
    """
    for _ in range(_DRAWS):
        chosen = related_rows(rows, count, rng)
        if len(chosen) < count:
            return None
        spans = [span(rows[chosen, mode]) for mode in range(3)]
        num_terms = int(np.prod([len(vectors) for vectors in spans]))
        if comb(num_terms, -(-count // 2)) <= max_sums:
            break
    else:
        return None
    given = rows[chosen]
    found = replacement(given, spans, rng)
    if found is None:
        return None
    kept = np.delete(rows, chosen, axis=0)
    return canonical(np.concatenate([kept, found]), "F2")


def related_rows(rows: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Returns the indices of products whose factors span small spaces: a random one, then one after
    another of those that enlarge the spaces least, with some chance.
    """
    chosen = [int(rng.integers(len(rows)))]
    while len(chosen) < min(count, len(rows)):
        bases = [_reduced(rows[chosen, mode]) for mode in range(3)]
        growth = np.zeros(len(rows))
        for r in range(len(rows)):
            growth[r] = sum(bool(_remainder(rows[r, mode], bases[mode]).any()) for mode in range(3))
        growth[chosen] = np.inf
        order = np.argsort(growth + 0.9 * rng.random(len(rows)) + (rng.random(len(rows)) < 0.05))
        chosen.append(int(order[0]))
    return np.array(chosen)


def span(vectors: np.ndarray) -> np.ndarray:
    """Returns all non-zero sums of vectors over F2; uint64 [N, words]."""
    sums = np.zeros((1, vectors.shape[1]), np.uint64)
    for vector in _reduced(vectors):
        sums = np.concatenate([sums, sums ^ vector])
    return sums[1:]


def replacement(given: np.ndarray, spans: list[np.ndarray], rng: np.random.Generator) -> np.ndarray | None:
    """Returns other products with the same sum, as few as possible and at most as many.

    Args:
      given: products, uint64 [k, 3, words].
      spans: the factors that new products may have, by mode.
      rng: of the hash, and of the choice among replacements of equal number.
    """
    code = _term_hashes(given, rng)
    lengths = (code.shape[0], code.shape[1], code.shape[2])
    given_places = _places_of(given, spans, lengths)
    wanted = np.bitwise_xor.reduce(code.ravel()[given_places])
    if wanted == 0:
        return np.zeros((0, *given.shape[1:]), np.uint64)
    original = np.sort(given_places)
    for size in range(1, len(given) + 1):
        sets = _sets_with_sum(code.ravel(), wanted, size)
        for index in rng.permutation(len(sets)):
            places = np.sort(sets[index])
            if size == len(given) and np.array_equal(places, original):
                continue
            parts = np.unravel_index(places, lengths)
            new = np.stack([spans[mode][parts[mode]] for mode in range(3)], axis=1)
            if _same_sum(given, new):
                return new
    return None


def _term_hashes(given: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns a hash of each product of the spans, [N, M, P], that is linear over F2 in the
    tensor.
    """
    dims = [len(_reduced(given[:, mode])) for mode in range(3)]
    code = rng.integers(0, 2**64, dims, dtype=np.uint64)
    for mode in range(3):
        # Sums of the slices in the order in which `span` lists its vectors.
        slices = np.moveaxis(code, mode, 0)
        sums = np.zeros((1, *slices.shape[1:]), np.uint64)
        for part in slices:
            sums = np.concatenate([sums, sums ^ part])
        code = np.moveaxis(sums[1:], 0, mode)
    return np.ascontiguousarray(code)


def _places_of(given: np.ndarray, spans: list[np.ndarray], lengths: tuple[int, int, int]) -> np.ndarray:
    """Returns the index of each product among all products of the spans."""
    parts = []
    for mode in range(3):
        equal = (given[:, mode, None, :] == spans[mode][None]).all(axis=2)
        parts.append(equal.argmax(axis=1))
    return np.asarray(np.ravel_multi_index((parts[0], parts[1], parts[2]), lengths))


def _sets_with_sum(code: np.ndarray, wanted: np.uint64, size: int) -> np.ndarray:
    """Returns sets of `size` different products whose hashes add up to a value; int64 [N, size],
    each set perhaps several times.
    """
    left, left_sums = _sums(code, -(-size // 2))
    if size == 1:
        return left[left_sums == wanted]
    right, right_sums = (left, left_sums) if size % 2 == 0 else _sums(code, size // 2)
    order = np.argsort(right_sums)
    ordered = right_sums[order]
    needed = left_sums ^ wanted
    first = np.searchsorted(ordered, needed, side="left")
    last = np.searchsorted(ordered, needed, side="right")
    found = []
    for index in np.flatnonzero(last > first):
        for place in order[first[index] : last[index]]:
            members = np.concatenate([left[index], right[place]])
            if len(set(members.tolist())) == size:
                found.append(members)
    return np.array(found, np.int64).reshape(-1, size)


def _sums(code: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns all sets of `size` products, and the sum of each one's hashes."""
    sets = np.arange(len(code))[:, None]
    sums = code.copy()
    for _ in range(size - 1):
        counts = len(code) - 1 - sets[:, -1]
        repeated = np.repeat(np.arange(len(sets)), counts)
        starts = np.repeat(np.cumsum(counts) - counts, counts)
        added = sets[repeated, -1] + 1 + np.arange(len(repeated)) - starts
        sets = np.concatenate([sets[repeated], added[:, None]], axis=1)
        sums = sums[repeated] ^ code[added]
    return sets, sums


def _same_sum(given: np.ndarray, new: np.ndarray) -> bool:
    """Returns whether two sets of products have the same sum over F2, exactly."""
    both = np.concatenate([given, new])
    bits = [
        np.unpackbits(np.ascontiguousarray(both[:, mode]).view(np.uint8), axis=1).astype(np.int64)
        for mode in range(3)
    ]
    bits = [factor[:, factor.any(axis=0)] for factor in bits]
    return not (np.einsum("ra,rb,rc->abc", *bits) % 2).any()


def _reduced(vectors: np.ndarray) -> list[np.ndarray]:
    """Returns a basis of the space that vectors over F2 span."""
    basis: list[np.ndarray] = []
    for vector in vectors:
        rest = _remainder(vector, basis)
        if rest.any():
            basis.append(rest)
    return basis


def _remainder(vector: np.ndarray, basis: list[np.ndarray]) -> np.ndarray:
    """Returns a vector reduced by a basis, each of whose vectors lacks the lowest bits of those
    before it.
    """
    for other in basis:
        word = int(np.flatnonzero(other)[0])
        lead = other[word] & (~other[word] + np.uint64(1))
        if vector[word] & lead:
            vector = vector ^ other
    return vector
