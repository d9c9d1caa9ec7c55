"""Bounded reading of files that users name: scheme files, scenarios, lists of actions.

A file may be anything: a device, a pipe without a writer, gigabytes, nested brackets without end.
The readers here return in bounded time and memory or raise `UserFileError` with one line. They open
regular files only, read at most `limit` bytes, and parse JSON strictly: no duplicate keys, no NaN,
limited depth, limited number of containers. Standard library only; every layer may import this
module.
"""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import Any, NoReturn

MAX_BYTES = 32 * 2**20
"""Maximum size of a file. 1,000 solutions of 5x5x5, the most that a run keeps, have 22 MB."""

MAX_DEPTH = 64
"""Maximum nesting of arrays and objects in a JSON file."""

MAX_CONTAINERS = 1_000_000
"""Maximum number of arrays and objects in a JSON file. An empty one takes 3 bytes on disk and 70
bytes in memory."""

MAX_DIGITS = 1_000
"""Maximum number of characters of a JSON number: converting a long one takes quadratic time."""

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)

# A string, closed or not, or a bracket. Possessive quantifiers keep the scan linear for any text.
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[\[{]|[\]}]', re.DOTALL)


class UserFileError(ValueError):
    """A file cannot be read or parsed. The message is one line without the names of file and
    reader."""


def display_path(path: Path | str) -> str:
    """Returns a path for a one-line message: quoted if it has unprintable characters."""
    text = str(path)
    return text if text.isprintable() else ascii(text)


def read_bytes(path: Path | str, limit: int = MAX_BYTES) -> bytes:
    """Reads a regular file of at most `limit` bytes.

    Never waits: a pipe or a device is refused before it is opened, since opening alone may block or
    have effects.

    Raises:
      UserFileError: if the file is missing, cannot be read, is no regular file or is too large.
    """
    try:
        _require_regular(os.stat(path).st_mode)
        flags = os.O_RDONLY
        for name in ("O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY", "O_BINARY"):  # not all exist everywhere
            flags |= getattr(os, name, 0)
        handle = os.open(path, flags)
        with os.fdopen(handle, "rb") as file:
            # The name may have been given to another file since.
            status = os.fstat(file.fileno())
            _require_regular(status.st_mode)
            if status.st_size > limit:
                raise UserFileError(f"has {status.st_size:,} bytes, at most {limit:,} are read")
            # The size can be wrong (files of the kernel say 0) and can grow: what counts is what is
            # read.
            data = file.read(limit + 1)
    except UserFileError:
        raise
    except OSError as error:
        raise UserFileError(f"cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # a null character in the path
        raise UserFileError(f"cannot be read: {error}") from error
    if len(data or b"") > limit:
        raise UserFileError(f"has more than {limit:,} bytes, which is the most that is read")
    return data or b""


def read_text(path: Path | str, limit: int = MAX_BYTES) -> str:
    """Reads a regular file of at most `limit` bytes as UTF-8 text, without a byte order mark.

    Raises:
      UserFileError: as `read_bytes`, and if the file is not UTF-8.
    """
    try:
        return read_bytes(path, limit).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserFileError(f"not a text file (byte {error.start:,} is not UTF-8)") from error


def parse_json(text: str) -> Any:
    """Parses JSON strictly.

    Raises:
      UserFileError: if `text` is not JSON, holds a key twice in one object, NaN, an infinity, a
        number of more than `MAX_DIGITS` characters, more than `MAX_CONTAINERS` arrays and objects,
        or nests them deeper than `MAX_DEPTH`.
    """
    _require_shallow(text)
    try:
        return json.loads(
            text,
            object_pairs_hook=_unique_keys,
            parse_constant=_refuse_constant,
            parse_int=_bounded_int,
            parse_float=_finite_float,
        )
    except json.JSONDecodeError as error:
        raise UserFileError(f"not JSON, line {error.lineno} column {error.colno}: {error.msg}") from error
    except RecursionError as error:  # the caller's own stack is nearly full
        raise UserFileError("nested too deeply") from error


def read_json(path: Path | str, limit: int = MAX_BYTES) -> Any:
    """Reads and parses a JSON file; raises `UserFileError` as `read_text` and `parse_json` do."""
    return parse_json(read_text(path, limit))


def _require_regular(mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = next((name for test, name in _KINDS if test(mode)), "not a regular file")
        raise UserFileError(f"is {kind}, want a regular file")


def _require_shallow(text: str) -> None:
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth = count = 0
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token in ("[", "{"):
            depth += 1
            count += 1
            if depth > MAX_DEPTH:
                raise UserFileError(f"nested too deeply: more than {MAX_DEPTH} levels")
            if count > MAX_CONTAINERS:
                raise UserFileError(f"holds more than {MAX_CONTAINERS:,} arrays and objects")
        elif token in ("]", "}"):
            depth -= 1


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise UserFileError(f"the key {_shorten(key)} stands twice in one object")
            seen.add(key)
    return result


def _refuse_constant(constant: str) -> NoReturn:
    raise UserFileError(f"{constant} is not a JSON number")


def _bounded_int(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise UserFileError(f"a number of {len(text):,} digits, at most {MAX_DIGITS:,} are read")
    return int(text)


def _finite_float(text: str) -> float:
    if len(text) > MAX_DIGITS:
        raise UserFileError(f"a number of {len(text):,} digits, at most {MAX_DIGITS:,} are read")
    value = float(text)
    if value - value != 0:
        raise UserFileError(f"the number {_shorten(text)} is too large")
    return value


def _shorten(text: str, width: int = 40) -> str:
    shown = ascii(text)
    return shown if len(shown) <= width else shown[: width - 3] + "..."
