"""The ledger: for each format the best rank that this project has found, beside the records, and
the processor time spent.

Ranks come from the schemes themselves, which the library ships and the tests verify; the time comes
from `library/ledger.csv`, one row for each run and format. `matrixrl schemes ledger` prints it,
writes it as a page of the documentation, and adds what a run found.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from importlib import resources
from importlib.resources.abc import Traversable
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

from matrixrl.schemes.equivalence import canonical_terms
from matrixrl.schemes.library import Entry, read_library
from matrixrl.schemes.problem import MatrixMultiplication
from matrixrl.schemes.records import Record, coefficients_of, find_record
from matrixrl.schemes.scheme import Format, Scheme, SchemeError, as_format
from matrixrl.schemes.symmetry import reorder
from matrixrl.schemes.verify import verify
from matrixrl.whole_files import write_whole

LEDGER_FILE = "ledger.csv"
LEAST_SIDE = 5
"""Formats up to this side are always listed; larger ones if a scheme or a run is on the ledger."""


@dataclass(frozen=True)
class Effort:
    """What a run spent on a format.

    Attributes:
      run: its name, with the first digits of its identity.
      ring: in which it searched.
      n, m, p: the format, sides sorted.
      core_seconds: processor time of its walks.
      flips: number of flips.
    """

    run: str
    ring: str
    n: int
    m: int
    p: int
    core_seconds: float
    flips: int

    @property
    def format(self) -> Format:
        """The format."""
        return Format(self.n, self.m, self.p)


@dataclass(frozen=True)
class LedgerRow:
    """A format of the ledger.

    Attributes:
      format: sides sorted.
      record: of the table of records; None beyond it.
      integer: the best scheme over the integers; None without one.
      mod2: the scheme over F2 of a lower rank than that; None without one.
      core_seconds: processor time of all runs.
      flips: number of flips of all runs.
    """

    format: Format
    record: Record | None
    integer: Entry | None
    mod2: Entry | None
    core_seconds: float
    flips: int

    @property
    def gap(self) -> int | None:
        """Rank over the integers minus the record for the scheme's coefficients."""
        return _gap(self.integer, self.record)

    @property
    def gap_mod2(self) -> int | None:
        """Rank modulo 2, of the best scheme of any ring, minus the record modulo 2."""
        best = self.mod2 or self.integer
        return None if best is None or self.record is None else best.scheme.rank - self.record.mod2

    def to_record(self) -> dict[str, Any]:
        """Returns the row as JSON values."""
        return {
            "format": list(self.format),
            "rank": None if self.integer is None else self.integer.scheme.rank,
            "coefficients": None if self.integer is None else coefficients_of(self.integer.scheme),
            "record": None if self.record is None else self.record.integer,
            "gap": self.gap,
            "rank_mod2": best.scheme.rank if (best := self.mod2 or self.integer) else None,
            "record_mod2": None if self.record is None else self.record.mod2,
            "gap_mod2": self.gap_mod2,
            "core_hours": round(self.core_seconds / 3600, 4),
            "flips": self.flips,
        }


def _gap(entry: Entry | None, record: Record | None) -> int | None:
    if entry is None or record is None:
        return None
    known = record.rank(coefficients_of(entry.scheme))
    return None if known is None else entry.scheme.rank - known


def shipped_folder() -> Path:
    """Returns the folder of the library of this installation."""
    return Path(str(resources.files("matrixrl.schemes") / "library"))


def read_efforts(folder: Path) -> list[Effort]:
    """Returns the rows of a folder's ledger file; none without one.

    Raises:
      SchemeError: if the file is damaged.
    """
    path = folder / LEDGER_FILE
    if not path.exists():
        return []
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
        return [
            Effort(
                row["run"], row["ring"], int(row["n"]), int(row["m"]), int(row["p"]),
                float(row["core_seconds"]), int(row["flips"]),
            )
            for row in rows
        ]  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SchemeError(f"{path}: is not a ledger: {error}") from error


def read_ledger(folder: Path | None = None) -> list[LedgerRow]:
    """Returns the ledger, sorted by format.

    Args:
      folder: of schemes and ledger file. Default: the library of this installation.

    Raises:
      SchemeError: if a file is damaged.
    """
    folder = folder or shipped_folder()
    entries = _entries(folder)
    efforts = read_efforts(folder)
    formats = {Format(*sizes) for sizes in combinations_with_replacement(range(2, LEAST_SIDE + 1), 3)}
    formats |= {effort.format for effort in efforts}
    formats |= {Format(*sorted(entry.scheme.format)) for entry in entries}
    rows = []
    for fmt in sorted(formats):
        own = [entry for entry in entries if sorted(entry.scheme.format) == list(fmt)]
        integer = _best([entry for entry in own if entry.scheme.is_integral and entry.scheme.ring == "Z"])
        mod2 = _best([entry for entry in own if entry.scheme.ring == "F2"])
        if mod2 is not None and integer is not None and mod2.scheme.rank >= integer.scheme.rank:
            mod2 = None
        spent = [effort for effort in efforts if effort.format == fmt]
        seconds, flips = sum(effort.core_seconds for effort in spent), sum(effort.flips for effort in spent)
        rows.append(LedgerRow(fmt, find_record(fmt), integer, mod2, seconds, flips))
    return rows


def _entries(folder: Traversable) -> list[Entry]:
    """Returns the entries of a library that multiply matrices."""
    return [entry for entry in read_library(folder) if isinstance(entry.scheme.problem, MatrixMultiplication)]


def _best(entries: Sequence[Entry]) -> Entry | None:
    return min(entries, key=lambda entry: _order(entry.scheme), default=None)


def _order(scheme: Scheme) -> tuple[int, bool]:
    """Returns a sort key, lower is better: the rank, then ternary coefficients."""
    return scheme.rank, not scheme.is_ternary


def _is_as_good(kept: Scheme, scheme: Scheme) -> bool:
    """Returns whether a kept scheme is as good as another; over F2 the rank alone counts."""
    return kept.rank <= scheme.rank if scheme.ring == "F2" else _order(kept) <= _order(scheme)


def add_scheme(scheme: Scheme, folder: Path) -> Path | None:
    """Adds a scheme of matrix multiplication over Z or F2 to a library, if it is better than what
    is there; the scheme that it replaces is removed.

    Over the integers a lower rank is better, and at equal rank coefficients -1, 0 and 1. A scheme
    over F2 must have a lower rank than every other.

    Returns:
      The file; None if the library has one as good.

    Raises:
      SchemeError: if the scheme is wrong, of another ring, or cannot be written.
    """
    if scheme.ring not in ("Z", "F2"):
        raise SchemeError(f"ring: {scheme.ring} given; the library has schemes over Z and F2")
    proof = verify(scheme)
    if not proof:
        raise SchemeError(f"not a correct scheme: {proof.message}")
    fmt = Format(*sorted(as_format(tuple(scheme.format))))
    own = [entry for entry in _entries(folder) if sorted(entry.scheme.format) == list(fmt)]
    rivals = [entry for entry in own if scheme.ring == "F2" or entry.scheme.ring == "Z"]
    if any(_is_as_good(entry.scheme, scheme) for entry in rivals):
        return None
    name = f"{fmt}_rank{scheme.rank}{'_mod2' if scheme.ring == 'F2' else ''}.json"
    path = folder / name
    canonical_terms(reorder(scheme, fmt)).save(path)
    for entry in own:
        replaced = entry.scheme.ring == scheme.ring or (
            scheme.ring == "Z" and entry.scheme.rank >= scheme.rank
        )
        if replaced and entry.name != path.stem:
            with contextlib.suppress(FileNotFoundError):
                (folder / f"{entry.name}.json").unlink()
    return path


def add_efforts(efforts: Iterable[Effort], folder: Path) -> None:
    """Adds rows to a folder's ledger file; those of the same run and format are replaced.

    Raises:
      SchemeError: if the file is damaged or cannot be written.
    """
    rows = {(effort.run, effort.format): effort for effort in [*read_efforts(folder), *efforts]}
    text = io.StringIO()
    names = [item.name for item in fields(Effort)]
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for effort in sorted(rows.values(), key=lambda effort: (effort.format, effort.run)):
        writer.writerow({**asdict(effort), "core_seconds": f"{effort.core_seconds:.1f}"})
    try:
        write_whole(folder / LEDGER_FILE, text.getvalue())
    except OSError as error:
        raise SchemeError(f"cannot write {folder / LEDGER_FILE}: {error.strerror or error}") from error


def ledger_page(rows: Sequence[LedgerRow]) -> str:
    """Returns the ledger as a page of the documentation, in Markdown."""
    with_scheme = [row for row in rows if row.integer is not None]
    at_record = [row for row in with_scheme if row.gap is not None and row.gap <= 0]
    hours = sum(row.core_seconds for row in rows) / 3600
    flips = sum(row.flips for row in rows)
    lines = [
        "# Ledger of schemes",
        "",
        "The best scheme that this project has found for each format, beside the best known rank. Written by "
        "`matrixrl schemes ledger --write docs/ledger.md`; do not edit it.",
        "",
        "- Every scheme is shipped with matrixrl and verified exactly by the tests: `matrixrl schemes get 3x3x4`.",
        "- The record over Z is that for the coefficients of the scheme: -1, 0 and 1 (ternary), or any integers.",
        "- Core-hours count the walks of `matrixrl matmul flip` that are on the ledger; schemes of a training or of "
        "earlier walks have none.",
        f"- {len(at_record)} of {len(rows)} formats are at the record over Z, after {hours:.2f} core-hours and {flips:,} flips.",
        "",
        "| format | standard | rank over Z | coefficients | record over Z | gap | rank over F2 | record over F2 | gap | core-hours |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *map(_page_row, rows)]) + "\n"


def _page_row(row: LedgerRow) -> str:
    integer, best = row.integer, row.mod2 or row.integer
    coefficients = None if integer is None else coefficients_of(integer.scheme)
    record = None if row.record is None else row.record.rank(coefficients or "integer")
    cells = [
        str(row.format),
        str(row.format.naive_rank),
        "-" if integer is None else str(integer.scheme.rank),
        coefficients or "-",
        "-" if record is None else str(record),
        "-" if row.gap is None else _signed(row.gap),
        "-" if best is None else str(best.scheme.rank),
        "-" if row.record is None else str(row.record.mod2),
        "-" if row.gap_mod2 is None else _signed(row.gap_mod2),
        f"{row.core_seconds / 3600:.2f}" if row.core_seconds else "-",
    ]
    return f"| {' | '.join(cells)} |"


def _signed(gap: int) -> str:
    return "0" if gap == 0 else f"{gap:+d}"


def ledger_json(rows: Sequence[LedgerRow]) -> str:
    """Returns the ledger as one JSON object."""
    return json.dumps({"formats": [row.to_record() for row in rows]})
