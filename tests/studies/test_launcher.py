"""What a study does when its engine, its folder or its file is not as it should be. Nothing is trained."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from matrixrl.cli.study_commands import StudyFolder, command_line, opened_study
from matrixrl.cli.study_sweep import SweepCommand
from matrixrl.cli.study_tune import TuneCommand
from matrixrl.cli.study_worker import with_time_left
from matrixrl.config import ConfigError
from matrixrl.studies import engine, perform, store
from matrixrl.studies.engine import EngineEvent, LocalEngine
from matrixrl.studies.file import Objective, StudyFile
from matrixrl.studies.launcher import Launcher, LaunchOptions, ListSource, MetricMissingError
from matrixrl.studies.ray_cluster import require_room
from matrixrl.studies.record import Study, about_file, read_study, save_study
from matrixrl.studies.store import FolderStore
from matrixrl.studies.trials import TrialMember, TrialPlan
from matrixrl.tracking.journal import JOURNAL_FILE, JournalError
from tests.cli.runs_made import make_run
from tests.dashboard.studies_made import METRIC, add_trial

OPTIONS = LaunchOptions(("ppo", "train"), [], lambda settings: [], "id")


def sweep_file(folder: Path, metric: str = METRIC, **changes: Any) -> StudyFile:
    content: dict[str, Any] = {
        "seeds": (0,),
        "settings": {},
        "points": ({"learning_rate": 1e-3},),
        "objective": Objective(metric),
    }
    return StudyFile(folder / "f.toml", "ppo train", **{**content, **changes})


def two_trials(folder: Path, metric: str = METRIC) -> Study:
    study = Study(str(folder), "s", "sweep", about_file(sweep_file(folder, metric)))
    for seed in (0, 1):
        study.add(TrialPlan((TrialMember({}, seed),), {"seed": seed}))
    return study


class Cluster:
    """An engine that has no room at first, and whose trials end at once."""

    def __init__(self, ends: Sequence[dict[str, Any]], empty: int = 0) -> None:
        self._ends, self._empty = list(ends), empty
        self._submitted: list[int] = []

    def free(self) -> int:
        return 0 if self._empty else 1 - len(self._submitted)

    def parallel(self) -> int:
        return 1

    def shortage(self) -> str:
        return "it has 0 cores, a trial takes 1"

    def submit(self, request: dict[str, Any]) -> None:
        self._submitted.append(request["trial"])

    def stop(self, trial: int, reason: str) -> None:
        raise AssertionError

    def events(self, timeout: float) -> list[EngineEvent]:
        self._empty = max(0, self._empty - 1)
        trials, self._submitted = self._submitted, []
        return [EngineEvent(trial, {"op": "end", "end": self._ends.pop(0)}) for trial in trials]

    def close(self) -> None:
        pass


def launched(study: Study, engine: Any) -> list[str]:
    """Runs the trials of a study. Returns the lines for people."""
    lines: list[str] = []
    source = ListSource(study)
    Launcher(
        study, engine, source, OPTIONS, save=lambda s: None, show=lines.append, progress=lambda launcher: None
    ).run()
    return lines


def finished(value: float | None, **more: Any) -> dict[str, Any]:
    return {"status": "finished", "objectives": [value], **more}


def test_a_cluster_without_room_is_waited_for(tmp_path: Path) -> None:
    study = two_trials(tmp_path)
    lines = launched(study, Cluster([finished(1.0), finished(2.0)], empty=3))
    assert [trial.status for trial in study.trials] == ["finished"] * 2
    assert lines[0] == "no room for a trial: it has 0 cores, a trial takes 1; waiting"
    assert len(lines) == 3
    assert launched(study, Cluster([], empty=10**9)) == []  # nothing is left to train


def test_a_metric_that_is_not_finite_is_not_missing(tmp_path: Path) -> None:
    study = two_trials(tmp_path, "train/loss")
    lines = launched(study, Cluster([finished(None, metrics=["train/loss"]), finished(2.0)]))
    assert "the last value of train/loss is not finite" in lines[0]
    with pytest.raises(MetricMissingError, match="no row of s-001 has it; its metrics are train/reward"):
        launched(two_trials(tmp_path), Cluster([finished(None, metrics=["train/reward"])]))


def test_errors_of_a_worker_thread_reach_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk ends the attempt; an error of the program ends the command instead of leaving it waiting."""
    errors: list[Exception] = [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), ZeroDivisionError("a fault")]

    def fail(*arguments: Any) -> None:
        raise errors.pop(0)

    monkeypatch.setattr(engine, "perform", fail)
    monkeypatch.setattr(
        engine, "WorkerProcess", lambda *a: SimpleNamespace(is_alive=True, close=lambda: None)
    )
    local = LocalEngine(1)
    request = {"trial": 1, "study": str(tmp_path), "study_id": "id"}
    local.submit(request)
    (event,) = wait_for(local)
    assert event.message["end"] == {"status": "died", "error": os.strerror(errno.ENOSPC)}
    local.submit(request)
    with pytest.raises(ZeroDivisionError, match="a fault"):
        wait_for(local)
    local.close()


def wait_for(local: LocalEngine) -> list[EngineEvent]:
    for _ in range(600):
        if found := local.events(0.1):
            return found
    raise AssertionError("no event")


def test_a_node_forgets_a_run_only_once_all_of_it_is_confirmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(request: Any, runs: Path, *rest: Any) -> dict[str, Any]:
        if not (runs / "walk").exists():
            make_run(runs, "walk", [{METRIC: 1.0}])
        return {"status": "finished"}

    def unreadable(*arguments: Any) -> None:
        raise JournalError("locked")

    monkeypatch.setattr(perform, "_train", train)
    monkeypatch.setattr(perform, "SEND_SECONDS", 0.0)
    request, kept = {"run_name": "walk"}, FolderStore(tmp_path / "kept")
    with monkeypatch.context() as broken:
        broken.setattr(store, "copy_run", unreadable)
        end = perform._train_in_scratch(request, tmp_path / "node", None, None, kept)  # pyright: ignore[reportArgumentType]
    assert end["status"] == "died"
    assert "not all of it reached the study" in end["error"]
    assert (tmp_path / "node" / "runs" / "walk" / JOURNAL_FILE).exists()
    end = perform._train_in_scratch(request, tmp_path / "node", None, None, kept)  # pyright: ignore[reportArgumentType]
    assert end == {"status": "finished"}
    assert JOURNAL_FILE in kept.files("walk")
    assert not (tmp_path / "node" / "runs" / "walk").exists()


def test_a_resumed_trial_has_the_time_that_is_left(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "walk", [{METRIC: 1.0}])
    with sqlite3.connect(folder / JOURNAL_FILE) as journal:
        journal.execute("UPDATE attempts SET started = ended - 40")
    assert with_time_left(["--size=2", "--time=1m"], folder) == ["--size=2", "--time=20s"]
    assert with_time_left(["--time=30s"], folder) == ["--time=1s"]
    assert with_time_left(["--size=2"], folder) == ["--size=2"]


def command(folder: Path, kind: type = SweepCommand, **flags: Any) -> Any:
    return kind(file=folder / "f.toml", **flags)


def test_a_refused_study_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    for location in (own, tmp_path / "new" / "study"):
        folder = StudyFolder(command(tmp_path, study_dir=str(location)))
        folder.open(two_trials(location), is_new=True)
        (location / "runs" / "s-001").mkdir()
        assert read_study(location) is not None
        folder.remove()
    assert list(tmp_path.iterdir()) == [own]
    assert list(own.iterdir()) == []
    own.rmdir()
    own.touch()
    with pytest.raises(ConfigError, match="is a file; name a folder"):
        StudyFolder(command(tmp_path, study_dir=str(own))).read()
    folder = StudyFolder(command(tmp_path, study_dir=str(own / "study")))
    with pytest.raises(ConfigError, match="name a folder that this user can write to"):
        folder.open(two_trials(own), is_new=True)
    assert own.is_file()


def test_what_is_at_a_url_already_is_not_taken_for_a_study(tmp_path: Path) -> None:
    """A refused study is removed with its URL: nothing else may be there."""
    import fsspec

    url = f"memory://{tmp_path.name}/data"
    asked = command(tmp_path, study_dir=url)
    assert StudyFolder(asked).read() is None
    fsspec.filesystem("memory").pipe_file(f"/{tmp_path.name}/data/thesis.txt", b"x")
    with pytest.raises(ConfigError, match="is no study and not empty"):
        StudyFolder(asked).read()


def test_a_full_disk_is_named_and_keeps_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    folder = StudyFolder(command(tmp_path, study_dir=str(tmp_path / "s")))
    study = two_trials(tmp_path / "s")
    folder.open(study, is_new=True)
    monkeypatch.setattr("matrixrl.cli.study_commands.save_study", full)
    with pytest.raises(ConfigError, match=r"the record cannot be written \(No space left on device\)"):
        folder.save(study)
    folder.close()


def test_another_objective_is_read_from_the_journals(tmp_path: Path) -> None:
    """Objectives of another metric would be compared with those of new trials."""
    about = about_file(sweep_file(tmp_path))
    study = Study(str(tmp_path / "s"), "s", "sweep", about)
    (tmp_path / "s").mkdir()
    add_trial(study, {"learning_rate": 1e-3}, 0, [1.0, 5.0, 2.0])
    save_study(study, tmp_path / "s")
    file = sweep_file(tmp_path, objective=Objective(METRIC, value="best"))
    asked = command(tmp_path, study_dir=str(tmp_path / "s"))
    with pytest.raises(ConfigError, match=r"objective.value last -> best; add --extend"):
        opened_study(asked, StudyFolder(asked), file, "sweep")
    asked = command(tmp_path, study_dir=str(tmp_path / "s"), extend=True)
    found, _ = opened_study(asked, StudyFolder(asked), file, "sweep")
    assert found.trials[0].objectives == [5.0]
    # `--extend` adds; it removes nothing.
    fewer = sweep_file(tmp_path, points=({"learning_rate": 1e-2},))
    with pytest.raises(ConfigError, match=r"lacks point learning_rate 0\.001"):
        opened_study(asked, StudyFolder(asked), fewer, "sweep")


def test_failed_trials_are_trained_again_but_not_those_of_a_search(tmp_path: Path) -> None:
    for kind, status in (("sweep", "waiting"), ("tune", "failed")):
        folder = tmp_path / kind
        study = Study(str(folder), kind, kind, about_file(sweep_file(tmp_path)))  # pyright: ignore[reportArgumentType]
        folder.mkdir()
        add_trial(study, {}, 0, None, "failed")
        add_trial(study, {}, 1, None, "running")
        save_study(study, folder)
        asked = command(tmp_path, TuneCommand, study_dir=str(folder))
        found, _ = opened_study(asked, StudyFolder(asked), sweep_file(tmp_path), kind)  # pyright: ignore[reportArgumentType]
        assert [trial.status for trial in found.trials] == [status, "waiting"]


def test_the_command_that_continues_is_complete(tmp_path: Path) -> None:
    asked = SweepCommand(
        file=Path("my study.toml"),
        study_dir="d",
        on="ray",
        ray_address="h:1",
        cpus_per_trial=2.0,
        extend=True,
    )
    assert (
        command_line(asked) == "'my study.toml' --study-dir d --on ray --ray-address h:1 --cpus-per-trial 2"
    )
    assert command_line(SweepCommand(file=Path("f.toml"))) == "f.toml"


def test_trials_that_never_fit_on_this_machine_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    ray = SimpleNamespace(cluster_resources=lambda: {"CPU": 2.0})
    require_room(ray, None, 2.0, 0.0)
    with pytest.raises(ConfigError, match="--cpus-per-trial 4: the cluster of this machine has 2 cores"):
        require_room(ray, None, 4.0, 0.0)
    with pytest.raises(ConfigError, match="--gpus-per-trial 1: the cluster of this machine has 0 GPUs"):
        require_room(ray, None, 1.0, 1.0)
    require_room(ray, "10.0.0.2:6379", 4.0, 0.0)  # nodes may join
