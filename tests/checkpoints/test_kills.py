"""Training that is killed or stopped, and resumed, equals training that was left alone."""

from __future__ import annotations

import random
import shlex
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from matrixrl.checkpoints.store import CheckpointStore
from tests.checkpoints import runs

Reference = tuple[Path, dict[str, Any]]


def disturb(
    env: dict[str, str],
    arguments: list[str],
    folder: Path,
    at_step: int,
    jitter: float,
    number: signal.Signals,
) -> tuple[int, str, str]:
    """Start a trainer and send it a signal soon after it recorded a step. Status and what it said."""
    with subprocess.Popen(
        runs.command(*arguments), env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 200
        while (
            process.poll() is None and runs.recorded_steps(folder) < at_step and time.monotonic() < deadline
        ):
            time.sleep(0.002)
        time.sleep(jitter)
        if process.poll() is None:
            process.send_signal(number)
        out, err = process.communicate(timeout=200)
    return process.returncode, out, err


def kill_and_resume(env: dict[str, str], reference: Reference, runs_dir: Path, kills: int, seed: int) -> None:
    draw = random.Random(seed)
    expected_folder, expected = reference
    last = expected["global_step"]
    folder = runs_dir / "r"
    begin = [
        "train",
        *runs.TINY,
        "--runs-dir",
        str(runs_dir),
        "--run-name",
        "r",
        "--save-interval-chunks",
        "3",
    ]
    resume = ["train", "--resume-run", "r", "--runs-dir", str(runs_dir)]
    for kill in range(kills):
        # Further on each time, now and then in the middle of writing a checkpoint, now and then at the very end.
        at_step = draw.randint(last * kill // kills, last * (kill + 1) // kills)
        arguments = resume if folder.exists() else begin
        status, _, err = disturb(env, arguments, folder, at_step, draw.uniform(0, 0.2), signal.SIGKILL)
        assert status in (-signal.SIGKILL, 0), err
        assert "Traceback" not in err
    done = runs.run(env, *resume, "--json")
    found = runs.result(done)
    for name in ("params_sha256", "global_step", "episodes", "epochs", "best_rank", "ring"):
        assert found[name] == expected[name], name
    assert "differs from what was recorded" not in done.stdout
    runs.assert_equal_runs(folder, expected_folder)


def test_two_kills_at_random_moments_leave_no_trace(
    env: dict[str, str], reference: Reference, tmp_path: Path
) -> None:
    kill_and_resume(env, reference, tmp_path, kills=2, seed=random.randrange(10**6))


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("seed", range(3))
def test_ten_kills_at_random_moments_leave_no_trace(
    env: dict[str, str], reference: Reference, tmp_path: Path, seed: int
) -> None:
    kill_and_resume(env, reference, tmp_path, kills=10, seed=seed)


def test_stopped_runs_say_how_to_go_on_and_that_command_does(
    env: dict[str, str], reference: Reference, tmp_path: Path
) -> None:
    folder = tmp_path / "r"
    arguments = ["train", *runs.TINY, "--runs-dir", str(tmp_path), "--run-name", "r"]
    for at_step, number, expected in ((24, signal.SIGTERM, 143), (60, signal.SIGINT, 130)):
        status, _, err = disturb(env, arguments, folder, at_step, 0.0, number)
        assert status == expected, err
        stopped = CheckpointStore(folder).steps()[-1]
        assert stopped == runs.recorded_steps(folder)
        assert f"stopped at step {stopped}" in err
        line = err.splitlines()[-1]
        arguments = shlex.split(line.split("continue with: ")[1])[2:]
        assert arguments == ["train", "--resume-run", "r", "--runs-dir", str(tmp_path)]
    found = runs.result(runs.run(env, *arguments, "--json"))
    assert found["params_sha256"] == reference[1]["params_sha256"]
    runs.assert_equal_runs(folder, reference[0])


@pytest.mark.slow
def test_sigterm_while_compiling_ends_within_the_grace_time(env: dict[str, str], tmp_path: Path) -> None:
    cold = {**env, "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cold")}
    folder = tmp_path / "r"
    arguments = [
        "train",
        *runs.TINY,
        "--runs-dir",
        str(tmp_path),
        "--run-name",
        "r",
        "--grace-seconds",
        "0.5",
    ]
    with subprocess.Popen(runs.command(*arguments), env=cold, stderr=subprocess.PIPE, text=True) as process:
        while not (folder / "console.log").exists():
            time.sleep(0.01)
        time.sleep(0.5)
        process.terminate()
        _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "not finished 0.5 s after SIGTERM" in err
    assert "--resume-run r" in err
