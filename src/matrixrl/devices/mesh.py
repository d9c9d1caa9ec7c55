"""The devices that a run is spread over: a mesh of one axis, `data`, along which environments or games lie."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from matrixrl.config import ConfigError

DATA = "data"

MIN_GROUPS = 8
"""Work is cut into so many groups where it can be, so that up to so many devices give the same results."""


def max_groups() -> int:
    """The groups to cut work into where its size allows: a power of two, at least one for each device there is."""
    return max(MIN_GROUPS, 1 << (jax.device_count() - 1).bit_length())


def data_mesh(wanted: int | None, parts: int, what: str) -> Mesh | None:
    """A mesh over some of the devices there are; None for one device, which needs none.

    Args:
      wanted: how many devices; None takes as many as there are and as `parts` allows.
      parts: pieces that the work is cut into; the number of devices has to divide it.
      what: the pieces in words, such as "groups of environments".

    Raises:
      ConfigError: there are fewer devices, or their number does not divide the pieces.
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
    """Sharding of arrays whose axis after `before` lies along the devices; None without a mesh."""
    return None if mesh is None else NamedSharding(mesh, PartitionSpec(*before, DATA))


def replicated(mesh: Mesh | None) -> NamedSharding | None:
    """Sharding of arrays that every device holds whole; None without a mesh."""
    return None if mesh is None else NamedSharding(mesh, PartitionSpec())


def placed_shapes(shapes: Any, sharding: NamedSharding | None) -> Any:
    """A tree of shapes and types, each with the sharding: what a checkpoint is restored by."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes)
