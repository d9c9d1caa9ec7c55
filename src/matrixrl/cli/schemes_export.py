"""``matrixrl schemes export``: a scheme as code that runs, or as data for other programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from matrixrl.cli.progress import complain
from matrixrl.schemes.cheaper import find_cheaper
from matrixrl.schemes.export import SUFFIXES, Target, export, write
from matrixrl.schemes.files import load_schemes, scheme_files
from matrixrl.schemes.scheme import Scheme, SchemeError
from matrixrl.schemes.verify import verify
from matrixrl.user_files import display_path

MAX_SECONDS = 3600.0
"""Largest time limit in seconds of a search for fewer additions."""


@dataclass(frozen=True)
class SchemesExportCommand:
    """Write a scheme as source code or data; exit status 1 if the scheme is wrong, 2 if a file
    cannot be read or written.
    """

    file: Annotated[Path, tyro.conf.Positional]
    """Scheme file, file of solutions, or run folder (its best scheme)."""

    to: Target = "numpy"
    """Target: `numpy` and `jax` are modules with a function `multiply(a, b)`, `c` is one C file,
    `latex` a document, and `json`, `m` and `npz` hold the coefficients.
    """

    output: Path | None = None
    """File to write. The default is the name of the scheme file with the suffix of the target, in
    the current folder.
    """

    number: int = 1
    """Index of the scheme in a file that holds several, from 1."""

    seconds: float = 1.0
    """Time limit in seconds of the search for sums that several products share."""

    cheapest: bool = False
    """First search for an equivalent scheme (another basis) with fewer additions, within the same
    time limit.
    """

    def __post_init__(self) -> None:
        require_seconds(self.seconds)


def require_seconds(seconds: float) -> None:
    """Raises `SchemeError` unless a time limit is in range."""
    if not 0 <= seconds <= MAX_SECONDS:
        raise SchemeError(f"--seconds {seconds}: must be between 0 and {MAX_SECONDS:,.0f}")


def load_one(file: Path, number: int) -> tuple[Scheme, Path]:
    """Reads one scheme of a file or of a run folder; returns it with the path of its file.

    Raises:
      SchemeError: if the file cannot be read or does not hold that many schemes.
    """
    path = scheme_files(file, best_only=True)[0]
    schemes = load_schemes(path)
    if not 1 <= number <= len(schemes):
        raise SchemeError(f"--number {number}: {display_path(path)} holds {len(schemes):,}, from 1")
    return schemes[number - 1], path


def load_correct(file: Path, number: int) -> tuple[Scheme, Path] | None:
    """Reads one scheme and verifies it; complains and returns None if it is wrong.

    Raises:
      SchemeError: as `load_one`.
    """
    scheme, path = load_one(file, number)
    check = verify(scheme)
    if check:
        return scheme, path
    complain(f"{display_path(path)}: not a correct scheme: {check.message}")
    return None


def run_command(command: SchemesExportCommand) -> int:
    """Runs the command; returns the exit status."""
    try:
        return _export(command)
    except SchemeError as error:
        complain(str(error))
        return 2


def _export(command: SchemesExportCommand) -> int:
    loaded = load_correct(command.file, command.number)
    if loaded is None:
        return 1
    scheme, path = loaded
    output = command.output or Path(path.stem + SUFFIXES[command.to])
    if output.is_dir():
        raise SchemeError(f"--output {display_path(output)}: is a folder; name a file")
    if output.exists() and output.resolve() == path.resolve():
        raise SchemeError(f"--output {display_path(output)}: is the scheme file itself; name another file")
    if command.cheapest:
        scheme = find_cheaper(scheme, seconds=command.seconds).scheme
    write(export(scheme, command.to, seconds=command.seconds), output)
    print(f"{display_path(output)}: {scheme.format} in {scheme.rank} multiplications, {_WORDS[command.to]}")
    return 0


_WORDS = {
    "numpy": "a module for NumPy with multiply(a, b)",
    "jax": "a module for JAX with multiply(a, b)",
    "c": "a C file",
    "latex": "a LaTeX document",
    "json": "a scheme file",
    "m": "nested lists",
    "npz": "NumPy arrays",
}
