"""The layout is the architecture: imports run one way (docs/architecture.md lists the layers)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "matrixrl"

# What each package may import from this project, besides itself, `config`, `types` and `user_files`.
ALLOWED: dict[str, set[str]] = {
    "__main__": set(),
    "config": {"schemes"},
    "types": set(),
    "user_files": set(),
    "presets": set(),
    "schemes": set(),
    "envs": set(),
    "networks": set(),
    "devices": set(),
    "tracking": set(),
    "search": {"envs.base", "networks"},
    "checkpoints": {"devices"},
    "agents": {"search", "networks", "envs.base"},
    "dashboard": {"tracking", "schemes"},
    "training": {"checkpoints", "devices", "tracking"},
    "systems": {
        "training", "agents", "checkpoints", "devices", "tracking", "envs", "networks", "search", "schemes", "presets",
    },
    "cli": {
        "systems", "training", "agents", "checkpoints", "devices", "tracking", "envs", "networks", "search", "schemes",
        "dashboard", "presets",
    },
}  # fmt: skip

# A system does not import another, except that hackmatrix builds on ppo.
SYSTEMS_BELOW = {"matmul": set[str](), "ppo": set[str](), "hackmatrix": {"ppo"}}

# Named games must not know one another.
SEPARATE_GAMES = ("envs.matmul", "envs.hackmatrix")

# Packages that must answer without JAX: `--help`, `runs`, `schemes` and the dashboard are quick and run anywhere.
WITHOUT_JAX = ("config", "user_files", "presets", "schemes", "tracking", "dashboard")


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
        if target.split(".")[0] in {layer, "config", "types", "user_files", "__version__"}:
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


@pytest.mark.parametrize(
    ("module", "path"), modules(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_light_packages_do_not_import_jax(module: str, path: Path) -> None:
    if module.split(".")[0] in WITHOUT_JAX:
        heavy = {"jax", "jaxlib", "flax", "optax", "mctx", "orbax", "chex"}
        assert not [name for name, _ in imports(path) if name.split(".")[0] in heavy]


def test_wandb_is_imported_in_one_module_only() -> None:
    users = {
        module for module, path in modules() for name, _ in imports(path) if name.split(".")[0] == "wandb"
    }
    assert users <= {"tracking.wandb"}, users


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
            part in module for part in (".scenario", ".gymnasium_env")
        ):
            names = {name.split(".")[0] for name, _ in imports(path)}
            assert not names & effects, f"{module} imports {sorted(names & effects)}"
