"""Names of code are noted for a run, in a folder that nobody else can write to."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from matrixrl.named_code import is_named, note_named


@pytest.fixture(params=["posix", "windows"])
def state(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's state folder, on a system with and without user numbers."""
    if request.param == "windows":
        monkeypatch.delattr(os, "getuid")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path / "state"


def test_a_name_is_noted_for_one_run(state: Path, tmp_path: Path) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    note_named(run, ["package:make", "/a/b.py:make"])
    assert is_named(run, "package:make")
    assert is_named(run, "/a/b.py:make")
    assert not is_named(run, "package:other")
    assert not is_named(other, "package:make")
    assert len(list((state / "matrixrl" / "named_code").iterdir())) == 2


def test_without_a_state_folder_the_temporary_one_serves(state: Path, tmp_path: Path) -> None:
    state.write_text("a file, not a folder")
    note_named(tmp_path / "run", ["package:make"])
    assert is_named(tmp_path / "run", "package:make")


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="files have no owner here")
def test_a_folder_that_others_can_write_to_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    note_named(tmp_path / "run", ["package:make"])
    (tmp_path / "state" / "matrixrl" / "named_code").chmod(0o777)
    assert not is_named(tmp_path / "run", "package:make")
