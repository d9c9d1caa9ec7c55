from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matrixrl.schemes.check import check_reading
from matrixrl.schemes.formats import SchemesRead
from matrixrl.schemes.formats.draft import Reading
from matrixrl.schemes.known import laderman, standard, strassen
from matrixrl.schemes.scheme import Scheme
from matrixrl.schemes.second_proof import prove_again
from matrixrl.schemes.verify import verify
from tests.schemes.strategies import correct_schemes, factor_schemes, rescaled

RINGS = ["Z", "F2", "F3", "Z[1/2]", "Q", "Q[i]"]


@settings(max_examples=60, deadline=None)
@given(scheme=st.one_of(correct_schemes(), factor_schemes()), ring=st.sampled_from(RINGS))
def test_both_proofs_agree(scheme: Scheme, ring: str) -> None:
    if scheme.ring == "Z":
        scheme = rescaled(scheme, ring)
    second = prove_again(scheme)
    assert second.exact
    assert second.ok == verify(scheme).ok


@settings(max_examples=30, deadline=None)
@given(
    scheme=st.one_of(correct_schemes(), factor_schemes(ring="Z")), ring=st.sampled_from(["Z", "Q", "Q[i]"])
)
def test_random_matrices_agree_too(scheme: Scheme, ring: str) -> None:
    second = prove_again(rescaled(scheme, ring), max_terms=-1)
    assert not second.exact
    assert second.ok == verify(scheme).ok


def test_a_missing_product_is_found() -> None:
    scheme = standard((2, 3, 2))
    u, v, w = (factor[1:] for factor in scheme.factors)
    assert not prove_again(Scheme(scheme.format, "Z", u, v, w)).ok


def read(scheme: Scheme) -> SchemesRead:
    return SchemesRead("json", [Reading(scheme)])


def test_a_scheme_below_the_record_is_proved_twice_and_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    """No such scheme is known, so the record is raised."""
    scheme = laderman()
    assert check_reading(read(scheme), Reading(scheme), None).announcement == ""
    import matrixrl.schemes.records as records

    row = records.find_record((3, 3, 3))
    assert row is not None
    easier = replace(row, ternary=25, integer=25, rational=25)
    monkeypatch.setattr(records, "find_record", lambda format: easier)
    checked = check_reading(read(scheme), Reading(scheme), None)
    assert checked.ok
    assert checked.verdict.beats
    assert checked.announcement.startswith("*** A NEW RECORD: 3x3x3:23 beats the record by 2")
    assert "proved twice by independent code" in checked.announcement
    assert checked.summary["beats_record"] is True
    monkeypatch.setattr("matrixrl.schemes.check.prove_again", lambda scheme: prove_again(strassen_wrong()))
    contradicted = check_reading(read(scheme), Reading(scheme), None)
    assert not contradicted.ok
    assert contradicted.announcement == ""
    assert "defect" in contradicted.message


def strassen_wrong() -> Scheme:
    return replace(strassen(), u=-strassen().u)
