"""Settings of JAX that the programs here rely on, whatever the environment or the surrounding
program asks for.

Scientific code often switches JAX to 64 bits or to strict promotion for its own sake. The programs
here are written for the standard settings: states of 32 bits or less, and NumPy's promotion. Random
numbers follow from the seed alone, so that a run can be resumed in another environment. NaNs are
found by the trainers, which return to a checkpoint. A command runs with those settings, and puts
back what it found.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from matrixrl.config import ConfigError

STANDARD: dict[str, Any] = {
    "jax_enable_x64": False,
    "jax_numpy_dtype_promotion": "standard",
    "jax_numpy_rank_promotion": "allow",
    "jax_transfer_guard": "allow",
    "jax_transfer_guard_host_to_device": "allow",
    "jax_transfer_guard_device_to_device": "allow",
    "jax_transfer_guard_device_to_host": "allow",
    "jax_check_tracer_leaks": False,
    "jax_debug_key_reuse": False,
    "jax_debug_nans": False,
    "jax_debug_infs": False,
    "jax_disable_jit": False,
    "jax_no_tracing": False,
    "jax_default_prng_impl": "threefry2x32",
    "jax_enable_custom_prng": False,
    "jax_threefry_partitionable": True,
    "jax_legacy_prng_key": "allow",
    "jax_random_seed_offset": 0,
}
"""Settings by name with the values that a command needs. The environment variable of each is its
name in capitals.
"""


@contextmanager
def standard_jax_settings() -> Iterator[None]:
    """Runs a block under the standard settings of JAX, loaded or not yet, and restores the settings
    of JAX afterwards.

    It removes the environment variables that set others; `restored_environment` puts them back.

    Raises:
      ConfigError: if an environment variable has a value that JAX refuses when it is loaded.
    """
    variables = {name.upper(): os.environ[name.upper()] for name in STANDARD if name.upper() in os.environ}
    before = _current() if "jax" in sys.modules else None
    for variable in variables:
        del os.environ[variable]
    if before is not None:
        _update(STANDARD)
    try:
        yield
    except ValueError as error:
        if not _is_refused_variable(error):
            raise
        raise ConfigError(
            f"JAX cannot read a JAX_... environment variable ({error}); correct it or unset it"
        ) from error
    finally:
        if before is None and "jax" in sys.modules and variables:
            before = {name.lower(): _parsed(name, value) for name, value in variables.items()}
        if before is not None:
            _update(before)


@contextmanager
def restored_environment(prefixes: tuple[str, ...] = ("",)) -> Iterator[None]:
    """Restores the environment variables of the process when the block ends.

    Args:
      prefixes: only variables whose names start with one of these. Other threads of a program may
        set variables of their own meanwhile.
    """
    environment = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - environment.keys():
            if name.startswith(prefixes):
                del os.environ[name]
        for name, value in environment.items():
            if name.startswith(prefixes) and os.environ.get(name) != value:
                os.environ[name] = value


def _is_refused_variable(error: ValueError) -> bool:
    """Returns whether JAX's settings raised it, which read the environment when JAX is loaded."""
    frames = traceback.extract_tb(error.__traceback__)
    modules = [Path(frame.filename).parts[-3:] for frame in frames]
    return ("jax", "_src", "config.py") in modules and any(frame.name == "<module>" for frame in frames[-3:])


def _current() -> dict[str, Any]:
    import jax

    return {name: getattr(jax.config, name) for name in STANDARD if hasattr(jax.config, name)}


def _update(settings: dict[str, Any]) -> None:
    import jax

    for name, value in settings.items():
        if hasattr(jax.config, name) and getattr(jax.config, name) != value:
            jax.config.update(name, value)


def _parsed(variable: str, text: str) -> Any:
    """Returns the value that JAX reads from an environment variable."""
    standard = STANDARD[variable.lower()]
    if isinstance(standard, bool):
        return text.lower() in ("1", "y", "yes", "t", "true", "on")
    if isinstance(standard, int):
        return int(text) if text.strip("+-").isdecimal() else standard
    return text
