"""Walkers on the nodes of a Ray cluster: each walk of a round is a Ray task, which Ray places, and
runs again elsewhere if its node is lost.

A walk is a function of the pool at the beginning of the round, the seed, the round and the number
of the walker, so it does not matter where it runs, or how often.
"""

from __future__ import annotations

import socket
import time
from collections import deque
from typing import Any

import matrixrl
from matrixrl.errors import first_line
from matrixrl.search.flip_graph.pool import Pool
from matrixrl.search.flip_graph.walk import (
    RoundTask,
    WalkerResult,
    WalkersFailedError,
    WrongSchemeError,
    walk_alone,
)

MAX_RETRIES = 100
"""Maximum number of times that Ray runs a walk of one round again after its process or node was
lost.
"""

WAIT_SECONDS = 1.0
"""Interval at which signals are handled while the head waits for walkers."""

CAPACITY_SECONDS = 2.0
"""Interval at which the size of the cluster is asked for."""

_pool: tuple[str, Pool] | None = None
"""Pool of the last round in this process, with the name of its object: the next walker of the round
needs it, too.
"""


def walk_on_node(pool: list[Any], task: RoundTask, number: int, version: str) -> WalkerResult:
    """Returns what one walker finds. The body of a Ray task.

    Args:
      pool: the reference to the pool, in a list, so that Ray does not fetch it for each walker.
      task: the round.
      number: of the walker.
      version: of matrixrl at the head.

    Raises:
      WalkersFailedError: if this node has another version.
      WrongSchemeError: if a scheme is wrong.
    """
    global _pool
    import ray

    if version != matrixrl.__version__:
        raise WalkersFailedError(
            f"node {socket.gethostname()} has matrixrl {matrixrl.__version__}, the command {version}; install one version"
        )
    (reference,) = pool
    if _pool is None or _pool[0] != reference.hex():
        _pool = reference.hex(), ray.get(reference)
    try:
        return walk_alone(_pool[1], task, number)
    except WrongSchemeError as error:
        raise WrongSchemeError(f"node {socket.gethostname()}: {error}") from error


class RayWalkers:
    """Walkers on a cluster.

    Args:
      ray: the module, connected to the cluster.
      jobs: maximum number of walkers at once; None for as many as the cluster has cores.
    """

    def __init__(self, ray: Any, jobs: int | None = None) -> None:
        self._ray = ray
        self._jobs = jobs
        # Walks are short: by default Ray lets them wait for a worker that it has on one node.
        self._task = ray.remote(walk_on_node).options(
            num_cpus=1, max_retries=MAX_RETRIES, retry_exceptions=False, scheduling_strategy="SPREAD"
        )
        self._cores, self._nodes, self._next_capacity = 0, 0, 0.0

    @property
    def cores(self) -> int:
        """Number of cores of the cluster at the moment."""
        self._ask_capacity()
        return self._cores

    def place(self) -> str:
        """Returns the cluster in words, such as `4 cores of 2 nodes`."""
        self._ask_capacity()
        cores, nodes = self._cores, self._nodes
        return f"{cores:,} core{'' if cores == 1 else 's'} of {nodes:,} node{'' if nodes == 1 else 's'}"

    def _ask_capacity(self) -> None:
        if time.monotonic() >= self._next_capacity:
            self._cores = int(self._ray.cluster_resources().get("CPU", 0.0))
            self._nodes = sum(bool(node["Alive"]) for node in self._ray.nodes())
            self._next_capacity = time.monotonic() + CAPACITY_SECONDS

    def walk(self, pool: Pool, task: RoundTask, num_walkers: int) -> list[WalkerResult]:
        """Returns the results of all walkers, in their order.

        Raises:
          WrongSchemeError: if a node found what is no scheme.
          WalkersFailedError: if a walk failed on a node.
        """
        reference = self._ray.put(pool)
        waiting, running = deque(range(num_walkers)), dict[Any, int]()
        results: dict[int, WalkerResult] = {}
        try:
            while waiting or running:
                while waiting and (self._jobs is None or len(running) < self._jobs):
                    number = waiting.popleft()
                    walk = self._task.remote([reference], task, number, matrixrl.__version__)
                    running[walk] = number
                done, _ = self._ray.wait(list(running), num_returns=1, timeout=WAIT_SECONDS)
                for walk in done:
                    results[running.pop(walk)] = self._result(walk)
        finally:
            for walk in running:  # of a round that failed
                self._ray.cancel(walk, force=True)
        return [results[number] for number in range(num_walkers)]

    def _result(self, walk: Any) -> WalkerResult:
        exceptions = self._ray.exceptions
        try:
            return self._ray.get(walk)
        except exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, WrongSchemeError | WalkersFailedError):
                raise type(cause)(str(cause)) from error
            raise WalkersFailedError(f"a walk failed on the cluster: {first_line(cause or error)}") from error
        except exceptions.RayError as error:
            raise WalkersFailedError(f"a walk failed on the cluster: {first_line(error)}") from error
