"""Run folders for the dashboard: ordinary ones, and ones whose texts attack the page."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matrixrl.systems.matmul.spec import SPEC as MATMUL
from matrixrl.tracking.events import EpisodeRow, Kind, LogMessage, ScalarRow
from matrixrl.tracking.run import Run
from matrixrl.tracking.spec import SystemSpec
from tests.cli.runs_made import MANY, make_run, many_rows, open_made, ppo_settings

SCRIPT = '"><script>window.hacked = 1</script><img src=x onerror="window.hacked = 1">'
CLIMB = "../../../../etc/passwd"

HOSTILE_FOLDERS = ("<script>window.hacked=1<\\script>", "%2e%2e%2fetc", "-rf", "a,b%2C'\"&c", "línea ☃")
"""Names of folders that a file system allows."""


def returns(count: int, scale: float = 1.0) -> list[dict[str, float]]:
    return [
        {"train/update_step": i, "episode/return": scale * i, "train/total_loss": 10.0 / (i + 1)}
        for i in range(count)
    ]


def episode(number: int, **values: Any) -> dict[str, Any]:
    """A row of matmul's episode table."""
    row = {
        "Global Episode": number,
        "Epoch": (number - 1) // 5 + 1,
        "Episode in Epoch": (number - 1) % 5 + 1,
        "Reward": float(-(number * 7 % 13)),
        "Residual": float(number % 4),
        "Rank": 7 + number % 3,
        "Steps": 7,
        "Solved": number % 4 == 0,
    }
    return {**row, **values}


def record_episodes(run: Run, numbers: Sequence[int]) -> None:
    run.record([EpisodeRow(run.clock.advance()[-1], episode(number)) for number in numbers])


def make_matmul(runs_dir: Path, name: str, episodes: int = 30) -> Path:
    run = open_made(runs_dir, name, None, MATMUL)
    for epoch in range(1, episodes // 5 + 1):
        record_episodes(run, range(5 * epoch - 4, 5 * epoch + 1))
        row = {"Epoch": epoch, "epoch_loss": 1 / epoch, "epoch_best_rank": 8}
        run.record([ScalarRow(run.clock.advance()[-1], row)])
    run.finish("finished")
    return run.directory


def make_ordinary(runs_dir: Path) -> None:
    """Three seeds and another learning rate, one run of many agents, and one of matmul."""
    for seed in range(3):
        make_run(runs_dir, f"seed-{seed}", returns(40, seed + 1), ppo_settings(seed=seed))
    changed = ppo_settings(seed=0, learning_rate=0.01)
    make_run(runs_dir, "other-rate", returns(20), changed, status="crashed")
    many = ppo_settings(num_seeds=2, sweep=("learning_rate=1e-4,1e-3",))
    make_run(runs_dir, "many", many_rows(4, 2, 12), many, MANY)
    make_matmul(runs_dir, "matmul-1")


def make_hostile(runs_dir: Path) -> None:
    """Runs whose names, settings, metrics, columns and messages are attacks."""
    columns: dict[str, Kind] = {"Global Episode": "int", "Update": "int", SCRIPT: "str"}
    spec = SystemSpec("ppo", "ppo", columns, "episode/return")
    run = open_made(
        runs_dir, "hostile", None, spec, {"seed": 1, SCRIPT: SCRIPT, "nested": {SCRIPT: [SCRIPT]}}
    )
    for number in range(1, 4):
        tick = run.clock.advance()[-1]
        row = ScalarRow(tick, {"episode/return": 1.0, f"{SCRIPT}/x": float(number), "=cmd()": 1.0})
        run.record([row, EpisodeRow(tick, {"Global Episode": number, "Update": 1, SCRIPT: SCRIPT})])
    run.record([LogMessage(None, SCRIPT, "warning")])
    run.finish("finished")
    for index, folder in enumerate(HOSTILE_FOLDERS):
        _copy(run.directory, runs_dir / folder, folder if index % 2 else SCRIPT)
    for folder, name in (("climbing", CLIMB), ("lines", "a\nb\r\tc\x00d"), ("long", "x" * 5_000)):
        _copy(run.directory, runs_dir / folder, name)


def _copy(source: Path, target: Path, name: str) -> None:
    shutil.copytree(source, target)
    record = json.loads((target / "run.json").read_text())
    (target / "run.json").write_text(json.dumps({**record, "name": name}))
