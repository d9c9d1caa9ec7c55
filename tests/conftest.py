"""One compilation cache for all tests and the processes they start: equal programs compile once."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# Most tests compile large programs to run them for a moment. The elemental emitters take half as long to compile as
# the fusion emitters, and one module of LLVM less than one for each of up to 32 cores. `XLA_FLAGS= make test` runs all
# tests with the code that users run.
QUICK_CODE_GENERATION = (
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
    " --xla_cpu_parallel_codegen_split_count=1"
)


# Tracing makes millions of objects that stay: to look through them all again and again takes a tenth of the time.
gc.set_threshold(200_000, 50, 1_000)

# How long an example takes says nothing about the code on a busy machine.
settings.register_profile("matrixrl", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("matrixrl")


def prepare() -> None:
    """Sets what JAX reads when it is imported, then checks array types from the first import of the package on.

    Done when this file is imported: conftest files of folders that the command line names are imported before
    `pytest_configure` is called.
    """
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("XLA_FLAGS", QUICK_CODE_GENERATION)  # an empty one stays
    from tests.array_types import install

    install()


prepare()


def pytest_configure(config: pytest.Config) -> None:
    import jax

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ and hasattr(config, "cache"):
        assert config.cache is not None
        # The workers, and the processes that tests start, share the folder.
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(config.cache.mkdir("jax"))
        jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
    from matrixrl.devices.compilation_cache import write_entries_whole

    write_entries_whole()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    from tests.distribution import rank

    items.sort(key=lambda item: rank(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from tests.distribution import scheduler

    return scheduler(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, Any, Any]:
    began = time.time()
    try:
        return (yield)
    except BaseException:
        from tests.left_processes import end_processes

        end_processes(began)
        raise
