"""Metrics that are known before a run are those of its rows."""

from __future__ import annotations

from matrixrl.agents.ppo import UpdateMetrics
from matrixrl.cli.matmul import read_config
from matrixrl.config import FlipConfig, HackmatrixConfig, StartsConfig
from matrixrl.envs.hackmatrix.statistics import EPISODE_VALUES, episode_values
from matrixrl.systems.flip.rows import flip_metrics
from matrixrl.systems.hackmatrix.metrics import hackmatrix_metrics
from matrixrl.systems.matmul.metrics import matmul_metrics
from matrixrl.systems.ppo.metrics import ppo_metrics
from tests.systems.conftest import TINY, Result


def test_rows_of_matmul_runs(tiny_run: Result) -> None:
    rows = {name for row in tiny_run.stream for name in row.metrics}
    known = matmul_metrics(read_config(TINY))
    assert rows <= set(known)
    # What the tiny run has not: refinement, and walks of --flip-polish.
    assert {name.partition("/")[0] for name in set(known) - rows} <= {"rewrite", "flip"}
    several = matmul_metrics(read_config(["--preset", "dev", "--sizes", "2x2x2", "2x2x3"]))
    assert {"eval/rank_2x2x2", "epoch_best_rank_2x2x3"} <= set(several)
    assert "eval/rank" not in several


def test_metrics_of_ppo_and_of_hackmatrix() -> None:
    known = ppo_metrics()
    assert {f"train/{name}" for name in UpdateMetrics._fields} <= set(known)
    assert "episode/*" in known
    config = HackmatrixConfig()
    found = hackmatrix_metrics(config)
    assert found is not None
    episode = {name.partition("/")[2] for name in found if name.startswith("episode/")}
    assert episode == {"count", *EPISODE_VALUES}
    for later, equipped in ((True, False), (False, True), (True, True)):
        starts = StartsConfig(later_starts=later / 2, equipped_starts=equipped / 2)
        more = hackmatrix_metrics(HackmatrixConfig(starts=starts))
        assert more is not None
        further = set(episode_values(later, equipped)) - set(EPISODE_VALUES)
        assert set(more) - set(found) == {f"episode/{name}" for name in further}
        names = {"start_stage": later, "equipped": equipped, "whole": True}
        assert further == {name for name, is_there in names.items() if is_there}


def test_a_search_of_several_formats_has_metrics_for_each() -> None:
    config = FlipConfig()
    assert "walk/best_rank" in flip_metrics(config)
