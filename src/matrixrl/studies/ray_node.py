"""What runs on the nodes of a Ray cluster: the hub on the machine of the command, and a task for
each trial.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matrixrl
from matrixrl.studies.perform import WorkerProcess, log_file, perform
from matrixrl.studies.store import AttemptReplacedError, FolderStore, RunFolderStore, UrlStore, is_url

_worker: tuple[WorkerProcess, dict[str, str]] | None = None
"""Worker process of this Ray worker, kept for the next task, and its environment."""

NOT_FOR_WORKERS = ("OMP_NUM_THREADS",)
"""Variables that Ray sets for a task. A run would compute with other threads than alone."""


class Hub:
    """Takes reports of trials, answers whether they should stop, and holds run folders. Its methods
    are called from several threads.

    Args:
      runs: location of the study's run folders.
    """

    def __init__(self, runs: str) -> None:
        self._lock = threading.Lock()
        self._messages: list[tuple[int, dict[str, Any]]] = []
        self._reasons: dict[int, str] = {}
        self._store = None if is_url(runs) else FolderStore(Path(runs))

    def report(self, trial: int, message: dict[str, Any]) -> str | None:
        """Takes a message of a trial; returns why the trial should stop, or None."""
        with self._lock:
            if message["op"] != "beat":
                self._messages.append((trial, message))
            return self._reasons.get(trial)

    def take(self) -> list[tuple[int, dict[str, Any]]]:
        """Returns the messages since the last call."""
        with self._lock:
            found, self._messages = self._messages, []
            return found

    def stop(self, trial: int, reason: str) -> None:
        """Notes that a trial should stop."""
        with self._lock:
            self._reasons[trial] = reason

    def forget(self, trial: int) -> None:
        """Forgets that a trial should have stopped: it starts again."""
        with self._lock:
            self._reasons.pop(trial, None)

    def files_of(self, call: str, *arguments: Any) -> Any:
        """Calls a method of the store; returns its result, or False if another attempt replaced the
        one of the caller.
        """
        assert self._store is not None
        try:
            return getattr(self._store, call)(*arguments)
        except AttemptReplacedError:
            return False


class HubStore:
    """The hub's run folders, seen from a node."""

    def __init__(self, hub: Any) -> None:
        self._hub = hub

    def _call(self, call: str, *arguments: Any) -> Any:
        import ray

        result = ray.get(self._hub.files_of.remote(call, *arguments))
        if result is False:
            raise AttemptReplacedError("another attempt at this run has begun on another node")
        return result

    def begin(self, run: str) -> int:
        """Returns the number of a new attempt."""
        return self._call("begin", run)

    def current(self, run: str) -> int:
        """Returns the number of the current attempt."""
        return self._call("current", run)

    def files(self, run: str) -> list[str]:
        """Returns the paths of a run's files."""
        return self._call("files", run)

    def size(self, run: str, path: str) -> int:
        """Returns the size of a file."""
        return self._call("size", run, path)

    def read(self, run: str, path: str, offset: int) -> bytes:
        """Returns a part of a file."""
        return self._call("read", run, path, offset)

    def write(self, run: str, attempt: int, path: str, draft: str, content: bytes, last: bool) -> None:
        """Appends a part to a draft of a file; returns when it is on the hub's disk."""
        self._call("write", run, attempt, path, draft, content, last)

    def delete(self, run: str, attempt: int, paths: Sequence[str]) -> None:
        """Deletes files."""
        self._call("delete", run, attempt, list(paths))


def run_on_node(request: dict[str, Any], hub: Any, runs: str) -> dict[str, Any]:
    """Trains the run of a request on this node, and returns how it ended. The body of a Ray task.

    Args:
      request: what `launcher.request_of` makes.
      hub: the actor.
      runs: location of the study's run folders.
    """
    import ray

    node = ray.get_runtime_context().get_node_id()[:12]
    if request["matrixrl"] != matrixrl.__version__:
        error = f"node {socket.gethostname()} has matrixrl {matrixrl.__version__}, the command {request['matrixrl']}; install one version"
        return {"status": "failed", "error": error}
    trial = request["trial"]

    def report(message: dict[str, Any]) -> str | None:
        return ray.get(hub.report.remote(trial, message))

    report({"op": "start", "host": socket.gethostname(), "node": node})
    store: RunFolderStore = UrlStore(runs) if is_url(runs) else HubStore(hub)
    return perform(request, _ready_worker(request, node), report, store, node)


def _ready_worker(request: Mapping[str, Any], node: str) -> WorkerProcess:
    """Returns the worker process of this Ray worker: the last one if it lives and has the same
    devices.
    """
    global _worker
    environment = {name: value for name in ("CUDA_VISIBLE_DEVICES",) if (value := os.environ.get(name))}
    if _worker is not None and (_worker[1] != environment or not _worker[0].is_alive):
        _worker[0].close()
        _worker = None
    if _worker is None:
        for name in NOT_FOR_WORKERS:
            os.environ.pop(name, None)
        _worker = WorkerProcess(log_file(request, node, f"{node}-{os.getpid()}"), environment), environment
    return _worker[0]
