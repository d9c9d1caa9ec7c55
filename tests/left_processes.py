"""Ends the processes that a failed test left behind.

Otherwise they would take time from the tests that follow, and one of these would fail for the
warning that Python gives when it collects a process that is still running.
"""

from __future__ import annotations

import gc
import subprocess
import sys
from typing import Any

import psutil

CLOCK = 1.5
"""Seconds by which the start of a process can be too early in the system's table."""


def end_processes(since: float) -> None:
    """Ends all processes of Python that this one has started since a time, and their children."""
    for process in [each for each in gc.get_objects() if isinstance(each, subprocess.Popen)]:
        if _is_python(process) and process.poll() is None:
            try:
                found = psutil.Process(process.pid)
                if found.create_time() < since - CLOCK:
                    continue  # of a fixture that other tests use
                family = [*found.children(recursive=True), found]
            except psutil.NoSuchProcess:
                continue
            _kill(family)
            process.communicate(timeout=60)  # closes its pipes


def _is_python(process: subprocess.Popen[Any]) -> bool:
    command = getattr(process, "args", None)
    return isinstance(command, (list, tuple)) and command[:1] in ([sys.executable], (sys.executable,))


def _kill(family: list[psutil.Process]) -> None:
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
