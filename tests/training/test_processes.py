"""Two real processes train as one, over the loopback and between two network namespaces; one is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from matrixrl.cli.main import main
from tests.checkpoints import runs

ROOT = Path(__file__).resolve().parents[2]
LONG = [*runs.HACKMATRIX.tiny, "--total-timesteps", "51200", "--save-interval-chunks", "3"]


@pytest.fixture
def env() -> dict[str, str]:
    return runs.environment(Path(os.environ["JAX_COMPILATION_CACHE_DIR"]))


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def start(
    env: dict[str, str],
    system: runs.System,
    arguments: Sequence[str | Path],
    address: str = "127.0.0.1",
    prefixes: Sequence[Sequence[str]] = ((), ()),
) -> list[subprocess.Popen[str]]:
    """A process after each prefix, together."""
    coordinator = f"{address}:{free_port()}"
    return [
        subprocess.Popen(
            [
                *prefix,
                *system.command(
                    *map(str, arguments), "--json", "--distributed", "--coordinator", coordinator
                ),
                *("--num-processes", str(len(prefixes)), "--process-id", str(number)),
            ],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number, prefix in enumerate(prefixes)
    ]


def ended(processes: Sequence[subprocess.Popen[str]], status: int = 0) -> list[tuple[str, str]]:
    said = [process.communicate(timeout=280) for process in processes]
    for process, (_, errors) in zip(processes, said, strict=True):
        assert process.returncode == status, errors
        assert "Traceback" not in errors, errors
    return said


def result(said: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Process 0's JSON object; the others print no result."""
    assert all("run_name" not in out for out, _ in said[1:])
    return json.loads(said[0][0].splitlines()[-1])


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("system", [runs.MATMUL, runs.HACKMATRIX], ids=lambda system: system.name)
def test_two_processes_train_what_one_does(system: runs.System, env: dict[str, str], tmp_path: Path) -> None:
    one = runs.result(
        runs.run(env, system.command(*system.tiny, "--runs-dir", str(tmp_path / "one"), "--json"))
    )
    two = result(ended(start(env, system, [*system.tiny, "--runs-dir", tmp_path / "two"])))
    for name in set(system.same) - {"params_sha256"}:
        near = pytest.approx(one[name], rel=1e-4) if isinstance(one[name], float) else one[name]
        assert two[name] == near, name
    if system is runs.HACKMATRIX:  # its sums are made in pairs of groups: the same on any number of devices
        assert two["params_sha256"] == one["params_sha256"]
    first, second = (runs.history(Path(found["run_dir"])) for found in (one, two))
    assert len(first["stream"]) == len(second["stream"])
    assert runs.audit(Path(two["run_dir"])).agrees
    assert written_by_all(tmp_path / "two")
    assert not written_by_all(tmp_path / "one")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_the_run_which_goes_on_with_another_number(
    killed: int, env: dict[str, str], tmp_path: Path
) -> None:
    system = runs.HACKMATRIX
    alone = runs.run(env, system.command(*LONG, "--runs-dir", str(tmp_path / "alone"), "--json"))
    processes = start(env, system, [*LONG, "--runs-dir", tmp_path / "two"])
    deadline = time.monotonic() + 250
    while not any(runs.recorded_steps(folder) > 20 for folder in (tmp_path / "two").glob("*")):
        assert time.monotonic() < deadline
        assert all(process.poll() is None for process in processes)
        time.sleep(0.05)
    processes[killed].send_signal(signal.SIGKILL)
    (_, errors), left = processes[1 - killed].communicate(timeout=200), processes[1 - killed]
    processes[killed].communicate()
    # Process 0 is also where the others ask whether all are there: JAX itself may end them first.
    assert left.returncode == 1 if killed == 1 else left.returncode != 0
    if killed == 1:
        assert "another process of this training ended or cannot be reached" in errors
        assert "the last good checkpoint is checkpoints/" in errors
        assert "--resume-run" in errors
        assert "Traceback" not in errors, errors
    again = ["--resume-run", "latest", "--runs-dir", tmp_path / "two"]
    one = runs.result(runs.run(env, system.command(*map(str, again), "--json")))
    expected = runs.result(alone)
    assert {name: one[name] for name in system.same} == {name: expected[name] for name in system.same}
    assert runs.history(Path(one["run_dir"])) == runs.history(Path(expected["run_dir"]))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_of_one_goes_on_with_two_of_which_one_does_not_see_its_folder(
    env: dict[str, str], tmp_path: Path
) -> None:
    system = runs.HACKMATRIX
    expected = runs.result(
        runs.run(env, system.command(*system.tiny, "--runs-dir", str(tmp_path / "whole"), "--json"))
    )
    half = ["--total-timesteps", str(expected["total_timesteps"] // 2)]
    runs.run(env, system.command(*system.tiny, *half, "--runs-dir", str(tmp_path / "two")))
    processes = []
    coordinator = f"127.0.0.1:{free_port()}"
    # The second has an empty disk of its own where the first has its runs.
    hide = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs none "{tmp_path / "two"}" && exec "$@"', "sh"]
    if os.geteuid() != 0 or subprocess.run([*hide, "true"], capture_output=True, check=False).returncode:
        pytest.skip("hiding a folder from a process needs the command unshare, and root")
    for number, folder in enumerate((tmp_path / "two", tmp_path / "elsewhere")):
        flags = ["--resume-run", "latest", "--runs-dir", str(folder), "--json", "--distributed"]
        flags += ["--total-timesteps", str(expected["total_timesteps"])]
        flags += ["--coordinator", coordinator, "--num-processes", "2", "--process-id", str(number)]
        processes.append(
            subprocess.Popen(
                [*(hide if number else []), *system.command(*flags)],
                env=env,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    found = result(ended(processes))
    assert {name: found[name] for name in system.same} == {name: expected[name] for name in system.same}
    assert not (tmp_path / "elsewhere").exists()
    assert not written_by_all(tmp_path / "two")


def written_by_all(runs_dir: Path) -> bool:
    """Whether the newest checkpoint of the only run holds files of process 1."""
    (folder,) = (entry for entry in runs_dir.iterdir() if not entry.name.startswith("."))
    newest = max((folder / "checkpoints").iterdir(), key=lambda entry: int(entry.name))
    return any(newest.glob("arrays/ocdbt.process_1/**/*"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_signal_to_one_stops_all_and_saves(env: dict[str, str], tmp_path: Path) -> None:
    system = runs.HACKMATRIX
    processes = start(env, system, [*LONG, "--runs-dir", tmp_path])
    deadline = time.monotonic() + 250
    while not any(runs.recorded_steps(folder) > 10 for folder in tmp_path.glob("*")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    processes[1].send_signal(signal.SIGTERM)
    said = ended(processes, 128 + signal.SIGTERM)
    assert "the last good checkpoint is checkpoints/" in said[0][1]
    assert result(said)["status"] == "interrupted"


@pytest.fixture
def two_hosts() -> Any:
    """Two network namespaces with a cable between them: (address of the first, what to put before each command)."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("network namespaces need the command ip, and root")
    names = [f"matrixrl{os.getpid()}{side}" for side in "ab"]
    try:
        for name in names:
            if subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode:
                pytest.skip("this machine makes no network namespaces")
        script = (
            f"ip link add a netns {names[0]} type veth peer name b netns {names[1]} && "
            f"ip -n {names[0]} addr add 10.77.0.1/24 dev a && ip -n {names[1]} addr add 10.77.0.2/24 dev b && "
            f"ip -n {names[0]} link set a up && ip -n {names[1]} link set b up && "
            f"ip -n {names[0]} link set lo up && ip -n {names[1]} link set lo up"
        )
        if subprocess.run(["sh", "-c", script], capture_output=True, check=False).returncode:
            pytest.skip("this machine makes no cable between network namespaces")
        yield "10.77.0.1", [["ip", "netns", "exec", name] for name in names]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_hosts_train_together(two_hosts: Any, env: dict[str, str], tmp_path: Path) -> None:
    address, prefixes = two_hosts
    system = runs.HACKMATRIX
    found = result(ended(start(env, system, [*system.tiny, "--runs-dir", tmp_path], address, prefixes)))
    assert found["status"] == "finished"


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--coordinator", "a:1"], "add --distributed"),
        (["--distributed", "--coordinator", "a:1"], "all three, or none of them"),
        (
            ["--distributed", "--coordinator", "a", "--num-processes", "2", "--process-id", "0"],
            "must be HOST:PORT",
        ),
        (
            ["--distributed", "--coordinator", "a:1", "--num-processes", "2", "--process-id", "2"],
            "must be from 0 to 1",
        ),
        (
            ["--distributed", "--coordinator", "a:1", "--num-processes", "two", "--process-id", "0"],
            "--num-processes two: must be a whole number",
        ),
    ],
)
def test_impossible_flags_are_one_line(
    flags: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["hackmatrix", "train", *flags]) == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1


def test_nobody_else_coming_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "matrixrl.cli.main", "hackmatrix", "train", "--runs-dir", str(tmp_path)),
            *("--distributed", "--coordinator", f"127.0.0.1:{free_port()}", "--num-processes", "2"),
            *("--process-id", "1", "--join-seconds", "1"),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "process 0 did not answer within 1 s" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
