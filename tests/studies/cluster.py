"""A Ray cluster of this machine with one core per node, and commands that run on it while nodes come and go.

For scripts in processes of their own: Ray leaves threads and sockets behind.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
STORE_BYTES = 80 * 2**20
NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": STORE_BYTES, "include_dashboard": False}
SECONDS = 240


@contextmanager
def cluster_of(nodes: int) -> Iterator[Any]:
    """Yields a cluster; its head is one of the nodes."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args=NODE)
    for _ in range(nodes - 1):
        cluster.add_node(**NODE)
    try:
        yield cluster
    finally:
        cluster.shutdown()


def begin(cluster: Any, *words: str) -> subprocess.Popen[str]:
    """Starts a command of matrixrl on the cluster."""
    command = [
        sys.executable,
        "-m",
        "matrixrl",
        *words,
        "--on=ray",
        f"--ray-address={cluster.address}",
        "--json",
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Waits for a condition while a process runs."""
    deadline = time.monotonic() + SECONDS
    while not condition() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)


def exchange_node(cluster: Any) -> None:
    """Kills the youngest node and adds another one."""
    cluster.remove_node(cluster.worker_nodes.copy().pop(), allow_graceful=False)
    cluster.add_node(**NODE)


def last_line(process: subprocess.Popen[str]) -> str:
    """Returns the JSON object that a command printed, after its end."""
    output, _ = process.communicate()
    return output.splitlines()[-1] if output else "{}"
