from __future__ import annotations

import os
from pathlib import Path

import pytest

from matrixrl.cli.schemes import SchemesShowCommand, Verify, run_command
from tests.schemes.hostile import REFUSED, hostile_files
from tests.schemes.hostile_formats import hostile_public_files

FILES = {**hostile_files(), **hostile_public_files()}


def test_there_are_hundreds() -> None:
    assert len(FILES) >= 300


@pytest.mark.parametrize("name", FILES)
def test_no_hostile_file_is_called_correct(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, expected = FILES[name]
    path = tmp_path / "hostile.json"
    path.write_bytes(content)
    assert run_command(Verify((path,))) == expected
    out, err = capsys.readouterr()
    assert "correct over" not in out
    assert "correct modulo" not in out
    assert "all correct" not in out
    assert err.count("\n") == 1
    assert err.startswith(f"matrixrl: {path}: ")
    assert len(err) < 400


def test_special_files_are_refused_by_every_command_that_opens_schemes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fifo, huge = tmp_path / "fifo", tmp_path / "huge.json"
    os.mkfifo(fifo)
    huge.touch()
    os.truncate(huge, 3_000_000_000)
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    paths = [
        fifo,
        huge,
        loop,
        tmp_path,
        Path("/dev/zero"),
        Path("/dev/null"),
        Path("/dev/full"),
        tmp_path / "none",
    ]
    for path in paths:
        for command in (Verify((path,)), SchemesShowCommand(path)):
            assert run_command(command) == REFUSED
            out, err = capsys.readouterr()
            assert out == ""
            assert err.count("\n") == 1
            assert err.startswith(f"matrixrl: {path}: ")


def test_a_name_with_a_line_break_is_shown_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(Verify((tmp_path / "a\nb",))) == REFUSED
    assert capsys.readouterr().err.count("\n") == 1
