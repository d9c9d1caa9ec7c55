from __future__ import annotations

import io
import json
import os
import signal
from pathlib import Path

import pytest

from matrixrl.cli import runs_delete
from matrixrl.cli.main import main
from matrixrl.tracking.delivery_state import DeliveryState, take_delivery_lock
from matrixrl.tracking.locks import Lock
from tests.cli.runs_made import make_run, open_made
from tests.tracking.conftest import Trainer, offline_environment


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    for name in ("one", "two", "three"):
        make_run(folder, name, [{"episode/return": 1.0}] * 3)
    return folder


def delete(runs: Path, *arguments: str) -> int:
    return main(["runs", "delete", *arguments, "--runs-dir", str(runs)])


def names(runs: Path) -> set[str]:
    """All entries, hidden ones too."""
    return {path.name for path in runs.iterdir()}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def answer_on_a_terminal(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(text))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)


def test_several_are_deleted_without_a_trace(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert delete(runs, "one", "t*o", "one", "--yes", "--json") == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert answer["deleted"] == ["one", "two"]
    assert answer["freed_bytes"] > 1000
    assert names(runs) == {"three"}


def test_it_asks_on_a_terminal(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer_on_a_terminal(monkeypatch, "\n")
    assert delete(runs, "one") == 1
    assert "one" in names(runs)
    answer_on_a_terminal(monkeypatch, "y\n")
    assert delete(runs, "one") == 0
    assert names(runs) == {"two", "three"}
    assert "delete 1 run with all files? [y/N]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["one"], "runs delete: asks on a terminal, and this is none; give --yes"),
        (["latest"], "runs delete latest: the newest run may be another one than you think"),
        ([], "runs delete: name runs"),
        (["one", "nobody", "--yes"], "runs delete nobody: no run of this name"),
        (["one", "n*", "--yes"], "runs delete n*: no run of this name"),
        (["../one", "--yes"], "runs delete ../one: no run of this name"),
    ],
)
def test_what_is_refused_deletes_nothing(
    runs: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert delete(runs, *arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert names(runs) == {"one", "two", "three"}


def test_latest_with_yes(runs: Path) -> None:
    assert delete(runs, "latest", "--yes") == 0
    assert names(runs) == {"one", "two"}


def test_a_running_one_is_refused_by_its_process(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = Trainer(runs, offline_environment(tmp_path))
    process = trainer.start("--epochs", "1", "--hold", "60", "--name", "live")
    try:
        assert process.stdout is not None
        process.stdout.readline()
        assert delete(runs, "one", "live", "--yes") == 2
        assert f"runs delete live: process {process.pid} on " in capsys.readouterr().err
        assert names(runs) == {"one", "two", "three", "live"}
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert delete(runs, "live", "--yes") == 0  # stale now
    assert names(runs) == {"one", "two", "three"}


def test_one_that_is_being_delivered_is_refused(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    DeliveryState(mode="online").save(runs / "one", "wandb")
    lock = take_delivery_lock(runs / "one", "wandb")
    assert isinstance(lock, Lock)
    try:
        assert delete(runs, "one", "--yes") == 2
    finally:
        lock.release()
    assert f"process {os.getpid()} on " in capsys.readouterr().err
    assert "one" in names(runs)


def test_rows_that_wait_are_mentioned_before_asking(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    DeliveryState(mode="offline", confirmed_step=10).save(runs / "one", "wandb")
    answer_on_a_terminal(monkeypatch, "n\n")
    assert delete(runs, "one") == 1
    text = " ".join(capsys.readouterr().err.split())
    assert f"one: W&B does not have 2 rows yet; `matrixrl runs sync one --runs-dir {runs}`" in text
    assert text.index("2 rows") < text.index("[y/N]")


def test_links_are_not_followed(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    (runs / "one" / "link").symlink_to(outside)
    (runs / "two").rename(tmp_path / "elsewhere")
    (runs / "two").symlink_to(tmp_path / "elsewhere")
    assert delete(runs, "one", "--yes") == 0
    assert (outside / "precious").exists()
    assert delete(runs, "two", "--yes") == 2
    assert f"is a link to {tmp_path / 'elsewhere'}" in capsys.readouterr().err
    assert (tmp_path / "elsewhere" / "journal.sqlite").exists()


def test_a_failure_is_said_and_the_others_are_deleted(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unlink = os.unlink

    def refuse(path: object, *arguments: object, **keywords: object) -> None:
        if str(path).endswith("console.log"):
            raise PermissionError(13, "Permission denied", str(path))
        unlink(path, *arguments, **keywords)  # pyright: ignore[reportArgumentType, reportCallIssue]

    rename = Path.rename

    def refuse_two(path: Path, target: Path) -> Path:
        if path.name == "two":
            raise PermissionError(13, "Permission denied", str(path))
        return rename(path, target)

    monkeypatch.setattr(os, "unlink", refuse)
    monkeypatch.setattr(Path, "rename", refuse_two)
    assert delete(runs, "one", "two", "--yes", "--json") == 1
    captured = capsys.readouterr()
    answer = json.loads(captured.out.splitlines()[-1])
    assert answer["deleted"] == []
    assert [item["name"] for item in answer["failed"]] == ["one", "two"]
    assert "1 file could not be deleted (console.log: Permission denied)" in answer["failed"][0]["reason"]
    assert answer["failed"][1]["reason"] == "not deleted (Permission denied)"
    assert (runs / "two" / "journal.sqlite").exists()
    assert main(["runs", "list", "--runs-dir", str(runs), "--name", "one"]) == 0
    assert "no such runs" in capsys.readouterr().out
    monkeypatch.undo()
    assert delete(runs, "two", "--yes") == 0  # and what was left of the other
    assert names(runs) == {"three"}


def test_one_that_is_resumed_meanwhile_stays(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def resume(command: object) -> None:
        lock = Lock.take(runs / "one" / "lock")
        assert isinstance(lock, Lock)
        held.append(lock)

    held: list[Lock] = []
    monkeypatch.setattr(runs_delete, "_remove_leftovers", resume)
    assert delete(runs, "one", "--yes") == 1
    assert f"process {os.getpid()} on" in capsys.readouterr().err
    assert (runs / "one" / "journal.sqlite").exists()
    held[0].release()


def test_an_open_run_of_this_process_is_refused(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = open_made(runs, "open")
    assert delete(runs, "open", "--yes") == 2
    run.finish("finished")
    assert delete(runs, "open", "--yes") == 0
