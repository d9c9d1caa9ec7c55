"""Checks the array types of the package's functions while tests run, with jaxtyping and beartype."""

from __future__ import annotations

import functools
import operator
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from beartype import BeartypeConf, beartype
from jaxtyping import PyTree, install_import_hook

SOURCE = Path(__file__).resolve().parents[1] / "src"
PACKAGES = ("envs", "networks", "search", "agents", "systems")  # declare their arrays
CHECKED = PACKAGES[:-1]  # of systems, the parts of the other packages are checked

# Plain Python that runs for a few microseconds per call, many thousand times: a check takes longer than the call.
UNCHECKED = ("matrixrl.envs.hackmatrix.referee",)

_check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float, as type checkers see it


def modules() -> list[str]:
    """Returns the modules whose functions are checked."""
    found = []
    for package in CHECKED:
        for path in sorted((SOURCE / "matrixrl" / package).rglob("*.py")):
            name = ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
            if "from jaxtyping import" in path.read_text() and not name.startswith(UNCHECKED):
                found.append(name)
    return found


def has_arrays(hint: Any) -> bool:
    """Returns whether a type hint contains an array type that is checked at run time."""
    if getattr(hint, "__module__", None) == "jaxtyping":
        return True
    return any(has_arrays(part) for part in typing.get_args(hint) if not isinstance(part, list))


def with_numpy(hint: Any) -> Any:
    """Returns a hint in which every array may be NumPy's: it becomes JAX's in the first operation."""
    if getattr(hint, "__module__", None) == "jaxtyping":
        if hasattr(hint, "leaftype"):
            return PyTree[with_numpy(hint.leaftype)]
        if getattr(hint, "array_type", None) is jax.Array:
            return hint.dtype[jax.Array | np.ndarray | np.generic, hint.dim_str]
        return hint
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if not has_arrays(hint):
        return hint
    if origin in (typing.Union, types.UnionType):
        return functools.reduce(operator.or_, map(with_numpy, parts))
    return origin[tuple(map(with_numpy, parts))]


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Checks the arguments and results of a function that have array types, and nothing else.

    Other hints are the concern of pyright: beartype would refuse protocols, and the objects with
    which tests replace parts.
    """
    hints = {name: with_numpy(hint) for name, hint in function.__annotations__.items() if has_arrays(hint)}
    function.__annotations__ = hints
    return _check(function) if hints else function


def install() -> None:
    """Checks every function of `modules` from its import on."""
    install_import_hook(modules(), "tests.array_types.checked")
