"""``matrixrl schemes``: prove, print and compare schemes from their files. No JAX."""

from __future__ import annotations

import json as json_module
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from matrixrl.cli.progress import complain
from matrixrl.schemes.check import TITLES, check_reading
from matrixrl.schemes.draw import save_png
from matrixrl.schemes.files import NotASchemeError, SchemesRead, read_scheme_file, scheme_files, select_files
from matrixrl.schemes.records import (
    IN_WORDS_OF,
    Coefficients,
    Record,
    bounds,
    computed_bound,
    extended_records,
    find_record,
)
from matrixrl.schemes.report import make_report
from matrixrl.schemes.rings import Ring
from matrixrl.schemes.scheme import SchemeError, as_format
from matrixrl.user_files import display_path


@dataclass(frozen=True)
class Verify:
    """Prove schemes exactly; exit status 0 if all are right, 1 if one is wrong, 2 if a file cannot
    be read.
    """

    files: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Scheme files in any known format (docs/schemes.md), folders, or patterns such as
    'found/**/*.json'. Of a folder and a pattern every file is read; those that are no scheme are
    skipped and counted.
    """

    ring: Literal["F2", "F3", "Q"] | None = None
    """Ring in which the files are judged. By default the one that a file declares, or the
    rationals.
    """

    json: bool = False
    """Print one JSON object as the last line of output."""


@dataclass(frozen=True)
class SchemesShowCommand:
    """Print a scheme as formulas, with its rank, ring, additions, growth factor, symmetries and the
    verdict against the records.
    """

    file: Annotated[Path, tyro.conf.Positional]
    """Scheme file in any known format, file of solutions, or run folder (its best scheme)."""

    number: int = 1
    """Index of the scheme in a file that holds several, from 1."""

    format: Literal["text", "markdown", "latex"] = "text"
    """How the scheme and its properties are written."""

    seconds: float = 1.0
    """Time limit in seconds of the search for fewer additions; 0 leaves it out."""

    png: Path | None = None
    """PNG file to which the three factor matrices are drawn as well."""

    json: bool = False
    """Print one JSON object as the last line of output."""


@dataclass(frozen=True)
class Records:
    """List the best known ranks up to 16x16x16, or those of one format."""

    size: tuple[int, int, int] | None = None
    """Format n m p, sides in any order."""

    json: bool = False
    """Print one JSON object as the last line of output."""


SchemesCommand = Verify | SchemesShowCommand | Records


def run_command(command: SchemesCommand) -> int:
    """Runs a command; returns the exit status: 0 done, 1 a scheme is wrong, 2 bad input (one line
    on stderr).
    """
    try:
        if isinstance(command, Verify):
            return _verify(command)
        if isinstance(command, SchemesShowCommand):
            return _show(command)
        return _records(command)
    except SchemeError as error:
        complain(str(error))
        return 2


def _verify(command: Verify) -> int:
    if not command.files:
        raise SchemeError("no file given; name a scheme file, a folder or a pattern")
    selections = [_select(path) for path in command.files]
    several = sum(len(selection.files) for selection in selections) > 1
    searched = any(selection.searched for selection in selections)
    results: list[_Verified] = []
    skipped = 0
    for path, selection in zip(command.files, selections, strict=True):
        if selection.error is not None:
            complain(selection.error)
            results.append(_Verified(path, [], selection.error))
            continue
        found = [_verify_file(file, command.ring, several, selection.searched) for file in selection.files]
        passed = [result for result in found if result is not None]
        left_out = selection.skipped + len(found) - len(passed)
        skipped += left_out
        results += passed
        if selection.searched and not passed:
            message = f"{display_path(path)}: no file here is a scheme ({left_out:,} skipped); want one in a known format"
            complain(message)
            results.append(_Verified(path, [], message))
    summaries = [summary for result in results for summary in result.schemes]
    correct = sum(summary["verified"] for summary in summaries)
    wrong, unreadable = len(summaries) - correct, sum(result.error is not None for result in results)
    if searched and summaries:
        _print_table(results, correct, wrong, unreadable, skipped)
    if command.json:
        if len(results) == len(summaries) == 1 and not searched:
            _print_json(summaries[0])
        else:
            counts = {"correct": correct, "wrong": wrong, "unreadable": unreadable, "skipped": skipped}
            _print_json({"files": [result.to_record() for result in results], **counts})
    if unreadable:
        return 2
    return 1 if wrong else 0


@dataclass(frozen=True)
class _Selected:
    """The files of one argument, or the reason that there are none."""

    files: list[Path]
    searched: bool
    skipped: int
    error: str | None = None


def _select(path: Path) -> _Selected:
    try:
        selection = select_files(path)
    except SchemeError as error:
        return _Selected([], False, 0, str(error))
    return _Selected(selection.files, selection.searched, selection.skipped)


@dataclass(frozen=True)
class _Verified:
    """The schemes of one file with their verdicts, or the reason that the file cannot be read."""

    file: Path
    schemes: list[dict[str, Any]]
    error: str | None = None

    def to_record(self) -> dict[str, Any]:
        return {"file": display_path(self.file), "schemes": self.schemes, "error": self.error}


def _verify_file(file: Path, ring: Ring | None, several: bool, searched: bool) -> _Verified | None:
    """Verifies the schemes of a file and reports them; None for a file of a folder or pattern that
    is no scheme.
    """
    try:
        read = read_scheme_file(file, ring)
    except NotASchemeError as error:
        if searched:
            return None
        complain(str(error))
        return _Verified(file, [], str(error))
    except SchemeError as error:
        complain(str(error))
        return _Verified(file, [], str(error))
    place = f"{display_path(file)}: " if several else ""
    return _Verified(file, _verify_schemes(read, ring, display_path(file), place, quiet=searched))


def _verify_schemes(
    read: SchemesRead, ring: Ring | None, file: str, place: str, quiet: bool
) -> list[dict[str, Any]]:
    """Verifies the schemes of one file, prints the verdicts and returns their summaries.

    Args:
      read: the content of the file.
      ring: in which the schemes are judged; None is their own.
      file: name of the file, for messages.
      place: prefix of the verdicts.
      quiet: only errors and broken records are printed; a table follows.
    """
    checked = [check_reading(read, reading, ring) for reading in read.readings]
    single = len(checked) == 1
    for number, check in enumerate(checked, start=1):
        if not check.ok:
            complain(f"{file}{'' if single else f': scheme {number}'}: not a correct scheme: {check.message}")
    if single and not quiet and checked[0].ok:
        for line in checked[0].lines:
            print(f"{place}{line}")
    elif not single and not quiet:
        kinds = sorted({f"{check.scheme.problem}:{check.scheme.rank}" for check in checked})
        shown = ", ".join(kinds[:4]) + (", ..." if len(kinds) > 4 else "")
        correct = sum(check.ok for check in checked)
        counted = "all correct" if correct == len(checked) else f"{correct:,} correct"
        print(f"{place}{len(checked):,} schemes ({shown}), {counted}")
        transposed = sum(check.transposed is True for check in checked)
        if transposed:
            print(f"{place}{TITLES[read.format]}; C is transposed in {transposed:,} of them")
    for check in checked:
        if check.announcement:
            print(f"{place}{check.announcement}")
    return [check.summary for check in checked]


def _print_table(results: list[_Verified], correct: int, wrong: int, unreadable: int, skipped: int) -> None:
    """Prints a row per file and kind of scheme, and the totals."""
    rows = [("file", "read as", "scheme", "number", "ring", "verdict")]
    for result in results:
        kinds = Counter(
            (
                summary["source_format"] + (", C transposed" if summary["c_transposed"] else ""),
                f"{summary['problem']}:{summary['rank']}",
                summary["ring"],
                summary["short_verdict"],
            )
            for summary in result.schemes
        )
        name = display_path(result.file)
        rows += [
            (name, form, scheme, f"{number:,}", ring, verdict)
            for (form, scheme, ring, verdict), number in sorted(kinds.items())
        ]
        if result.error is not None:
            rows.append((name, "", "", "", "", "cannot be read"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    parts = [f"{correct:,} correct", f"{wrong:,} wrong", f"{unreadable:,} cannot be read"]
    files = "file" if skipped == 1 else "files"
    print(f"{', '.join(parts)}; {skipped:,} {files} skipped, no scheme")


def _show(command: SchemesShowCommand) -> int:
    file = scheme_files(command.file, best_only=True)[0]
    if command.seconds < 0:
        raise SchemeError(f"--seconds {command.seconds:g}: want 0 or more")
    read = read_scheme_file(file)
    number = len(read.readings)
    if not 1 <= command.number <= number:
        raise SchemeError(f"--number {command.number}: {display_path(file)} holds {number:,}, from 1")
    reading = read.readings[command.number - 1]
    check = check_reading(read, reading, None)
    scheme = check.scheme
    report = make_report(scheme, check, command.seconds)
    if command.png is not None:
        save_png(scheme, command.png)
    print(report.render(command.format, picture=command.png))
    if not check.ok:
        complain(f"{display_path(file)}: not a correct scheme: {check.message}")
    if check.announcement:
        print(check.announcement)
    if number > 1:
        print(f"scheme {command.number:,} of {number:,}; --number N shows another")
    if command.json:
        more = {**report.to_record(), "provenance": dict(scheme.provenance)}
        _print_json({**check.summary, **more, "png": command.png and str(command.png)})
    return 0 if check.ok else 1


def _records(command: Records) -> int:
    rows = extended_records()
    if command.size is not None:
        fmt = as_format(command.size)
        row = find_record(fmt)
        if row is None:
            first, last = rows[0].format, rows[-1].format
            raise SchemeError(
                f"--size {' '.join(map(str, fmt))}: the table of records goes from {first} to {last}, "
                "every side between 2 and 16"
            )
        rows = (row,)
    print(f"{'format':<9}{'rational':>9}{'integer':>9}{'ternary':>9}{'mod 2':>7}{'standard':>10}  source")
    notes = []
    columns: tuple[tuple[Coefficients, int], ...] = (
        ("rational", 9), ("integer", 9), ("ternary", 9), ("mod2", 7),
    )  # fmt: skip
    for row in rows:
        cells = []
        for coefficients, width in columns:
            bound = computed_bound(row, coefficients)
            cells.append(f"{row.rank(coefficients)}{'' if bound is None else '*'}".rjust(width))
            if bound is not None:
                how = bound.words(bounds(coefficients).of)
                notes.append(
                    f"* {row.format} {IN_WORDS_OF[coefficients]}: {how} gives {bound.rank}, computed, not a record"
                )
        print(f"{row.format!s:<9}{''.join(cells)}{row.naive:>10}  {row.source}")
    for note in notes:
        print(note)
    if command.json:
        _print_json({"records": [_record_values(row) for row in rows]})
    return 0


def _record_values(row: Record) -> dict[str, Any]:
    computed = {}
    columns: tuple[Coefficients, ...] = ("rational", "integer", "ternary", "mod2")
    for coefficients in columns:
        bound = computed_bound(row, coefficients)
        if bound is not None:
            computed[coefficients] = {"rank": bound.rank, "how": bound.words(bounds(coefficients).of)}
    return {**asdict(row), "format": list(row.format), "computed": computed}


def _print_json(values: dict[str, Any]) -> None:
    print(json_module.dumps(values))
