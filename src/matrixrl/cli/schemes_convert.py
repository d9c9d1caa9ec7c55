"""``matrixrl schemes convert``: schemes from any known file format into another. No JAX."""

from __future__ import annotations

import json as json_module
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from matrixrl.cli.progress import complain
from matrixrl.schemes import export
from matrixrl.schemes.check import Checked, check_reading
from matrixrl.schemes.files import NotASchemeError, read_scheme_file, select_files
from matrixrl.schemes.formats import FORMATS, render
from matrixrl.schemes.scheme import Scheme, SchemeError
from matrixrl.user_files import display_path


@dataclass(frozen=True)
class Convert:
    """Convert schemes from any known file format into another; exit status 0 if all are right, 1 if
    one is wrong, 2 if a file cannot be read or written.
    """

    files: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Scheme files in any known format (docs/schemes.md), folders, or patterns."""

    to: Literal["json", "npz", "m", "exp", "elements", "mpl", "txt", "sms"]
    """Format to write: our JSON, AlphaTensor's archive, a nested-list table, a product list, JSON
    with n, m, multiplications and elements, a Maple tensor, the three factor matrices, SMS
    matrices.
    """

    output: Path | None = None
    """File to write, or a folder for one file per scheme. By default the standard output, for one
    scheme as text.
    """

    ring: Literal["F2", "F3", "Q"] | None = None
    """Ring in which the files are judged and written. By default the one that a file declares, or
    the rationals.
    """

    json: bool = False
    """Print one JSON object as the last line of output; needs --output."""


@dataclass(frozen=True)
class _Source:
    """A scheme to be written, with the file and the number in it."""

    file: Path
    number: int
    count: int
    check: Checked

    @property
    def place(self) -> str:
        return display_path(self.file) + (f": scheme {self.number}" if self.count > 1 else "")


def run_command(command: Convert) -> int:
    """Runs the command; returns the exit status."""
    try:
        return _convert(command)
    except SchemeError as error:
        complain(str(error))
        return 2


def _convert(command: Convert) -> int:
    if not command.files:
        raise SchemeError("no file given; name scheme files, folders or patterns")
    sources, skipped = _read(command)
    if not sources:
        raise SchemeError(f"no scheme to convert ({skipped:,} files skipped)")
    schemes = [source.check.scheme for source in sources]
    written: list[Path] = []
    if command.output is None:
        _to_standard_output(command, schemes)
    else:
        written = _to_files(command, command.output, sources)
    wrong = [source for source in sources if not source.check.ok]
    for source in wrong:
        complain(f"{source.place}: not a correct scheme, converted as it is: {source.check.message}")
    if command.output is not None:
        for source in sources:
            if source.check.ok:
                c = {True: ", C was transposed", False: ", C was not transposed", None: ""}[
                    source.check.transposed
                ]
                print(f"{source.place}: {source.check.proof.message}{c}")
        print(f"wrote {', '.join(display_path(path) for path in written[:4])}{', ...' * (len(written) > 4)}")
    if command.json:
        record: dict[str, Any] = {
            "schemes": [{"file": display_path(source.file), **source.check.summary} for source in sources],
            "written": [str(path) for path in written],
            "skipped": skipped,
        }
        print(json_module.dumps(record))
    return 1 if wrong else 0


def _read(command: Convert) -> tuple[list[_Source], int]:
    """Reads everything before anything is written."""
    sources: list[_Source] = []
    skipped = 0
    for path in command.files:
        selection = select_files(path)
        skipped += selection.skipped
        for file in selection.files:
            try:
                read = read_scheme_file(file, command.ring)
            except NotASchemeError:
                if not selection.searched:
                    raise
                skipped += 1
                continue
            count = len(read.readings)
            sources += [
                _Source(file, number, count, check_reading(read, reading, command.ring))
                for number, reading in enumerate(read.readings, start=1)
            ]
    return sources, skipped


def _to_standard_output(command: Convert, schemes: Sequence[Scheme]) -> None:
    if command.json:
        raise SchemeError("--json needs --output: the standard output has the scheme")
    if command.to == "npz":
        raise SchemeError("--to npz needs --output: an archive is not text")
    sys.stdout.write(render(schemes, command.to).decode())


def _to_files(command: Convert, output: Path, sources: Sequence[_Source]) -> list[Path]:
    schemes = [source.check.scheme for source in sources]
    module = FORMATS[command.to]
    into_folder = output.is_dir() or str(output).endswith(os.sep)
    if not into_folder and (len(schemes) == 1 or module.HOLDS_SEVERAL):
        export.write(render(schemes, command.to), output)
        return [output]
    if not into_folder and output.suffix:
        raise SchemeError(
            f"--output {display_path(output)}: a file in the format {command.to} holds one scheme, and {len(schemes):,} "
            "are given; name a folder"
        )
    names: dict[str, int] = {}
    planned: list[tuple[Path, bytes]] = []
    for source, scheme in zip(sources, schemes, strict=True):
        stem = source.file.stem + (f"_{source.number}" if source.count > 1 else "")
        names[stem] = names.get(stem, 0) + 1
        if names[stem] > 1:
            stem += f"_{names[stem]}"
        planned.append((output / f"{stem}{module.SUFFIX}", render([scheme], command.to)))
    for path, content in planned:
        export.write(content, path)
    return [path for path, _ in planned]
