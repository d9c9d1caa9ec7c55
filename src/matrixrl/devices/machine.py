"""The machine a run is on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import jax


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
