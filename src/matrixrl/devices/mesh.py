"""Mesh of the devices of a run: one axis, `data`, over which environments or games are sharded."""

from __future__ import annotations

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from matrixrl.config import ConfigError

DATA = "data"

MIN_GROUPS = 8
"""Number of groups that work is cut into if possible, so that up to this many devices give the same
results.
"""


def max_groups() -> int:
    """Returns the maximum number of groups: a power of two, at least one for each device."""
    return max(MIN_GROUPS, 1 << (jax.device_count() - 1).bit_length())


def data_mesh(wanted: int | None, parts: int, what: str) -> Mesh | None:
    """Builds a mesh over some of the devices; None for one device, which needs none.

    Args:
      wanted: number of devices; None takes the largest number that `parts` allows.
      parts: number of pieces of the work; the number of devices must divide it.
      what: the pieces in words, such as "groups of environments".

    Raises:
      ConfigError: if there are fewer devices, or their number does not divide the pieces.
    """
    devices = jax.devices()
    if wanted is None:
        wanted = max(n for n in range(1, len(devices) + 1) if parts % n == 0)
    if wanted > len(devices):
        raise ConfigError(
            f"--devices {wanted}: this machine shows {len(devices)}; leave the flag out to use all of them"
        )
    if parts % wanted:
        fitting = [n for n in range(1, len(devices) + 1) if parts % n == 0]
        raise ConfigError(
            f"--devices {wanted}: does not divide the {parts} {what}; possible here: {', '.join(map(str, fitting))}"
        )
    if wanted < len(devices) and jax.process_count() > 1:
        raise ConfigError(
            f"--devices {wanted}: {jax.process_count()} processes have {len(devices)} devices, which all take part; make the "
            f"{parts} {what} a multiple of them, or start fewer processes"
        )
    return Mesh(np.array(devices[:wanted]), (DATA,)) if wanted > 1 else None


def along_data(mesh: Mesh | None, *before: None) -> NamedSharding | None:
    """Returns the sharding of arrays whose axis after `before` is split over the devices; None
    without a mesh.
    """
    return None if mesh is None else NamedSharding(mesh, PartitionSpec(*before, DATA))


def replicated(mesh: Mesh | None) -> NamedSharding | None:
    """Returns the sharding of arrays that are replicated on every device; None without a mesh."""
    return None if mesh is None else NamedSharding(mesh, PartitionSpec())
