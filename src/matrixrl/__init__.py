"""Reinforcement learning on JAX: matrix-multiplication algorithms, HackMatrix, and PPO on any
environment.

The public functions are documented in `matrixrl.api`. They are loaded when they are first used:
`import matrixrl` is quick, and loads neither JAX nor NumPy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Readers of runs and checkpoints look systems up by name; this makes them known, and loads none.
import matrixrl.systems.spec as _systems  # noqa: F401

if TYPE_CHECKING:
    from matrixrl.api import (
        Agent,
        ConfigError,
        Discovery,
        Run,
        TrainingError,
        TrainingSettings,
        dashboard,
        discover,
        hackmatrix,
        load,
        matmul,
        open,
        ppo,
        train,
    )

__all__ = [
    "Agent",
    "ConfigError",
    "Discovery",
    "Run",
    "TrainingError",
    "TrainingSettings",
    "__version__",
    "dashboard",
    "discover",
    "hackmatrix",
    "load",
    "matmul",
    "open",
    "ppo",
    "train",
]


def __getattr__(name: str) -> Any:
    """Returns a public name of `matrixrl.api`, loaded at its first use."""
    if name in __all__:
        value = getattr(importlib.import_module("matrixrl.api"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Returns the public names, loaded or not."""
    return sorted({*globals(), *__all__})
