"""Connection to a Ray cluster: of a study, or of walkers."""

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

from matrixrl.config import ConfigError
from matrixrl.errors import first_line
from matrixrl.studies.engine import default_jobs

CONNECT_SECONDS = 25.0
"""Maximum time until a cluster answers, without that in which Ray's own client starts."""

OBJECT_STORE_BYTES = 80 * 2**20
"""Object store of a cluster of this machine: files travel in parts of a few megabytes."""

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


def connect(given: str | None, jobs: int | None, cores_per_trial: float = 1.0) -> Any:
    """Connects this process to a cluster, or starts one on this machine. Returns the module `ray`.

    Args:
      jobs: number of trials at once on a cluster of this machine; None for one per core.

    Raises:
      ConfigError: if the address does not answer within `CONNECT_SECONDS`.
    """
    require_ray()
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    address = cluster_address(given)
    flag = f"--ray-address {address}" if given else f"RAY_ADDRESS={address}"
    if address == "local":
        flag = "--on ray"
    options: dict[str, Any] = {
        "address": address,
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "include_dashboard": False,
        "configure_logging": True,
    }
    if address == "local":
        wanted = default_jobs() if jobs is None else math.ceil(jobs * cores_per_trial)
        options |= {"num_cpus": max(1, wanted), "object_store_memory": OBJECT_STORE_BYTES}
    else:
        del options["include_dashboard"]
        _require_answer(flag, address)
    import ray

    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError, AssertionError, OSError) as error:
        raise ConfigError(
            f"{flag}: Ray does not start ({first_line(error)}); see `ray status`, and docs/many_machines.md"
        ) from error
    return ray


def require_room(ray: Any, given: str | None, cpus: float, gpus: float) -> None:
    """Refuses trials for which a cluster of this machine, which no node joins, has no room.

    Raises:
      ConfigError: names the flag.
    """
    if cluster_address(given) != "local":
        return  # nodes may join, and a cluster may grow on demand
    there = ray.cluster_resources()
    for flag, wanted, name, what in (
        ("--cpus-per-trial", cpus, "CPU", "cores"),
        ("--gpus-per-trial", gpus, "GPU", "GPUs"),
    ):
        if wanted > there.get(name, 0.0):
            raise ConfigError(
                f"{flag} {wanted:g}: the cluster of this machine has {there.get(name, 0.0):g} {what}; give at most that"
            )


def _require_answer(flag: str, address: str) -> None:
    """Refuses an address at which no head of a cluster answers, before Ray itself waits for it.

    Raises:
      ConfigError: names the address and what to do.
    """
    if address.startswith("ray://"):
        raise ConfigError(
            f"{flag}: this machine must be a node of the cluster, because results are sent to it; run the command on a "
            "node, and give HOST:PORT or auto"
        )
    deadline = time.monotonic() + CONNECT_SECONDS
    if address != "auto":
        _require_listener(flag, address)
    # In a process of its own: Ray's client waits for minutes, or ends its process.
    probe = [sys.executable, "-P", "-m", "ray.scripts.scripts", "health-check"]
    if address != "auto":  # Ray finds that of this machine, of a head that has ended as well
        probe += ["--address", address]
    try:
        found = subprocess.run(
            probe,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=max(1.0, deadline - time.monotonic()),
            check=False,
        )
    except subprocess.TimeoutExpired:
        _refuse(flag, f"no answer within {CONNECT_SECONDS:.0f} s")
    if found.returncode:
        lines = found.stderr.decode(errors="replace").strip().splitlines() or ["it is no head of a cluster"]
        _refuse(flag, lines[-1][:200])


def _require_listener(flag: str, address: str) -> None:
    """Refuses an address at which nothing listens."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(f"{flag}: must be HOST:PORT of the cluster's head, such as 10.0.0.2:6379, or auto")
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS / 2).close()
    except OSError as error:
        _refuse(flag, str(error.strerror or error))


def _refuse(flag: str, reason: str) -> NoReturn:
    raise ConfigError(
        f"{flag}: no Ray cluster answers there ({reason}); start its head with `ray start --head`, or leave the address "
        "out for a cluster of this machine"
    )
