"""Compiled walks: the moves on rows of bit masks.

All compiled code of the walks is in this file, because numba's cache compares the time of the file
that holds a function, not of the files it calls.

A walk works on `x`, uint64 [3, words, capacity]: the masks of the rows, one column for each row,
zero beyond the last one. `signs` is None over F2; over Z it has one uint8 per row, 1 for a product
with the sign -1, and the first non-zero entry of every factor is 1, so that factors that are equal
up to sign are equal words. `words` is a tuple with one element per word: its length is known to
the compiler, which unrolls the loops over words and drops what a ring or a length does not need.

Matching pairs, two rows r < s with an equal factor f, are a list of keys in random order, and a
table of their places in it, so that a pair is drawn, added and removed in constant time. The key
of a pair is f << 2 * shift | r << shift | s.

Indices are unsigned: numba then omits the test for negative ones.
"""

# ruff: noqa: SIM110  # numba compiles loops, not generators
# pyright: reportCallIssue=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

ZERO, ONE, TWO, THREE = (np.uint64(value) for value in range(4))
HALF, BLOCK = np.uint64(32), np.uint64(64)
LOWER = np.uint64(0xFFFFFFFF)
NONE = np.uint64(0xFFFFFFFFFFFFFFFF)

# Registers of a walk, uint64 [NUM_REGISTERS], which are kept between calls.
RNG, ROWS, BEST, SINCE, IDLE, FLIPS, PLUS, SPLITS, REDUCTIONS, RECORDED, NUM_RECORDS, PAIRS, FIXED = (
    np.uint64(value) for value in range(13)
)
NUM_REGISTERS = 13

# Parameters of a walk, uint64 [NUM_PARAMETERS].
BUDGET, PLUS_AFTER, EXCESS, RESTART_AFTER, SPLIT_CHANCE, REDUCE_EVERY, STOP_RANK, RECORD_RANK = (
    np.uint64(value) for value in range(8)
)
NUM_PARAMETERS = 8

# Why a call of `walk` ended.
OUT_OF_BUDGET, AT_TARGET, NO_FLIP_LEFT, RESTART_DUE = range(4)

# How a run of flips ended.
_ALL_MADE, _REDUCIBLE, _NO_PAIR = np.uint64(0), np.uint64(1), np.uint64(2)


def _compiled(function: Callable[..., Any], inline: bool = False) -> Any:
    """Compiles a function, with a cache on disk where there is a folder for it."""
    options: dict[str, Any] = {
        "nogil": True,
        "boundscheck": False,
        "error_model": "numpy",
        "forceinline": inline,
    }
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # a read-only installation without a home folder
        return njit(**options)(function)


def _inlined(function: Callable[..., Any]) -> Any:
    """Compiles a function that becomes part of its callers."""
    return _compiled(function, inline=True)


@intrinsic
def _lowest_bit(typing: Any, word: Any) -> Any:
    """Returns the place of the lowest bit of a word that is not zero."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), generate


@_inlined
def _next(state):
    """Advances a xorshift generator."""
    state ^= state << np.uint64(13)
    state ^= state >> np.uint64(7)
    state ^= state << np.uint64(17)
    return state


@_inlined
def _below(state, limit):
    """Returns a number below a limit of at most 32 bits, from a generator's state."""
    return (((state * np.uint64(0x2545F4914F6CDD1D)) >> HALF) * limit) >> HALF


@_inlined
def _negated(word):
    return word << HALF | word >> HALF


@_inlined
def _sum(word, other):
    """Adds two words over Z without a place where both have the same sign."""
    return (word & ~_negated(other)) | (other & ~_negated(word))


@_inlined
def _combined(x, f, k, r, s, minus, signs):
    """Returns word k of factor f of row r plus row s, or minus it, before its sign is canonical."""
    if signs is None:
        return x[f, k, r] ^ x[f, k, s]
    other = x[f, k, s]
    if minus:
        other = _negated(other)
    return _sum(x[f, k, r], other)


@_inlined
def _is_ternary(x, f, r, s, minus, words, signs):
    """Returns whether factor f of row r plus or minus row s has entries -1, 0 and 1 only."""
    if signs is not None:
        for k in range(np.uint64(len(words))):
            other = x[f, k, s]
            if minus:
                other = _negated(other)
            if x[f, k, r] & other:
                return False
    return True


@_inlined
def _combined_is_negative(x, f, r, s, minus, words, signs):
    """Returns whether the first non-zero entry of row r plus or minus row s is -1."""
    if signs is not None:
        for k in range(np.uint64(len(words))):
            word = _combined(x, f, k, r, s, minus, signs)
            support = (word | word >> HALF) & LOWER
            if support:
                return (word >> HALF & (support & (~support + ONE))) != ZERO
    return False


@_compiled
def _combined_is_zero(x, f, r, s, minus, words, signs):
    for k in range(np.uint64(len(words))):
        if _combined(x, f, k, r, s, minus, signs):
            return False
    return True


@_inlined
def _same(x, f, r, s, words):
    """Returns whether two rows have an equal factor f."""
    for k in range(np.uint64(len(words))):
        if x[f, k, r] != x[f, k, s]:
            return False
    return True


@_compiled
def _add_to(x, f, r, s, minus, words, signs):
    """Adds factor f of row s to that of row r, or subtracts it, and makes the sign canonical."""
    negative = _combined_is_negative(x, f, r, s, minus, words, signs)
    for k in range(np.uint64(len(words))):
        word = _combined(x, f, k, r, s, minus, signs)
        x[f, k, r] = _negated(word) if negative else word
    if signs is not None and negative:
        signs[r] ^= np.uint8(1)


@_inlined
def _matches(x, f, base, end, r, s, minus, negative, words, signs):
    """Compares factor f of the rows base to end - 1, at most 64, with that of row r.

    Returns:
      The rows equal to it as it is, and those equal to what it becomes, one bit each.
    """
    old, new = ZERO, ZERO
    if len(words) == 1:
        before = x[f, ZERO, r]
        after = _combined(x, f, ZERO, r, s, minus, signs)
        if negative:
            after = _negated(after)
        for i in range(base, end):
            word = x[f, ZERO, i]
            old |= np.uint64(word == before) << (i - base)
            new |= np.uint64(word == after) << (i - base)
        return old, new
    for i in range(base, end):
        as_before, as_after = True, True
        for k in range(np.uint64(len(words))):
            word = x[f, k, i]
            after = _combined(x, f, k, r, s, minus, signs)
            if negative:
                after = _negated(after)
            as_before &= word == x[f, k, r]
            as_after &= word == after
        old |= np.uint64(as_before) << (i - base)
        new |= np.uint64(as_after) << (i - base)
    return old, new


@_inlined
def _key(f, r, s, shift):
    low, high = (r, s) if r < s else (s, r)
    return f << (TWO * shift) | low << shift | high


@_inlined
def _add_pair(pairs, places, num_pairs, key):
    """Adds a matching pair; returns their number."""
    pairs[num_pairs] = key
    places[key] = num_pairs
    return num_pairs + ONE


@_inlined
def _drop_pair(pairs, places, num_pairs, key):
    """Removes a matching pair, whose place the last one takes; returns their number."""
    last = num_pairs - ONE
    place, moved = places[key], pairs[last]
    pairs[place] = moved
    places[moved] = place
    return last


@_inlined
def _change(x, signs, pairs, places, num_pairs, num_rows, shift, f, r, s, minus, words):
    """Adds factor f of row s to that of row r and updates the matching pairs.

    Returns:
      The number of pairs, and whether row r now equals another row in two factors.
    """
    negative = _combined_is_negative(x, f, r, s, minus, words, signs)
    g = f + ONE if f < TWO else ZERO
    h = g + ONE if g < TWO else ZERO
    reducible = False
    padded = (num_rows + np.uint64(7)) & ~np.uint64(7)
    for base in range(ZERO, padded, BLOCK):
        old, new = _matches(x, f, base, min(padded, base + BLOCK), r, s, minus, negative, words, signs)
        if r - base < BLOCK:
            old &= ~(ONE << (r - base))
        while old:
            key = _key(f, r, base + _lowest_bit(old), shift)
            old &= old - ONE
            num_pairs = _drop_pair(pairs, places, num_pairs, key)
        while new:
            i = base + _lowest_bit(new)
            new &= new - ONE
            key = _key(f, r, i, shift)
            num_pairs = _add_pair(pairs, places, num_pairs, key)
            reducible |= _same(x, g, r, i, words) | _same(x, h, r, i, words)
    for k in range(np.uint64(len(words))):
        word = _combined(x, f, k, r, s, minus, signs)
        x[f, k, r] = _negated(word) if negative else word
    if signs is not None and negative:
        signs[r] ^= np.uint8(1)
    return num_pairs, reducible


@_compiled
def _flips(x, signs, pairs, places, num_pairs, num_rows, shift, state, count, words):
    """Makes up to `count` flips of random matching pairs; stops when rows can be merged.

    Over Z a flip whose result is not ternary is not made, but counted.

    Returns:
      The number of pairs, the generator's state, the number of flips tried and made, and why they
      ended.
    """
    mask = (ONE << shift) - ONE
    made, tried = ZERO, ZERO
    while tried < count:
        if num_pairs == ZERO:
            return num_pairs, state, tried, made, _NO_PAIR
        state = _next(state)
        tried += ONE
        key = np.uint64(pairs[_below(state, num_pairs)])
        f, r, s = key >> (TWO * shift), key >> shift & mask, key & mask
        if state & ONE:
            r, s = s, r
        g = f + ONE if f < TWO else ZERO
        h = g + ONE if g < TWO else ZERO
        # x_f (r_g r_h + e s_g s_h) = x_f (r_g (r_h + t s_h) + e (s_g - t e r_g) s_h), e the product
        # of the signs, t any sign.
        minus_r, minus_s = False, False
        if signs is not None:
            minus_r = (state & TWO) != ZERO
            minus_s = (signs[r] != signs[s]) == minus_r
            if not (
                _is_ternary(x, h, r, s, minus_r, words, signs)
                and _is_ternary(x, g, s, r, minus_s, words, signs)
            ):
                minus_r, minus_s = not minus_r, not minus_s
                if not (
                    _is_ternary(x, h, r, s, minus_r, words, signs)
                    and _is_ternary(x, g, s, r, minus_s, words, signs)
                ):
                    continue
            if _same(x, h, r, s, words) or _same(x, g, r, s, words):
                # Rows equal in two factors, whose merge was not ternary before another flip changed
                # the third: the flip would leave a zero.
                return num_pairs, state, tried, made, _REDUCIBLE
        made += ONE
        num_pairs, first = _change(
            x, signs, pairs, places, num_pairs, num_rows, shift, h, r, s, minus_r, words
        )
        num_pairs, second = _change(
            x, signs, pairs, places, num_pairs, num_rows, shift, g, s, r, minus_s, words
        )
        if first or second:
            return num_pairs, state, tried, made, _REDUCIBLE
    return num_pairs, state, tried, made, _ALL_MADE


@_compiled
def list_pairs(x, pairs, places, num_rows, shift, words):
    """Lists the matching pairs of all rows.

    Returns:
      Their number.
    """
    num_pairs = ZERO
    for f in range(THREE):
        for r in range(num_rows):
            for s in range(r + ONE, num_rows):
                if _same(x, f, r, s, words):
                    key = _key(f, r, s, shift)
                    num_pairs = _add_pair(pairs, places, num_pairs, key)
    return num_pairs


@_compiled
def _copy_row(x, signs, target, source, words):
    for f in range(THREE):
        for k in range(np.uint64(len(words))):
            x[f, k, target] = x[f, k, source]
    if signs is not None:
        signs[target] = signs[source]


@_compiled
def _remove_row(x, signs, num_rows, r, words):
    """Removes a row; the last one takes its place.

    Returns:
      The number of rows.
    """
    last = num_rows - ONE
    _copy_row(x, signs, r, last, words)
    for f in range(THREE):
        for k in range(np.uint64(len(words))):
            x[f, k, last] = ZERO
    if signs is not None:
        signs[last] = np.uint8(0)
    return last


@_compiled
def _is_zero(x, f, r, words):
    for k in range(np.uint64(len(words))):
        if x[f, k, r]:
            return False
    return True


@_compiled
def _merge(x, signs, num_rows, r, s, words):
    """Merges two rows that are equal in two factors, where the sum of the third is ternary.

    Returns:
      The number of rows.
    """
    f, equal = ZERO, ZERO
    for mode in range(THREE):
        if _same(x, mode, r, s, words):
            equal += ONE
        else:
            f = mode
    if equal < TWO:
        return num_rows
    minus = False
    if signs is not None:
        minus = signs[r] != signs[s]
    if not _is_ternary(x, f, r, s, minus, words, signs):
        return num_rows
    if _combined_is_zero(x, f, r, s, minus, words, signs):
        num_rows = _remove_row(x, signs, num_rows, max(r, s), words)
        return _remove_row(x, signs, num_rows, min(r, s), words)
    _add_to(x, f, r, s, minus, words, signs)
    return _remove_row(x, signs, num_rows, s, words)


@_compiled
def reduce_equal(x, signs, num_rows, words):
    """Drops rows with a zero factor and merges rows that are equal in two factors, while there are
    any.

    Returns:
      The number of rows.
    """
    r = ZERO
    while r < num_rows:
        if _is_zero(x, ZERO, r, words) or _is_zero(x, ONE, r, words) or _is_zero(x, TWO, r, words):
            num_rows = _remove_row(x, signs, num_rows, r, words)
        else:
            r += ONE
    r = ZERO
    while r < num_rows:
        s, before = r + ONE, num_rows
        while s < num_rows and num_rows == before:
            num_rows = _merge(x, signs, num_rows, r, s, words)
            s += ONE
        r = r + ONE if num_rows == before else ZERO
    return num_rows


@_compiled
def _support(x, f, k, r, signs):
    """Returns the places of word k at which factor f of row r is odd."""
    word = x[f, k, r]
    if signs is None:
        return word
    return (word | word >> HALF) & LOWER


@_compiled
def _dependence(x, signs, g, members, count, basis, used, words):
    """Returns members of a group whose factors g add up to zero modulo 2, one bit each, or 0.

    Args:
      x, signs, words: see the module.
      g: the factor.
      members, count: the rows, of which at most 64 are considered.
      basis, used: memory for 64 vectors and the members that each is the sum of.
    """
    num_words = np.uint64(len(words))
    for j in range(min(count, BLOCK)):
        combination = ONE << j
        for k in range(num_words):
            basis[j, k] = _support(x, g, k, members[j], signs)
        for i in range(j):
            # Each vector of the basis has a lowest bit that no later one has.
            lead = ZERO
            while basis[i, lead] == ZERO:
                lead += ONE
            if basis[j, lead] & (basis[i, lead] & (~basis[i, lead] + ONE)):
                combination ^= used[i]
                for k in range(num_words):
                    basis[j, k] ^= basis[i, k]
        used[j] = combination
        zero = True
        for k in range(num_words):
            zero &= basis[j, k] == ZERO
        if zero:
            return combination
    return ZERO


@_compiled
def _vanishes(x, g, chosen, count, minuses, words):
    """Returns whether factors g of the chosen rows, with the signs of the bits of `minuses`, add up
    to zero over Z.
    """
    for k in range(np.uint64(len(words))):
        for place in range(HALF):
            total = 0
            for i in range(count):
                word = x[g, k, chosen[i]] >> place
                value = np.int64(word & ONE) - np.int64(word >> HALF & ONE)
                total += -value if minuses >> i & ONE else value
            if total != 0:
                return False
    return True


@_compiled
def _distribute(x, signs, num_rows, h, chosen, count, minuses, words):
    """Removes one of rows with an equal factor whose second factors, with the signs of the bits of
    `minuses`, add up to zero: adds its factor h to those of the others.

    Returns:
      The number of rows; unchanged if no row can be removed with ternary results.
    """
    for drop in range(count):
        j, possible = chosen[drop], True
        for pass_number in range(2):
            for index in range(count):
                if index == drop or not possible:
                    continue
                i, minus = chosen[index], False
                if signs is not None:
                    # x_j = -e_j sum e_i x_i, so row i gets -s_i s_j e_i e_j times the factor h.
                    differ = (minuses >> index & ONE) != (minuses >> drop & ONE)
                    minus = differ == (signs[i] != signs[j])
                if pass_number == 0:
                    possible = _is_ternary(x, h, i, j, minus, words, signs)
                else:
                    _add_to(x, h, i, j, minus, words, signs)
        if possible:
            return _remove_row(x, signs, num_rows, j, words)
    return num_rows


@_compiled
def _reduce_group(x, signs, num_rows, f, members, count, chosen, basis, used, words):
    """Removes a row of a group with equal factors f whose other factors are linearly dependent.

    Returns:
      The number of rows; unchanged if there is no dependence that can be used.
    """
    for turn in range(ONE, THREE):
        g = (f + turn) % THREE
        h = THREE - f - g
        combination = _dependence(x, signs, g, members, count, basis, used, words)
        if combination == ZERO:
            continue
        size = ZERO
        while combination:
            chosen[size] = members[_lowest_bit(combination)]
            combination &= combination - ONE
            size += ONE
        if signs is None:
            return _distribute(x, signs, num_rows, h, chosen, size, ZERO, words)
        if size > np.uint64(8):
            continue
        for minuses in range(ZERO, ONE << size, TWO):
            if _vanishes(x, g, chosen, size, minuses, words):
                fewer = _distribute(x, signs, num_rows, h, chosen, size, minuses, words)
                if fewer < num_rows:
                    return fewer
    return num_rows


@_compiled
def reduce_dependent(x, signs, num_rows, words):
    """Removes rows by linear dependences: rows that share one factor, and whose second factors are
    linearly dependent.

    Returns:
      The number of rows.
    """
    members = np.empty(num_rows, np.uint64)
    chosen = np.empty(64, np.uint64)
    basis, used = np.empty((64, len(words)), np.uint64), np.empty(64, np.uint64)
    f, r = ZERO, ZERO
    while f < THREE:
        count = ZERO
        for s in range(r, num_rows):
            if _same(x, f, r, s, words):
                members[count] = s
                count += ONE
        before = num_rows
        if count > TWO:
            num_rows = _reduce_group(x, signs, num_rows, f, members, count, chosen, basis, used, words)
        if num_rows < before:
            num_rows = reduce_equal(x, signs, num_rows, words)
            f, r = ZERO, ZERO
            continue
        r += ONE
        if r >= num_rows:
            f, r = f + ONE, ZERO
    return num_rows


@_compiled
def flip_rows(x, signs, f, r, s, swapped, minus, words):
    """Flips two rows that share factor f, without a list of pairs.

    Args:
      x, signs, words: see the module.
      f, r, s: the factor and the rows.
      swapped: which of the other factors of row r changes: the second after f, or the first.
      minus: whether row s is subtracted there; over Z.

    Returns:
      Whether the result is ternary; if not, nothing is changed.
    """
    g, h = (f + ONE) % THREE, (f + TWO) % THREE
    if swapped:
        g, h = h, g
    minus_s = False
    if signs is not None:
        minus_s = (signs[r] != signs[s]) == minus
    if not (_is_ternary(x, h, r, s, minus, words, signs) and _is_ternary(x, g, s, r, minus_s, words, signs)):
        return False
    _add_to(x, h, r, s, minus, words, signs)
    _add_to(x, g, s, r, minus_s, words, signs)
    return True


@_compiled
def split_row(x, signs, num_rows, r, s, f, minus, words):
    """Splits row r: its factor f becomes that of row s, or minus it, and a new row at the end has
    the rest.

    Returns:
      Whether the rest is ternary and not zero; if not, nothing is changed.
    """
    if not _is_ternary(x, f, r, s, not minus, words, signs) or _same(x, f, r, s, words):
        return False
    _copy_row(x, signs, num_rows, r, words)
    _add_to(x, f, num_rows, s, not minus, words, signs)
    for k in range(np.uint64(len(words))):
        x[f, k, r] = x[f, k, s]
    if signs is not None and minus:
        signs[r] ^= np.uint8(1)
    return True


@_compiled
def undo_split(x, signs, num_rows, r, f, words):
    """Puts the last row, beyond the first `num_rows`, back into row r, from which it was split.

    Returns:
      The number of rows.
    """
    minus = False
    if signs is not None:
        minus = signs[r] != signs[num_rows]
    _add_to(x, f, r, num_rows, minus, words, signs)
    return _remove_row(x, signs, num_rows + ONE, num_rows, words)


@_compiled
def plus_rows(x, signs, num_rows, r, s, f, minus_split, minus, words):
    """Replaces two rows by three: the plus transition.

    a1 b1 c1 + a2 b2 c2 = a2 b1 (c1 + c2) + a2 (b2 + b1) c2 + (a1 + a2) b1 c1: row r is split in
    factor f into that of row s and the rest, then flipped with row s.

    Returns:
      The number of rows; unchanged if the rows share factor f or the result is not ternary.
    """
    if not split_row(x, signs, num_rows, r, s, f, minus_split, words):
        return num_rows
    if flip_rows(x, signs, f, r, s, False, minus, words) or flip_rows(
        x, signs, f, r, s, False, not minus, words
    ):
        return num_rows + ONE
    return undo_split(x, signs, num_rows, r, f, words)


@_compiled
def split_rows(x, signs, num_rows, r, s, f, start, minus_split, minus, words):
    """Splits row r by factor f of row s, then flips the new row with a third one that shares
    another factor with it, so that the two parts cannot be merged again.

    Args:
      x, signs, words: see the module.
      num_rows, r, s, f, minus_split: as in `split_row`.
      start: the row from which the search for a third one starts.
      minus: the sign of the flip that is tried first, over Z.

    Returns:
      The number of rows; unchanged if there is no third row or the result is not ternary.
    """
    if not split_row(x, signs, num_rows, r, s, f, minus_split, words):
        return num_rows
    for offset in range(num_rows):
        p = (start + offset) % num_rows
        for turn in range(ONE, THREE):
            g = (f + turn) % THREE
            if p == r or not _same(x, g, p, r, words):
                continue
            # The new row changes in the factor that is neither f nor g, row p in factor f.
            swapped = turn == ONE
            if flip_rows(x, signs, g, num_rows, p, swapped, minus, words):
                return num_rows + ONE
            if flip_rows(x, signs, g, num_rows, p, swapped, not minus, words):
                return num_rows + ONE
    return undo_split(x, signs, num_rows, r, f, words)


@_compiled
def _transition(x, signs, num_rows, state, split_chance, words):
    """Raises the number of rows by a split or plus transition of random rows; tries 64 times.

    Returns:
      The number of rows, the generator's state and whether it was a split.
    """
    state = _next(state)
    split = _below(state, NONE >> HALF) < split_chance
    for _ in range(64):
        state = _next(state)
        r = _below(state, num_rows)
        state = _next(state)
        s = _below(state, num_rows)
        state = _next(state)
        f = _below(state, THREE)
        if r == s:
            continue
        swapped, minus = (state & ONE) != ZERO, (state & TWO) != ZERO
        if split:
            start = (state >> THREE) % num_rows
            more = split_rows(x, signs, num_rows, r, s, f, start, swapped, minus, words)
        else:
            more = plus_rows(x, signs, num_rows, r, s, f, swapped, minus, words)
        if more > num_rows:
            return more, state, split
    return num_rows, state, split


@_compiled
def _record(x, signs, registers, rows_out, signs_out, words):
    """Copies the rows to the next free record. A lower rank than that of the records replaces all
    of them.
    """
    num_rows = registers[ROWS]
    if num_rows < registers[RECORDED]:
        registers[RECORDED], registers[NUM_RECORDS] = num_rows, ZERO
    number = registers[NUM_RECORDS]
    if number >= np.uint64(len(rows_out)):
        return
    for r in range(num_rows):
        for f in range(THREE):
            for k in range(np.uint64(len(words))):
                rows_out[number, f, k, r] = x[f, k, r]
        if signs is not None:
            signs_out[number, r] = signs[r]
    registers[NUM_RECORDS] = number + ONE


@_compiled
def _lowered(x, signs, registers, parameters, rows_out, signs_out, num_rows, words):
    """Notes that a reduction left fewer rows."""
    registers[REDUCTIONS] += registers[ROWS] - num_rows
    registers[ROWS], registers[SINCE] = num_rows, ZERO
    if num_rows < registers[BEST]:
        registers[BEST], registers[IDLE] = num_rows, ZERO
    if num_rows <= min(parameters[RECORD_RANK], registers[RECORDED]):
        _record(x, signs, registers, rows_out, signs_out, words)


@_compiled
def _raise(x, signs, registers, parameters, capacity, words):
    """Makes a transition if the rank may rise.

    Returns:
      Whether there was one.
    """
    num_rows = registers[ROWS]
    registers[SINCE] = ZERO
    if num_rows >= min(registers[BEST] + parameters[EXCESS], capacity):
        return False
    more, registers[RNG], split = _transition(
        x, signs, num_rows, registers[RNG], parameters[SPLIT_CHANCE], words
    )
    if more == num_rows:
        return False
    registers[SPLITS if split else PLUS] += ONE
    registers[ROWS] = more
    return True


@_compiled
def walk(x, signs, pairs, places, registers, parameters, rows_out, signs_out, shift, words):
    """Walks for a budget of flips.

    Args:
      x, signs, words: see the module; changed.
      pairs, places: memory for the matching pairs.
      registers, parameters: see the constants; registers are changed.
      rows_out: [N, 3, words, capacity], records: schemes of the lowest rank, at most RECORD_RANK,
        that reductions led to.
      signs_out: [N, capacity], their signs, or None over F2.
      shift: number of bits of a row's index in the key of a pair.

    Returns:
      Number of flips tried, and why the walk ended.
    """
    capacity = np.uint64(x.shape[2])
    num_pairs = list_pairs(x, pairs, places, registers[ROWS], shift, words)
    tried, dependence_due = ZERO, parameters[REDUCE_EVERY]
    while tried < parameters[BUDGET]:
        if registers[ROWS] <= parameters[STOP_RANK]:
            break
        if registers[IDLE] >= parameters[RESTART_AFTER]:
            break
        if num_pairs == ZERO and registers[IDLE] > ZERO:
            break
        if num_pairs == ZERO or registers[SINCE] >= parameters[PLUS_AFTER]:
            raised = _raise(x, signs, registers, parameters, capacity, words)
            if not raised and num_pairs == ZERO:
                break
            if raised:
                before = registers[ROWS]
                num_rows = reduce_equal(x, signs, before, words)
                if num_rows < before:
                    _lowered(x, signs, registers, parameters, rows_out, signs_out, num_rows, words)
                num_pairs = list_pairs(x, pairs, places, registers[ROWS], shift, words)
        steps = min(parameters[BUDGET] - tried, parameters[PLUS_AFTER] - registers[SINCE], dependence_due)
        num_pairs, registers[RNG], count, made, event = _flips(
            x, signs, pairs, places, num_pairs, registers[ROWS], shift, registers[RNG], steps, words
        )
        tried += count
        dependence_due -= count
        registers[FLIPS] += made
        registers[SINCE] += count
        registers[IDLE] += max(count, ONE)
        num_rows = registers[ROWS]
        if event == _REDUCIBLE:
            num_rows = reduce_equal(x, signs, num_rows, words)
        if dependence_due == ZERO:
            dependence_due = parameters[REDUCE_EVERY]
            num_rows = reduce_dependent(x, signs, num_rows, words)
        if num_rows < registers[ROWS]:
            _lowered(x, signs, registers, parameters, rows_out, signs_out, num_rows, words)
            num_pairs = list_pairs(x, pairs, places, num_rows, shift, words)
    registers[PAIRS] = num_pairs
    if registers[ROWS] <= parameters[STOP_RANK]:
        return tried, AT_TARGET
    if registers[IDLE] >= parameters[RESTART_AFTER]:
        return tried, RESTART_DUE
    return tried, (NO_FLIP_LEFT if num_pairs == ZERO else OUT_OF_BUDGET)


# Schemes with cyclic symmetry: x holds one row for each orbit {a b c, b c a, c a b}, and `fixed`
# the factors a of the products a a a. A slot is a factor of an orbit; slots of all three places are
# compared with each other, because each of the three products of an orbit starts with another one.


@_inlined
def _place_after(f, step):
    """Returns the place that is `step` after place f, in the order 0, 1, 2, 0."""
    after = f + step
    return after - THREE if after >= THREE else after


@_inlined
def _equal_slots(x, f, r, g, s, words):
    """Returns whether factor f of orbit r and factor g of orbit s are equal."""
    for k in range(np.uint64(len(words))):
        if x[f, k, r] != x[g, k, s]:
            return False
    return True


@_inlined
def _slot_key(f, r, g, s, shift):
    a, b = f << shift | r, g << shift | s
    low, high = (a, b) if a < b else (b, a)
    return low << (shift + TWO) | high


@_inlined
def _slot_matches(x, f, base, r, p, s, q, words):
    """Compares factor f of the orbits base to base + 63 with factor p of orbit r.

    Returns:
      The orbits equal to it as it is, and those equal to it plus factor q of orbit s, one bit each.
    """
    old, new = ZERO, ZERO
    if len(words) == 1:
        before = x[p, ZERO, r]
        after = before ^ x[q, ZERO, s]
        for i in range(BLOCK):
            word = x[f, ZERO, base + i]
            old |= np.uint64(word == before) << i
            new |= np.uint64(word == after) << i
        return old, new
    for i in range(BLOCK):
        as_before, as_after = True, True
        for k in range(np.uint64(len(words))):
            word = x[f, k, base + i]
            as_before &= word == x[p, k, r]
            as_after &= word == x[p, k, r] ^ x[q, k, s]
        old |= np.uint64(as_before) << i
        new |= np.uint64(as_after) << i
    return old, new


@_inlined
def _change_slot(x, pairs, places, num_pairs, num_rows, shift, p, r, q, s, words):
    """Adds factor q of orbit s to factor p of orbit r and updates the matching pairs.

    Returns:
      The number of pairs, and whether orbit r can now be merged with another one, or is a product
      of three equal factors.
    """
    reducible = False
    for f in range(THREE):
        for base in range(ZERO, num_rows, BLOCK):
            old, new = _slot_matches(x, f, base, r, p, s, q, words)
            if r - base < BLOCK:
                own = ONE << (r - base)
                if f != p and new & own:
                    reducible |= _equal_slots(x, f, r, THREE - f - p, r, words)
                old &= ~own
                new &= ~own
            while old:
                key = _slot_key(p, r, f, base + _lowest_bit(old), shift)
                old &= old - ONE
                num_pairs = _drop_pair(pairs, places, num_pairs, key)
            while new:
                i = base + _lowest_bit(new)
                new &= new - ONE
                key = _slot_key(p, r, f, i, shift)
                num_pairs = _add_pair(pairs, places, num_pairs, key)
                for step in range(ONE, THREE):
                    reducible |= _equal_slots(x, _place_after(p, step), r, _place_after(f, step), i, words)
    for k in range(np.uint64(len(words))):
        x[p, k, r] ^= x[q, k, s]
    return num_pairs, reducible


@_compiled
def _flip_orbits(x, pairs, places, num_pairs, num_rows, shift, state, count, words):
    """Makes up to `count` flips of random matching pairs of orbits; stops when orbits can be
    merged.

    A flip of two products is a flip of their images, too, so that the symmetry remains.

    Returns:
      The number of pairs, the generator's state, the number of flips made, and why they ended.
    """
    slots, orbits = (ONE << (shift + TWO)) - ONE, (ONE << shift) - ONE
    for made in range(count):
        if num_pairs == ZERO:
            return num_pairs, state, made, _NO_PAIR
        state = _next(state)
        key = np.uint64(pairs[_below(state, num_pairs)])
        a, b = key >> (shift + TWO), key & slots
        if state & ONE:
            a, b = b, a
        p, r, q, s = a >> shift, a & orbits, b >> shift, b & orbits
        # Orbits turned so that the equal factors come first: a b1 c1 + a b2 c2 = a b1 (c1 + c2) +
        # a (b1 + b2) c2.
        p1, p2, q1, q2 = (
            _place_after(p, ONE),
            _place_after(p, TWO),
            _place_after(q, ONE),
            _place_after(q, TWO),
        )
        num_pairs, first = _change_slot(x, pairs, places, num_pairs, num_rows, shift, p2, r, q2, s, words)
        num_pairs, second = _change_slot(x, pairs, places, num_pairs, num_rows, shift, q1, s, p1, r, words)
        if first or second:
            return num_pairs, state, made + ONE, _REDUCIBLE
    return num_pairs, state, count, _ALL_MADE


@_compiled
def list_slot_pairs(x, pairs, places, num_rows, shift, words):
    """Lists the matching pairs of slots of different orbits.

    Returns:
      Their number.
    """
    num_pairs = ZERO
    for f in range(THREE):
        for g in range(f, THREE):
            for r in range(num_rows):
                for s in range(r + ONE if f == g else ZERO, num_rows):
                    if r != s and _equal_slots(x, f, r, g, s, words):
                        key = _slot_key(f, r, g, s, shift)
                        num_pairs = _add_pair(pairs, places, num_pairs, key)
    return num_pairs


@_compiled
def _toggle_fixed(x, fixed, num_fixed, r, words):
    """Adds a product of three equal factors, that of orbit r; the product is removed if it is
    there.

    Returns:
      The number of such products; unchanged if there is no room.
    """
    for i in range(num_fixed):
        equal = True
        for k in range(np.uint64(len(words))):
            equal &= fixed[k, i] == x[ZERO, k, r]
        if equal:
            return _remove_fixed(fixed, num_fixed, i, words)
    if num_fixed == np.uint64(fixed.shape[1]):
        return num_fixed
    for k in range(np.uint64(len(words))):
        fixed[k, num_fixed] = x[ZERO, k, r]
    return num_fixed + ONE


@_compiled
def _remove_fixed(fixed, num_fixed, i, words):
    last = num_fixed - ONE
    for k in range(np.uint64(len(words))):
        fixed[k, i] = fixed[k, last]
        fixed[k, last] = ZERO
    return last


@_compiled
def _merge_orbits(x, num_rows, r, s, words):
    """Merges two orbits that have two equal factors, after one of them is turned.

    Returns:
      The number of orbits.
    """
    for step in range(THREE):
        equal, f = ZERO, ZERO
        for place in range(THREE):
            if _equal_slots(x, place, r, _place_after(place, step), s, words):
                equal += ONE
            else:
                f = place
        if equal == THREE:
            num_rows = _remove_row(x, None, num_rows, max(r, s), words)
            return _remove_row(x, None, num_rows, min(r, s), words)
        if equal == TWO:
            for k in range(np.uint64(len(words))):
                x[f, k, r] ^= x[_place_after(f, step), k, s]
            return _remove_row(x, None, num_rows, s, words)
    return num_rows


@_compiled
def reduce_orbits(x, fixed, num_rows, num_fixed, words):
    """Drops orbits with a zero factor, merges orbits that have two equal factors, and turns an
    orbit of three equal products, which are one modulo 2, into a fixed product, while there are
    any.

    Returns:
      The numbers of orbits and of fixed products.
    """
    r = ZERO
    while r < num_rows:
        before = num_rows
        if _is_zero(x, ZERO, r, words) or _is_zero(x, ONE, r, words) or _is_zero(x, TWO, r, words):
            num_rows = _remove_row(x, None, num_rows, r, words)
        elif _equal_slots(x, ZERO, r, ONE, r, words) and _equal_slots(x, ONE, r, TWO, r, words):
            changed = _toggle_fixed(x, fixed, num_fixed, r, words)
            if changed != num_fixed:
                num_fixed = changed
                num_rows = _remove_row(x, None, num_rows, r, words)
        for s in range(r + ONE, num_rows):
            if num_rows == before:
                num_rows = _merge_orbits(x, num_rows, r, s, words)
        r = r + ONE if num_rows == before else ZERO
    return num_rows, num_fixed


@_compiled
def _plus_orbits(x, num_rows, r, s, f, step, words):
    """Replaces two orbits by three: a1 b1 c1 + a2 b2 c2 = a1 (b1 + b2) c1 + a1 b2 (c1 + c2) +
    (a1 + a2) b2 c2, where a1 is factor f of orbit r and orbit s is turned by `step`.

    Returns:
      The number of orbits; unchanged if two of these factors are equal.
    """
    for place in range(THREE):
        if _equal_slots(x, place, r, _place_after(place, step), s, words):
            return num_rows
    g, h = _place_after(f, ONE), _place_after(f, TWO)
    a, b, c = _place_after(f, step), _place_after(g, step), _place_after(h, step)
    for k in range(np.uint64(len(words))):
        x[f, k, num_rows] = x[f, k, r]
        x[g, k, num_rows] = x[b, k, s]
        x[h, k, num_rows] = x[h, k, r] ^ x[c, k, s]
        x[g, k, r] ^= x[b, k, s]
        x[a, k, s] ^= x[f, k, r]
    return num_rows + ONE


@_compiled
def _raise_orbits(x, fixed, registers, capacity, words):
    """Raises the rank: by 3 through a plus transition of random orbits, or in one of eight cases by
    2 through a fixed product, which becomes the three equal products of an orbit.
    """
    num_rows, num_fixed, state = registers[ROWS], registers[FIXED], _next(registers[RNG])
    if num_rows < capacity and num_fixed > ZERO and _below(state, np.uint64(8)) == ZERO:
        state = _next(state)
        i = _below(state, num_fixed)
        for f in range(THREE):
            for k in range(np.uint64(len(words))):
                x[f, k, num_rows] = fixed[k, i]
        registers[FIXED] = _remove_fixed(fixed, num_fixed, i, words)
        registers[ROWS] = num_rows + ONE
    elif num_rows < capacity:
        for _ in range(64):
            state = _next(state)
            r = _below(state, num_rows)
            state = _next(state)
            s = _below(state, num_rows)
            state = _next(state)
            f = _below(state, THREE)
            state = _next(state)
            more = num_rows
            if r != s:
                more = _plus_orbits(x, num_rows, r, s, f, _below(state, THREE), words)
            if more > num_rows:
                more, registers[FIXED] = reduce_orbits(x, fixed, more, num_fixed, words)
                registers[ROWS] = more
                break
    registers[RNG] = state
    registers[PLUS] += ONE


@_compiled
def _record_orbits(x, fixed, registers, rows_out, fixed_out, counts_out, words):
    """Copies the orbits to the next free record. A lower rank than that of the records replaces
    all of them.
    """
    rank = THREE * registers[ROWS] + registers[FIXED]
    if rank < registers[RECORDED]:
        registers[RECORDED], registers[NUM_RECORDS] = rank, ZERO
    number = registers[NUM_RECORDS]
    if number >= np.uint64(len(rows_out)):
        return
    rows_out[number] = x
    fixed_out[number] = fixed
    counts_out[number, 0], counts_out[number, 1] = registers[ROWS], registers[FIXED]
    registers[NUM_RECORDS] = number + ONE


@_compiled
def walk_orbits(
    x,
    fixed,
    pairs,
    places,
    registers,
    parameters,
    rows_out,
    fixed_out,
    counts_out,
    shift,
    words,
):
    """Walks for a budget of flips over F2 among schemes with cyclic symmetry.

    Args:
      x, words: see the module; one row for each orbit; changed.
      fixed: [words, N], the factors of the fixed products; changed.
      pairs, places: memory for the matching pairs.
      registers, parameters: see the constants; registers are changed. ROWS is the number of orbits,
        and the other ranks are those of the schemes.
      rows_out: [N, 3, words, capacity], records: schemes of the lowest rank, at most RECORD_RANK,
        that reductions led to.
      fixed_out, counts_out: their fixed products, and the numbers of orbits and fixed products.
      shift: number of bits of an orbit's index in a slot.

    Returns:
      Number of flips tried, and why the walk ended.
    """
    capacity = np.uint64(x.shape[2])
    num_pairs = list_slot_pairs(x, pairs, places, registers[ROWS], shift, words)
    tried = ZERO
    while tried < parameters[BUDGET]:
        rank = THREE * registers[ROWS] + registers[FIXED]
        if rank <= parameters[STOP_RANK] or registers[IDLE] >= parameters[RESTART_AFTER]:
            break
        if num_pairs == ZERO and registers[IDLE] > ZERO:
            break
        if num_pairs == ZERO or registers[SINCE] >= parameters[PLUS_AFTER]:
            registers[SINCE] = ZERO
            if rank + THREE <= registers[BEST] + parameters[EXCESS]:
                _raise_orbits(x, fixed, registers, capacity, words)
                num_pairs = list_slot_pairs(x, pairs, places, registers[ROWS], shift, words)
            if num_pairs == ZERO:
                break
        steps = min(parameters[BUDGET] - tried, parameters[PLUS_AFTER] - registers[SINCE])
        num_pairs, registers[RNG], made, event = _flip_orbits(
            x, pairs, places, num_pairs, registers[ROWS], shift, registers[RNG], steps, words
        )
        tried += made
        registers[FLIPS] += made
        registers[SINCE] += made
        registers[IDLE] += max(made, ONE)
        if event != _REDUCIBLE:
            continue
        rank = THREE * registers[ROWS] + registers[FIXED]
        registers[ROWS], registers[FIXED] = reduce_orbits(x, fixed, registers[ROWS], registers[FIXED], words)
        num_pairs = list_slot_pairs(x, pairs, places, registers[ROWS], shift, words)
        lower = THREE * registers[ROWS] + registers[FIXED]
        registers[REDUCTIONS] += rank - lower
        if lower < registers[BEST]:
            registers[BEST], registers[IDLE], registers[SINCE] = lower, ZERO, ZERO
        if lower < rank and lower <= min(parameters[RECORD_RANK], registers[RECORDED]):
            _record_orbits(x, fixed, registers, rows_out, fixed_out, counts_out, words)
    registers[PAIRS] = num_pairs
    if THREE * registers[ROWS] + registers[FIXED] <= parameters[STOP_RANK]:
        return tried, AT_TARGET
    if registers[IDLE] >= parameters[RESTART_AFTER]:
        return tried, RESTART_DUE
    return tried, (NO_FLIP_LEFT if num_pairs == ZERO else OUT_OF_BUDGET)
