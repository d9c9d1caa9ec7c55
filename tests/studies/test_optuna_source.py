"""Points that Optuna proposes, and what it hears of them."""

from __future__ import annotations

from pathlib import Path

from matrixrl.cli.study_commands import schema_of
from matrixrl.studies.file import Range, TuneOptions
from matrixrl.studies.launcher import PRUNED
from matrixrl.studies.optuna_study import OptunaSource
from matrixrl.studies.record import Study, Trial


def make_source(study: Study, folder: Path) -> OptunaSource:
    options = TuneOptions(trials=4, sampler="random", pruner="median", warmup_trials=1)
    space = {"learning_rate": Range(1e-5, 1e-2, log=True)}
    storage = f"sqlite:///{folder / 'optuna.db'}"
    return OptunaSource(
        study, schema_of("ppo train", "f"), storage, options, space, lambda settings: None, length=1000
    )


def begun(source: OptunaSource) -> Trial:
    trial = source.next()
    assert trial is not None
    trial.status = "running"
    return trial


def test_trials_that_report_at_other_places_are_compared(tmp_path: Path) -> None:
    """Reports come by the clock: those of two trials are hardly ever at the same part of the run."""
    about = {"command": "ppo train", "seeds": [1], "objective": {"metric": "episode/return"}, "together": []}
    study = Study(str(tmp_path), "s", "tune", about)
    source = make_source(study, tmp_path)
    good = begun(source)
    for step in (150, 550, 950):
        assert source.progress(good, step, [5.0]) is None
    good.status, good.objectives = "finished", [5.0]
    source.ended(good)
    poor, better = begun(source), begun(source)
    assert source.progress(poor, 310, [1.0]) is None  # the first third says little
    assert source.progress(better, 420, [6.0]) is None
    assert source.progress(poor, 410, [1.0]) == PRUNED
    poor.status = "pruned"
    source.ended(poor)
    # A report that a killed process has made is not made again by the next one.
    better.status = "waiting"
    again = make_source(study, tmp_path)
    assert begun(again) is better
    assert again.progress(better, 430, [6.0]) is None
    better.status, better.objectives = "finished", [6.0]
    again.ended(better)
    assert [trial.state.name for trial in again.study.trials] == ["COMPLETE", "PRUNED", "COMPLETE"]
    assert study.counts()["pruned"] == 1
