"""Compiled methods that are released with their object."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax


class jitted:  # noqa: N801 - used as a decorator
    """Compiles a method once for each object, as `jax.jit` does a function.

    `jax.jit(static_argnums=0)` on a method keeps every object that it was called with, and its
    programs, for as long as the process lives. Here the compiled function belongs to the object.

    Args:
      donate_argnums: as for `jax.jit`; `self` is not counted.
    """

    def __init__(self, donate_argnums: int | tuple[int, ...] = ()) -> None:
        self._donate_argnums = donate_argnums
        self._function: Callable[..., Any] | None = None
        self._name = ""

    def __call__(self, function: Callable[..., Any]) -> Any:
        """Wraps the method."""
        self._function = function
        self.__doc__ = function.__doc__
        return self

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        assert self._function is not None
        method = functools.partial(self._function, instance)
        functools.update_wrapper(method, self._function)
        compiled = jax.jit(method, donate_argnums=self._donate_argnums)
        instance.__dict__[self._name] = compiled  # found before the descriptor from now on
        return compiled
