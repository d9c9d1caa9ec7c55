"""``matrixrl schemes ledger``: what this project has found for each format, beside the records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from matrixrl.cli.progress import complain
from matrixrl.config import ConfigError, TrackingConfig
from matrixrl.schemes.files import load_schemes, scheme_files
from matrixrl.schemes.ledger import (
    Effort,
    LedgerRow,
    add_efforts,
    add_scheme,
    ledger_json,
    ledger_page,
    read_ledger,
    shipped_folder,
)
from matrixrl.schemes.problem import MatrixMultiplication, parse_size
from matrixrl.schemes.records import coefficients_of
from matrixrl.schemes.scheme import Scheme, SchemeError
from matrixrl.tracking.identity import find_run, read_run_file
from matrixrl.tracking.journal_reader import JournalReader
from matrixrl.user_files import display_path
from matrixrl.whole_files import write_whole

SYSTEM = "flip"


@dataclass(frozen=True)
class SchemesLedgerCommand:
    """Print the best rank found for each format, the record and the core-hours spent; write them as
    a page; add what runs found.
    """

    write: Path | None = None
    """Page to write, such as docs/ledger.md."""

    add: tuple[str, ...] = ()
    """Runs of `matrixrl matmul flip` whose schemes and core-hours are added: names, ids or
    `latest`. Adding a run again replaces what it added.
    """

    folder: Path | None = None
    """Folder of schemes and of ledger.csv. Default: the library of this installation."""

    runs_dir: Path = TrackingConfig().runs_dir
    """Folder of the runs to add."""

    json: bool = False
    """Print one JSON object as the last line of output."""


def run_command(command: SchemesLedgerCommand) -> int:
    """Runs the command; returns the exit status."""
    try:
        return _ledger(command)
    except SchemeError as error:
        complain(str(error))
        return 2


def _ledger(command: SchemesLedgerCommand) -> int:
    folder = command.folder or shipped_folder()
    if not folder.is_dir():
        raise SchemeError(f"--folder {display_path(folder)}: no such folder; name one, which may be empty")
    directories = [find_run(command.runs_dir, reference, SYSTEM, "--add") for reference in command.add]
    if command.write is not None and not command.write.parent.is_dir():
        raise SchemeError(
            f"--write {display_path(command.write)}: no such folder; name a page in one that exists"
        )
    for directory in directories:
        _add_run(directory, folder)
    rows = read_ledger(folder)
    print("\n".join(_table(rows)))
    if command.write is not None:
        try:
            write_whole(command.write, ledger_page(rows))
        except OSError as error:
            raise SchemeError(
                f"--write {display_path(command.write)}: cannot be written: {error.strerror or error}"
            ) from error
        print(f"{display_path(command.write)}: written, {len(rows)} formats")
    if command.json:
        print(ledger_json(rows))
    return 0


def _add_run(directory: Path, folder: Path) -> None:
    """Adds the schemes and the processor time of a run."""
    about = read_run_file(directory) or {}
    if about.get("system") != SYSTEM:
        raise ConfigError(
            f"--add {directory.name}: a run of {about.get('system', 'nothing')}; want one of matrixrl matmul flip"
        )
    label = f"{directory.name}:{str(about.get('identity', ''))[:8]}"
    with JournalReader(directory) as reader:
        efforts = list(_efforts(reader, label))
        seconds = _seconds_of_finds(reader)
    add_efforts(efforts, folder)
    added = []
    try:
        files = scheme_files(directory)
    except SchemeError:
        files = []  # it found nothing
    for file in files:
        if file.name.endswith("_solutions.json"):
            continue
        for scheme in load_schemes(file):
            if not isinstance(scheme.problem, MatrixMultiplication):
                continue
            found_round = scheme.provenance.get("round")
            if found_round in seconds:
                scheme = scheme.with_provenance(found_in_seconds=round(seconds[found_round], 1))
            path = add_scheme(scheme, folder)
            if path is not None:
                added.append(path.stem)
    hours = sum(effort.core_seconds for effort in efforts) / 3600
    print(
        f"{directory.name}: {hours:.3f} core-hours; added {', '.join(added) or 'no scheme: none is better'}"
    )


def _efforts(reader: JournalReader, label: str) -> Iterator[Effort]:
    """Yields what a run spent on each of its formats."""
    graph = reader.config()["graph"]
    last: dict[str, float | int] = {}
    for row in reader.stream():
        last |= {name: value for name, value in row.metrics.items() if name.startswith("walk/")}
    if not graph["all"]:
        sizes = "x".join(map(str, graph["size"] or (2, 2, 2)))
        if graph["tensor"] is None and "walk/core_seconds" in last:
            yield _effort(label, graph["ring"], sizes, last["walk/core_seconds"], last["walk/flips"])
        return
    for name, value in last.items():
        if name.startswith("walk/core_") and name.endswith("_seconds"):
            sizes = name.removeprefix("walk/core_").removesuffix("_seconds")
            yield _effort(label, graph["ring"], sizes, value, last[f"walk/flips_{sizes}"])


def _effort(label: str, ring: str, sizes: str, seconds: float, flips: float) -> Effort:
    n, m, p = sorted(parse_size(sizes))
    return Effort(label, ring, n, m, p, float(seconds), int(flips))


def _seconds_of_finds(reader: JournalReader) -> dict[int, float]:
    """Returns the processor time after which each round ended that found a better scheme."""
    spent: dict[str, float] = {}
    seconds: dict[int, float] = {}
    for row in reader.stream():
        for name, value in row.metrics.items():
            if name.startswith("walk/core_") and name.endswith("seconds"):
                spent[name] = float(value)
                seconds[row.step] = spent[name]
    return seconds


def _table(rows: list[LedgerRow]) -> list[str]:
    head = (
        "format",
        "standard",
        "over Z",
        "record",
        "gap",
        "coefficients",
        "over F2",
        "record",
        "gap",
        "core-hours",
    )
    cells: list[tuple[str, ...]] = [head]
    for row in rows:
        integer, best = row.integer, row.mod2 or row.integer
        record = None if row.record is None else row.record.integer
        if integer is not None and row.record is not None:
            record = row.record.rank(coefficients_of(integer.scheme))
        cells.append(
            (
                str(row.format), str(row.format.naive_rank), _rank(integer and integer.scheme), _text(record),
                _text(row.gap), coefficients_of(integer.scheme) if integer else "-", _rank(best and best.scheme),
                _text(row.record and row.record.mod2), _text(row.gap_mod2), f"{row.core_seconds / 3600:.3f}",
            )
        )  # fmt: skip
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    return [
        "  ".join(
            text.rjust(width) if column else text.ljust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in cells
    ]


def _rank(scheme: Scheme | None) -> str:
    return "-" if scheme is None else str(scheme.rank)


def _text(value: int | None) -> str:
    return "-" if value is None else str(value)
