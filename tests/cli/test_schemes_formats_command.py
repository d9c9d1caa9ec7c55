"""Scheme files of other formats through the command line, and ``schemes convert``."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from matrixrl.cli.main import main
from matrixrl.schemes.files import load_schemes
from matrixrl.schemes.formats import FORMATS, render
from matrixrl.schemes.known import laderman, standard, strassen, winograd
from matrixrl.schemes.scheme import Scheme
from tests.schemes.strategies import rescaled


def run(*arguments: str | Path) -> int:
    return main(["schemes", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Schemes in every format under misleading names, one wrong, and files that are no scheme."""
    for name in FORMATS:
        (tmp_path / f"{name}.dat").write_bytes(render([strassen()], name))
    (tmp_path / "halves.txt").write_bytes(render([rescaled(laderman(), "Z[1/2]")], "exp"))
    (tmp_path / "notes.txt").write_text("nothing here\n")
    (tmp_path / "status.json").write_text('{"status": "done"}')
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


def test_a_folder_is_verified_with_a_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("verify", folder) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert err == ""
    assert lines[0].split() == ["file", "read", "as", "scheme", "number", "ring", "verdict"]
    assert len(lines) == 1 + len(FORMATS) + 1 + 1
    assert lines[-1] == f"{len(FORMATS) + 1} correct, 0 wrong, 0 cannot be read; 3 files skipped, no scheme"
    assert any("halves.txt" in line and "Z[1/2]" in line for line in lines)
    assert any("mpl.dat" in line and "mpl, C transposed" in line for line in lines)


def test_a_pattern_is_verified_and_the_worst_file_decides(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("verify", f"{folder}/*.dat") == 0
    (folder / "wrong.dat").write_bytes(render([replace(strassen(), u=-strassen().u)], "m"))
    assert run("verify", f"{folder}/*.dat", "--json") == 1
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (record["correct"], record["wrong"], record["unreadable"]) == (len(FORMATS), 1, 0)
    (folder / "cut.dat").write_text("{{{{1,0},")
    assert run("verify", f"{folder}/**") == 2
    out, err = capsys.readouterr()
    assert f"{len(FORMATS) + 1} correct, 1 wrong, 1 cannot be read; 3 files skipped" in out
    assert "cut.dat: line 1: the file ends inside a list" in err
    assert run("verify", f"{folder}/*.nothing") == 2
    assert capsys.readouterr().err.endswith("*.nothing: no file matches this pattern\n")


def test_a_file_that_is_no_scheme_is_an_error_only_if_it_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("verify", folder / "notes.txt") == 2
    assert "in no known format of schemes" in capsys.readouterr().err


def test_the_orientation_and_the_rings_are_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("verify", folder / "npz.dat", "--json") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "holds over Z, F2, F3, Z[1/2], Q, Q[i]" in lines
    assert "read as AlphaTensor's archive of arrays, C is transposed in it" in lines
    record = json.loads(lines[-1])
    assert record["c_transposed"] is True
    assert record["source_format"] == "npz"
    assert record["rings"] == ["Z", "F2", "F3", "Z[1/2]", "Q", "Q[i]"]


def test_a_scheme_modulo_2_is_wrong_unless_it_is_judged_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "scheme.exp"
    path.write_bytes(render([replace(strassen().mod2(), ring="Z")], "exp"))
    assert run("verify", path) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "it holds modulo 2 only" in err
    assert "--ring F2 judges it there" in err
    assert err.count("\n") == 1
    assert run("verify", path, "--ring", "F2") == 0
    assert "correct modulo 2" in capsys.readouterr().out
    assert run("verify", path, "--ring", "F3") == 1
    path.write_bytes(render([strassen().mod2()], "exp"))
    assert run("verify", path) == 0
    assert run("verify", path, "--ring", "Q") == 1
    assert "declares F2, so its signs over Q are unknown" in capsys.readouterr().err


def test_a_transposed_file_of_our_own_is_wrong_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    w = strassen().w.reshape(-1, 2, 2).transpose(0, 2, 1).reshape(-1, 4)
    replace(strassen(), w=w).save(tmp_path / "s.json")
    assert run("verify", tmp_path / "s.json") == 1
    assert "it is right with C transposed" in capsys.readouterr().err


@pytest.mark.parametrize("name", FORMATS)
def test_convert_and_verify(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, there, back = tmp_path / "s.json", tmp_path / f"there.{name}", tmp_path / "back.json"
    scheme = rescaled(winograd(), "Z[1/2]")
    scheme.save(source)
    assert run("convert", source, "--to", name, "--output", there) == 0
    assert run("convert", there, "--to", "json", "--output", back) == 0
    assert Scheme.load(back) == scheme
    out = capsys.readouterr().out
    assert f"wrote {there}" in out
    assert run("verify", there) == 0
    assert run("show", there) == 0


def test_convert_prints_text_and_asks_for_a_file_otherwise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "s.json"
    strassen().save(source)
    assert run("convert", source, "--to", "exp") == 0
    assert capsys.readouterr().out.encode() == render([strassen()], "exp")
    assert run("convert", source, "--to", "npz") == 2
    assert "--to npz needs --output" in capsys.readouterr().err
    assert run("convert", source, "--to", "m", "--json") == 2
    assert run("convert", source, source, "--to", "m") == 2
    assert "holds one scheme, and 2 are given" in capsys.readouterr().err
    assert run("convert", source, "--to", "m", "--output", source / "below") == 2
    assert "cannot write" in capsys.readouterr().err
    assert run("convert", tmp_path / "none", "--to", "m") == 2


def test_convert_several_into_a_folder_or_one_archive(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strassen().save(tmp_path / "a.json")
    (tmp_path / "b.json").write_bytes(render([laderman(), standard((1, 2, 3))], "json"))
    (tmp_path / "other.json").write_text("{}")
    archive = tmp_path / "all.npz"
    assert run("convert", f"{tmp_path}/*.json", "--to", "npz", "--output", archive, "--json") == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert record["skipped"] == 1
    assert record["written"] == [str(archive)]
    assert load_schemes(archive) == [strassen(), laderman(), standard((1, 2, 3))]
    with np.load(archive, allow_pickle=True) as arrays:
        assert sorted(arrays) == ["1,2,3", "2,2,2", "3,3,3"]
        assert arrays["2,2,2"].shape == (3, 4, 7)
    assert run("convert", archive, "--to", "mpl", "--output", tmp_path / "x.mpl") == 2
    assert "name a folder" in capsys.readouterr().err
    assert run("convert", archive, "--to", "mpl", "--output", tmp_path / "out") == 0
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["all_1.mpl", "all_2.mpl", "all_3.mpl"]


def test_convert_writes_a_wrong_scheme_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = replace(strassen(), u=-strassen().u)
    wrong.save(tmp_path / "s.json")
    assert run("convert", tmp_path / "s.json", "--to", "txt", "--output", tmp_path / "s.txt") == 1
    out, err = capsys.readouterr()
    assert "correct over" not in out
    assert "not a correct scheme, converted as it is" in err
    assert load_schemes(tmp_path / "s.txt") == [wrong]


def test_convert_into_a_finite_ring(tmp_path: Path) -> None:
    strassen().save(tmp_path / "s.json")
    assert (
        run("convert", tmp_path / "s.json", "--to", "sms", "--ring", "F2", "--output", tmp_path / "s.sms")
        == 0
    )
    assert load_schemes(tmp_path / "s.sms") == [strassen().mod2()]


def test_show_lists_every_property(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "s.json"
    strassen().save(path)
    assert run("show", path, "--seconds", "0", "--json") == 0
    out = capsys.readouterr().out
    for words in (
        "rank",
        "additions as written",
        "growth factor",
        "14.83",
        "symmetry group",
        "12 of 384",
        "2.8074",
        "57.1 %",
    ):
        assert words in out
    record = json.loads(out.splitlines()[-1])
    assert record["omega"] == pytest.approx(2.807355, abs=1e-6)
    assert (record["additions"], record["nonzero"], record["symmetry_group"]) == (18, 36, 12)
    assert record["growth_factor"] == pytest.approx(14.8284, abs=1e-4)
    assert run("show", path, "--seconds", "-1") == 2


def test_show_as_markdown_and_latex(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "s.json"
    rescaled(strassen(), "Z[1/2]").save(path)
    assert run("show", path, "--seconds", "0", "--format", "markdown", "--png", tmp_path / "p.png") == 0
    out = capsys.readouterr().out
    assert out.startswith("# 2x2x2 in 7 multiplications\n")
    assert f"![the factor matrices]({tmp_path / 'p.png'})" in out
    assert "| rank | 7 multiplications, standard 8 |" in out
    assert run("show", path, "--seconds", "0", "--format", "latex") == 0
    out = capsys.readouterr().out
    assert r"\begin{align*}" in out
    assert r"\tfrac{1}{4} \, a_{11}" in out
    assert out.count("{") == out.count("}")
    assert out.count(r"\begin") == out.count(r"\end")
