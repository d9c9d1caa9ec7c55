"""`matrixrl schemes ledger`: prints the ledger, writes the page, and adds a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from matrixrl.cli.main import main
from matrixrl.schemes.scheme import Scheme
from matrixrl.schemes.verify import verify


def ledger(*words: str) -> int:
    return main(["schemes", "ledger", *words])


def test_a_run_is_added_once_and_the_page_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, folder, page = tmp_path / "runs", tmp_path / "library", tmp_path / "ledger.md"
    folder.mkdir()
    search = [
        "matmul",
        "flip",
        "--size",
        "2",
        "3",
        "2",
        "--ring",
        "Z",
        "--run-name",
        "walk",
        "--console",
        "quiet",
    ]
    assert main([*search, "--flips-per-round", "20000", "--num-walkers", "2", "--runs-dir", str(runs)]) == 0
    capsys.readouterr()
    where = ["--folder", str(folder), "--runs-dir", str(runs)]
    assert ledger(*where, "--add", "walk", "--write", str(page), "--json") == 0
    output = capsys.readouterr().out.splitlines()
    assert "added 2x2x3_rank11" in output[0]
    (row,) = [row for row in json.loads(output[-1])["formats"] if row["format"] == [2, 2, 3]]
    assert (row["rank"], row["gap"], row["coefficients"]) == (11, 0, "ternary")
    assert row["flips"] > 0
    assert "| 2x2x3 | 12 | 11 | ternary | 11 | 0 |" in page.read_text()
    scheme = Scheme.load(folder / "2x2x3_rank11.json")
    assert verify(scheme)
    assert scheme.provenance["found_by"].startswith("matrixrl matmul flip --size 2 3 2 --ring Z")
    assert scheme.provenance["found_in_seconds"] >= 0
    assert ledger(*where, "--add", "latest", "--json") == 0
    again = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [row for row in again["formats"] if row["format"] == [2, 2, 3]] == [row]


def test_what_cannot_be_added_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ledger("--folder", str(tmp_path / "none")) == 2
    assert "no such folder" in capsys.readouterr().err
    assert ledger("--folder", str(tmp_path), "--runs-dir", str(tmp_path), "--add", "walk") == 2
    errors = capsys.readouterr().err
    assert len(errors.splitlines()) == 1
    assert errors.startswith("matrixrl: --add walk: no flip run ")
    page = str(tmp_path / "none" / "page.md")
    assert ledger("--folder", str(tmp_path), "--write", page) == 2
    output, errors = capsys.readouterr()
    assert (output, len(errors.splitlines())) == ("", 1)
    assert errors.startswith(f"matrixrl: --write {page}: no such folder")
