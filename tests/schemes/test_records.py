from __future__ import annotations

from itertools import combinations_with_replacement, permutations

import pytest

from matrixrl.schemes.bounds import Bounds
from matrixrl.schemes.known import known_scheme, standard, strassen
from matrixrl.schemes.records import (
    Coefficients,
    all_records,
    bounds,
    computed_bound,
    extended_records,
    find_record,
    judge,
    judge_scheme,
)


def test_the_table_has_every_format_from_2_to_8() -> None:
    assert [record.format for record in all_records()] == list(combinations_with_replacement(range(2, 9), 3))


def test_the_table_is_consistent() -> None:
    for record in all_records():
        n, m, p = record.format
        assert record.naive == n * m * p
        assert record.rational <= record.integer <= record.ternary < record.naive
        assert record.mod2 <= record.integer
        assert (record.coefficients == "ZT") == (record.ternary == record.rational)


def test_a_record_is_found_in_any_order_of_the_sides() -> None:
    for order in permutations((4, 2, 5)):
        record = find_record(order)
        assert record is not None
        assert (record.rational, record.integer, record.mod2, record.coefficients) == (32, 33, 33, "Q")
    assert find_record((1, 2, 3)) is None
    assert find_record((2, 2, 17)) is None


@pytest.mark.parametrize(
    ("rank", "coefficients", "words"),
    [
        (49, "ternary", "matches the record"),
        (48, "rational", "matches the record"),
        (48, "integer", "beats the record by 1"),
        (49, "mod2", "above the record by 2"),
        (64, "integer", "above the record by 15"),
    ],
)
def test_a_rank_is_judged_against_its_own_coefficients(
    rank: int, coefficients: Coefficients, words: str
) -> None:
    verdict = judge((4, 4, 4), rank, coefficients)
    assert verdict.message.startswith(f"4x4x4:{rank} {words} (best known ")
    assert verdict.naive == 64


def test_formats_outside_the_table_are_said_to_be() -> None:
    assert judge((1, 2, 3), 6, "integer").message.startswith("1x2x3:6 matches the record")
    outside = judge((9, 9, 17), 900, "integer")
    assert outside.record is None
    assert "no record" in outside.message


def test_a_scheme_competes_with_its_own_coefficients() -> None:
    assert judge_scheme(strassen()).coefficients == "ternary"
    assert judge_scheme(strassen().mod2()).coefficients == "mod2"
    assert judge_scheme(known_scheme((4, 4, 4))).message.startswith("4x4x4:49 matches")
    assert judge_scheme(standard((3, 2, 2))).message.startswith("3x2x2:12 above the record by 1")


def test_the_extended_table_goes_to_16_and_contains_the_core() -> None:
    rows = extended_records()
    assert [row.format for row in rows] == list(combinations_with_replacement(range(2, 17), 3))
    assert tuple(row for row in rows if row.is_core) == all_records()
    for row in rows:
        assert row.rational <= row.integer <= row.ternary < row.naive == row.format.naive_rank
        assert row.coefficients == (
            "ZT" if row.ternary == row.rational else "Z" if row.integer == row.rational else "Q"
        )
        assert row.source
    assert find_record((4, 10, 4)) == next(row for row in rows if row.format == (4, 4, 10))


def test_no_row_of_the_core_follows_from_others() -> None:
    for coefficients in ("rational", "integer", "ternary", "mod2"):
        assert all(computed_bound(row, coefficients) is None for row in all_records())


def test_a_computed_bound_is_the_sum_or_product_of_its_parts() -> None:
    of = bounds("mod2").of
    found = [bound for row in extended_records() if (bound := computed_bound(row, "mod2"))]
    assert found
    for bound in found:
        first, second = (of(tuple(part)) for part in bound.parts)
        assert bound.rank == (first.rank + second.rank if bound.how == "joined" else first.rank * second.rank)
        row = find_record(bound.format)
        assert row is not None
        assert bound.rank < row.mod2
        volume = first.format.naive_rank, second.format.naive_rank
        whole = bound.format.naive_rank
        assert whole == (volume[0] + volume[1] if bound.how == "joined" else volume[0] * volume[1])


def test_what_follows_from_other_rows_is_never_announced_as_beaten() -> None:
    row = find_record((3, 3, 14))
    assert row is not None
    bound = computed_bound(row, "mod2")
    assert bound is not None
    assert (row.mod2, bound.rank) == (98, 97)
    same = judge((3, 14, 3), 97, "mod2")
    assert not same.beats
    assert "no record" in same.message
    assert "joining 3x3x6:42 and 3x3x8:55 gives 97" in same.message
    better = judge((3, 14, 3), 96, "mod2")
    assert better.beats
    assert "beats the record by 2" in better.message


def test_bounds_beyond_a_small_table() -> None:
    table = {(2, 2, 2): 7}
    bounds_of = Bounds(lambda sizes: table.get(sizes)).of
    assert bounds_of((1, 3, 5)).rank == 15
    assert bounds_of((2, 2, 3)).rank == 11
    assert (bounds_of((4, 4, 4)).rank, bounds_of((4, 4, 4)).how) == (49, "multiplied")
    assert bounds_of((2, 2, 2)).how == "published"
    assert bounds_of((8, 8, 8)).words(bounds_of) == "multiplying 4x4x4:49 and 2x2x2:7"


def test_other_coefficients_have_no_record() -> None:
    assert judge((2, 2, 2), 7, "mod3").record is None
    assert judge((2, 2, 2), 7, "complex").record is None
    assert not judge((2, 2, 2), 1, "complex").beats
