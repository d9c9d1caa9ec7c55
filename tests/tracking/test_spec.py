"""Specs of systems: what is refused, what a run folder keeps, and names that were changed since."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from matrixrl.cli.runs import List, Show, run_command
from matrixrl.config import ConfigError, TrackingConfig
from matrixrl.systems import spec as systems
from matrixrl.systems.hackmatrix.spec import SPEC as HACKMATRIX
from matrixrl.systems.matmul.spec import SPEC as MATMUL
from matrixrl.tracking.audit import audit
from matrixrl.tracking.clock import StepClock
from matrixrl.tracking.events import EpisodeRow, ScalarRow
from matrixrl.tracking.journal import JournalError
from matrixrl.tracking.journal_reader import JournalReader
from matrixrl.tracking.run import Run, open_run
from matrixrl.tracking.screen import Screen
from matrixrl.tracking.spec import BestMetric, ConsoleMetric, SystemSpec, is_metric, spec_from_record
from matrixrl.tracking.summary import summarize

TOY = SystemSpec(
    name="toy",
    project="toys",
    episode_columns={"Episode": "int", "Score": "float"},
    best_metric=BestMetric("score", "toy/score", column="Score"),
    charts=("toy/score",),
    console_metrics=("toy/round", "toy/score"),
)
RENAMED = dataclasses.replace(
    TOY,
    episode_columns={"Episode": "int", "Points": "float"},
    best_metric=BestMetric("points", "toy/points", column="Points"),
    charts=("toy/points",),
    console_metrics=("toy/round", "toy/points"),
    aliases={"Score": "Points", "toy/score": "toy/points"},
)


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    yield
    systems.unregister("toy")


def start(runs_dir: Path, system: SystemSpec | str, resume: bool = False) -> Run:
    names: Any = {"resume_run": "r"} if resume else {"run_name": "r"}
    config = TrackingConfig(runs_dir=runs_dir, console="episodes", **names)
    return open_run(config, system=system, name_prefix="toy", run_config={"seed": 1})


def play(run: Run, values: dict[int, float], metric: str, column: str) -> None:
    for number, value in values.items():
        tick = run.clock.tick()
        row = {"toy/round": number, metric: value, f"{metric}_2x2": value}
        run.record([EpisodeRow(tick, {"Episode": number, column: value}), ScalarRow(tick, row)])


def edited(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    "spec", [TOY, RENAMED, MATMUL, HACKMATRIX, SystemSpec("a", "b", {"E": "int"}, "x/y")]
)
def test_a_record_gives_the_spec_back(spec: SystemSpec) -> None:
    assert spec_from_record(json.loads(json.dumps(spec.as_record())), "x") == spec


def test_names_alone_make_a_spec() -> None:
    spec = SystemSpec(
        "a", "b", {"E": "int"}, "train/mean_gain", ("train/mean_gain",), ("n", "train/mean_gain")
    )
    assert spec.best == BestMetric("mean gain", "train/mean_gain")
    assert spec.row_key == "n"
    assert [(metric.title, metric.priority) for metric in spec.console] == [("n", 0), ("mean gain", 1)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "Toy"}, "system 'Toy': must be lower-case"),
        ({"name": "../x"}, "must be lower-case"),
        ({"project": ""}, "needs the name of a W&B project"),
        ({"episode_columns": {}}, "needs columns"),
        ({"episode_columns": {"Episode": "int", "Step": "int"}}, "step cannot be an episode column"),
        ({"episode_columns": {"Episode": "int", "episode": "int"}}, "upper and lower case are the same"),
        ({"episode_columns": {"Episode": "int", "x": "text"}}, "'x' has the kind 'text'; must be one of int"),
        ({"episode_columns": {"Score": "float"}}, "'Score', must be an int"),
        (
            {"best_metric": BestMetric("b", column="Gain")},
            "names the column 'Gain'; there are Episode, Score",
        ),
        ({"charts": "toy/score"}, "charts must be a tuple"),
    ],
)
def test_an_impossible_spec_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(TOY, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": "red"}, "spec: unknown field 'colour'; install the matrixrl"),
        ({"best_metric": {"label": "x", "metric": "y", "mode": "min"}}, "best_metric: unknown field 'mode'"),
        ({"best_metric": 3}, "best_metric is 3"),
        ({"best_metric": {"label": "x", "metric": "y", "lowest": 1}}, "lowest is 1"),
        ({"console_metrics": [{"name": "x", "unit": "s"}]}, "console_metrics: unknown field 'unit'"),
        ({"console_metrics": [{"name": "x", "form": "money"}]}, "form 'money'; must be one of number"),
        ({"console_metrics": [{"head": "x"}]}, "name is not recorded"),
        ({"console_metrics": "x"}, "console_metrics is 'x'"),
        ({"charts": [1]}, "charts must hold names"),
        ({"aliases": ["x"]}, "aliases must map"),
        ({"name": 1}, "name is 1"),
        ({"episode_columns": ["Episode"]}, "needs columns"),
    ],
)
def test_a_recorded_spec_that_is_not_understood_is_refused_naming_the_field(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        spec_from_record(TOY.as_record() | changes, "run.json, spec")
    assert "\n" not in str(refused.value)


def test_variants_are_those_per_problem_size() -> None:
    assert all(is_metric(name, "a/b") for name in ("a/b", "a/b_2x2x3", "a/b_12x3"))
    assert not any(is_metric(name, "a/b") for name in ("a/bc", "a/b_c", "a/b_12", "a/b_2x", "a", "a/b_2x2 "))


def test_a_run_of_a_newer_version_is_refused_naming_what_is_new(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with start(tmp_path, TOY) as run:
        play(run, {1: 0.5}, "toy/score", "Score")
    path = run.directory / "run.json"
    original = path.read_text()
    edited(path, mood="good")
    with pytest.raises(
        ConfigError, match=r"run\.json: unknown field 'mood'; resume with the matrixrl that wrote it"
    ):
        start(tmp_path, TOY, resume=True)
    path.write_text(original)
    edited(path, spec=TOY.as_record() | {"mood": "good"})
    with pytest.raises(ConfigError, match=r"run\.json, spec: unknown field 'mood'"):
        start(tmp_path, TOY, resume=True)
    (run.directory / "summary.json").unlink()
    capsys.readouterr()
    # The list shows the run without what it cannot know.
    assert run_command(List(runs_dir=tmp_path, json=True)) == 0
    (listed,) = json.loads(capsys.readouterr().out.splitlines()[-1])["runs"]
    assert (listed["state"], listed["best"]) == ("finished", None)
    with JournalReader(run.directory) as reader:
        assert [attempt.attempt for attempt in reader.attempts()] == [1]


def test_an_unknown_system_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"system 'toy': not known here; .*register"):
        start(tmp_path / "runs", "toy")
    assert not (tmp_path / "runs").exists()
    systems.register(TOY)
    with start(tmp_path / "runs", "toy") as run:
        assert run.spec == TOY


def test_other_episode_columns_are_refused_before_a_resumed_run_changes(tmp_path: Path) -> None:
    with start(tmp_path, TOY) as run:
        play(run, {1: 0.5}, "toy/score", "Score")
        with pytest.raises(ValueError, match="'Gain' is unknown"):
            run.record([EpisodeRow(run.clock.tick(), {"Episode": 2, "Gain": 1.0})])
    without = dataclasses.replace(TOY, episode_columns={"Episode": "int"}, best_metric=None)
    more = dataclasses.replace(TOY, episode_columns={**TOY.episode_columns, "Luck": "float"})
    other = dataclasses.replace(TOY, episode_columns={"Episode": "int", "Score": "int"})
    for spec, message in (
        (without, "does not know the episode column 'Score'"),
        (more, "has no column 'Luck'"),
        (other, "'Score' is float there and int in this version of toy"),
    ):
        with pytest.raises((ConfigError, JournalError), match=message):
            start(tmp_path, spec, resume=True)
    with JournalReader(run.directory) as reader:
        assert len(reader.attempts()) == 1


def test_renamed_metrics_and_columns_are_read_and_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run keeps the names that it was started with; it is found by the new ones, too."""
    with start(tmp_path, TOY) as run:
        play(run, {1: 0.5, 2: 2.5, 3: 1.0}, "toy/score", "Score")
    systems.register(RENAMED)
    assert (summarize(run.directory).best_label, summarize(run.directory).best) == ("score", 2.5)
    with start(tmp_path, "toy", resume=True) as run:
        run.restore_clock(1, 3)
        # Steps 2 and 3 are computed again: equal under the new names, so nothing is superseded.
        play(run, {2: 2.5, 3: 1.0, 4: 7.0}, "toy/points", "Points")
    with JournalReader(run.directory) as reader:
        assert list(reader.episode_columns) == ["Episode", "Score"]
        rows = list(reader.stream(history=False))
        assert [(row.attempt, list(row.metrics)) for row in rows] == [
            (attempt, ["toy/round", "toy/score", "toy/score_2x2"]) for attempt in (1, 1, 1, 2)
        ]
        assert [row.values for row in reader.episodes()] == [(1, 0.5), (2, 2.5), (3, 1.0), (4, 7.0)]
    assert audit(run.directory, server=False).agrees
    assert summarize(run.directory).best == 7.0
    for name in ("toy/points", "toy/score"):
        capsys.readouterr()
        assert run_command(Show(run="r", runs_dir=tmp_path, metric=(name,), json=True)) == 0
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["last"] == {"toy/score": 7.0}
    # A new run has the new names, and is found by the old ones.
    with open_run(
        TrackingConfig(runs_dir=tmp_path, run_name="new", console="quiet"),
        system="toy",
        name_prefix="toy",
        run_config={},
    ) as new:
        play(new, {1: 3.0}, "toy/points", "Points")
    capsys.readouterr()
    assert run_command(Show(run="new", runs_dir=tmp_path, metric=("toy/score",), json=True)) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["last"] == {"toy/points": 3.0}


def test_a_run_that_recorded_no_spec_gets_that_of_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with start(tmp_path, TOY) as run:
        play(run, {1: 0.5}, "toy/score", "Score")
    content = json.loads((run.directory / "run.json").read_text())
    del content["spec"]
    (run.directory / "run.json").write_text(json.dumps(content))
    (run.directory / "summary.json").unlink()
    with sqlite3.connect(run.directory / "journal.sqlite") as connection:
        connection.execute("DELETE FROM meta WHERE key = 'spec'")
    connection.close()
    assert (summarize(run.directory).best_label, summarize(run.directory).best) == ("", None)
    capsys.readouterr()
    assert run_command(Show(run="r", runs_dir=tmp_path)) == 0
    assert "toy/score" not in capsys.readouterr().out
    systems.register(RENAMED)
    assert (summarize(run.directory).best_label, summarize(run.directory).best) == ("points", 0.5)
    assert run_command(Show(run="r", runs_dir=tmp_path)) == 0
    assert "toy/score   last 0.5" in capsys.readouterr().out
    with start(tmp_path, "toy", resume=True) as run:
        run.restore_clock(1)
    systems.unregister("toy")
    assert json.loads((run.directory / "run.json").read_text())["spec"] == RENAMED.as_record()
    with JournalReader(run.directory) as reader:
        assert reader.spec == RENAMED


def test_the_console_formats_as_the_spec_says() -> None:
    spec = dataclasses.replace(
        TOY,
        console_metrics=(
            ConsoleMetric("toy/round", width=8),
            ConsoleMetric("toy/score", "won", 9, form="fraction"),
        ),
    )
    with_clock = Screen(spec).lines(EpisodeRow(_tick(), {"Episode": 1, "Score": 0.5}), 1, 80)
    assert [line.split() for line in with_clock] == [["episode", "score"], ["1", "0.500"]]
    head, line = Screen(spec).lines(ScalarRow(_tick(), {"toy/round": 3, "toy/score": 0.25}), 1, 80)
    assert (head.split()[:2], line.split()[:3]) == (["round", "won"], ["3", "25.0", "%"])
    assert Screen(spec).lines(ScalarRow(_tick(), {"toy/score": 0.25}), 1, 80) == []


def _tick() -> Any:
    return StepClock().tick()
