"""The machine a run is on, and the cache that spares it compiling twice."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import jax


def use_compilation_cache() -> Path | None:
    """Switch on JAX's persistent compilation cache in the user's cache folder.

    JAX_COMPILATION_CACHE_DIR names another folder; JAX_ENABLE_COMPILATION_CACHE=false leaves it off.

    Returns:
      The folder in use, or None when there is none.
    """
    named = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(named) if named else home / "matrixrl" / "jax"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None  # a read-only home is no reason not to train
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    return folder


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
