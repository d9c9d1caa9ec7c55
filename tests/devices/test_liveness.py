"""A process that ends without announcing it is reported at once; one that announces its exit is not."""

from __future__ import annotations

import contextlib
import queue
import socket
from collections.abc import Callable, Iterator

import jax
import pytest

from matrixrl.config import ConfigError
from matrixrl.devices.distributed import is_collective_error
from matrixrl.devices.liveness import LivenessMonitor

Connect = Callable[[], tuple[socket.socket, socket.socket]]


@pytest.fixture
def connected() -> Iterator[Connect]:
    """Makes connections over the loopback: their two ends."""
    with contextlib.ExitStack() as ends:

        def connect() -> tuple[socket.socket, socket.socket]:
            with socket.create_server(("127.0.0.1", 0)) as listening:
                there = ends.enter_context(socket.create_connection(listening.getsockname()))
                here = ends.enter_context(listening.accept()[0])
            return here, there

        yield connect


def test_the_failed_process_is_named(connected: Connect) -> None:
    (first, first_end), (second, second_end) = connected(), connected()
    failed: queue.Queue[int] = queue.Queue()
    LivenessMonitor({1: first, 2: second}).watch(failed.put)
    second_end.close()
    assert failed.get(timeout=30) == 2
    first_end.close()
    with pytest.raises(queue.Empty):
        failed.get(timeout=0.2)  # once is enough


def test_an_announced_exit_is_no_failure(connected: Connect) -> None:
    (first, first_end), (second, second_end) = connected(), connected()
    failed: queue.Queue[int] = queue.Queue()
    LivenessMonitor({1: first, 2: second}).watch(failed.put)
    LivenessMonitor({0: first_end}).announce_exit()
    first_end.close()
    second_end.close()
    assert failed.get(timeout=30) == 2


def test_announcing_an_exit_to_a_failed_peer_is_quiet(connected: Connect) -> None:
    here, there = connected()
    there.close()
    monitor = LivenessMonitor({1: here})
    monitor.announce_exit()
    monitor.announce_exit()


def test_a_failed_collective_is_distinguished_from_other_errors() -> None:
    lost = "UNKNOWN: Gloo AllGather failed: [external/gloo] Read error [127.0.0.1]:2976: Connection reset by peer"
    assert is_collective_error(ValueError(lost))
    assert is_collective_error(jax.errors.JaxRuntimeError(lost))
    assert not is_collective_error(ValueError("shapes do not match: UNKNOWN: "))
    assert not is_collective_error(ConfigError("--devices 3: UNAVAILABLE"))
    assert not is_collective_error(KeyError(lost))
