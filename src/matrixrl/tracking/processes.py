"""Processes that the package starts beside training: their environment, and how to end them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import matrixrl


def child_environment(more: Mapping[str, str], without: Iterable[str] = ()) -> dict[str, str]:
    """Returns the environment of a process of this package.

    Args:
        more: variables in addition to those of this process.
        without: variables that the process must not inherit.
    """
    root = str(Path(matrixrl.__file__).resolve().parents[1])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, **more, "PYTHONPATH": os.pathsep.join(paths)}
    # What libraries print goes to a file there, whatever the encoding of the user's terminal.
    environment["PYTHONIOENCODING"] = "utf-8:backslashreplace"
    for name in without:
        environment.pop(name, None)
    return environment


def kill_tree(pid: int) -> None:
    """Kills a process and its descendants."""
    import psutil

    try:
        parent = psutil.Process(pid)
        processes = [*parent.children(recursive=True), parent]
    except psutil.NoSuchProcess:
        return
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def end_children() -> None:
    """Kills the descendants of this process, such as the service of a library."""
    import psutil

    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            child.kill()
