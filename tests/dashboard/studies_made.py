"""Study folders made by hand, with curves whose mean and band can be worked out on paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matrixrl.studies.record import RUNS_FOLDER, Study, save_study
from matrixrl.studies.trials import TrialMember, TrialPlan
from tests.cli.runs_made import MANY, make_run, ppo_settings

METRIC = "episode/return"


def empty_study(runs_dir: Path, name: str, kind: Any = "sweep", **about: Any) -> Study:
    """A study without trials; its folder exists."""
    (runs_dir / name).mkdir(parents=True)
    base = {
        "command": "ppo train",
        "seeds": [0, 1],
        "settings": {"num_envs": 16},
        "points": [],
        "objective": {"metric": METRIC},
        "together": [],
    }
    return Study(str(runs_dir / name), name, kind, {**base, **about}, created=1_700_000_000.0)


def add_trial(
    study: Study,
    settings: Mapping[str, Any],
    seed: int,
    values: Sequence[float] | None,
    status: Any = "finished",
    point: int | None = None,
    *,
    confirms: bool = False,
) -> None:
    """Adds a trial whose run has a value of the metric at steps 10, 20 and so on; none for None."""
    plan = TrialPlan((TrialMember(dict(settings), seed),), {**settings, "seed": seed})
    trial = study.add(plan, point, confirms=confirms)
    trial.status, trial.seconds = status, 60.0
    if values is None:
        return
    trial.objectives = [None if status == "failed" else values[-1]]
    rows = [{METRIC: value, "train/total_loss": 10.0 - value} for value in values]
    rates = {name: value for name, value in settings.items() if name == "learning_rate"}
    ending = "finished" if status == "finished" else "crashed"
    make_run(
        Path(study.location) / RUNS_FOLDER,
        trial.run_name,
        rows,
        ppo_settings(seed=seed, **rates),
        status=ending,
    )


def make_grid(runs_dir: Path, name: str = "grid") -> Study:
    """Two learning rates with two seeds each; the last trial was pruned after two values.

    Means and bands of learning rate 1e-3: 2, 3, 4, each with 1.96 * sqrt(2) / sqrt(2) = 1.96 on both
    sides. Of 1e-2: 15, 15 with 1.96 * sqrt(50) / sqrt(2) = 9.8, and 10 alone at the last step.
    """
    study = empty_study(runs_dir, name)
    add_trial(study, {"learning_rate": 1e-3, "mode": "a"}, 0, [1.0, 2.0, 3.0])
    add_trial(study, {"learning_rate": 1e-3, "mode": "a"}, 1, [3.0, 4.0, 5.0])
    add_trial(study, {"learning_rate": 1e-2, "mode": "a"}, 0, [10.0, 10.0, 10.0])
    add_trial(study, {"learning_rate": 1e-2, "mode": "a"}, 1, [20.0, 20.0], "pruned")
    save_study(study, runs_dir / name)
    return study


def make_search(runs_dir: Path, name: str = "search", points: int = 6) -> Study:
    """A search whose objective depends on the learning rate alone."""
    space = {"learning_rate": {"low": 1e-5, "high": 1e-2, "log": True}, "width": {"values": [32, 64]}}
    study = empty_study(runs_dir, name, "tune", space=space, tune={"trials": points + 2}, seeds=[0])
    for index in range(points):
        settings = {"learning_rate": 10.0 ** (-5 + index / 2), "width": (32, 64)[index // 2 % 2]}
        add_trial(study, settings, 0, [1.0, float(index)], point=index)
    add_trial(study, {"learning_rate": 2e-3, "width": 32}, 0, [0.5], "running", point=points)
    add_trial(study, {"learning_rate": 3e-3, "width": 32}, 0, None, "waiting", point=points + 1)
    save_study(study, runs_dir / name)
    return study


def make_together(runs_dir: Path, name: str = "together") -> Study:
    """One run that trains two learning rates; its agents have the returns 1, 2 and 5, 6."""
    study = empty_study(runs_dir, name, seeds=[0])
    members = tuple(TrialMember({"learning_rate": rate}, 0, agent) for agent, rate in enumerate((1e-3, 1e-2)))
    trial = study.add(TrialPlan(members, {"sweep": ["learning_rate=0.001,0.01"], "seed": 0}))
    trial.status, trial.objectives = "finished", [2.0, 6.0]
    rows = [
        {METRIC: 3.0 + i, f"agent/0/{METRIC}": 1.0 + i, f"agent/1/{METRIC}": 5.0 + i, "train/steps": 7.0 * i}
        for i in range(2)
    ]
    settings = ppo_settings(sweep=("learning_rate=1e-3,1e-2",))
    make_run(runs_dir / name / RUNS_FOLDER, trial.run_name, rows, settings, MANY)
    save_study(study, runs_dir / name)
    return study
