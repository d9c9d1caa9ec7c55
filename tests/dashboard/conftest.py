"""Fixtures of the dashboard's tests: one folder of runs, and a client that asks as a browser of this machine does."""

from __future__ import annotations

from pathlib import Path

import pytest

from matrixrl.dashboard.server import create_app
from tests.dashboard.client import Client
from tests.dashboard.runs_made import make_hostile, make_ordinary


@pytest.fixture(scope="session")
def runs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dashboard") / "runs"
    make_ordinary(folder)
    make_hostile(folder)
    return folder


@pytest.fixture(scope="session")
def client(runs_dir: Path) -> Client:
    return Client(create_app(runs_dir))
