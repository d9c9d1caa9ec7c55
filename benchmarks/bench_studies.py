"""What a study costs: a trial once its worker is warm, and the lists and the page of 1,000 trials.

    nice -n 5 python benchmarks/bench_studies.py [--trials 12] [--runs 1000] [--only lists page] [--json]

The trials train tests/envs/tiny.py for 10 updates, so that nearly all of their time is the study's and the run's own: start, journal,
checkpoint, end. The lists are processes of their own; their seconds include the start of Python. The answers of the dashboard are
those of a new server (no summary and no curve is in its memory).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from matrixrl.config import TrackingConfig
from matrixrl.studies.record import Study, save_study
from matrixrl.studies.trials import TrialMember, TrialPlan
from matrixrl.tracking.events import ScalarRow
from matrixrl.tracking.run import open_run

ROOT = Path(__file__).resolve().parents[1]

TINY_STUDY = f"""
command = "ppo train"
seeds = [SEEDS]
together = []
[settings]
env = "{ROOT / "tests/envs/tiny.py"}:Masked"
num_envs = 4
num_steps = 8
num_minibatches = 2
hidden_dim = 8
"""
"""Beginning of a study file: a tiny network on a tiny environment."""

STUDY = f"""{TINY_STUDY}
total_timesteps = 320
log_interval = 2
[objective]
metric = "episode/return"
"""


def warm_trials(folder: Path, trials: int) -> dict[str, Any]:
    """Trains trials in one worker; the first one compiles."""
    file = folder / "study.toml"
    file.write_text(STUDY.replace("SEEDS", ", ".join(map(str, range(trials)))))
    command = [
        sys.executable,
        "-m",
        "matrixrl",
        "sweep",
        str(file),
        f"--study-dir={folder / 'study'}",
        "--jobs=1",
        "--json",
    ]
    began = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, text=True)
    seconds = [trial["seconds"] for trial in json.loads(done.stdout.splitlines()[-1])["trials"]]
    return {
        "first trial, s": seconds[0],
        "warm trial, s, median": statistics.median(seconds[1:]),
        "warm trial, s, range": [min(seconds[1:]), max(seconds[1:])],
        "whole command, s": time.perf_counter() - began,
    }


def large_study(where: Path, runs: int, rows: int = 100) -> Path:
    """Makes a study of many trials, each with a short curve."""
    study = Study(
        str(where),
        "large",
        "sweep",
        {"command": "ppo train", "seeds": [0], "objective": {"metric": "train/loss"}},
    )
    for number in range(runs):
        trial = study.add(TrialPlan((TrialMember({"learning_rate": (number + 1) * 1e-6}, 0),), {}))
        trial.status, trial.objectives = "finished", [float(number)]
        config = TrackingConfig(runs_dir=where / "runs", run_name=trial.run_name, console="quiet")
        quiet = contextlib.redirect_stdout(io.StringIO())
        with quiet, open_run(config, system="ppo", name_prefix="bench", run_config={"seed": 0}) as run:
            run.record(
                [ScalarRow(tick, {"train/loss": 1.0, "train/a": 2.0}) for tick in run.clock.advance(rows)]
            )
            run.finish()
    save_study(study, where)
    return where


def lists(where: Path) -> dict[str, Any]:
    """Lists a study of many trials, and its run folders."""
    return {
        "runs list --study, s, processor s": _timed(["runs", "list", "--study", str(where)]),
        "runs list of its runs, s, processor s": _timed(["runs", "list", "--runs-dir", str(where / "runs")]),
    }


def page(where: Path) -> dict[str, Any]:
    """Asks a new server for the page of a study, as the browser does, and for the list of its runs."""
    from matrixrl.dashboard.server import create_app
    from tests.dashboard.client import Client

    client = Client(create_app(where.parent))
    found: dict[str, Any] = {}

    def ask(name: str, path: str) -> Any:
        began, before = time.perf_counter(), time.process_time()
        answer = client.get(path).json()
        seconds = [round(time.perf_counter() - began, 3), round(time.process_time() - before, 3)]
        found[f"{name}, s, processor s"] = seconds
        return answer

    ask("list of runs with the study", "/api/runs")
    assert len(ask("page, first answer", f"/api/studies/{where.name}")["rows"]) > 1
    answer = ask("curves, first answer", f"/api/studies/{where.name}/curves")
    began = time.perf_counter()
    while answer["unread"]:
        answer = client.get(f"/api/studies/{where.name}/curves").json()
    found["curves of all runs, s"] = round(time.perf_counter() - began, 3)
    ask("page again", f"/api/studies/{where.name}")
    ask("curves again", f"/api/studies/{where.name}/curves")
    ask("importance, Optuna's import included", f"/api/studies/{where.name}/importance")
    ask("runs of the study, first answer", f"/api/runs?study={where.name}")
    ask("runs of the study again", f"/api/runs?study={where.name}")
    return found


def _timed(arguments: list[str], repeats: int = 3) -> list[float]:
    """Returns the medians of the seconds and of the processor seconds of a command."""
    found = []
    for _ in range(repeats):
        before, began = _processor_seconds(), time.perf_counter()
        subprocess.run([sys.executable, "-m", "matrixrl", *arguments], stdout=subprocess.DEVNULL, check=True)
        found.append((time.perf_counter() - began, _processor_seconds() - before))
    return [round(statistics.median(column), 3) for column in zip(*found, strict=True)]


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Measures, and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--only", nargs="*", choices=("trials", "lists", "page"), default=None)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    chosen = given.only or ("trials", "lists", "page")
    found: dict[str, Any] = {"load": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as folder:
        if "trials" in chosen:
            found |= warm_trials(Path(folder), given.trials)
        if set(chosen) & {"lists", "page"}:
            where = large_study(Path(folder) / "runs" / "large", given.runs)
            found |= lists(where) if "lists" in chosen else {}
            found |= page(where) if "page" in chosen else {}
    if given.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:<36} {value if isinstance(value, list) else round(value, 3)}")


if __name__ == "__main__":
    main()
