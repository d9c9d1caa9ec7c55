"""The layout is the architecture: imports run one way (docs/architecture.md lists the layers)."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from matrixrl.systems.spec import BUILT_IN

SOURCE = Path(__file__).resolve().parents[1] / "src" / "matrixrl"

# Modules that every layer may import. They import nothing of the project.
COMMON = (
    "config",
    "types",
    "user_code",
    "user_files",
    "errors",
    "jax_internals",
    "run_layout",
    "whole_files",
)

# What each package may import from this project, besides itself and `COMMON`.
ALLOWED: dict[str, set[str]] = {
    "__main__": set(),
    **{name: set[str]() for name in COMMON},
    "config": {"schemes"},
    "presets": set(),
    "schemes": set(),
    "envs": set(),
    "networks": set(),
    "devices": set(),
    "tracking": set(),
    "search": {"envs.base", "networks"},
    "checkpoints": {"devices"},
    "agents": {"search", "networks", "envs.base"},
    # The plain Python game of HackMatrix, its scenarios and its words, which load no JAX.
    "dashboard": {
        "tracking", "schemes", "envs.hackmatrix.referee", "envs.hackmatrix.scenario", "envs.hackmatrix.render",
        "envs.hackmatrix.keyed_draws",
    },
    "training": {"checkpoints", "devices", "tracking"},
    "systems": {
        "training", "agents", "checkpoints", "devices", "tracking", "envs", "networks", "search", "schemes", "presets",
    },
    "cli": {
        "systems", "training", "agents", "checkpoints", "devices", "tracking", "envs", "networks", "search", "schemes",
        "dashboard", "presets",
    },
    # The Python interface is a second way to run the commands, and may see all.
    "api": {
        "cli", "systems", "training", "agents", "checkpoints", "devices", "tracking", "envs", "networks", "search",
        "schemes", "dashboard", "presets",
    },
}  # fmt: skip

# A system does not import another, except that hackmatrix builds on ppo.
SYSTEMS_BELOW = {"matmul": set[str](), "ppo": set[str](), "hackmatrix": {"ppo"}}

# Named games must not know one another.
SEPARATE_GAMES = ("envs.matmul", "envs.hackmatrix")

# Generic layers know systems by their specs alone, in prose too.
GENERIC = ("tracking", "checkpoints", "devices", "training", "networks", "search")

# Packages that must answer without JAX: `--help`, `runs`, `schemes` and the dashboard are quick and run anywhere.
# So are the specs of systems, which are loaded for them.
SPECS = ("systems.spec", *(f"systems.{system}.spec" for system in SYSTEMS_BELOW))
WITHOUT_JAX = (
    "config",
    "user_code",
    "user_files",
    "errors",
    "run_layout",
    "whole_files",
    "presets",
    "schemes",
    "tracking",
    "dashboard",
)


def modules() -> list[tuple[str, Path]]:
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        parts = list(path.relative_to(SOURCE).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        found.append((".".join(parts), path))
    return found


def imports(path: Path) -> list[tuple[str, bool]]:
    """Absolute names imported by a file, with whether the import stands at module level."""
    tree = ast.parse(path.read_text())
    top_level = set(map(id, tree.body))
    names: list[tuple[str, bool]] = []
    for node in ast.walk(tree):
        at_top = id(node) in top_level
        if isinstance(node, ast.Import):
            names += [(alias.name, at_top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write the absolute name"
            module = node.module or ""
            names += [
                (f"{module}.{alias.name}" if module == "matrixrl" else module, at_top) for alias in node.names
            ]
    return names


@pytest.mark.parametrize(
    ("module", "path"), modules(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_imports_point_down(module: str, path: Path) -> None:
    if module == "":
        return
    layer = module.split(".")[0]
    assert layer in ALLOWED, f"{module}: a new layer; say in ALLOWED what it may import"
    for name, _ in imports(path):
        if not name.startswith("matrixrl."):
            continue
        target = name.removeprefix("matrixrl.")
        if target.split(".")[0] in {layer, *COMMON, "__version__"}:
            continue
        assert any(target == allowed or target.startswith(allowed + ".") for allowed in ALLOWED[layer]), (
            f"{module} imports {target}: {layer} may import {sorted(ALLOWED[layer]) or 'nothing of the project'}"
        )
    for game in SEPARATE_GAMES:
        others = set(SEPARATE_GAMES) - {game}
        if module.startswith(game):
            assert not [name for name, _ in imports(path) if any(other in name for other in others)]


def test_ppo_names_no_game() -> None:
    for module, path in modules():
        if module.startswith("systems.ppo"):
            assert not [name for name, _ in imports(path) if any(game in name for game in SEPARATE_GAMES)], (
                module
            )


def test_systems_do_not_import_one_another() -> None:
    for module, path in modules():
        parts = module.split(".")
        if parts[0] != "systems" or len(parts) < 2 or parts[1] not in SYSTEMS_BELOW:
            continue
        for name, _ in imports(path):
            other = name.removeprefix("matrixrl.systems.").split(".")[0]
            if name.startswith("matrixrl.systems.") and other in SYSTEMS_BELOW:
                assert other == parts[1] or other in SYSTEMS_BELOW[parts[1]], f"{module} imports {name}"


def names_of_systems(text: str) -> list[str]:
    """Names of systems in source text, whatever their case; a function of NumPy is no name."""
    text = re.sub(r"\b(jnp|np|lax)\.matmul\(", "", text)
    # "supported" is no name.
    return re.findall(f"(?<![a-z])(?:{'|'.join(SYSTEMS_BELOW)})", text, re.IGNORECASE)


def test_generic_layers_name_no_system() -> None:
    assert set(BUILT_IN) <= set(SYSTEMS_BELOW)
    found = {}
    for module, path in modules():
        if module.split(".")[0] in GENERIC and (names := names_of_systems(path.read_text())):
            found[module] = names
    for path in SOURCE.rglob("*.sql"):
        if names := names_of_systems(path.read_text()):
            found[path.name] = names
    assert not found
    assert names_of_systems("x = jnp.matmul(a, b)  # HackMatrix, `PPO` or matmul") == [
        "HackMatrix",
        "PPO",
        "matmul",
    ]


def test_specs_are_loaded_without_jax() -> None:
    code = (
        "import sys\nimport matrixrl\nfrom matrixrl.tracking.spec import find_spec\n"
        "assert 'importlib.metadata' not in sys.modules\n"
        f"assert all(find_spec(name) for name in {list(BUILT_IN)!r})\n"
        "print('jax' in sys.modules, 'numpy' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={**os.environ, "PYTHONPATH": str(SOURCE.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["False", "False"], done.stderr


@pytest.mark.parametrize(
    ("module", "path"), modules(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_light_packages_do_not_import_jax(module: str, path: Path) -> None:
    if module.split(".")[0] in WITHOUT_JAX or module in SPECS:
        heavy = {"jax", "jaxlib", "flax", "optax", "mctx", "orbax", "chex", "jaxtyping"}
        names = [name for name, _ in imports(path)]
        assert not [name for name in names if name.split(".")[0] in heavy]
        assert "matrixrl.types" not in names  # types of arrays


def test_libraries_of_trackers_are_imported_in_their_sinks_only() -> None:
    """Wandb in `tracking/sinks/wandb*.py`, TensorBoard's writer in its sink."""
    for library, prefix in (
        ("wandb", "tracking.sinks.wandb"),
        ("tensorboardX", "tracking.sinks.tensorboard"),
    ):
        users = {m for m, path in modules() for name, _ in imports(path) if name.split(".")[0] == library}
        assert users, library
        assert all(user.startswith(prefix) for user in users), users


def test_delivery_names_no_tracker() -> None:
    """What all sinks need is in one place, which knows none of them."""
    for name in ("delivery", "uploader_client", "uploads", "processes", "sinks/base"):
        text = (SOURCE / "tracking" / f"{name}.py").read_text()
        found = [
            word
            for word in ("wandb", "w&b", "tensorboard")
            if word in text.lower().replace("extra wandb", "")
        ]
        assert not found, f"tracking/{name}.py names {found}"


def test_numeric_code_has_no_effects() -> None:
    """Pure packages touch no clock, file, process or tracker; interfaces to other libraries may."""
    effects = {
        "time",
        "datetime",
        "os",
        "pathlib",
        "shutil",
        "sqlite3",
        "subprocess",
        "threading",
        "logging",
        "random",
    }
    for module, path in modules():
        if module.split(".")[0] in {"envs", "networks", "search", "agents"} and not any(
            part in module for part in (".scenario", ".gymnasium_env", ".adapters.gymnasium")
        ):
            names = {name.split(".")[0] for name, _ in imports(path)}
            assert not names & effects, f"{module} imports {sorted(names & effects)}"
