"""The ledger: what was found for each format, beside the records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from matrixrl.schemes.known import known_scheme
from matrixrl.schemes.ledger import (
    Effort,
    add_efforts,
    add_scheme,
    ledger_page,
    read_efforts,
    read_ledger,
    shipped_folder,
)
from matrixrl.schemes.library import all_entries
from matrixrl.schemes.neighbours import standard_scheme
from matrixrl.schemes.problem import MatrixMultiplication
from matrixrl.schemes.scheme import Format, Scheme, SchemeError

ROOT = Path(__file__).resolve().parents[2]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.json"))


def test_the_page_of_the_docs_is_the_ledger_that_is_shipped() -> None:
    assert (ROOT / "docs" / "ledger.md").read_text() == ledger_page(read_ledger())


def test_every_effort_names_a_format_and_a_run_once() -> None:
    efforts = read_efforts(shipped_folder())
    keys = [(effort.run, effort.format) for effort in efforts]
    assert len(set(keys)) == len(keys)
    assert all(effort.core_seconds >= 0 and effort.flips >= 0 for effort in efforts)


def test_a_lower_rank_replaces_a_scheme_and_an_equal_one_does_not(tmp_path: Path) -> None:
    standard, strassen = standard_scheme((2, 2, 2)), known_scheme((2, 2, 2))
    assert add_scheme(standard, tmp_path) == tmp_path / "2x2x2_rank8.json"
    assert add_scheme(strassen, tmp_path) == tmp_path / "2x2x2_rank7.json"
    assert names(tmp_path) == ["2x2x2_rank7.json"]
    assert add_scheme(standard, tmp_path) is None
    assert add_scheme(strassen.with_provenance(again=True), tmp_path) is None
    row = next(row for row in read_ledger(tmp_path) if row.format == Format(2, 2, 2))
    assert (row.gap, row.gap_mod2, row.mod2) == (0, 0, None)


def test_sides_are_sorted_in_the_library(tmp_path: Path) -> None:
    path = add_scheme(known_scheme((3, 2, 2)), tmp_path)
    assert path is not None
    assert Scheme.load(path).format == Format(2, 2, 3)


def test_a_scheme_modulo_2_must_be_below_every_other_and_an_integer_one_of_its_rank_replaces_it(
    tmp_path: Path,
) -> None:
    standard, strassen = standard_scheme((2, 2, 2)), known_scheme((2, 2, 2))
    add_scheme(standard, tmp_path)
    assert add_scheme(standard.mod2(), tmp_path) is None
    assert add_scheme(strassen.mod2(), tmp_path) is not None
    assert names(tmp_path) == ["2x2x2_rank7_mod2.json", "2x2x2_rank8.json"]
    row = next(row for row in read_ledger(tmp_path) if row.format == Format(2, 2, 2))
    assert (row.gap, row.gap_mod2) == (1, 0)
    add_scheme(strassen, tmp_path)
    assert names(tmp_path) == ["2x2x2_rank7.json"]


def test_ternary_coefficients_replace_others_of_the_same_rank(tmp_path: Path) -> None:
    strassen = known_scheme((2, 2, 2))
    doubled = Scheme(strassen.problem, "Z", strassen.u, strassen.v, strassen.w)
    basis = np.array([[1, 2], [0, 1]])
    from matrixrl.schemes.symmetry import change_basis

    other = change_basis(doubled, basis, np.eye(2, dtype=int), np.eye(2, dtype=int))
    assert not other.is_ternary
    assert add_scheme(other, tmp_path) is not None
    assert add_scheme(other.mod2(), tmp_path) is None, "over F2 the rank alone counts"
    assert add_scheme(strassen, tmp_path) is not None
    assert add_scheme(other, tmp_path) is None
    assert Scheme.load(tmp_path / "2x2x2_rank7.json").is_ternary


def test_a_wrong_scheme_is_refused(tmp_path: Path) -> None:
    strassen = known_scheme((2, 2, 2))
    wrong = Scheme(strassen.problem, "Z", strassen.u, strassen.v, np.roll(strassen.w, 1, axis=0))
    with pytest.raises(SchemeError, match="not a correct scheme"):
        add_scheme(wrong, tmp_path)
    assert names(tmp_path) == []


def test_the_effort_of_a_run_counts_once(tmp_path: Path) -> None:
    first = Effort("a:1", "Z", 2, 2, 3, 3600.0, 10)
    add_efforts([first, Effort("b:2", "F2", 2, 2, 3, 1800.0, 5)], tmp_path)
    add_efforts([Effort("a:1", "Z", 2, 2, 3, 7200.0, 20)], tmp_path)
    row = next(row for row in read_ledger(tmp_path) if row.format == Format(2, 2, 3))
    assert (row.core_seconds, row.flips) == (9000.0, 25)
    (tmp_path / "ledger.csv").write_text("run,ring\na,Z\n")
    with pytest.raises(SchemeError, match="is not a ledger"):
        read_ledger(tmp_path)


def test_the_ledger_lists_what_the_library_has() -> None:
    rows = {row.format: row for row in read_ledger()}
    of_matrices = [e for e in all_entries() if isinstance(e.scheme.problem, MatrixMultiplication)]
    for entry in of_matrices:
        row = rows[Format(*sorted(entry.scheme.format))]
        assert entry.name in {best.name for best in (row.integer, row.mod2) if best is not None}
