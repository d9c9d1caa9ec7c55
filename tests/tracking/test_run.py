from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from matrixrl.config import ConfigError, TrackingConfig
from matrixrl.tracking.clock import StepClock
from matrixrl.tracking.events import EpisodeRow, MoveRow, ScalarRow
from matrixrl.tracking.files import network_file_system, sha256_of
from matrixrl.tracking.journal import JournalError
from matrixrl.tracking.journal_reader import JournalReader
from matrixrl.tracking.run import Run, open_run
from matrixrl.tracking.summary import summarize
from matrixrl.whole_files import write_whole


def start(runs_dir: Path, system: str = "matmul", **settings: object) -> Run:
    config = TrackingConfig(runs_dir=runs_dir, console="quiet", **settings)  # pyright: ignore[reportArgumentType]
    return open_run(config, system=system, name_prefix=system, run_config={"seed": 3})  # pyright: ignore[reportArgumentType]


def test_a_run_that_ends_in_an_error_is_crashed_and_can_be_resumed(tmp_path: Path) -> None:
    run = start(tmp_path)
    run.record([ScalarRow(run.clock.tick(), {"loss": 1.0})])
    with pytest.raises(ZeroDivisionError), run:
        raise ZeroDivisionError
    assert summarize(run.directory).state == "crashed"
    with start(tmp_path, resume_run=run.run_id) as again:
        assert again.resumed
        assert (again.attempt, again.name, again.recorded_until) == (2, run.name, 1)
        again.restore_clock(1)
        again.record([ScalarRow(again.clock.tick(), {"loss": 2.0})])
        assert summarize(run.directory).state == "running"
    assert summarize(run.directory).state == "finished"
    with JournalReader(run.directory) as reader:
        assert [attempt.status for attempt in reader.attempts()] == ["crashed", "finished"]
        assert [attempt.start_step for attempt in reader.attempts()] == [0, 1]
        assert reader.meta["config"] == {"seed": 3}


def test_ctrl_c_ends_a_run_as_interrupted(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), start(tmp_path) as run:
        raise KeyboardInterrupt
    assert summarize(run.directory).state == "interrupted"


def test_finishing_twice_gives_the_same_report(tmp_path: Path) -> None:
    run = start(tmp_path)
    report = run.finish("interrupted")
    assert run.finish() is report
    assert (report.status, report.pending_rows, report.command) == ("interrupted", 0, None)
    assert report.message == f"{run.name} interrupted: 0 steps in {run.directory}"
    assert 0.0 <= report.logging_overhead_pct <= 100.0


def test_the_last_line_counts_one_step_as_one(tmp_path: Path) -> None:
    run = start(tmp_path)
    run.record([ScalarRow(run.clock.tick(), {"train/loss": 0.5})])
    assert run.finish().message == f"{run.name} finished: 1 step in {run.directory}"


def test_resume_together_with_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="leave out --run-name"):
        start(tmp_path, resume_run="latest", run_name="x")
    with pytest.raises(ConfigError, match="no matmul run"):
        start(tmp_path, resume_run="latest")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("console", "loud"),
        ("log_interval", 0),
        ("keep_artifacts", -1),
        ("backlog_rows", 0),
        ("finish_seconds", -1.0),
    ],
)
def test_impossible_tracking_settings_are_refused(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"--{field.replace('_', '-')} {value}"):
        TrackingConfig(**{field: value})  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("record_moves", "console", "kept"), [(False, "quiet", 0), (True, "quiet", 3), (False, "steps", 3)]
)
def test_moves_are_kept_when_asked_for_or_shown(
    tmp_path: Path, record_moves: bool, console: str, kept: int, capsys: pytest.CaptureFixture[str]
) -> None:
    config = TrackingConfig(runs_dir=tmp_path, console=console, record_moves=record_moves)  # pyright: ignore[reportArgumentType]
    with open_run(config, system="matmul", name_prefix="m", run_config={}) as run:
        run.record(
            [MoveRow(tick, 1, n, [1], -1.0, 1.0) for n, tick in enumerate(run.clock.advance(3), start=1)]
        )
    with JournalReader(run.directory) as reader:
        assert len(list(reader.moves())) == kept
    assert capsys.readouterr().out.count("[Ep 1]") == (3 if console == "steps" else 0)


def test_files_are_recorded_with_their_checksums(tmp_path: Path) -> None:
    with start(tmp_path) as run:
        run.clock.advance(7)
        folder = run.directory / "checkpoints" / "7"
        (folder / "inner").mkdir(parents=True)
        write_whole(folder / "a", "x")
        write_whole(folder / "inner" / "b", b"yy")
        run.record_file(folder, kind="checkpoint", aliases=["best"], seconds=0.25)
    with JournalReader(run.directory) as reader:
        (record,) = reader.files()
    assert (record.step, record.path, record.size_bytes, record.seconds) == (7, "checkpoints/7", 3, 0.25)
    assert record.sha256 == sha256_of(folder)[0]
    (folder / "inner" / "b").rename(folder / "inner" / "c")
    assert sha256_of(folder)[0] != record.sha256


def test_a_journal_behind_the_checkpoint_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with start(tmp_path) as run:
        run.record([ScalarRow(run.clock.tick(), {"loss": 1.0})])
    with start(tmp_path, resume_run="latest") as run:
        run.restore_clock(5)
    assert (
        "warning: the checkpoint was made when the journal stood at step 5, now it stands at 1"
        in capsys.readouterr().out
    )


def test_the_run_uses_the_time_that_is_passed_in(tmp_path: Path) -> None:
    config = TrackingConfig(runs_dir=tmp_path, console="quiet")
    run = open_run(
        config,
        system="hackmatrix",
        name_prefix="hackmatrix-jax",
        run_config={},
        wall_time=lambda: 86_400.0 * 20,
    )
    with run:
        run.record([ScalarRow(run.clock.tick(), {"loss": 1.0})])
    assert run.name == "hackmatrix-jax-jan21-70-1"
    assert isinstance(run.clock, StepClock)
    with JournalReader(run.directory) as reader:
        assert next(reader.stream()).time == 86_400.0 * 20
        assert reader.meta["project"] == "hackmatrix"


def test_tracking_starts_without_importing_what_training_does_not_need(tmp_path: Path) -> None:
    """wandb belongs to the delivery process; Arrow, Rich and psutil are imported when first used."""
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from matrixrl.config import TrackingConfig\n"
        "from matrixrl.tracking.run import open_run\n"
        f"with open_run(TrackingConfig(runs_dir=Path({str(tmp_path)!r})), system='matmul', name_prefix='m', run_config={{}}) as r:\n"
        "    r.progress('pretrain', 1, 2)\n"
        "print(sorted({'wandb', 'pyarrow', 'rich', 'psutil', 'jax', 'numpy'} & sys.modules.keys()))\n"
    )
    source = Path(__file__).resolve().parents[2] / "src"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_run_file_is_json(tmp_path: Path) -> None:
    with start(tmp_path, run_name="named") as run:
        content = json.loads((run.directory / "run.json").read_text())
    assert (content["name"], content["system"], content["config"]) == ("named", "matmul", {"seed": 3})


def test_a_copied_journal_reads_as_the_run_did_then(tmp_path: Path) -> None:
    copy = tmp_path / "drive"
    copy.mkdir()
    with start(tmp_path / "runs") as run:
        run.record([ScalarRow(tick, {"loss": 1.0}) for tick in run.clock.advance(5)])
        run.copy_journal(copy / "journal.sqlite")
        run.record([ScalarRow(run.clock.tick(), {"loss": 1.0})])
        with pytest.raises(JournalError, match="cannot be copied"):
            run.copy_journal(tmp_path / "nowhere" / "journal.sqlite")
    assert [entry.name for entry in copy.iterdir()] == ["journal.sqlite"]
    with JournalReader(copy) as reader:
        assert reader.count("stream") == 5


def test_a_network_drive_is_recognised_by_its_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    (tmp_path / "my drive").mkdir()
    where = str(tmp_path / "my drive").replace(" ", "\\040")
    mounts.write_text(f"/dev/sda / ext4 rw 0 0\nserver:/x {where} nfs4 rw 0 0\n")
    assert network_file_system(tmp_path / "my drive" / "runs", mounts) == "nfs4"
    assert network_file_system(tmp_path, mounts) is None
    for kind, is_network in (
        ("fuse.anything", True),
        ("lustre", True),
        ("fuse.ntfs-3g", False),
        ("ext4", False),
    ):
        mounts.write_text(f"x {tmp_path} {kind} rw 0 0\n")
        assert network_file_system(tmp_path / "runs", mounts) == (kind if is_network else None)
    assert network_file_system(tmp_path, tmp_path / "nothing") is None


def test_the_best_rank_is_that_of_a_game_or_of_a_rewritten_solution(tmp_path: Path) -> None:
    columns = {"Epoch": 1, "Episode in Epoch": 1, "Reward": -9.0, "Residual": 0.0, "Steps": 9}

    def game(number: int, rank: int, solved: bool) -> EpisodeRow:
        return EpisodeRow(
            run.clock.tick(), {"Global Episode": number, **columns, "Rank": rank, "Solved": solved}
        )

    with start(tmp_path) as run:
        assert summarize(run.directory).best is None
        run.record([game(1, 9, True)])
        run.record([game(2, 3, False)])
        assert summarize(run.directory).best == 9
        run.record([ScalarRow(run.clock.tick(), {"rewrite/best_rank_2x2x3": 8, "rewrite/solved": 0.5})])
        run.record(
            [ScalarRow(run.clock.tick(), {"rewrite/best_rank_2x2x3": 10, "epoch_other": 1.0, "Epoch": 1})]
        )
        assert summarize(run.directory).best == 8
