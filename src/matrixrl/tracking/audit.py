"""The audit: proves that console, journal, episode table, W&B and files of a run agree by count
and by value (tracking contract, rule 11)."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

from matrixrl.tracking.delivery_state import DeliveryState, load_states
from matrixrl.tracking.events import EPISODE_TABLE
from matrixrl.tracking.files import sha256_of
from matrixrl.tracking.identity import LOCK_FILE, Lock
from matrixrl.tracking.journal_reader import JournalReader, Mark
from matrixrl.tracking.numbers import plural
from matrixrl.tracking.sinks import wandb_client
from matrixrl.tracking.sinks.base import RefusedError, Sink, StoredRow, UnavailableError
from matrixrl.tracking.sinks.registry import DEFAULT_SINK as WANDB
from matrixrl.tracking.sinks.registry import find_recorded
from matrixrl.tracking.transcript import TABLES, journal_texts, parsed_line, read_texts
from matrixrl.tracking.uploader_client import sync_command

TABLES_COMPARED = 20
"""On a server, the newest tables are compared cell by cell, the others by their number of rows."""


@dataclass(frozen=True)
class Gap:
    """A difference. `kind` is missing, doubled, changed, reordered, unknown or checksum."""

    place: str
    kind: str
    step: int | None
    text: str

    def __str__(self) -> str:
        at = "" if self.step is None else f" at step {self.step}"
        return f"{self.place}: {self.kind}{at}: {self.text}"


@dataclass
class Report:
    """What an audit found.

    Attributes:
        checks: places and the number of rows compared there.
        gaps: differences, the first one first.
        notes: remarks that are not differences: rows that wait, places that were not compared.
    """

    run: str
    checks: dict[str, int] = field(default_factory=dict)
    gaps: list[Gap] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        """Whether no gap was found."""
        return not self.gaps

    def gap(self, place: str, kind: str, step: int | None, text: str) -> None:
        """Adds a difference."""
        self.gaps.append(Gap(place, kind, step, text))


def audit(directory: Path, server: bool | None = None) -> Report:
    """Compares all records of a run, in its folder and on the server.

    Args:
        directory: the run folder.
        server: ask the W&B server; by default if rows were sent there. Files in the folder are
            always compared.

    Raises:
        ConfigError: there is no journal.
        JournalError: nothing of the journal can be read.
    """
    report = Report(directory.name)
    with JournalReader(directory) as reader:
        _audit_journal(reader, report)
        _audit_console(reader, report)
        if wandb_client.fragments(directory):
            _audit_offline(reader, report)
        state = DeliveryState.load(directory, WANDB)
        if state is not None and state.place and server is not False:
            with wandb_client.never_asking():
                _audit_server(reader, state, report)
        elif state is not None and server is not False:
            report.notes.append(f"{reader.count_deliverable()} rows wait for a W&B server")
        _audit_sinks(reader, report)
        if reader.local_metrics:
            report.notes.append(
                f"metrics {', '.join(reader.local_metrics)} stay in the journal: no tracker gets them"
            )
        _audit_files(reader, report)
        for damage in reader.damage:
            report.gap("journal", "missing", None, damage)
    return report


def _audit_journal(reader: JournalReader, report: Report) -> None:
    """Ids without gaps (rows are only ever added), steps in order, episode numbers 1, 2, 3, ..."""
    for table in (*TABLES.values(), "table_marks"):
        report.checks[f"journal {table}"], gone = reader.count_rows(table)
        if gone is not None:
            report.gap("journal", "missing", None, f"row {gone} of the table {table} is gone")
    reader.fault()
    _increasing(reader.steps("stream"), "journal", "stream", report)
    _increasing(reader.steps("table_marks"), "journal", "table_marks", report)
    _complete(reader, report)


def _complete(reader: JournalReader, report: Report) -> None:
    """Checks that each episode number is recorded once, and that none is missing at a mark or at
    the end of a finished run.

    Of games played at once a later one may end first, so a number may come early; of a run that
    stopped between two marks the others may not have ended.
    """
    marks = iter(reader.marks())
    mark = next(marks, None)
    expected, early = 1, dict[int, int]()

    def missing(until_step: float) -> bool:
        """Returns true if a number was missing at one of the marks up to this step."""
        nonlocal mark
        while mark is not None and mark.step < until_step:
            if early:
                return True
            mark = next(marks, None)
        return False

    def report_missing() -> None:
        number, step = next(iter(early.items()))
        report.gap("journal", "missing", step, f"episode {expected} expected, {number} found")

    for step, number in reader.episode_numbers():
        if mark is not None and mark.step < step and missing(step):
            return report_missing()
        if number == expected and not early and type(number) is int:
            expected += 1
            continue
        if not isinstance(number, int) or number < expected or number in early:
            return report.gap("journal", "doubled", step, f"episode {expected} expected, {number} found")
        early[number] = step
        while expected in early:
            del early[expected]
            expected += 1
    attempts = reader.attempts()
    if early and (missing(math.inf) or not attempts or attempts[-1].status == "finished"):
        report_missing()
    elif early:
        report.notes.append(f"episode {expected} had not ended when the run stopped; {next(iter(early))} had")


def _increasing(steps: Iterable[int], place: str, what: str, report: Report) -> None:
    last = 0
    for step in steps:
        if step <= last:
            kind = "doubled" if step == last else "reordered"
            report.gap(place, kind, step, f"{what}: a row at step {step} after step {last}")
            return
        last = step


def _audit_console(reader: JournalReader, report: Report) -> None:
    """Checks that the transcript holds the line of every row, in order. Of a killed run the last
    rows may not have been shown yet."""
    attempts = reader.attempts()
    ended = not attempts or attempts[-1].ended is not None
    for kind in TABLES:
        # Line by line: a long run has a million of them.
        compared = _compare_lines(read_texts(reader.directory, kind), journal_texts(reader, kind), report)
        report.checks[f"console {kind} lines"] = compared.shown
        if compared.differ:
            continue
        first = compared.first_not_shown
        if compared.first_surplus is not None:
            step, text = parsed_line(compared.first_surplus)
            report.gap("journal", "missing", step, f"the console showed {text!r}, no row says so")
        elif first is not None and ended:
            step, text = parsed_line(first)
            report.gap("console", "missing", step, f"{text!r} was not shown")
        elif first is not None:
            report.notes.append(
                f"{compared.not_shown} {kind} lines had not been shown when the run was killed"
            )


@dataclass
class _Lines:
    """Result of comparing the lines of one kind.

    Attributes:
        shown: lines of the transcript.
        differ: a line is not the one that the journal makes, which was reported.
        first_surplus: the first line of the transcript behind all that the journal makes.
        first_not_shown, not_shown: the first line behind the end of the transcript, and how many
            there are.
    """

    shown: int = 0
    differ: bool = False
    first_surplus: str | None = None
    first_not_shown: str | None = None
    not_shown: int = 0


def _compare_lines(shown: Iterator[str], wanted: Iterator[str], report: Report) -> _Lines:
    result = _Lines()
    count = 0
    previous: str | None = None
    for line, expected in zip_longest(shown, wanted):
        if line == expected:
            count += 1
            previous = line
        elif line is None:
            result.first_not_shown = result.first_not_shown or expected
            result.not_shown += 1
        elif expected is None:
            count += 1
            result.first_surplus = result.first_surplus or line
        else:
            result.differ = True
            what = "missing" if next(wanted, None) == line else "doubled" if line == previous else "changed"
            step, text = parsed_line(expected)
            difference = f"shown {parsed_line(line)[1]!r}, the journal says {text!r}"
            report.gap("console", what, step, difference)
            count += 1 + sum(1 for _ in shown)
            break
    result.shown = count
    return result


def _audit_offline(reader: JournalReader, report: Report) -> None:
    """Compares wandb's offline files, one after another, with the journal."""

    def rows() -> Iterator[tuple[StoredRow, Path]]:
        for path in wandb_client.fragments(reader.directory):
            for row in wandb_client.offline_rows(path):
                yield row, path.parent / "files"

    folders: dict[int, Path] = {}
    plain: list[StoredRow] = []
    for row, folder in rows():
        folders[row.step] = folder
        plain.append(row)
    place = "W&B offline file"
    state = DeliveryState.load(reader.directory, WANDB) or DeliveryState()
    sent = _compare_rows(reader, plain, place, report, state)
    waiting = reader.count_deliverable(sent)
    if waiting:
        report.notes.append(f"{waiting} rows after step {sent} are not in the offline files")
    tables = {row.step: row.values[EPISODE_TABLE] for row in plain if EPISODE_TABLE in row.values}
    _compare_tables(
        reader, tables, lambda step: folders[step] / tables[step]["path"], place, report, compared=len(tables)
    )


def _audit_server(reader: JournalReader, state: DeliveryState, report: Report) -> None:
    """Compares the rows, tables and artifacts that the server's API returns with the journal."""
    place, path = "W&B server", state.place["path"]
    try:
        wandb_client.require_server()
        _audit_owner(reader, path, report)
        rows = list(wandb_client.server_rows(path))
        sent = _compare_rows(reader, rows, place, report, state)
        if sent < state.confirmed_step:
            report.gap(
                place, "missing", state.confirmed_step, f"rows after step {sent} were there and are gone"
            )
        waiting = reader.count_deliverable(sent)
        running = Lock.owner(reader.directory / LOCK_FILE) is not None
        if waiting:
            how = "are on their way" if running else f"wait: {sync_command(reader.directory)}"
            report.notes.append(f"{waiting} rows after step {sent} {how}")
        tables = {row.step: row.values[EPISODE_TABLE] for row in rows if EPISODE_TABLE in row.values}
        if tables:
            there = wandb_client.table_steps(path)
            absent = [step for step in sorted(tables) if step not in there]
            if absent and not running:
                text = (
                    f"{len(absent)} of {plural(len(tables), 'table file')} that rows name are not there; "
                    f"`{sync_command(reader.directory)}` sends them again"
                )
                report.gap(f"{place}, episode table", "missing", absent[0], text)
            elif absent:
                report.notes.append(f"{plural(len(absent), 'table file')} are on their way")
            tables = {step: table for step, table in tables.items() if step in there}
        with tempfile.TemporaryDirectory() as folder:
            _compare_tables(
                reader,
                tables,
                lambda step: wandb_client.server_file(path, tables[step]["path"], Path(folder)),
                place,
                report,
                compared=TABLES_COMPARED,
            )
        _compare_artifacts(reader, state, report)
    except UnavailableError as error:
        report.notes.append(f"the W&B server could not be asked: {error}")


def _audit_sinks(reader: JournalReader, report: Report) -> None:
    """Compares the rows that the other sinks hold with the journal."""
    for name, state in load_states(reader.directory).items():
        if name == WANDB:
            continue
        found = find_recorded(reader.directory, name, state.source, "runs audit")
        rows = None if found is None else found.sink.read_rows(reader.directory)
        if found is None or rows is None:
            why = "its class is not imported" if found is None else "its rows cannot be read back"
            report.notes.append(f"{name} was not compared: {why}")
            continue
        label = found.sink.label or name
        sent = _compare_rows(reader, list(rows), label, report, state, found.sink)
        gone = [row.step for row in reader.deliverable(sent, 1)[:1] if row.metrics]
        if sent < state.confirmed_step and gone and not report.gaps:
            report.gap(label, "missing", gone[0], f"rows after step {sent} were there and are gone")
        if waiting := reader.count_deliverable(max(sent, state.confirmed_step)):
            report.notes.append(f"{waiting} rows after step {sent} wait for {label}")


def _audit_owner(reader: JournalReader, path: str, report: Report) -> None:
    """Checks that the W&B run carries the identity of this run; one of an older matrixrl has
    none."""
    entity, project, identity = path.split("/", 2)
    try:
        found = wandb_client.server_run(project, entity, identity)
    except RefusedError as error:
        raise UnavailableError(str(error)) from error
    if found is not None and found.identity != reader.meta.get("identity"):
        report.gap("W&B server", "unknown", None, f"{found.url} belongs to another run")


def _compare_rows(
    reader: JournalReader,
    rows: list[StoredRow],
    place: str,
    report: Report,
    state: DeliveryState,
    sink: type[Sink] | None = None,
) -> int:
    """Compares history rows with the journal, and returns the last step that is there.

    Args:
        sink: whose rows have no table and may be rounded; None for W&B.
    """
    report.checks[place] = len(rows)
    _increasing((row.step for row in rows), place, "history", report)
    if report.gaps and report.gaps[-1].place == place:
        return max((row.step for row in rows), default=0)
    by_step = {row.step: row.values for row in rows}
    last = max(by_step, default=0)
    is_live = sink is not None or place == "W&B server" or not state.place
    thinned = [(a, b) for a, b, _ in state.thinned] if is_live else []
    stored = dict if sink is None else sink.stored
    left_out = earlier = 0
    aside: dict[int, list[dict[str, Any]]] | None = None
    after = 0
    while batch := reader.deliverable(after, 1000):
        for row in batch:
            after = row.step
            if row.step > last:
                break
            there = by_step.pop(row.step, None)
            if there is None:
                if not row.metrics and (sink is not None or row.table_rows is None):
                    continue
                if any(a <= row.step <= b for a, b in thinned):
                    left_out += 1
                    continue
                report.gap(place, "missing", row.step, f"the row {_short(row.metrics)} is not there")
                return last
            has_table = row.table_rows is not None if sink is None else None
            if difference := _difference(stored(row.metrics), has_table, there):
                if aside is None:
                    aside = _superseded(reader)
                if any(not _difference(stored(old), None, there) for old in aside.get(row.step, [])):
                    earlier += 1
                    continue
                report.gap(place, "changed", row.step, difference)
                return last
        if after > last:
            break
    if aside is None and by_step:
        aside = _superseded(reader)
    for step, values in sorted(by_step.items()):
        if any(not _difference(stored(old), None, values) for old in (aside or {}).get(step, [])):
            earlier += 1
        else:
            report.gap(
                "journal", "missing", step, f"{place} has the row {_short(values)}, the journal has not"
            )
            break
    if left_out:
        report.notes.append(f"{place}: {left_out} stream rows were left out while the stream was thinned")
    if earlier:
        report.notes.append(
            f"{place}: {earlier} rows show an earlier attempt: it was resumed and came out different"
        )
    return last


def _superseded(reader: JournalReader) -> dict[int, list[dict[str, Any]]]:
    """Metrics of the rows that left the history, by step."""
    found: dict[int, list[dict[str, Any]]] = {}
    for row in reader.stream(history=False):
        if row.superseded_by is not None:
            found.setdefault(row.step, []).append(reader.delivered(row.metrics))
    for mark in reader.marks(history=False):
        if mark.superseded_by is not None:
            found.setdefault(mark.step, [{}])
    return found


def _difference(metrics: dict[str, Any], has_table: bool | None, there: dict[str, Any]) -> str | None:
    """Returns the difference between a journal row and W&B's, in words; None if they agree."""
    rest = {key: value for key, value in there.items() if not key.startswith(EPISODE_TABLE)}
    for name, value in metrics.items():
        if name not in rest:
            return f"{name} = {value} is not there"
        if not same_value(value, rest.pop(name)):
            return f"{name} is {there[name]}, the journal says {value}"
    if rest:
        return f"{_short(rest)} is not in the journal"
    if has_table is not None and has_table != (EPISODE_TABLE in there):
        return f"{EPISODE_TABLE} is {'missing' if has_table else 'there without a mark in the journal'}"
    return None


def same_value(ours: Any, theirs: Any) -> bool:
    """Returns true if two values agree; JSON has no NaN and no infinity, W&B writes them as
    words."""
    if isinstance(ours, float) and not math.isfinite(ours):
        return str(theirs).lower() in {str(ours), str(ours).replace("inf", "infinity")}
    return ours == theirs


def _compare_tables(
    reader: JournalReader,
    tables: dict[int, dict[str, Any]],
    fetch: Callable[[int], Path],
    place: str,
    report: Report,
    compared: int,
) -> None:
    """Compares the logged episode tables with the journal's episodes up to their step."""
    marks: dict[int, Mark] = {mark.step: mark for mark in reader.marks()}
    limit = wandb_client.MAX_TABLE_ROWS
    newest = sorted(tables)[-compared:]
    count = 0
    for step in sorted(tables):
        if step not in marks:
            continue
        expected = min(marks[step].rows, limit)
        if tables[step]["nrows"] != expected:
            text = f"{EPISODE_TABLE} has {tables[step]['nrows']} rows, the journal {expected}"
            report.gap(f"{place}, episode table", "missing", step, text)
            return
        if step not in newest:
            continue
        content = json.loads(fetch(step).read_text())
        if content["columns"] != list(reader.episode_columns):
            report.gap(f"{place}, episode table", "changed", step, f"columns are {content['columns']}")
            return
        wanted = reader.last_episodes(step, limit)
        count += len(wanted)
        if text := _table_difference(wanted, content["data"]):
            report.gap(f"{place}, episode table", *text)
            return
    report.checks[f"{place}, table rows"] = count


def _table_difference(wanted: list[list[Any]], there: list[list[Any]]) -> tuple[str, int | None, str] | None:
    for index, row in enumerate(wanted):
        if index >= len(there) or not all(map(same_value, row, there[index])):
            if index < len(there) and there[index] in wanted[index + 1 : index + 2]:
                return "missing", None, f"the row of episode {row[0]} is not there"
            if index >= len(there):
                return "missing", None, f"the row of episode {row[0]} is not there"
            return "changed", None, f"episode {row[0]} is {there[index]}, the journal says {row}"
    if len(there) > len(wanted):
        return "unknown", None, f"the row {there[len(wanted)]} is not in the journal"
    return None


def _audit_files(reader: JournalReader, report: Report) -> None:
    """Checksums of checkpoints and other files against the journal's."""
    count = 0
    gone = []
    for record in reader.files():
        path = reader.directory / record.path
        if not path.exists():
            gone.append(record.path)
            continue
        count += 1
        digest, _ = sha256_of(path)
        if digest != record.sha256:
            text = f"{record.path} has sha256 {digest[:12]}..., the journal says {record.sha256[:12]}..."
            report.gap("files", "checksum", record.step, text)
    report.checks["files"] = count
    if gone:
        report.notes.append(f"{len(gone)} recorded files are not in the folder any more (such as {gone[0]})")


def _compare_artifacts(reader: JournalReader, state: DeliveryState, report: Report) -> None:
    """Artifacts on the server against the journal and the files in the folder."""
    count = 0
    recorded = {record.path: record for record in reader.files()}
    for path, sent in state.artifacts.items():
        if sent.get("pruned") or path not in recorded:
            continue
        if sent["sha256"] != recorded[path].sha256:
            continue  # rewritten since; it will be sent again
        local = reader.directory / path
        if not local.exists():
            continue
        count += 1
        base = local if local.is_dir() else local.parent
        for name, digest in wandb_client.artifact_digests(sent["name"]).items():
            file = base / name
            md5 = hashlib.md5(file.read_bytes(), usedforsecurity=False) if file.exists() else None
            if md5 is None or base64.b64encode(md5.digest()).decode() != digest:
                report.gap(
                    "W&B server, artifacts",
                    "checksum",
                    sent["step"],
                    f"{sent['name']}: {name} differs from {path}",
                )
                break
    report.checks["W&B server, artifacts"] = count


def _short(values: dict[str, Any]) -> str:
    text = ", ".join(f"{name}={value}" for name, value in list(values.items())[:3])
    return text + (", ..." if len(values) > 3 else "")
