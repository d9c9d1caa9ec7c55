"""Points that Optuna proposes, and what it hears of them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from matrixrl.cli.study_commands import schema_of
from matrixrl.config import ConfigError
from matrixrl.studies.file import Choice, Dimension, Range, TuneOptions
from matrixrl.studies.launcher import PRUNED, best_setting
from matrixrl.studies.optuna_study import OptunaSource
from matrixrl.studies.record import Study, Trial, study_from_text
from matrixrl.studies.table import study_table

RATES: Mapping[str, Dimension] = {"learning_rate": Range(1e-5, 1e-2, log=True)}
RANDOM = TuneOptions(trials=4, sampler="random", pruner="median", warmup_trials=1)


def make_study(
    folder: Path, options: TuneOptions = RANDOM, seeds: tuple[int, ...] = (1,), **about: Any
) -> Study:
    base = {
        "command": "ppo train",
        "seeds": list(seeds),
        "objective": {"metric": "episode/return"},
        "together": [],
        "tune": dataclasses.asdict(options),
    }
    return Study(str(folder), "s", "tune", json.loads(json.dumps({**base, **about})))


def make_source(
    study: Study,
    folder: Path,
    options: TuneOptions = RANDOM,
    space: Mapping[str, Dimension] = RATES,
    start: Mapping[str, Any] | None = None,
) -> OptunaSource:
    storage = f"sqlite:///{folder / 'optuna.db'}"
    schema = schema_of("ppo train", "f")
    return OptunaSource(study, schema, storage, options, space, lambda settings: None, 1000, start)


def begun(source: OptunaSource) -> Trial:
    trial = source.next()
    assert trial is not None
    trial.status = "running"
    return trial


def end(source: OptunaSource, trial: Trial, value: float | None, status: Any = "finished") -> None:
    trial.status, trial.objectives = status, [value]
    source.ended(trial)


def train_all(source: OptunaSource, values: Mapping[int, float] | None = None) -> list[Trial]:
    """Ends all trials, with the learning rate or a value by seed as their objectives."""
    found = []
    while (trial := source.next()) is not None:
        (member,) = trial.members
        rate = float(member.settings.get("learning_rate", 0.0))
        end(source, trial, (values or {}).get(member.seed, rate))
        found.append(trial)
    return found


def test_trials_that_report_at_other_places_are_compared(tmp_path: Path) -> None:
    """Reports come by the clock: those of two trials are hardly ever at the same part of the run."""
    study = make_study(tmp_path)
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


def test_trials_have_different_names_when_seeds_of_a_pruned_point_are_left_out(tmp_path: Path) -> None:
    """Two points at once: the second seed of the first one is never trained, and its number is free."""
    study = make_study(tmp_path, seeds=(1, 2))
    source = make_source(study, tmp_path)
    first, second = begun(source), begun(source)
    end(source, first, 1.0, "pruned")
    third = begun(source)
    assert third is not second
    names = [trial.run_name for trial in study.trials]
    assert len(set(names)) == len(names) == 5
    assert len({trial.number for trial in study.trials}) == 5


def test_a_grid_ends_with_its_last_combination(tmp_path: Path) -> None:
    options = TuneOptions(trials=50, sampler="grid")
    space = {"gamma": Choice((0.9, 0.99)), "num_steps": Range(1, 5, step=2, is_integer=True)}
    study = make_study(tmp_path, options)
    source = make_source(study, tmp_path, options, space, {"gamma": 0.99, "num_steps": 3})
    trials = train_all(source)
    points = [tuple(trial.members[0].settings.values()) for trial in trials]
    assert points[0] == (0.99, 3)
    assert sorted(points) == [(gamma, steps) for gamma in (0.9, 0.99) for steps in (1, 3, 5)]
    assert make_source(study, tmp_path, options, space).next() is None


def test_equal_points_are_trained_once(tmp_path: Path) -> None:
    """Settings and seed determine a run."""
    options = TuneOptions(trials=6, sampler="random")
    study = make_study(tmp_path, options)
    trained = train_all(make_source(study, tmp_path, options, {"learning_rate": Choice((1e-3, 1e-2))}))
    assert len(trained) == 2
    assert [trial.status for trial in study.trials] == ["finished"] * 6
    assert {trial.run_name for trial in study.trials} == {trial.run_name for trial in trained}
    best = best_setting(study)
    assert best is not None
    assert (best["objective"], len(best["run_names"]), best["seeds"]) == (1e-2, 1, [1])
    assert [row["seeds"] for row in study_table(study).settings] == [[1], [1]]


def test_a_search_begins_with_its_start_once(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    first = begun(make_source(study, tmp_path, start={"learning_rate": 2.5e-4}))
    assert first.members[0].settings == {"learning_rate": 2.5e-4}
    first.status = "waiting"
    again = make_source(study, tmp_path, start={"learning_rate": 2.5e-4})
    assert begun(again) is first
    assert begun(again).members[0].settings != first.members[0].settings


def test_a_point_that_failed_is_not_asked_for_again(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    source = make_source(study, tmp_path)
    end(source, begun(source), None, "failed")
    again = make_source(study, tmp_path)
    assert len(train_all(again)) == 3
    assert [trial.status for trial in study.trials] == ["failed", *["finished"] * 3]


@pytest.mark.parametrize("status", ["finished", "pruned", "failed"])
def test_an_end_that_only_optuna_knows_is_made_up_for(tmp_path: Path, status: str) -> None:
    """The process died after it had reported to Optuna, and before it wrote the record."""
    study = make_study(tmp_path, seeds=(1, 2))
    source = make_source(study, tmp_path)
    trial = begun(source)
    trial.attempts = 1
    if status == "finished":
        end(source, trial, 1.0)
        trial = begun(source)
        trial.attempts = 1
    record = study.text()
    end(source, trial, 2.0, status)
    study = study_from_text(record, str(tmp_path))
    for own in study.trials:
        own.status = "waiting" if own.status == "running" else own.status
    again = make_source(study, tmp_path)
    if status == "finished":
        second = begun(again)
        assert second.run_name == trial.run_name
        end(again, second, 2.0)
        assert [own.status for own in study.trials] == ["finished"] * 2
    else:
        assert [own.status for own in study.trials] == [status]
    assert begun(again).point == 1


def test_a_lost_database_is_named(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    train_all(make_source(study, tmp_path))
    (tmp_path / "optuna.db").unlink()
    with pytest.raises(ConfigError, match="has no trial 0, but the study has"):
        make_source(study, tmp_path)
    (tmp_path / "optuna.db").write_text("no database" * 100)
    with pytest.raises(ConfigError, match="restore it, or name another folder"):
        make_source(study, tmp_path)


CONFIRM = dataclasses.replace(RANDOM, confirm=2, confirm_seeds=(7, 8, 9))


def test_the_best_points_are_confirmed_with_other_seeds(tmp_path: Path) -> None:
    """The point that looked best at the seed of the search is not the best at others."""
    study = make_study(tmp_path, CONFIRM)
    source = make_source(study, tmp_path, CONFIRM)
    assert source.total == 4 + 2 * 3
    searched = [begun(source) for _ in range(4)]
    assert source.next() is None  # not before all points have ended
    for trial, value in zip(searched, (1.0, 9.0, 2.0, 8.0), strict=True):
        end(source, trial, value)
    chosen = [begun(source) for _ in range(6)]
    assert source.next() is None
    assert source.total == 10
    lucky, steady = searched[1].members[0].settings, searched[3].members[0].settings
    assert [(t.members[0].settings, t.members[0].seed) for t in chosen] == [
        (settings, seed) for settings in (lucky, steady) for seed in (7, 8, 9)
    ]
    for trial, value in zip(chosen, (9.0, 1.0, 2.0, 7.0, 7.0, 7.0), strict=True):
        assert source.progress(trial, 500, [0.0]) is None
        end(source, trial, value)
        if trial is not chosen[-1]:  # the search decides until all of them are there
            found = best_setting(study)
            assert found is not None
            assert found["settings"] == lucky
    best = best_setting(study)
    assert best is not None
    assert (best["settings"], best["objective"], best["search_objective"]) == (steady, 7.0, 8.0)
    assert best["seeds"] == [7, 8, 9]
    assert [one["objective"] for one in best["confirmed"]] == [7.0, 4.0]
    assert best["run_names"] == [searched[3].run_name, *(trial.run_name for trial in chosen[3:])]
    # Optuna hears of the search alone.
    assert [trial.value for trial in source.study.trials] == [1.0, 9.0, 2.0, 8.0]
    table = study_table(study)
    assert [(row["objective"], row["confirmed"]) for row in table.settings] == [
        (8.0, 7.0), (9.0, 4.0), (2.0, None), (1.0, None),
    ]  # fmt: skip
    assert [row["confirms"] for row in table.rows] == [False] * 4 + [True] * 6
    read = study_from_text(study.text(), str(tmp_path))
    assert best_setting(read) == best


def test_confirmation_continues_where_it_was(tmp_path: Path) -> None:
    study = make_study(tmp_path, CONFIRM)
    source = make_source(study, tmp_path, CONFIRM)
    for value in (1.0, 9.0, 2.0, 8.0):
        end(source, begun(source), value)
    end(source, begun(source), 5.0)
    begun(source)
    study = study_from_text(study.text(), str(tmp_path))
    for trial in study.trials:
        trial.status = "waiting" if trial.status == "running" else trial.status
    trials = train_all(make_source(study, tmp_path, CONFIRM), {7: 5.0, 8: 5.0, 9: 5.0})
    assert [trial.members[0].seed for trial in trials] == [8, 9, 7, 8, 9]
    assert len(study.trials) == 10
    # More points: the best ones of all are confirmed, those that are already are kept.
    more = dataclasses.replace(CONFIRM, trials=5)
    study.about["tune"]["trials"] = 5
    source = make_source(study, tmp_path, more)
    end(source, begun(source), 10.0)
    assert [trial.members[0].seed for trial in train_all(source, {7: 6.0, 8: 6.0, 9: 6.0})] == [7, 8, 9]
    best = best_setting(study)
    assert best is not None
    assert (best["objective"], best["search_objective"], len(best["confirmed"])) == (6.0, 10.0, 3)


def test_a_point_whose_confirmation_failed_does_not_win(tmp_path: Path) -> None:
    study = make_study(tmp_path, CONFIRM)
    source = make_source(study, tmp_path, CONFIRM)
    for value in (1.0, 9.0, 2.0, 8.0):
        end(source, begun(source), value)
    for number in range(6):
        end(source, begun(source), 5.0, "failed" if number == 0 else "finished")
    best = best_setting(study)
    assert best is not None
    assert best["search_objective"] == 8.0


def test_records_without_confirmation_are_read(tmp_path: Path) -> None:
    """Those of earlier versions; and what has none can be read by them."""
    study = make_study(tmp_path)
    train_all(make_source(study, tmp_path))
    content = json.loads(study.text())
    assert not any("confirms" in trial for trial in content["trials"])
    assert study_from_text(json.dumps(content), str(tmp_path)).trials == study.trials
