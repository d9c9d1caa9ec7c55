"""Settings of JAX that the programs here rely on, whatever the environment or the surrounding program asks for.

Scientific code often switches JAX to 64 bits or to strict promotion for its own sake. The programs here are written
for the standard settings: states of 32 bits or less, and NumPy's promotion. A command runs with those, and puts back
what it found.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

STANDARD: dict[str, Any] = {
    "jax_enable_x64": False,
    "jax_numpy_dtype_promotion": "standard",
    "jax_numpy_rank_promotion": "allow",
    "jax_transfer_guard": "allow",
    "jax_check_tracer_leaks": False,
    "jax_debug_key_reuse": False,
}
"""Settings by name with the values that a command needs. The environment variable of each is its name in capitals."""


@contextmanager
def standard_jax_settings() -> Iterator[None]:
    """Runs a block under the standard settings of JAX, loaded or not yet, and restores the others afterwards."""
    variables = {name.upper(): os.environ[name.upper()] for name in STANDARD if name.upper() in os.environ}
    before = _current() if "jax" in sys.modules else None
    for variable in variables:
        del os.environ[variable]
    if before is not None:
        _update(STANDARD)
    try:
        yield
    finally:
        os.environ.update(variables)
        if before is None and "jax" in sys.modules and variables:
            before = {name.lower(): _parsed(name, value) for name, value in variables.items()}
        if before is not None:
            _update(before)


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
    if isinstance(STANDARD[variable.lower()], bool):
        return text.lower() in ("1", "y", "yes", "t", "true", "on")
    return text
