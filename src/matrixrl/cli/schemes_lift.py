"""``matrixrl schemes lift``: schemes modulo 2 or 3 become schemes over the integers or the
rationals. No JAX.
"""

from __future__ import annotations

import json as json_module
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from matrixrl.cli.progress import complain, working
from matrixrl.schemes.check import announce_record, check_reading
from matrixrl.schemes.files import NotASchemeError, read_scheme_file, select_files
from matrixrl.schemes.lift import Lift, lift
from matrixrl.schemes.rings import MODULUS, Ring
from matrixrl.schemes.scheme import Scheme, SchemeError
from matrixrl.tracking.numbers import duration
from matrixrl.user_files import display_path

_FINITE: tuple[Ring, ...] = ("F2", "F3")
_MAX_LINES = 10  # schemes without a lift that are named one by one


@dataclass(frozen=True)
class SchemesLiftCommand:
    """Lift schemes from F2 or F3 to the integers or the rationals; exit status 0 if all lift, 1 if
    some do not, 2 if a file cannot be read or written.
    """

    files: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Scheme files in any known format (docs/schemes.md), folders, or patterns. A scheme over
    another ring counts as lifted if it is right there; if it holds modulo 2 or 3 only, it is lifted
    from there.
    """

    to: Literal["Z", "Q"] = "Z"
    """Z: integers, with coefficients -1, 0, 1 where possible. Q: also fractions, where no integers
    are found.
    """

    output: Path | None = None
    """Folder for the lifted schemes, one scheme file each."""

    same_basis: bool = False
    """Lift in the basis of each scheme only, so that the lift equals the scheme modulo 2 or 3. By
    default a lift with coefficients -1, 0, 1 in another basis is preferred to larger ones.
    """

    ring: Literal["F2", "F3"] | None = None
    """Ring from which the files are lifted. By default the one that a file declares."""

    tries: int = 8
    """Number of starting points and bases that are tried for a scheme."""

    seed: int = 0
    """Seed of their choice."""

    json: bool = False
    """Print one JSON object as the last line of output."""

    def __post_init__(self) -> None:
        if self.tries < 1:
            raise SchemeError(f"--tries {self.tries}: want 1 or more")


@dataclass(frozen=True)
class _SchemeToLift:
    """A scheme to lift, with its place; without a scheme the reason that it is wrong."""

    file: Path
    number: int
    count: int
    scheme: Scheme
    wrong: str = ""

    @property
    def place(self) -> str:
        return display_path(self.file) + (f": scheme {self.number}" if self.count > 1 else "")


@dataclass(frozen=True)
class _LiftResult:
    """A scheme with the outcome."""

    source: _SchemeToLift
    outcome: Lift | None
    seconds: float
    output: Path | None = None

    @property
    def scheme(self) -> Scheme | None:
        """The lifted scheme; None if it does not lift."""
        return None if self.outcome is None else self.outcome.scheme

    @property
    def result(self) -> str:
        """The outcome in a few words, for the table."""
        if self.outcome is None:
            return "WRONG"
        if self.outcome.status == "rational" and self.scheme is None:
            return "no integers found, fractions (--to Q)"
        if self.scheme is None:
            step = "" if self.outcome.step is None else f", step {self.outcome.step} has no solution"
            return f"no lift{step}"
        kind = {"ternary": "coefficients -1, 0, 1", "integer": "integers", "rational": "fractions"}
        basis = "" if self.outcome.same_basis else ", another basis"
        return f"{self.scheme.ring}, {kind[self.outcome.status]}{basis}"

    def to_record(self) -> dict[str, Any]:
        """Returns the outcome as JSON values."""
        scheme, given, outcome = self.scheme, self.source.scheme, self.outcome
        return {
            "file": display_path(self.source.file),
            "number": self.source.number,
            "problem": given.problem.name,
            "format": given.problem.to_record().get("format"),
            "rank": given.rank,
            "from": given.ring,
            "lifted": scheme is not None,
            "ring": None if scheme is None else scheme.ring,
            "status": "wrong" if outcome is None else outcome.status,
            "same_basis": None if outcome is None or scheme is None else outcome.same_basis,
            "step": None if outcome is None else outcome.step,
            "max_coefficient": None if scheme is None else scheme.max_coefficient,
            "message": self.source.wrong if outcome is None else outcome.message,
            "seconds": self.seconds,
            "output": None if self.output is None else str(self.output),
        }


def run_command(command: SchemesLiftCommand) -> int:
    """Runs the command; returns the exit status."""
    try:
        return _lift(command)
    except SchemeError as error:
        complain(str(error))
        return 2


def _lift(command: SchemesLiftCommand) -> int:
    if not command.files:
        raise SchemeError("no file given; name scheme files, folders or patterns")
    output = command.output
    if output is not None and output.exists() and not output.is_dir():
        raise SchemeError(f"--output {display_path(output)}: is a file; name a folder")
    sources, skipped, unreadable = _read(command)
    if not sources and not command.json:
        return 2  # the reasons are on standard error
    results: list[_LiftResult] = []
    names: set[str] = set()
    began = time.monotonic()
    with working(f"lifting {len(sources):,} schemes") as status:
        for number, source in enumerate(sources):
            status.progress("lifting", number, len(sources), "schemes")
            results.append(_lift_one(command, source, names))
    seconds = time.monotonic() - began
    _print_results(results, seconds, skipped, unreadable)
    lifted = sum(result.scheme is not None for result in results)
    if command.json:
        counts = {"lifted": lifted, "not_lifted": len(results) - lifted, "unreadable": unreadable}
        record = {"schemes": [result.to_record() for result in results], "to": command.to}
        print(json_module.dumps({**record, **counts, "skipped": skipped, "seconds": seconds}))
    if unreadable:
        return 2
    return 0 if lifted == len(results) else 1


def _read(command: SchemesLiftCommand) -> tuple[list[_SchemeToLift], int, int]:
    """Reads all files before anything is written; returns the schemes, and the numbers of files
    that are no scheme and that cannot be read.
    """
    sources: list[_SchemeToLift] = []
    skipped = unreadable = 0
    for path in command.files:
        try:
            selection = select_files(path)
        except SchemeError as error:
            complain(str(error))
            unreadable += 1
            continue
        skipped += selection.skipped
        before = len(sources)
        for file in selection.files:
            try:
                sources += _read_file(file, command.ring)
            except SchemeError as error:
                if selection.searched and isinstance(error, NotASchemeError):
                    skipped += 1
                    continue
                complain(str(error))
                unreadable += 1
        if selection.searched and len(sources) == before:
            complain(f"{display_path(path)}: no file here is a scheme; want one in a known format")
            unreadable += 1
    return sources, skipped, unreadable


def _read_file(file: Path, ring: Ring | None) -> list[_SchemeToLift]:
    """Reads the schemes of a file; one that is right modulo 2 or 3 only is reduced."""
    read = read_scheme_file(file, ring)
    checks = [check_reading(read, reading, ring) for reading in read.readings]
    sources = []
    for number, check in enumerate(checks, start=1):
        found = check
        if not check.ok and ring is None and check.scheme.ring not in MODULUS:
            # Which way C is stored may differ in a ring where the scheme holds.
            for finite in _FINITE:
                again = read_scheme_file(file, finite)
                reduced = check_reading(again, again.readings[number - 1], finite)
                if reduced.ok:
                    found = reduced
                    break
        wrong = "" if found.ok else f"not a correct scheme: {check.message}"
        sources.append(_SchemeToLift(file, number, len(checks), found.scheme, wrong))
    return sources


def _lift_one(command: SchemesLiftCommand, source: _SchemeToLift, names: set[str]) -> _LiftResult:
    """Lifts a scheme and writes the result."""
    began = time.process_time()
    if source.wrong:
        return _LiftResult(source, None, 0.0)
    scheme = source.scheme
    if scheme.ring in MODULUS:
        outcome = lift(
            scheme,
            to=command.to,
            any_basis=not command.same_basis,
            tries=command.tries,
            seed=command.seed,
        )
    else:
        outcome = _as_it_is(scheme, command.to)
    path = None
    if outcome.scheme is not None and command.output is not None:
        stem = source.file.stem + (f"_{source.number}" if source.count > 1 else "")
        name, copies = stem, 1
        while name in names:
            copies += 1
            name = f"{stem}_{copies}"
        names.add(name)
        path = command.output / f"{name}.json"
        outcome.scheme.save(path)
    return _LiftResult(source, outcome, time.process_time() - began, path)


def _as_it_is(scheme: Scheme, to: str) -> Lift:
    """Returns the outcome for a scheme of characteristic zero."""
    if scheme.is_integral:
        status = "ternary" if scheme.is_ternary else "integer"
        return Lift(status, scheme, True, None, "is over the integers")
    if to == "Q" and scheme.ring != "Q[i]":
        return Lift("rational", scheme, True, None, "is over the rationals")
    return Lift("none", None, True, None, f"is over {scheme.ring}, not modulo 2 or 3, and is not changed")


def _print_results(results: list[_LiftResult], seconds: float, skipped: int, unreadable: int) -> None:
    """Prints a row per file and outcome, the schemes without a lift, and the totals."""
    without = [result for result in results if result.scheme is None]
    for result in without[:_MAX_LINES]:
        message = result.source.wrong if result.outcome is None else result.outcome.message
        complain(f"{result.source.place}: {message}")
    if len(without) > _MAX_LINES:
        complain(f"{len(without) - _MAX_LINES:,} more schemes do not lift")
    kinds = Counter(
        (display_path(r.source.file), f"{r.source.scheme.problem}:{r.source.scheme.rank}", r.source.scheme.ring, r.result)
        for r in results
    )  # fmt: skip
    rows = [("file", "scheme", "from", "number", "lifts to")]
    rows += [
        (file, scheme, ring, f"{count:,}", result) for (file, scheme, ring, result), count in kinds.items()
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    if results:
        for row in rows:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for result in results:
        announcement = "" if result.scheme is None else announce_record(result.scheme)
        if announcement:
            print(f"{result.source.place}: {announcement}")
    lifted = len(results) - len(without)
    parts = [f"{lifted:,} of {len(results):,} lifted in {duration(seconds)}"]
    if unreadable:
        parts.append(f"{unreadable:,} cannot be read")
    if skipped:
        parts.append(f"{skipped:,} {'file' if skipped == 1 else 'files'} skipped, no scheme")
    print("; ".join(parts))
