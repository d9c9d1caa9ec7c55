"""What a machine may lack: the modules of POSIX (Windows), and the packages of the extras (a base install)."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "matrixrl"

POSIX_MODULES = (
    "curses", "fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty",
)  # fmt: skip
POSIX_NAMES = {
    "os": ("fork", "forkpty", "getuid", "geteuid", "getgid", "getpgid", "killpg", "nice", "setsid", "statvfs", "sync", "uname"),
    "signal": ("SIGALRM", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGSTOP", "SIGTSTP", "SIGUSR1", "SIGUSR2"),
}  # fmt: skip

# Packages of each extra that the package imports; a base install has none of them.
EXTRAS = {
    "wandb": ("wandb", "pyarrow"),
    "gymnasium": ("gymnasium",),
    "plots": ("matplotlib",),
    "gymnax": ("gymnax", "six"),
    "ray": ("ray",),
    "tune": ("optuna",),
    "test": ("pytest", "hypothesis", "beartype"),
}


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: path.stem)
def test_no_module_imports_posix_at_its_top(path: Path) -> None:
    inside = set()
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            inside |= set(map(id, ast.walk(node)))
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        if id(node) not in inside:
            assert not set(names) & set(POSIX_MODULES), (
                f"{path.name}: import it in the function that needs it"
            )


def imports_all(hidden: list[str], removed: dict[str, tuple[str, ...]], skipped: str) -> None:
    """Imports every module of the package in a process that lacks some modules and names."""
    code = f"""
import importlib, os, pkgutil, signal, sys
import jax, flax, optax, mctx, orbax.checkpoint, psutil, rich, tyro, PIL.Image  # these cope by themselves
import multiprocessing.connection, subprocess
for name in [loaded for loaded in sys.modules if loaded.split(".")[0] in {hidden!r}]:
    del sys.modules[name]
sys.modules.update(dict.fromkeys({hidden!r}))
for module, names in {removed!r}.items():
    for name in names:
        if hasattr(sys.modules[module], name):
            delattr(sys.modules[module], name)
import matrixrl
for module in pkgutil.walk_packages(matrixrl.__path__, "matrixrl."):
    if module.name.endswith("__main__") or module.name in {skipped.split()!r}:
        continue
    importlib.import_module(module.name)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-1500:]


def test_every_module_is_imported_where_posix_is_absent() -> None:
    imports_all(list(POSIX_MODULES), POSIX_NAMES, skipped="")


def test_every_module_is_imported_by_a_base_install() -> None:
    """Only the interfaces to gymnasium and gymnax need an extra to be imported."""
    hidden = [name for names in EXTRAS.values() for name in names]
    interfaces = ("gymnasium_env", "gymnasium_spaces", "gymnax_env")
    imports_all(hidden, {}, skipped=" ".join(f"matrixrl.envs.hackmatrix.{name}" for name in interfaces))


def test_extras_bring_what_the_package_imports_beyond_a_base_install() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    base = {re.split(r"[\W]", requirement)[0] for requirement in project["dependencies"]}
    for extra, packages in EXTRAS.items():
        brought = {re.split(r"[^\w-]", requirement)[0] for requirement in extras[extra]}
        assert set(packages) <= brought
        assert not set(packages) & base
    # `make venv`: everything but accelerators and the baselines.
    assert set(re.split(r"[\[\],]", extras["test"][0])) >= {"wandb", "gymnasium", "notebooks"}
    assert extras["notebooks"][0] == "matrixrl[plots]"
