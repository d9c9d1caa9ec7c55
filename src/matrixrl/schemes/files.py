"""Schemes from files named by users: one scheme, a list of schemes, or a run folder.

All reading is bounded (`matrixrl.user_files`). A file holds one scheme as a JSON object, or several
as an array, as in a run's `scheme_solutions.json`. A folder represents the scheme files that a
training run wrote into it.
"""

from __future__ import annotations

import os
from pathlib import Path

from matrixrl.schemes.scheme import Scheme, SchemeError, parse_scheme
from matrixrl.user_files import UserFileError, display_path, read_json

# Files of a run folder: the best scheme, the scheme modulo 2 from which it was lifted, and the
# solutions; for several formats one of each, with the format in the name.
_BEST = "scheme*.json"
_OTHERS = ("_f2.json", "_solutions.json")


def load_schemes(path: Path | str) -> list[Scheme]:
    """Reads all schemes of one file, in order.

    Raises:
      SchemeError: if the file cannot be read or has other content; one line that names the file and
        the field.
    """
    shown = display_path(path)
    try:
        value = read_json(path)
    except UserFileError as error:
        raise SchemeError(f"{shown}: {error}") from error
    if not isinstance(value, list):
        return [parse_scheme(value, shown)]
    if not value:
        raise SchemeError(f"{shown}: holds no scheme, the list is empty")
    return [parse_scheme(record, f"{shown}: scheme {number}") for number, record in enumerate(value, start=1)]


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
    try:
        if not path.is_dir():
            return [path]
        with os.scandir(path) as entries:
            names = sorted(entry.name for entry in entries)
    except (OSError, ValueError) as error:  # a null character in the path
        reason = getattr(error, "strerror", None) or error
        raise SchemeError(f"{display_path(path)}: cannot be read: {reason}") from error
    found = [name for name in names if Path(name).match(_BEST)]
    best = [name for name in found if not name.endswith(_OTHERS)]
    if not found:
        raise SchemeError(
            f"{display_path(path)}: this folder holds no scheme; want a scheme file, or a run folder that has {_BEST}"
        )
    rest = [] if best_only and best else [name for name in found if name not in best]
    return [path / name for name in best + rest]
