from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from matrixrl.user_files import (
    MAX_BYTES,
    MAX_CONTAINERS,
    MAX_DEPTH,
    UserFileError,
    display_path,
    parse_json,
    read_bytes,
    read_json,
    read_text,
)


def test_a_regular_file_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": [1, -2.5, null, true, "\\u00fc"], "b": {}}')
    assert read_json(path) == {"a": [1, -2.5, None, True, "ü"], "b": {}}
    link = tmp_path / "link"
    link.symlink_to(path)
    assert read_text(link) == read_text(path)
    assert read_bytes(path, limit=path.stat().st_size) == path.read_bytes()


def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    link = tmp_path / "link"
    link.symlink_to(fifo)
    for path, kind in ((fifo, "a pipe"), (link, "a pipe"), (tmp_path, "a folder"), ("/dev/zero", "a device")):
        with pytest.raises(UserFileError, match=f"is {kind}, want a regular file"):
            read_bytes(path)
    with socket.socket(socket.AF_UNIX) as server:
        where = os.path.relpath(tmp_path / "s")  # the name of a socket is short
        server.bind(where)
        with pytest.raises(UserFileError, match="is a socket"):
            read_bytes(where)


def test_a_pipe_that_takes_the_place_of_a_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, fifo = tmp_path / "file", tmp_path / "fifo"
    path.write_text("1")
    os.mkfifo(fifo)
    before = os.stat(path)
    monkeypatch.setattr(os, "stat", lambda _: before)  # as the name was when it was looked up
    with pytest.raises(UserFileError, match="is a pipe"):
        read_bytes(fifo)


def test_a_file_is_refused_by_its_size_and_by_what_it_turns_out_to_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "huge"
    path.touch()
    os.truncate(path, 200_000_000)  # sparse
    with pytest.raises(UserFileError, match=f"has 200,000,000 bytes, at most {MAX_BYTES:,} are read"):
        read_bytes(path)
    status = os.stat(tmp_path / "huge")
    os.truncate(path, 20)
    small = os.stat(path)
    os.truncate(path, 200_000_000)
    assert status.st_size > small.st_size
    monkeypatch.setattr(os, "fstat", lambda _: small)  # the file grows while it is read
    with pytest.raises(UserFileError, match="has more than 100 bytes"):
        read_bytes(path, limit=100)


def test_missing_unreadable_and_impossible_names_are_refused_in_one_line(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path / "none" / "below", "null\0character", "x" * 5000):
        with pytest.raises(UserFileError, match="cannot be read") as caught:
            read_bytes(path)
        assert "\n" not in str(caught.value)
    assert display_path("a\nb\x1b[31m") == "'a\\nb\\x1b[31m'"
    assert display_path("Zürich.json") == "Zürich.json"


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "binary"
    path.write_bytes(b"abc\xff\xfe")
    with pytest.raises(UserFileError, match="byte 3 is not UTF-8"):
        read_text(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "a": 1}', "the key 'a' stands twice in one object"),
        ('{"b": [{"x": 1, "y": 2, "x": 3}]}', "the key 'x' stands twice"),
        ('{"\\u0061": 1, "a": 1}', "the key 'a' stands twice"),
        ("[NaN]", "NaN is not a JSON number"),
        ("[-Infinity]", "-Infinity is not a JSON number"),
        ("[1e999]", "the number '1e999' is too large"),
        ("[1." + "0" * 2000 + "]", "a number of 2,002 digits"),
        ("9" * 1001, "a number of 1,001 digits"),
        ("[1,]", "not JSON, line 1 column"),
        ('{"a": 1\n"b": 2}', "not JSON, line 2 column 1"),
        ("'a'", "not JSON"),
        ('"a\nb"', "not JSON"),
        ("", "not JSON"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "nested too deeply"),
        ('{"a":' * (MAX_DEPTH + 1) + "1" + "}" * (MAX_DEPTH + 1), "nested too deeply"),
        ("[" * 1_000_000, "nested too deeply"),
        ('["\\"' + "[" * 100 + '", ' + "[" * 100, "nested too deeply"),
        ("[" + "[]," * MAX_CONTAINERS + "[]]", "more than 1,000,000 arrays and objects"),
        ('"' + '\\"' * 500_000, "not JSON"),
        ('"\\' * 500_000, "not JSON"),
    ],
    ids=range(20),
)
def test_json_is_strict_and_bounded(text: str, message: str) -> None:
    with pytest.raises(UserFileError, match=message) as caught:
        parse_json(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_brackets_in_strings_and_side_by_side_do_not_count_as_depth() -> None:
    assert parse_json('["' + "[{" * 200 + '"]') == ["[{" * 200]
    assert parse_json("[" + "[]," * 200 + "[]]") == [[]] * 201
    nested = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert parse_json(f"[{nested[1:-1]}]") is not None
