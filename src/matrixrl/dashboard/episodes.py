"""The episode table of a run, sorted, filtered and paged by the server.

Only the columns by which a page sorts or filters are kept in memory, as arrays; the rows of the
page itself are read from the journal by their ids. So a table of a million rows takes a few
megabytes per column, and what is shown is what was recorded.
"""

from __future__ import annotations

import math
import operator
import re
import threading
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from matrixrl.config import ConfigError, require
from matrixrl.dashboard.query import Query
from matrixrl.dashboard.recent import RecentRuns
from matrixrl.tracking.events import Kind
from matrixrl.tracking.journal_reader import JournalReader

if TYPE_CHECKING:
    from matrixrl.dashboard.endpoints import Dashboard

MAX_BYTES = 64_000_000
"""Size of the arrays of all tables together, above which the tables that were looked at least
recently are dropped.
"""

MAX_PAGE = 1_000

OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}

TRUTHS = {"yes": 1.0, "true": 1.0, "1": 1.0, "no": 0.0, "false": 0.0, "0": 0.0}


class Condition(NamedTuple):
    """A condition on a column: `Reward >= -5`, `Rank 7..9`, `Solved yes`."""

    column: str
    low: float
    high: float
    low_included: bool
    high_included: bool
    negated: bool
    text: str | None


class TableColumn:
    """Values of a column of the history, in the order of recording.

    Numbers are kept as they are; texts as numbers of distinct texts, in the order of these.

    Attributes:
      values: NaN where there is none.
      has_missing: whether a row has none.
    """

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.has_missing = False
        self._numbers = array("d")
        self._codes: dict[str, int] = {}
        self._order: np.ndarray | None = None
        self._ranked: np.ndarray | None = None

    @property
    def size_bytes(self) -> int:
        """Size of its arrays."""
        order = 0 if self._order is None else self._order.nbytes
        ranked = 0 if self._ranked is None else self._ranked.nbytes
        return 8 * len(self._numbers) + order + ranked + 100 * len(self._codes)

    @property
    def values(self) -> np.ndarray:
        """Values to compare: a view that must not be kept while rows are added."""
        return np.frombuffer(self._numbers, float)

    @property
    def texts(self) -> list[str]:
        """Distinct texts by their numbers."""
        return list(self._codes)

    def extend(self, values: Sequence[Any]) -> None:
        """Adds values at the end."""
        if self.kind == "str":
            codes = self._codes
            self._numbers.extend(codes.setdefault(str(value), len(codes)) for value in values)
        else:
            numbers = [float(value) if isinstance(value, int | float) else math.nan for value in values]
            self._numbers.extend(numbers)
            self.has_missing = self.has_missing or any(map(math.isnan, numbers))
        self._ranked = None

    def order(self) -> np.ndarray:
        """Returns the indices of all rows, the lowest value first, rows without a value last; equal
        values in the order of recording.
        """
        values = self._sortable()
        if self._order is not None and len(self._order) == len(values):
            return self._order
        before = self._order
        if before is None or len(values) - len(before) > len(values) // 4:
            self._order = np.argsort(values, kind="stable").astype(np.int32)
        else:  # merge the new rows into the order of the others
            start = len(before)
            added = np.argsort(values[start:], kind="stable")
            places = np.searchsorted(values[before], values[start:][added], side="right")
            self._order = np.insert(before, places, (added + start).astype(np.int32))
        return self._order

    def _sortable(self) -> np.ndarray:
        if self.kind != "str":
            return self.values
        if self._ranked is None:
            texts = self.texts
            ranks = np.empty(len(texts))
            ranks[sorted(range(len(texts)), key=texts.__getitem__)] = np.arange(len(texts))
            ranked = ranks[self.values.astype(np.int64)] if len(self._numbers) else np.zeros(0)
            # New texts change the ranks of others.
            if self._order is not None and len(self._order) != len(ranked):
                self._order = None
            self._ranked = ranked
        return self._ranked

    def matching(self, condition: Condition) -> np.ndarray:
        """Returns which rows satisfy a condition."""
        values = self.values
        if condition.text is not None:
            text = condition.text.lower()
            is_wanted = np.array([text in known.lower() for known in self.texts], bool)
            found = is_wanted[values.astype(np.int64)] if values.size else np.zeros(0, bool)
        else:
            low = values >= condition.low if condition.low_included else values > condition.low
            high = values <= condition.high if condition.high_included else values < condition.high
            found = low & high
        return ~found & ~np.isnan(values) if condition.negated else found


class EpisodeIndex:
    """The episode table of one run. Callers hold its lock (`EpisodeIndexes.of`)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = threading.Lock()
        self._reset()

    def _reset(self) -> None:
        self._ids = array("q")
        self._columns: dict[str, TableColumn] = {}

    @property
    def size_bytes(self) -> int:
        """Size of its arrays."""
        return 8 * len(self._ids) + sum(column.size_bytes for column in self._columns.values())

    def update(self, reader: JournalReader, wanted: Sequence[str]) -> None:
        """Reads the rows that were added since the last call, and columns that were not read."""
        # One state of the journal, so that all columns have the same rows.
        with reader.snapshot():
            if self._ids and not reader.is_history("episodes", self._ids[-1]):
                self._reset()  # a resumed run replaced rows
            self._read(reader, self._columns, self._ids[-1] if self._ids else 0, self._ids)
            kinds = reader.episode_columns
            missing = {name: TableColumn(kinds[name]) for name in wanted if name not in self._columns}
            if missing:
                self._read(reader, missing, 0, array("q"))
                self._columns |= missing

    def _read(
        self, reader: JournalReader, columns: dict[str, TableColumn], after_id: int, ids: array[int]
    ) -> None:
        names = list(columns)
        for part in _chunks(reader.episode_values(names, after_id)):
            found, *values = zip(*part, strict=True)
            ids.extend(found)
            for name, of_column in zip(names, values, strict=True):
                columns[name].extend(of_column)

    def select(
        self, sort: str | None, descending: bool, conditions: Sequence[Condition], start: int, count: int
    ) -> tuple[list[int], int, int]:
        """Returns ids of a page of rows, the number of rows that match, and the number of all
        rows.
        """
        ids = np.frombuffer(self._ids, np.int64)
        total = len(ids)
        matching: np.ndarray | None = None
        for condition in conditions:
            found = self._columns[condition.column].matching(condition)
            matching = found if matching is None else matching & found
        if sort is None:
            indices = np.arange(total) if matching is None else np.flatnonzero(matching)
        else:
            order = self._columns[sort].order()
            indices = order if matching is None else order[matching[order]]
        if descending:
            indices = self._descending(indices, sort)
        return ids[indices[start : start + count]].tolist(), len(indices), total

    def _descending(self, indices: np.ndarray, sort: str | None) -> np.ndarray:
        """Returns indices in reverse; rows without a value stay last."""
        if sort is None or self._columns[sort].kind == "str":
            return indices[::-1]
        column = self._columns[sort]
        missing = int(np.isnan(column.values[indices]).sum()) if column.has_missing else 0
        if not missing:
            return indices[::-1]
        return np.concatenate([indices[: len(indices) - missing][::-1], indices[len(indices) - missing :]])


def _chunks(rows: Iterator[tuple[Any, ...]], size: int = 20_000) -> Iterator[list[tuple[Any, ...]]]:
    part: list[tuple[Any, ...]] = []
    for row in rows:
        part.append(row)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part


class EpisodeIndexes(RecentRuns[EpisodeIndex]):
    """Episode tables of the runs that were looked at last, up to a total size."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        super().__init__(EpisodeIndex, max_bytes)


def page(dashboard: Dashboard, folder: Path, query: Query) -> dict[str, Any]:
    """Returns a page of the episode table: `/api/runs/RUN/episodes`.

    Parameters: `sort` (a column; by default the order of recording), `descending=1`, `where` (may
    repeat: `COLUMN:CONDITION` such as `Reward:>=-5`, `Rank:7..9`, `Solved:yes`, `Name:text`),
    `start` (number of rows before the page) and `count`.
    """
    start = query.integer("start", 0, 0, 2**53)
    count = query.integer("count", 50, 1, MAX_PAGE)
    descending = query.choice("descending", ("0", "1")) == "1"
    with dashboard.tables.of(folder) as table, JournalReader(folder) as reader:
        kinds = reader.episode_columns
        sort = query.text("sort") or None
        require(sort is None or sort in kinds, f"sort {sort!r}: must be one of {', '.join(kinds)}")
        conditions = [parsed_condition(text, kinds) for text in query.every("where")]
        wanted = dict.fromkeys(condition.column for condition in conditions)
        if sort is not None:
            wanted[sort] = None
        table.update(reader, list(wanted))
        ids, matching, total = table.select(sort, descending, conditions, start, count)
        rows = reader.episode_rows(ids)
        return {
            "columns": dict(kinds),
            "rows": [list(row.values) for row in rows],
            "steps": [row.step for row in rows],
            "times": [row.time for row in rows],
            "start": start,
            "matching": matching,
            "total": total,
        }


def parsed_condition(text: str, kinds: Mapping[str, Kind]) -> Condition:
    """Returns a condition as a request writes it.

    Raises:
      ConfigError: if there is no such column, or the condition cannot be understood.
    """
    # Names of columns may hold colons.
    column = max((name for name in kinds if text.startswith(f"{name}:")), key=len, default=None)
    if column is None:
        known = ", ".join(kinds)
        raise ConfigError(f"where {text[:100]!r}: must be COLUMN:CONDITION with one of the columns {known}")
    wanted = text[len(column) + 1 :].strip()
    kind = kinds[column]
    if kind == "str":
        negated = wanted.startswith("!=")
        return Condition(
            column, 0, 0, True, True, negated, wanted.removeprefix("!=").removeprefix("=").strip()
        )
    sign = next((sign for sign in OPERATORS if wanted.startswith(sign)), "")
    value = wanted[len(sign) :].strip()
    between = re.fullmatch(r"(\S+?)\s*\.\.\s*(\S+)", value)
    low = _number(between[1] if between else value, column, kind, text)
    high = _number(between[2], column, kind, text) if between else low
    if between and sign:
        raise ConfigError(f"where {text!r}: write LOW..HIGH without {sign}")
    bounds = {
        ">=": (low, math.inf, True, True),
        ">": (low, math.inf, False, True),
        "<=": (-math.inf, low, True, True),
        "<": (-math.inf, low, True, False),
    }
    return Condition(column, *bounds.get(sign, (low, high, True, True)), sign == "!=", None)


def _number(text: str, column: str, kind: Kind, given: str) -> float:
    if kind == "bool" and text.lower() in TRUTHS:
        return TRUTHS[text.lower()]
    try:
        value = float(text.replace(",", ""))
    except ValueError:
        value = math.nan
    if math.isnan(value):
        allowed = "yes or no" if kind == "bool" else "a number, >=NUMBER, <NUMBER, !=NUMBER or LOW..HIGH"
        raise ConfigError(f"where {given[:100]!r}: {column} takes {allowed}")
    return value
