"""Every command that reads a run, on journals that are cut off, overwritten, empty, missing, or of a later version."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from matrixrl.cli.runs import Audit, Copy, Export, List, Show, run_command
from matrixrl.config import ConfigError, TrackingConfig
from matrixrl.tracking.audit import audit
from matrixrl.tracking.events import EpisodeRow, Event, ScalarRow, TableSnapshot
from matrixrl.tracking.identity import find_run
from matrixrl.tracking.journal import JOURNAL_FILE, JournalError
from matrixrl.tracking.journal_reader import JournalReader
from matrixrl.tracking.run import Run, open_run
from tests.tracking.test_journal import episode

EPOCHS = 8
PAGE = 4096


def record(run: Run, epochs: int) -> None:
    number = 0
    for epoch in range(1, epochs + 1):
        events: list[Event] = []
        for tick in run.clock.advance(50):
            number += 1
            events += [EpisodeRow(tick, episode(number)), ScalarRow(tick, {"pretrain/loss": 1 / tick.step})]
        tick = run.clock.tick()
        run.record([*events, ScalarRow(tick, {"Epoch": epoch, "epoch_loss": 0.5}), TableSnapshot(tick)])
        run.note("an epoch is over", "warning")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("whole")
    config = TrackingConfig(runs_dir=folder, run_name="r", console="quiet")
    with open_run(config, system="matmul", name_prefix="m", run_config={}) as run:
        record(run, EPOCHS)
    return folder / "r"


@pytest.fixture
def runs(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "runs" / "r")
    return tmp_path / "runs"


def cut(share: float) -> Callable[[Path], object]:
    def change(path: Path) -> None:
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * share)])

    return change


def overwrite(page: int, content: bytes) -> Callable[[Path], object]:
    """Puts other content into a page, the last one for -1."""

    def change(path: Path) -> None:
        data = bytearray(path.read_bytes())
        start = (page % (len(data) // PAGE)) * PAGE
        data[start : start + PAGE] = (content * PAGE)[:PAGE]
        path.write_bytes(bytes(data))

    return change


def text_for_numbers(path: Path) -> None:
    """Values of other types than the columns', as a bad page may hold them."""
    connection = sqlite3.connect(path)
    connection.executescript(
        "DROP INDEX stream_history; DROP INDEX table_marks_history;"
        "UPDATE stream SET step = 'x' WHERE id = 3; UPDATE stream SET metrics = '[1]' WHERE id = 4;"
        "UPDATE stream SET metrics = '{\"pretrain/loss\":' WHERE id = 5;"
        "UPDATE episodes SET \"Reward\" = 'bad' WHERE id = 6; UPDATE table_marks SET rows = 'x' WHERE id = 1;"
        "UPDATE notes SET text = x'00' WHERE id = 1; UPDATE attempts SET pid = 'x';"
    )
    connection.commit()
    connection.close()


def schema_version(version: int) -> Callable[[Path], object]:
    def change(path: Path) -> None:
        connection = sqlite3.connect(path)
        connection.execute(f"PRAGMA user_version = {version}")
        connection.close()

    return change


PARTLY_READABLE: dict[str, Callable[[Path], object]] = {
    **{f"cut to {share:.0%}": cut(share) for share in (0.3, 0.5, 0.7, 0.9, 0.99)},
    "last page of ones": overwrite(-1, b"\xff"),
    "a page of zeros": overwrite(9, b"\0"),
    "a page of text": overwrite(12, b"garbage "),
    "values of other types": text_for_numbers,
}
NOTHING_READABLE: dict[str, Callable[[Path], object]] = {
    "empty": cut(0),
    "half a page": cut(0.01),
    "first page lost": overwrite(0, b"\xff"),
    "another file": lambda path: path.write_bytes(b"rubbish" * 99),
    "zeros": lambda path: path.write_bytes(b"\0" * 5000),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "missing": lambda path: path.unlink(),
    "a later version": schema_version(99),
    "no version": schema_version(0),
    "no tables": lambda path: (path.unlink(), schema_version(2)(path)),
}


def commands(runs: Path) -> list[Show | Audit | Export | Copy]:
    return [
        Show(run="r", runs_dir=runs),
        Show(run="r", runs_dir=runs, metric=("epoch_loss",)),
        Show(run="latest", runs_dir=runs, json=True),
        Audit(run="r", runs_dir=runs, offline=True),
        Export(run="r", runs_dir=runs, format="csv", out=runs.parent / "out"),
        Copy(run="r", runs_dir=runs, to=runs.parent / "copy"),
    ]


@pytest.mark.parametrize("damage", PARTLY_READABLE)
def test_what_is_good_of_a_damaged_journal_is_shown(
    damage: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    PARTLY_READABLE[damage](runs / "r" / JOURNAL_FILE)
    for command in commands(runs):
        capsys.readouterr()
        status = run_command(command)
        captured = capsys.readouterr()
        said = [line for line in captured.err.splitlines() if " ..." not in line]
        if isinstance(command, Audit):
            # Where the tables themselves are lost, one line says so.
            assert status == 1 or len(said) == 1
            assert status == 2 or "GAP journal: missing" in captured.out
        elif status == 2:
            assert len(said) == 1
            assert JOURNAL_FILE in said[0]
        else:
            assert status == 0
            is_whole = damage.startswith("a page")  # nothing of what the command needs
            if isinstance(command, Show | Export) and not is_whole:
                assert JOURNAL_FILE in captured.out + captured.err
    if "page" not in damage:
        assert run_command(List(runs_dir=runs, json=True)) == 0
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["runs"][0]["state"] == "damaged"


@pytest.mark.parametrize("damage", NOTHING_READABLE)
def test_a_journal_of_which_nothing_can_be_read_is_one_line_and_exit_2(
    damage: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    NOTHING_READABLE[damage](runs / "r" / JOURNAL_FILE)
    before = contents(runs / "r")
    for command in commands(runs):
        capsys.readouterr()
        assert run_command(command) == 2
        captured = capsys.readouterr()
        (line,) = [line for line in captured.err.splitlines() if " ..." not in line]
        assert line.startswith("matrixrl: ")
        assert JOURNAL_FILE in line
        assert captured.out == ""
    assert run_command(List(runs_dir=runs)) == 0
    assert "damaged" in capsys.readouterr().out
    config = TrackingConfig(runs_dir=runs, resume_run="r", console="quiet")
    if damage != "missing":
        with pytest.raises((ConfigError, JournalError)) as caught:
            open_run(config, system="matmul", name_prefix="m", run_config={})
        assert "\n" not in str(caught.value)
        assert JOURNAL_FILE in str(caught.value)
    assert {k: v for k, v in contents(runs / "r").items() if not k.startswith("lock")} == {
        k: v for k, v in before.items() if not k.startswith("lock")
    }


def contents(folder: Path) -> dict[str, bytes | None]:
    return {path.name: path.read_bytes() if path.is_file() else None for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("damage", PARTLY_READABLE)
def test_resuming_says_what_is_damaged_keeps_it_and_continues_with_what_is_good(
    damage: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = runs / "r" / JOURNAL_FILE
    PARTLY_READABLE[damage](path)
    damaged = path.read_bytes()
    try:
        with JournalReader(runs / "r") as reader:
            good = [(row.step, row.metrics) for row in reader.stream()]
    except JournalError:
        good = None
    config = TrackingConfig(runs_dir=runs, resume_run="r", console="quiet")
    capsys.readouterr()
    if good is None:
        with pytest.raises(JournalError, match="nothing was changed"):
            open_run(config, system="matmul", name_prefix="m", run_config={})
        assert path.read_bytes() == damaged
        return
    with open_run(config, system="matmul", name_prefix="m", run_config={}) as run:
        held = run.recorded_until
        run.restore_clock(held)
        run.record([ScalarRow(run.clock.tick(), {"pretrain/loss": 7.0})])
    shown = capsys.readouterr().out
    assert "warning: the journal was damaged (" in shown
    assert path.with_name(f"{JOURNAL_FILE}.damaged-1").read_bytes() == damaged
    with JournalReader(runs / "r") as reader:
        assert [(row.step, row.metrics) for row in reader.stream()] == [
            *good,
            (held + 1, {"pretrain/loss": 7.0}),
        ]
        assert reader.fault() is None
        assert "the journal was damaged" in [note.text for note in reader.notes()][-1]


def test_a_sound_journal_is_not_repaired(runs: Path) -> None:
    config = TrackingConfig(runs_dir=runs, resume_run="r", console="quiet")
    open_run(config, system="matmul", name_prefix="m", run_config={}).finish()
    assert not list((runs / "r").glob("*damaged*"))
    assert audit(runs / "r").agrees


def test_a_run_in_a_folder_that_cannot_be_written_is_read(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (runs / "r").chmod(0o555)
    try:
        before = contents(runs / "r")
        for command in commands(runs):
            assert run_command(command) == 0
        assert find_run(runs, "latest") == runs / "r"
        assert contents(runs / "r") == before
    finally:
        (runs / "r").chmod(0o755)
