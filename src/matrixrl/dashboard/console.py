"""The console of a run: the lines of `console.log` from the end, and messages to the user."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matrixrl.dashboard.query import Query
from matrixrl.tracking.journal_reader import JournalReader
from matrixrl.tracking.transcript import TABLES, Line, read_backwards

if TYPE_CHECKING:
    from matrixrl.dashboard.endpoints import Dashboard

MAX_LINES = 5_000
MAX_SEARCHED = 200_000
"""Number of lines from the end in which a text is searched."""

MAX_MESSAGES = 500


def console(_: Dashboard, folder: Path, query: Query) -> dict[str, Any]:
    """Returns the last lines of the console: `/api/runs/RUN/console`.

    Parameters: `lines` (their number), `kind` (`epoch`, `episode`, `move`), `q` (a text in them).
    """
    count = query.integer("lines", 300, 1, MAX_LINES)
    kind = query.choice("kind", ("", *TABLES))
    text = query.text("q").lower()

    def is_wanted(line: Line) -> bool:
        return (not kind or line.kind == kind) and text in line.text.lower()

    searched = islice(read_backwards(folder), MAX_SEARCHED)
    found = list(islice((line for line in searched if is_wanted(line)), count + 1))
    with JournalReader(folder) as reader:
        notes = [note._asdict() for note in reader.notes()]
    return {
        "lines": [line._asdict() for line in reversed(found[:count])],
        "has_more": len(found) > count,
        "messages": notes[-MAX_MESSAGES:],
    }
