"""A process that is gone without a goodbye is told at once; one that says goodbye is not."""

from __future__ import annotations

import contextlib
import queue
import socket
from collections.abc import Callable, Iterator

import jax
import pytest

from matrixrl.config import ConfigError
from matrixrl.devices.processes import Lifeline, is_loss

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


def test_the_process_that_is_gone_is_named(connected: Connect) -> None:
    (first, first_end), (second, second_end) = connected(), connected()
    told: queue.Queue[int] = queue.Queue()
    Lifeline({1: first, 2: second}).watch(told.put)
    second_end.close()
    assert told.get(timeout=30) == 2
    first_end.close()
    with pytest.raises(queue.Empty):
        told.get(timeout=0.2)  # once is enough


def test_a_goodbye_is_no_loss(connected: Connect) -> None:
    (first, first_end), (second, second_end) = connected(), connected()
    told: queue.Queue[int] = queue.Queue()
    Lifeline({1: first, 2: second}).watch(told.put)
    Lifeline({0: first_end}).part()
    first_end.close()
    second_end.close()
    assert told.get(timeout=30) == 2


def test_parting_from_one_that_is_gone_is_quiet(connected: Connect) -> None:
    here, there = connected()
    there.close()
    lifeline = Lifeline({1: here})
    lifeline.part()
    lifeline.part()


def test_a_failed_collective_is_told_from_other_errors() -> None:
    lost = "UNKNOWN: Gloo AllGather failed: [external/gloo] Read error [127.0.0.1]:2976: Connection reset by peer"
    assert is_loss(ValueError(lost))
    assert is_loss(jax.errors.JaxRuntimeError(lost))
    assert not is_loss(ValueError("shapes do not match: UNKNOWN: "))
    assert not is_loss(ConfigError("--devices 3: UNAVAILABLE"))
    assert not is_loss(KeyError(lost))
