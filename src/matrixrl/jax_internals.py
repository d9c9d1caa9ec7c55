"""Every use of JAX's private modules.

JAX offers no public way to what these functions do. `tests/test_jax_internals.py` checks them
against the pinned version, and that no other module imports `jax._src`. Every layer may import this
module; it loads JAX when a function is called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def backends_are_initialized() -> bool:
    """Returns whether JAX has been used in this process, without using it."""
    from jax._src import xla_bridge

    return xla_bridge.backends_are_initialized()


def coordinator_address() -> str:
    """Returns the address of process 0 that JAX detected; "" if there is none."""
    from jax._src import distributed

    return distributed.global_state.coordinator_address or ""


def wrap_cache_put(wrap: Callable[[Callable[..., None]], Callable[..., None]]) -> None:
    """Replaces the function that writes an entry of JAX's compilation cache, once.

    A JAX version with a different cache is not changed.

    Args:
      wrap: returns the replacement; it must set `__wrapped__` to the original, as `functools.wraps`
        does.
    """
    cache = _cache_class()
    put = getattr(cache, "put", None)
    if put is not None and not hasattr(put, "__wrapped__"):
        setattr(cache, "put", wrap(put))  # noqa: B010 - the class is not typed


def restore_cache_put() -> None:
    """Puts back the function that `wrap_cache_put` replaced."""
    cache = _cache_class()
    original = getattr(getattr(cache, "put", None), "__wrapped__", None)
    if original is not None:
        setattr(cache, "put", original)  # noqa: B010 - the class is not typed


def _cache_class() -> Any:
    try:
        from jax._src.lru_cache import LRUCache
    except ImportError:
        return None
    return LRUCache
