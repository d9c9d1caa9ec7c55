from __future__ import annotations

import ast
import errno
import fcntl
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import matrixrl
from matrixrl.config import ConfigError
from matrixrl.tracking.identity import (
    Lock,
    Owner,
    automatic_name,
    check_name,
    find_run,
    has_checkpoint,
    reserve,
    run_folders,
    run_id,
)
from matrixrl.tracking.run import take_over
from matrixrl.tracking.status import Status, use
from tests.tracking.conftest import Trainer

TODAY = date(2026, 1, 25)


def create(
    runs_dir: Path, name: str | None = None, suffix: str | None = None, system: str = "matmul"
) -> Path:
    record = {"system": system}
    reservation = reserve(runs_dir, prefix="hackmatrix-jax", name=name, suffix=suffix, today=TODAY)
    folder = reservation.publish(record)
    reservation.lock.release()
    reservation.lock.path.unlink()
    return folder


def test_automatic_names_count_up() -> None:
    assert automatic_name("hackmatrix-jax", None, [], TODAY) == "hackmatrix-jax-jan25-26-1"
    assert (
        automatic_name("matmul-2x2x2", None, ["matmul-2x2x2-jan25-26-1"], TODAY) == "matmul-2x2x2-jan25-26-2"
    )
    assert automatic_name("Matmul", "BigNet", [], date(2031, 12, 5)) == "matmul-dec05-31-1-bignet"


@pytest.mark.parametrize(
    ("taken", "number"),
    [
        (["p-jan25-26-3-bignet"], 4),
        (["p-jan25-26-1-v27"], 2),
        (["p-jan25-26-1-99", "p-jan25-26-2"], 3),
        (["p-jan24-26-8"], 1),
        (["pp-jan25-26-8", "x-p-jan25-26-8"], 1),
        (["p-jan25-26-8x"], 1),
        (["p-jan25-26-10", "p-jan25-26-9"], 11),
    ],
)
def test_suffixed_names_count_and_digits_in_a_suffix_do_not(taken: list[str], number: int) -> None:
    assert automatic_name("p", None, taken, TODAY) == f"p-jan25-26-{number}"
    assert automatic_name("p", "-s7", taken, TODAY) == f"p-jan25-26-{number}-s7"


def test_the_id_is_eight_digits_of_the_md5_of_the_name() -> None:
    assert run_id("abc") == "90015098"
    assert run_id("matmul") == hashlib.md5(b"matmul").hexdigest()[:8]


@pytest.mark.parametrize(
    "name",
    [
        "",
        " a",
        "a ",
        "a/b",
        "a\\b",
        "..",
        "a..b",
        ".hidden",
        "a\nb",
        "a\x00b",
        "a\u200bb",
        "x" * 129,
        "latest",
    ],
)
def test_impossible_names_are_refused_and_leave_nothing(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="--run-name"):
        create(tmp_path / "runs", name)
    runs = tmp_path / "runs"
    assert not runs.exists() or not list(runs.iterdir())


@given(st.text(max_size=140))
def test_a_name_that_passes_is_one_folder_below_the_runs_folder(name: str) -> None:
    try:
        check_name(name)
    except ConfigError:
        return
    path = Path("/runs") / name
    assert path.parent == Path("/runs")
    assert path.name == name
    assert len(name) <= 128
    assert not set(name) & set("\n\r\t\0/\\")


def test_128_characters_are_allowed(tmp_path: Path) -> None:
    assert create(tmp_path, "x" * 128).is_dir()


def test_a_taken_name_is_refused_with_the_way_to_continue_it(tmp_path: Path) -> None:
    create(tmp_path, "one")
    with pytest.raises(ConfigError, match="--resume-run one"):
        create(tmp_path, "one")
    assert [entry.name for entry in tmp_path.iterdir()] == ["one"]


def test_a_reserved_name_is_out_of_sight_and_taken(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    first = reserve(runs, prefix="p", name=None, suffix=None, today=TODAY)
    second = reserve(runs, prefix="p", name=None, suffix=None, today=TODAY)
    assert (first.name, second.name) == ("p-jan25-26-1", "p-jan25-26-2")
    with pytest.raises(ConfigError, match="exists"):
        reserve(runs, prefix="p", name=first.name, suffix=None, today=TODAY)
    assert run_folders(runs) == []
    second.publish({})
    second.release()
    assert [folder.name for folder in run_folders(runs)] == [second.name]
    assert isinstance(Lock.take(second.directory / "lock"), Owner)
    second.lock.release()
    first.release()
    assert [entry.name for entry in runs.iterdir()] == [second.name]


def test_a_name_that_is_given_back_leaves_nothing(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    reserve(runs, prefix="p", name=None, suffix=None, today=TODAY).release()
    assert not runs.exists()
    runs.mkdir()
    reservation = reserve(runs, prefix="p", name="é" * 127, suffix=None, today=TODAY)
    reservation.release()
    assert list(runs.iterdir()) == []


def test_a_refused_start_leaves_no_folder_around_the_runs_folder(tmp_path: Path) -> None:
    runs = tmp_path / "a" / "b" / "runs"
    reserve(runs, prefix="p", name=None, suffix=None, today=TODAY).release()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match="128"):
        reserve(runs, prefix="p" * 100, name=None, suffix="s" * 100, today=TODAY)
    assert list(tmp_path.iterdir()) == []
    reservation = reserve(runs, prefix="p", name=None, suffix=None, today=TODAY)
    reservation.publish({})
    reservation.withdraw()
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_cannot_be_locked_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> None:
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Lock, "take", full)
    with pytest.raises(ConfigError, match="No space left"):
        reserve(tmp_path / "runs", prefix="p", name=None, suffix=None, today=TODAY)
    assert list(tmp_path.iterdir()) == []


def test_a_url_is_no_runs_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="--runs-dir gs://bucket/r: a URL"):
        reserve(Path("gs://bucket/r"), prefix="p", name=None, suffix=None, today=TODAY)
    with pytest.raises(ConfigError, match="--runs-dir gs://bucket/r: a URL"):
        find_run(Path("gs://bucket/r"), "latest")
    assert list(tmp_path.iterdir()) == []
    Path("s3:/bucket").mkdir(parents=True)  # as versions before 0.2 made it
    assert reserve(Path("s3://bucket"), prefix="p", name=None, suffix=None, today=TODAY).name


def test_the_reservation_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    dead = reserve(tmp_path, prefix="p", name=None, suffix=None, today=TODAY)
    dead.lock.release()
    again = reserve(tmp_path, prefix="p", name=None, suffix=None, today=TODAY)
    assert again.name == dead.name
    assert again.publish({}).is_dir()
    again.lock.release()
    assert [entry.name for entry in tmp_path.iterdir()] == [again.name]


def test_a_runs_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(ConfigError, match="--runs-dir"):
        create(tmp_path / "runs")


def test_the_run_file_says_who_the_run_is(tmp_path: Path) -> None:
    folder = create(tmp_path, suffix="bignet")
    content = json.loads((folder / "run.json").read_text())
    assert content == {"name": folder.name, "run_id": run_id(folder.name), "system": "matmul"}
    assert folder.name == "hackmatrix-jax-jan25-26-1-bignet"


CREATOR = """
import sys, time
from datetime import date
from pathlib import Path
from matrixrl.tracking.identity import reserve
start = float(sys.argv[2])
while time.time() < start:
    pass
for _ in range(20):
    print(reserve(Path(sys.argv[1]), prefix="p", name=None, suffix=None, today=date(2026, 1, 25)).publish({}).name)
"""


def test_starts_at_the_same_moment_get_different_names(tmp_path: Path, environment: dict[str, str]) -> None:
    start = str(time.time() + 0.7)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CREATOR, str(tmp_path / "runs"), start],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    names = [name for process in processes for name in process.communicate(timeout=60)[0].split()]
    assert sorted(names) == sorted(f"p-jan25-26-{n}" for n in range(1, 61))
    assert len(list((tmp_path / "runs").iterdir())) == 60


def test_runs_are_found_by_name_id_and_latest(tmp_path: Path) -> None:
    first, second, other = (
        create(tmp_path, "a"),
        create(tmp_path, "b"),
        create(tmp_path, "c", system="hackmatrix"),
    )
    for age, folder in enumerate([first, second, other]):
        os.utime(folder / "run.json", (1000 + age, 1000 + age))
    assert find_run(tmp_path, "a") == first
    assert find_run(tmp_path, run_id("b")) == second
    assert find_run(tmp_path, "latest") == other
    assert find_run(tmp_path, "latest", "matmul") == second
    (first / "lock").write_text("")
    assert find_run(tmp_path, "latest", "matmul") == first
    assert run_folders(tmp_path)[-1] == first
    with pytest.raises(ConfigError, match=r"no matmul run .*newest there: b, a"):
        find_run(tmp_path, "c", "matmul")
    with pytest.raises(ConfigError, match="newest there: none"):
        find_run(tmp_path / "nowhere", "latest")


def test_latest_is_what_has_something_or_is_being_written(tmp_path: Path) -> None:
    saved, empty = create(tmp_path, "saved"), create(tmp_path, "empty")
    (saved / "checkpoints" / "5").mkdir(parents=True)
    for age, folder in enumerate([saved, empty]):
        os.utime(folder / "run.json", (1000 + age, 1000 + age))
    assert find_run(tmp_path, "latest") == saved
    lock = Lock.take(empty / "lock")
    assert isinstance(lock, Lock)
    assert find_run(tmp_path, "latest") == empty
    assert find_run(tmp_path, "latest", has_something=has_checkpoint) == saved
    lock.release()
    assert find_run(tmp_path, "latest") == saved


def test_a_lock_is_held_by_one_and_free_after_release(tmp_path: Path) -> None:
    lock = Lock.take(tmp_path / "lock")
    assert isinstance(lock, Lock)
    owner = Lock.take(tmp_path / "lock")
    assert isinstance(owner, Owner)
    assert (owner.pid, owner.host) == (os.getpid(), socket.gethostname())
    assert Lock.owner(tmp_path / "lock") == owner
    lock.release()
    lock.release()
    assert Lock.owner(tmp_path / "lock") is None
    again = Lock.take(tmp_path / "lock")
    assert isinstance(again, Lock)
    again.release()


def elsewhere(path: Path, age: float = 0.0) -> Owner:
    """Writes the record of a process on another host, `age` seconds ago."""
    owner = Owner(5, "elsewhere", 1.0)
    record = path.with_name("lock.owner")
    path.touch()
    record.write_text(json.dumps({"pid": 5, "host": "elsewhere", "since": 1.0}))
    then = time.time() - age
    os.utime(record, (then, then))
    return owner


def test_on_a_local_disk_the_kernel_decides_whatever_the_host_is_called_now(tmp_path: Path) -> None:
    elsewhere(tmp_path / "lock")
    assert Lock.owner(tmp_path / "lock") is None
    lock = Lock.take(tmp_path / "lock")
    assert isinstance(lock, Lock)
    lock.release()


def test_on_a_network_drive_another_hosts_record_counts_while_it_is_fresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("matrixrl.tracking.locks.network_file_system", lambda path: "nfs4")
    path = tmp_path / "lock"
    owner = elsewhere(path)
    found = Lock.take(path)
    assert found == owner
    assert isinstance(found, Owner)
    assert found.seconds_left == pytest.approx(Lock.GRACE_SECONDS, abs=10)
    assert Lock.owner(path) == owner
    elsewhere(path, Lock.GRACE_SECONDS + 1)
    assert Lock.owner(path) is None
    lock = Lock.take(path)
    assert isinstance(lock, Lock)
    lock.release()


def test_the_record_of_an_earlier_version_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("matrixrl.tracking.locks.network_file_system", lambda path: "nfs4")
    path = tmp_path / "lock"
    path.write_text(json.dumps({"pid": 5, "host": "elsewhere", "since": 1.0}))
    assert Lock.take(path) == Owner(5, "elsewhere", 1.0)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK])
def test_without_locks_the_record_of_a_living_process_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fail)
    path = tmp_path / "lock"
    lock = Lock.take(path)
    assert isinstance(lock, Lock)
    assert not lock.is_guarded
    assert isinstance(Lock.take(path), Owner)  # this process lives
    assert isinstance(Lock.owner(path), Owner)
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True
    )
    record = {"pid": int(dead.stdout), "host": socket.gethostname(), "since": time.time()}
    path.with_name("lock.owner").write_text(json.dumps(record))
    assert Lock.owner(path) is None
    again = Lock.take(path)
    assert isinstance(again, Lock)
    again.release()
    elsewhere(path)
    assert isinstance(Lock.take(path), Owner)


def test_a_restarted_container_with_the_same_name_and_number_takes_its_run_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", fail)
    path = tmp_path / "lock"
    path.touch()
    # Long before this process began: the process of that time only had its number.
    record = {"pid": os.getpid(), "host": socket.gethostname(), "since": 1.0}
    path.with_name("lock.owner").write_text(json.dumps(record))
    lock = Lock.take(path)
    assert isinstance(lock, Lock)
    lock.release()
    # Of another container with this host name nobody here can say whether its process lives.
    path.with_name("lock.owner").write_text(json.dumps({**record, "namespace": "pid:[1]"}))
    owner = Lock.take(path)
    assert isinstance(owner, Owner)
    assert owner.seconds_left is not None


def test_where_the_record_decides_it_is_refreshed_while_nothing_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("matrixrl.tracking.locks.network_file_system", lambda path: "nfs4")
    monkeypatch.setattr(Lock, "REFRESH_SECONDS", 0.01)
    lock = Lock.take(tmp_path / "lock")
    assert isinstance(lock, Lock)
    record = tmp_path / "lock.owner"
    os.utime(record, (1000, 1000))
    while record.stat().st_mtime == 1000:
        time.sleep(0.01)
    lock.release()
    assert not record.exists()


def test_resuming_ends_its_wait_when_the_owner_gives_a_sign_of_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("matrixrl.tracking.locks.network_file_system", lambda path: "nfs4")
    elsewhere(tmp_path / "lock", 60.0)
    monkeypatch.setattr("time.sleep", lambda seconds: elsewhere(tmp_path / "lock"))
    with use(Status()), pytest.raises(ConfigError, match="process 5 on elsewhere is writing this run"):
        take_over(tmp_path)


def test_resuming_waits_for_a_host_that_fell_silent_and_says_for_how_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("matrixrl.tracking.locks.network_file_system", lambda path: "nfs4")
    elsewhere(tmp_path / "lock", Lock.GRACE_SECONDS - 0.5)
    with use(Status()):
        take_over(tmp_path).release()
    said = capsys.readouterr()
    assert "waiting up to" in said.out + said.err
    assert "process 5 on elsewhere" in said.out + said.err


def test_another_users_run_is_refused_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Lock, "take", refuse)
    with pytest.raises(ConfigError, match=r"belongs to another user.*runs copy"):
        take_over(tmp_path / "mine")


def test_nothing_imports_a_module_of_one_system_at_the_top() -> None:
    for path in Path(matrixrl.__file__).parent.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {"fcntl", "termios", "tty", "pwd", "msvcrt"} & set(names), path


def test_a_second_process_on_a_run_is_refused_and_a_dead_ones_lock_is_taken_over(trainer: Trainer) -> None:
    first = trainer.start("--hold", "60", "--epochs", "1")
    assert first.stdout is not None
    first.stdout.readline()  # the line of epoch 1: the run is open
    second = trainer.start("--resume", "latest", "--epochs", "1")
    _, errors = second.communicate(timeout=60)
    assert second.returncode == 2
    assert errors.count("\n") == 1
    assert f"process {first.pid} on {socket.gethostname()}" in errors
    first.send_signal(signal.SIGKILL)
    first.communicate()
    third = trainer.run("--resume", "latest", "--epochs", "2")
    assert third["name"] == next(trainer.runs_dir.iterdir()).name
