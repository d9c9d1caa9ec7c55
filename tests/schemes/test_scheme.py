from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from matrixrl.schemes.known import strassen
from matrixrl.schemes.scheme import Format, Scheme, SchemeError, entry_labels
from tests.schemes.strategies import factor_schemes


@settings(max_examples=50)
@given(scheme=factor_schemes(bound=1000))
def test_a_saved_scheme_loads_as_itself(scheme: Scheme, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("schemes") / "scheme.json"
    scheme = scheme.with_provenance(seed=3, shown="nothing shown", nested={"a": [1, None]})
    scheme.save(path)
    loaded = Scheme.load(path)
    assert loaded == scheme
    assert loaded.provenance == scheme.provenance


def test_the_file_has_the_documented_keys(tmp_path: Path) -> None:
    strassen().save(tmp_path / "new" / "folder" / "s.json")
    record = json.loads((tmp_path / "new" / "folder" / "s.json").read_text())
    assert list(record) == ["format", "ring", "rank", "u", "v", "w", "provenance"]
    assert record["format"] == [2, 2, 2]
    assert record["rank"] == len(record["u"]) == len(record["v"]) == len(record["w"]) == 7
    assert record["u"][0] == [1, 0, 0, 1]


def _set(**values: Any) -> Any:
    return lambda record: record.update(values)


def _put(name: str, row: int, column: int, value: Any) -> Any:
    def change(record: dict[str, Any]) -> None:
        record[name][row][column] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set(format=[2, 2]), r"format: \[2, 2\] given, want three integers"),
        (_set(format=[2, 2, 0]), "format: "),
        (_set(format=[2, 2, 2.0]), "format: "),
        (_set(format=[2, 2, True]), "format: "),
        (_set(format=[2, 2, 3]), r"v\[0\]: 4 entries, want 6 integers"),
        (_set(format="2x2x2"), "format: '2x2x2' given"),
        (_set(ring="R"), "ring: 'R' given, want one of Z, F2, F3, "),
        (_set(ring=["Z"]), "ring: "),
        (_set(ring="F2"), "u: holds -1, but over F2 entries are 0 or 1"),
        (_set(rank=8), r"u: 7 rows, want 8 rows \(the rank\)"),
        (_set(rank=0), "rank: 0 given"),
        (_set(rank="7"), "rank: '7' given"),
        (_set(u=[]), "u: 0 rows"),
        (_set(v={}), "v: a JSON object, want 7 rows"),
        (_set(w=[1] * 7), r"w\[0\]: a JSON number, want 4 integers"),
        (_put("w", 6, 3, 1.0), r"w\[6\]: entry 1.0, want an integer"),
        (_put("w", 6, 3, True), r"w\[6\]: entry True"),
        (_put("w", 6, 3, "1"), r"w\[6\]: entry '1'"),
        (_put("w", 6, 3, None), r"w\[6\]: entry None"),
        (_put("u", 0, 0, 2**31), r"u\[0\]: entry 2147483648"),
        (_put("u", 0, 0, 10**400), r"u\[0\]: entry 1000"),
        (lambda record: record["v"].pop(), "v: 6 rows, want 7"),
        (lambda record: record["v"][2].append(0), r"v\[2\]: 5 entries, want 4"),
        (lambda record: record.pop("w"), "w: missing"),
        (lambda record: record.pop("ring"), "ring: missing"),
        (_set(provenance=[]), "provenance: "),
    ],
)
def test_a_corrupted_file_is_refused_in_one_line_that_names_the_field(
    change: Any, message: str, tmp_path: Path
) -> None:
    record = copy.deepcopy(strassen().to_record())
    change(record)
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(record))
    with pytest.raises(SchemeError, match=message) as caught:
        Scheme.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"u": NaN}',
        b'{"rank": ' + b"9" * 5000 + b"}",
    ],
    ids=["empty", "cut", "array", "number", "null", "binary", "deep", "NaN", "long number"],
)
def test_what_is_not_a_scheme_file_is_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(SchemeError) as caught:
        Scheme.load(path)
    assert "\n" not in str(caught.value)


def test_every_truncation_of_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    strassen().save(path)
    text = path.read_text()
    for length in range(0, len(text.rstrip()) - 1, 7):
        path.write_text(text[:length])
        with pytest.raises(SchemeError):
            Scheme.load(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SchemeError, match="cannot be read: No such file"):
        Scheme.load(tmp_path / "none.json")
    with pytest.raises(SchemeError, match="is a folder, want a regular file"):
        Scheme.load(tmp_path)


def test_a_failed_save_keeps_the_old_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    strassen().save(path)
    before = path.read_bytes()
    for impossible in (object(), float("nan")):
        with pytest.raises(SchemeError, match="provenance"):
            strassen().with_provenance(value=impossible).save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["s.json"]
    with pytest.raises(SchemeError, match="cannot write"):
        strassen().save(path / "below" / "a_file.json")


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s.json"
    strassen().save(path)
    before = path.read_bytes()

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(SchemeError, match="No space left on device"):
        strassen().with_provenance(new=True).save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["s.json"]


def test_factors_cannot_be_changed_from_outside() -> None:
    u = np.eye(1, dtype=np.int64)
    scheme = Scheme(Format(1, 1, 1), "Z", u, u, u)
    u[0, 0] = 5
    assert scheme.u[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        scheme.v[0, 0] = 2


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        (([[1]], [[1]], [[1], [1]]), "same number of rows"),
        (([[1.0]], [[1]], [[1]]), "u: entries are float64"),
        (([[1]], [[1, 1]], [[1]]), r"v: shape \[1, 2\], want \[rank, 1\]"),
        (([[1]], [[1]], [[1], [1, 2]]), "w: rows of unequal length"),
        ((np.zeros((0, 1), dtype=int), [[1]], [[1]]), "u: shape"),
        (([[2**40]], [[1]], [[1]]), "u: an entry is beyond"),
    ],
)
def test_impossible_factors_are_refused(factors: Any, message: str) -> None:
    with pytest.raises(SchemeError, match=message):
        Scheme(Format(1, 1, 1), "Z", *factors)


def test_entries_of_large_matrices_have_unambiguous_names() -> None:
    assert entry_labels("A", 2, 2) == ["A11", "A12", "A21", "A22"]
    names = entry_labels("B", 12, 12)
    assert len(set(names)) == 144
    assert names[11] == "B1_12"
