"""Trials on a Ray cluster: each is a Ray task, which Ray places, and runs again elsewhere if its
node is lost.

An actor on the machine of the command, the hub, takes the reports of all trials. It also holds the
run folders, for nodes that do not see the study's folder.
"""

from __future__ import annotations

import math
import time
from typing import Any

import matrixrl
from matrixrl.config import ConfigError
from matrixrl.errors import first_line
from matrixrl.studies.engine import EngineEvent
from matrixrl.studies.ray_cluster import connect, require_room
from matrixrl.studies.ray_node import Hub, run_on_node

CAPACITY_SECONDS = 1.0
"""Interval at which the size of the cluster is asked for."""


class RayEngine:
    """Trains on the nodes of a Ray cluster.

    Args:
      address: of the head; None for RAY_ADDRESS, or a cluster of this machine.
      jobs: maximum number of trials at once; None for as many as the cluster has room for.
      cpus, gpus: reserved for a trial.
      runs: location of the run folders.
    """

    def __init__(self, address: str | None, *, jobs: int | None, cpus: float, gpus: float, runs: str) -> None:
        self._ray: Any = connect(address, jobs, cores_per_trial=cpus)
        self._jobs, self._cpus, self._gpus = jobs, cpus, gpus
        self._tasks: dict[Any, int] = {}
        self._runs = runs
        self._capacity, self._next_capacity = 0, 0.0
        try:
            require_room(self._ray, address, cpus, gpus)
        except ConfigError:
            self._ray.shutdown()
            raise
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(self._ray.get_runtime_context().get_node_id(), soft=False)
        hub: Any = self._ray.remote(Hub)
        self._hub = hub.options(num_cpus=0, max_concurrency=16, scheduling_strategy=here).remote(runs)
        # Tasks of a lost node are run again by Ray, however often that happens.
        self._task = self._ray.remote(run_on_node).options(
            num_cpus=cpus, num_gpus=gpus, max_retries=-1, retry_exceptions=False
        )

    def parallel(self) -> int:
        """Returns the number of trials for which the cluster has room at the moment."""
        now = time.monotonic()
        if now >= self._next_capacity:
            room = self._room()
            self._capacity = room if self._jobs is None else min(room, self._jobs)
            self._next_capacity = now + CAPACITY_SECONDS
        return self._capacity

    def free(self) -> int:
        """Returns the number of trials for which there is room."""
        return self.parallel() - len(self._tasks)

    def shortage(self) -> str:
        """Returns what the cluster lacks for a trial."""
        there = self._ray.cluster_resources()
        wanted = f"{self._cpus:g} cores" + (f" and {self._gpus:g} GPUs" if self._gpus else "")
        return f"the cluster has {there.get('CPU', 0):g} cores and {there.get('GPU', 0):g} GPUs, a trial takes {wanted}"

    def _room(self) -> int:
        """Returns the number of trials for which the nodes have room: each is on one node."""
        room = 0
        for node in self._ray.nodes():
            there = node.get("Resources", {}) if node.get("Alive") else {}
            own = math.floor(there.get("CPU", 0.0) / self._cpus + 1e-9)
            if self._gpus:
                own = min(own, math.floor(there.get("GPU", 0.0) / self._gpus + 1e-9))
            room += own
        return room

    def submit(self, request: dict[str, Any]) -> None:
        """Starts a trial."""
        self._ray.get(self._hub.forget.remote(request["trial"]))
        task = self._task.remote({**request, "matrixrl": matrixrl.__version__}, self._hub, self._runs)
        self._tasks[task] = request["trial"]

    def stop(self, trial: int, reason: str) -> None:
        """Asks a trial to stop."""
        self._hub.stop.remote(trial, reason)

    def events(self, timeout: float) -> list[EngineEvent]:
        """Returns the messages since the last call."""
        if not self._tasks:
            time.sleep(timeout)  # no node has room
        done, _ = self._ray.wait(list(self._tasks), num_returns=1, timeout=timeout)
        found = [EngineEvent(trial, message) for trial, message in self._ray.get(self._hub.take.remote())]
        for task in done:
            found.append(EngineEvent(self._tasks.pop(task), {"op": "end", "end": self._end(task)}))
        return found

    def _end(self, task: Any) -> dict[str, Any]:
        try:
            return self._ray.get(task)
        except self._ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error
            return {"status": "died", "error": first_line(cause)}

    def close(self) -> None:
        """Leaves the cluster; one that was started here ends."""
        self._ray.shutdown()
