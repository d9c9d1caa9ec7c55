"""``matrixrl schemes list`` and ``get``: the schemes that this project found and ships."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from matrixrl.cli.progress import complain
from matrixrl.schemes.formulas import formulas, num_additions
from matrixrl.schemes.library import Entry, all_entries, find_entry, find_named_entry
from matrixrl.schemes.problem import parse_size
from matrixrl.schemes.records import judge_scheme
from matrixrl.schemes.scheme import RINGS, SchemeError, render_json
from matrixrl.schemes.verify import verify
from matrixrl.tracking.numbers import duration
from matrixrl.user_files import display_path


@dataclass(frozen=True)
class SchemesListCommand:
    """List the schemes that come with matrixrl, with how each was found."""

    json: bool = False
    """Print one JSON object as the last line of output."""


@dataclass(frozen=True)
class Get:
    """Take a scheme out of the library, as a file or as formulas."""

    size: Annotated[str, tyro.conf.Positional]
    """Format, such as 3x3x3, sides in any order; or a built-in problem, such as poly-3x3."""

    ring: str | None = None
    """Ring of the coefficients: Z or F2. The default is the scheme of the lowest rank."""

    output: Path | None = None
    """Scheme file to write. The default prints the scheme's formulas."""

    json: bool = False
    """Print the scheme as one JSON object as the last line of output."""


def run_command(command: SchemesListCommand | Get) -> int:
    """Runs the command; returns the exit status."""
    try:
        return _list(command) if isinstance(command, SchemesListCommand) else _get(command)
    except SchemeError as error:
        complain(str(error))
        return 2


def _list(command: SchemesListCommand) -> int:
    rows = [("problem", "rank", "ring", "record", "additions", "time", "found by")]
    for entry in all_entries():
        seconds = entry.found_in_seconds
        record = judge_scheme(entry.scheme).record
        rows.append(
            (
                entry.scheme.problem.name,
                str(entry.scheme.rank),
                entry.scheme.ring,
                "" if record is None else str(record),
                str(entry.additions or num_additions(entry.scheme)),
                "" if seconds is None else duration(seconds),
                entry.found_by,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    for row in rows:
        aligned = [
            f"{value:<{width}}" if column in (0, 2) else f"{value:>{width}}"
            for column, (value, width) in enumerate(zip(row[:6], widths, strict=True))
        ]
        print("  ".join([*aligned, row[6]]))
    if command.json:
        print(json.dumps({"schemes": [_record(entry) for entry in all_entries()]}))
    return 0


def _get(command: Get) -> int:
    if command.ring is not None and command.ring not in RINGS:
        raise SchemeError(f"--ring {command.ring}: must be one of {', '.join(RINGS)}")
    if re.fullmatch(r"[a-z]+(-.*)?", command.size):
        entry = find_named_entry(command.size, command.ring)
    else:
        entry = find_entry(parse_size(command.size), command.ring)
    scheme = entry.scheme
    if command.output is not None:
        if command.output.is_dir():
            raise SchemeError(f"--output {display_path(command.output)}: is a folder; name a file")
        scheme.save(command.output)
        print(f"{display_path(command.output)}: {verify(scheme).message}; found by {entry.found_by}")
    else:
        print(formulas(scheme))
        print()
        print(f"{verify(scheme).message}; found by {entry.found_by}")
    if command.json:
        print(json.dumps(json.loads(render_json(scheme.to_record()))))
    return 0


def _record(entry: Entry) -> dict[str, Any]:
    verdict = judge_scheme(entry.scheme)
    return {
        "name": entry.name,
        "problem": entry.scheme.problem.name,
        "format": entry.scheme.problem.to_record().get("format"),
        "rank": entry.scheme.rank,
        "ring": entry.scheme.ring,
        "record": verdict.record,
        "additions": entry.additions,
        "additions_written": num_additions(entry.scheme),
        "found_by": entry.found_by,
        "found_in_seconds": entry.found_in_seconds,
    }
