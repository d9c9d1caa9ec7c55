"""Coordinators of several threads, which stand for the processes of a distributed training."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

Value = TypeVar("Value", int, bytes)

TIMEOUT = 60
"""Maximum time in seconds that a collective waits for the other threads."""


class ThreadCoordinator:
    """Coordinator of one of several threads. Every collective is an exchange of all values.

    Args:
      index: number of the thread; 0 leads.
      barrier: of all threads.
      values: shared; the value of each thread in the current exchange.
    """

    def __init__(self, index: int, barrier: threading.Barrier, values: list[Any]) -> None:
        self.num_processes = barrier.parties
        self.is_leader = index == 0
        self.calls: list[str] = []
        self._index, self._barrier, self._values = index, barrier, values

    def _exchange(self, value: Any, name: str) -> list[Any]:
        self.calls.append(name)
        self._values[self._index] = (name, value)
        self._barrier.wait(TIMEOUT)
        exchanged = list(self._values)
        self._barrier.wait(TIMEOUT)
        assert {called for called, _ in exchanged} == {name}, "the threads call different collectives"
        return [value for _, value in exchanged]

    def broadcast(self, value: Value) -> Value:
        return self._exchange(value, f"broadcast {type(value).__name__}")[0]

    def agree(self, stop: bool, checkpoint_due: bool) -> tuple[bool, bool]:
        decisions = self._exchange((stop, checkpoint_due), "agree")
        return any(stop for stop, _ in decisions), decisions[0][1]

    def gather(self, array: Any) -> Any:
        self._exchange(None, "gather")
        return array

    def watch_peers(self, on_failure: Callable[[int], None]) -> None:
        pass

    def is_peer_failure(self, error: Exception) -> bool:
        return False

    def announce_exit(self) -> None:
        pass


def run_together(work: Callable[[ThreadCoordinator], Any], count: int = 2) -> list[Any]:
    """Calls `work` in `count` threads, each with its coordinator; returns what each returned or raised."""
    barrier, values = threading.Barrier(count), [None] * count
    with ThreadPoolExecutor(count) as threads:
        jobs = [threads.submit(work, ThreadCoordinator(index, barrier, values)) for index in range(count)]
        return [job.exception(2 * TIMEOUT) or job.result() for job in jobs]
