from __future__ import annotations

from itertools import combinations_with_replacement, permutations

import pytest

from matrixrl.schemes.known import known_scheme, standard, strassen
from matrixrl.schemes.records import Coefficients, all_records, find_record, judge, judge_scheme


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
    assert find_record((2, 2, 9)) is None


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
    outside = judge((9, 9, 9), 500, "integer")
    assert outside.record is None
    assert "no record" in outside.message


def test_a_scheme_competes_with_its_own_coefficients() -> None:
    assert judge_scheme(strassen()).coefficients == "ternary"
    assert judge_scheme(strassen().mod2()).coefficients == "mod2"
    assert judge_scheme(known_scheme((4, 4, 4))).message.startswith("4x4x4:49 matches")
    assert judge_scheme(standard((3, 2, 2))).message.startswith("3x2x2:12 above the record by 1")
