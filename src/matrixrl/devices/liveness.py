"""Detection of failed peers in a distributed training."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping

from matrixrl.config import ConfigError

CONNECT_SECONDS = 30.0
"""Maximum time in seconds for the processes to connect to the leader's monitor."""


class LivenessMonitor:
    """Connections between the leader and the other processes that carry only a message at exit.

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

    def watch(self, on_failure: Callable[[int], None]) -> None:
        """Calls the callback, from another thread, with the number of the first process that fails
        without announcing its exit.
        """
        threading.Thread(target=self._watch, args=(on_failure,), name="liveness", daemon=True).start()

    def _watch(self, on_failure: Callable[[int], None]) -> None:
        with selectors.DefaultSelector() as waiting:
            for number, connection in self._peers.items():
                waiting.register(connection, selectors.EVENT_READ, number)
            while waiting.get_map():
                for event, _ in waiting.select():
                    connection = event.fileobj
                    assert isinstance(connection, socket.socket)
                    try:
                        message = connection.recv(1)
                    except OSError:
                        message = b""
                    waiting.unregister(connection)
                    if not message:
                        on_failure(event.data)
                        return

    def announce_exit(self) -> None:
        """Announces a clean exit so that peers do not treat it as a failure."""
        for connection in self._peers.values():
            with contextlib.suppress(OSError):
                connection.sendall(b".")


def accept_peers(num_peers: int, publish_port: Callable[[int], object]) -> LivenessMonitor:
    """Waits on the leader for the connections of the other processes.

    A process that does not connect in time is not monitored: JAX's own heartbeat has to suffice.

    Args:
      publish_port: called with the port to which the others connect.
    """
    peers: dict[int, socket.socket] = {}
    with socket.create_server(("", 0), backlog=num_peers) as listening:
        listening.settimeout(CONNECT_SECONDS)
        publish_port(listening.getsockname()[1])
        with contextlib.suppress(OSError):
            while len(peers) < num_peers:
                connection, _ = listening.accept()
                connection.settimeout(CONNECT_SECONDS)
                (number,) = struct.unpack("!I", connection.recv(4, socket.MSG_WAITALL))
                peers[number] = connection
    return LivenessMonitor(peers)


def connect_to_leader(host: str, port: int, number: int) -> LivenessMonitor:
    """Connects process `number` to the leader; if that is impossible, nothing is monitored."""
    peers: dict[int, socket.socket] = {}
    with contextlib.suppress(OSError):
        peers[0] = socket.create_connection((host, port), timeout=CONNECT_SECONDS)
        peers[0].sendall(struct.pack("!I", number))
    return LivenessMonitor(peers)


def wait_for_listener(address: str, seconds: float) -> None:
    """Waits until a process listens at an address: JAX itself terminates a process that does not
    reach it in time.

    Raises:
      ConfigError: if no process does.
    """
    host, port = split_address(address)
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((host, port), timeout=5).close()
        except OSError as error:
            if time.monotonic() > deadline:
                raise ConfigError(
                    f"--coordinator {address}: process 0 did not answer within {seconds:g} s ({error.strerror or error}); "
                    "start it with the same --coordinator, whose port this host can reach"
                ) from error
            time.sleep(0.2)
        else:
            return


def split_address(address: str) -> tuple[str, int]:
    """Returns host and port of an address `HOST:PORT`; an IPv6 host may stand in brackets."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
