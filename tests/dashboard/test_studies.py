"""Studies in the dashboard: `/api/runs` and `/api/studies`, and what they say of records and journals."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from matrixrl.cli.main import main
from matrixrl.config import ConfigError
from matrixrl.dashboard import study_curves
from matrixrl.dashboard.changes import ChangeDetector
from matrixrl.dashboard.server import create_app
from matrixrl.dashboard.store import RunStore
from matrixrl.studies.file import Choice, Range, TuneOptions
from matrixrl.studies.importance import importance_of
from matrixrl.studies.optuna_study import OptunaSource
from matrixrl.studies.record import LOCK_FILE, Study, read_study, save_study
from matrixrl.studies.table import is_logarithmic
from matrixrl.tracking.locks import Lock
from tests.cli.runs_made import make_run
from tests.dashboard.client import Client
from tests.dashboard.studies_made import METRIC, add_trial, empty_study, make_grid, make_search, make_together


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Holds the lock of a study, as the command that runs it does."""
    lock = Lock.take(folder / LOCK_FILE)
    assert isinstance(lock, Lock)
    try:
        yield
    finally:
        lock.release()


@pytest.fixture(scope="module")
def studies_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies") / "runs"
    make_grid(folder)
    make_search(folder)
    make_together(folder)
    save_study(empty_study(folder, "empty"), folder / "empty")
    (folder / "foreign").mkdir()
    (folder / "foreign" / "study.json").write_text("[]")
    make_run(folder, "alone", [{METRIC: 1.0}])
    return folder


@pytest.fixture(scope="module")
def client(studies_dir: Path) -> Client:
    return Client(create_app(studies_dir))


def test_the_list_of_runs_groups_them_by_study(client: Client, studies_dir: Path) -> None:
    answer = client.get("/api/runs").json()
    assert [run["key"] for run in answer["runs"]] == ["alone"]
    assert (answer["total"], answer["total_studies"]) == (1, 5)
    rows = {row["key"]: row for row in answer["studies"]}
    grid = rows["grid"]
    assert (grid["name"], grid["kind"], grid["command"], grid["trials"]) == ("grid", "sweep", "ppo train", 4)
    assert {state: count for state, count in grid["counts"].items() if count} == {"finished": 3, "pruned": 1}
    # A setting with a pruned seed is not the best one.
    assert (grid["metric"], grid["best"], grid["best_settings"]) == (
        METRIC,
        4.0,
        "learning_rate 0.001, mode a",
    )
    assert grid["state"] == "finished"
    assert (rows["search"]["state"], rows["search"]["planned"]) == ("interrupted", 8)
    assert rows["foreign"]["state"] == "damaged"
    assert "no record of a study" in rows["foreign"]["error"]
    runs = client.get("/api/runs?study=grid&sort=name").json()["runs"]
    assert [run["key"] for run in runs] == [f"grid:grid-00{number}" for number in range(1, 5)]
    run = client.get("/api/runs/grid:grid-002").json()
    assert (run["key"], run["name"]) == ("grid:grid-002", "grid-002")
    assert client.get(f"/api/runs/{run['id']}").json()["key"] == "grid:grid-002"
    with held(studies_dir / "search"):
        assert client.get("/api/studies/search").json()["state"] == "running"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("q=grid", {"grid"}),
        ("q=study%20tune", {"search"}),
        ("state=damaged", {"foreign"}),
        ("system=ppo", {"grid", "search", "together", "empty"}),
        ("system=matmul", set()),
    ],
)
def test_studies_are_filtered_with_the_runs(client: Client, query: str, expected: set[str]) -> None:
    assert {row["key"] for row in client.get(f"/api/runs?{query}").json()["studies"]} == expected


def test_a_search_shows_what_was_confirmed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = empty_study(
        tmp_path, "s", "tune", seeds=[0], tune={"trials": 2, "confirm": 1, "confirm_seeds": [5, 6]}
    )
    add_trial(study, {"learning_rate": 1e-3}, 0, [4.0], point=0)
    add_trial(study, {"learning_rate": 1e-2}, 0, [9.0], point=1)
    for seed in (5, 6):
        add_trial(study, {"learning_rate": 1e-2}, seed, [7.0], point=1, confirms=True)
    save_study(study, tmp_path / "s")
    answer = Client(create_app(tmp_path)).get("/api/studies/s").json()
    assert [(row["seed"], row["confirms"]) for row in answer["rows"]] == [
        (0, False), (0, False), (5, True), (6, True),
    ]  # fmt: skip
    assert (answer["best"], answer["confirmed_seeds"]) == (7.0, 2)
    assert main(["runs", "list", "--runs-dir", str(tmp_path), "--study", "s"]) == 0
    assert capsys.readouterr().out.count("finished, confirms") == 2


def test_a_study_has_a_row_for_each_trial(client: Client) -> None:
    answer = client.get("/api/studies/grid").json()
    assert answer["axes"] == [{"name": "learning_rate", "is_number": True, "log": False}]
    assert answer["same"] == {"mode": "a"}
    assert answer["shared"] == {"num_envs": 16}
    assert answer["seeds"] == [0, 1]
    row = answer["rows"][3]
    assert (row["run"], row["run_name"], row["settings"]) == (
        "grid:grid-004",
        "grid-004",
        {"learning_rate": 0.01},
    )
    assert (row["seed"], row["status"], row["objective"], row["seconds"]) == (1, "pruned", 20.0, 60.0)
    search = client.get("/api/studies/search").json()
    assert [axis["log"] for axis in search["axes"]] == [True, False]
    assert search["axes"][1] == {"name": "width", "is_number": True, "log": False}
    # Nobody runs the study: what its record calls running was interrupted, and what waits has no run.
    assert [(row["status"], row["run"]) for row in search["rows"][-2:]] == [
        ("interrupted", "search:search-007"),
        ("waiting", None),
    ]


def test_curves_have_mean_and_band_of_each_setting(client: Client) -> None:
    answer = client.get("/api/studies/grid/curves").json()
    assert (answer["metric"], answer["by"], answer["unread"]) == (METRIC, ["learning_rate"], 0)
    assert answer["metrics"] == [METRIC, "train/total_loss"]
    assert answer["lasts"] == [3.0, 5.0, 10.0, 20.0]
    best, other = answer["groups"]
    assert (best["label"], best["trials"], best["curves"], best["objective"]) == (
        "learning_rate 0.01",
        2,
        2,
        15.0,
    )
    assert other["x"] == [10.0, 20.0, 30.0]
    assert other["y"] == [2.0, 3.0, 4.0]
    assert other["low"] == pytest.approx([0.04, 1.04, 2.04])
    assert other["high"] == pytest.approx([3.96, 4.96, 5.96])
    assert best["y"] == [15.0, 15.0, 10.0]
    assert best["low"] == pytest.approx([5.2, 5.2, 10.0])
    assert best["high"] == pytest.approx([24.8, 24.8, 10.0])


def test_a_curve_ends_where_most_of_its_trials_do(tmp_path: Path) -> None:
    study = empty_study(tmp_path, "s", seeds=[0, 1, 2])
    for seed, values in enumerate(([1.0, 1.0], [2.0, 2.0], [3.0, 3.0, 99.0])):
        add_trial(study, {"gamma": 0.9}, seed, values)
    save_study(study, tmp_path / "s")
    (group,) = Client(create_app(tmp_path)).get("/api/studies/s/curves").json()["groups"]
    assert (group["label"], group["curves"]) == ("all trials", 3)
    assert (group["x"], group["y"]) == ([10.0, 20.0], [2.0, 2.0])


def test_curves_of_another_metric_and_axis(client: Client) -> None:
    answer = client.get("/api/studies/grid/curves?metric=train/total_loss&x=time&by=learning_rate").json()
    assert answer["groups"][1]["y"][0] == pytest.approx(8.0, abs=1.0)
    assert answer["groups"][1]["x"][-1] < 60.0
    for query, named in (("by=nothing", "learning_rate"), ("x=epoch", "step, time")):
        refused = client.get(f"/api/studies/grid/curves?{query}")
        assert refused.status_code == 400
        assert named in refused.json()["error"]
    assert client.get("/api/studies/nothing").status_code == 404
    none = client.get("/api/studies/grid/curves?metric=nothing").json()
    assert (none["groups"], none["lasts"]) == ([], [None] * 4)


def test_agents_of_one_run_have_a_curve_each(client: Client) -> None:
    answer = client.get("/api/studies/together/curves").json()
    assert [(group["label"], group["y"]) for group in answer["groups"]] == [
        ("learning_rate 0.01", [5.0, 6.0]),
        ("learning_rate 0.001", [1.0, 2.0]),
    ]
    assert [row["agent"] for row in client.get("/api/studies/together").json()["rows"]] == [0, 1]
    # A metric of the whole run is that of each of its agents.
    whole = client.get("/api/studies/together/curves?metric=train/steps").json()
    assert [group["y"] for group in whole["groups"]] == [[0.0, 7.0]] * 2


def test_a_request_reads_for_a_bounded_time(studies_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_curves, "READ_SECONDS", 0.0)
    client = Client(create_app(studies_dir))
    unread = [client.get("/api/studies/grid/curves").json()["unread"] for _ in range(5)]
    assert unread == [3, 2, 1, 0, 0]
    # Another metric of runs that were read is read, too, and the first one is kept.
    assert client.get("/api/studies/grid/curves?metric=train/total_loss").json()["unread"] == 3
    for _ in range(3):
        client.get("/api/studies/grid/curves?metric=train/total_loss")
    assert client.get("/api/studies/grid/curves").json()["unread"] == 0


def test_the_best_groups_are_sent(tmp_path: Path) -> None:
    study = empty_study(tmp_path, "wide", objective={"metric": METRIC, "mode": "min"})
    for number in range(study_curves.MAX_GROUPS + 2):
        add_trial(study, {"gamma": number / 20}, 0, [float(number)])
    save_study(study, tmp_path / "wide")
    answer = Client(create_app(tmp_path)).get("/api/studies/wide/curves").json()
    assert [group["objective"] for group in answer["groups"]] == list(map(float, range(8)))
    assert answer["total_groups"] == 10


@pytest.mark.parametrize("name", ["empty", "foreign"])
def test_a_study_without_trials_or_record_gets_sentences(client: Client, name: str) -> None:
    details = client.get(f"/api/studies/{name}").json()
    assert details["rows"] == []
    assert ("no record of a study" in details["error"]) == (name == "foreign")
    assert client.get(f"/api/studies/{name}/curves").json()["groups"] == []
    reason = client.get(f"/api/studies/{name}/importance").json()["reason"]
    assert reason == ("There are no trials yet." if name == "empty" else details["error"])


FAULTS: tuple[tuple[str, Any], ...] = (
    ("name", 1),
    ("kind", "walk"),
    ("about", []),
    ("created", "today"),
    ("best", 3),
    ("about.objective", {"metric": 1}),
    ("about.objective", {"unknown": 1}),
    ("about.space", {"a": {"depth": 1}}),
    ("trials.status", "lost"),
    ("trials.objectives", []),
    ("trials.objectives", ["1"]),
    ("trials.members", [{"settings": [], "seed": 0}]),
    ("trials.seconds", None),
    ("trials.unknown", 1),
)


@pytest.mark.parametrize(("place", "value"), FAULTS)
def test_a_damaged_record_is_refused_in_one_line(tmp_path: Path, place: str, value: Any) -> None:
    study = empty_study(tmp_path, "s")
    add_trial(study, {"gamma": 0.9}, 0, None)
    content = json.loads(study.text())
    part, _, name = place.rpartition(".")
    (content["trials"][0] if part == "trials" else content[part] if part else content)[name] = value
    (tmp_path / "s" / "study.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"study\.json: no record of a study") as raised:
        read_study(tmp_path / "s")
    assert "\n" not in str(raised.value)
    assert Client(create_app(tmp_path)).get("/api/studies/s").json()["state"] == "damaged"


# Importance


def test_importance_is_that_of_the_search(tmp_path: Path) -> None:
    """The shares that `matrixrl tune` prints, from the record alone."""
    study = empty_study(
        tmp_path,
        "s",
        "tune",
        seeds=[0],
        space={
            "learning_rate": {"low": 1e-5, "high": 1e-2, "log": True, "step": None, "is_integer": False},
            "width": {"values": [32, 64]},
        },
    )
    space = {"learning_rate": Range(1e-5, 1e-2, True), "width": Choice((32, 64))}
    schema: Any = SimpleNamespace(vmapped=frozenset())
    source = OptunaSource(
        study, schema, "sqlite://", TuneOptions(trials=8, sampler="random"), space, lambda _: None, 0
    )
    while (trial := source.next()) is not None:
        settings = trial.members[0].settings
        trial.status = "finished"
        trial.objectives = [math.log10(settings["learning_rate"]) + settings["width"] / 64]
        source.ended(trial)
    found = importance_of(study)
    assert found.num_points == 8
    assert dict(found.shares) == pytest.approx(source.importance())
    assert sum(found.shares.values()) == pytest.approx(1.0)
    # The study is on disk as it was: JSON keeps the space.
    save_study(study, tmp_path / "s")
    again = read_study(tmp_path / "s")
    assert again is not None
    assert dict(importance_of(again).shares) == pytest.approx(dict(found.shares))


def test_importance_of_a_grid_needs_enough_complete_settings(tmp_path: Path) -> None:
    study = empty_study(tmp_path, "s", seeds=[0])
    reasons = [importance_of(study).reason]
    for number in range(6):
        settings = {"gamma": 0.9 + 0.01 * number, "name": "ab"[number % 2]}
        add_trial(study, settings, 0, None)
        study.trials[-1].status, study.trials[-1].objectives = "finished", [float(number)]
        reasons.append(importance_of(study).reason)
    assert reasons[:2] == ["There are no trials yet.", "There is only one trial."]
    assert reasons[3].endswith("this study has 3 so far.")
    assert reasons[4:] == ["", "", ""]
    shares = importance_of(study).shares
    assert next(iter(shares)) == "gamma"
    for trial in study.trials:
        trial.objectives = [1.0]
    assert "the same for all settings" in importance_of(study).reason
    study.about["objective"] = None
    assert "no [objective]" in importance_of(study).reason


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1e-4, 3e-4, 1e-3], True),
        ([1e-5, 1e-2], True),
        ([16, 32, 64], True),
        ([1, 2, 3, 4, 5], False),
        ([0.9, 0.95, 0.99], False),
        ([0.0, 1e-4, 1e-2], False),
        (["a", "b"], False),
        ([[64, 64], [32, 32]], False),
        ([True, False], False),
        ([1e-3], False),
        ([], False),
    ],
)
def test_axes_are_logarithmic_where_values_are(values: list[Any], expected: bool) -> None:
    assert is_logarithmic(values) == expected


# Changes, other folders, commands


def test_changes_name_studies_and_their_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("matrixrl.dashboard.store.LISTING_SECONDS", -1.0)
    study = make_grid(tmp_path)
    detector = ChangeDetector(RunStore(tmp_path))
    assert "study:grid" in detector.changed()
    assert detector.changed() == []
    add_trial(study, {"learning_rate": 1e-4, "mode": "a"}, 0, [1.0])
    assert detector.changed() == ["grid:grid-005"]
    save_study(study, tmp_path / "grid")
    assert detector.changed() == ["study:grid"]
    with held(tmp_path / "grid"):
        assert detector.changed() == ["study:grid"]  # it runs
    assert detector.changed() == ["study:grid"]


def test_the_folder_of_a_study_and_of_its_runs_can_be_shown(studies_dir: Path) -> None:
    itself = Client(create_app(studies_dir / "grid"))
    assert [row["key"] for row in itself.get("/api/runs").json()["studies"]] == ["grid"]
    assert itself.get("/api/studies/grid").json()["rows"][0]["run"] == "grid:grid-001"
    runs = Client(create_app(studies_dir / "grid" / "runs"))
    answer = runs.get("/api/runs").json()
    assert (len(answer["runs"]), [row["key"] for row in answer["studies"]]) == (4, ["grid"])
    assert runs.get("/api/studies/grid").json()["rows"][0]["run"] == "grid-001"
    assert len(runs.get("/api/studies/grid/curves").json()["groups"]) == 2


def test_a_report_and_a_plot_take_a_study(
    studies_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--runs-dir", str(studies_dir)]
    output = tmp_path / "grid.html"
    assert main(["runs", "report", *where, "grid", "alone", "--json", "--output", str(output)]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert answer["studies"] == ["grid"]
    assert sorted(answer["runs"]) == ["alone", "grid-001", "grid-002", "grid-003", "grid-004"]
    text = output.read_text()
    assert '"studies/grid/curves?episode/return||step"' in text
    assert '"run":"grid-001"' in text
    picture = tmp_path / "plot.png"
    assert main(["runs", "plot", *where, "grid", "--json", "--output", str(picture)]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert answer["metric"] == METRIC
    assert [curve["agents"] for curve in answer["curves"]] == [2, 2]
    assert picture.stat().st_size > 1_000
    for name in ("empty", "foreign"):
        assert main(["runs", "plot", *where, name]) == 2
        assert capsys.readouterr().err.startswith("matrixrl: ")


def test_a_moved_study_is_read_where_it_is(studies_dir: Path) -> None:
    study = read_study(studies_dir / "grid")
    assert isinstance(study, Study)
    assert study.location == str(studies_dir / "grid")
