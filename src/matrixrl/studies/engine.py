"""Engines: what trains the trials of a study. One has worker processes on this machine, another one
a Ray cluster.
"""

from __future__ import annotations

import contextlib
import glob
import os
import queue
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from matrixrl.studies.perform import WorkerProcess, log_file, perform
from matrixrl.studies.store import RunFolderStore


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
        self._events: queue.Queue[EngineEvent] = queue.Queue()
        self._requests: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._reasons: dict[int, str] = {}
        self._running = 0
        self._threads: list[threading.Thread] = []
        gpus = local_gpus()
        for number in range(jobs):
            environment = {"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else {}
            thread = threading.Thread(target=self._work, args=(number, environment), name=f"worker {number}")
            thread.daemon = True
            self._threads.append(thread)

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
        asleep = [thread for thread in self._threads if thread.ident is None]
        if asleep and self._running > len(self._threads) - len(asleep):
            asleep[0].start()
        self._requests.put(request)

    def stop(self, trial: int, reason: str) -> None:
        """Asks a trial to stop."""
        self._reasons[trial] = reason

    def events(self, timeout: float) -> list[EngineEvent]:
        """Returns the messages since the last call."""
        found: list[EngineEvent] = []
        with contextlib.suppress(queue.Empty):
            found.append(self._events.get(timeout=timeout))
            while True:
                found.append(self._events.get_nowait())
        self._running -= sum(event.message["op"] == "end" for event in found)
        return found

    def close(self) -> None:
        """Ends the worker processes."""
        for _ in self._threads:
            self._requests.put(None)
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _work(self, number: int, environment: Mapping[str, str]) -> None:
        worker: WorkerProcess | None = None
        node = "local"
        while (request := self._requests.get()) is not None:
            if worker is None or not worker.is_alive:
                if worker is not None:
                    worker.close()
                worker = WorkerProcess(log_file(request, node, f"worker-{number}"), environment)
            trial = int(request["trial"])

            def report(message: dict[str, Any], trial: int = trial) -> str | None:
                if message["op"] != "beat":
                    self._events.put(EngineEvent(trial, message))
                return self._reasons.get(trial)

            end = perform(request, worker, report, self._store, node)
            self._events.put(EngineEvent(trial, {"op": "end", "end": end}))
        if worker is not None:
            worker.close()
