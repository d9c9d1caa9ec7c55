"""Schemes from files named by users: files of every known format, folders and patterns.

All reading is bounded (`matrixrl.user_files`). A file holds one scheme or several, in any format of
`matrixrl.schemes.formats`, recognised by its content. A folder represents its files, and for a
command that wants one scheme the best one that a training run wrote into it.
"""

from __future__ import annotations

import glob
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from matrixrl.schemes.formats import NotASchemeError, SchemesRead, read_bytes_as_schemes
from matrixrl.schemes.rings import Ring
from matrixrl.schemes.scheme import Scheme, SchemeError
from matrixrl.user_files import MAX_BYTES, UserFileError, display_path, read_bytes

# Files of a run folder: the best scheme, the scheme modulo 2 from which it was lifted, and the
# solutions; for several formats one of each, with the format in the name.
_BEST = "scheme*.json"
_OTHERS = ("_f2.json", "_solutions.json")

_SMS_NAME = re.compile(r"(.*[-_.])([LRP])(\.sms(?:\.txt)?)", re.IGNORECASE)


def read_scheme_file(path: Path | str, ring: Ring | None = None) -> SchemesRead:
    """Reads all schemes of one file, in order, with how each was read.

    Args:
      path: the file.
      ring: the ring in which the file will be judged; None is what it declares, or the rationals.

    Raises:
      NotASchemeError: if the file is in no known format.
      SchemeError: if it cannot be read or is malformed. Both are one line that names the file and
        the place.
    """
    shown = display_path(path)

    def sibling(letter: str) -> bytes:
        match = _SMS_NAME.fullmatch(Path(path).name)
        if match is None:
            raise SchemeError("holds one matrix, want three, or files whose names end in _L, _R and _P")
        name = match[1] + (letter if match[2].isupper() else letter.lower()) + match[3]
        try:
            return read_bytes(Path(path).with_name(name))
        except UserFileError as error:
            raise SchemeError(f"the file {name} beside it {error}") from error

    try:
        return read_bytes_as_schemes(read_bytes(path), ring, sibling)
    except UserFileError as error:
        raise SchemeError(f"{shown}: {error}") from error
    except SchemeError as error:
        raise type(error)(f"{shown}: {error}") from error


def load_schemes(path: Path | str) -> list[Scheme]:
    """Reads all schemes of one file, in order.

    Raises:
      SchemeError: as `read_scheme_file`.
    """
    return [reading.scheme for reading in read_scheme_file(path).readings]


def scheme_files(path: Path | str, best_only: bool = False) -> list[Path]:
    """Lists the scheme files that a path represents: itself, or those of a run folder, the best
    scheme's first.

    Args:
      path: a file or a folder.
      best_only: leaves out the solutions and the schemes modulo 2 of a run folder.

    Raises:
      SchemeError: if the folder cannot be read or holds no scheme file.
    """
    path = Path(path)
    names = _names(path)
    if names is None:
        return [path]
    found = [name for name in names if Path(name).match(_BEST)]
    best = [name for name in found if not name.endswith(_OTHERS)]
    if not found:
        raise SchemeError(
            f"{display_path(path)}: this folder holds no scheme; want a scheme file, or a run folder that has {_BEST}"
        )
    rest = [] if best_only and best else [name for name in found if name not in best]
    return [path / name for name in best + rest]


@dataclass(frozen=True)
class Selection:
    """The files that one argument of a command stands for.

    Attributes:
      files: in the order of their names.
      searched: whether the argument is a folder or a pattern, where a file that is no scheme is
        skipped.
      skipped: number of entries that are no regular file of readable size; folders do not count.
    """

    files: list[Path]
    searched: bool
    skipped: int = 0


def select_files(path: Path | str) -> Selection:
    """Returns the files that an argument stands for: itself, all of a folder, or all that match a
    pattern. Of three SMS files of one scheme the first one stands for all.

    Raises:
      SchemeError: if a folder cannot be read or a pattern matches nothing.
    """
    path = Path(path)
    names = _names(path)
    if names is not None:
        candidates = [path / name for name in names]
    elif glob.has_magic(str(path)) and not os.path.lexists(path):
        candidates = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
        if not candidates:
            raise SchemeError(f"{display_path(path)}: no file matches this pattern")
    else:
        return Selection([path], searched=False)
    candidates = [file for file in candidates if not file.is_dir()]
    files = [file for file in candidates if _is_readable(file)]
    present = {str(file) for file in files}
    alone = [file for file in files if not _has_earlier_sibling(file, present)]
    return Selection(alone, searched=True, skipped=len(candidates) - len(files))


def _names(path: Path) -> list[str] | None:
    """Returns the sorted names in a folder; None if the path is no folder."""
    try:
        if not path.is_dir():
            return None
        with os.scandir(path) as entries:
            return sorted(entry.name for entry in entries)
    except (OSError, ValueError) as error:  # a null character in the path
        reason = getattr(error, "strerror", None) or error
        raise SchemeError(f"{display_path(path)}: cannot be read: {reason}") from error


def _is_readable(file: Path) -> bool:
    try:
        status = os.stat(file)
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size <= MAX_BYTES


def _has_earlier_sibling(file: Path, present: set[str]) -> bool:
    match = _SMS_NAME.fullmatch(file.name)
    if match is None or match[2].upper() == "L":
        return False
    first = "L" if match[2].isupper() else "l"
    return str(file.with_name(match[1] + first + match[3])) in present


__all__ = [
    "NotASchemeError",
    "SchemesRead",
    "Selection",
    "load_schemes",
    "read_scheme_file",
    "scheme_files",
    "select_files",
]
