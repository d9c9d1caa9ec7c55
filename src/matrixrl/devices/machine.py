"""The machine a run is on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import jax
import jax.numpy as jnp


def compute_dtype(precision: str) -> Any:
    """What networks compute their products in: bfloat16 where it was asked for, except on a CPU, which is slower at it.

    Returns:
      A type for flax's `dtype`; None stands for float32.
    """
    return jnp.bfloat16 if precision == "bfloat16" and jax.default_backend() != "cpu" else None


def describe_machine() -> dict[str, str | int]:
    """Devices and versions, for a run's config."""
    device = jax.devices()[0]
    record: dict[str, str | int] = {
        "device_type": device.device_kind,
        "device_count": jax.device_count(),
        "backend": jax.default_backend(),
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
    for package in ("jax", "jaxlib", "flax", "optax", "mctx", "numpy", "matrixrl"):
        try:
            record[f"version_{package}"] = version(package)
        except PackageNotFoundError:
            continue
    return record
