"""One compiled program per function under test.

Called without `jit`, each operation of a function is a program of its own for each shape, and a loop is compiled at each
call. A test that calls such a function a few times spends nearly all of its time there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax


@functools.cache
def jitted(function: Callable[..., Any], *static: int) -> Callable[..., Any]:
    """Returns the compiled function, the same one for the same function or method of the same object.

    Args:
      static: positions of arguments that are no arrays.
    """
    return jax.jit(function, static_argnums=static)
