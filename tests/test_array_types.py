"""Shapes are types: every public function that takes or returns arrays declares them, and the tests check them."""

from __future__ import annotations

import ast
import builtins
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from jaxtyping import Float32

from matrixrl.agents.returns import gae
from matrixrl.envs.base import Box
from matrixrl.envs.hackmatrix import lists
from matrixrl.envs.matmul.finite_fields import Echelon
from matrixrl.networks.torso import ResidualMLP
from tests.array_types import PACKAGES, SOURCE, checked, jaxtyped_once, modules

TYPES = {name for name in dir(jaxtyping) if name[0].isupper()}
ARRAYS = ("Array", "jax.Array", "np.ndarray")

# Names that stand for arrays in every function of these packages.
ARRAY_NAMES = {
    "action", "actions", "bits", "good_costs", "key", "keys", "legal", "log_probs", "logits", "mask",
    "num_moves", "observation", "observations", "opt_state", "params", "residual", "reward", "target", "tokens", "words",
}  # fmt: skip

# Functions whose arrays have no type that could be checked, by reason.
EXCEPTIONS = {
    # The caller's value is checked by hand, and a wrong one is refused with a message for people.
    "envs.hackmatrix.env.HackMatrix.step",
    "envs.hackmatrix.env.HackMatrix.step_env",
    "envs.hackmatrix.env.HackMatrix.observe",
    "envs.hackmatrix.gymnasium_env.HackMatrixVectorEnv.step",
    "envs.hackmatrix.gymnasium_spaces.MaskableDiscrete.sample",
    "envs.hackmatrix.gymnasium_spaces.MaskableMultiDiscrete.sample",
    # A user's network or environment: its arrays are checked where it is loaded.
    "systems.ppo.loading.UserNetwork.init",
    "systems.ppo.loading.UserNetwork.apply",
}

# NumPy on the host, of the shapes and types that a user's environment declares; the worker is a script without jaxtyping.
HOST_MODULES = ("envs.adapters.gymnasium", "envs.adapters.gymnasium_worker")
COMPILED_BY_NUMBA = "search.flip_graph."
"""Rows of bit masks, uint64 [rank, 3, words], throughout; numba infers the types of its kernels."""


def public_functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    """Yields the public functions and methods, with `__call__`, of the packages."""

    def of(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, ast.FunctionDef]]:
        for node in body:
            name = f"{prefix}.{getattr(node, 'name', '')}"
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield from of(node.body, name)
            elif isinstance(node, ast.FunctionDef) and (
                node.name == "__call__" or not node.name.startswith("_")
            ):
                yield name, node

    for package in PACKAGES:
        for path in sorted((SOURCE / "matrixrl" / package).rglob("*.py")):
            module = ".".join(path.relative_to(SOURCE / "matrixrl").with_suffix("").parts)
            if module not in HOST_MODULES and not module.startswith(COMPILED_BY_NUMBA):
                yield from of(ast.parse(path.read_text()).body, module)


def bare_arrays(hint: ast.expr) -> list[str]:
    """Returns the array classes of a hint without dtype and dimensions; those of callables are their own concern."""
    if ast.unparse(hint) in ARRAYS:
        return [ast.unparse(hint)]
    if isinstance(hint, ast.Subscript) and ast.unparse(hint.value).split(".")[-1] in {*TYPES, "Callable"}:
        return []
    return [
        name
        for part in ast.iter_child_nodes(hint)
        if isinstance(part, ast.expr)
        for name in bare_arrays(part)
    ]


def faults(function: ast.FunctionDef) -> list[str]:
    """Returns what is missing in the types of a function."""
    arguments = function.args
    found = []
    for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]:
        if argument.arg in ("self", "cls"):
            continue
        if argument.annotation is None:
            found.append(f"{argument.arg} has no type")
        elif bare_arrays(argument.annotation):
            found.append(f"{argument.arg}: {ast.unparse(argument.annotation)} has no dtype and dimensions")
        elif argument.arg in ARRAY_NAMES and ast.unparse(argument.annotation) in (
            "Any",
            "Any | None",
            "object",
        ):
            found.append(f"{argument.arg}: Any says nothing; write PyTree for a tree of any structure")
    if function.returns is None:
        found.append("the result has no type")
    elif bare_arrays(function.returns):
        found.append(f"the result {ast.unparse(function.returns)} has no dtype and dimensions")
    return found


def test_public_functions_declare_their_arrays() -> None:
    found = {name: faults(function) for name, function in public_functions() if name not in EXCEPTIONS}
    assert not {name: missing for name, missing in found.items() if missing}


def test_names_of_types_are_imported() -> None:
    # jaxtyping reads a type with an unknown name as Any, without a word.
    unknown = set()
    for name in modules():
        module = importlib.import_module(name)
        for node in ast.walk(ast.parse(Path(str(module.__file__)).read_text())):
            hints: list[ast.expr | None] = []
            if isinstance(node, ast.FunctionDef):
                hints = [
                    node.returns,
                    *(
                        argument.annotation
                        for argument in ast.walk(node.args)
                        if isinstance(argument, ast.arg)
                    ),
                ]
            elif isinstance(node, ast.AnnAssign):
                hints = [node.annotation]
            names = {
                part.id
                for hint in hints
                if hint is not None
                for part in ast.walk(hint)
                if isinstance(part, ast.Name)
            }
            unknown |= {
                f"{name}: {word}"
                for word in names
                if not hasattr(module, word) and not hasattr(builtins, word)
            }
    assert not unknown


def test_every_exception_is_a_function_that_needs_it() -> None:
    functions = dict(public_functions())
    assert not {name for name in EXCEPTIONS if name not in functions or not faults(functions[name])}


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("def f(x: Array) -> None: ...", 1),
        ("def f(x: jax.Array | None) -> np.ndarray: ...", 2),
        ("def f(x) -> tuple[Array, int]: ...", 2),
        ("def f(params: Any): ...", 2),
        (
            'def f(x: Float32[Array, "B"], make: Callable[[Array], Array]) -> dict[str, Int32[np.ndarray, "B"]]: ...',
            0,
        ),
        ("def f(self, params: PyTree, size: Any) -> int: ...", 0),
    ],
)
def test_missing_types_are_found(source: str, count: int) -> None:
    (function,) = ast.parse(source).body
    assert isinstance(function, ast.FunctionDef)
    assert len(faults(function)) == count


def test_a_wrong_dtype_is_refused() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="length"):
        lists.length(jnp.zeros((36, 2), jnp.int32))


def test_dimensions_of_one_name_agree() -> None:
    steps, flags = jnp.zeros((3, 2)), jnp.zeros((3, 2), bool)
    gae(steps, steps, flags, flags, steps, jnp.zeros(2), 0.9, 1)
    with pytest.raises(jaxtyping.TypeCheckError, match="last_value"):
        gae(steps, steps, flags, flags, steps, jnp.zeros(3), 0.9, 1)


def test_traced_and_mapped_functions_are_checked() -> None:
    words = jnp.zeros((5, 36, 2), jnp.uint32)
    assert jax.jit(jax.vmap(lists.length))(words).shape == (5, 2)
    with pytest.raises(jaxtyping.TypeCheckError):
        jax.jit(jax.vmap(lists.length))(words.astype(jnp.float32))


def test_modules_of_networks_are_checked() -> None:
    torso = ResidualMLP(width=2, num_blocks=0)
    with pytest.raises(jaxtyping.TypeCheckError, match="features"):
        torso.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32))


def test_methods_are_checked() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="key"):
        Box(0.0, 1.0, (2,)).sample(jnp.zeros(3))


def test_properties_are_checked() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="return"):
        Echelon(rows=(), lows=()).rank  # noqa: B018


def test_arrays_of_numpy_are_accepted() -> None:
    assert lists.length(np.zeros((36, 2), np.uint32)).shape == (2,)  # pyright: ignore[reportArgumentType]


def test_types_that_were_right_are_not_checked_again_and_others_are() -> None:
    """Each combination of types is checked once; a wrong one is refused after right ones, and again."""
    checks: list[str] = []

    def scaled(
        x: Float32[jax.Array, "B"], other: tuple[Float32[jax.Array, "B"], Float32[jax.Array, "B"]], shape: Any
    ) -> Float32[jax.Array, "B"]:
        return jnp.zeros(shape)

    def counting() -> Any:
        def typechecker(function: Any) -> Any:
            check = checked(function)

            def counted(*args: Any, **kwargs: Any) -> Any:
                checks.append(function.__name__)
                return check(*args, **kwargs)

            return counted

        return jaxtyped_once(typechecker)

    function = counting()(scaled)
    two, three = jnp.zeros(2), jnp.zeros(3)
    function(two, (two, two), 2)
    first = len(checks)
    assert first > 0
    for _ in range(3):
        function(two, (two, two), 2)
    assert len(checks) == first
    for wrong in (
        (two, (two, three), 2),
        (two, (two, two), 3),
        (two, (two, 1), 2),
        (two.astype(int), (two, two), 2),
    ):
        for _ in range(2):
            with pytest.raises(jaxtyping.TypeCheckError):
                function(*wrong)
    checks.clear()
    function(three, (three, three), shape=3)
    assert checks
