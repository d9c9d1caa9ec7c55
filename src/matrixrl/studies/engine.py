"""Engines: what trains the trials of a study. One has worker processes on this machine, another one
a Ray cluster.
"""

from __future__ import annotations

import contextlib
import glob
import itertools
import os
import queue
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

from matrixrl.errors import first_line
from matrixrl.studies.perform import WorkerProcess, log_file, perform
from matrixrl.studies.store import RunFolderStore

NODE = "local"
"""Name of this machine in folders for run folders that travel."""


class EngineEvent(NamedTuple):
    """A message about a trial, by its number; `end` is the last one."""

    trial: int
    message: dict[str, Any]


class Engine(Protocol):
    """Interface of an engine."""

    def free(self) -> int:
        """Returns the number of trials that can be submitted now."""
        ...

    def submit(self, request: dict[str, Any]) -> None:
        """Starts a trial, or queues it."""
        ...

    def stop(self, trial: int, reason: str) -> None:
        """Asks a trial to finish its chunk, save and end."""
        ...

    def events(self, timeout: float) -> list[EngineEvent]:
        """Returns the messages since the last call; waits for the first one."""
        ...

    def parallel(self) -> int:
        """Returns the number of trials that run at once."""
        ...

    def shortage(self) -> str:
        """Returns why no trial can be submitted although none runs, in words."""
        ...

    def close(self) -> None:
        """Ends all workers."""
        ...


def default_jobs() -> int:
    """Returns the number of trials that this machine trains at once: its GPUs, otherwise its
    cores.
    """
    return len(local_gpus()) or cores()


def cores() -> int:
    """Returns the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def local_gpus() -> list[str]:
    """Returns the numbers of the GPUs here, without asking any library."""
    if os.environ.get("JAX_PLATFORMS", "").lower() == "cpu":
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name not in ("", "-1")]
    return [str(number) for number in range(len(glob.glob("/dev/nvidia[0-9]*")))]


class LocalEngine:
    """Trains on this machine: a thread and a worker process for each trial that runs at once.

    Args:
      jobs: number of trials at once.
      store: holds the run folders of a study that is no local folder.
    """

    def __init__(self, jobs: int, store: RunFolderStore | None = None) -> None:
        self._jobs = jobs
        self._store = store
        self._running = 0
        self._events: queue.Queue[EngineEvent] = queue.Queue()
        self._reasons: dict[int, str] = {}
        self._pool = ThreadPoolExecutor(jobs, "trial")
        self._trials: list[Future[None]] = []
        self._workers: dict[int, WorkerProcess] = {}  # by number of the thread
        self._lock = threading.Lock()
        self._closed = False
        self._own = threading.local()
        self._numbers = itertools.count()
        self._gpus = local_gpus()

    def free(self) -> int:
        """Returns the number of idle workers."""
        return self._jobs - self._running

    def parallel(self) -> int:
        """Returns the number of trials at once."""
        return self._jobs

    def submit(self, request: dict[str, Any]) -> None:
        """Starts a trial."""
        self._running += 1
        self._reasons.pop(request["trial"], None)
        self._trials.append(self._pool.submit(self._work, request))

    def stop(self, trial: int, reason: str) -> None:
        """Asks a trial to stop."""
        self._reasons[trial] = reason

    def shortage(self) -> str:
        """Returns why there is no idle worker."""
        return "all workers are busy"

    def events(self, timeout: float) -> list[EngineEvent]:
        """Returns the messages since the last call; raises the error that ended a thread."""
        found: list[EngineEvent] = []
        with contextlib.suppress(queue.Empty):
            found.append(self._events.get(timeout=timeout))
            while True:
                found.append(self._events.get_nowait())
        self._running -= sum(event.message["op"] == "end" for event in found)
        for trial in [trial for trial in self._trials if trial.done()]:
            self._trials.remove(trial)
            trial.result()
        return found

    def close(self) -> None:
        """Ends the worker processes at once, also those that train."""
        with self._lock:
            self._closed = True
            workers = list(self._workers.values())
        for worker in workers:
            worker.close()
        self._pool.shutdown(cancel_futures=True)

    def _work(self, request: dict[str, Any]) -> None:
        """Trains a run, in a thread of the pool."""
        trial = int(request["trial"])

        def report(message: dict[str, Any]) -> str | None:
            if message["op"] != "beat":
                self._events.put(EngineEvent(trial, message))
            return self._reasons.get(trial)

        try:
            end = perform(request, self._ready_worker(request), report, self._store, NODE)
        except OSError as error:  # a full disk, a store that cannot be reached
            end = {"status": "died", "error": error.strerror or first_line(error)}
        self._events.put(EngineEvent(trial, {"op": "end", "end": end}))

    def _ready_worker(self, request: Mapping[str, Any]) -> WorkerProcess:
        """Returns the worker process of this thread, a new one if it died."""
        if not hasattr(self._own, "number"):
            self._own.number = next(self._numbers)
        number = self._own.number
        with self._lock:
            worker = self._workers.get(number)
            if worker is not None and (worker.is_alive or self._closed):
                return worker
            if worker is not None:
                worker.close()
            environment = {"CUDA_VISIBLE_DEVICES": self._gpus[number % len(self._gpus)]} if self._gpus else {}
            log = log_file(request, NODE, f"worker-{number}")
            self._workers[number] = WorkerProcess(log, environment)
            return self._workers[number]
