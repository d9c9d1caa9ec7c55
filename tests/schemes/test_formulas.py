from __future__ import annotations

import pytest
from hypothesis import given, settings

from matrixrl.schemes.formulas import formulas, growth_factor, num_additions, parse_formulas
from matrixrl.schemes.known import known_scheme, standard, strassen, winograd
from matrixrl.schemes.scheme import Scheme, SchemeError
from tests.schemes.strategies import factor_schemes

STRASSEN = """\
M1 = (A11 + A22)(B11 + B22)
M2 = (A21 + A22)B11
M3 = A11(B12 - B22)
M4 = A22(-B11 + B21)
M5 = (A11 + A12)B22
M6 = (-A11 + A21)(B11 + B12)
M7 = (A12 - A22)(B21 + B22)
C11 = M1 + M4 - M5 + M7
C12 = M3 + M5
C21 = M2 + M4
C22 = M1 - M2 + M3 + M6"""


def test_strassen_reads_as_in_the_textbook() -> None:
    assert formulas(strassen()) == STRASSEN


def test_standard_products_and_other_coefficients_are_written_out() -> None:
    assert formulas(standard((1, 1, 1))) == "M1 = A11*B11\nC11 = M1"
    scheme = parse_formulas((1, 2, 1), "M1 = (2*A11 - 3*A12)(-B11)\nC11 = -2*M1")
    assert scheme.u.tolist() == [[2, -3]]
    assert scheme.v.tolist() == [[-1, 0]]
    assert scheme.w.tolist() == [[-2]]
    assert formulas(scheme) == "M1 = (2*A11 - 3*A12)(-B11)\nC11 = -2*M1"


def test_a_scheme_over_f2_says_so() -> None:
    text = formulas(strassen().mod2())
    assert text.startswith("modulo 2:\n")
    assert "-" not in text


@settings(max_examples=100, deadline=None)
@given(scheme=factor_schemes())
def test_formulas_read_back_are_the_same_scheme(scheme: Scheme) -> None:
    assert parse_formulas(scheme.format, formulas(scheme), scheme.ring) == scheme


def test_formulas_of_matrices_with_two_digit_sides_read_back() -> None:
    scheme = known_scheme((11, 2, 2))
    assert "A11_2" in formulas(scheme)
    assert parse_formulas(scheme.format, formulas(scheme)) == scheme


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("M1 = A11*B11", "C11 is missing"),
        ("M1 = A11*B11\nC11 = M2", "cannot read"),
        ("M1 = A12*B11\nC11 = M1", "cannot read"),
        ("M1 = A11\nC11 = M1", "want a sum of A times a sum of B"),
        ("M1 = A11*B11\nM1 = A11*B11\nC11 = M1", "once each"),
        ("hello", "once each"),
        ("M1 = (A11A11)(B11)\nC11 = M1", "cannot read"),
    ],
)
def test_unreadable_formulas_are_refused(text: str, message: str) -> None:
    with pytest.raises(SchemeError, match=message):
        parse_formulas((1, 1, 1), text)


def test_additions_and_growth_of_the_classics() -> None:
    assert num_additions(standard((2, 2, 2))) == 4
    assert num_additions(strassen()) == 18
    assert num_additions(winograd()) == 24
    assert growth_factor(standard((2, 2, 2))) == 8
    assert growth_factor(strassen()) == pytest.approx(14.83, abs=0.01)
    assert growth_factor(winograd()) == pytest.approx(17.85, abs=0.01)
