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


@pytest.fixture(scope="session")
def reference(env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Folder and JSON result of the undisturbed run `r`."""
    runs_dir = tmp_path_factory.mktemp("reference")
    done = runs.run(env, "train", *runs.TINY, "--runs-dir", str(runs_dir), "--run-name", "r", "--json")
    assert done.stderr == ""
    return runs_dir / "r", runs.result(done)
