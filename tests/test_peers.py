"""The scripts that compare us with peers: curves drawn from journals and CSV files, SB3's view of our games."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from matrixrl.config import TrackingConfig
from matrixrl.tracking.events import ScalarRow
from matrixrl.tracking.run import open_run

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])


def journal(folder: Path, system: str = "hackmatrix") -> Path:
    """Three chunks of two updates of 4 x 8 steps; no episode ends in the first."""
    config = TrackingConfig(runs_dir=folder, console="quiet")
    with open_run(
        config, system=system, name_prefix="t", run_config={"ppo": {"num_envs": 4, "num_steps": 8}}
    ) as run:
        for update, count, mean in ((2, 0, 0.0), (4, 3, -1.0), (6, 1, 3.0)):
            metrics = {"train/update_step": update, "episode/count": count}
            if count:
                metrics |= {"episode/return": mean, "episode/highest_stage": 2.0}
            run.record([ScalarRow(run.clock.tick(), metrics)])
        return run.directory


def test_the_curve_of_a_run_is_over_environment_steps_and_weighs_episodes(tmp_path: Path) -> None:
    plot = importlib.import_module("plot_learning")
    points = plot.of_run(journal(tmp_path))
    np.testing.assert_array_equal(points.env_steps, [128, 192])
    np.testing.assert_array_equal(points.returns, [-1, 3])
    whole = plot.binned(points, 1000)
    np.testing.assert_array_equal(whole.env_steps, [192])
    np.testing.assert_array_equal(whole.returns, [0])
    np.testing.assert_array_equal(whole.episodes, [4])
    np.testing.assert_array_equal(plot.binned(points, 128).env_steps, [128, 192])


def test_curves_become_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main = importlib.import_module("plot_learning").main
    run, curve, out = journal(tmp_path), tmp_path / "curve.csv", tmp_path / "images" / "curve.png"
    # A rollout in which no episode ended leaves its means empty.
    curve.write_text(
        "env_steps,seconds,episodes,mean_return,mean_highest_stage,win_rate\n32,1,0,,,\n64,2,1,-2,1,0\n"
    )
    arguments = ["--run", f"ours:{run}", "--curve", f"peer:{curve}", "--random", "-3", "1", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["plot_learning.py", *arguments])
    assert main() == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    assert "peer: after 64 steps return -2.00, highest stage 1.00" in capsys.readouterr().out


def test_what_is_no_curve_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main = importlib.import_module("plot_learning").main
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    matmul = journal(tmp_path, system="matmul")
    for argument in (
        ["--curve", f"x:{other}"],
        ["--curve", f"x:{tmp_path / 'none'}"],
        ["--run", f"x:{matmul}"],
        ["--run", f"x:{tmp_path}"],
        [],
    ):
        monkeypatch.setattr(sys, "argv", ["plot_learning.py", *argument, "--out", str(tmp_path / "x.png")])
        assert main() == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_sb3_sees_our_games() -> None:
    pytest.importorskip("sb3_contrib", reason="needs the extra `baselines`")
    games = importlib.import_module("bench_maskable_ppo").HackMatrixVecEnv(3)
    games.seed(7)
    first = games.reset()
    games.seed(7)
    np.testing.assert_array_equal(games.reset(), first)
    returns, lengths = np.zeros(3), np.zeros(3, int)
    ended = 0
    generator = np.random.default_rng(0)
    for _ in range(150):
        masks = np.stack(games.env_method("action_masks"))
        actions = np.array([generator.choice(np.flatnonzero(mask)) for mask in masks])
        observations, rewards, done, infos = games.step(actions)
        returns, lengths = returns + rewards, lengths + 1
        for game in np.flatnonzero(done):
            assert infos[game]["episode"]["r"] == pytest.approx(returns[game], abs=1e-4)
            assert infos[game]["episode"]["l"] == lengths[game]
            assert (infos[game]["terminal_observation"] != observations[game]).any()
            returns[game], lengths[game] = 0, 0
            ended += 1
        assert not any(infos[game] for game in np.flatnonzero(~done))
    assert ended
