"""Audits of runs, each in a child process: they read complete journals, and take memory and time.

The child (`audit_worker.py`) makes the same comparison as `matrixrl runs audit --offline`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matrixrl.config import ConfigError, require
from matrixrl.dashboard.query import Query
from matrixrl.dashboard.store import Mark, journal_mark

if TYPE_CHECKING:
    from matrixrl.dashboard.endpoints import Dashboard

MAX_KEPT = 200


@dataclass
class AuditResult:
    """Result of an audit.

    Attributes:
      state: `none` (not asked for yet), `running`, `done` or `failed`.
      agrees: whether all records agree; None before the end.
      answer: what the command printed for scripts.
      error: why it failed.
      began, ended: in seconds since the epoch.
      is_current: the journal did not grow since.
    """

    state: str = "none"
    agrees: bool | None = None
    answer: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    began: float = 0.0
    ended: float = 0.0
    is_current: bool = True


class Audits:
    """Results of audits by run folder. One audit runs at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._results: dict[Path, tuple[Mark, AuditResult]] = {}
        self._process: subprocess.Popen[str] | None = None
        self._waiting: threading.Thread | None = None

    def result(self, folder: Path) -> AuditResult:
        """Returns the last result of a run."""
        with self._lock:
            mark, result = self._results.get(folder, ((), AuditResult()))
        result.is_current = result.state == "none" or mark == journal_mark(folder)
        return result

    def start(self, folder: Path) -> AuditResult:
        """Starts an audit unless one of this run is running.

        Raises:
          ConfigError: if one of another run is running.
        """
        with self._lock:
            known = self._results.get(folder)
            if known is not None and known[1].state == "running":
                return known[1]
            running = [path.name for path, (_, result) in self._results.items() if result.state == "running"]
            if running:
                raise ConfigError(f"an audit of {running[0]} is running; try again when it is done")
            result = AuditResult("running", began=time.time())
            while len(self._results) >= MAX_KEPT:
                self._results.pop(next(iter(self._results)))
            self._results[folder] = journal_mark(folder), result
            self._process = subprocess.Popen(
                [sys.executable, "-m", "matrixrl.dashboard.audit_worker", str(folder.absolute())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            self._waiting = threading.Thread(target=self._read, args=(self._process, result), daemon=True)
            self._waiting.start()
            return result

    def _read(self, process: subprocess.Popen[str], result: AuditResult) -> None:
        output, errors = process.communicate()
        result.ended = time.time()
        try:
            answer = json.loads(output.strip().splitlines()[-1])
            result.answer, result.agrees = answer, process.returncode == 0
            result.state = "done"
        except (IndexError, ValueError):
            lines = errors.strip().splitlines()
            result.error = lines[-1][:500] if lines else f"exit status {process.returncode}"
            result.state = "failed"

    def wait(self) -> None:
        """Waits for the end of the audit that is running."""
        if self._waiting is not None:
            self._waiting.join()

    def close(self) -> None:
        """Ends the audit that is running."""
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                self._process.terminate()


def audit(dashboard: Dashboard, folder: Path, query: Query) -> dict[str, Any]:
    """Returns the result of the last audit of a run, and starts one for `start=1`:
    `/api/runs/RUN/audit`.
    """
    wanted = query.choice("start", ("0", "1"))
    require(folder.is_dir(), f"{folder.name}: gone; is the run being deleted?")
    if wanted == "1":
        dashboard.audits.start(folder)
    return asdict(dashboard.audits.result(folder))
