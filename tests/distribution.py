"""Which test files share a worker of pytest-xdist, and which are started first.

Programs are traced and compiled once per process, so files that use the same ones run in the same
worker. The longest come first: at the end one of them would keep a worker busy while the other has
nothing left.
"""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler.loadfile import LoadFileScheduling

TOGETHER: dict[str, tuple[str, ...]] = {
    "steps of HackMatrix": (  # tests/envs/hackmatrix/lanes.py
        "envs/hackmatrix/test_against_referee.py",
        "envs/hackmatrix/test_arrays_by_section.py",
        "envs/hackmatrix/test_env.py",
        "envs/hackmatrix/test_extremes.py",
        "envs/hackmatrix/test_packed_observation.py",
        "envs/hackmatrix/test_statistics.py",
    ),
    "tiny runs of matmul": (  # tests/systems/conftest.py
        "systems/test_long_range.py",
        "systems/test_matmul_run.py",
        "systems/test_metrics.py",
        "systems/test_record_search.py",
    ),
    "games of HackMatrix": (  # matrixrl.systems.hackmatrix.evaluation
        "cli/test_hackmatrix_evaluate.py",
        "cli/test_hackmatrix_start.py",
        "cli/test_hackmatrix_watch.py",
        "systems/test_agent_file.py",
        "systems/test_hackmatrix_evaluation.py",
        "systems/test_hackmatrix_search.py",
    ),
}
LONGEST = (
    "test_readme.py",
    "steps of HackMatrix",
    "tiny runs of matmul",
    "games of HackMatrix",
    "tracking/test_delivery.py",
    "tracking/test_sinks.py",
    "tracking/test_restore.py",
    "systems/test_matmul_resume.py",
    "systems/test_ppo.py",
    "systems/test_tensor_run.py",
    "studies/test_commands.py",
    "cli/test_gymnasium_command.py",
    "search/flip_graph/test_moves.py",
    "envs/hackmatrix/test_gymnasium_env.py",
    "dashboard/test_browser.py",
)

_SHARED = {file: name for name, files in TOGETHER.items() for file in files}


def scope_of(nodeid: str) -> str:
    """Returns the name of what is given to one worker: a file below tests/, or files in common."""
    file = nodeid.split("::", 1)[0].removeprefix("tests/")
    return _SHARED.get(file, file)


def rank(nodeid: str) -> int:
    """Returns the place of a test in the order in which work is handed out."""
    scope = scope_of(nodeid)
    return LONGEST.index(scope) if scope in LONGEST else len(LONGEST)


class SharedPrograms(LoadFileScheduling):
    """`--dist loadfile`, with the files of `TOGETHER` as one."""

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)


def scheduler(config: pytest.Config, log: Any) -> SharedPrograms | None:
    """Returns the scheduler of `--dist loadfile`; None for another mode, which xdist serves."""
    if config.getoption("dist") != "loadfile":
        return None
    config.option.loadscopereorder = False  # by number of tests, which says little about the time
    return SharedPrograms(config, log)
