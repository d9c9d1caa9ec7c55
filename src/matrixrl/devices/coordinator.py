"""Coordination of the processes that train one run.

All processes of a training run the same program in the same order. The leader, process 0, reads the
command line, holds the run folder, and broadcasts every decision that depends on a clock or a
signal. A training of one process uses `SINGLE`.

This module does not load JAX: the leader announces its run before that.
"""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from matrixrl.config import ConfigError

Value = TypeVar("Value", int, bytes)
Result = TypeVar("Result")

PROBE_PREFIX = ".seen-"
"""Prefix of the files that test whether all processes see a folder."""


class Coordinator(Protocol):
    """Interface between the processes of one training.

    `broadcast`, `agree` and `gather` are collectives: every process calls them in the same order.
    """

    @property
    def num_processes(self) -> int:
        """Number of processes in this training."""
        ...

    @property
    def is_leader(self) -> bool:
        """True for the process that holds the run folder."""
        ...

    def broadcast(self, value: Value) -> Value:
        """Returns the leader's value on every process; the values of the others are ignored."""
        ...

    def agree(self, stop: bool, checkpoint_due: bool) -> tuple[bool, bool]:
        """Returns whether any process was asked to stop, and whether the leader finds that a
        checkpoint is due.
        """
        ...

    def gather(self, array: Any) -> Any:
        """Returns an array completely on this host, also if other processes hold shards of it."""
        ...

    def watch_peers(self, on_failure: Callable[[int], None]) -> None:
        """Registers a callback, called from another thread with the number of the first process
        that fails.
        """
        ...

    def is_peer_failure(self, error: Exception) -> bool:
        """Returns true if an error means that a collective failed because a peer did."""
        ...

    def announce_exit(self) -> None:
        """Announces a clean exit so that peers do not treat it as a failure."""
        ...


class SingleCoordinator:
    """Coordinator of a training of one process: it leads, and nothing has to be exchanged."""

    num_processes = 1
    is_leader = True

    def broadcast(self, value: Value) -> Value:
        """Returns the value."""
        return value

    def agree(self, stop: bool, checkpoint_due: bool) -> tuple[bool, bool]:
        """Returns the decisions of this process."""
        return stop, checkpoint_due

    def gather(self, array: Any) -> Any:
        """Returns the array: this process holds all of it."""
        return array

    def watch_peers(self, on_failure: Callable[[int], None]) -> None:
        """Does nothing: there are no peers."""

    def is_peer_failure(self, error: Exception) -> bool:
        """Returns false: there are no peers."""
        return False

    def announce_exit(self) -> None:
        """Does nothing: there are no peers."""


SINGLE = SingleCoordinator()


def broadcast_result(
    coordinator: Coordinator,
    work: Callable[[], Result],
    to_record: Callable[[Result], Any],
    from_record: Callable[[Any], Result],
) -> Result:
    """Runs `work` on the leader alone, and rebuilds its result on the other processes.

    Args:
      to_record: converts the result to JSON values on the leader.
      from_record: rebuilds the result from them on the others.

    Raises:
      ConfigError: on every process if `work` raises one; the others name the leader's message.
    """
    if not coordinator.is_leader:
        answer = json.loads(coordinator.broadcast(b""))
        if "error" in answer:
            raise ConfigError(f"process 0 says: {answer['error']}")
        return from_record(answer["result"])
    answer: dict[str, Any] = {"error": "it cannot continue"}
    try:
        result = work()
        answer = {"result": to_record(result)}
        return result
    except ConfigError as error:
        answer = {"error": str(error)}
        raise
    finally:
        coordinator.broadcast(json.dumps(answer).encode())


def find_shared_folder(coordinator: Coordinator, folder: Path | None) -> Path | None:
    """Returns the leader's folder if all processes see it on shared storage; else None.

    Args:
      folder: on the leader; ignored elsewhere.
    """
    if coordinator.num_processes == 1:
        return None
    name = b""
    if coordinator.is_leader and folder is not None:
        with (
            contextlib.suppress(OSError),
            tempfile.NamedTemporaryFile(dir=folder.resolve(), prefix=PROBE_PREFIX, delete=False) as file,
        ):
            name = file.name.encode()
    probe = Path(coordinator.broadcast(name).decode())
    some_do_not_see, _ = coordinator.agree(not probe.is_file(), False)
    if coordinator.is_leader:
        probe.unlink(missing_ok=True)
    return None if some_do_not_see else probe.parent


def copy_folder(coordinator: Coordinator, folder: Path | None, into: Path) -> Path | None:
    """Copies the leader's folder under `into` on the others, which need not share its storage.

    Args:
      folder: on the leader, or None if there is none.

    Returns:
      The folder itself on the leader, the copy on the others; None if the leader has none.
    """
    data = b""
    if coordinator.is_leader and folder is not None:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            archive.add(folder, arcname=folder.name)
        data = packed.getvalue()
    data = coordinator.broadcast(data)
    if coordinator.is_leader or not data:
        return folder
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        name = archive.getnames()[0]
        archive.extractall(into, filter="data")
    return into / name
