"""`matrixrl dashboard` as a process, and the stream of changes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from matrixrl.cli.main import main
from matrixrl.dashboard import changes, store
from matrixrl.dashboard.changes import Broadcaster, ChangeDetector
from matrixrl.dashboard.store import RunStore
from matrixrl.systems.ppo.spec import SPEC
from matrixrl.tracking.events import ScalarRow
from tests.cli.runs_made import make_run, open_made
from tests.dashboard.runs_made import returns


class Started:
    """The command on a free port."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "matrixrl", "dashboard", "--port", "0", "--no-browser", *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline().strip()
        self.address = self.process.stdout.readline().strip()

    def get(self, path: str) -> Any:
        base, _, query = self.address.partition("?")
        with urllib.request.urlopen(f"{base}{path}{'?' if query else ''}{query}", timeout=60) as answer:
            return json.load(answer)

    def stop(self, number: int) -> tuple[int, str]:
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=60)
        return self.process.returncode, errors


@pytest.fixture
def started(runs_dir: Path) -> Iterator[Started]:
    server = Started("--runs-dir", str(runs_dir))
    yield server
    if server.process.poll() is None:
        server.process.kill()
        server.process.communicate()


def test_it_serves_runs_without_jax_and_ends_with_ctrl_c(started: Started, runs_dir: Path) -> None:
    assert started.said.startswith(f"dashboard of {runs_dir} (")
    assert started.address.startswith("http://127.0.0.1:")
    names = {run["key"] for run in started.get("api/runs")["runs"]}
    assert {"seed-0", "matmul-1"} <= names
    for path in ("runs/many", "runs/many/metrics", "series", "runs/matmul-1/episodes", "runs/seed-0/console"):
        started.get(f"api/{path}")
    # An open page keeps a stream open; it must not delay the end.
    events = urllib.request.urlopen(f"{started.address}api/events", timeout=60)
    assert events.readline() == b"retry: 2000\n"
    if sys.platform == "linux":
        loaded = Path(f"/proc/{started.process.pid}/maps").read_text()
        assert "numpy" in loaded
        assert "jax" not in loaded
    status, errors = started.stop(signal.SIGINT)
    assert (status, errors) == (0, "")
    events.close()


def test_other_machines_need_a_token(tmp_path: Path) -> None:
    server = Started("--runs-dir", str(tmp_path / "none"), "--host", "0.0.0.0")
    try:
        base, _, token = server.address.partition("?token=")
        assert len(token) >= 32
        assert "begin with: matrixrl matmul train" in server.said
        local = f"http://127.0.0.1:{base.rstrip('/').rpartition(':')[2]}/"
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{local}api/runs", timeout=60)
        assert refused.value.code == 401
        refused.value.close()
        with urllib.request.urlopen(f"{local}api/runs?token={token}", timeout=60) as answer:
            assert json.load(answer)["runs"] == []
    finally:
        _, errors = server.stop(signal.SIGTERM)
    assert "other machines can connect" in errors
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--port", "70000"], "0 to 65535"),
        (["--port", "many"], "--port"),
        (["--token", "short"], "16 letters"),
        (["--token", "with spaces and so on"], "16 letters"),
        (["--host", "no.such.host.invalid"], "--host no.such.host.invalid"),
        (["--runs-dir", "{file}"], "is a file"),
        (["--runs-dir", "gs://bucket/runs"], "a URL"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_bad_flags_get_one_line(
    arguments: list[str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    given = [argument.format(file=tmp_path / "file") for argument in arguments]
    assert main(["dashboard", "--no-browser", *given]) == 2
    errors = capsys.readouterr().err
    assert named in errors
    assert errors.startswith("matrixrl: ")
    assert errors.count("\n") == 1


def test_a_port_in_use_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert main(["dashboard", "--no-browser", "--port", str(port), "--runs-dir", str(tmp_path)]) == 2
    errors = capsys.readouterr().err
    assert f"--port {port}: in use" in errors
    assert "choose another" in errors


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tmp_path.chmod(0)
    assert main(["dashboard", "--no-browser", "--runs-dir", str(tmp_path)]) == 2
    tmp_path.chmod(0o700)
    assert "can read" in capsys.readouterr().err


def test_help_is_quick_and_complete(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["dashboard", "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for flag in ("--port", "--no-browser", "--runs-dir", "--host", "--token"):
        assert flag in text
    assert main([]) == 0
    assert "matrixrl dashboard" in capsys.readouterr().out


# Changes


def test_changes_are_found_by_the_files_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "LISTING_SECONDS", 0.0)
    make_run(tmp_path, "still", returns(2))
    run = open_made(tmp_path, "growing", None, SPEC)
    detector = ChangeDetector(RunStore(tmp_path))
    assert detector.changed() == ["growing", "still"]
    assert detector.changed() == []
    run.record([ScalarRow(run.clock.advance()[-1], {"episode/return": 1.0})])
    assert detector.changed() == ["growing"]
    make_run(tmp_path, "new", returns(2))
    assert detector.changed() == ["new"]
    run.finish("finished")
    assert detector.changed() == ["growing"]
    (tmp_path / "still" / "run.json").unlink()
    assert detector.changed() == ["still"]
    assert detector.changed() == []


def test_many_quiet_journals_are_polled_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "LISTING_SECONDS", 0.0)
    monkeypatch.setattr(changes, "PART", 2)
    monkeypatch.setattr(changes, "QUIET_SECONDS", 0.0)
    looked: list[str] = []

    def mark(folder: Path) -> tuple[int, ...]:
        looked.append(folder.name)
        return (1,)

    monkeypatch.setattr(changes, "journal_mark", mark)
    for index in range(5):
        (tmp_path / f"run-{index}").mkdir()
        (tmp_path / f"run-{index}" / "run.json").write_text("{}")
    detector = ChangeDetector(RunStore(tmp_path))
    assert len(detector.changed()) == 5
    looked.clear()
    for _ in range(3):
        before = len(looked)
        detector.changed()
        assert len(looked) - before <= 2
    assert set(looked) == {f"run-{index}" for index in range(5)}


def test_a_stream_says_which_run_grew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "POLL_SECONDS", 0.01)
    run = open_made(tmp_path, "growing", None, SPEC)

    async def follow() -> list[str]:
        broadcaster = Broadcaster(ChangeDetector(RunStore(tmp_path)))
        stream = broadcaster.events()
        found = [await anext(stream)]
        run.record([ScalarRow(run.clock.advance()[-1], {"episode/return": 1.0})])
        found.append(await asyncio.wait_for(anext(stream), 60))
        waiting = asyncio.create_task(anext(stream, None))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        await broadcaster.close()
        assert await asyncio.wait_for(waiting, 60) is None
        return found

    hello, changed = asyncio.run(follow())
    assert "event: hello" in hello
    assert changed == 'event: changed\ndata: {"runs": ["growing"]}\n\n'
    run.finish("finished")
