"""``matrixrl schemes``: prove, print and compare schemes from their files. No JAX."""

from __future__ import annotations

import json as json_module
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from matrixrl.cli.progress import complain
from matrixrl.schemes.draw import save_png
from matrixrl.schemes.files import load_schemes, scheme_files
from matrixrl.schemes.formulas import formulas, growth_factor, num_additions
from matrixrl.schemes.records import Record, all_records, find_record, judge_scheme
from matrixrl.schemes.scheme import Scheme, SchemeError, as_format
from matrixrl.schemes.verify import Verification, verify
from matrixrl.user_files import display_path


@dataclass(frozen=True)
class Verify:
    """Prove schemes exactly; exit status 0 if all are right, 1 if one is wrong, 2 if a file cannot
    be read.
    """

    files: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Scheme files (JSON), files of solutions (`scheme_solutions.json`) or run folders."""

    json: bool = False
    """Print one JSON object as the last line of output."""


@dataclass(frozen=True)
class Show:
    """Print a scheme as formulas, with its rank, its additions and the verdict against the
    records.
    """

    file: Annotated[Path, tyro.conf.Positional]
    """Scheme file (JSON), file of solutions, or run folder (its best scheme)."""

    number: int = 1
    """Index of the scheme in a file that holds several, from 1."""

    png: Path | None = None
    """PNG file to which the three factor matrices are drawn as well."""

    json: bool = False
    """Print one JSON object as the last line of output."""


@dataclass(frozen=True)
class Records:
    """List the best known ranks, or those of one format."""

    size: tuple[int, int, int] | None = None
    """Format n m p, sides in any order."""

    json: bool = False
    """Print one JSON object as the last line of output."""


SchemesCommand = Verify | Show | Records


def run_command(command: SchemesCommand) -> int:
    """Runs a command; returns the exit status: 0 done, 1 a scheme is wrong, 2 bad input (one line
    on stderr).
    """
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
    if not command.files:
        raise SchemeError("no file given; name a scheme file, a file of solutions or a run folder")
    outcomes = [_verify_path(path, several=len(command.files) > 1) for path in command.files]
    results = [result for outcome in outcomes for result in outcome]
    summaries = [summary for result in results for summary in result.schemes]
    if command.json:
        if len(results) == len(summaries) == 1:
            _print_json(summaries[0])
        else:
            _print_json(
                {
                    "files": [result.to_record() for result in results],
                    "correct": sum(summary["verified"] for summary in summaries),
                    "wrong": sum(not summary["verified"] for summary in summaries),
                    "unreadable": sum(result.error is not None for result in results),
                }
            )
    if any(result.error is not None for result in results):
        return 2
    return 0 if all(summary["verified"] for summary in summaries) else 1


@dataclass(frozen=True)
class _Verified:
    """The schemes of one file with their verdicts, or the reason that the file cannot be read."""

    file: Path
    schemes: list[dict[str, Any]]
    error: str | None = None

    def to_record(self) -> dict[str, Any]:
        return {"file": display_path(self.file), "schemes": self.schemes, "error": self.error}


def _verify_path(path: Path, several: bool) -> list[_Verified]:
    """Verifies all scheme files of a path and reports each."""
    try:
        files = scheme_files(path)
    except SchemeError as error:
        complain(str(error))
        return [_Verified(path, [], str(error))]
    results = []
    for file in files:
        try:
            schemes = load_schemes(file)
        except SchemeError as error:
            complain(str(error))
            results.append(_Verified(file, [], str(error)))
            continue
        place = f"{display_path(file)}: " if several or len(files) > 1 else ""
        results.append(_Verified(file, _verify_schemes(schemes, display_path(file), place)))
    return results


def _verify_schemes(schemes: list[Scheme], file: str, place: str) -> list[dict[str, Any]]:
    """Verifies the schemes of one file, prints the verdicts and returns their summaries.

    Args:
      schemes: at least one.
      file: name of the file, for messages. place: prefix of the verdicts.
    """
    checks = [verify(scheme) for scheme in schemes]
    if len(schemes) == 1:
        _report_check(checks[0], file, place)
        if checks[0]:
            print(f"{place}{judge_scheme(schemes[0]).message}")
    else:
        for number, check in enumerate(checks, start=1):
            if not check:
                _report_check(check, f"{file}: scheme {number}")
        kinds = sorted({f"{scheme.problem}:{scheme.rank}" for scheme in schemes})
        shown = ", ".join(kinds[:4]) + (", ..." if len(kinds) > 4 else "")
        correct = sum(check.ok for check in checks)
        counted = "all correct" if correct == len(checks) else f"{correct:,} correct"
        print(f"{place}{len(schemes):,} schemes ({shown}), {counted}")
    return [_summary(scheme, check) for scheme, check in zip(schemes, checks, strict=True)]


def _show(command: Show) -> int:
    file = scheme_files(command.file, best_only=True)[0]
    schemes = load_schemes(file)
    if not 1 <= command.number <= len(schemes):
        raise SchemeError(f"--number {command.number}: {display_path(file)} holds {len(schemes):,}, from 1")
    scheme = schemes[command.number - 1]
    check = verify(scheme)
    text, additions, growth = formulas(scheme), num_additions(scheme), growth_factor(scheme)
    if command.png is not None:
        save_png(scheme, command.png)
    print(text)
    print()
    _report_check(check, display_path(file))
    if check:
        print(judge_scheme(scheme).message)
    print(f"{additions} additions as written, growth factor {growth:.2f}")
    if len(schemes) > 1:
        print(f"scheme {command.number:,} of {len(schemes):,}; --number N shows another")
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


def _report_check(check: Verification, file: str, place: str = "") -> None:
    """Prints the verdict on stdout, or the errors on stderr."""
    if check:
        print(f"{place}{check.message}")
        return
    least = "" if check.counted_all else "at least "
    more = f" ({least}{check.num_wrong:,} coefficients are wrong)" if check.num_wrong > 1 else ""
    complain(f"{file}: not a correct scheme: {check.message}{more}")


def _summary(scheme: Scheme, check: Verification) -> dict[str, Any]:
    verdict = judge_scheme(scheme)
    return {
        "problem": scheme.problem.name,
        "format": scheme.problem.to_record().get("format"),
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
