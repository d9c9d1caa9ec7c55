"""A process that is gone without a goodbye is told at once; one that says goodbye is not."""

from __future__ import annotations

import contextlib
import queue
import socket
from collections.abc import Callable, Iterator

import pytest

from matrixrl.devices.processes import Lifeline

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
