"""Distributed training: processes on one host or several, joined by `jax.distributed` into one
mesh.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from matrixrl.config import ConfigError, ProcessConfig
from matrixrl.devices.coordinator import SINGLE, Coordinator, Value
from matrixrl.devices.groups import is_partially_addressable
from matrixrl.devices.liveness import (
    LivenessMonitor,
    accept_peers,
    connect_to_leader,
    split_address,
    wait_for_listener,
)
from matrixrl.errors import first_line
from matrixrl.jax_internals import coordinator_address

# Start of the message of a failed collective that JAX raises as a ValueError.
STATUS = re.compile(
    r"(UNKNOWN|INTERNAL|UNAVAILABLE|ABORTED|CANCELLED|DEADLINE_EXCEEDED|FAILED_PRECONDITION): "
)

REASON_CHARACTERS = 200
"""Maximum number of characters of JAX's reason in an error message."""


class DistributedCoordinator:
    """Coordinator of one process among several.

    Args:
      process_index: number of this process; 0 leads.
      num_processes: number of processes in this training.
      monitor: connections that report a failed peer.
    """

    def __init__(self, process_index: int, num_processes: int, monitor: LivenessMonitor) -> None:
        self.num_processes = num_processes
        self.is_leader = process_index == 0
        self._monitor = monitor

    def broadcast(self, value: Value) -> Value:
        """Returns the leader's value on every process. Collective."""
        if isinstance(value, int):
            return broadcast_from_leader(value)
        size = broadcast_from_leader(len(value))
        padded = np.zeros(size, np.uint8)
        if self.is_leader:
            padded[:] = np.frombuffer(value, np.uint8)
        return np.asarray(multihost_utils.broadcast_one_to_all(padded)).astype(np.uint8).tobytes()

    def agree(self, stop: bool, checkpoint_due: bool) -> tuple[bool, bool]:
        """Returns whether any process was asked to stop, and whether the leader finds that a
        checkpoint is due. Collective.
        """
        decisions = _gather_values(np.array([stop, checkpoint_due], np.int32))
        return bool(decisions[:, 0].any()), bool(decisions[0, 1])

    def gather(self, array: Any) -> Any:
        """Returns an array completely on this host. Collective if it is partially addressable."""
        return fetch_to_host(array)

    def watch_peers(self, on_failure: Callable[[int], None]) -> None:
        """Registers a callback, called from another thread with the number of the first process
        that fails.
        """
        self._monitor.watch(on_failure)

    def is_peer_failure(self, error: Exception) -> bool:
        """Returns true if an error means that a collective failed because a peer did."""
        return is_collective_error(error)

    def announce_exit(self) -> None:
        """Announces a clean exit so that peers do not treat it as a failure."""
        self._monitor.announce_exit()


def join(settings: ProcessConfig) -> Coordinator:
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
        wait_for_listener(settings.coordinator, settings.join_seconds)
    try:
        jax.distributed.initialize(**given, initialization_timeout=settings.join_seconds)
    except ValueError as error:
        raise ConfigError(
            f"--distributed: {first_line(error, REASON_CHARACTERS)}; give --coordinator HOST:PORT --num-processes N "
            "--process-id I, or start it where TPU, Slurm or Open MPI say so themselves"
        ) from error
    except RuntimeError as error:
        raise ConfigError(
            f"--distributed: the processes did not come together within {settings.join_seconds} s "
            f"({first_line(error, REASON_CHARACTERS)}); start all of them with the same --coordinator, whose port this "
            "host can reach"
        ) from error
    index, count = jax.process_index(), jax.process_count()
    if count == 1:
        return SINGLE
    return DistributedCoordinator(index, count, _monitor(settings.coordinator, index, count))


def _monitor(address: str | None, index: int, count: int) -> LivenessMonitor:
    """Connects this process to its peers. Collective."""
    if index == 0:
        return accept_peers(count - 1, publish_port=broadcast_from_leader)
    port = broadcast_from_leader(0)
    host, _ = split_address(address or coordinator_address())
    return connect_to_leader(host, port, index)


def is_collective_error(error: Exception) -> bool:
    """Returns true if an error is that of a failed collective: JAX raises two types of them."""
    return isinstance(error, jax.errors.JaxRuntimeError) or (
        isinstance(error, ValueError) and STATUS.match(str(error)) is not None
    )


def fetch_to_host(array: Any) -> Any:
    """Fetches an array to this host completely; a collective if other processes hold shards of
    it.
    """
    if not is_partially_addressable(array):
        return array
    return multihost_utils.process_allgather(array, tiled=True)


def broadcast_from_leader(value: int) -> int:
    """Returns process 0's number on every process. Collective."""
    return int(_gather_values(np.array([value], np.int32))[0, 0])


def _gather_values(values: np.ndarray) -> np.ndarray:
    """Gathers the values [K] of every process: [P, K]. Collective."""
    return np.asarray(multihost_utils.process_allgather(values)).reshape(jax.process_count(), -1)
