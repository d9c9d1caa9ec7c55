"""Description of the machine of a run."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import jax
import jax.numpy as jnp

from matrixrl.config import ConfigError
from matrixrl.errors import first_line


def compute_dtype(precision: str) -> Any:
    """Returns the type of the networks' products: bfloat16 if requested, except on a CPU, where it
    is slower.

    Returns:
      A type for flax's `dtype`; None means float32.
    """
    return jnp.bfloat16 if precision == "bfloat16" and jax.default_backend() != "cpu" else None


def require_backend() -> None:
    """Starts JAX's backend.

    Raises:
      ConfigError: if JAX cannot use the platform that JAX_PLATFORMS names.
    """
    try:
        jax.devices()
    except (
        RuntimeError,
        AssertionError,
    ) as error:  # an unknown platform, or one whose plugin is not installed
        older = os.environ.get("JAX_PLATFORM_NAME", "")
        name = "JAX_PLATFORM_NAME" if older and older in str(error) else "JAX_PLATFORMS"
        platforms = os.environ.get(name, "")
        reason = f" ({first_line(error).partition(': ')[0]})" if str(error) else ""
        raise ConfigError(
            f"{name}={platforms}: JAX cannot use this here{reason}; unset it, name an installed one such as cpu, or "
            "install the accelerator's package (README, Installing)"
        ) from error


def describe_machine() -> dict[str, str | int]:
    """Returns devices and versions, for a run's config."""
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
