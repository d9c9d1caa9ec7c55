"""Stream of changes: which journals and records of studies grew, and which runs appeared or went,
by Server-Sent Events.

Files are polled by their times; nothing is read from them. Without a listener nothing is polled.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from matrixrl.dashboard.store import Mark, RunStore, is_held, journal_mark
from matrixrl.dashboard.studies import is_run_by_command, record_mark

POLL_SECONDS = 0.5
"""Interval in seconds between looks at the journals that grew of late."""

QUIET_SECONDS = 60.0
"""Time in seconds after which a journal that does not grow is polled less often."""

PART = 250
"""Number of quiet journals that are polled at a time."""

HEARTBEAT_SECONDS = 15.0
"""Interval in seconds between signs of life on a stream without changes."""


class ChangeDetector:
    """Finds the runs whose journals changed since the last call. One thread at a time may call it.

    Args:
      store: the runs.
    """

    def __init__(self, store: RunStore) -> None:
        self._store = store
        # Whether a process writes the run, and the marks of its journal.
        self._marks: dict[str, Mark] = {}
        self._changed_at: dict[str, float] = {}
        self._study_marks: dict[str, Mark] = {}
        self._next = 0
        self._lock = threading.Lock()

    def changed(self) -> list[str]:
        """Returns the keys of runs that changed, ended, appeared or went since the last call, and
        `study:KEY` for studies.
        """
        with self._lock:
            listing = self._store.listing()
            folders = listing.runs
            now = time.monotonic()
            found = [name for name in self._marks if name not in folders]
            for name in found:
                del self._marks[name]
                self._changed_at.pop(name, None)
            names = list(folders)
            quiet = names[self._next : self._next + PART]
            self._next = self._next + PART if self._next + PART < len(names) else 0
            recent = {name for name, at in self._changed_at.items() if now - at < QUIET_SECONDS}
            recent |= {name for name, mark in self._marks.items() if mark[0] == 1}
            for name in {*quiet, *recent, *(folders.keys() - self._marks.keys())} & folders.keys():
                before = self._marks.get(name, ())
                files = journal_mark(folders[name])
                # A run at rest is not asked for its lock, which a process may just be taking.
                may_be_held = before[1:] != files or before[0] == 1
                mark = (int(may_be_held and is_held(folders[name])), *files)
                if before != mark:
                    self._marks[name] = mark
                    self._changed_at[name] = now
                    found.append(name)
            return sorted([*found, *self._changed_studies(listing.studies)])

    def _changed_studies(self, folders: Mapping[str, Path]) -> list[str]:
        marks = {
            key: (int(is_run_by_command(folder)), *record_mark(folder)) for key, folder in folders.items()
        }
        before, self._study_marks = self._study_marks, marks
        changed = {key for key, mark in marks.items() if before.get(key) != mark}
        return [f"study:{key}" for key in changed | (before.keys() - marks.keys())]


class Broadcaster:
    """Sends changes to every open page.

    Args:
      detector: finds them.
    """

    def __init__(self, detector: ChangeDetector) -> None:
        self._detector = detector
        self._listeners: set[asyncio.Queue[list[str] | None]] = set()
        self._task: asyncio.Task[None] | None = None
        self.is_closed = False

    async def close(self) -> None:
        """Ends all streams, so that the server can stop."""
        self.is_closed = True
        for queue in list(self._listeners):
            queue.put_nowait(None)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def events(self) -> AsyncIterator[str]:
        """Yields the text of one stream until its page is closed or the server stops."""
        queue: asyncio.Queue[list[str] | None] = asyncio.Queue()
        self._listeners.add(queue)
        if self._task is None or self._task.done():
            # What changed while nobody listened is news to nobody: a page reads all at its start.
            await asyncio.to_thread(self._detector.changed)
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._poll())
        try:
            yield "retry: 2000\nevent: hello\ndata: {}\n\n"
            while not self.is_closed:
                try:
                    names = await asyncio.wait_for(queue.get(), HEARTBEAT_SECONDS)
                except TimeoutError:
                    yield ": alive\n\n"
                    continue
                if names is None:
                    return
                # A slow page gets all that waits as one event.
                together = set(names)
                while not queue.empty():
                    together.update(queue.get_nowait() or ())
                yield f"event: changed\ndata: {json.dumps({'runs': sorted(together)})}\n\n"
        finally:
            self._listeners.discard(queue)

    async def _poll(self) -> None:
        from matrixrl.config import ConfigError

        while self._listeners:
            await asyncio.sleep(POLL_SECONDS)
            try:
                names = await asyncio.to_thread(self._detector.changed)
            except ConfigError:  # the folder cannot be read at the moment; a request says why
                continue
            if names:
                for queue in list(self._listeners):
                    queue.put_nowait(names)
