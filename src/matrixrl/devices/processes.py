"""Processes of one distributed training: on one host or several, joined by `jax.distributed` into
one mesh.

All of them run the same program in the same order. Process 0 is the leader: it reads the command
line, holds the run folder, and broadcasts every decision that depends on a clock or a signal.
"""

from __future__ import annotations

import contextlib
import io
import re
import selectors
import socket
import struct
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from matrixrl.config import ConfigError, ProcessConfig

# Start of the message of a failed collective that JAX raises as a ValueError.
STATUS = re.compile(
    r"(UNKNOWN|INTERNAL|UNAVAILABLE|ABORTED|CANCELLED|DEADLINE_EXCEEDED|FAILED_PRECONDITION): "
)

# Names of the files used to test whether all processes see a folder.
SEEN = ".seen-"


def join(settings: ProcessConfig) -> None:
    """Waits for the other processes and joins them. Must be called before anything asks JAX for its
    devices.

    Raises:
      ConfigError: if the address of process 0 is unknown, or the others do not connect.
    """
    given = {
        "coordinator_address": settings.coordinator,
        "num_processes": settings.num_processes,
        "process_id": settings.process_id,
    }
    if settings.coordinator is not None and settings.process_id:
        _wait_for(settings.coordinator, settings.join_seconds)
    try:
        jax.distributed.initialize(**given, initialization_timeout=settings.join_seconds)
    except ValueError as error:
        raise ConfigError(
            f"--distributed: {_first_line(error)}; give --coordinator HOST:PORT --num-processes N --process-id I, or start "
            "it where TPU, Slurm or Open MPI say so themselves"
        ) from error
    except RuntimeError as error:
        raise ConfigError(
            f"--distributed: the processes did not come together within {settings.join_seconds} s "
            f"({_first_line(error)}); start all of them with the same --coordinator, whose port this host can reach"
        ) from error
    _Joined.lifeline = _lifeline(settings.coordinator)


class Lifeline:
    """Connections between process 0 and the others that carry only a message at exit.

    The operating system closes them when a process ends for any reason, and detects when a host
    stops responding. A collective may wait for a dead process for a long time; these connections
    report it immediately.

    Args:
      peers: connections by process number.
    """

    def __init__(self, peers: Mapping[int, socket.socket]) -> None:
        self._peers = dict(peers)
        for connection in self._peers.values():
            connection.setblocking(True)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 6)):
                if hasattr(socket, name):  # Linux; other systems keep their longer defaults
                    connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def watch(self, tell: Callable[[int], None]) -> None:
        """Calls the callback, from another thread, with the number of the first process that fails
        without announcing its exit.
        """
        threading.Thread(target=self._watch, args=(tell,), name="lifeline", daemon=True).start()

    def _watch(self, tell: Callable[[int], None]) -> None:
        with selectors.DefaultSelector() as waiting:
            for number, connection in self._peers.items():
                waiting.register(connection, selectors.EVENT_READ, number)
            while waiting.get_map():
                for event, _ in waiting.select():
                    connection = event.fileobj
                    assert isinstance(connection, socket.socket)
                    try:
                        said = connection.recv(1)
                    except OSError:
                        said = b""
                    waiting.unregister(connection)
                    if not said:
                        tell(event.data)
                        return

    def part(self) -> None:
        """Announces a clean exit so that peers do not treat it as a failure."""
        for connection in self._peers.values():
            with contextlib.suppress(OSError):
                connection.sendall(b".")


class _Joined:
    """State that `join` creates, for the single training of this process."""

    lifeline: Lifeline | None = None
    # True if all processes see the run folder of process 0.
    one_folder: bool = False


def agree_on_folder(folder: Path | None) -> Path | None:
    """Returns the folder that process 0 names, if all processes see it on a shared disk; else None.

    From then on partially addressable arrays are not gathered for a checkpoint (`on_host`): every
    process writes its own shards.
    """
    if count() == 1:
        return None
    name = b""
    if leads() and folder is not None:
        with (
            contextlib.suppress(OSError),
            tempfile.NamedTemporaryFile(dir=folder.resolve(), prefix=SEEN, delete=False) as file,
        ):
            name = file.name.encode()
    seen = Path(share(name).decode())
    all_see = bool(_gathered(np.array([seen.is_file()], np.int32)).all())
    if leads():
        seen.unlink(missing_ok=True)
    _Joined.one_folder = all_see
    return seen.parent if all_see else None


def keep_together() -> bool:
    """Returns true if all processes write checkpoints, each its own shards (`agree_on_folder`)."""
    return _Joined.one_folder


def _lifeline(coordinator: str | None, seconds: float = 30.0) -> Lifeline | None:
    """Connects to process 0; None if that is impossible, and JAX's own heartbeat has to suffice.
    Collective.
    """
    if count() == 1:
        return None
    peers: dict[int, socket.socket] = {}
    if leads():
        with socket.create_server(("", 0), backlog=count()) as listening:
            listening.settimeout(seconds)
            leaders(listening.getsockname()[1])
            with contextlib.suppress(OSError):
                while len(peers) < count() - 1:
                    connection, _ = listening.accept()
                    connection.settimeout(seconds)
                    (number,) = struct.unpack("!I", connection.recv(4, socket.MSG_WAITALL))
                    peers[number] = connection
    else:
        port = leaders(0)
        if coordinator is None:
            from jax._src import distributed  # detected by JAX, which exposes it nowhere else

            coordinator = distributed.global_state.coordinator_address or ""
        host = coordinator.rpartition(":")[0].strip("[]")
        with contextlib.suppress(OSError):
            peers[0] = socket.create_connection((host, port), timeout=seconds)
            peers[0].sendall(struct.pack("!I", jax.process_index()))
    return Lifeline(peers)


def on_loss(tell: Callable[[int], None]) -> None:
    """Registers a callback, called from another thread when another process of this training
    fails.
    """
    if _Joined.lifeline is not None:
        _Joined.lifeline.watch(tell)


def is_loss(error: Exception) -> bool:
    """Returns true if an error of a collective means that a peer failed: JAX raises two types of
    them.
    """
    return isinstance(error, jax.errors.JaxRuntimeError) or (
        isinstance(error, ValueError) and STATUS.match(str(error)) is not None
    )


def part() -> None:
    """Announces a clean exit so that peers do not treat it as a failure."""
    if _Joined.lifeline is not None:
        _Joined.lifeline.part()


def _wait_for(address: str, seconds: float) -> None:
    """Waits until a process listens at an address: JAX itself terminates a process that does not
    reach it in time.

    Raises:
      ConfigError: if no process does.
    """
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
        except OSError as error:
            if time.monotonic() > deadline:
                raise ConfigError(
                    f"--coordinator {address}: process 0 did not answer within {seconds:g} s ({error.strerror or error}); "
                    "start it with the same --coordinator, whose port this host can reach"
                ) from error
            time.sleep(0.2)
        else:
            return


def count() -> int:
    """Returns the number of processes in this training; 1 if none were joined."""
    return jax.process_count()


def leads() -> bool:
    """Returns true for process 0, which holds the run folder."""
    return jax.process_index() == 0


def agree(stop: bool, due: bool) -> tuple[bool, bool]:
    """Returns whether any process was asked to stop, and whether process 0 finds that a checkpoint
    is due.
    """
    told = _gathered(np.array([stop, due], np.int32))
    return bool(told[:, 0].any()), bool(told[0, 1])


def leaders(value: int) -> int:
    """Broadcasts process 0's value to every process."""
    return value if count() == 1 else int(_gathered(np.array([value], np.int32))[0, 0])


def share(data: bytes | None) -> bytes:
    """Broadcasts process 0's bytes to every process; those of the others are ignored."""
    if count() == 1:
        assert data is not None
        return data
    from jax.experimental import multihost_utils

    size = leaders(len(data) if leads() and data is not None else 0)
    padded = np.zeros(size, np.uint8)
    if leads() and data is not None:
        padded[:] = np.frombuffer(data, np.uint8)
    return np.asarray(multihost_utils.broadcast_one_to_all(padded)).astype(np.uint8).tobytes()


def share_folder(folder: Path | None, into: Path) -> Path | None:
    """Copies process 0's folder under `into` on the others, which need not share its disk.

    Args:
      folder: on process 0, or None if there is none.

    Returns:
      The folder itself on process 0, the copy on the others; None if process 0 has none.
    """
    data = b""
    if leads() and folder is not None:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            archive.add(folder, arcname=folder.name)
        data = packed.getvalue()
    data = share(data)
    if leads() or not data:
        return folder
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        name = archive.getnames()[0]
        archive.extractall(into, filter="data")
    return into / name


def in_parts(leaf: Any) -> bool:
    """Returns true if other processes hold shards of an array that this one does not."""
    return isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated)


def on_host(leaf: Any) -> Any:
    """Fetches an array to this host completely; a collective if other processes hold shards of it.

    If all processes see one folder, such an array is returned unchanged: each process writes its
    own shards there.
    """
    if not in_parts(leaf) or _Joined.one_folder:
        return leaf
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(leaf, tiled=True)


def _gathered(values: np.ndarray) -> np.ndarray:
    """Gathers the values [K] of every process: [P, K]."""
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(values)).reshape(count(), -1)


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
