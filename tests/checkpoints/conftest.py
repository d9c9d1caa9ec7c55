"""One undisturbed run of the tiny setting, to which others are compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.checkpoints import runs


@pytest.fixture(scope="session")
def env(request: pytest.FixtureRequest) -> dict[str, str]:
    """Of trainer processes; what they compile is kept for the next test session."""
    return runs.environment(Path(request.config.cache.mkdir("jax")))


@pytest.fixture(
    scope="session",
    params=[runs.MATMUL, pytest.param(runs.HACKMATRIX, marks=pytest.mark.slow)],  # its game compiles long
    ids=lambda system: system.name,
)
def system(request: pytest.FixtureRequest) -> runs.System:
    return request.param


@pytest.fixture(scope="session")
def reference(
    env: dict[str, str], system: runs.System, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """Folder and JSON result of the undisturbed run `r`."""
    runs_dir = tmp_path_factory.mktemp("reference")
    begin = system.command(*system.tiny, "--runs-dir", str(runs_dir), "--run-name", "r", "--json")
    done = runs.run(env, begin)
    assert "matrixrl" not in done.stderr
    return runs_dir / "r", runs.result(done)
