"""The training process's side of delivery: starts a delivery process per sink, and knows what is
pending.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from matrixrl.tracking.delivery_state import DeliveryState
from matrixrl.tracking.identity import runs_dir_flag
from matrixrl.tracking.journal_reader import JournalReader
from matrixrl.tracking.processes import child_environment, kill_tree
from matrixrl.tracking.sinks.registry import Found, search_path

FIRST_RETRY_SECONDS = 1.0


@dataclass(frozen=True)
class DeliveryOutcome:
    """How delivery ended.

    Attributes:
        pending_rows: rows that at least one sink has not confirmed.
        reason: what happened, for the run's last line.
        waiting_for: labels of the sinks that have not confirmed every row.
    """

    pending_rows: int
    reason: str
    waiting_for: str = ""

    @classmethod
    def joined(cls, outcomes: Sequence[DeliveryOutcome]) -> DeliveryOutcome:
        """Returns the outcome of several sinks: the reasons of those with pending rows, otherwise
        all.
        """
        waiting = [outcome for outcome in outcomes if outcome.pending_rows]
        return cls(
            max((outcome.pending_rows for outcome in outcomes), default=0),
            "; ".join(outcome.reason for outcome in waiting or outcomes),
            " and ".join(outcome.waiting_for for outcome in waiting),
        )


@dataclass(frozen=True, kw_only=True)
class DeliverySettings:
    """Settings of a delivery process.

    Attributes:
        sink: name of the sink.
        source: from where the sink is imported.
        search_path: folders in which its module is searched, after those of Python.
        training_pid: process that trains; None in `runs sync`.
        backlog_rows: number of waiting rows above which the live stream is thinned.
        keep_artifacts: number of checkpoints to keep at the destination; 0 keeps all.
        artifacts: whether to upload files.
        patient: whether to retry until the deadline while the destination is away.
    """

    sink: str
    source: str
    search_path: list[str] = field(default_factory=list)
    training_pid: int | None
    backlog_rows: int
    keep_artifacts: int
    artifacts: bool
    patient: bool


class DeliveryProcess:
    """Starts the delivery process of a sink, and restarts it if it dies.

    Args:
        notify: takes each message and its level, from another thread.
        environment: variables in addition to those of this process.
        on_stop: takes the origin of a request to stop the training, from another thread.
    """

    RESTARTS = 5

    def __init__(
        self,
        directory: Path,
        found: Found,
        settings: DeliverySettings,
        notify: Callable[[str, Any], None],
        environment: Mapping[str, str] | None = None,
        on_stop: Callable[[str], None] = lambda origin: None,
    ) -> None:
        self._directory = directory
        self._found = found
        self._label = found.sink.label or found.name
        self._settings = settings
        self._notify = notify
        self._environment = environment or {}
        self._on_stop = on_stop
        self._finish: tuple[str, float] | None = None
        self._restarts = 0
        if DeliveryState.load(directory, found.name) is None:
            # From now on the run is meant for this sink, even if the process is killed at once.
            with contextlib.suppress(OSError):  # a full disk; the process tries it again
                DeliveryState(mode="starting", source=found.source).save(directory, found.name)
        self._process = self._start()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def finish(self, status: str, deadline_seconds: float) -> DeliveryOutcome:
        """Delivers the remaining rows and ends the process, in at most `deadline_seconds`."""
        self.request_finish(status, deadline_seconds)
        return self.wait()

    def request_finish(self, status: str, deadline_seconds: float) -> None:
        """Asks the process to deliver the remaining rows and to end before a deadline."""
        self._finish = status, time.monotonic() + deadline_seconds
        self._send_finish()

    def wait(self) -> DeliveryOutcome:
        """Waits for the process after `request_finish`; kills it after its deadline."""
        assert self._finish is not None
        self._listener.join(max(self._finish[1] + 1.0 - time.monotonic(), 0.0))
        if self._listener.is_alive():
            kill_tree(self._process.pid)
            self._listener.join(2.0)
        self._close_pipes()
        return self.outcome()

    def _close_pipes(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    def _send_finish(self) -> None:
        if self._finish is not None:
            status, until = self._finish
            self._send({"finish": status, "seconds": until - time.monotonic()})

    def outcome(self) -> DeliveryOutcome:
        """Returns what the journal and the state file say now."""
        state = DeliveryState.load(self._directory, self._found.name) or DeliveryState()
        with JournalReader(self._directory) as reader:
            pending = reader.count_deliverable(state.confirmed_step)
        reason = state.reason or f"delivery ended before {self._label} had answered"
        if state.mode == "online":
            url = f": {state.place['url']}" if state.place.get("url") else ""
            renamed = f" (there the run is {state.name})" if state.name else ""
            reason = (
                f"{self._label} has every row{url}{renamed}"
                if not pending
                else f"{self._label} has not confirmed them"
            )
        return DeliveryOutcome(pending, reason, self._label)

    def _start(self) -> subprocess.Popen[str]:
        self._process = subprocess.Popen(
            # -P: a folder in the working directory must not shadow a package of the same name.
            [sys.executable, "-P", "-m", "matrixrl.tracking.delivery", str(self._directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=child_environment(self._environment, self._found.sink.unset_variables),
            text=True,
        )
        self._send(asdict(self._settings))
        return self._process

    def _send(self, message: Mapping[str, Any]) -> None:
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            # It died; the listener sees that.
            return

    def _listen(self) -> None:
        while True:
            assert self._process.stdout is not None
            for line in self._process.stdout:
                message = json.loads(line)
                if "stop" in message:
                    self._on_stop(message["stop"])
                else:
                    self._notify(message["notify"], message["level"])
            code = self._process.wait()
            if code == 0 or (self._finish is not None and time.monotonic() >= self._finish[1]):
                return
            self._restarts += 1
            if self._restarts > self.RESTARTS:
                self._notify(
                    f"{self._label} delivery died {self._restarts} times; rows are kept in the journal, "
                    f"`{sync_command(self._directory)}` delivers them later",
                    "warning",
                )
                return
            self._notify(f"{self._label} delivery died (status {code}) and is started again", "warning")
            self._close_pipes()
            time.sleep(FIRST_RETRY_SECONDS * self._restarts)
            self._process = self._start()
            self._send_finish()


def delivery_settings(found: Found, **settings: Any) -> DeliverySettings:
    """Returns the settings of the delivery process of a sink.

    Args:
        settings: the other fields of `DeliverySettings`.
    """
    return DeliverySettings(sink=found.name, source=found.source, search_path=search_path(), **settings)


def sync_command(directory: Path) -> str:
    """Returns the command that delivers a run later."""
    return shlex.join(["matrixrl", "runs", "sync", directory.name, *runs_dir_flag(directory.parent)])
