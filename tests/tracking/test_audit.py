"""The audit finds a planted difference of each kind, wherever it is planted."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from matrixrl.cli.runs import Audit, run_command
from matrixrl.config import TrackingConfig
from matrixrl.systems.matmul.spec import EPISODE_COLUMNS as MATMUL_EPISODE_COLUMNS
from matrixrl.tracking.audit import Report, audit, same_value
from matrixrl.tracking.events import EpisodeRow, MoveRow, TableSnapshot
from matrixrl.tracking.identity import run_folders
from matrixrl.tracking.run import Status, open_run
from tests.tracking.conftest import Trainer, expected_rows, offline_environment
from tests.wandb_server import LoopbackServer

EPOCHS = 3
ROWS = len(expected_rows(EPOCHS))


@pytest.fixture(scope="module")
def offline_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audited")
    trainer = Trainer(folder / "runs", offline_environment(folder))
    trainer.run("--wandb", "--epochs", str(EPOCHS), "--moves", "--finish-seconds", "120")
    return run_folders(folder / "runs")[0]


@pytest.fixture
def run(offline_run: Path, tmp_path: Path) -> Path:
    shutil.copytree(offline_run, tmp_path / "runs" / offline_run.name, symlinks=True)
    return tmp_path / "runs" / offline_run.name


def change_journal(run: Path, *statements: str) -> None:
    connection = sqlite3.connect(run / "journal.sqlite")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def first(report: Report) -> str:
    assert not report.agrees
    return str(report.gaps[0])


def test_an_undisturbed_run_agrees_by_count_and_value(run: Path) -> None:
    report = audit(run)
    assert report.agrees, report.gaps
    assert report.checks == {
        "journal stream": ROWS,
        "journal episodes": 9,
        "journal moves": 36,
        "journal table_marks": 3,
        "console epoch lines": 3,
        "console episode lines": 9,
        "console move lines": 36,
        "W&B offline file": ROWS,
        "W&B offline file, table rows": 3 + 6 + 9,
        "files": 3,
    }


JOURNAL: dict[str, tuple[list[str], str]] = {
    "missing row": (["DELETE FROM stream WHERE id = 12"], "journal: missing: row 12 of the table stream"),
    "missing last row": (
        [f"DELETE FROM stream WHERE id = {ROWS}", "DELETE FROM table_marks WHERE id = 3"],
        "the console showed 'Epoch 3",
    ),
    "doubled row": (
        [
            "DROP INDEX stream_history",
            f"INSERT INTO stream SELECT {ROWS + 1}, step, attempt, time, metrics, NULL FROM stream WHERE id = {ROWS}",
        ],
        "journal: doubled at step 64",
    ),
    "changed value": (
        ["UPDATE stream SET metrics = '{\"pretrain/loss\":9.0}' WHERE step = 4"],
        "W&B offline file: changed at step 4: pretrain/loss is 0.25, the journal says 9.0",
    ),
    "changed epoch": (
        ["UPDATE stream SET metrics = replace(metrics, '\"Epoch\":2', '\"Epoch\":7') WHERE step = 46"],
        "console: changed at step 46",
    ),
    "reordered step": (
        [
            "DROP INDEX stream_history",
            "UPDATE stream SET step = -1 WHERE step = 3",
            "UPDATE stream SET step = 3 WHERE step = 4",
            "UPDATE stream SET step = 4 WHERE step = -1",
        ],
        "journal: reordered at step 3",
    ),
    "missing episode": (
        ["DELETE FROM episodes WHERE id = 5"],
        "journal: missing: row 5 of the table episodes",
    ),
    "renumbered episode": (
        ['UPDATE episodes SET "Global Episode" = 77 WHERE id = 9'],
        "journal: missing at step 58: episode 9 expected, 77 found",
    ),
    "changed episode": (
        ['UPDATE episodes SET "Reward" = 5.5 WHERE id = 2'],
        "console: changed at step 21",
    ),
    "missing move": (["DELETE FROM moves WHERE id = 30"], "journal: missing: row 30 of the table moves"),
    "lost mark": (["DELETE FROM table_marks WHERE id = 2"], "row 2 of the table table_marks"),
    "wrong checksum": (
        ["UPDATE files SET sha256 = 'aa' WHERE id = 2"],
        "files: checksum at step 46: checkpoints/000002.json",
    ),
}


@pytest.mark.parametrize("planted", JOURNAL)
def test_what_was_changed_in_the_journal_is_found(run: Path, planted: str) -> None:
    statements, expected = JOURNAL[planted]
    change_journal(run, *statements)
    assert expected in first(audit(run))


@pytest.mark.parametrize(
    ("numbers", "status", "expected"),
    [
        ([2, 1, 4, 3], "finished", []),
        ([2, 1, 4], "interrupted", []),
        ([2, 1, 4], "finished", ["journal: missing at step 3: episode 3 expected, 4 found"]),
        ([2, 3, "mark", 1], "finished", ["journal: missing at step 1: episode 1 expected, 2 found"]),
        ([2, 1, "mark"], "finished", []),
        ([1, 3, "mark"], "interrupted", ["journal: missing at step 2: episode 2 expected, 3 found"]),
    ],
)
def test_of_games_played_at_once_a_later_one_may_end_first(
    numbers: list[int | str], status: Status, expected: list[str], tmp_path: Path
) -> None:
    config = TrackingConfig(runs_dir=tmp_path, run_name="r", console="quiet")
    with open_run(config, system="matmul", name_prefix="t", run_config={}) as run:
        for number in numbers:
            tick = run.clock.tick()
            values = dict.fromkeys(MATMUL_EPISODE_COLUMNS, 1) | {"Global Episode": number, "Solved": True}
            run.record([TableSnapshot(tick) if number == "mark" else EpisodeRow(tick, values)])
        run.finish(status)
    report = audit(tmp_path / "r")
    assert [str(gap) for gap in report.gaps] == expected
    early = status == "interrupted" and not expected
    assert report.notes == (["episode 3 had not ended when the run stopped; 4 had"] if early else [])


def test_a_reward_that_is_a_negative_zero_agrees(tmp_path: Path) -> None:
    config = TrackingConfig(runs_dir=tmp_path, run_name="r", console="steps")
    with open_run(config, system="matmul", name_prefix="t", run_config={}) as run:
        run.record([MoveRow(run.clock.tick(), 1, 1, [1], -0.0, -0.0)])
        run.finish("finished")
    assert "Reward: 0 | Residual: 0" in (tmp_path / "r" / "console.log").read_text().replace("0.0", "0")
    assert audit(tmp_path / "r").agrees


def edit_console(change: Callable[[list[str]], None]) -> Callable[[Path], None]:
    def edit(run: Path) -> None:
        path = run / "console.log"
        lines = path.read_text().splitlines(keepends=True)
        change(lines)
        path.write_text("".join(lines))

    return edit


def edit_table(change: Callable[[list[list[object]]], object]) -> Callable[[Path], None]:
    def edit(run: Path) -> None:
        path = next(run.glob("wandb/offline-run-*/files/media/table/episode_history_46_*"))
        content = json.loads(path.read_text())
        change(content["data"])
        path.write_text(json.dumps(content))

    return edit


def swap_lines(lines: list[str]) -> None:
    places = [index for index, line in enumerate(lines) if "\tepisode\t" in line][2:4]
    lines[places[0]], lines[places[1]] = lines[places[1]], lines[places[0]]


def double_line(lines: list[str]) -> None:
    place = next(index for index, line in enumerate(lines) if "\tepisode\t" in line)
    lines.insert(place + 1, lines[place])


ELSEWHERE: dict[str, tuple[Callable[[Path], object], str]] = {
    "console line missing": (
        edit_console(
            lambda lines: lines.remove(next(line for line in lines if "Episode 4 |" in line)),
        ),
        "console: missing at step 38",
    ),
    "console line changed": (
        edit_console(
            lambda lines: lines.__setitem__(
                slice(None), [line.replace("Residual: 0 ", "Residual: 1 ") for line in lines]
            ),
        ),
        "console: changed at step 20",
    ),
    "console lines swapped": (edit_console(swap_lines), "console:"),
    "console line doubled": (edit_console(double_line), "console: doubled"),
    "console line added": (
        edit_console(lambda lines: lines.append("99\tepisode\tEpisode 10 | Epoch: 9\n")),
        "no row says so",
    ),
    "table row missing": (
        edit_table(lambda rows: rows.pop(2)),
        "W&B offline file, episode table: missing: the row of episode 3",
    ),
    "table row changed": (
        edit_table(lambda rows: rows[1].__setitem__(3, 0.5)),
        "W&B offline file, episode table: changed: episode 2",
    ),
    "table row added": (edit_table(lambda rows: rows.append(rows[0])), "unknown"),
    "checkpoint changed": (
        lambda run: (run / "checkpoints" / "000002.json").write_text("{}"),
        "files: checksum at step 46",
    ),
}


@pytest.mark.parametrize("planted", ELSEWHERE)
def test_what_was_changed_elsewhere_is_found(run: Path, planted: str) -> None:
    change, expected = ELSEWHERE[planted]
    change(run)
    assert expected in first(audit(run))


def test_a_cut_offline_file_is_told_by_what_is_missing(run: Path) -> None:
    path = next(run.glob("wandb/offline-run-*/run-*.wandb"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    report = audit(run)
    assert report.agrees
    assert any("are not in the offline files" in note for note in report.notes)


def test_the_command_exits_1_naming_the_first_gap(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(Audit(run="latest", runs_dir=run.parent)) == 0
    assert "everything agrees" in capsys.readouterr().out
    change_journal(run, "DELETE FROM stream WHERE id = 12")
    assert run_command(Audit(run="latest", runs_dir=run.parent, json=True)) == 1
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert answer["agrees"] is False
    assert answer["gaps"][0]["kind"] == "missing"


@pytest.mark.parametrize(
    ("ours", "theirs", "same"),
    [
        (1.0, 1, True),
        (float("nan"), "NaN", True),
        (float("nan"), float("nan"), True),
        (float("inf"), "Infinity", True),
        (float("-inf"), "-Infinity", True),
        (float("nan"), 0.0, False),
        (0.1, 0.1000001, False),
        (None, None, True),
        (True, 1, True),
    ],
)
def test_values_are_compared_as_json_carries_them(ours: object, theirs: object, same: bool) -> None:
    assert same_value(ours, theirs) is same


SERVER: dict[str, tuple[Callable[[LoopbackServer], object], str]] = {
    "missing row": (
        lambda server: only_run(server).history.pop(20),
        "W&B server: missing at step",
    ),
    "doubled row": (lambda server: insert(server, 20, 20), "W&B server: doubled at step"),
    "changed value": (
        lambda server: only_run(server).history.__setitem__(
            3, only_run(server).history[3].replace("0.25", "0.5")
        ),
        "W&B server: changed at step 4: pretrain/loss is 0.5, the journal says 0.25",
    ),
    "reordered": (lambda server: swap_steps(server, 5, 6), "W&B server: changed at step 6"),
    "unknown row": (
        lambda server: only_run(server).history.__setitem__(ROWS, '{"_step": 9000, "loss": 1}'),
        "W&B server has the row loss=1, the journal has not",
    ),
    "last row gone": (
        lambda server: only_run(server).history.pop(ROWS - 1),
        "rows after step 63 were there and are gone",
    ),
}


AUDIT = """
import sys
from pathlib import Path
from matrixrl.cli.runs import Audit, run_command
sys.exit(run_command(Audit(run="latest", runs_dir=Path(sys.argv[1]))))
"""


SYNC = AUDIT.replace("Audit", "Sync").replace('run="latest"', 'runs=("latest",)')


def sync_in_a_process(run: Path, trainer: Trainer, server: LoopbackServer) -> None:
    synced = subprocess.run(
        [sys.executable, "-c", SYNC, str(run.parent)],
        env={**trainer.environment, **server.environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert synced.returncode == 0, synced.stdout + synced.stderr


def only_run(server: LoopbackServer):
    (run,) = server.runs.values()
    return run


def insert(server: LoopbackServer, at: int, copy_of: int) -> None:
    run = only_run(server)
    lines = [run.history[offset] for offset in sorted(run.history)]
    lines.insert(at, lines[copy_of])
    run.history = dict(enumerate(lines))


def swap_steps(server: LoopbackServer, one: int, other: int) -> None:
    """The server gives rows in the order of their steps: two in the wrong order hold one another's values."""
    history = only_run(server).history
    first, second = json.loads(history[one]), json.loads(history[other])
    first["_step"], second["_step"] = second["_step"], first["_step"]
    history[one], history[other] = json.dumps(second), json.dumps(first)


def change_manifest(server: LoopbackServer) -> None:
    artifact = next(
        a for a in server.artifacts.values() if a.name.startswith("checkpoint-") and a.name.endswith("-46")
    )
    manifest = json.loads(artifact.manifest)
    for entry in manifest["contents"].values():
        entry["digest"] = "AAAAAAAAAAAAAAAAAAAAAA=="
    artifact.manifest = json.dumps(manifest).encode()


@pytest.mark.slow
def test_what_was_changed_on_the_server_is_found(
    trainer: Trainer, server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One run and one server for all: each difference is planted, found, and taken back."""
    trainer.run("--wandb", "--epochs", str(EPOCHS), "--finish-seconds", "100", **server.environment)
    (run,) = run_folders(trainer.runs_dir)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    whole = dict(only_run(server).history)
    report = audit(run)
    assert report.agrees, report.gaps
    assert report.checks["W&B server"] == ROWS
    assert report.checks["W&B server, table rows"] == 3 + 6 + 9
    assert report.checks["W&B server, artifacts"] == 3
    for planted, (change, expected) in SERVER.items():
        change(server)
        report = audit(run)
        assert not report.agrees, planted
        assert expected in first(report), planted
        only_run(server).history = dict(whole)
    name = next(name for name in only_run(server).files if name.startswith("media/table/episode_history_46"))
    whole_file = only_run(server).files[name]
    content = json.loads(whole_file)
    content["data"].pop(1)
    only_run(server).files[name] = json.dumps(content).encode()
    assert "W&B server, episode table: missing: the row of episode 2" in first(audit(run))
    only_run(server).files[name] = whole_file
    for table in [
        name,
        next(n for n in only_run(server).files if n.startswith("media/table/episode_history_28")),
    ]:
        kept = only_run(server).files.pop(table)
        assert "W&B server, episode table: missing at step" in first(audit(run))
        assert "1 of 3 table files that rows name are not there" in first(audit(run))
        # An upload that was cut off is made up for by whoever delivers next.
        sync_in_a_process(run, trainer, server)
        assert only_run(server).files[table] == kept
        assert audit(run).agrees
    # Without wandb's own copies, as after `runs restore`, or where they are damaged, the journal has the rows.
    kept = only_run(server).files.pop(name)
    copies = list(run.glob(f"wandb/*/files/{name}"))
    assert copies
    for number, copy in enumerate(copies):
        copy.write_text("{}") if number == 0 else copy.unlink()
    sync_in_a_process(run, trainer, server)
    assert json.loads(only_run(server).files[name]) == json.loads(kept)
    assert audit(run).agrees
    change_manifest(server)
    # In a process of its own: wandb keeps the artifacts that this one has seen.
    done = subprocess.run(
        [sys.executable, "-c", AUDIT, str(run.parent)],
        env={**trainer.environment, **server.environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "W&B server, artifacts: checksum at step 46" in done.stdout
    with server.failing("refuse"):
        report = audit(run)
    assert report.agrees
    assert any("could not be asked" in note for note in report.notes)
