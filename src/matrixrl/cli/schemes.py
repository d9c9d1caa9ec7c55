"""``matrixrl schemes``: prove, print and compare schemes from their files. No JAX."""

from __future__ import annotations

import json as json_module
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from matrixrl.cli.progress import complain
from matrixrl.schemes.draw import save_png
from matrixrl.schemes.formulas import formulas, growth_factor, num_additions
from matrixrl.schemes.records import Record, all_records, find_record, judge_scheme
from matrixrl.schemes.scheme import Scheme, SchemeError, as_format
from matrixrl.schemes.verify import Verification, verify


@dataclass(frozen=True)
class Verify:
    """Prove a scheme exactly; exit status 0 if it is right, 1 if it is wrong, 2 if the file cannot be read."""

    file: Annotated[Path, tyro.conf.Positional]
    """Scheme file (JSON)."""

    json: bool = False
    """Make the last line of output one JSON object."""


@dataclass(frozen=True)
class Show:
    """Print a scheme as formulas, with its rank, its additions and the verdict against the records."""

    file: Annotated[Path, tyro.conf.Positional]
    """Scheme file (JSON)."""

    png: Path | None = None
    """Also draw the three factor matrices into this PNG file."""

    json: bool = False
    """Make the last line of output one JSON object."""


@dataclass(frozen=True)
class Records:
    """List the best known ranks, or those of one format."""

    size: tuple[int, int, int] | None = None
    """The format: n m p, in any order."""

    json: bool = False
    """Make the last line of output one JSON object."""


SchemesCommand = Verify | Show | Records


def run_command(command: SchemesCommand) -> int:
    """Carry out a command; returns the exit status: 0 done, 1 the scheme is wrong, 2 bad input (one line on stderr)."""
    try:
        if isinstance(command, Verify):
            return _verify(command)
        if isinstance(command, Show):
            return _show(command)
        return _records(command)
    except SchemeError as error:
        complain(str(error))
        return 2


def _verify(command: Verify) -> int:
    scheme = Scheme.load(command.file)
    check = verify(scheme)
    _report_check(check, command.file)
    if check:
        print(judge_scheme(scheme).message)
    if command.json:
        _print_json(_summary(scheme, check))
    return 0 if check else 1


def _show(command: Show) -> int:
    scheme = Scheme.load(command.file)
    check = verify(scheme)
    text, additions, growth = formulas(scheme), num_additions(scheme), growth_factor(scheme)
    if command.png is not None:
        save_png(scheme, command.png)
    print(text)
    print()
    _report_check(check, command.file)
    if check:
        print(judge_scheme(scheme).message)
    print(f"{additions} additions as written, growth factor {growth:.2f}")
    if command.png is not None:
        print(f"picture: {command.png}")
    if command.json:
        more = {"additions": additions, "growth_factor": growth, "formulas": text.splitlines()}
        more |= {"provenance": dict(scheme.provenance), "png": command.png and str(command.png)}
        _print_json(_summary(scheme, check) | more)
    return 0 if check else 1


def _records(command: Records) -> int:
    rows = all_records()
    if command.size is not None:
        fmt = as_format(command.size)
        row = find_record(fmt)
        if row is None:
            first, last = rows[0].format, rows[-1].format
            raise SchemeError(
                f"--size {' '.join(map(str, fmt))}: the table of records goes from {first} to {last}, "
                "every side between 2 and 8"
            )
        rows = (row,)
    print(f"{'format':<8}{'rational':>9}{'integer':>9}{'ternary':>9}{'mod 2':>7}{'standard':>10}  source")
    for row in rows:
        print(
            f"{row.format!s:<8}{row.rational:>9}{row.integer:>9}{row.ternary:>9}{row.mod2:>7}{row.naive:>10}  {row.source}"
        )
    if command.json:
        _print_json({"records": [_record_values(row) for row in rows]})
    return 0


def _report_check(check: Verification, file: Path) -> None:
    """The verdict on stdout, or what is wrong on stderr."""
    if check:
        print(check.message)
    else:
        more = f" ({check.num_wrong} coefficients are wrong)" if check.num_wrong > 1 else ""
        complain(f"{file}: not a correct scheme: {check.message}{more}")


def _summary(scheme: Scheme, check: Verification) -> dict[str, Any]:
    verdict = judge_scheme(scheme)
    return {
        "format": list(scheme.format),
        "ring": scheme.ring,
        "rank": scheme.rank,
        "verified": check.ok,
        "wrong": check.num_wrong,
        "message": check.message,
        "record": verdict.record,
        "coefficients": verdict.coefficients,
        "naive": verdict.naive,
        "verdict": verdict.message if check.ok else None,
    }


def _record_values(row: Record) -> dict[str, Any]:
    return {**asdict(row), "format": list(row.format)}


def _print_json(values: dict[str, Any]) -> None:
    print(json_module.dumps(values))
