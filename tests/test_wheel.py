"""The wheel, in an environment that holds nothing but it and what it declares: it trains and shows its pages."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.systems.conftest import TINY

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "matrixrl"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the tree, so that nothing is left beside the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    tree = folder / "tree"
    shutil.copytree(ROOT / "src", tree / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(tree))
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def program(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program `matrixrl` of a new environment.

    The dependencies that the wheel declares, and theirs, are linked from the environment of the
    tests: the same files without a download of hundreds of megabytes.
    """
    environment = tmp_path_factory.mktemp("environment") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = environment / "bin" / "python"
    pip("--python", str(python), "install", "--no-deps", "--no-index", str(wheel))
    (packages,) = environment.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        declared = metadata.PathDistribution(Path(packages / Path(name).parent)).requires or []
    for distribution in needed(declared):
        link(distribution, packages)
    return environment / "bin" / "matrixrl"


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def needed(declared: list[str]) -> list[metadata.Distribution]:
    """The distributions that some requirements need, and those that these need."""
    found: dict[tuple[str, str], metadata.Distribution] = {}
    waiting = [(text, "") for text in declared]
    while waiting:
        text, extra = waiting.pop()
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        for name in ("", *requirement.extras):
            if (requirement.name.lower(), name) not in found:
                distribution = metadata.distribution(requirement.name)
                found[requirement.name.lower(), name] = distribution
                waiting += [(further, name) for further in distribution.requires or []]
    return list(found.values())


def link(distribution: metadata.Distribution, packages: Path) -> None:
    for file in distribution.files or []:
        target = packages / file
        if ".." not in file.parts and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(Path(str(file.locate())).resolve())


def run(program: Path, folder: Path, *arguments: str) -> str:
    """Standard output of a command, without any path to the sources."""
    unwanted = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    environment = {name: value for name, value in os.environ.items() if name not in unwanted}
    done = subprocess.run(
        [str(program), *arguments],
        cwd=folder,
        env=environment | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    return done.stdout


def test_every_file_of_the_package_is_in_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    files = [path for path in SOURCE.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    missing = [
        path.relative_to(SOURCE.parent).as_posix()
        for path in files
        if path.relative_to(SOURCE.parent).as_posix() not in packed
    ]
    assert not missing
    assert {
        "matrixrl/tracking/schema.sql",
        "matrixrl/schemes/best_known_ranks.csv",
        "matrixrl/py.typed",
        *(str(path.relative_to(SOURCE.parent)) for path in (SOURCE / "dashboard" / "static").rglob("*.*")),
    } <= packed
    assert not [name for name in packed if name.startswith("tests")]


def test_it_trains_and_resumes(program: Path, tmp_path: Path) -> None:
    python = program.with_name("python")
    where = run(python, tmp_path, "-P", "-c", "import matrixrl; print(matrixrl.__file__)")
    assert Path(where.strip()).is_relative_to(program.parents[1])
    output = run(program, tmp_path, "matmul", "train", *TINY, "--run-name", "r", "--json")
    result = json.loads(output.splitlines()[-1])
    assert (result["run_name"], result["status"]) == ("r", "finished")
    output = run(
        program, tmp_path, "matmul", "train", "--resume-run", "latest", "--num-epochs", "3", "--json"
    )
    assert json.loads(output.splitlines()[-1])["epochs"] == 3
    assert "everything agrees" in run(program, tmp_path, "runs", "audit", "r", "--offline")
    assert "epoch_loss   last" in run(program, tmp_path, "runs", "show", "r")
    assert "rank" in run(program, tmp_path, "runs", "list")
    run(program, tmp_path, "runs", "export", "r", "--format", "csv")
    assert "correct over the integers" in run(program, tmp_path, "schemes", "verify", "runs/r")


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (("--version",), "matrixrl "),
        (("--help",), "matrixrl hackmatrix train"),
        (("matmul", "train", "--help"), "--num-epochs"),
        (("hackmatrix", "train", "--help"), "--total-timesteps"),
        (("runs", "show", "--help"), "--metric"),
        (("schemes", "records"), "2x2x2"),
        (("dashboard", "--help"), "--no-browser"),
        (("--tyro-print-completion", "bash"), "matrixrl"),
    ],
)
def test_it_shows_its_pages(program: Path, tmp_path: Path, command: tuple[str, ...], shown: str) -> None:
    assert shown in run(program, tmp_path, *command)
