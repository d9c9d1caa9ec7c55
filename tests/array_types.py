"""Checks the array types of the package's functions while tests run, with jaxtyping and beartype."""

from __future__ import annotations

import functools
import inspect
import operator
import threading
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jaxtyping
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


class UnknownValueError(Exception):
    """A value whose type check depends on more than `signature_of` knows."""


def signature_of(value: Any) -> Any:
    """Returns all that a check of array types reads of a value: its class, shapes and dtypes.

    Raises:
      UnknownValueError: if the value is of a class that may hold more.
    """
    if isinstance(value, jax.Array):
        return value.shape, value.dtype
    if isinstance(value, (np.ndarray, np.generic)):
        return type(value), value.shape, value.dtype
    kind = type(value)
    if kind in (bool, int, float, complex, type(None)):
        return kind
    if kind is str:
        return kind, value
    if isinstance(value, (tuple, list)):
        return kind, *map(signature_of, value)
    if kind is dict:
        return kind, tuple(value), *map(signature_of, value.values())
    raise UnknownValueError


def is_sampled(hint: Any) -> bool:
    """Returns whether a hint holds arrays in a container of which beartype checks an element drawn at random."""
    if getattr(hint, "__module__", None) == "jaxtyping" or not has_arrays(hint):
        return False
    parts = typing.get_args(hint)
    whole = typing.get_origin(hint) in (typing.Union, types.UnionType, tuple) and Ellipsis not in parts
    return not whole or any(map(is_sampled, parts))


def resolved(hint: Any, names: dict[str, Any]) -> Any:
    """Returns a hint that may be a string, and `Any` where a name in it is unknown, as jaxtyping does."""
    try:
        return typing.get_type_hints(types.SimpleNamespace(__annotations__={"hint": hint}), names)["hint"]
    except (AttributeError, NameError, SyntaxError, TypeError):
        return Any


def jaxtyped_once(typechecker: Any = None) -> Callable[..., Any]:
    """Returns `jaxtyping.jaxtyped`, with each combination of shapes and dtypes checked once per function.

    Tracing calls the same functions thousands of times with the same types, and a check takes
    longer than most of them. What a check finds depends on the types of arguments and result alone.
    """
    whole = _jaxtyped(typechecker=typechecker)

    def decorate(function: Any) -> Any:
        return remembered(function, whole) if isinstance(function, types.FunctionType) else whole(function)

    return decorate


def remembered(function: Callable[..., Any], whole: Callable[..., Any]) -> Callable[..., Any]:
    """Checks a function by the decorator `whole` unless its types have been found to be right."""
    plain = inspect.signature(function)
    parameters = [
        parameter.replace(annotation=resolved(parameter.annotation, function.__globals__))
        for parameter in plain.parameters.values()
    ]
    result = resolved(plain.return_annotation, function.__globals__)
    hints = {parameter.name: parameter.annotation for parameter in parameters}
    arrays = {name for name, hint in hints.items() if has_arrays(hint)}
    if not arrays and not has_arrays(result):
        return function  # `checked` has nothing to check
    checked_hints = [*hints.values(), result]
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    if any(p.kind in several for p in parameters if p.name in arrays) or any(map(is_sampled, checked_hints)):
        return whole(function)
    if "{" in " ".join(map(str, checked_hints)):
        return whole(function)  # dimensions that depend on values

    indices = [index for index, parameter in enumerate(parameters) if parameter.name in arrays]
    returned, has_result = threading.local(), has_arrays(result)

    def again(*args: Any, **kwargs: Any) -> Any:
        return returned.value

    again.__signature__ = plain.replace(parameters=parameters, return_annotation=result)  # pyright: ignore
    check_result, check, passed = whole(again), whole(function), dict[Any, set[Any]]()

    @functools.wraps(function)
    def quick(*args: Any, **kwargs: Any) -> Any:
        try:
            given = [signature_of(args[index]) for index in indices if index < len(args)]
            given += [(name, signature_of(value)) for name, value in kwargs.items() if name in arrays]
        except UnknownValueError:
            return check(*args, **kwargs)
        key = tuple(given)
        known = passed.get(key)
        value = check(*args, **kwargs) if known is None else function(*args, **kwargs)
        try:
            found = signature_of(value) if has_result else None
        except UnknownValueError:
            found = returned  # no signature: never known
        if known is None:
            known = passed.setdefault(key, set())
        elif found not in known:
            returned.value = value
            check_result(*args, **kwargs)
        if found is not returned:
            known.add(found)
        return value

    return quick


_jaxtyped = jaxtyping.jaxtyped


def install() -> None:
    """Checks every function of `modules` from its import on."""
    jaxtyping.jaxtyped = jaxtyped_once  # by this name the hook decorates functions
    install_import_hook(modules(), "tests.array_types.checked")
