"""Files appear complete or not at all, also when writing fails."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest

from matrixrl.whole_files import whole_file, write_whole


def test_a_file_is_replaced_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    with whole_file(path) as draft:
        assert draft.parent == tmp_path
        assert draft.name.startswith(".")
        draft.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_block_leaves_the_old_file_and_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")

    def fail() -> None:
        with whole_file(path) as draft:
            draft.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("fsync", "synced"), [(False, 0), (True, 2)])
def test_content_and_rename_are_synced_on_request(
    fsync: bool, synced: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda handle: calls.append(os.readlink(f"/proc/self/fd/{handle}")))
    write_whole(tmp_path / "a", b"content", fsync=fsync)
    assert len(calls) == synced
    assert calls[1:] == [str(tmp_path)] * (synced // 2)


def test_a_file_that_cannot_be_synced_is_not_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(tmp_path / "a", "content", fsync=True)
    assert list(tmp_path.iterdir()) == []


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "a", "content")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_two_writers_of_one_file_use_different_drafts(tmp_path: Path) -> None:
    with whole_file(tmp_path / "a") as first, whole_file(tmp_path / "a") as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert (tmp_path / "a").read_text() == "first"  # the outer block ends last


def test_one_module_alone_renames_drafts() -> None:
    """`path.replace(target)` and `os.replace` stand nowhere else; folders are renamed with `rename`."""
    users: set[str] = set()
    for source in (Path(__file__).resolve().parents[1] / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            of_os = isinstance(node.func.value, ast.Name) and node.func.value.id == "os"
            renames = len(node.args) == 1 and not node.keywords  # str.replace has two arguments
            if node.func.attr == "replace" and (of_os or renames) and source.name != "whole_files.py":
                users.add(f"{source.name}:{node.lineno}")
            if node.func.attr in ("mkstemp", "NamedTemporaryFile") and source.name != "coordinator.py":
                users.add(f"{source.name}:{node.lineno}")
    assert users == set()
