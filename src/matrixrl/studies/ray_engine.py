"""Trials on a Ray cluster: each is a Ray task, which Ray places, and runs again elsewhere if its
node is lost.

An actor on the machine of the command, the hub, takes the reports of all trials. It also holds the
run folders, for nodes that do not see the study's folder.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import socket
import subprocess
import sys
import time
from typing import Any, NoReturn

import matrixrl
from matrixrl.config import ConfigError
from matrixrl.errors import first_line
from matrixrl.studies.engine import EngineEvent, default_jobs
from matrixrl.studies.ray_node import Hub, run_on_node

CONNECT_SECONDS = 20.0
"""Maximum time until a cluster answers."""

OBJECT_STORE_BYTES = 80 * 2**20
"""Object store of a cluster of this machine: files travel in parts of a few megabytes."""

CAPACITY_SECONDS = 1.0
"""Interval at which the size of the cluster is asked for."""

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
}


def require_ray() -> None:
    """Refuses to continue without Ray.

    Raises:
      ConfigError: with the command that installs it.
    """
    if importlib.util.find_spec("ray") is None:
        raise ConfigError("--on ray: Ray is not installed; install it: pip install 'matrixrl[ray]'")


def cluster_address(given: str | None) -> str:
    """Returns the address of the cluster: the given one, that of RAY_ADDRESS, or `local`."""
    return given or os.environ.get("RAY_ADDRESS") or "local"


def connect(given: str | None, jobs: int | None) -> Any:
    """Connects this process to a cluster, or starts one on this machine. Returns the module `ray`.

    Raises:
      ConfigError: if the address does not answer within `CONNECT_SECONDS`.
    """
    require_ray()
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    address = cluster_address(given)
    flag = f"--ray-address {address}" if given else f"RAY_ADDRESS={address}"
    options: dict[str, Any] = {
        "address": address,
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "include_dashboard": False,
        "configure_logging": True,
    }
    if address == "local":
        options |= {"num_cpus": jobs or default_jobs(), "object_store_memory": OBJECT_STORE_BYTES}
    else:
        del options["include_dashboard"]
        if address != "auto":
            _require_answer(flag, address)
    import ray

    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError, AssertionError, OSError) as error:
        raise ConfigError(
            f"{flag}: Ray does not start ({first_line(error)}); see `ray status`, and docs/many_machines.md"
        ) from error
    return ray


def _require_answer(flag: str, address: str) -> None:
    """Refuses an address at which no head of a cluster answers, before Ray itself waits for it.

    Raises:
      ConfigError: names the address and what to do.
    """
    if address.startswith("ray://"):
        raise ConfigError(
            f"{flag}: trials report to this machine, which must be a node of the cluster; run the command on a node, and "
            "give HOST:PORT or auto"
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(f"{flag}: must be HOST:PORT of the cluster's head, such as 10.0.0.2:6379, or auto")
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS / 2).close()
    except OSError as error:
        _refuse(flag, str(error.strerror or error))
    # In a process of its own: Ray's client waits for minutes, or ends its process.
    probe = [sys.executable, "-P", "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        found = subprocess.run(
            probe, stdin=subprocess.DEVNULL, capture_output=True, timeout=CONNECT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        _refuse(flag, f"no answer within {CONNECT_SECONDS:.0f} s")
    if found.returncode:
        lines = found.stderr.decode(errors="replace").strip().splitlines() or ["it is no head of a cluster"]
        _refuse(flag, lines[-1][:200])


def _refuse(flag: str, reason: str) -> NoReturn:
    raise ConfigError(
        f"{flag}: no Ray cluster answers there ({reason}); start its head with `ray start --head`, or leave the address "
        "out for a cluster of this machine"
    )


class RayEngine:
    """Trains on the nodes of a Ray cluster.

    Args:
      address: of the head; None for RAY_ADDRESS, or a cluster of this machine.
      jobs: maximum number of trials at once; None for as many as the cluster has room for.
      cpus, gpus: reserved for a trial.
      runs: location of the run folders.
    """

    def __init__(self, address: str | None, *, jobs: int | None, cpus: float, gpus: float, runs: str) -> None:
        self._ray: Any = connect(address, jobs)
        self._jobs, self._cpus, self._gpus = jobs, cpus, gpus
        self._tasks: dict[Any, int] = {}
        self._runs = runs
        self._capacity, self._next_capacity = 0, 0.0
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
            total = self._ray.cluster_resources()
            room = math.floor(total.get("CPU", 0.0) / self._cpus + 1e-9)
            if self._gpus:
                room = min(room, math.floor(total.get("GPU", 0.0) / self._gpus + 1e-9))
            self._capacity = room if self._jobs is None else min(room, self._jobs)
            self._next_capacity = now + CAPACITY_SECONDS
        return self._capacity

    def free(self) -> int:
        """Returns the number of trials for which there is room."""
        return self.parallel() - len(self._tasks)

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
