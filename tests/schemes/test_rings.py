"""Rings: numbers of each, schemes over each, exact proof in each."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matrixrl.schemes.equivalence import canonical_terms, same_terms
from matrixrl.schemes.formulas import formulas, growth_factor, parse_formulas
from matrixrl.schemes.known import laderman, standard, strassen
from matrixrl.schemes.rings import (
    ComplexRational,
    Number,
    Ring,
    contains,
    from_json_value,
    json_value,
    modulo,
    number_text,
    parse_number,
    simplify,
    smallest_ring,
)
from matrixrl.schemes.scheme import Format, Scheme, SchemeError
from matrixrl.schemes.symmetry import change_basis, random_basis
from matrixrl.schemes.verify import finite_rings_of, is_plausible, rings_of, verify
from tests.schemes.strategies import correct_schemes, rescaled

fractions = st.fractions(min_value=-50, max_value=50, max_denominator=12)
numbers = st.one_of(
    st.integers(-1000, 1000),
    fractions.map(simplify),
    st.builds(ComplexRational, fractions, fractions).map(simplify),
)
EVERYWHERE = ("Z", "F2", "F3", "Z[1/2]", "Q", "Q[i]")


@given(numbers)
def test_a_number_is_read_back_from_text_and_json(value: Number) -> None:
    assert parse_number(number_text(value)) == value
    assert parse_number(number_text(value, "*I")) == value
    assert from_json_value(json_value(value)) == value


@given(numbers, numbers, numbers)
def test_complex_rationals_are_a_field(x: Number, y: Number, z: Number) -> None:
    x = x + ComplexRational(Fraction(0), Fraction(0))
    assert x * (y + z) == x * y + x * z
    assert simplify(x - x) == 0
    if x:
        assert simplify(x / x) == 1
        assert simplify((1 / x) * x) == 1


@pytest.mark.parametrize(
    "text", ["", "1/0", "1+2", "1e3", "nan", "--1", "1/2/3", "i i", "3i4", "1^2", "0x1", "9" * 2000]
)
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not|denominator 0"):
        parse_number(text)


def test_the_smallest_ring() -> None:
    half, third, i = Fraction(1, 2), Fraction(1, 3), ComplexRational(Fraction(0), Fraction(1))
    assert smallest_ring([1, -3]) == "Z"
    assert smallest_ring([1, half]) == "Z[1/2]"
    assert smallest_ring([half, third]) == "Q"
    assert smallest_ring([1, i]) == "Q[i]"
    assert [ring for ring in EVERYWHERE if contains(ring, third)] == ["F2", "Q", "Q[i]"]
    assert [ring for ring in EVERYWHERE if contains(ring, half)] == ["F3", "Z[1/2]", "Q", "Q[i]"]
    assert [ring for ring in EVERYWHERE if contains(ring, i)] == ["Q[i]"]
    assert (modulo(third, 2), modulo(half, 3), modulo(-1, 3)) == (1, 2, 2)


@pytest.mark.parametrize(
    ("ring", "holds"),
    [
        ("Z", EVERYWHERE),
        ("F2", ("F2",)),
        ("F3", ("F3",)),
        ("Z[1/2]", ("F3", "Z[1/2]", "Q", "Q[i]")),
        ("Q", ("Q", "Q[i]")),
        ("Q[i]", ("Q[i]",)),
    ],
)
def test_a_scheme_holds_its_ring_and_every_ring_is_reported(ring: Ring, holds: tuple[str, ...]) -> None:
    scheme = rescaled(laderman(), ring)
    assert scheme.ring == ring
    assert verify(scheme)
    assert rings_of(scheme) == holds
    assert Scheme.from_record(scheme.to_record()) == scheme
    assert hash(Scheme.from_record(scheme.to_record())) == hash(scheme)


def test_thirds_hold_modulo_2_and_halves_modulo_3() -> None:
    third = [[Fraction(value, 3) for value in row] for row in strassen().u.tolist()]
    scheme = Scheme(Format(2, 2, 2), None, third, strassen().v * 3, strassen().w)  # pyright: ignore[reportArgumentType]
    assert rings_of(scheme) == ("F2", "Q", "Q[i]")
    assert scheme.mod2() == strassen().mod2()
    with pytest.raises(SchemeError, match="1/3 has no value modulo 3"):
        scheme.modulo("F3")


@settings(max_examples=40, deadline=None)
@given(scheme=correct_schemes(), ring=st.sampled_from(EVERYWHERE), data=st.data())
def test_any_change_of_a_coefficient_is_found_in_every_ring(
    scheme: Scheme, ring: str, data: st.DataObject
) -> None:
    scheme = rescaled(scheme, ring)
    name = data.draw(st.sampled_from("uvw"))
    factor = getattr(scheme, name).astype(object)
    index = data.draw(st.integers(0, factor.size - 1))
    factor.flat[index] = simplify(factor.flat[index] + data.draw(st.sampled_from([-1, 1])))
    if ring == "F2":
        factor %= 2
    if ring == "F3":
        factor = (factor + 1) % 3 - 1
    wrong = replace(scheme, **{name: factor})
    assert not verify(wrong)
    assert wrong.ring not in rings_of(wrong)


def test_the_wrong_coefficient_is_a_fraction() -> None:
    u = [[Fraction(value, 2) for value in row] for row in standard((1, 1, 1)).u.tolist()]
    one = np.ones((1, 1), dtype=np.int64)
    scheme = Scheme(Format(1, 1, 1), None, u, one, one)  # pyright: ignore[reportArgumentType]
    assert verify(scheme).message == "A11*B11 in C11: got 1/2, want 1"
    assert verify(scheme, "Z").message == "the coefficient 1/2 is not in Z"
    assert verify(scheme, "F2").message == "the coefficient 1/2 has no value modulo 2"


def test_i_times_i_is_minus_one() -> None:
    i = ComplexRational(Fraction(0), Fraction(1))
    u, v = (
        [[value * factor for value in row] for row in getattr(strassen(), name).tolist()]
        for name, factor in (("u", i), ("v", -i))
    )
    right = Scheme(Format(2, 2, 2), None, u, v, strassen().w)  # pyright: ignore[reportArgumentType]
    assert verify(right)
    wrong = Scheme(Format(2, 2, 2), None, u, [[-value for value in row] for row in v], strassen().w)  # pyright: ignore[reportArgumentType]
    assert verify(wrong).message == "A11*B11 in C11: got -1, want 1"


def test_fractions_with_large_denominators_are_compared_exactly() -> None:
    """Sums beyond 2^53 and 2^64, which no floating-point number holds."""
    big = 2**31 - 1
    u = [[Fraction(1, big)], [Fraction(1, big)]]
    column = [[1], [-1]]
    scheme = Scheme(
        Format(1, 1, 1), None, [[Fraction(big - 1, big)], [Fraction(1, big)]], [[1], [1]], [[1], [1]]
    )  # pyright: ignore[reportArgumentType]
    assert verify(scheme)
    assert not verify(replace(scheme, u=np.array(u, dtype=object), v=np.array(column)))
    three = Scheme(
        Format(1, 1, 1),
        None,
        [[Fraction(1, big)]] * 2,
        [[Fraction(big - 1, big - 2)]] * 2,
        [[Fraction(1, 3)]] * 2,
    )  # pyright: ignore[reportArgumentType]
    assert (
        verify(three).message
        == f"A11*B11 in C11: got {Fraction(2, 3) * Fraction(big - 1, big - 2) / big}, want 1"
    )


def test_signs_that_are_right_modulo_2_only() -> None:
    scheme = replace(strassen(), u=np.abs(strassen().u))
    assert rings_of(scheme) == finite_rings_of(scheme) == ("F2",)
    assert is_plausible(scheme, "F2")
    assert not is_plausible(scheme)


@pytest.mark.parametrize("ring", ["Z[1/2]", "Q", "Q[i]", "F3"])
def test_formulas_symmetries_and_equality_work_in_every_ring(ring: str) -> None:
    scheme = rescaled(strassen(), ring)
    assert parse_formulas(scheme.format, formulas(scheme), scheme.ring) == scheme
    moved = change_basis(scheme, *(random_basis(2, np.random.default_rng(3)) for _ in range(3)))
    assert verify(moved)
    order = np.random.default_rng(0).permutation(7)
    u, v, w = (factor[order] for factor in scheme.factors)
    shuffled = replace(scheme, u=-u, v=-v, w=w)
    assert same_terms(scheme, shuffled)
    assert verify(canonical_terms(scheme))
    if ring == "Z[1/2]":
        assert growth_factor(scheme) == pytest.approx(growth_factor(strassen()))


@pytest.mark.parametrize(
    ("ring", "entry", "message"),
    [
        ("Z", Fraction(1, 2), "holds 1/2, which is not in Z"),
        ("Z[1/2]", Fraction(1, 3), r"holds 1/3, which is not in Z\[1/2\]"),
        ("Q", ComplexRational(Fraction(1), Fraction(1)), r"holds 1\+i, which is not in Q"),
        ("F2", Fraction(1, 3), "a fraction, but over F2"),
        ("F3", 3, "holds 3, but over F3 entries are -1, 0, 1 or 2"),
        (None, Fraction(1, 2**40), "common denominator"),
        (None, 0.5, "entries are float64"),
        (None, "1/2", "entries are <U3"),
        (None, True, "entries are bool"),
    ],
)
def test_impossible_coefficients_are_refused(ring: Ring | None, entry: object, message: str) -> None:
    with pytest.raises(SchemeError, match=message):
        Scheme(Format(1, 1, 1), ring, [[entry]], [[1]], [[1]])  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("ring", "entry"),
    [
        ("Z", "1/2"),
        ("Q", "1/0"),
        ("Q", "0.5"),
        ("Q", 0.5),
        ("Q", [1, 2]),
        ("Q[i]", [1]),
        ("Q[i]", [1, [2]]),
        ("Z[1/2]", "1/3"),
        ("Q", "1" * 5000),
    ],
)
def test_json_entries_that_are_not_of_the_ring_are_refused(ring: str, entry: object) -> None:
    record = {"format": [1, 1, 1], "ring": ring, "rank": 1, "u": [[entry]], "v": [[1]], "w": [[1]]}
    with pytest.raises(SchemeError, match=r"^u") as caught:
        Scheme.from_record(record)
    assert len(str(caught.value)) < 200
