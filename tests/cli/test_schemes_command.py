from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tyro

from matrixrl.cli.schemes import Records, SchemesCommand, SchemesShowCommand, Verify, run_command
from matrixrl.schemes.formulas import formulas
from matrixrl.schemes.known import standard, strassen, winograd


def run(*arguments: str) -> int:
    commands: dict[str, type[SchemesCommand]] = {
        "verify": Verify,
        "show": SchemesShowCommand,
        "records": Records,
    }
    return run_command(tyro.cli(commands[arguments[0]], args=arguments[1:]))


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "strassen.json"
    strassen().save(path)
    return str(path)


@pytest.fixture
def wrong_file(tmp_path: Path) -> str:
    path = tmp_path / "wrong.json"
    replace(strassen(), u=np.abs(strassen().u)).save(path)
    return str(path)


def last_json(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_a_correct_scheme_is_proved(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("verify", file) == 0
    out, err = capsys.readouterr()
    assert "2x2x2 in 7 multiplications, correct over the integers" in out
    assert "matches the record" in out
    assert err == ""
    assert run("verify", file, "--json") == 0
    record = last_json(capsys)
    assert (record["verified"], record["rank"], record["record"], record["format"]) == (True, 7, 7, [2, 2, 2])


def test_a_wrong_scheme_exits_1_and_names_the_first_wrong_entry(
    wrong_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("verify", wrong_file, "--json") == 1
    out, err = capsys.readouterr()
    assert err.count("\n") == 1
    assert "got" in err
    assert "want" in err
    record = json.loads(out.splitlines()[-1])
    assert record["verified"] is False
    assert record["verdict"] is None
    assert "record" not in "".join(out.splitlines()[:-1])


@pytest.mark.parametrize("command", ["verify", "show"])
@pytest.mark.parametrize(
    "content", [None, "", "{}", '{"format": [2, 2, 2]}'], ids=["missing", "empty", "no fields", "cut"]
)
def test_a_bad_file_exits_2_in_one_line(
    command: str, content: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.json"
    if content is not None:
        path.write_text(content)
    assert run(command, str(path)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert str(path) in err


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """As a training leaves it: the best scheme, the one modulo 2 it came from, and two solutions."""
    folder = tmp_path / "run"
    strassen().save(folder / "scheme.json")
    strassen().mod2().save(folder / "scheme_f2.json")
    (folder / "scheme_solutions.json").write_text(
        json.dumps([strassen().to_record(), winograd().to_record()])
    )
    (folder / "delivery.json").write_text("{}")
    return folder


def test_a_file_of_solutions_is_proved_scheme_by_scheme(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run_folder / "scheme_solutions.json"
    assert run("verify", str(path), "--json") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2 schemes (2x2x2:7), all correct"
    record = json.loads(lines[-1])
    assert (record["correct"], record["wrong"], record["unreadable"]) == (2, 0, 0)
    assert [scheme["rank"] for scheme in record["files"][0]["schemes"]] == [7, 7]
    records = [strassen().to_record(), replace(winograd(), u=np.abs(winograd().u)).to_record()]
    path.write_text(json.dumps(records))
    assert run("verify", str(path)) == 1
    out, err = capsys.readouterr()
    assert out == "2 schemes (2x2x2:7), 1 correct\n"
    assert err.startswith(f"matrixrl: {path}: scheme 2: not a correct scheme: ")


def test_a_run_folder_stands_for_its_scheme_files(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("verify", str(run_folder)) == 0
    out = capsys.readouterr().out
    for name in ("scheme.json", "scheme_f2.json", "scheme_solutions.json"):
        assert str(run_folder / name) in out
    assert run("show", str(run_folder)) == 0
    assert "correct over the integers" in capsys.readouterr().out


def test_the_status_of_several_files_is_that_of_the_worst(
    file: str, wrong_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = str(tmp_path / "none.json")
    assert run("verify", file, file) == 0
    assert run("verify", file, wrong_file) == 1
    assert run("verify", wrong_file, missing, file, "--json") == 2
    record = last_json(capsys)
    assert (record["correct"], record["wrong"], record["unreadable"]) == (1, 1, 1)
    assert record["files"][1]["error"].endswith("No such file or directory")


def test_a_command_without_a_file_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("verify") == 2
    assert capsys.readouterr().err.startswith("matrixrl: no file given; name a scheme file")


def test_show_takes_one_scheme_of_several(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(run_folder / "scheme_solutions.json")
    assert run("show", path, "--number", "2", "--json") == 0
    out = capsys.readouterr().out
    assert "scheme 2 of 2; --number N shows another" in out
    assert json.loads(out.splitlines()[-1])["formulas"] == formulas(winograd()).splitlines()
    assert run("show", path, "--number", "3") == 2
    assert "holds 2, from 1" in capsys.readouterr().err


def test_show_prints_formulas_and_draws(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    png = tmp_path / "out.png"
    assert run("show", file, "--png", str(png), "--json") == 0
    out = capsys.readouterr().out
    assert out.startswith("M1 = (A11 + A22)(B11 + B22)\n")
    assert "C11 = M1 + M4 - M5 + M7" in out
    record = json.loads(out.splitlines()[-1])
    assert record["additions"] == 18
    assert record["png"] == str(png)
    assert len(record["formulas"]) == 11
    assert png.stat().st_size > 1000


def test_a_picture_that_cannot_be_written_exits_2(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", file, "--png", f"{file}/below.png") == 2
    assert "cannot write" in capsys.readouterr().err


def test_records_of_one_format_in_any_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("records", "--size", "4", "2", "5", "--json") == 0
    (row,) = last_json(capsys)["records"]
    assert row["format"] == [2, 4, 5]
    assert (row["rational"], row["integer"], row["mod2"], row["naive"]) == (32, 33, 33, 40)


def test_the_whole_table_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("records") == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line for line in lines[1:] if not line.startswith("*")]
    assert len(rows) == 680
    assert rows[0].split()[:6] == ["2x2x2", "7", "7", "7", "7", "8"]
    assert rows[-1].startswith("16x16x16")
    computed = [line for line in lines if line.startswith("*")]
    assert computed
    assert all(line.endswith("computed, not a record") for line in computed)


def test_a_computed_bound_is_named_with_its_parts(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("records", "--size", "14", "3", "3", "--json") == 0
    (row,) = last_json(capsys)["records"]
    assert row["mod2"] == 98
    assert row["computed"] == {"mod2": {"rank": 97, "how": "joining 3x3x6:42 and 3x3x8:55"}}
    assert row["is_core"] is False


@pytest.mark.parametrize("size", [("1", "2", "3"), ("9", "9", "17"), ("0", "2", "2"), ("-1", "2", "2")])
def test_a_format_outside_the_table_exits_2_in_one_line(
    size: tuple[str, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("records", "--size", *size) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert ", ".join(size) in err or " ".join(size) in err


def test_a_scheme_above_the_record_is_said_to_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "standard.json"
    standard((3, 3, 3)).save(path)
    assert run("verify", str(path)) == 0
    assert "above the record by 4" in capsys.readouterr().out
