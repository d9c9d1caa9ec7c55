"""First calls of compiled programs: reported while they run, and compiled ahead if the program is
known before.

A program that a run needs later is traced and compiled in another thread while the device runs the
first one. JAX finds the result when the program is called with values of those shapes; otherwise
the call compiles as usual.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import NoReturn

from matrixrl.tracking.status import activity

_running: set[Future[object]] = set()


class FirstCalls:
    """Tracks the programs that were called, and compiles others ahead."""

    def __init__(self) -> None:
        self._called: set[str] = set()
        self._ahead: dict[str, Future[object]] = {}

    def compile_ahead(self, programs: Mapping[str, Callable[[], object]]) -> None:
        """Compiles programs one after another in its own thread, in the order of the mapping.

        Args:
            programs: by name, what traces and compiles each.
        """
        executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="compile")
        for name, compile_program in programs.items():
            if name not in self._called and name not in self._ahead:
                job: Future[object] = executor.submit(compile_program)
                self._ahead[name] = job
                _running.add(job)
                job.add_done_callback(_running.discard)
        executor.shutdown(wait=False)

    def is_first(self, name: str) -> bool:
        """Returns true if the program has not been called yet."""
        return name not in self._called

    @contextmanager
    def call(self, name: str) -> Iterator[None]:
        """Wraps each call of a program: waits for its compilation, and reports that it is being
        compiled.
        """
        if name in self._called:
            yield
            return
        with activity(f"compiling {name}"):
            job = self._ahead.pop(name, None)
            if job is not None and not job.cancel():
                # If it failed, the call fails too and raises the error there.
                wait([job])
            yield
        self._called.add(name)


def several_cores() -> bool:
    """Returns whether two programs can be compiled in parallel; with one core the first one needed
    has priority.
    """
    available = getattr(os, "process_cpu_count", os.cpu_count)() or 1
    if hasattr(os, "sched_getaffinity"):
        available = min(available, len(os.sched_getaffinity(0)))
    return available > 1


def cancel_all() -> None:
    """Drops the programs whose compilation has not begun."""
    for job in list(_running):
        job.cancel()


def leave(status: int) -> NoReturn:
    """Ends the process without waiting for compilations that are no longer needed.

    The interpreter would wait for them for up to a minute after the last line of output.
    """
    if any(not job.done() for job in _running):
        for stream in filter(None, (sys.stdout, sys.stderr)):
            try:
                stream.flush()
            except (OSError, ValueError):
                continue
        os._exit(status)
    sys.exit(status)
