"""One compilation cache for all tests of a worker and the processes they start: equal programs compile once."""

from __future__ import annotations

import os

import pytest


def pytest_configure(config: pytest.Config) -> None:
    # A folder per worker: two processes that write one entry at once can read each other's half.
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ and hasattr(config, "cache"):
        assert config.cache is not None
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(config.cache.mkdir(f"jax-{worker}"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
