"""`matrixrl matmul train` given what it cannot do, and signals: one line, the right status, nothing half-written."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from matrixrl.cli.main import COMMANDS, main
from matrixrl.tracking.audit import audit
from matrixrl.tracking.journal_reader import JournalReader
from tests.cli.announced import without_announcement
from tests.systems.conftest import PRETRAINING, TINY, only_run

ROOT = Path(__file__).resolve().parents[2]

# What contractions report is most of what there is to compile.
CHEAP = [
    "--policy",
    "tokens",
    "--no-rank-profile",
    "--refinement-rounds",
    "0",
    "--partial-solution-fraction",
    "0",
]

# What is accepted by mistake ends soon.
SHORT = ["--pretraining-steps", "1", "--num-epochs", "0"]

# Command line after `matmul train`, and what the one line must say.
IMPOSSIBLE: list[tuple[list[str], list[str]]] = [
    (["--devices", "7"], ["--devices 7", "this machine shows"]),
    (["--pretraining-steps", "1.5"], ["--pretraining-steps", "1.5"]),
    (["--pretraining-steps", "1e-3"], ["--pretraining-steps", "1e-3"]),
    (["--runs-dir", "gs://bucket/runs"], ["--runs-dir gs://bucket/runs", "local folder"]),
    (["--runs-dir", "s3://bucket/runs"], ["--runs-dir s3://bucket/runs"]),
    (["--size", "0", "2", "2"], ["--size 0 2 2", "5 5 5"]),
    (["--size", "9", "9", "9"], ["--size 9 9 9", "5 5 5"]),
    (["--size", "6", "6", "6"], ["--size 6 6 6", "25"]),
    (["--size", "2", "2"], ["--size"]),
    (["--size", "1", "1", "1"], ["--step-margin -1"]),
    (["--sizes", "2x2"], ["--sizes 2x2", "2x2x3"]),
    (["--sizes", "2x2x2", "6x6x6"], ["--sizes 2x2x2 6x6x6", "25"]),
    (["--sizes", "2x2x2", "2x2x2"], ["--sizes 2x2x2 2x2x2", "each format once"]),
    (["--sizes", "2x2x2", "2x2x3", "--step-limit", "9"], ["--step-limit 9", "--step-margin"]),
    (["--sizes", "2x2x2", "2x2x3", "--stop-at-rank", "9"], ["--stop-at-rank 9", "records of all"]),
    (["--sizes", "2x2x2", "2x2x3", "--parallel-games", "1"], ["--parallel-games 1", "2 formats"]),
    (["--tensor", "nothing"], ["--tensor nothing", "poly-NxM", ".npz"]),
    (["--tensor", "nothing.npz"], ["--tensor nothing.npz", "No such file"]),
    (["--tensor", "poly-2x2", "--size", "2", "2", "3"], ["--tensor poly-2x2", "--size"]),
    (["--tensor", "poly-2x2", "--sizes", "2x2x3"], ["--tensor poly-2x2", "--sizes"]),
    (["--tensor", "poly-1x1"], ["--step-margin -1", "poly-1x1", "at least 0"]),
    (["--tensor", "symmetric-9x1"], ["--tensor symmetric-9x1", "45x9x9", "at most 25"]),
    (["--tensor", "complex", "--demonstrations", "known"], ["--demonstrations known", "complex"]),
    (["--tensor", "poly-9x9", "--policy", "transform"], ["--policy transform", "17 entries", "--policy tokens"]),
    (["--no-rank-profile"], ["--no-rank-profile", "--policy tokens"]),
    (["--policy", "transform", "--size", "5", "5", "5"], ["--policy transform", "25", "at most 16", "--policy tokens"]),
    (["--policy", "transform", "--ring", "Z", "--size", "2", "4", "2"], ["8 entries over Z", "at most 6"]),
    (["--size", "two", "2", "2"], ["--size", "two"]),
    (["--batch-size", "5000"], ["--batch-size 5000", "--replay-size"]),
    (["--replay-size", "4"], ["--replay-size 4", "--parallel-games"]),
    (["--learning-rate", "-1"], ["--learning-rate -1", "above 0"]),
    (["--learning-rate", "nan"], ["--learning-rate nan", "above 0"]),
    (["--learning-rate", "fast"], ["--learning-rate", "fast"]),
    (["--num-epochs", "1.5"], ["--num-epochs", "1.5"]),
    (["--preset", "nope"], ["--preset nope", "quick, discover, integers, full, dev"]),
    (["--preset"], ["--preset", "quick"]),
    (["--seed", "-1"], ["--seed -1", "0 to"]),
    (["--seed"], ["--seed"]),
    (["--ring", "Q"], ["--ring Q", "Z, F2"]),
    (["--max-coefficient", "2"], ["--max-coefficient 2", "--ring Z"]),
    (["--demonstrations", "synthetic", "synthetic"], ["--demonstrations", "each once"]),
    (["--min-density", "0.9", "--max-density", "0.1"], ["--min-density 0.9"]),
    (["--candidate-temperature", "1e9"], ["--candidate-temperature 1000000000.0", "100"]),
    (["--leraning-rate", "1"], ["unknown flag --leraning-rate", "--learning-rate"]),
    (["--run-name", "a/b"], ["--run-name", "a/b", "separator"]),
    (["--resume-run", "latest"], ["--resume-run latest"]),
    (["surplus"], ["surplus"]),
]  # fmt: skip


def one_line(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert without_announcement(captured.out) == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("matrixrl: ")
    return line


@pytest.mark.parametrize(("arguments", "said"), IMPOSSIBLE, ids=lambda value: " ".join(value)[:40])
def test_an_impossible_setting_is_one_line_and_leaves_nothing(
    arguments: list[str], said: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = one_line(capsys, "matmul", "train", "--runs-dir", str(tmp_path / "runs"), *SHORT, *arguments)
    for part in said:
        assert part in line
    runs = tmp_path / "runs"
    assert not runs.exists() or not list(runs.iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["matmull"], "matmull"), (["matmul", "trian"], "trian"), (["matmul", "train", "--runs-dir"], "--runs-dir")],
)  # fmt: skip
def test_an_unknown_command_is_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in one_line(capsys, *arguments)


def test_a_runs_folder_that_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "runs").write_text("mine")
    line = one_line(capsys, "matmul", "train", "--runs-dir", str(tmp_path / "runs"), *TINY)
    assert str(tmp_path / "runs") in line
    assert (tmp_path / "runs").read_text() == "mine"


def test_a_runs_folder_that_cannot_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    # Nobody can make a folder there, root included.
    line = one_line(capsys, "matmul", "train", "--runs-dir", "/proc/runs", *TINY)
    assert "--runs-dir /proc/runs" in line


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk is not permitted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("room", [0, 20_000])
def test_a_full_disk_is_one_line_and_leaves_no_half_run(
    room: int, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (small_disk / "other").write_bytes(bytes(64 * 1024 - 8192 - room))
    line = one_line(capsys, "matmul", "train", "--runs-dir", str(small_disk / "runs"), *TINY)
    assert "space" in line or "disk" in line.replace(str(small_disk), "")
    runs = small_disk / "runs"
    assert not runs.exists() or not list(runs.iterdir())


@pytest.mark.slow
def test_a_scheme_that_cannot_be_written_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("matrixrl.systems.matmul.discoveries.save_png", full)
    arguments = ["matmul", "train", "--runs-dir", str(tmp_path), "--console", "quiet", *TINY]
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "No space left" in line
    with JournalReader(only_run(tmp_path)) as reader:
        assert reader.attempts()[0].status == "crashed"
        assert len(list(reader.stream())) >= PRETRAINING


@pytest.mark.parametrize("number", ["2000000", "2e6", "2_000_000", "2.0E+6", "0.2e7"])
def test_whole_numbers_are_read_in_every_usual_notation(number: str) -> None:
    from matrixrl.cli import hackmatrix, matmul

    settings = hackmatrix.read_config(["--total-timesteps", number, f"--seed={number}"])
    assert (settings.ppo.total_timesteps, settings.seed) == (2_000_000, 2_000_000)
    assert matmul.read_config(["--size", "2e0", "2", "0.3e1", "--seed", number]).game.size == (2, 2, 3)


def test_flags_that_a_preset_switches_on_can_be_given_and_switched_off() -> None:
    from matrixrl.cli.matmul import read_config

    assert read_config(["--preset", "dev"]).tracking.record_moves
    assert read_config(["--preset", "dev", "--record-moves"]).tracking.record_moves
    assert not read_config(["--preset", "dev", "--no-record-moves"]).tracking.record_moves
    assert not read_config(["--policy", "tokens", "--no-rank-profile"]).network.rank_profile
    assert read_config([]).transforms
    assert not read_config(["--policy", "tokens"]).transforms
    assert read_config(["--size", "4", "4", "4"]).transforms
    assert not read_config(["--size", "5", "5", "5"]).transforms
    assert read_config(["--rank-profile"]).network.rank_profile


def test_help_of_every_command_answers_without_jax() -> None:
    script = (
        "import sys\n"
        "from matrixrl.cli.main import COMMANDS, TOP_COMMANDS, main\n"
        "groups = {group for group, _ in COMMANDS}\n"
        "for command in [(), *((name,) for name in (*groups, *TOP_COMMANDS)), *COMMANDS]:\n"
        "    try:\n"
        "        status = main([*command, '--help'])\n"
        "    except SystemExit as error:\n"
        "        status = error.code\n"
        "    assert not status, command\n"
        "    heavy = {'jax', 'flax', 'optax', 'mctx', 'wandb', 'matplotlib'} & set(sys.modules)\n"
        "    assert not heavy, (command, heavy)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, env=environment()
    )
    assert done.returncode == 0, done.stderr
    for (group, name), command in COMMANDS.items():
        assert f"matrixrl {group} {name}" in done.stdout
        assert command.summary in done.stdout


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]), "COLUMNS": "120"}


@pytest.mark.parametrize(
    ("number", "status"), [pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow), (signal.SIGTERM, 143)]
)
def test_a_signal_finishes_the_chunk_and_closes_the_journal(
    number: signal.Signals, status: int, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    process = subprocess.Popen(
        [
            sys.executable, "-m", "matrixrl.cli.main", "matmul", "train", "--runs-dir", str(runs), *TINY, *CHEAP,
            "--pretraining-steps", "1000000", "--num-epochs", "0",
        ],
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        wait_for_rows(runs, process)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == status, errors
    assert "Traceback" not in errors
    directory = only_run(runs)
    with JournalReader(directory) as reader:
        steps = [row.step for row in reader.stream()]
        (attempt,) = reader.attempts()
    assert attempt.status == "interrupted"
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) % 3 == 0  # chunks of three, each whole
    assert audit(directory).agrees


def wait_for_rows(runs: Path, process: subprocess.Popen[str]) -> None:
    for _ in range(1200):
        assert process.poll() is None, process.communicate()
        if list(runs.glob("*/console.log")):  # made after the journal
            with JournalReader(only_run(runs)) as reader:
                if next(reader.stream(), None) is not None:
                    return
        time.sleep(0.1)
    raise AssertionError("no row within two minutes")
