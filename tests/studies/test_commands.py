"""`matrixrl sweep` and `matrixrl tune`: real worker processes that train a tiny environment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from matrixrl.cli import environment_names, study_commands
from matrixrl.cli.environment_names import require_names
from matrixrl.cli.main import main
from matrixrl.config import ConfigError
from matrixrl.studies.launcher import LaunchOptions
from matrixrl.studies.record import read_study
from matrixrl.studies.table import study_table
from matrixrl.tracking.identity import run_folders
from matrixrl.tracking.journal_reader import JournalReader
from matrixrl.tracking.sinks.wandb_client import leveldb_records
from tests.tracking.conftest import offline_environment

ROOT = Path(__file__).resolve().parents[2]
TINY = {
    "env": f"{ROOT / 'tests/envs/tiny.py'}:Masked", "num_envs": 4, "num_steps": 8, "num_minibatches": 2,
    "hidden_dim": 8, "total_timesteps": 320, "log_interval": 2,
}  # fmt: skip
OBJECTIVE = '[objective]\nmetric = "episode/return"\n'


def write(
    path: Path, points: str, *, seeds: str = "[1, 2]", objective: str = OBJECTIVE, **settings: Any
) -> Path:
    lines = [f"{name} = {json.dumps(value)}" for name, value in {**TINY, **settings}.items()]
    text = f'command = "ppo train"\nseeds = {seeds}\ntogether = []\n[settings]\n' + "\n".join(lines)
    path.write_text(f"{text}\n{points}{objective}")
    return path


def answer(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any]]:
    status = main([*map(str, arguments), "--json"])
    return status, json.loads(capsys.readouterr().out.splitlines()[-1])


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([*map(str, arguments)]) == 2
    captured = capsys.readouterr()
    (line,) = [line for line in captured.err.splitlines() if line.startswith("matrixrl: ")]
    return line


def test_a_sweep_from_start_to_extension(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, study_dir = tmp_path / "grid.toml", tmp_path / "new" / "study"
    common = (file, "--study-dir", study_dir, "--jobs", 1)
    # A metric that no row has: nothing stays.
    write(
        file,
        "[grid]\nlearning_rate = [1e-3]\n",
        seeds="[1]",
        objective='[objective]\nmetric = "episode/retrun"\n',
    )
    line = refused(capsys, "sweep", *common)
    assert 'metric = "episode/retrun": no row of study-001 has it' in line
    assert "episode/return" in line
    assert not study_dir.parent.exists()

    write(file, "[grid]\nlearning_rate = [1e-3, 1e-2]\n")
    status, first = answer(capsys, "sweep", *common)
    assert status == 0
    assert [(t["settings"], t["status"]) for t in first["trials"]] == [
        ({"learning_rate": rate, "seed": seed}, "finished") for rate in (1e-3, 1e-2) for seed in (1, 2)
    ]
    assert all(isinstance(trial["objective"], float) for trial in first["trials"])
    assert {Path(trial["run_dir"]) for trial in first["trials"]} == set(run_folders(study_dir / "runs"))
    for trial in first["trials"]:
        assert main(["runs", "audit", trial["run_name"], "--runs-dir", str(study_dir / "runs")]) == 0
    capsys.readouterr()
    assert len({trial["params_sha256"] for trial in first["trials"]}) == 4

    # Started again, it trains nothing; a changed file is refused, or extends the study.
    assert answer(capsys, "sweep", *common) == (0, first)
    write(file, "[grid]\nlearning_rate = [1e-3, 1e-2, 3e-2]\n")
    line = refused(capsys, "sweep", *common)
    assert "learning_rate 0.001, 0.01 -> 0.001, 0.01, 0.03; add --extend" in line
    status, longer = answer(capsys, "sweep", *common, "--extend")
    assert status == 0
    assert longer["trials"][:4] == first["trials"]
    assert [trial["settings"]["learning_rate"] for trial in longer["trials"][4:]] == [0.03, 0.03]
    write(file, "[grid]\nlearning_rate = [1e-3]\n", num_envs=8)
    assert "what all its trials share: num_envs 4 -> 8" in refused(capsys, "sweep", *common, "--extend")

    # `runs list` shows the study, and its trials.
    assert main(["runs", "list", "--runs-dir", str(study_dir.parent)]) == 0
    assert "6 of 6" in capsys.readouterr().out
    status, listed = answer(capsys, "runs", "list", "--study", study_dir)
    assert [row["objective"] for row in listed["study"]["rows"]] == [t["objective"] for t in longer["trials"]]


def test_a_failed_trial_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("def make():\n    raise RuntimeError('no such world')\n")
    file = write(tmp_path / "f.toml", "", seeds="[1]", env=f"{broken}:make")
    status, found = answer(capsys, "sweep", file, "--study-dir", tmp_path / "s", "--jobs", 1)
    assert status == 1
    (trial,) = found["trials"]
    assert trial["status"] == "failed"
    assert "no such world" in trial["error"]


def test_names_that_do_not_exist_are_refused_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(*arguments: Any) -> Any:
        raise AssertionError("an engine was started")

    monkeypatch.setattr(study_commands, "make_engine", start)
    study, tiny = ("--study-dir", tmp_path / "s"), TINY["env"].rpartition(":")[0]
    for env, said in (
        ("gymnax:CartPole-v9", "gymnax has no environment CartPole-v9; it has, for example, CartPole-v1"),
        ("gymnasium:Absent-v0", "Absent"),
        ("gymnasium:absent_package:Some-v0", "absent_package"),
        ("absent_package.worlds:make", "there is no module absent_package"),
        ("matrixrl.config:make", "matrixrl.config has no make"),
        (f"{tmp_path}/absent.py:make", "there is no file"),
        (f"{tiny}:Maskd", "has no Maskd; did you mean Masked?"),
    ):
        line = refused(capsys, "sweep", write(tmp_path / "f.toml", "", env=env), *study)
        assert line.startswith(f"matrixrl: {tmp_path}/f.toml: --env {env}: ")
        assert said in line
    # Each value of a grid or a search space, and networks.
    grid = f'[grid]\nnetwork = ["{tiny}:Masked", "{tiny}:Net"]\n'
    assert f"--network {tiny}:Net: " in refused(capsys, "sweep", write(tmp_path / "f.toml", grid), *study)
    space = f'[space]\nenv = ["{TINY["env"]}", "gymnax:Acrobat-v1"]\n'
    line = refused(capsys, "tune", write(tmp_path / "f.toml", space, seeds="[1]"), *study)
    assert "--env gymnax:Acrobat-v1: gymnax has no environment Acrobat-v1" in line
    words = ["ppo", "train", "--env", TINY["env"], "--runs-dir", str(tmp_path / "s"), "--sweep"]
    assert f"--network {tiny}:Net: " in refused(capsys, *words, f"network={tiny}:Masked,{tiny}:Net")
    assert not (tmp_path / "s").exists()


def test_names_are_looked_up_in_a_process_where_jax_is_not_loaded(tmp_path: Path) -> None:
    noisy = tmp_path / "noisy.py"
    noisy.write_text("print('hello')\ndef make(): raise AssertionError\n")
    error = environment_names._ask_process([("--env", f"{noisy}:make"), ("--env", f"{noisy}:mak")])
    assert error == f"--env {noisy}:mak: {noisy} has no mak; did you mean make?"


@pytest.mark.slow
def test_code_that_ends_its_process_is_refused(tmp_path: Path) -> None:
    dead = tmp_path / "dead.py"
    dead.write_text("import os\nos._exit(3)\n")
    assert environment_names._ask_process([("--env", f"{dead}:make")]) == (
        f"--env {dead}:make: the process that imports it ended with status 3: without a message"
    )


def test_other_machines_may_have_what_is_not_here(tmp_path: Path) -> None:
    names = ("absent_package:make", f"{tmp_path}/absent.py:make", "gymnasium:absent_package:Some-v0")
    require_names([("--env", name) for name in names], trained_elsewhere=True)
    with pytest.raises(ConfigError, match=r"matrixrl\.config has no make"):
        require_names([("--env", "matrixrl.config:make")], trained_elsewhere=True)


def test_bad_command_lines_leave_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "f.toml", "[grid]\nlearning_rate = [-1.0]\n")
    study = ("--study-dir", tmp_path / "s")
    assert "learning_rate = -1.0: must be above 0" in refused(capsys, "sweep", file, *study)
    assert "cannot be read" in refused(capsys, "sweep", tmp_path / "absent.toml", *study)
    write(file, "[grid]\nlearning_rate = [1.0]\n")
    assert "--jobs 0: must be 1 or more" in refused(capsys, "sweep", file, *study, "--jobs", 0)
    assert "is for --on ray" in refused(capsys, "sweep", file, *study, "--ray-address", "a:1")
    for address in ("127.0.0.1:9", "nowhere", "ray://h:1"):
        assert f"--ray-address {address}: " in refused(
            capsys, "sweep", file, *study, "--on", "ray", "--ray-address", address
        )
    assert "sampler" in refused(
        capsys, "tune", write(file, '[space]\ngamma = [0.9]\n[tune]\nsampler = "magic"\n'), *study
    )
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    write(file, "")
    assert "is no study and not empty" in refused(capsys, "sweep", file, "--study-dir", tmp_path / "full")
    assert not (tmp_path / "s").exists()


def test_missing_extras_name_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    file = write(tmp_path / "f.toml", "")
    assert "pip install 'matrixrl[ray]'" in refused(capsys, "sweep", file, "--on", "ray")
    assert "pip install 'matrixrl[tune]'" in refused(capsys, "tune", file)


@pytest.mark.slow
def test_a_search_finds_a_learning_rate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import optuna

    space = "[space]\nlearning_rate = {low = 1e-5, high = 1e-1, log = true}\n"
    more = '[tune]\ntrials = 8\nsampler = "tpe"\n'
    file = write(
        tmp_path / "f.toml", space, total_timesteps=640, objective=OBJECTIVE + 'value = "area"\n' + more
    )
    study_dir = tmp_path / "s"
    status, found = answer(capsys, "tune", file, "--study-dir", study_dir, "--jobs", 2)
    assert status == 0
    # The defaults of this search's start: a learning rate a hundred times too small.
    poor = write(tmp_path / "p.toml", "[grid]\nlearning_rate = [1e-5, 1e-3]\n", total_timesteps=640)
    _, compared = answer(capsys, "sweep", poor, "--study-dir", tmp_path / "p")
    assert found["best"]["objective"] > max(trial["objective"] for trial in compared["trials"][:2])
    stored = optuna.load_study(study_name="s", storage=f"sqlite:///{study_dir / 'optuna.db'}")
    assert len(stored.trials) == 8
    assert stored.best_value == pytest.approx(found["best"]["objective"])
    assert stored.best_params == found["best"]["settings"]
    assert found["best"]["importance"] == {"learning_rate": pytest.approx(1.0)}
    assert (study_dir / "plots" / "history.png").exists()
    # `best.toml` is accepted by --config.
    status, run = answer(
        capsys,
        "ppo",
        "train",
        "--config",
        found["best"]["config"],
        "--runs-dir",
        tmp_path / "again",
        "--console",
        "quiet",
    )
    assert status == 0
    same = [t for t in found["trials"] if t["run_name"] == found["best"]["run_names"][0]]
    assert run["params_sha256"] == same[0]["params_sha256"]


def test_a_metric_that_no_run_has_is_refused_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, study = tmp_path / "f.toml", ("--study-dir", tmp_path / "s")
    for command, settings, metric, meant in (
        ("hackmatrix train", "", "episode/win_rates", "episode/win_rate"),
        ("hackmatrix train", "", "episode/start_stage", "later_starts"),
        ("matmul train", "sizes = ['2x2x2', '2x2x3']", "epoch_best_rank", "epoch_best_rank_2x2x"),
        ("matmul flip", "flips = 1000", "walk/best", "walk/best_rank"),
        ("ppo train", f"env = {json.dumps(TINY['env'])}", "train/entropi", "train/entropy"),
    ):
        file.write_text(f'command = "{command}"\n[settings]\n{settings}\n[objective]\nmetric = "{metric}"\n')
        line = refused(capsys, "sweep", file, *study)
        assert f'[objective] metric = "{metric}": no run of `matrixrl {command}` has it' in line
        if meant != "later_starts":
            assert f"did you mean {meant}" in line
    assert not (tmp_path / "s").exists()


def test_a_study_at_a_url_is_trained_and_continues(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Runs travel to the URL while they grow. It has no local folder."""
    import fsspec

    file, url = write(tmp_path / "f.toml", "", seeds="[1, 2]"), f"memory://{tmp_path.name}/study"
    common = (file, "--study-dir", url, "--jobs", 1, "--scratch", tmp_path / "scratch")
    status, found = answer(capsys, "sweep", *common)
    assert status == 0
    assert [trial["status"] for trial in found["trials"]] == ["finished"] * 2
    assert [trial["run_dir"] for trial in found["trials"]] == [f"{url}/runs/study-00{k}" for k in (1, 2)]
    assert answer(capsys, "sweep", *common) == (0, found)
    write(file, "", seeds="[1, 2, 3]")
    assert "add --extend" in refused(capsys, "sweep", *common)
    # What is at the URL is a study like every other.
    fsspec.filesystem("memory").get(f"/{tmp_path.name}/study/", str(tmp_path / "copy") + "/", recursive=True)
    runs_dir = tmp_path / "copy" / "runs"
    assert len(run_folders(runs_dir)) == 2
    for trial in found["trials"]:
        assert main(["runs", "audit", trial["run_name"], "--runs-dir", str(runs_dir)]) == 0
    assert not list((tmp_path / "scratch").glob("*/runs/*/*"))


@pytest.mark.slow
def test_a_study_at_a_url_on_ray(tmp_path: Path) -> None:
    """The nodes of a cluster write to the URL themselves; this one's files are in a local folder."""
    file, url = write(tmp_path / "f.toml", "", seeds="[1, 2]"), f"dir::file://{tmp_path / 'far'}"
    sweep = begin(file, f"{url}/study", "--on=ray", "--jobs=1")
    output, _ = sweep.communicate()
    assert sweep.returncode == 0
    trials = json.loads(output.splitlines()[-1])["trials"]
    assert [trial["status"] for trial in trials] == ["finished"] * 2
    for trial in trials:
        (run,) = (tmp_path / "far").rglob(f"{trial['run_name']}/run.json")
        assert main(["runs", "audit", trial["run_name"], "--runs-dir", str(run.parents[1])]) == 0


@pytest.mark.slow
def test_a_point_that_is_not_promising_is_pruned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The objective is the learning rate itself, so a point with a lower one than the median is pruned."""
    monkeypatch.setattr(
        "matrixrl.cli.study_commands.LaunchOptions", partial(LaunchOptions, report_seconds=0.4)
    )
    text = "[space]\nlearning_rate = {low = 1e-5, high = 1e-2, log = true}\n"
    text += '[tune]\ntrials = 5\nsampler = "random"\npruner = "median"\nwarmup_trials = 1\n'
    objective = '[objective]\nmetric = "train/learning_rate"\n'
    file = write(tmp_path / "f.toml", text, seeds="[1]", objective=objective, total_timesteps=64_000)
    status, found = answer(capsys, "tune", file, "--study-dir", tmp_path / "s", "--jobs", 1)
    assert status == 0
    statuses = [trial["status"] for trial in found["trials"]]
    assert statuses[0] == "finished"
    assert "pruned" in statuses
    study = read_study(tmp_path / "s")
    assert study is not None
    shown = study_table(study)
    assert [row["status"] for row in shown.rows] == statuses
    assert shown.counts["pruned"] == statuses.count("pruned")
    best = max(trial["settings"]["learning_rate"] for trial in found["trials"])
    assert found["best"]["settings"]["learning_rate"] == best
    pruned = [trial for trial in found["trials"] if trial["status"] == "pruned"]
    for trial in pruned:  # a pruned run is a whole run that was stopped early
        assert trial["settings"]["learning_rate"] < best
        assert main(["runs", "audit", trial["run_name"], "--runs-dir", str(tmp_path / "s" / "runs")]) == 0
        with JournalReader(tmp_path / "s" / "runs" / trial["run_name"]) as reader:
            assert 0 < reader.last_step() < 64_000 // 32


@pytest.mark.slow
def test_a_killed_search_continues(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import optuna

    text = "[space]\nlearning_rate = { low = 1e-4, high = 3e-2, log = true }\n"
    text += '[tune]\ntrials = 4\nsampler = "random"\n'
    file = write(tmp_path / "f.toml", text, seeds="[1]", **LONG)
    study_dir = tmp_path / "s"
    search = begin(file, study_dir, "--jobs=1", kind="tune")
    while search.poll() is None and not list((study_dir / "runs").glob("*-002/checkpoints/[0-9]*")):
        time.sleep(0.05)
    os.kill(search.pid, signal.SIGKILL)
    search.communicate()
    assert search.returncode == -signal.SIGKILL
    killed = read_study(study_dir)
    assert killed is not None
    assert [trial.status for trial in killed.trials] == ["finished", "running"]
    status, found = answer(capsys, "tune", file, "--study-dir", study_dir, "--jobs", 1)
    assert status == 0
    assert [trial["status"] for trial in found["trials"]] == ["finished"] * 4
    assert [trial["attempts"] for trial in found["trials"]] == [1, 2, 1, 1]
    assert found["trials"][0]["params_sha256"] == killed.trials[0].result["params_sha256"]
    stored = optuna.load_study(study_name="s", storage=f"sqlite:///{study_dir / 'optuna.db'}")
    assert [trial.state.name for trial in stored.trials] == ["COMPLETE"] * 4
    assert [trial.value for trial in stored.trials] == [trial["objective"] for trial in found["trials"]]
    for trial in found["trials"]:
        assert main(["runs", "audit", trial["run_name"], "--runs-dir", str(study_dir / "runs")]) == 0


@pytest.mark.slow
def test_runs_of_a_study_are_a_group_on_wandb(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless the user names another group."""
    from wandb.proto import wandb_internal_pb2

    for name, value in offline_environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    for given, expected in (("", "mine"), ("other", "other")):
        monkeypatch.setenv("WANDB_RUN_GROUP", given)
        file = write(tmp_path / "f.toml", "", seeds="[1]", wandb=True)
        study_dir = tmp_path / (given or "first") / "mine"
        status, found = answer(capsys, "sweep", file, "--study-dir", study_dir, "--jobs", 1)
        assert status == 0
        (run,) = found["trials"]
        (path,) = Path(run["run_dir"]).glob("wandb/offline-run-*/run-*.wandb")
        kind: Any = wandb_internal_pb2.Record  # pyright: ignore[reportAttributeAccessIssue]
        records = [kind.FromString(data) for data in leveldb_records(path)]
        groups = {record.run.run_group for record in records if record.WhichOneof("record_type") == "run"}
        assert groups == {expected}


LONG: dict[str, Any] = {"total_timesteps": 96_000, "save_interval_chunks": 20}
"""Runs that are still in the middle when their study has been killed: a worker process that has lost
its study finishes what takes it a moment.
"""


def begin(file: Path, study_dir: Path | str, *more: str, kind: str = "sweep") -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "matrixrl",
        kind,
        str(file),
        f"--study-dir={study_dir}",
        "--json",
        *more,
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_sweep_continues(
    tmp_path: Path, number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed or interrupted in the middle and started again, every run equals the same run alone."""
    file = write(tmp_path / "f.toml", "", seeds="[1, 2, 3]", **LONG)
    study_dir = tmp_path / "s"
    sweep = begin(file, study_dir, "--jobs=1")
    while sweep.poll() is None and not list((study_dir / "runs").glob("*-002/checkpoints/[0-9]*")):
        time.sleep(0.05)
    os.kill(sweep.pid, number)
    sweep.communicate()
    assert sweep.returncode == (-9 if number == signal.SIGKILL else 130)
    study = read_study(study_dir)
    assert study is not None
    assert study.trials[0].status == "finished"
    assert study.trials[2].status == "waiting"
    status, found = answer(capsys, "sweep", file, "--study-dir", study_dir, "--jobs", 1)
    assert status == 0
    assert found["trials"][1]["attempts"] == 2
    for trial in found["trials"]:
        assert main(["runs", "audit", trial["run_name"], "--runs-dir", str(study_dir / "runs")]) == 0
    capsys.readouterr()
    again = {
        **TINY,
        "total_timesteps": LONG["total_timesteps"],
        "seed": 2,
        "runs_dir": tmp_path / "alone",
        "console": "quiet",
    }
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in again.items()]
    status, alone = answer(capsys, "ppo", "train", *flags)
    assert alone["params_sha256"] == found["trials"][1]["params_sha256"]


def test_a_sweep_on_ray(tmp_path: Path) -> None:
    """In a process of its own: Ray leaves threads and sockets behind."""
    file = write(tmp_path / "f.toml", "", seeds="[1]")
    scratch = tmp_path / "scratch"
    sweep = begin(file, tmp_path / "s", "--on=ray", "--jobs=1", f"--scratch={scratch}")
    output, _ = sweep.communicate()
    assert sweep.returncode == 0
    (trial,) = json.loads(output.splitlines()[-1])["trials"]
    assert trial["status"] == "finished"
    assert main(["runs", "audit", trial["run_name"], "--runs-dir", str(tmp_path / "s" / "runs")]) == 0
    assert not list(scratch.glob("*/runs/*"))  # forgotten, once the study had it


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False], ids=["shared disk", "own disks"])
def test_a_cluster_that_loses_a_node(
    tmp_path: Path, shared: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Twelve runs on two nodes, one of which is lost while another one joins: all finish, every audit agrees,
    and every run equals the same run alone.
    """
    seeds = str(list(range(1, 13)))
    file = write(tmp_path / "f.toml", "", seeds=seeds, total_timesteps=6400, save_interval_chunks=5)
    scratch = "-" if shared else str(tmp_path / "scratch")
    command = [sys.executable, "-m", "tests.studies.cluster_sweep", str(file), str(tmp_path / "s"), scratch]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    trials = json.loads(done.stdout.splitlines()[-1])["trials"]
    assert [trial["status"] for trial in trials] == ["finished"] * 12
    for trial in trials:
        assert main(["runs", "audit", trial["run_name"], "--runs-dir", str(tmp_path / "s" / "runs")]) == 0
    # Alone, one after the other in one process, without Ray.
    _, alone = answer(capsys, "sweep", file, "--study-dir", tmp_path / "alone", "--jobs", 1)
    assert [t["params_sha256"] for t in alone["trials"]] == [t["params_sha256"] for t in trials]
