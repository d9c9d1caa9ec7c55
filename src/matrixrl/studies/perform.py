"""Performs one trial on this machine: in the study's folder, or in a folder of its own whose
content is sent to the study while it grows.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from matrixrl.studies.record import LOGS_FOLDER, RUNS_FOLDER
from matrixrl.studies.store import (
    FENCE_FILE,
    AttemptReplacedError,
    RunFolderStore,
    RunSender,
    fetch_run,
    is_url,
)

ID_FILE = "study.id"
"""File of a study's folder by which a node recognises that it sees the folder."""

BEAT_SECONDS = 1.0
"""Interval at which a trial asks whether it should stop."""

CLOSE_SECONDS = 5.0

SEND_SECONDS = 30.0
"""Maximum time in which the journal of a run that ended becomes readable."""

WORKER = ("-P", "-m", "matrixrl.cli.study_worker")

Report = Callable[[dict[str, Any]], str | None]
"""Takes a message about a trial; returns why the trial should stop, or None."""


class WorkerDiedError(RuntimeError):
    """The worker process ended on its own. The message is the end of its log."""


class WorkerProcess:
    """A process that trains one run after the other: what one imported, the next finds imported.

    It ends at once when this process ends, however that happens: its standard input is closed then.

    Args:
      log: file for its output.
      environment: variables that differ from those of this process.
    """

    def __init__(self, log: Path, environment: Mapping[str, str] | None = None) -> None:
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        variables = {**os.environ, **(environment or {})}
        root = str(Path(__file__).resolve().parents[2])
        paths = [path for path in variables.get("PYTHONPATH", "").split(os.pathsep) if path and path != root]
        variables["PYTHONPATH"] = os.pathsep.join([root, *paths])
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, *WORKER],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env=variables,
                start_new_session=True,
            )
        self._messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=self._read, name="worker messages", daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(ValueError, OSError):  # it died within a message
            for line in self._process.stdout:
                self._messages.put(json.loads(line))
        self._messages.put(None)

    @property
    def is_alive(self) -> bool:
        """True if the process runs."""
        return self._process.poll() is None

    def send(self, message: Mapping[str, Any]) -> None:
        """Sends a message; one to a dead process is dropped."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()

    def receive(self, timeout: float) -> dict[str, Any] | None:
        """Returns the next message; None if there is none within the time.

        Raises:
          WorkerDiedError: if the process ended.
        """
        try:
            message = self._messages.get(timeout=timeout)
        except queue.Empty:
            return None
        if message is None:
            status = self._process.wait()
            how = f"by signal {-status}" if status < 0 else f"with status {status}"
            raise WorkerDiedError(f"its process ended {how}{_last_line(self.log)}")
        return message

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


def _last_line(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return f" (last line of {log}: {lines[-1][:200]})" if lines else ""


def sees_study(request: Mapping[str, Any]) -> bool:
    """Returns whether this machine sees the study's folder."""
    if is_url(request["study"]) or request.get("scratch"):
        return False
    try:
        return (Path(request["study"]) / ID_FILE).read_text(encoding="utf-8") == request["study_id"]
    except OSError:
        return False


def scratch_folder(request: Mapping[str, Any], node: str) -> Path:
    """Returns the folder of this node for run folders of a study that it does not see."""
    given = request.get("scratch")
    user = os.getuid() if hasattr(os, "getuid") else "user"
    root = Path(given) if given else Path(tempfile.gettempdir()) / f"matrixrl-{user}"
    return root / f"{request['study_id']}-{node}"


def log_file(request: Mapping[str, Any], node: str, name: str) -> Path:
    """Returns the log file of a worker process."""
    folder = Path(request["study"]) if sees_study(request) else scratch_folder(request, node)
    return folder / LOGS_FOLDER / f"{name}.log"


def perform(
    request: Mapping[str, Any], worker: WorkerProcess, report: Report, store: RunFolderStore | None, node: str
) -> dict[str, Any]:
    """Trains the run of a request, or resumes it, and returns how it ended.

    Args:
      request: what `launcher.request_of` makes.
      worker: trains it.
      report: takes messages about the trial.
      store: holds the run folders where this machine does not see the study's folder.
      node: name of this machine, different from that of any other.

    Returns:
      JSON values with `status`: `finished`, `failed`, `stopped`, or `died` if the worker process
      ended on its own.
    """
    began = time.monotonic()
    if sees_study(request):
        end = _train(request, Path(request["study"]) / RUNS_FOLDER, worker, report, None)
    else:
        assert store is not None
        end = _train_in_scratch(request, scratch_folder(request, node), worker, report, store)
    return {"host": socket.gethostname(), **end, "seconds": time.monotonic() - began}


def _train_in_scratch(
    request: Mapping[str, Any], folder: Path, worker: WorkerProcess, report: Report, store: RunFolderStore
) -> dict[str, Any]:
    """Trains in a folder of this machine, and forgets it when the store has everything."""
    run, runs = str(request["run_name"]), folder / RUNS_FOLDER
    fetch_run(store, run, runs)
    attempt = store.begin(run)
    runs.mkdir(parents=True, exist_ok=True)
    mark = runs / f"{run}{FENCE_FILE}"
    mark.write_text(str(attempt), encoding="utf-8")
    sender = RunSender(store, runs / run, attempt, folder / "mirror")
    try:
        end = _train(request, runs, worker, report, sender)
        if not _send_all(sender):
            return {"status": "died", "error": f"{runs / run}: not all of it reached the study; kept there"}
    except AttemptReplacedError as error:
        worker.close(0.0)
        end = {"status": "died", "error": str(error)}
    for path in (runs / run, folder / "mirror" / run):
        shutil.rmtree(path, ignore_errors=True)
    mark.unlink(missing_ok=True)
    return end


def _send_all(sender: RunSender) -> bool:
    """Sends the rest of a run that ended. Returns whether the store has confirmed all of it."""
    deadline = time.monotonic() + SEND_SECONDS
    while sender.has_run:
        if sender.send():
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def _train(
    request: Mapping[str, Any], runs: Path, worker: WorkerProcess, report: Report, sender: RunSender | None
) -> dict[str, Any]:
    worker.send({"op": "run", "request": {**request, "runs_dir": str(runs)}})
    stopping, next_beat = False, 0.0
    next_send = time.monotonic() + float(request.get("push_seconds", 5.0))
    while True:
        try:
            message = worker.receive(BEAT_SECONDS)
        except WorkerDiedError as error:
            return {"status": "died", "error": str(error)}
        if message is not None and message["op"] == "end":
            return message["end"]
        now = time.monotonic()
        if message is not None or now >= next_beat:
            next_beat = now + BEAT_SECONDS
            reason = report(message or {"op": "beat"})
            if reason is not None and not stopping:
                stopping = True
                worker.send({"op": "stop", "reason": reason})
        if sender is not None and now >= next_send:
            sender.send()
            # Copying takes at most a tenth of the time, however large the run becomes.
            spent = time.monotonic() - now
            next_send = time.monotonic() + max(float(request.get("push_seconds", 5.0)), 9 * spent)
