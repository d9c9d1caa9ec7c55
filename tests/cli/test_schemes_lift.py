"""``matrixrl schemes lift``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from matrixrl.cli import schemes_lift
from matrixrl.cli.main import main
from matrixrl.schemes import check
from matrixrl.schemes.formats import FORMATS, render
from matrixrl.schemes.known import laderman, strassen
from matrixrl.schemes.records import Verdict
from matrixrl.schemes.rings import Ring
from matrixrl.schemes.scheme import Scheme
from matrixrl.schemes.second_proof import SecondProof
from matrixrl.schemes.symmetry import change_basis, random_basis
from matrixrl.schemes.verify import verify
from tests.schemes.strategies import rescaled

DATA = Path(__file__).parents[1] / "schemes" / "data"
ONLY_INTEGERS = DATA / "3x3x3_rank23_mod2.json"
WITHOUT = DATA / "3x3x4_rank29_mod2_without_lift.json"


def run(*arguments: str | Path) -> int:
    return main(["schemes", "lift", *map(str, arguments)])


def last(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.mark.parametrize("ring", ["F2", "F3"])
def test_files_of_every_format_are_lifted(
    ring: Ring, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = tmp_path / "found"
    found.mkdir()
    for name in FORMATS:
        (found / f"{name}.dat").write_bytes(render([strassen().modulo(ring)], name))
    (found / "notes.txt").write_text("nothing here\n")
    output = tmp_path / "lifted"
    assert run(found, "--output", output) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert "not a correct scheme" not in err
    assert lines[0].split() == ["file", "scheme", "from", "number", "lifts", "to"]
    assert all(
        f"2x2x2:7  {ring}" in line and line.endswith("Z, coefficients -1, 0, 1") for line in lines[1:-1]
    )
    assert lines[-1].startswith(f"{len(FORMATS)} of {len(FORMATS)} lifted in ")
    assert lines[-1].endswith("; 1 file skipped, no scheme")
    written = sorted(output.iterdir())
    assert [path.stem for path in written] == sorted(FORMATS)
    for path in written:
        scheme = Scheme.load(path)
        assert scheme.ring == "Z"
        assert verify(scheme).ok
        assert scheme.modulo(ring).rank == 7
        assert scheme.provenance["lifted_from"] == ring


def test_many_schemes_of_one_file_are_numbered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    schemes = [
        change_basis(laderman().mod2(), *(random_basis(3, rng, "F2") for _ in range(3))) for _ in range(3)
    ]
    (tmp_path / "pool.json").write_bytes(render(schemes, "json"))
    assert run(tmp_path / "pool.json", "--output", tmp_path / "lifted", "--json") == 0
    record = last(capsys)
    assert (record["lifted"], record["not_lifted"], record["unreadable"], record["to"]) == (3, 0, 0, "Z")
    rows = record["schemes"]
    assert isinstance(rows, list)
    for number, row in enumerate(rows, start=1):
        assert row["number"] == number
        assert (row["from"], row["ring"], row["status"], row["max_coefficient"]) == ("F2", "Z", "ternary", 1)
        assert row["output"] == str(tmp_path / "lifted" / f"pool_{number}.json")
        assert verify(Scheme.load(row["output"])).ok


def test_a_scheme_without_a_lift_is_named_with_its_step(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(WITHOUT, ONLY_INTEGERS, "--json") == 1
    out, err = capsys.readouterr()
    assert f"matrixrl: {WITHOUT}: does not lift: no solution modulo 4" in err.replace("\n", " ")
    assert "no lift, step 1 has no solution" in out
    record = json.loads(out.splitlines()[-1])
    assert [row["step"] for row in record["schemes"]] == [1, None]
    assert [row["lifted"] for row in record["schemes"]] == [False, True]


def test_the_basis_is_kept_if_that_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(ONLY_INTEGERS, "--output", tmp_path, "--json") == 0
    row = last(capsys)["schemes"][0]  # pyright: ignore[reportIndexIssue]
    assert (row["status"], row["same_basis"]) == ("ternary", False)
    assert run(ONLY_INTEGERS, "--same-basis", "--output", tmp_path, "--json") == 0
    row = last(capsys)["schemes"][0]  # pyright: ignore[reportIndexIssue]
    assert (row["status"], row["same_basis"], row["max_coefficient"]) == ("integer", True, 2)
    assert Scheme.load(row["output"]).mod2() == Scheme.load(ONLY_INTEGERS)


def test_fractions_are_found_where_they_are_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # (a a a + b b b) / 3 with a = (1, 1), b = (2, -1): only two terms with thirds give it (Kruskal).
    tensor = [[[3, -1], [-1, 1]], [[-1, 1], [1, 0]]]
    file = tmp_path / "cubes.json"
    terms = [[1, 1], [0, 1]]
    values = {
        "problem": "cubes",
        "tensor": tensor,
        "ring": "F2",
        "rank": 2,
        "u": terms,
        "v": terms,
        "w": terms,
    }
    file.write_text(json.dumps(values))
    assert run(file) == 1
    assert "no integers found, fractions (--to Q)" in capsys.readouterr().out
    assert run(file, "--to", "Q", "--output", tmp_path / "out", "--json") == 0
    row = last(capsys)["schemes"][0]  # pyright: ignore[reportIndexIssue]
    assert (row["status"], row["ring"]) == ("rational", "Q")
    lifted = Scheme.load(row["output"])
    assert lifted.ring == "Q"
    assert verify(lifted).ok
    assert lifted.mod2().u.tolist() == terms


def test_schemes_of_other_rings_are_lifted_only_if_they_need_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "whole.json").write_bytes(render([strassen()], "json"))
    undeclared = strassen().mod2()
    undeclared = Scheme((2, 2, 2), "Z", undeclared.u, undeclared.v, undeclared.w)
    (tmp_path / "undeclared.exp").write_bytes(render([undeclared], "exp"))
    assert run(tmp_path / "whole.json", tmp_path / "undeclared.exp", "--json") == 0
    rows = last(capsys)["schemes"]
    assert isinstance(rows, list)
    assert [(row["from"], row["status"]) for row in rows] == [("Z", "ternary"), ("F2", "ternary")]
    (tmp_path / "halves.json").write_bytes(render([rescaled(strassen(), "Z[1/2]")], "json"))
    assert run(tmp_path / "halves.json") == 1
    assert run(tmp_path / "halves.json", "--to", "Q") == 0
    assert run(tmp_path / "halves.json", "--ring", "F3") == 0


def test_wrong_schemes_and_bad_input_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scheme = strassen().mod2()
    wrong = Scheme((2, 2, 2), "F2", scheme.u, scheme.v, 1 - scheme.w)
    (tmp_path / "wrong.json").write_bytes(render([wrong], "json"))
    assert run(tmp_path / "wrong.json") == 1
    assert "not a correct scheme: A11*B22 in C11" in capsys.readouterr().err
    assert run(tmp_path / "wrong.json", tmp_path / "missing.json") == 2
    assert "missing.json" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert run(ONLY_INTEGERS, "--output", tmp_path / "file") == 2
    assert "is a file; name a folder" in capsys.readouterr().err
    assert run() == 2
    assert run(ONLY_INTEGERS, "--tries", "0") == 2
    capsys.readouterr()


def test_a_lift_below_the_record_is_proved_twice_and_announced(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    proofs = []

    def prove(scheme: Scheme) -> SecondProof:
        proofs.append(scheme)
        return SecondProof(ok=True, exact=True)

    beaten = Verdict(23, 24, "ternary", 27, "3x3x3:23 beats the record by 1", beats=True)
    monkeypatch.setattr(check, "judge_scheme", lambda scheme: beaten)
    monkeypatch.setattr(check, "prove_again", prove)
    assert run(ONLY_INTEGERS) == 0
    assert "*** A NEW RECORD: 3x3x3:23 beats the record by 1; proved twice" in capsys.readouterr().out
    assert any(scheme.ring == "Z" for scheme in proofs)
    assert schemes_lift.announce_record is check.announce_record
